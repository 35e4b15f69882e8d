import math

import numpy as np
import pytest
import torch
from tiny_mocap import standing

from edgepose.clip import Clip
from edgepose.training import detector_fit
from edgepose.training.bodies import STRANGERS, vary_bodies
from edgepose.training.landmarks import COCO_JOINTS, WHERE_DETECTORS_POINT, coco_landmarks
from edgepose.training.real_clips import RealClip

# `python -m edgepose.training.detector_fit --detections DIR`: lengths over thigh plus shank.
MEASURED = {
    "AIST++": {"trunk": 0.694, "hips": 0.295, "shoulders": 0.465, "ears": 0.214, "nose above": 0.173,
               "eyes above": 0.215},
    "beam, OpenPose": {"trunk": 0.639, "hips": 0.275, "shoulders": 0.411, "ears": 0.19, "nose above": 0.147,
                       "eyes above": 0.187},
    "beam, MediaPipe": {"trunk": 0.7, "hips": 0.251, "shoulders": 0.466, "ears": 0.125, "nose above": 0.146,
                        "eyes above": 0.19},
    "several people, MediaPipe": {"trunk": 0.665, "hips": 0.246, "shoulders": 0.449, "ears": 0.134,
                                  "nose above": 0.157, "eyes above": 0.203}}


@pytest.fixture(scope="module")
def ratios():
    """The ratios of 2000 bodies as the simulated detectors of training see them."""
    generator = torch.Generator().manual_seed(0)
    bodies = vary_bodies(torch.from_numpy(standing()).expand(2000, 1, -1, -1), generator, STRANGERS)
    points = coco_landmarks(bodies, generator, WHERE_DETECTORS_POINT).numpy()
    rows = [detector_fit.body_ratios(of_one) for of_one in points]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.parametrize("detector", MEASURED)
def test_training_draws_the_bodies_that_every_detector_sees(ratios, detector):
    for name, value in MEASURED[detector].items():
        low, high = np.percentile(ratios[name], [5, 95])
        assert low < value < high, (
            f"{name} is {value} for {detector}; training draws {low:.3f} to {high:.3f} (5 to 95 %)")


def a_clip(jitter: float, bias: float, correlation: float, frames: int = 4000) -> RealClip:
    """A person at rest, seen by a detector with these errors, in parts of the person's size."""
    rng = np.random.default_rng(0)
    true = np.zeros((frames, 17, 3))
    true[..., :2], true[..., 2] = 1000 * standing()[:, :2], 1
    size = np.ptp(true[0, :, :2], axis=0).max()
    error = rng.normal(size=(frames, 17, 2))
    for t in range(1, frames):
        error[t] = correlation * error[t - 1] + math.sqrt(1 - correlation**2) * error[t]
    found = true.copy()
    found[..., :2] += size * (jitter * error + bias * rng.choice([-1, 1], (17, 2)))
    clip = [Clip("still", points, "coco17", (2000.0, 2000.0), 50.0) for points in (found, true)]
    return RealClip("still", "still", *clip, np.zeros((frames, 12, 3)), (1.0, 1.0, 0.0, 0.0), np.zeros(4),
                    (0.0, 1.0, 0.0), found, np.zeros((frames, 17, 3)))


def test_the_fit_finds_the_jitter_the_bias_and_the_correlation_that_were_put_in():
    jitter, bias, correlation = detector_fit.fit_jitter([a_clip(0.01, 0.02, 0.85)])
    assert set(jitter) == {joint.split("_")[-1] for joint in COCO_JOINTS}
    # The median length of a normal error is sqrt(2 ln 2) sigma, that of the t distribution sqrt(2) scales.
    assert list(jitter.values()) == pytest.approx([100 * 0.01 * math.sqrt(math.log(2))] * len(jitter), rel=0.06)
    assert list(bias.values()) == pytest.approx([2.0] * len(bias), rel=0.08)
    assert correlation == pytest.approx(0.85, abs=0.01)


def test_points_that_were_not_found_are_no_errors():
    clip = a_clip(0.01, 0.0, 0.0, 200)
    clip.detected_coco17[::2, 3] = 0
    jitter, _, _ = detector_fit.fit_jitter([clip])
    assert jitter["ear"] < 1.2
