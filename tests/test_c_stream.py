"""Streams of the C library against edgepose.Stream: the same frames, to the bit, whatever the detector did."""

import inspect
import math
import re

import numpy as np
import pytest
from c_package import CSRC, DEFAULTS, Engine, Refused, Stream
from models import engine_header, randomised, tiny_lifter

import edgepose
from edgepose import enginefile
from edgepose.adapters import ADAPTERS
from edgepose.camera import normalize_screen
from edgepose.build_engines.lower import lower
from edgepose.clip import load_clip
from edgepose.skeleton import H36M16
from edgepose.stream import FILE_RATE, ON_BAD_TIME
from edgepose.zoo.strided import StridedTransformer

pytestmark = pytest.mark.slow

SIZE = (1920, 1080)
# The same kernels from another compiler may sum in another order: 2 k eps over a dozen products of metres.
ALLOWED_M = 1e-5
SMALL = {"channels": 16, "heads": 2, "depth": 1}
MODELS = {  # name -> (lifter, further entries of the header)
    "1": (tiny_lifter, {}), "9": (lambda: tiny_lifter(frames=9), {}),
    "16 joints": (lambda: tiny_lifter(skeleton=H36M16), {}),
    "27": (lambda: randomised(StridedTransformer(frames=27, **SMALL)), {"is_causal": False}),
    "27 causal": (lambda: randomised(StridedTransformer(frames=27, is_causal=True, **SMALL)), {"is_causal": True})}


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """name -> (C engine, Python engine) of the same file."""
    folder, pairs = tmp_path_factory.mktemp("engines"), {}

    def get(name):
        if name not in pairs:
            path, (model, more) = folder / f"{name}.epose", MODELS[name]
            plan, tensors = lower(model := model(), "fp16")
            enginefile.write(path, {**engine_header(model, "fp16"), "rate_hz": 50, **more, "plan": plan}, tensors)
            pairs[name] = Engine(path), edgepose.load(path)
        return pairs[name]

    return get


def person_of(layout, frames, seed):
    """A walking person: (frames, K, 3) float32 px and confidence."""
    rng = np.random.default_rng(seed)
    k = len(ADAPTERS[layout].layout)
    xy = rng.uniform(300, 700, (k, 2)) + rng.normal(0, 2, (frames, k, 2)).cumsum(axis=0)
    return np.concatenate([xy, rng.uniform(0.5, 1, (frames, k, 1))], axis=2).astype(np.float32)


def hard(layout, frames, seed):
    """[(keypoints or None, timestamp)] with hidden and faint joints, dropouts, gaps, other people, odd times, NaN."""
    rng, clip = np.random.default_rng(seed), person_of(layout, frames, seed)
    pushes, time_s, hidden = [], 0.0, np.zeros(clip.shape[1], bool)
    for keypoints in clip:
        time_s += rng.choice((0.02, 0.01, 0.04, 1 / 30, 1 / 60, rng.uniform(0.001, 0.1), rng.uniform(0.3, 1.2)),
                             p=(0.5, 0.1, 0.1, 0.1, 0.1, 0.07, 0.03))
        hidden ^= rng.random(len(hidden)) < 0.05
        if rng.random() < 0.05:
            hidden[:] = rng.random() < 0.3
        keypoints[hidden, 2] = rng.choice((0, 0.1, 0.21, 0.29, 0.3))
        keypoints[:, 2] = np.where(rng.random(len(hidden)) < 0.05, 0.25, keypoints[:, 2])
        if rng.random() < 0.03:
            keypoints[:, :2] += rng.normal(0, 200, 2).astype(np.float32)
        if rng.random() < 0.2:
            keypoints[keypoints[:, 2] == 0, :2] = rng.choice((np.nan, np.inf, 1e9, 0))
        if rng.random() < 0.1:
            keypoints = np.where(keypoints[:, 2:] == 0, 0, np.nan_to_num(keypoints, posinf=0))[:, :2]
        pushes.append((None if rng.random() < 0.08 else np.ascontiguousarray(keypoints, np.float32), time_s))
    return pushes


