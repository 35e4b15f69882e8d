"""Lifters with more columns than places, engines that fail, and streams used by two threads at once."""

import threading

import numpy as np
import pytest
from people import DT, SIZE, FakeEngine, person_of, same

from edgepose.columns import INPUTS, OUTPUTS
from edgepose.skeleton import H36M17
from edgepose.stream import Stream, push_many

WRIST, PELVIS = H36M17.index("left_wrist"), 0


class Wide:
    """An engine that keeps its windows and answers x, y, z and an error with its columns."""

    frames, skeleton, rate_hz = 9, H36M17, 50.0

    def __init__(self, inputs=INPUTS[:3], outputs=OUTPUTS):
        self.inputs, self.outputs, self.windows = inputs, outputs, []

    def run(self, keypoints_norm, out=None):
        assert keypoints_norm.dtype == np.float32 and keypoints_norm.flags.c_contiguous
        assert keypoints_norm.shape[1:] == (9, 17, len(self.inputs))
        self.windows.append(keypoints_norm.copy())
        return np.ascontiguousarray(np.resize(keypoints_norm[:, 4, :, ::-1],
                                              (len(keypoints_norm), 17, len(self.outputs))))


def test_a_lifter_is_handed_the_confidence_of_what_was_seen_and_0_of_what_was_not():
    wide, plain, clip = Wide(), FakeEngine(), person_of("h36m17")
    stream, twin = (Stream(engine, "h36m17", SIZE, seen_above=0.3) for engine in (wide, plain))
    clip[5:, WRIST, 2] = 0.1
    clip[3, PELVIS, 2] = 0.25  # seen once, it stays so
    for n in range(8):
        keypoints_px = None if n in (6, 7) else clip[n]
        pose = stream.push(keypoints_px, n * DT)
        twin.push(keypoints_px, n * DT)
        np.testing.assert_array_equal(wide.windows[-1][..., :2], plain.calls[-1])
        np.testing.assert_array_equal(pose.keypoints_norm, plain.calls[-1][0, 4])
    newest = wide.windows[5][0]  # the frames 1 to 5, and copies of the last
    expected = clip[1:6, :, 2].astype(np.float32)
    expected[4, WRIST] = 0
    np.testing.assert_array_equal(newest[:5, :, 2], expected)
    np.testing.assert_array_equal(newest[5:, :, 2], np.broadcast_to(expected[4], (4, 17)))
    assert not wide.windows[7][0, 4:, :, 2].any() and wide.windows[7][0, :2, :, 2].all()


@pytest.mark.parametrize("inputs, least", [(INPUTS[:2], 0.3), (INPUTS[:3], 0.05), (INPUTS, 0.05)])
def test_a_lifter_that_takes_the_confidence_sees_fainter_joints(inputs, least):
    clip = person_of("h36m17")[:2]
    clip[0, :, 2], clip[1, :, 2] = least - 0.001, least
    stream = Stream(Wide(inputs, OUTPUTS[:3]), "h36m17", SIZE)
    assert stream.push(clip[0], 0.0) is None
    assert stream.push(clip[1], DT).is_seen.all()


def test_of_a_slower_camera_the_confidence_is_interpolated_as_the_place_is():
    wide, clip = Wide(), person_of("h36m17")
    stream = Stream(wide, "h36m17", SIZE)
    stream.push(clip[0], 1.0)
    stream.push(clip[1], 1.04)
    np.testing.assert_allclose(wide.windows[-1][0, 3, :, 2], clip[:2, :, 2].mean(axis=0), rtol=1e-6)
    stream.push(None, 1.08)
    np.testing.assert_allclose(wide.windows[-1][0, 3, :, 2], clip[1, :, 2] / 2, rtol=1e-6)


def test_what_nobody_said_is_0_and_not_known():
    wide = Wide(INPUTS)
    Stream(wide, "h36m17", SIZE).push(person_of("h36m17")[0], 0.0)
    assert wide.windows[0][..., :3].all() and not wide.windows[0][..., 3:INPUTS.index("gap")].any()


