"""Many people, custom layouts, pinned threads and the model's own rate through the C library."""

import ctypes
import dataclasses
import threading

import c_package as c
import numpy as np
import pytest
from c_package import BAD_ARGUMENT, EngineOptions, Pose, Refused, sized
from models import engine_header, tiny_lifter
from people import DT, SIZE, hard_clip, person_of

import edgepose
from edgepose import enginefile
from edgepose.adapters import ADAPTERS, Adapter
from edgepose.build_engines.lower import lower
from edgepose.skeleton import H36M17

pytestmark = pytest.mark.slow

ALLOWED_M = 1e-5  # see test_c_stream


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """An engine of 9 frames that was trained on 25 frames a second."""
    path, model = tmp_path_factory.mktemp("engine") / "tiny.epose", tiny_lifter(frames=9)
    plan, tensors = lower(model, "fp16")
    enginefile.write(path, {**engine_header(model, "fp16"), "rate_hz": 25, "plan": plan}, tensors)
    return path


@pytest.fixture(scope="module")
def engine(path):
    return c.Engine(path)


def assert_same(mine, theirs):
    assert (mine is None) == (theirs is None)
    if mine is not None:
        np.testing.assert_array_equal(mine.keypoints_norm, theirs.keypoints_norm)
        np.testing.assert_array_equal(mine.is_seen.astype(bool), theirs.is_seen.astype(bool))
        np.testing.assert_allclose(mine.joints_m, theirs.joints_m, rtol=0, atol=ALLOWED_M)
        assert (mine.timestamp_s, mine.was_reset) == (theirs.timestamp_s, theirs.was_reset)


def test_many_people_get_the_poses_that_python_gives_them(engine, path):
    clip, python_engine = hard_clip(), edgepose.load(path)
    mine = [c.Stream(engine, "coco17", SIZE, delay_frames=1, min_cutoff_hz=1.0) for _ in range(4)]
    theirs = [edgepose.Stream(python_engine, "coco17", SIZE, delay_frames=1, smoothing=edgepose.OneEuro(1.0))
              for _ in range(4)]
    poses = 0
    for n in range(len(clip) - 30):
        frames = [clip[n + 10 * person][0] for person in range(4)]
        frames = [None if frame is None else frame.astype(np.float32) for frame in frames]
        times_s = [clip[n + 10 * person][1] for person in range(4)]
        answers = c.Stream.push_many(mine, frames, times_s)
        for answer, expected in zip(answers, edgepose.push_many(theirs, frames, times_s)):
            assert_same(answer, expected)
            poses += answer is not None
    assert 50 < poses < 4 * (len(clip) - 30)


def test_one_refused_person_is_named_and_nobody_is_changed(engine):
    clip = person_of("coco17")
    streams = [c.Stream(engine, "coco17", SIZE) for _ in range(3)]
    twins = [c.Stream(engine, "coco17", SIZE) for _ in range(3)]
    for everyone in (streams, twins):
        c.Stream.push_many(everyone, [clip[0]] * 3, [0.0] * 3)
    for frames, times_s, message in (
            ([clip[1], clip[1][:5], clip[1]], [0.1] * 3, r"person 1: keypoints_px has shape \(5, 3\)"),
            ([clip[1]] * 3, [0.1, 0.1, 0.0], "person 2: timestamp_s is 0 after 0; wanted a later")):
        with pytest.raises(Refused, match=message) as error:
            c.Stream.push_many(streams, frames, times_s)
        assert error.value.status == BAD_ARGUMENT
    with pytest.raises(Refused, match="listed twice"):
        c.Stream.push_many([streams[0], streams[1], streams[0]], [clip[1]] * 3, [0.1] * 3)
    for mine, theirs in zip(c.Stream.push_many(streams, [clip[1]] * 3, [0.1] * 3),
                            c.Stream.push_many(twins, [clip[1]] * 3, [0.1] * 3)):
        assert_same(mine, theirs)


def test_streams_of_several_engines_and_null_are_refused(engine, path):
    lib, clip = engine.lib, person_of("coco17")
    streams = [c.Stream(engine, "coco17", SIZE), c.Stream(c.Engine(path), "coco17", SIZE)]
    with pytest.raises(Refused, match="the streams have different engines"):
        c.Stream.push_many(streams, [clip[0]] * 2, [0.0] * 2)
    handles, frames, poses = (ctypes.c_void_p * 1)(streams[0].handle), c.Frame(None, 0, 0, 0.0), sized(Pose)
    for arguments, message in (((None, 1, frames, poses), "streams is null"),
                               ((handles, 1, None, poses), "frames is null"),
                               ((handles, 1, frames, None), "poses is null"),
                               (((ctypes.c_void_p * 1)(None), 1, frames, poses), r"streams[0] is null"),
                               ((handles, 2**40, frames, poses), "people is more than"),
                               ((handles, 1, frames, Pose(size=3)), "poses->size is 3")):
        assert lib.edgepose_push_many(*arguments) == BAD_ARGUMENT and message in c.error()
    assert lib.edgepose_push_many(None, 0, None, None) == c.NO_POSE