def assert_same(c, python):
    """The number of seen joints, after a comparison to the bit."""
    assert (c is None) == (python is None)
    if c is None:
        return 0
    assert (c.timestamp_s, c.was_reset) == (python.timestamp_s, python.was_reset)
    np.testing.assert_array_equal(c.is_seen.astype(bool), python.is_seen)
    np.testing.assert_array_equal(c.keypoints_norm, python.keypoints_norm)
    np.testing.assert_array_equal(c.confidence, python.confidence.astype(np.float32))
    np.testing.assert_allclose(c.joints_m, python.joints_m, rtol=0, atol=ALLOWED_M)
    return int(python.is_seen.sum())


def compare(engines, name, layout, frames=300, seed=0, image_size=SIZE, min_cutoff_hz=0.0,
            beta=0.0, reset_at=(), flush_at=(), camera=None, **options):
    """Push a hard recording into both; returns Python's poses."""
    c_engine, engine = engines(name)
    python_options = {key: (None if key == "rate_hz" and value == 0 else value) for key, value in options.items()}
    smoothing = edgepose.OneEuro(min_cutoff_hz, beta) if min_cutoff_hz else None
    python = edgepose.Stream(engine, layout, image_size, smoothing=smoothing, camera=camera, **python_options)
    c = Stream(c_engine, layout, image_size, min_cutoff_hz=min_cutoff_hz, beta=beta,
               **dict(zip(("fx", "fy", "cx", "cy"), camera or ())), **options)
    poses = []
    for n, (keypoints, time_s) in enumerate(hard(layout, frames, seed)):
        if n in reset_at:
            c.reset()
            python.reset()
        if n in flush_at:
            flushed, mine = python.flush(), c.flush()
            assert len(flushed) == len(mine) and len(flushed) <= options.get("delay_frames", 0)
            for pair in zip(mine, flushed):
                assert_same(*pair)
        poses.append(python.push(keypoints, time_s))
        assert_same(c.push(keypoints, time_s), poses[-1])
    answers = [pose for pose in poses if pose]
    # Otherwise the recording was not hard, or gave no poses.
    assert sum(pose.was_reset for pose in answers) > 3
    assert 0.1 < np.mean([pose.is_seen.mean() for pose in answers]) < 0.99
    return answers


@pytest.mark.parametrize("layout", ADAPTERS)
@pytest.mark.parametrize("name", ["1", "27"])
def test_every_layout_gives_the_poses_of_python(engines, name, layout):
    compare(engines, name, layout, seed=len(layout))


@pytest.mark.parametrize("layout", ["h36m16", "h36m17", "coco17-demo"])
def test_a_model_of_16_joints_takes_every_layout_that_has_them(engines, layout):
    compare(engines, "16 joints", layout)


@pytest.mark.parametrize("options", [
    {"delay_frames": 13}, {"delay_frames": 4}, {"rate_hz": 0}, {"rate_hz": 0, "delay_frames": 13},
    {"rate_hz": 30.0}, {"rate_hz": 7.3, "delay_frames": 2},
    {"max_gap_s": 0.1}, {"max_gap_s": 0.0}, {"max_gap_s": math.inf}, {"seen_above": 0.6}, {"seen_above": 1.0},
    {"camera": (1000.0, 1100.0, 930.0, 560.0)}, {"flush_at": (40, 45, 46, 47, 200), "delay_frames": 13},
    {"flush_at": (100,)}, {"flush_at": (40, 200), "delay_frames": 3, "rate_hz": 30.0, "min_cutoff_hz": 1.0},
    {"hold_s": 0.0}, {"hold_s": math.inf},
    {"min_cutoff_hz": 1.0, "beta": 5.0}, {"min_cutoff_hz": 0.3, "delay_frames": 13, "rate_hz": 30.0},
    {"image_size": (479, 853)}, {"reset_at": (50, 51, 120)}], ids=str)