def test_the_gap_in_a_window_is_its_grids_period():
    wide = Wide(INPUTS)
    stream = Stream(wide, "h36m17", SIZE, rate_hz=25.0)
    for n in range(4):
        stream.push(person_of("h36m17")[0], n * DT)
    np.testing.assert_array_equal(wide.windows[-1][..., INPUTS.index("gap")], np.float32(0.04))


@pytest.mark.parametrize("way", ["push", "push_many", "lift", "flush"])
def test_the_error_that_a_model_predicts_is_in_its_poses_and_else_none(way):
    def poses_of(engine):
        stream, clip = Stream(engine, "h36m17", SIZE, delay_frames=int(way == "flush")), person_of("h36m17")[:3]
        frames = [(keypoints_px, n * DT) for n, keypoints_px in enumerate(clip)]
        if way == "lift":
            return list(stream.lift(frames))
        if way == "push_many":
            return push_many([stream, Stream(engine, "h36m17", SIZE)], [clip[0]] * 2, 0.0)
        poses = [stream.push(*frame) for frame in frames]
        return stream.flush() if way == "flush" else poses

    for pose in poses_of(Wide(INPUTS[:4])):  # answers its columns backwards: length, confidence, y, x
        np.testing.assert_array_equal(pose.error_m, pose.keypoints_norm[:, 0])
        np.testing.assert_array_equal(pose.joints_m[:, 2], pose.keypoints_norm[:, 1])
        assert pose.joints_m.shape == (17, 3) and pose.error_m.dtype == np.float32
    assert all(pose.error_m is None for pose in poses_of(Wide(outputs=OUTPUTS[:3])))


@pytest.mark.parametrize("inputs", [("x",), ("y", "x"), (), ("x", "y", "z"), ("x", "y", "depth", "confidence"),
                                    ("x", "y", "confidence", "confidence"), ("confidence", "x", "y")])
def test_columns_that_the_runtime_does_not_have_are_refused(inputs):
    with pytest.raises(ValueError, match="the model takes the columns .*; wanted the first 2 and any "
                       "others of x, y, confidence, length, "):
        Stream(Wide(inputs), "h36m17", SIZE)


@pytest.mark.parametrize("outputs", [("x", "y"), ("x", "y", "error"), ("x", "y", "z", "w"), ()])
def test_answers_that_the_runtime_does_not_know_are_refused(outputs):
    with pytest.raises(ValueError, match="the model answers with the columns .*; wanted the first 3 "
                       "and any others of x, y, z, error"):
        Stream(Wide(outputs=outputs), "h36m17", SIZE)


@pytest.mark.parametrize(
    "answer", [np.zeros((1, 17, 2)), np.zeros((2, 17, 3)), np.zeros((17, 3)), np.zeros((1, 16, 3))])
def test_an_answer_of_another_shape_is_refused_and_the_stream_goes_on(answer):
    engine, clip = FakeEngine(), person_of("coco17")
    stream, run = Stream(engine, "coco17", SIZE), engine.run
    engine.run = lambda keypoints_norm: answer
    with pytest.raises(ValueError, match=r"the engine answered with shape .*; wanted \(1, 17, 3\)"):
        stream.push(clip[0], 0.0)
    engine.run = run
    assert stream.push(clip[1], DT).joints_m.shape == (17, 3)


def test_an_engine_that_fails_does_not_take_the_stream_along():
    engine, clip = FakeEngine(), person_of("coco17")
    stream, twin = Stream(engine, "coco17", SIZE), Stream(FakeEngine(), "coco17", SIZE)
    twin.push(clip[0], 0.0)

    def fail(keypoints_norm):
        raise KeyboardInterrupt

    run, engine.run = engine.run, fail
    with pytest.raises(KeyboardInterrupt):
        stream.push(clip[0], 0.0)
    engine.run = run
    assert same(stream.push(clip[1], DT), twin.push(clip[1], DT))


