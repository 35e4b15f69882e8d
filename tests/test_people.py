"""Everybody in a picture: ids that stay, poses that are those of a stream each, and what is left out."""

import warnings

import numpy as np
import pytest
from people import DT, SIZE, FakeEngine, same

import edgepose
from edgepose.clip import load_clip
from edgepose.people import People
from edgepose.stream import Stream

CLIP = load_clip("balance_cam2").keypoints_px  # 100 frames of a man who is in the picture all the time
HEIGHT_PX = np.ptp(CLIP[0, :, 1])


def at(x, y=0.0, scale=0.3, start=0):
    """The man as somebody else: smaller, at another place and moment of the film, in px."""
    clip = np.concatenate([CLIP, CLIP[::-1]])[start:start + len(CLIP)]
    middle = clip[0, :, :2].mean(axis=0)
    return np.concatenate([(clip[..., :2] - middle) * scale + [x, 540 + y], clip[..., 2:]], axis=-1)


TWO = np.stack([at(400), at(1400, start=40)], axis=1)  # (F, 2, 17, 3)
SMALL_PX = 0.3 * HEIGHT_PX


def people(engine=None, **options):
    return People(engine or FakeEngine(1), "coco17", SIZE, **options)


def ids_of(found):
    return [identity for identity, _ in found]


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("with_ids", [False, True])
def test_everybody_has_the_poses_of_a_stream_of_their_own_in_any_order(with_ids):
    engine, rng = FakeEngine(9), np.random.default_rng(0)
    followed, streams = people(engine, delay_frames=2), [Stream(engine, "coco17", SIZE, delay_frames=2) for _ in TWO[0]]
    calls = []
    for n, frame in enumerate(TWO):
        order = rng.permutation(2) if n else np.arange(2)
        expected = [stream.push(person, n * DT) for stream, person in zip(streams, frame)]
        engine.calls.clear()
        found = dict(followed.push(frame[order], n * DT, ids=7 + order if with_ids else None))
        calls.append(len(engine.calls))
        names = [7, 8] if with_ids else [0, 1]
        assert followed.ids.tolist() == [names[person] for person in order]
        assert all(same(found.get(name), pose) for name, pose in zip(names, expected))
    assert max(calls) == 1, "one call of the engine for all"
    found, waiting = followed.flush(), [stream.flush() for stream in streams]
    assert all(same(pose, waiting[0 if identity in (0, 7) else 1].pop(0)) for identity, pose in found)
    assert waiting == [[], []] and followed.flush() == []


def test_nobody_and_rows_without_keypoints_are_no_people():
    followed = people()
    assert followed.push([], 0.0) == followed.push(None, 0.1) == []
    padded = np.concatenate([np.zeros((1, 17, 3)), TWO[0], np.zeros((2, 17, 3))])
    assert ids_of(followed.push(padded, 0.2)) == [0, 1]
    assert followed.ids.tolist() == [-1, 0, 1, -1, -1]
    assert not any(followed.notices.values())


