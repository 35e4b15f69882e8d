"""People who walk through a picture, and a stand-in engine to stream them through."""

import numpy as np

from edgepose.adapters import ADAPTERS
from edgepose.skeleton import H36M17

DT = 0.02
SIZE = (1920, 1080)


class FakeEngine:
    """A stand-in engine that mixes all frames of a window, row by row: a wrong frame shows, a batch changes no bit."""

    rate_hz = 50.0

    def __init__(self, frames=9, skeleton=H36M17):
        self.frames, self.skeleton, self.calls = frames, skeleton, []
        self._weights = np.random.default_rng(7).normal(size=(frames, 2, 3)).astype(np.float32)

    def run(self, keypoints_norm, out=None):
        assert keypoints_norm.dtype == np.float32 and keypoints_norm.flags.c_contiguous
        assert keypoints_norm.shape[1:] == (self.frames, len(self.skeleton), 2)
        self.calls.append(keypoints_norm.copy())
        return np.stack([np.tanh(np.einsum("tjc,tcd->jd", window, self._weights)) for window in keypoints_norm])


def person_of(layout, frames=40, seed=0):
    """A walking person: (frames, K, 3) px and confidence, never jumping, every keypoint seen."""
    rng = np.random.default_rng(seed)
    k = len(ADAPTERS[layout].layout)
    start = rng.uniform(300, 700, (k, 2)) + [200 * seed, 0]
    xy = start + rng.normal(0, 2, (frames, k, 2)).cumsum(axis=0)
    return np.concatenate([xy, rng.uniform(0.5, 1, (frames, k, 1))], axis=2)


def hard_clip(frames=200):
    """[(keypoints_px, timestamp_s)] with gaps, jumps, hidden joints and uneven times: a stream answers late, twice or
    not at all."""
    rng = np.random.default_rng(3)
    clip = person_of("coco17", frames)
    clip[rng.random(clip.shape[:2]) < 0.1, 2] = 0.1
    clip[120:, :, :2] += 300
    times_s = np.cumsum(rng.uniform(0.5, 1.5, frames) / 60)
    return [(None if 40 <= n < 45 or 60 <= n < 110 else clip[n], times_s[n]) for n in range(frames)]


def same(a, b):
    if a is None or b is None:
        return a is b
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in
               ("joints_m", "timestamp_s", "keypoints_norm", "confidence", "is_seen", "was_reset"))
