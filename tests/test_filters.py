import math

import numpy as np
import pytest

from edgepose._native import Hold
from edgepose.filters import OneEuro
from edgepose.skeleton import H36M16, H36M17


def one_euro_by_hand(values, times_s, min_cutoff_hz, beta, d_cutoff_hz):
    """The paper's algorithm on plain floats."""
    def alpha(cutoff_hz, dt_s):
        return 1 / (1 + 1 / (2 * math.pi * cutoff_hz * dt_s))
    filtered, speed, out = values[0], 0.0, [values[0]]
    for x, dt_s in zip(values[1:], np.diff(times_s)):
        a = alpha(d_cutoff_hz, dt_s)
        speed = a * (x - filtered) / dt_s + (1 - a) * speed
        a = alpha(min_cutoff_hz + beta * abs(speed), dt_s)
        filtered = a * x + (1 - a) * filtered
        out.append(filtered)
    return out


def test_one_euro_follows_the_paper_on_uneven_times():
    rng = np.random.default_rng(0)
    times_s = np.cumsum(rng.uniform(0.005, 0.1, 50))
    clip = rng.normal(size=(50, 2, 3)).cumsum(axis=0)
    smoothing = OneEuro(1.2, 0.7, 0.9)
    out = np.stack([smoothing(x, t) for x, t in zip(clip, times_s)])
    for i in np.ndindex(2, 3):
        by_hand = one_euro_by_hand(clip[(slice(None), *i)], times_s, 1.2, 0.7, 0.9)
        np.testing.assert_allclose(out[(slice(None), *i)], by_hand, rtol=1e-10)


def test_one_euro_calms_rest_and_lets_beta_trade_lag_for_calm():
    rng = np.random.default_rng(1)
    times_s = np.arange(200) / 50
    still = 0.01 * rng.normal(size=200)
    slow = OneEuro(1.0)
    assert np.std([slow(x, t) for x, t in zip(still, times_s)][50:]) < 0.4 * np.std(still)
    lags = []
    for beta in (0.0, 1.0, 40.0):
        quick = OneEuro(1.0, beta)
        lags.append(2.0 * times_s[-1] - [quick(2.0 * t, t) for t in times_s][-1])
    assert lags[0] > 2 * lags[1] > 4 * lags[2] > 0


def test_one_euro_in_millimetres_needs_a_thousandth_of_the_beta():
    clip_m = np.random.default_rng(2).normal(size=(20, 3)).cumsum(axis=0)
    metres, millimetres = OneEuro(0.1, 40), OneEuro(0.1, 0.04)
    for i, x in enumerate(clip_m):
        np.testing.assert_allclose(millimetres(1000 * x, i / 50), 1000 * metres(x, i / 50), rtol=1e-9)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_one_euro_stays_finite_where_times_nearly_coincide(kind):
    smoothing = OneEuro(min_cutoff_hz=1.0, beta=5.0)
    values = [smoothing(np.array([n % 2], kind), n * 1e-300)[0] for n in range(9)]
    assert np.isfinite(values).all() and 0 <= min(values) <= max(values) < 0.1


def test_one_euro_starts_afresh_after_a_reset():
    smoothing = OneEuro(0.5)
    smoothing(np.zeros(3), 10.0)
    assert smoothing(np.ones(3), 10.02)[0] < 0.1
    smoothing.reset()
    np.testing.assert_array_equal(smoothing(np.ones(3), 1.0), np.ones(3))


def test_one_euro_keeps_float32_and_gives_away_nothing_of_its_own():
    smoothing = OneEuro(0.5)
    for i in range(3):
        x = np.ones((17, 3), np.float32)
        out = smoothing(x, i / 50)
        assert out.dtype == np.float32
        out[:] = x[:] = 1e6
    np.testing.assert_array_equal(smoothing(np.ones((17, 3), np.float32), 1.0), 1)


@pytest.mark.parametrize("timestamp_s", [1.0, 0.5, math.nan, math.inf])
def test_one_euro_refuses_a_time_that_does_not_increase_and_forgets_nothing(timestamp_s):
    smoothing, other = OneEuro(0.5), OneEuro(0.5)
    for s in (smoothing, other):
        s(np.zeros(3), 1.0)
    with pytest.raises(ValueError, match="wanted a later time"):
        smoothing(np.ones(3), timestamp_s)
    with pytest.raises(ValueError, match=r"\(2,\) after \(3,\)"):
        smoothing(np.ones(2), 1.1)
    np.testing.assert_array_equal(smoothing(np.ones(3), 1.1), other(np.ones(3), 1.1))


