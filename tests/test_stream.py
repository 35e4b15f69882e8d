import math

import numpy as np
import pytest
from people import DT, SIZE, FakeEngine, hard_clip, person_of, same

import edgepose
from edgepose.adapters import ADAPTERS, Adapter
from edgepose.camera import H36M_FOCAL, normalize_screen, root_translation
from edgepose.filters import OneEuro
from edgepose.skeleton import H36M16, H36M17
from edgepose.stream import CALL_FRAMES, Pose, Stream, push_many


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("call", ["push", "lift"])
def test_keypoints_of_half_precision_are_taken_and_refused_as_those_of_single(call):
    def poses_of(clip):
        stream = Stream(FakeEngine(), "coco17", SIZE)
        frames = [(keypoints_px, n * DT) for n, keypoints_px in enumerate(clip)]
        if call == "lift":
            return list(stream.lift(frames))
        return [pose for frame in frames if (pose := stream.push(*frame))]

    clip = person_of("coco17").astype(np.float16)
    clip[3, 5] = (np.inf, np.nan, 0)  # not found
    half, single = poses_of(clip), poses_of(clip.astype(np.float32))
    assert len(half) == 40 and all(map(same, half, single))
    clip[7, 2, 0] = np.inf
    for broken in (clip, clip[..., :2]):
        with pytest.raises(ValueError, match=r"keypoint . is \(.*inf"):
            poses_of(broken)


@pytest.mark.parametrize("layout", ADAPTERS)
@pytest.mark.parametrize("frames", [1, 9, 27])
def test_streaming_frame_by_frame_equals_the_offline_run_of_the_padded_clip_to_the_bit(layout, frames):
    engine, clip, delay = FakeEngine(frames), person_of(layout), frames // 2
    xy_px, confidence = ADAPTERS[layout](clip)
    xy_norm = normalize_screen(xy_px, SIZE).astype(np.float32)
    padded = np.pad(xy_norm, ((delay, delay), (0, 0), (0, 0)), mode="edge")
    offline = engine.run(np.stack([padded[n:n + frames] for n in range(len(clip))]))
    stream = Stream(engine, layout, SIZE, delay_frames=delay)
    for n, keypoints_px in enumerate(clip):
        pose, a = stream.push(keypoints_px, n * DT), n - delay
        if a < 0:
            assert pose is None
            continue
        np.testing.assert_array_equal(pose.joints_m, offline[a])
        np.testing.assert_array_equal(pose.keypoints_norm, xy_norm[a])
        np.testing.assert_array_equal(pose.confidence, confidence[a])
        assert pose.timestamp_s == pytest.approx(a * DT) and pose.is_seen.all() and pose.skeleton is H36M17
        assert pose.was_reset == (a == 0)
    rest = stream.flush()
    assert len(rest) == delay and stream.flush() == []
    for a, pose in enumerate(rest, len(clip) - delay):
        np.testing.assert_array_equal(pose.joints_m, offline[a])
        np.testing.assert_array_equal(pose.keypoints_norm, xy_norm[a])
        np.testing.assert_array_equal(pose.confidence, confidence[a])
        assert pose.timestamp_s == pytest.approx(a * DT) and not pose.was_reset