@pytest.mark.parametrize(("change", "error", "message"), [
    (lambda k, t, i: (np.where(np.arange(17)[:, None] == 3, [np.inf, 1, 1], k), t, i), ValueError,
     "person 0: keypoint 3 is"),
    (lambda k, t, i: (k[:, :5], t, i), ValueError,
     r"person 0: keypoints_px has shape \(5, 3\); layout \"coco17\" needs \(17, 2\)"),
    (lambda k, t, i: (k[0], t, i), ValueError, r"shape \(17, 3\); wanted \(N, K, 2\) or \(N, K, 3\)"),
    (lambda k, t, i: (k / 1e4, t, i), ValueError, "person 0: keypoints_px are all within"),
    (lambda k, t, i: (k, t - 1, i), ValueError, "timestamp_s is -0.97"),
    (lambda k, t, i: (k, float("nan"), i), ValueError, "timestamp_s is nan"),
    (lambda k, t, i: (k, "now", i), TypeError, "timestamp_s is 'now'"),
    (lambda k, t, i: (k, t, [4, 4]), ValueError, "ids has 4 twice, for people 0 and 1"),
    (lambda k, t, i: (k, t, [4, -2]), ValueError, r"ids\[1\] is -2; wanted 0 or more"),
    (lambda k, t, i: (k, t, [4]), ValueError, r"ids has shape \(1,\) for 2 people"),
    (lambda k, t, i: (k, t, [4, 0.5]), TypeError, r"ids is \[4, 0.5\]; wanted whole numbers"),
    (lambda k, t, i: (k, t, ["a", "b"]), (TypeError, ValueError), "a"),
    (lambda k, t, i: (k, t, None), ValueError, "ids is missing, but came with the frames before"),
])
def test_bad_input_is_refused_and_changes_nobody(change, error, message):
    spoilt, twins = people(), people()
    for n in range(2):
        for both in (spoilt, twins):
            both.push(TWO[n], n * DT, ids=[4, 9])
    with pytest.raises(error, match=message):
        spoilt.push(*change(TWO[2], 2 * DT - 0.01, [4, 9]))
    for n in range(2, 6):
        mine, theirs = (both.push(TWO[n], n * DT, ids=[4, 9]) for both in (spoilt, twins))
        assert ids_of(mine) == ids_of(theirs) == [4, 9]
        assert all(same(a, b) for (_, a), (_, b) in zip(mine, theirs))
    assert spoilt.notices == twins.notices


def test_ids_that_come_late_are_refused():
    followed = people()
    followed.push(TWO[0], 0.0)
    with pytest.raises(ValueError, match="ids came, but not with the frames before"):
        followed.push(TWO[1], DT, ids=[1, 2])
    assert followed.push([], DT) != [] and followed.push(TWO[2], 2 * DT, ids=None)


@pytest.mark.parametrize(("option", "message"), [
    ({"most_people": 0}, "most_people"), ({"return_s": -1}, "return_s"),
    ({"seen_above": 2}, "seen_above"), ({"most_people": 1.5}, "most_people")])
def test_options_out_of_range_are_refused(option, message):
    with pytest.raises((ValueError, TypeError), match=message):
        people(**option)


@pytest.mark.parametrize(("away_s", "comes_back"), [(0.4, True), (1.5, True), (3.5, False)])
def test_who_comes_back_in_time_is_the_same_person(away_s, comes_back):
    followed = people(return_s=2.0)
    for n in range(20):
        followed.push(TWO[n], n * DT)
    left = round(away_s / DT)
    for n in range(20, 20 + left):
        followed.push(TWO[min(n, 99), :1], n * DT)
    followed.push(TWO[20][::-1], (20 + left) * DT)
    assert followed.ids.tolist() == [1 if comes_back else 2, 0]


def test_ids_of_a_caller_stay_theirs_however_long_they_are_away():
    followed = people(return_s=0.5)
    assert ids_of(followed.push(TWO[0], 0.0, ids=np.array([30, 12]))) == [30, 12]
    followed.push(TWO[1, :1], 9.0, ids=[30])
    found = followed.push(TWO[2], 9.02, ids=np.array([30, 12], dtype=np.float32))
    assert ids_of(found) == [30, 12] and found[1][1].was_reset


def test_most_people_keep_their_places_and_others_are_left_out_and_counted():
    everybody = np.stack([at(x) for x in (300, 900, 1500)], axis=1)
    followed = people(most_people=2, max_gap_s=0.1)
    for n in range(10):
        assert ids_of(followed.push(everybody[n], n * DT)) == [0, 1]
        assert followed.ids.tolist() == [0, 1, -1]
    assert followed.notices["most_people"] == 10
    for n in range(10, 20):
        followed.push(everybody[n, 1:], n * DT)
    assert followed.ids.tolist() == [1, 2], "the place of one who has been away for longer than max_gap_s is taken"