@pytest.mark.parametrize("settings", [(0, 0, 1), (1, -1, 1), (1, 0, 0), (math.nan, 0, 1), (1, math.inf, 1)])
def test_one_euro_refuses_impossible_settings(settings):
    with pytest.raises((ValueError, TypeError), match="(min_cutoff_hz|beta|d_cutoff_hz) is .*; wanted"):
        OneEuro(*settings)


@pytest.fixture
def person():
    return np.random.default_rng(3).normal(size=(17, 2))


def confidence_without(*joints, value=0.0):
    confidence = np.ones(17)
    confidence[[H36M17.index(joint) for joint in joints]] = value
    return confidence


def at(joint):
    return H36M17.index(joint)


def test_seen_joints_pass_unchanged(person):
    hold = Hold(H36M17)
    placed, is_seen = hold(person, np.ones(17), 0.0)
    np.testing.assert_array_equal(placed, person)
    assert is_seen.all() and is_seen.dtype == bool
    placed, is_seen = hold(person + 1, confidence_without("left_wrist"), 0.1)
    np.testing.assert_array_equal(placed[is_seen], (person + 1)[is_seen])
    assert not is_seen[at("left_wrist")] and is_seen.sum() == 16


def test_a_hidden_joint_moves_on_with_its_parent(person):
    hold = Hold(H36M17)
    hold(person, np.ones(17), 0.0)
    moved = person + [3, -2]
    moved[at("right_wrist")] = np.nan
    placed, _ = hold(moved, confidence_without("right_wrist"), 0.1)
    np.testing.assert_allclose(placed, person + [3, -2])


def test_a_hidden_limb_hangs_from_its_nearest_seen_joint(person):
    """Every set of hidden joints: each joint is at its parent's place plus the last offset."""
    rng = np.random.default_rng(4)
    for _ in range(200):
        hold = Hold(H36M17)
        hold(person, np.ones(17), 0.0)
        is_hidden = rng.random(17) < rng.uniform(0, 1)
        is_hidden[0] = False
        now = rng.normal(size=(17, 2))
        expected = now.copy()
        for parent, joint in H36M17.bones:
            if is_hidden[joint]:
                expected[joint] = expected[parent] + person[joint] - person[parent]
        placed, is_seen = hold(np.where(is_hidden[:, None], np.nan, now), np.where(is_hidden, 0.0, 1.0), 0.1)
        np.testing.assert_allclose(placed, expected, atol=1e-12)
        np.testing.assert_array_equal(is_seen, ~is_hidden)


def test_after_hold_s_knees_and_ankles_fall_back_to_the_parent_and_others_do_not(person):
    hold = Hold(H36M17, hold_s=0.3)
    hold(person, np.ones(17), 0.0)
    hidden = ("left_knee", "left_ankle", "right_ankle", "right_wrist", "head")
    early, _ = hold(person, confidence_without(*hidden), 0.3)
    np.testing.assert_allclose(early, person)
    late, is_seen = hold(person, confidence_without(*hidden), 0.31)
    for joint, parent in (("left_knee", "left_hip"), ("left_ankle", "left_hip"), ("right_ankle", "right_knee")):
        np.testing.assert_array_equal(late[at(joint)], person[at(parent)])
    for joint in ("right_wrist", "head", "right_knee"):
        np.testing.assert_allclose(late[at(joint)], person[at(joint)])
    assert is_seen.sum() == 12
    back, _ = hold(person, np.ones(17), 0.5)
    np.testing.assert_array_equal(back, person)
    again, _ = hold(person, confidence_without(*hidden), 0.6)
    np.testing.assert_allclose(again, person)


def test_an_offset_is_learnt_only_from_two_joints_that_are_both_seen(person):
    hold = Hold(H36M17)
    hold(person, np.ones(17), 0.0)
    swung = person.copy()
    swung[at("left_wrist")] += 5
    hold(swung, confidence_without("left_elbow"), 0.1)
    placed, _ = hold(person, confidence_without("left_wrist"), 0.2)
    np.testing.assert_allclose(placed, person)


def test_between_the_thresholds_a_joint_stays_as_it_was(person):
    hold = Hold(H36M17, seen_above=0.3, lost_below=0.2)
    histories = []
    for i, value in enumerate((0.25, 0.3, 0.25, 0.2, 0.19, 0.25, 0.31)):
        _, is_seen = hold(person, confidence_without("nose", value=value), i / 50)
        histories.append(bool(is_seen[at("nose")]))
    assert histories == [False, True, True, True, False, False, True]


