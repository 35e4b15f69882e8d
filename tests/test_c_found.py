"""The keypoints that count as found, stand-ins for hips, and doubts: in C as in Python."""

import warnings

import c_package as c
import numpy as np
import pytest
from models import tiny_lifter, write_engine

import edgepose
from edgepose.clip import load_clip
from edgepose.stream import Stream

pytestmark = pytest.mark.slow

CLIP = load_clip("balance_cam1")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_engine(tmp_path_factory.mktemp("engine") / "tiny.epose", tiny_lifter(), "fp16")


def desk(keypoints_px):
    keypoints_px[11:] = 0


def profile(keypoints_px):
    keypoints_px[11, 2] = 0.1


def zeroed(keypoints_px):
    keypoints_px[[10, 16]] = (0, 0, 0.42), (-1, -1, 0.38)


def behind(keypoints_px):
    keypoints_px[:5, 2] = 0.1


def cut(keypoints_px):
    keypoints_px[13:, 1] += CLIP.image_size[1]


def too_sure(keypoints_px):
    keypoints_px[:, 2] += 0.5


@pytest.mark.parametrize("change", [desk, profile, zeroed, behind, cut, too_sure])
def test_c_answers_as_python_does(file, change):
    ours, theirs = (Stream(edgepose.load(file), "coco17", CLIP.image_size),
                    c.Stream(c.Engine(file), "coco17", CLIP.image_size))
    for i in range(30):
        keypoints_px = CLIP.keypoints_px[i].copy()
        change(keypoints_px)
        ours_pose, theirs_pose = ours.push(keypoints_px, i / 60), theirs.push(keypoints_px, i / 60)
        for name in ("joints_m", "keypoints_norm", "confidence", "is_seen"):
            np.testing.assert_allclose(getattr(theirs_pose, name), getattr(ours_pose, name), rtol=1e-6, atol=1e-9)


def test_c_refuses_a_column_that_is_no_confidence(file):
    stream = c.Stream(c.Engine(file), "coco17", CLIP.image_size)
    with pytest.raises(c.Refused, match="the third column of keypoints_px goes from 0 to .*MediaPipe's z is none"):
        stream.push(CLIP.keypoints_px[0] * (1, 1, 100), 0.0)


@pytest.mark.parametrize("kind, size, unit", [
    ("time_unit", CLIP.image_size, 1e3), ("outside_picture", (300, 200), 1.0), ("proportions", CLIP.image_size, 1.0)])
def test_c_notices_what_python_warns_of(file, kind, size, unit):
    ours, theirs = Stream(edgepose.load(file), "coco17", size), c.Stream(c.Engine(file), "coco17", size)
    order = np.random.default_rng(0).permutation(17) if kind == "proportions" else range(17)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for i in range(100):
            for stream in (ours, theirs):
                stream.push(CLIP.keypoints_px[i][order], unit * i / 60)
    assert [str(warning.message) for warning in caught] == [theirs.notices()[kind][1]]
    assert {name: count
            for name, (count, _) in theirs.notices().items()} == ours.notices == {**dict.fromkeys(ours.notices, 0),
                                                                                  kind: 1}