def with_one_line(adapter):
    """The Adapter with the first alternative of each joint alone, which is all that a layout in C can say."""
    return dataclasses.replace(adapter, alternatives=tuple(lines[:1] for lines in adapter.alternatives))


NOT_DETECTED = -2**31  # EDGEPOSE_NOT_DETECTED


def sources_of(adapter):
    """The sources of an Adapter with one line a joint, as C takes them."""
    return len(adapter.layout), [(joint, int(k), float(x), float(y)) for joint, ((terms, _),) in
                                 zip(adapter.skeleton.joints, adapter.alternatives) for k, x, y in terms if x or y]


@pytest.mark.parametrize("name", ["coco17", "body25", "mpii16", "own"])
def test_a_layout_of_ones_own_gives_the_poses_of_python(engine, path, name):
    mapping = {joint: {joint: 0.75, "pelvis": 0.25} if "wrist" in joint else joint for joint in H36M17.joints}
    own = Adapter.from_mapping(mapping, joints=H36M17.joints) if name == "own" else with_one_line(ADAPTERS[name])
    mine, theirs = c.Stream(engine, sources_of(own), SIZE), edgepose.Stream(edgepose.load(path), own, SIZE)
    for n, keypoints_px in enumerate(person_of("h36m17" if name == "own" else name)):
        keypoints_px = keypoints_px.astype(np.float32)
        assert_same(mine.push(keypoints_px, n * DT), theirs.push(keypoints_px, n * DT))


def test_a_joint_that_a_detector_does_not_give_is_not_seen(engine, path):
    mine = {joint: joint for joint in H36M17.joints if "knee" not in joint and "ankle" not in joint}
    own = Adapter.from_mapping({joint: mine.get(joint) for joint in H36M17.joints}, joints=list(mine))
    keypoints, sources = sources_of(own)
    hidden = [(joint, NOT_DETECTED, 0.0, 0.0) for joint in H36M17.joints if joint not in mine]
    columns = [H36M17.index(joint) for joint in mine]
    stream = c.Stream(engine, (keypoints, [*sources, *hidden]), SIZE)
    theirs = edgepose.Stream(edgepose.load(path), own, SIZE)
    for n, keypoints_px in enumerate(person_of("h36m17")[:, columns].astype(np.float32)):
        pose = stream.push(keypoints_px, n * DT)
        assert_same(pose, theirs.push(keypoints_px, n * DT))
        assert (pose is None) == n % 2  # the engine's grid has 25 frames a second
        if pose:
            unseen = {joint for joint, is_seen in zip(H36M17.joints, pose.is_seen) if not is_seen}
            assert unseen == {joint for joint, *_ in hidden}


def test_the_nose_may_be_left_out(engine, path):
    keypoints, sources = sources_of(ADAPTERS["h36m17"])
    own = keypoints, [source for source in sources if source[0] != "nose"]
    nose = c.Stream(engine, own, SIZE).push(person_of("h36m17")[0], 0.0).keypoints_norm[H36M17.index("nose")]
    pose = c.Stream(engine, "h36m17", SIZE).push(person_of("h36m17")[0], 0.0).keypoints_norm
    np.testing.assert_allclose(nose, (pose[H36M17.index("thorax")] + pose[H36M17.index("head")]) / 2, atol=1e-6)


@pytest.mark.parametrize("change, message", [
    (lambda k, s: (k, s[1:]), "leaves out 'pelvis'"),
    (lambda k, s: (k, [x for x in s if x[0] not in ("nose", "head")]), "leaves out 'head'"),
    (lambda k, s: (k, [("tail", 0, 1.0, 1.0), *s]), "unknown joint 'tail'"),
    (lambda k, s: (k, [("head", 17, 0.0, 0.0), *s]), "keypoint 17, and the detector has 17"),
    (lambda k, s: (k, [("head", -1, 0.0, 0.0), *s]), "keypoint -1"), (lambda k, s: (0, s), "layout->keypoints is 0"),
    (lambda k, s: (k, [("head", 0, 0.5, 0.0), *s]), "weights of 'head' sum to 1.5 and 1"),
    (lambda k, s: (k, [("head", NOT_DETECTED, 0.0, 0.0), *s]), "weights of 'head' sum to 2 and 2"),
    (lambda k, s: (k, [(joint, NOT_DETECTED, 0.0, 0.0) for joint in H36M17.joints]), "detects no hip and not both"),
    (lambda k, s: (k, [("head", 0, float("nan"), 0.0), *s]), "weights of 'head' sum to nan"),
    (lambda k, s: (k, []), "leaves out 'pelvis'")])