@pytest.mark.parametrize("name", ["27", "9"])
def test_every_option_does_what_it_does_in_python(engines, name, options):
    if name == "9":
        options = {**options, "delay_frames": min(options.get("delay_frames", 0), 4)}
    for seed in (1, 2):
        compare(engines, name, "coco17", seed=seed, **options)


def test_a_causal_model_answers_for_the_newest_frame_as_in_python(engines):
    compare(engines, "27 causal", "coco17", seed=3)
    with pytest.raises(
            Refused, match="delay_frames is 1; a causal window of 27 frames has no later ones to wait for: wanted 0"):
        Stream(engines("27 causal")[0], "coco17", SIZE, delay_frames=1)


@pytest.mark.parametrize("shipped", ["ampose", "strided27-s"])
@pytest.mark.parametrize("smooth", [False, True])
def test_the_shipped_clip_gives_the_poses_of_python(shipped, smooth):
    clip, engine = load_clip("balance_cam1"), edgepose.load(shipped)
    delay = 13 if engine.frames > 1 else 0
    python = edgepose.Stream(engine, clip.layout, clip.image_size, delay_frames=delay,
                             smoothing=edgepose.OneEuro(1.0, 5.0) if smooth else None)
    c = Stream(Engine(engine.path), clip.layout, clip.image_size, delay_frames=delay,
               **({"min_cutoff_hz": 1.0, "beta": 5.0} if smooth else {}))
    joints_seen = 0
    for i in range(len(clip.keypoints_px)):
        keypoints = clip.seen_in(i)
        keypoints = None if keypoints is None else keypoints.astype(np.float32)
        joints_seen += assert_same(c.push(keypoints, clip.time_of(i)), python.push(keypoints, clip.time_of(i)))
    assert joints_seen > 1000


def test_the_filter_is_the_same_to_the_bit_where_the_kernels_are(engines):
    """Rounding in OneEuro adds nothing to the difference of the kernels."""
    c_engine, engine = engines("1")
    keypoints = person_of("coco17", 1, 0)[0]
    x = normalize_screen(ADAPTERS["coco17"](keypoints)[0], SIZE).astype(np.float32)[None, None]
    if not np.array_equal(c_engine.run(x), engine.run(x)):
        pytest.skip("the Python extension was built by another compiler")
    python = edgepose.Stream(engine, "coco17", SIZE, smoothing=edgepose.OneEuro(0.5, 3.0, 2.0))
    c = Stream(c_engine, "coco17", SIZE, min_cutoff_hz=0.5, beta=3.0, d_cutoff_hz=2.0)
    for keypoints, time_s in hard("coco17", 300, 5):
        mine, theirs = c.push(keypoints, time_s), python.push(keypoints, time_s)
        assert (mine is None) == (theirs is None)
        if mine:
            np.testing.assert_array_equal(mine.joints_m, theirs.joints_m)


REFUSED = [(np.full((17, 3), 100), 0.1, "timestamp_s is 0.1 after 0.1; wanted a later, finite time"),
           (None, 0.05, "wanted a later"),
           (None, -1e300, "wanted seconds, at most 1e[+]15 from 0"), (None, math.nan, "timestamp_s is nan"),
           (None, math.inf, "timestamp_s is inf"),
           (np.ones((16, 3)), 0.2, r'shape \(16, 3\); layout "coco17" needs \(17, 2\) or \(17, 3\)'),
           (np.ones((17, 4)), 0.2, r"shape \(17, 4\)"),
           (np.ones((0, 3)), 0.2, r"shape \(0, 3\)"), (np.ones((17, 0)), 0.2, r"shape \(17, 0\)"),
           (np.full((17, 3), (np.nan, 9, 1)), 0.2,
            r"keypoint 0 is \(nan, 9, 1\); wanted finite pixels within 1000000, or confidence 0"),
           (np.full((17, 2), np.inf), 0.2, r"keypoint 0 is \(inf, inf\); wanted"),
           (np.full((17, 3), (-2e6, 0, 1)), 0.2, "keypoint 0 is"),
           (np.random.default_rng(0).uniform(0, 1, (17, 3)), 0.2,
            "within 2 px of the corner, as normalised ones are; wanted pixels"),
           (np.random.default_rng(0).uniform(-1, 1, (17, 2)), 0.2, "within 2 px of the corner")]