@pytest.mark.parametrize("smoothing", [None, OneEuro(min_cutoff_hz=1.0, beta=5.0)])
@pytest.mark.parametrize("frames, delay", [(1, 0), (9, 0), (9, 4), (27, 13), (351, 20)])
def test_a_recording_lifted_at_once_gives_what_push_and_flush_give(frames, delay, smoothing):
    one, all_at_once = FakeEngine(frames), FakeEngine(frames)
    streams = [Stream(engine, "coco17", SIZE, delay_frames=delay, smoothing=smoothing) for engine in (one, all_at_once)]
    expected = [pose for frame in hard_clip() if (pose := streams[0].push(*frame))] + streams[0].flush()
    for _ in range(2):  # the second time with what the first left behind
        poses = list(streams[1].lift(hard_clip()))
        assert len(poses) == len(expected) > 50 and all(same(a, b) for a, b in zip(poses, expected))
    assert sum(pose.was_reset for pose in expected) > 1
    most = max(1, CALL_FRAMES // frames)
    assert len(one.calls) == len(expected) and len(all_at_once.calls) == 2 * -(-len(expected) // most)


def test_a_lifted_frame_that_is_broken_is_numbered_and_the_stream_goes_on():
    stream, frames = Stream(FakeEngine(9), "coco17", SIZE, delay_frames=4), hard_clip()
    with pytest.raises(ValueError, match=r"frame 7: timestamp_s is 0 after"):
        list(stream.lift(frames[:7] + [(frames[7][0], 0.0)]))
    fresh = Stream(FakeEngine(9), "coco17", SIZE, delay_frames=4)
    assert len(list(stream.lift(frames))) == len(list(fresh.lift(frames)))


def test_a_flushed_stream_is_as_new_and_its_smoothing_goes_on_to_the_end():
    plain, smooth, fresh = (Stream(FakeEngine(), "coco17", SIZE, delay_frames=3, smoothing=s)
                            for s in (None, OneEuro(0.2), OneEuro(0.2)))
    clip, reference = person_of("coco17"), OneEuro(0.2)
    raw, calm = ([pose for n in range(8) if (pose := stream.push(clip[n], n * DT))] + stream.flush()
                 for stream in (plain, smooth))
    assert len(calm) == 8
    for r, c in zip(raw, calm):
        np.testing.assert_array_equal(c.joints_m, reference(r.joints_m, r.timestamp_s))
    for n in range(6):
        assert same(smooth.push(clip[20 + n], n * DT), fresh.push(clip[20 + n], n * DT))


def test_nobody_to_answer_for_is_no_pose_at_the_end():
    stream, clip = Stream(FakeEngine(), "coco17", SIZE, delay_frames=4, max_gap_s=0.1), person_of("coco17")
    assert stream.flush() == []
    stream.push(clip[0], 0.0)
    assert stream.push(None, 1.0).timestamp_s == 0.0  # it waited for the next one
    assert stream.push(None, 1.02) is None and stream.flush() == []


def test_without_delay_every_frame_is_answered_at_its_own_time():
    stream = Stream(FakeEngine(), "coco17", SIZE)
    for n, keypoints_px in enumerate(person_of("coco17")):
        pose = stream.push(keypoints_px, 100 + n * DT)
        assert isinstance(pose, Pose) and pose.timestamp_s == pytest.approx(100 + n * DT)
        assert pose.joints_m.shape == (17, 3) and pose.joints_m.dtype == np.float32


@pytest.mark.parametrize("delay", [0, 2])
@pytest.mark.parametrize("smoothing", [None, OneEuro(1.0, 0.5)])
def test_push_many_equals_push_one_by_one_to_the_bit_with_one_run_of_the_engine(delay, smoothing):
    people = [person_of("coco17", seed=0), person_of("body25", seed=1), person_of("h36m17", seed=2)]
    layouts = ("coco17", "body25", "h36m17")
    many, single = FakeEngine(), FakeEngine()
    together = [Stream(many, layout, SIZE, delay_frames=delay, smoothing=smoothing) for layout in layouts]
    alone = [Stream(single, layout, SIZE, delay_frames=delay, smoothing=smoothing) for layout in layouts]
    rng = np.random.default_rng(3)
    for n in range(40):
        frames = [None if rng.random() < 0.2 or (n < 5 and i == 2) else person[n] for i, person in enumerate(people)]
        calls = len(many.calls)
        poses = push_many(together, frames, n * DT)
        expected = [stream.push(frame, n * DT) for stream, frame in zip(alone, frames)]
        assert all(same(a, b) for a, b in zip(poses, expected)) and len(poses) == 3
        answered = sum(pose is not None for pose in poses)
        assert len(many.calls) - calls == (answered > 0) and (not answered or len(many.calls[-1]) == answered)
    assert answered == 3


def test_no_people_are_no_poses():
    assert push_many([], [], 0.0) == [] and push_many([], [], []) == []


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_people_of_several_cameras_have_times_of_their_own(kind):
    people = [person_of("coco17", seed=s) for s in range(3)]
    together, alone = ([Stream(engine, "coco17", SIZE, delay_frames=1) for _ in people]
                       for engine in (FakeEngine(), FakeEngine()))
    for n in range(8):
        times_s = [n * DT, 100 + n * 0.03, 7 + n * 0.01]
        poses = push_many(together, [person[n] for person in people], kind(times_s))
        assert all(same(pose, stream.push(person[n], t))
                   for pose, stream, person, t in zip(poses, alone, people, times_s))
    with pytest.raises(ValueError, match="2 time stamps for 3 streams; wanted one, or one each"):
        push_many(together, [person[8] for person in people], [9.0, 109.0])
    with pytest.raises(ValueError, match="person 1: timestamp_s is 9 after 100.2"):
        push_many(together, [person[8] for person in people], [9.0, 9.0, 9.0])
    with pytest.raises(TypeError, match="person 0: timestamp_s is '9.0'; wanted a number"):
        push_many(together, [person[8] for person in people], "9.0")
    with pytest.raises(TypeError, match=r"person 2: timestamp_s is \[107.0\]; wanted a number"):
        push_many(together, [person[8] for person in people], [9.0, 109.0, [107.0]])


def test_with_its_camera_a_stream_sees_as_the_camera_of_the_models_did():
    """A person seen through any lens gives one pose, and the pelvis is found where it is."""
    person_m = np.random.default_rng(1).normal(0, 0.3, (17, 3))
    person_m[0] = 0
    place_m = np.array([0.4, -0.2, 4.0])
    engine, poses = FakeEngine(1), []
    for camera in ((1145.0, 1145.0, 500.0, 500.0), (600.0, 620.0, 310.0, 260.0)):
        fx, fy, cx, cy = camera
        points = person_m + place_m
        pixels = points[:, :2] / points[:, 2:] * (fx, fy) + (cx, cy)
        poses.append(Stream(engine, "h36m17", (1000, 1000), camera=camera).push(pixels, 0.0))
        found = root_translation(person_m, poses[-1].keypoints_norm, poses[-1].confidence, H36M_FOCAL, H36M_FOCAL, 0, 0)
        np.testing.assert_allclose(found, place_m, atol=1e-5)
    np.testing.assert_allclose(poses[0].joints_m, poses[1].joints_m, atol=1e-6)
    plain = Stream(engine, "h36m17", (1000, 1000)).push(pixels, 0.0)
    assert np.abs(plain.joints_m - poses[1].joints_m).max() > 0.01


@pytest.mark.parametrize("camera", [(0, 1, 2, 3), (1, 2, 3), "camera", 5.0, (1, 1, math.nan, 0), ("500", 500, 1, 1)])
def test_an_impossible_camera_is_refused(camera):
    with pytest.raises(ValueError, match="fx, fy, cx, cy are .*; wanted four finite numbers"):
        Stream(FakeEngine(), "coco17", SIZE, camera=camera)


def test_lists_and_whole_numbers_are_keypoints_too():
    a, b = (Stream(FakeEngine(), "coco17", SIZE) for _ in range(2))
    clip = person_of("coco17")[..., :2].astype(np.int32)
    for n, keypoints_px in enumerate(clip[:5]):
        assert same(a.push(keypoints_px.tolist(), n), b.push(keypoints_px.astype(float), float(n)))


def test_a_model_of_16_joints_and_an_adapter_of_ones_own_are_served():
    own = Adapter.from_mapping({joint: joint for joint in H36M16.joints}, joints=H36M16.joints)
    keypoints_px = person_of("h36m16")[0]
    pose = Stream(FakeEngine(1, H36M16), own, SIZE).push(keypoints_px, 0.0)
    assert pose.joints_m.shape == (16, 3) and pose.skeleton is H36M16
    np.testing.assert_array_equal(pose.keypoints_norm, normalize_screen(keypoints_px[:, :2], SIZE).astype(np.float32))
    assert Stream(FakeEngine(1, H36M16), "coco17", SIZE).push(person_of("coco17")[0], 0.0).confidence.shape == (16,)


def test_a_hidden_joint_is_put_beside_its_parent_and_not_in_the_corner():
    stream, clip = Stream(FakeEngine(1), "h36m17", SIZE), person_of("h36m17")
    stream.push(clip[0], 0.0)
    hidden = clip[0] + [30, 20, 0]
    hidden[H36M17.index("left_wrist")] = 0
    pose = stream.push(hidden, DT)
    expected = normalize_screen(clip[0, :, :2] + [30, 20], SIZE)
    np.testing.assert_allclose(pose.keypoints_norm, expected, atol=1e-6)
    assert [H36M17.joints[j] for j in np.flatnonzero(~pose.is_seen)] == ["left_wrist"]
    assert pose.confidence[H36M17.index("left_wrist")] == 0


def test_an_absent_keypoint_may_be_nan_if_its_confidence_is_zero():
    a, b = (Stream(FakeEngine(), "coco17", SIZE) for _ in range(2))
    for n, keypoints_px in enumerate(person_of("coco17")[:5]):
        if n:
            keypoints_px[3 * n - 1] = 0
        absent = keypoints_px.copy()
        absent[absent[:, 2] == 0, :2] = np.nan, np.inf
        pose = a.push(absent, n * DT)
        assert same(pose, b.push(keypoints_px, n * DT)) and np.isfinite(pose.joints_m).all()


def test_an_undetected_person_is_repeated_for_max_gap_s_and_then_forgotten():
    engine, clip = FakeEngine(), person_of("coco17")
    stream = Stream(engine, "coco17", SIZE, max_gap_s=0.1)
    first, second = stream.push(clip[0], 0.0), stream.push(clip[1], 0.02)
    assert first.was_reset and not second.was_reset
    for n in range(2, 7):
        pose = stream.push(None, n * DT)
        assert pose.timestamp_s == pytest.approx(n * DT) and not pose.is_seen.any() and not pose.confidence.any()
        np.testing.assert_array_equal(pose.keypoints_norm, second.keypoints_norm)
    calls = len(engine.calls)
    assert [stream.push(None, n * DT) for n in range(7, 9)] == [None, None]
    assert len(engine.calls) == calls
    back = stream.push(clip[2], 0.2)
    assert back.was_reset and (engine.calls[-1] == engine.calls[-1][:, :1]).all()


def test_a_frame_with_no_joint_seen_counts_as_undetected():
    a, b, clip = *(Stream(FakeEngine(), "coco17", SIZE) for _ in range(2)), person_of("coco17")
    for n, keypoints_px in enumerate(clip[:10]):
        assert same(a.push(np.zeros((17, 3)) if n in (4, 5) else keypoints_px, n * DT),
                    b.push(None if n in (4, 5) else keypoints_px, n * DT))


def test_nobody_is_answered_for_until_hips_or_shoulders_have_been_seen():
    stream, clip = Stream(FakeEngine(), "body25", SIZE), person_of("body25")
    half = clip[0].copy()
    half[[ADAPTERS["body25"].layout.index(keypoint) for keypoint in ("mid_hip", "left_hip", "right_hip", "neck")]] = 0
    assert stream.push(None, 0.0) is None and stream.push(half, 0.1) is None
    assert stream.push(clip[0], 0.2).was_reset
    moved = half + np.where(half[:, 2:] > 0, [20, 10, 0], 0)
    pose = stream.push(moved, 0.22)
    assert not pose.is_seen[H36M17.index("pelvis")] and not pose.was_reset
    np.testing.assert_allclose(pose.keypoints_norm[0], normalize_screen(clip[0, 8, :2] + [20, 10], SIZE), atol=1e-6)


def test_another_person_does_not_inherit_the_hidden_limbs_of_the_first():
    stream, (one, other) = Stream(FakeEngine(), "h36m17", SIZE), (person_of("h36m17", seed=s)[0] for s in (0, 4))
    wrist, elbow = H36M17.index("left_wrist"), H36M17.index("left_elbow")
    other[wrist] = 0
    stream.push(one, 0.0)
    pose = stream.push(other, DT)
    assert pose.was_reset
    np.testing.assert_array_equal(pose.keypoints_norm[wrist], pose.keypoints_norm[elbow])


def test_after_a_reported_gap_no_limb_of_the_forgotten_person_is_left():
    stream, frame = Stream(FakeEngine(), "h36m17", SIZE, max_gap_s=0.1), person_of("h36m17")[0]
    wrist, elbow = H36M17.index("left_wrist"), H36M17.index("left_elbow")
    stream.push(frame, 0.0)
    assert stream.push(None, 0.2) is None
    frame[wrist] = 0
    pose = stream.push(frame, 0.22)
    np.testing.assert_array_equal(pose.keypoints_norm[wrist], pose.keypoints_norm[elbow])


def test_a_silent_gap_forgets_the_person_even_if_the_pelvis_is_hidden_afterwards():
    stream, clip = Stream(FakeEngine(), "body25", SIZE, max_gap_s=0.5), person_of("body25")
    half = clip[0].copy()
    half[[ADAPTERS["body25"].layout.index(keypoint) for keypoint in ("mid_hip", "left_hip", "right_hip", "neck")]] = 0
    stream.push(clip[0], 0.0)
    assert stream.push(half, 0.6) is None


def test_a_camera_faster_than_the_grid_is_answered_once_a_grid_point():
    stream, clip = Stream(FakeEngine(), "coco17", SIZE), person_of("coco17")
    assert [stream.push(keypoints_px, n / 100) is None for n, keypoints_px in enumerate(clip[:7])] == \
        [False, True, False, True, False, True, False]
    free = Stream(FakeEngine(), "coco17", SIZE, rate_hz=None)
    assert all(free.push(keypoints_px, n / 100) for n, keypoints_px in enumerate(clip))


def test_smoothing_belongs_to_one_stream_and_starts_afresh_after_a_gap():
    smoothing, engine = OneEuro(0.2), FakeEngine(1)
    people = person_of("coco17", seed=0), person_of("coco17", seed=1)
    plain, smooth = ([Stream(engine, "coco17", SIZE, smoothing=s) for _ in people] for s in (None, smoothing))
    for n in range(20):
        t = n * DT + 5.0 * (n >= 10)
        if n % 10 == 0:
            references = [OneEuro(0.2), OneEuro(0.2)]
        raw = push_many(plain, [person[n] for person in people], t)
        calm = push_many(smooth, [person[n] for person in people], t)
        for r, c, reference in zip(raw, calm, references):
            np.testing.assert_array_equal(c.joints_m, reference(r.joints_m, t))
            assert c.joints_m.dtype == np.float32 and (c.joints_m == r.joints_m).all() == (n % 10 == 0)


def test_a_pose_is_not_changed_by_later_pushes():
    stream, clip = Stream(FakeEngine(), "coco17", SIZE, smoothing=OneEuro()), person_of("coco17")
    poses = [stream.push(keypoints_px, n * DT) for n, keypoints_px in enumerate(clip)]
    twin = Stream(FakeEngine(), "coco17", SIZE, smoothing=OneEuro())
    for n, keypoints_px in enumerate(clip):
        assert same(poses[n], twin.push(keypoints_px, n * DT))


def test_after_a_reset_the_stream_is_as_new():
    stream, fresh, clip = *(Stream(FakeEngine(), "coco17", SIZE, smoothing=OneEuro()) for _ in range(2)), \
        person_of("coco17")
    for n in range(5):
        stream.push(clip[n], 50 + n * DT)
    stream.reset()
    for n in range(5):
        assert same(stream.push(clip[20 + n], n * DT), fresh.push(clip[20 + n], n * DT))


def test_a_lower_threshold_takes_fainter_joints():
    keypoints = np.column_stack([np.random.default_rng(0).uniform(100, 400, (17, 2)), np.full(17, 0.25)])
    engine = edgepose.load("ampose")
    assert Stream(engine, "coco17", (640, 480)).push(keypoints, 0.0) is None
    assert Stream(engine, "coco17", (640, 480), seen_above=0.2).push(keypoints, 0.0).is_seen.all()