def test_a_joint_never_seen_sits_at_its_parent(person):
    placed, _ = Hold(H36M17)(person, confidence_without("right_elbow", "right_wrist"), 0.0)
    np.testing.assert_array_equal(placed[at("right_wrist")], person[at("right_shoulder")])
    np.testing.assert_array_equal(placed[at("right_elbow")], person[at("right_shoulder")])


def test_a_hidden_root_moves_as_the_joints_still_seen(person):
    hold = Hold(H36M17)
    hold(person, np.ones(17), 0.0)
    confidence = confidence_without("pelvis", "spine", "left_hip", "left_knee")
    for i in range(1, 4):
        now = person + [0.5 * i, -0.25 * i]
        now[confidence == 0] = np.nan
        placed, is_seen = hold(now, confidence, i / 50)
        np.testing.assert_allclose(placed, person + [0.5 * i, -0.25 * i])
        assert not is_seen[0]


def test_a_joint_that_returns_from_a_guessed_place_does_not_throw_a_hidden_root(person):
    hold = Hold(H36M17)
    hold(person, np.ones(17), 0.0)
    waved = person.copy()
    waved[at("left_wrist")] += 50
    hold(waved, confidence_without("pelvis", "left_wrist"), 0.02)
    placed, _ = hold(waved, confidence_without("pelvis"), 0.04)
    np.testing.assert_allclose(placed[0], person[0])


@pytest.mark.parametrize("confidence", [np.zeros(17), confidence_without("pelvis", "left_hip", "right_hip", "thorax")])
def test_a_body_that_cannot_be_placed_is_none(person, confidence):
    assert Hold(H36M17)(person, confidence, 0.0) is None


def test_a_frame_that_cannot_be_placed_changes_nothing(person):
    hold, other = Hold(H36M17), Hold(H36M17)
    for h in (hold, other):
        h(person, np.ones(17), 0.0)
    assert hold(np.full((17, 2), np.nan), np.zeros(17), 0.1) is None
    hidden = confidence_without("pelvis", "nose", value=0.25)
    for a, b in zip(hold(person + 1, hidden, 0.2), other(person + 1, hidden, 0.2)):
        np.testing.assert_array_equal(a, b)


def test_after_a_reset_hold_knows_no_one(person):
    hold = Hold(H36M17)
    hold(person, np.ones(17), 0.0)
    hold.reset()
    assert hold(person, confidence_without("pelvis", "left_hip", "right_hip", "thorax"), 0.1) is None
    placed, is_seen = hold(person, confidence_without("head", value=0.25), 0.2)
    np.testing.assert_array_equal(placed[at("head")], person[at("nose")])
    assert not is_seen[at("head")]


def test_hold_gives_away_nothing_of_its_own(person):
    hold = Hold(H36M17)
    for i in range(3):
        keypoints = person.copy()
        for array in (*hold(keypoints, confidence_without("nose") if i else np.ones(17), i / 50), keypoints):
            array[:] = 0
    placed, _ = hold(person, confidence_without("nose"), 1.0)
    np.testing.assert_allclose(placed, person)


def test_hold_works_on_any_tree(person):
    hold = Hold(H36M16)
    hold(person[:16], np.ones(16), 0.0)
    confidence = np.ones(16)
    confidence[H36M16.index("head")] = 0
    np.testing.assert_allclose(hold(person[:16] + 2, confidence, 0.1)[0], person[:16] + 2)


@pytest.mark.parametrize("settings, message", [
    (dict(seen_above=0.1, lost_below=0.2), "lost_below is 0.2; wanted a number from 0 to 0.1"),
    (dict(hold_s=-1), "hold_s is -1; wanted 0 or more"), (dict(lost_below=-0.1), "lost_below is -0.1"),
    (dict(lost_below=math.nan), "lost_below is nan"), (dict(hold_s=math.nan), "hold_s is nan"),
    (dict(seen_above=math.nan), "seen_above is nan"), (dict(seen_above=0), "seen_above is 0; wanted"),
    (dict(seen_above=7), "seen_above is 7; wanted a number above 0, at most 1")])
def test_hold_refuses_impossible_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        Hold(H36M17, **settings)


def test_one_euro_refuses_another_type_of_number_and_forgets_nothing():
    smoothing, other = OneEuro(0.5), OneEuro(0.5)
    for s in (smoothing, other):
        s(np.zeros(3, np.float32), 1.0)
    with pytest.raises(ValueError, match="float64 after float32; reset"):
        smoothing(np.zeros(3), 1.1)
    np.testing.assert_array_equal(smoothing(np.ones(3, np.float32), 1.1), other(np.ones(3, np.float32), 1.1))