@pytest.mark.parametrize("keypoints_px, timestamp_s, message", REFUSED, ids=[case[2] for case in REFUSED])
def test_a_refused_push_says_why_as_python_does_and_loses_nothing(engines, keypoints_px, timestamp_s, message):
    c_engine, engine = engines("9")
    options = {"delay_frames": 2}
    c, twin = Stream(c_engine, "coco17", SIZE, **options), Stream(c_engine, "coco17", SIZE, **options)
    python = edgepose.Stream(engine, "coco17", SIZE, **options)
    clip = person_of("coco17", 12, 0)
    for n in range(6):
        for stream in (c, twin, python):
            stream.push(clip[n], n * 0.02)
    with pytest.raises(Refused, match=message):
        c.push(keypoints_px, timestamp_s)
    with pytest.raises(ValueError):
        python.push(keypoints_px, timestamp_s)
    for n in range(6, 12):
        mine, theirs = c.push(clip[n], n * 0.02), twin.push(clip[n], n * 0.02)
        assert mine is not None
        assert all(np.array_equal(getattr(mine, name), getattr(theirs, name)) for name in vars(mine))


def test_the_header_names_every_layout():
    header = (CSRC / "include" / "edgepose.h").read_text()
    assert all(f'"{name}"' in header for name in ADAPTERS)


def test_the_defaults_are_those_of_python():
    """The values that the header's macro sets, in the order of the struct."""
    text = (CSRC / "include" / "edgepose.h").read_text().replace("\\\n", "")
    for name, value in (("FILE_RATE", "-1"), ("MODEL_SEEN_ABOVE", "-1"), ("REFUSE_BAD_TIME", "0")):
        text = text.replace(f"EDGEPOSE_{name}", value)
    line = next(line for line in text.splitlines() if line.startswith("#define EDGEPOSE_STREAM_OPTIONS_INIT"))
    values = line.split("{sizeof(edgepose_stream_options),", 1)[1]
    numbers = [tuple(map(float, several.split(","))) if several else float(one)
               for several, one in re.findall(r"\{([^}]*)\}|([-\d.]+)", values)]
    assert dict(zip(DEFAULTS, numbers, strict=True)) == DEFAULTS
    python = inspect.signature(edgepose.Stream).parameters
    others = {"rate_hz", "seen_above", "on_bad_time", "lengths_m", "gravity", "deadline_ms", "distortion", "height_m"}
    assert all(python[name].default == value for name, value in DEFAULTS.items() if name in python.keys() - others)
    assert python["rate_hz"].default == FILE_RATE and DEFAULTS["rate_hz"] == -1  # the engine's rate
    assert DEFAULTS["on_bad_time"] == ON_BAD_TIME.index(python["on_bad_time"].default)
    assert python["seen_above"].default is None and DEFAULTS["seen_above"] == -1  # what suits the model
    for name in ("lengths_m", "gravity", "distortion"):
        assert python[name].default is None and not any(DEFAULTS[name])
    for name in ("deadline_ms", "height_m"):
        assert python[name].default is None and DEFAULTS[name] == 0
    assert python["camera"].default is None and python["smoothing"].default is None and DEFAULTS["min_cutoff_hz"] == 0
    assert DEFAULTS["d_cutoff_hz"] == inspect.signature(edgepose.OneEuro).parameters["d_cutoff_hz"].default