def test_a_layout_that_cannot_be_is_refused_with_the_reason(engine, change, message):
    with pytest.raises(Refused, match=message):
        c.Stream(engine, change(*sources_of(ADAPTERS["h36m17"])), SIZE)


def test_the_rate_is_the_files_unless_another_is_said(engine, path):
    assert engine.lib.edgepose_engine_rate_hz(engine.handle) == 25 == edgepose.load(path).rate_hz
    clip = person_of("coco17")
    for options, expected in (({}, 20), ({"rate_hz": 50.0}, 40), ({"rate_hz": 0.0}, 40), ({"rate_hz": -1.0}, 20)):
        stream = c.Stream(engine, "coco17", SIZE, **options)
        assert sum(stream.push(keypoints_px, n * DT) is not None for n, keypoints_px in enumerate(clip)) == expected
    python = edgepose.Stream(edgepose.load(path), "coco17", SIZE)
    assert sum(python.push(keypoints_px, n * DT) is not None for n, keypoints_px in enumerate(clip)) == 20
    assert len(list(python.lift((keypoints_px, n * DT) for n, keypoints_px in enumerate(clip)))) == 20


@pytest.mark.parametrize("rate_hz", [0, -25, 1e9, "50", True, [50]])
def test_a_file_with_an_impossible_rate_is_refused_by_both(tmp_path, rate_hz):
    model = tiny_lifter()
    plan, tensors = lower(model, "fp16")
    enginefile.write(tmp_path / "a.epose", {**engine_header(model, "fp16"), "rate_hz": rate_hz, "plan": plan}, tensors)
    with pytest.raises(edgepose.EngineError,
                       match="the header's 'rate_hz' is .*; it needs a number above 0, at most 1000"):
        edgepose.load(tmp_path / "a.epose")
    with pytest.raises(Refused, match="the header's 'rate_hz' is .*; it needs a number above 0, at most 1000"):
        c.Engine(tmp_path / "a.epose")


def test_a_program_of_the_first_version_still_works(engine, path):
    """Its structs are shorter, and it passes the rate of 50 itself."""
    options, handle = EngineOptions(size=EngineOptions.cpus.offset, threads=1), ctypes.c_void_p()
    c.checked(engine.lib.edgepose_engine_open(str(path).encode(), options, handle))
    engine.lib.edgepose_engine_close(handle)
    stream = c.Stream(engine, "coco17", SIZE, rate_hz=50.0)
    pose = Pose(size=Pose.error_m.offset, error_m=ctypes.cast(1, ctypes.POINTER(ctypes.c_float)))
    keypoints_px = person_of("coco17")[0].astype(np.float32)
    assert engine.lib.edgepose_stream_push(stream.handle, c.pointer(keypoints_px), 17, 3, 0.0, pose) == c.OK
    assert pose.joints == 17
    assert ctypes.cast(pose.error_m, ctypes.c_void_p).value == 1  # nothing was written past the struct's end


def pinned(path, threads, cpus):
    numbers = (ctypes.c_int32 * len(cpus))(*cpus)
    return c.Engine(path, threads=threads, cpus=numbers, cpu_count=len(cpus))


def test_threads_are_pinned_where_they_are_told_to(path):
    x = np.full((3, 9, 17, 2), 0.1, np.float32)
    np.testing.assert_array_equal(pinned(path, 2, [0]).run(x), c.Engine(path).run(x))
    for threads, cpus, message in ((1, [0], "1 cpus for 0 threads but the caller's"),
                                   (2, [0, 1], "2 cpus for 1 threads"), (2, [100000], "100000")):
        with pytest.raises(Refused, match=message):
            pinned(path, threads, cpus)


def test_a_stream_that_another_thread_uses_is_busy_and_goes_on(engine):
    """Four threads on one stream: each call is answered, refused as too late, or refused because the stream is busy."""
    stream, keypoints_px, statuses, clock = (c.Stream(engine, "coco17", SIZE, rate_hz=0.0),
                                             person_of("coco17")[0].astype(np.float32), [], iter(range(100000)))

    def push():
        for _ in range(500):
            statuses.append(engine.lib.edgepose_stream_push(stream.handle, c.pointer(keypoints_px),
                                                            17, 3, float(next(clock)), sized(Pose)))

    threads = [threading.Thread(target=push) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(statuses) == 2000 and set(statuses) <= {c.OK, c.BUSY, BAD_ARGUMENT} and statuses.count(c.OK) > 100
    assert stream.push(keypoints_px, 1e6).joints_m.shape == (17, 3)
