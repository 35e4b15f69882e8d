import numpy as np
import pytest

from windows import Window

from edgepose.skeleton import H36M16, H36M17

DT = 0.02


def clip_of(frames, seed=0, step=0.002):
    """A person drifting slowly enough never to jump: (frames, 17, 2)."""
    rng = np.random.default_rng(seed)
    person = rng.uniform(-0.5, 0.5, (17, 2))
    return person + rng.normal(0, step, (frames, 17, 2)).cumsum(axis=0)


def padded(clip, frames):
    """The off-line input: the clip with (T-1)/2 copies of its ends on either side, as float32."""
    return np.pad(clip, ((frames // 2, frames // 2), (0, 0), (0, 0)), mode="edge").astype(np.float32)


def centre(window):
    return window.keypoints_norm[window.frames // 2]


@pytest.mark.parametrize("frames", [1, 3, 9, 27])
@pytest.mark.parametrize("rate_hz", [50.0, None])
def test_streaming_with_full_delay_equals_the_padded_clip_to_the_bit(frames, rate_hz):
    clip, delay = clip_of(70), frames // 2
    offline = padded(clip, frames)
    window = Window(frames, H36M17, rate_hz, delay_frames=delay)
    for n, frame in enumerate(clip):
        assert window.push(frame, 5 + n * DT) == (n >= delay)
        if n >= delay:
            a = n - delay
            assert window.keypoints_norm.shape == (frames, 17, 2)
            assert window.keypoints_norm.dtype == np.float32 and window.keypoints_norm.flags.c_contiguous
            np.testing.assert_array_equal(window.keypoints_norm, offline[a:a + frames])
            assert window.timestamp_s == pytest.approx(5 + a * DT, abs=1e-9)


@pytest.mark.parametrize("frames, delay", [(1, 0), (3, 1), (9, 0), (9, 2), (9, 4), (27, 13), (351, 175)])
@pytest.mark.parametrize("length", [1, 2, 4, 5, 6, 40])
@pytest.mark.parametrize("rate_hz", [50.0, None])
def test_pushing_and_flushing_equal_the_padded_clip_to_the_bit(frames, delay, length, rate_hz):
    clip, window, answers = clip_of(length), Window(frames, H36M17, rate_hz, delay_frames=delay), []
    offline = padded(clip, frames)

    def take():
        answers.append((window.keypoints_norm.copy(), window.timestamp_s, window.note, window.was_reset))

    for n, frame in enumerate(clip):
        if window.push(frame, 5 + n * DT, note=n):
            take()
    assert len(answers) == max(0, length - delay)
    for _ in window.flush():
        take()
    assert [note for _, _, note, _ in answers] == list(range(length))
    for a, (keypoints, timestamp_s, _, was_reset) in enumerate(answers):
        # With less than full delay the pushed answers knew no later frames.
        known = padded(clip[:a + delay + 1], frames)
        np.testing.assert_array_equal(keypoints, known[a:a + frames])
        assert delay != frames // 2 or (keypoints == offline[a:a + frames]).all()
        assert timestamp_s == pytest.approx(5 + a * DT, abs=1e-9) and was_reset == (a == 0)
    assert window.is_empty and list(window.flush()) == []


def test_after_a_flush_the_window_is_as_new():
    window, fresh, clip = *(Window(9, H36M17, delay_frames=2) for _ in range(2)), clip_of(20)
    for n in range(7):
        window.push(clip[n], n * DT)
    assert len(list(window.flush())) == 2
    for n in range(5):
        assert window.push(clip[10 + n], 9 + n * DT) == fresh.push(clip[10 + n], 9 + n * DT)
        if n >= 2:
            np.testing.assert_array_equal(window.keypoints_norm, fresh.keypoints_norm)
            assert window.was_reset == fresh.was_reset == (n == 2)


def test_a_flushed_slower_camera_is_answered_on_the_grid():
    window, (a, b) = Window(5, H36M17, delay_frames=2), clip_of(2)
    assert not window.push(a, 1.0) and window.push(b, 1.05)
    middles = [(window.timestamp_s, window.keypoints_norm[2].copy()) for _ in window.flush()]
    assert [t for t, _ in middles] == pytest.approx([1.02, 1.04])
    np.testing.assert_allclose([keypoints for _, keypoints in middles],
                               [a + 0.4 * (b - a), a + 0.8 * (b - a)], atol=1e-6)


@pytest.mark.parametrize("frames, delay", [(9, 0), (9, 1), (9, 3), (27, 5), (351, 0)])
def test_with_less_delay_the_last_frame_is_repeated_to_the_right(frames, delay):
    clip = clip_of(2 * frames + 5)
    window = Window(frames, H36M17, delay_frames=delay)
    for n, frame in enumerate(clip):
        is_new = window.push(frame, n * DT)
        assert is_new == (n >= delay)
        if is_new:
            a = n - delay
            np.testing.assert_array_equal(window.keypoints_norm, padded(clip[:n + 1], frames)[a:a + frames])
            assert window.timestamp_s == pytest.approx(a * DT, abs=1e-9)


def test_the_first_frame_is_repeated_to_the_left():
    window = Window(9, H36M17)
    frame = clip_of(1)[0]
    assert window.push(frame, 3.0)
    np.testing.assert_array_equal(window.keypoints_norm, np.broadcast_to(frame.astype(np.float32), (9, 17, 2)))


@pytest.mark.parametrize("rate_hz", [50.0, None])
def test_a_window_of_one_frame_is_each_pushed_frame_at_its_own_time(rate_hz):
    window = Window(1, H36M17, rate_hz)
    times_s = np.cumsum(np.random.default_rng(1).uniform(0.001, 0.2, 30))
    for frame, t in zip(clip_of(30), times_s):
        assert window.push(frame, t)
        np.testing.assert_array_equal(window.keypoints_norm[0], frame.astype(np.float32))
        assert window.timestamp_s == t


def test_a_slower_camera_is_interpolated_between_its_frames():
    window = Window(5, H36M17)
    a, b, c = clip_of(3)
    window.push(a, 1.0)
    window.push(b, 1.04)
    np.testing.assert_allclose(window.keypoints_norm, [a, (a + b) / 2, b, b, b], atol=1e-7)
    window.push(c, 1.1)
    np.testing.assert_allclose(window.keypoints_norm, [b + (c - b) / 3, b + (c - b) * 2 / 3, c, c, c], atol=1e-7)
    assert window.timestamp_s == pytest.approx(1.1)


def test_a_camera_of_half_the_rate_fills_every_second_grid_point_whatever_the_clock():
    for start_s in (0.0, 0.1, 1.7e9 + 1 / 3):
        window = Window(3, H36M17, delay_frames=1)
        for n, frame in enumerate(clip_of(200)):
            window.push(frame, start_s + n * 0.04 - 0.001 * (n % 2))  # each second frame comes early
            np.testing.assert_array_equal(window.keypoints_norm[-1], frame.astype(np.float32))
        assert window.timestamp_s == pytest.approx(start_s + 199 * 0.04 - DT, abs=1e-6)


def test_a_slower_camera_out_of_step_is_interpolated_on_the_grid():
    """Linear motion at 30 Hz comes out as the same linear motion at 50 Hz, at the grid's own times."""
    window = Window(27, H36M17, delay_frames=13)
    person, velocity = clip_of(1)[0], np.random.default_rng(2).normal(0, 0.1, (17, 2))
    for n in range(60):
        if window.push(person + velocity * n / 30, n / 30) and window.timestamp_s > 0.3:
            times_s = window.timestamp_s + (np.arange(27) - 13) * DT
            np.testing.assert_allclose(window.keypoints_norm, person + velocity * times_s[:, None, None], atol=2e-4)
            assert (window.timestamp_s / DT) % 1 == pytest.approx(0, abs=1e-6) or \
                (window.timestamp_s / DT) % 1 == pytest.approx(1, abs=1e-6)
    assert window.timestamp_s > 1.5


@pytest.mark.parametrize("camera_hz", [60, 75, 100, 240])
def test_of_a_faster_camera_each_grid_frame_is_the_nearest(camera_hz):
    window, answers = Window(3, H36M17, delay_frames=1), []
    clip = clip_of(camera_hz)
    for n, frame in enumerate(clip):
        if window.push(frame, n / camera_hz):
            answers.append((window.timestamp_s, centre(window).copy()))
    assert len(answers) == pytest.approx(49, abs=1)
    for i, (t, keypoints) in enumerate(answers):
        assert t == pytest.approx(i * DT)
        away_s = np.abs(np.arange(len(clip)) / camera_hz - t)
        nearest = clip[away_s <= away_s.min() + 1e-9].astype(np.float32)
        assert (keypoints == nearest).all(axis=(1, 2)).any()


def test_a_grid_point_takes_the_earlier_of_two_frames_if_that_is_nearer():
    window, (a, b, c) = Window(3, H36M17), clip_of(3)
    window.push(a, 0.0, "a")
    assert not window.push(b, 0.010, "b")
    assert window.push(c, 0.034, "c")
    np.testing.assert_array_equal(window.keypoints_norm, np.stack([b, c, c]).astype(np.float32))
    assert window.note == "c" and window.timestamp_s == pytest.approx(0.04)


def test_a_camera_of_the_same_rate_with_jitter_gives_one_answer_a_frame():
    rng = np.random.default_rng(3)
    window, clip = Window(9, H36M17), clip_of(300)
    for n, frame in enumerate(clip):
        assert window.push(frame, 1.7e9 + n * DT + rng.uniform(-0.002, 0.002) * (n > 0))
        np.testing.assert_array_equal(window.keypoints_norm[-1], frame.astype(np.float32))


def test_the_note_is_that_of_the_frame_the_answer_belongs_to():
    window = Window(9, H36M17, delay_frames=3)
    for n, frame in enumerate(clip_of(12)):
        if window.push(frame, n * DT, note=f"frame {n}"):
            assert window.note == f"frame {n - 3}"
    slow, notes = Window(9, H36M17), []
    for n, frame in enumerate(clip_of(3)):
        slow.push(frame, n * 0.06, note=n)
        notes.append(slow.note)
    assert notes == [0, 1, 2]


def test_window_repeats_last_frame_when_detector_drops_out():
    window, (a, b) = Window(5, H36M17, max_gap_s=0.1), clip_of(2)
    window.push(a, 0.0)
    window.push(b, 0.02)
    for n in range(2, 7):
        assert window.repeat_last(n * DT, note="gap")
        assert window.note == "gap" and window.timestamp_s == pytest.approx(n * DT)
    np.testing.assert_array_equal(window.keypoints_norm, np.broadcast_to(b.astype(np.float32), (5, 17, 2)))
    assert not window.was_reset


def test_after_max_gap_s_the_window_starts_over_and_says_so():
    window, clip = Window(5, H36M17, max_gap_s=0.1), clip_of(20)
    assert window.push(clip[0], 0.0) and window.was_reset
    assert window.push(clip[1], 0.02) and not window.was_reset
    assert window.repeat_last(0.12) and not window.is_empty
    assert not window.repeat_last(0.13) and window.is_empty
    assert not window.repeat_last(0.15)
    assert window.push(clip[2], 0.17) and window.was_reset
    np.testing.assert_array_equal(window.keypoints_norm, np.broadcast_to(clip[2].astype(np.float32), (5, 17, 2)))
    assert window.push(clip[3], 0.19) and not window.was_reset


def test_a_gap_without_a_word_counts_like_one_reported():
    window, clip = Window(5, H36M17, max_gap_s=0.1), clip_of(4)
    window.push(clip[0], 0.0)
    assert window.is_continued_by(clip[1, 0], 0.1) and not window.is_continued_by(clip[1, 0], 0.11)
    assert window.is_continued_by(None, 0.1) and not window.is_continued_by(None, 0.11)
    assert window.push(clip[1], 0.1) and not window.was_reset
    assert window.push(clip[2], 0.21) and window.was_reset
    np.testing.assert_array_equal(window.keypoints_norm[0], clip[2].astype(np.float32))


def test_a_reset_is_told_with_the_first_answer_also_under_delay():
    window, clip = Window(5, H36M17, delay_frames=2), clip_of(30)
    answers = []
    for n, frame in enumerate(clip):
        if window.push(frame, n * DT + 3.0 * (n >= 10)):
            answers.append((n - 2, window.was_reset))
    assert [a for a, was_reset in answers if was_reset] == [0, 10]
    assert [a for a, _ in answers] == list(range(28))  # also those that waited at the gap


def standing(skeleton=H36M17, torso=0.2, width=0.1):
    person = np.zeros((len(skeleton), 2))
    person[skeleton.index("thorax")] = 0, -torso
    person[skeleton.index("left_shoulder")] = width / 2, -torso
    person[skeleton.index("right_shoulder")] = -width / 2, -torso
    return person


@pytest.mark.parametrize("torso, width, jump, is_same", [
    (0.2, 0.1, 0.099, True), (0.2, 0.1, 0.101, False), (0.0, 0.1, 0.049, True), (0.0, 0.1, 0.051, False)])
@pytest.mark.parametrize("skeleton", [H36M17, H36M16])
def test_a_pelvis_that_jumps_by_more_than_half_a_torso_is_someone_else(torso, width, jump, is_same, skeleton):
    person = standing(skeleton, torso, width)
    window = Window(5, skeleton)
    window.push(person, 0.0)
    assert window.is_continued_by(person[0] + [jump, 0], 0.02) == is_same
    assert window.push(person + [jump, 0], 0.02)
    assert window.was_reset == (not is_same)
    assert (window.keypoints_norm[0] == window.keypoints_norm[2]).all() == (not is_same)


def test_a_runner_before_a_slow_camera_is_not_someone_else():
    window, person = Window(5, H36M17), standing()
    window.push(person, 0.0)
    assert window.is_continued_by(person[0] + [0.24, 0], 0.1)
    assert not window.is_continued_by(person[0] + [0.26, 0], 0.1)


def test_an_arm_that_jumps_does_not_reset():
    window, person = Window(5, H36M17), standing()
    window.push(person, 0.0)
    waved = person.copy()
    waved[H36M17.index("left_wrist")] += 10
    assert window.push(waved, 0.02) and not window.was_reset


def test_no_frame_is_lost_or_repeated_over_many_turns_of_the_buffer():
    for frames, delay in [(1, 0), (3, 0), (3, 1), (5, 1), (7, 3)]:
        window = Window(frames, H36M17, rate_hz=None, delay_frames=delay)
        clip = clip_of(100, seed=frames)
        for n, frame in enumerate(clip):
            if window.push(frame, n * DT):
                a = n - delay
                np.testing.assert_array_equal(window.keypoints_norm, padded(clip[:n + 1], frames)[a:a + frames])


@pytest.mark.parametrize("settings, message", [
    (dict(frames=0), "odd"), (dict(frames=4), "odd"), (dict(frames=-1), "odd"),
    (dict(frames=9, delay_frames=5), "takes 0 to 4"), (dict(frames=9, delay_frames=-1), "takes 0 to 4"),
    (dict(frames=1, delay_frames=1), "a window of 1 frame has no later ones to wait for: wanted 0"),
    (dict(frames=1, delay_frames=1, is_causal=True), "a causal window of 1 frame has no later ones"),
    (dict(frames=9, rate_hz=-1.5), "rate_hz is -1.5"), (dict(frames=9, rate_hz=float("nan")), "rate_hz is nan"),
    (dict(frames=9, rate_hz=float("inf")), "rate_hz is inf"),
    (dict(frames=9, rate_hz=1001.0), "rate_hz is 1001; wanted a positive number, at most 1000"),
    (dict(frames=9, max_gap_s=-0.1), "max_gap_s is -0.1; wanted 0 or more"),
    (dict(frames=9, max_gap_s=float("nan")), "max_gap_s is nan"),])
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Window(skeleton=H36M17, **settings)