@pytest.mark.parametrize(
    "call", [lambda s, frame: s.push(frame, 1.0), lambda s, frame: s.reset(), lambda s, frame: s.flush(),
             lambda s, frame: list(s.lift([(frame, 1.0)])), lambda s, frame: push_many([s], [frame], 1.0)],
    ids=["push", "reset", "flush", "lift", "push_many"])
@pytest.mark.parametrize("way", ["push", "push_many"])
def test_a_stream_in_use_by_another_thread_says_so_and_goes_on(call, way):
    engine, clip = FakeEngine(), person_of("coco17")
    stream, twin = (Stream(e, "coco17", SIZE) for e in (engine, FakeEngine()))
    run, is_running, may_go_on, poses = engine.run, threading.Event(), threading.Event(), []

    def slow(keypoints_norm):
        is_running.set()
        assert may_go_on.wait(10)
        return run(keypoints_norm)

    def push(keypoints_px, timestamp_s):
        poses.append(stream.push(keypoints_px, timestamp_s) if way == "push"
                     else push_many([stream], [keypoints_px], timestamp_s)[0])

    engine.run = slow
    other = threading.Thread(target=push, args=(clip[0], 0.0))
    other.start()
    assert is_running.wait(10)
    with pytest.raises(RuntimeError, match="in use by another thread"):
        call(stream, clip[1])
    may_go_on.set()
    other.join()
    push(clip[1], DT)
    assert all(same(pose, twin.push(clip[n], n * DT)) for n, pose in enumerate(poses)) and len(poses) == 2


def test_an_engine_that_calls_its_own_stream_is_refused():
    engine, clip = FakeEngine(), person_of("coco17")
    stream = Stream(engine, "coco17", SIZE)
    engine.run = lambda keypoints_norm: stream.push(clip[1], DT)
    with pytest.raises(RuntimeError, match="in use by another thread, or by an engine that calls it"):
        stream.push(clip[0], 0.0)


def test_many_threads_on_one_stream_get_poses_or_errors():
    engine, clip = FakeEngine(1), person_of("coco17")
    stream, answered, busy, at = Stream(engine, "coco17", SIZE), [], [], iter(range(1, 10000))

    def push():
        for _ in range(200):
            try:
                answered.append(stream.push(clip[0], float(next(at))) is not None)
            except (RuntimeError, ValueError) as error:  # ValueError: the other thread had a later time
                busy.append(str(error))

    threads = [threading.Thread(target=push) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answered) + len(busy) == 800 and answered
    assert all("in use by another" in text or "wanted a later" in text for text in busy)


@pytest.mark.parametrize("rate_hz, expected", [("file", 25.0), (50.0, 50.0), (None, None)])
def test_the_grid_is_the_files_unless_another_is_said(rate_hz, expected):
    engine, clip = FakeEngine(), person_of("coco17")
    engine.rate_hz = 25.0
    stream = Stream(engine, "coco17", SIZE, rate_hz=rate_hz)
    assert stream.rate_hz == expected
    answers = [stream.push(keypoints_px, n * DT) is not None for n, keypoints_px in enumerate(clip)]
    assert sum(answers) == (20 if expected == 25 else 40)


def test_a_model_of_many_frames_that_does_not_say_its_rate_is_taken_for_50_aloud(recwarn):
    engine = FakeEngine()
    engine.rate_hz = None
    with pytest.warns(UserWarning, match="does not say how many frames a second it was trained on; taken for 50"):
        assert Stream(engine, "coco17", SIZE).rate_hz == 50
    recwarn.clear()
    one = FakeEngine(1)
    one.rate_hz = None
    Stream(one, "coco17", SIZE)  # one frame has no spacing
    Stream(engine, "coco17", SIZE, rate_hz=50)
    assert not len(recwarn)
