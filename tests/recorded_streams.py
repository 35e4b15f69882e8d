"""Digests of streams: what the engine gets and what the caller gets, for shipped clips and people hard to follow.

recorded_streams.json has the digests of the first implementation, in numpy, except where one of its faults was mended:
there, frames that waited at the end of a clip had no pose. A changed digest is changed behaviour:

    python tests/recorded_streams.py > tests/recorded_streams.json
"""

import hashlib
import json

import numpy as np

from edgepose.adapters import ADAPTERS
from edgepose.clip import load_clip
from edgepose.filters import OneEuro
from edgepose.skeleton import H36M16, H36M17
from edgepose.stream import Stream, push_many

CAMERA = (1145.0, 1143.0, 512.5, 515.25)


class Copying:
    """A stand-in engine that copies its answer out of the window, so that it has the same bits everywhere."""

    rate_hz = 50.0

    def __init__(self, frames=27, is_causal=False, skeleton=H36M17):
        self.frames, self.is_causal, self.skeleton, self.windows = frames, is_causal, skeleton, hashlib.sha256()

    def run(self, keypoints_norm, out=None):
        assert keypoints_norm.dtype == np.float32 and keypoints_norm.flags.c_contiguous
        self.windows.update(keypoints_norm.tobytes())
        middle = keypoints_norm[:, -1 if self.is_causal else self.frames // 2]
        return np.concatenate([middle, keypoints_norm[:, 0, :, :1]], axis=2)


def clip_frames(name):
    clip = load_clip(name)
    return [(clip.seen_in(i), clip.time_of(i)) for i in range(len(clip.keypoints_px))], clip.layout, clip.image_size


def hidden(frames, seed):
    """The same recording with joints and people that the detector loses, gaps, and a camera of uneven speed."""
    rng, frames_out, late_s, lost_frames, is_faint = np.random.default_rng(seed), [], 0.0, 0, np.zeros(17, bool)
    for keypoints_px, time_s in frames:
        late_s += rng.choice((0.0, 0.003, 0.03, 0.7), p=(0.7, 0.2, 0.09, 0.01))
        is_faint ^= rng.random(17) < 0.05
        lost_frames = lost_frames - 1 if lost_frames else int(rng.integers(1, 40)) * (rng.random() < 0.02)
        if keypoints_px is not None:
            keypoints_px = keypoints_px.copy()
            keypoints_px[is_faint, 2] = rng.choice((0, 0.1, 0.21, 0.29), is_faint.sum())
            keypoints_px[keypoints_px[:, 2] == 0, :2] = np.nan
        frames_out.append((None if lost_frames else keypoints_px, time_s + late_s))
    return frames_out


def walker(layout, frames=250, seed=0):
    """A person in any layout who drifts, with joints that come and go and three other people in between."""
    rng, k = np.random.default_rng(seed), len(ADAPTERS[layout].layout)
    xy = rng.uniform(300, 700, (k, 2)) + rng.normal(0, 2, (frames, k, 2)).cumsum(axis=0)
    xy[frames // 4:] += 300
    confidence = np.where(rng.random((frames, k)) < 0.1, 0.1, rng.uniform(0.25, 1, (frames, k)))
    keypoints_px = np.concatenate([xy, confidence[..., None]], axis=2)
    return list(zip(keypoints_px, np.cumsum(rng.uniform(0.5, 1.5, frames) / 50))), layout, (1920, 1080)


def scenarios():
    """name -> (engine, frames, layout, image_size, options of the stream)."""
    for name in ("balance_cam1", "balance_cam2", "balance_cam3"):
        frames, layout, size = clip_frames(name)
        yield f"{name}, one frame", (Copying(1), frames, layout, size, {})
        yield f"{name}, full delay", (Copying(), frames, layout, size, {"delay_frames": 13})
        yield f"{name}, hidden", (Copying(), hidden(frames, len(frames)), layout, size, {"delay_frames": 4})
    frames, layout, size = clip_frames("balance_cam1")
    lossy = hidden(frames, 1)
    for options in ({"rate_hz": None}, {"rate_hz": 30.0}, {"rate_hz": 7.3, "delay_frames": 2},
                    {"rate_hz": 60, "delay_frames": 13}, {"max_gap_s": 0.1},
                    {"max_gap_s": 0}, {"max_gap_s": np.inf}, {"seen_above": 0.6}, {"hold_s": 0.0},
                    {"hold_s": np.inf}, {"camera": CAMERA}, {"rate_hz": None, "delay_frames": 13},
                    {"smoothing": OneEuro(1.0, 5.0)}, {"smoothing": OneEuro(0.3, 0.0, 2.0), "delay_frames": 5}):
        shown = options if "smoothing" not in options else vars_of(options)
        yield f"hidden, {shown}", (Copying(), lossy, layout, size, options)
    yield "causal", (Copying(is_causal=True), lossy, layout, size, {})
    yield "causal, hidden, one frame", (Copying(1, is_causal=True), lossy, layout, size, {"camera": CAMERA})
    yield "351 frames", (Copying(351), frames, layout, size, {"delay_frames": 20})
    yield "16 joints", (Copying(9, skeleton=H36M16), lossy, layout, size, {})
    yield "two columns", (Copying(9), [(None if k is None else np.nan_to_num(k[:, :2]), t) for k, t in lossy],
                          layout, size, {})
    smaller = [(None if k is None else (k * [479 / size[0], 479 / size[0], 1]).astype(np.float32), t) for k, t in lossy]
    yield "float32, portrait", (Copying(9), smaller, layout, (479, 853), {})
    yield "coco17-demo", (Copying(9), lossy, "coco17-demo", size, {})
    for layout in ADAPTERS:
        yield f"walker in {layout}", (Copying(9, skeleton=H36M16 if layout == "h36m16" else H36M17),
                                      *walker(layout, seed=len(layout)), {"delay_frames": 1})


def vars_of(options):
    smoothing = options["smoothing"]
    return {**options, "smoothing": (smoothing.min_cutoff_hz, smoothing.beta, smoothing.d_cutoff_hz)}


def digest(engine, poses):
    """A checksum for each part of what the engine and the caller got."""
    def of(parts):
        whole = hashlib.sha256()
        for part in parts:
            whole.update(np.ascontiguousarray(part).tobytes())
        return whole.hexdigest()[:24]

    answers = [pose for pose in poses if pose is not None]
    return {"calls": len(poses), "poses": len(answers), "windows": engine.windows.hexdigest()[:24],
            "answered": of([[pose is not None for pose in poses]]),
            "timestamp_s": of(np.float64(pose.timestamp_s) for pose in answers),
            "was_reset": of([[pose.was_reset for pose in answers]]),
            "keypoints_norm": of(pose.keypoints_norm for pose in answers),
            "confidence": of(pose.confidence for pose in answers),
            "is_seen": of(pose.is_seen for pose in answers), "joints_m": of(pose.joints_m for pose in answers)}


def pushed(engine, frames, layout, size, options):
    """Poses frame by frame, with a flush at the end, and the first third once more as another recording."""
    stream = Stream(engine, layout, size, **options)
    poses = [stream.push(*frame) for frame in frames] + stream.flush()
    return poses + [stream.push(*frame) for frame in frames[:len(frames) // 3]]


def lifted(engine, frames, layout, size, options):
    return list(Stream(engine, layout, size, **options).lift(frames))


def together(engine, frames, layout, size, options):
    """Poses of three people who started at different frames."""
    streams, shifts = [Stream(engine, layout, size, **options) for _ in range(3)], (0, 7, 31)
    return [pose for i in range(0, len(frames) - 31, 2) for pose in
            push_many(streams, [frames[i + shift][0] for shift in shifts], [frames[i + shift][1] for shift in shifts])]


WAYS = {"push": pushed, "lift": lifted, "push_many": together}


def recorded():
    return {f"{name}, {way}": digest(scenario[0], call(*scenario)) for way, call in WAYS.items()
            for name, scenario in scenarios()}


if __name__ == "__main__":
    print("{\n" + ",\n".join(f"{json.dumps(name)}: {json.dumps(parts)}" for name, parts in recorded().items()) + "\n}")
