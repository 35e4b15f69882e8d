"""Left and right that a detector exchanges between two frames are put back; where nothing is exchanged nothing is."""

import warnings

import c_package as c
import numpy as np
import pytest
from models import tiny_lifter, write_engine
from people import SIZE, FakeEngine

import edgepose
from edgepose.clip import load_clip
from edgepose.metrics import mpjpe
from edgepose.stream import Stream

EXCHANGED = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]  # coco17
CLIPS = ("balance_cam1", "balance_cam2", "balance_cam3")


def clip_of(name, exchanged=slice(0)):
    """[(keypoints_px, timestamp_s)] with left and right exchanged in some frames."""
    clip = load_clip(name)
    keypoints_px = clip.keypoints_px.copy()
    keypoints_px[exchanged] = keypoints_px[exchanged][:, EXCHANGED]
    return [(keypoints_px[i], clip.time_of(i)) for i in range(len(keypoints_px))], clip


@pytest.fixture(scope="module")
def ampose():
    return edgepose.load("ampose")


def lifted(frames, clip, engine, **options):
    """(the error in mm to the clip's reference, how many frames were put right, the poses)."""
    stream = Stream(engine, clip.layout, clip.image_size, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        poses = list(stream.lift(frames))
    reference = clip.reference_m[[clip.frame_at(pose.timestamp_s) for pose in poses]]
    return (mpjpe(1e3 * np.stack([pose.joints_m for pose in poses]), 1e3 * reference),
            stream.notices["exchanged_sides"], poses)


@pytest.mark.parametrize("name", CLIPS)
def test_a_clean_clip_is_left_as_it_is(name, ampose):
    frames, clip = clip_of(name)
    error_mm, count, poses = lifted(frames, clip, ampose)
    assert count == 0 and all(np.array_equal(a.joints_m, b.joints_m)
                              for a, b in zip(poses, lifted(frames, clip, ampose, mend_sides=False)[2]))


@pytest.mark.parametrize("name", CLIPS)
def test_exchanged_sides_cost_nothing(name, ampose):
    (clean, clip), (frames, _) = clip_of(name), clip_of(name, slice(30, 60))
    clean_mm, (mended_mm, count, poses), (taken_mm, _, _) = (lifted(clean, clip, ampose)[0],
                                                             lifted(frames, clip, ampose),
                                                             lifted(frames, clip, ampose, mend_sides=False))
    assert mended_mm <= clean_mm + 10 and count == 30 and taken_mm > clean_mm + 30
    assert sum(pose.was_reset for pose in poses) == 1


@pytest.mark.parametrize("exchanged", [slice(20, 21), slice(1, 2), slice(50, 60, 2), slice(90, 100)])
def test_however_often_the_detector_changes_its_mind(exchanged, ampose):
    (clean, clip), (frames, _) = clip_of("balance_cam2"), clip_of("balance_cam2", exchanged)
    (expected_mm, _, _), (error_mm, count, _) = lifted(clean, clip, ampose), lifted(frames, clip, ampose)
    assert error_mm == pytest.approx(expected_mm, abs=0.5) and count == len(range(*exchanged.indices(100)))


def test_a_detector_that_was_wrong_at_first_is_believed_soon():
    frames, clip = clip_of("balance_cam2", slice(0, 6))
    engine = FakeEngine(1)
    poses, plain = (lifted(some, clip, engine)[2] for some in (frames, clip_of("balance_cam2")[0]))
    alike = [np.array_equal(a.keypoints_norm, b.keypoints_norm) for a, b in zip(poses, plain)]
    assert not any(alike[:6]) and all(alike[30:])
    assert [n for n, pose in enumerate(poses) if pose.was_reset] == [0,
                                                                     alike.index(True)]  # the wrong past is forgotten


def test_at_a_low_rate_a_person_may_have_turned():
    frames, clip = clip_of("balance_cam2", slice(30, 60))
    assert lifted(frames[::8], clip, FakeEngine(1))[1] == 0


def test_the_first_exchange_is_said_once():
    frames, clip = clip_of("balance_cam2", slice(30, 60))
    stream = Stream(FakeEngine(1), clip.layout, clip.image_size)
    with pytest.warns(UserWarning) as caught:
        for frame in frames:
            stream.push(*frame)
    assert [str(w.message) for w in caught] == ["left and right are exchanged between two frames, at 0.5 s: they are "
                                                "exchanged back (option mend_sides)"]


def test_hidden_sides_and_another_person_exchange_nothing():
    frames, clip = clip_of("balance_cam2", slice(30, 60))
    frames = [(keypoints_px.copy() + [600.0 * (n >= 30), 0, 0], t) for n, (keypoints_px, t) in enumerate(frames)]
    stream = Stream(FakeEngine(1), clip.layout, SIZE)
    for keypoints_px, t in frames[:60]:
        stream.push(keypoints_px, t)
    assert stream.notices["exchanged_sides"] == 0
    frames, _ = clip_of("balance_cam2", slice(30, 60))
    for keypoints_px, _ in frames:
        keypoints_px[[5, 7, 9, 13, 15]] = (np.nan, np.nan, 0)
    assert lifted(frames, clip, FakeEngine(1))[1] == 0


@pytest.mark.slow
def test_c_puts_the_sides_back_too(tmp_path):
    engine = c.Engine(write_engine(tmp_path / "tiny.epose", tiny_lifter(), "fp16"))
    (clean, clip), (frames, _) = clip_of("balance_cam2"), clip_of("balance_cam2", slice(30, 60))
    streams = [c.Stream(engine, clip.layout, clip.image_size, mend_sides=mends) for mends in (1, 1, 0)]
    poses = [[stream.push(*frame) for frame in some] for stream, some in zip(streams, (clean, frames, frames))]
    assert all(np.array_equal(a.keypoints_norm, b.keypoints_norm) for a, b in zip(*poses[:2]))
    assert not np.array_equal(poses[0][40].keypoints_norm, poses[2][40].keypoints_norm)
    assert [stream.notices()["exchanged_sides"][0] for stream in streams] == [0, 30, 0]
