"""The place of the root from the C library: Python's answer, and what it refuses."""

import ctypes

import c_package as c
import numpy as np
import pytest

from edgepose.camera import root_translation

pytestmark = pytest.mark.slow


def place(pose_m, keypoints, confidence, *lens):
    """edgepose_root_translation's answer."""
    function, root_m = c.library().edgepose_root_translation, (ctypes.c_double * 3)()
    arrays = [np.ascontiguousarray(array, np.float32) for array in (pose_m, keypoints, confidence)]
    c.checked(function(ctypes.c_size_t(len(pose_m)), *map(c.pointer, arrays), *map(ctypes.c_double, lens), root_m))
    return list(root_m)


def test_the_place_of_the_root_is_that_of_python():
    rng, lens = np.random.default_rng(0), (1.8, 1.9, 0.1, -0.05)
    pose_m, confidence = rng.normal(0, 0.4, (17, 3)).astype(np.float32), rng.uniform(0, 1, 17).astype(np.float32)
    seen_m = pose_m + [0.4, -0.2, 3.0]
    keypoints = (seen_m[:, :2] / seen_m[:, 2:] * lens[:2] + lens[2:] + rng.normal(0, 0.01, (17, 2))).astype(np.float32)
    confidence[3], keypoints[3] = 0, np.nan
    wanted = root_translation(pose_m, keypoints, confidence, *lens)
    np.testing.assert_allclose(place(pose_m, keypoints, confidence, *lens), wanted, rtol=1e-12)
    np.testing.assert_allclose(wanted, [0.4, -0.2, 3.0], atol=0.15)


@pytest.mark.parametrize("change, message", [
    (lambda pose, seen, sure: sure.fill(0), "0 joints with a confidence above 0 do not determine the place"),
    (lambda pose, seen, sure: seen.fill(0.5), "17 joints with a confidence above 0 do not determine the place"),
    (lambda pose, seen, sure: pose.fill(np.nan), "NaN or infinite in a joint with a confidence above 0")])
def test_a_place_that_cannot_be_known_is_refused(change, message):
    arrays = [np.random.default_rng(0).uniform(0.1, 1, shape) for shape in ((17, 3), (17, 2), 17)]
    change(*arrays)
    with pytest.raises(c.Refused, match=message):
        place(*arrays, 1.0, 1.0, 0.0, 0.0)
    with pytest.raises(c.Refused, match="fx, fy, cx, cy are 0, 1, 0, 0; wanted four finite numbers"):
        place(*arrays, 0.0, 1.0, 0.0, 0.0)