def test_two_detections_of_a_person_are_one():
    followed, rng = people(), np.random.default_rng(0)
    for n in range(40):
        again = TWO[n, 1:] + np.append(rng.normal(0, 0.01 * SMALL_PX, 2), 0)
        assert ids_of(followed.push(np.concatenate([TWO[n], again])[rng.permutation(3)], n * DT)) == [0, 1]
        assert sorted(followed.ids.tolist()) == [-1, 0, 1]
    assert followed.notices["duplicate_person"] == 40


def test_a_pose_across_two_people_is_nobodys():
    near = np.stack([at(800), at(800 + 0.6 * SMALL_PX, start=40)], axis=1)
    followed, legs = people(), slice(11, 17)
    for n in range(30):
        frame = near[n]
        if n >= 20:
            mixed = frame[0].copy()
            mixed[legs] = frame[1, legs]
            frame = np.stack([mixed, frame[1]])
        followed.push(frame, n * DT)
        assert followed.ids.tolist() == ([0, 1] if n < 20 else [-1, 1]) or n >= 24
    assert followed.notices["across_people"] >= 4


def test_a_camera_that_jumps_moves_everybody_and_resets_nobody():
    rng, followed, resets = np.random.default_rng(0), people(FakeEngine(9), rate_hz=None), 0
    crowd = np.stack([at(300 + 350 * i, start=15 * i, scale=0.2) for i in range(4)], axis=1)
    for n in range(50):
        shift = np.append(rng.normal(0, 0.5 * SMALL_PX, 2) if n >= 10 else np.zeros(2), 0)
        found = followed.push((crowd[n] + shift)[rng.permutation(4)] if n else crowd[n], n * DT)
        resets += sum(pose.was_reset for _, pose in found)
        assert ids_of(found) == [0, 1, 2, 3]
        assert sorted(followed.ids.tolist()) == [0, 1, 2, 3]
    assert resets == 4, "the first pose of each"


def test_a_camera_that_pans_moves_those_who_are_hidden():
    followed = people()
    crowd = np.stack([at(900 + 300 * i, start=15 * i, scale=0.2) for i in range(3)], axis=1)
    for n in range(60):
        shift = np.array([-8.0 * n, 0, 0])  # 400 px/s: a person's height in half a second
        frame = crowd[n] + shift
        followed.push(frame if n < 10 or n >= 50 else frame[:2], n * DT)
    assert followed.ids.tolist() == [0, 1, 2]


def test_another_recording_and_a_reset_begin_anew_with_new_ids():
    followed = people(on_bad_time="reset")
    assert ids_of(followed.push(TWO[0], 5.0)) == [0, 1]
    assert ids_of(followed.push(TWO[0], 1.0)) == [2, 3]
    followed.reset()
    found = followed.push(TWO[0], 0.0)
    assert ids_of(found) == [4, 5] and all(pose.was_reset for _, pose in found)
    refusing = people()
    refusing.push(TWO[0], 5.0)
    refusing.reset()
    assert ids_of(refusing.push(TWO[0], 1.0)) == [2, 3]
    dropping = people(on_bad_time="drop")
    dropping.push(TWO[0], 1.0)
    assert dropping.push(TWO[1], 0.5) == [] and dropping.ids.tolist() == [-1, -1] and dropping.notices["bad_time"] == 1


def test_people_are_pushed_after_a_flush_and_not_within():
    engine = FakeEngine(9)
    followed = people(engine, delay_frames=4)
    for n in range(6):
        followed.push(TWO[n], n * DT)
    assert len(followed.flush()) == 8
    assert followed.push(TWO[0], 0.0) == []


def test_what_is_left_out_is_one_warning_on_the_callers_line():
    followed = people(most_people=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for n in range(3):
            followed.push(TWO[n], n * DT)
    assert [(str(w.message), w.filename) for w in caught] == [
        ("person 1 of the frame at 0 s is left out: 1 people are followed already (option most_people)", __file__)]


def test_people_say_who_they_are_and_cannot_be_copied():
    followed = people()
    assert repr(followed).startswith("People(") and repr(followed).endswith("'coco17', (1920, 1080))")
    with pytest.raises(TypeError, match="cannot be copied"):
        edgepose.People.__reduce__(followed)
