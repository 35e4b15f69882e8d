import warnings

import numpy as np
import pytest

from edgepose.clip import Clip, load_clip, read_people

PEOPLE_PX = np.random.default_rng(0).uniform(100, 400, (5, 3, 17, 3))
MINE = {"coco17": PEOPLE_PX, "fps": 30, "image_size": (640, 480)}


def write_clip(path, **arrays):
    np.savez(path / "clip.npz", **arrays)
    return path / "clip.npz"


def test_a_file_of_several_people_is_a_clip_of_each(tmp_path):
    reference_m = np.random.default_rng(1).normal(size=(5, 3, 17, 3))
    people = read_people(write_clip(tmp_path, **MINE, reference_m=reference_m))
    assert len(people) == 3
    for person, clip in enumerate(people):
        np.testing.assert_array_equal(clip.keypoints_px, PEOPLE_PX[:, person])
        np.testing.assert_array_equal(clip.reference_m, reference_m[:, person])
        assert (clip.layout, clip.image_size, clip.fps) == ("coco17", (640, 480), 30)


def test_a_file_of_several_people_is_no_clip_of_one(tmp_path):
    with pytest.raises(ValueError, match="clip.npz has 3 people; wanted one"):
        load_clip(str(write_clip(tmp_path, **MINE)))
    alone = load_clip(str(write_clip(tmp_path, **{**MINE, "coco17": PEOPLE_PX[:, :1]})))
    np.testing.assert_array_equal(alone.keypoints_px, PEOPLE_PX[:, 0])


def test_a_file_says_its_frames_times_and_their_rate_follows(tmp_path):
    times_s = np.array([2.0, 2.1, 2.2, 2.9, 3.0])
    path = write_clip(tmp_path, coco17=PEOPLE_PX[:, 0], image_size=(640, 480), timestamps_s=times_s)
    clip = read_people(path)[0]
    assert [clip.time_of(frame) for frame in range(5)] == times_s.tolist() and clip.fps == pytest.approx(10)
    even = read_people(path, fps=30)[0]
    assert even.timestamps_s is None and even.time_of(3) == 0.1


def test_the_frame_at_a_time_is_the_nearest():
    clip = Clip("made", PEOPLE_PX[:, 0], "coco17", (640, 480), 10.0, timestamps_s=np.array([2.0, 2.1, 2.2, 2.9, 3.0]))
    assert [clip.frame_at(time_s) for time_s in (0, 2.04, 2.06, 2.5, 2.6, 2.94, 9)] == [0, 0, 1, 2, 3, 3, 4]
    assert [Clip("made", PEOPLE_PX[:, 0], "coco17", (640, 480), 10.0).frame_at(time_s)
            for time_s in (-1, 0.16, 9)] == [0, 2, 4]


def test_an_earlier_time_begins_another_recording_and_a_repeated_one_is_left_out(tmp_path):
    with pytest.warns(UserWarning, match="clip.npz: timestamps_s goes from 2 to 2 at frame 3, and 1 "
                      "times more: an earlier time begins another"):
        clip = read_people(write_clip(tmp_path, coco17=PEOPLE_PX[:, 0], image_size=(640, 480),
                                      timestamps_s=[1, 1.5, 2, 2, 1.5]))[0]
    assert [frames.tolist() for frames in clip.recordings] == [[0, 1, 2], [4]] and clip.fps == 2
    assert clip.frames_at(np.array([1.5, 2.0, 0.0])).tolist() == [1, 2, 0]
    assert clip.frames_at(np.array([1.5, 2.0]), clip.recordings[1]).tolist() == [4, 4]


@pytest.mark.parametrize("odd, message", [
    ({"timestamps_s": np.array([9, 8, 7, 6, 5], np.uint32)},
     "timestamps_s goes from 9 to 8 and never forward; wanted increasing seconds"),
    ({"timestamps_s": [0, 1]}, r"timestamps_s is int64 of shape \(2,\)"),
    ({"timestamps_s": [0, 1, 2, 3, np.nan]}, r"wanted finite seconds, \(5,\)"),
    ({"timestamps_s": np.arange(5) * 33},
     r"clip.npz: fps is 30, but its timestamps_s are 33 apart, 0.0303 a second: wanted seconds, or one"),
    ({"timestamps_s": np.arange(5) / 25}, "fps is 30, but its timestamps_s are 0.04 apart, 25 a second"),
    ({"fps": 0.5}, "clip.npz: fps is 0.5; wanted a number from 1 to 1000"),
    ({"fps": 30000}, "fps is 30000.0; wanted a number from 1 to 1000"),
    ({"coco17": PEOPLE_PX[:0]}, r"clip.npz has no frames: the keypoints have shape \(0, 3, 17, 3\)"),
    ({"coco17": PEOPLE_PX[:, :0]}, r"clip.npz has no people: the keypoints have shape \(5, 0, 17, 3\)"),
    ({"coco17": PEOPLE_PX[None]},
     r"float64 of shape \(1, 5, 3, 17, 3\); wanted numbers, \(frames, K, 2 or 3\) or \(frames, people, K, 2 or 3\)"),
    ({"reference_m": np.zeros((5, 17, 3))},
     r"reference_m is float64 of shape \(5, 17, 3\); wanted finite metres, \(5, 3, 17, 3\)"),])
def test_what_is_odd_in_a_file_is_named(tmp_path, odd, message):
    with pytest.raises(ValueError, match=message):
        read_people(write_clip(tmp_path, **{**MINE, **odd}))


@pytest.mark.parametrize(
    "times_s", [np.round(np.arange(5) / 30, 3), [0, 1 / 30, 2 / 30, 2, 2 + 1 / 30], [0, 0.02, 0.08, 0.1, 4 / 30]])
def test_times_may_be_rounded_uneven_or_missing_beside_their_rate(tmp_path, times_s):
    assert read_people(write_clip(tmp_path, **MINE, timestamps_s=times_s))[0].fps == 30


@pytest.mark.parametrize("array", ["coco17", "fps"])
def test_nobody_is_advised_to_run_what_a_file_holds(tmp_path, array):
    path = write_clip(tmp_path, **{**MINE, array: np.array({}, dtype=object)})
    for content, reason in ((path.read_bytes(), f"{array}.npy holds Python objects"),
                            (b"neither", "it is cut off, of another format, or holds Python objects")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"clip.npz is no .npz file of arrays \({reason}\)$"):
            read_people(path)


H36M, REST = {"h36m17": PEOPLE_PX + 1}, {"fps": 30, "image_size": (640, 480)}
PLAIN = {"keypoints": PEOPLE_PX, **REST}


@pytest.mark.parametrize("arrays, layout_option, layout", [
    ({**PLAIN, "layout": "h36m17"}, None, "h36m17"), ({**PLAIN, "layout": "h36m17"}, "h36m17", "h36m17"),
    (PLAIN, "coco17-demo", "coco17-demo"), ({**PLAIN, **H36M, "layout": "coco17"}, None, "coco17"),
    ({**MINE, "layout": "coco17", "keypoints": PEOPLE_PX}, None, "coco17"),
    ({**PLAIN, "layout": "h36m17"}, "coco17", "coco17"), (MINE, "coco17-demo", "coco17-demo"),
    ({**PLAIN, "layout": "BODY_17"}, "h36m17", "h36m17"), ({**MINE, "layout": "coco17"}, None, "coco17"),
    ({**MINE, **H36M}, "coco17", "coco17"), ({**PLAIN, **H36M, "layout": "coco17"}, "coco17", "coco17"),])
def test_a_file_says_the_layout_of_its_keypoints(tmp_path, arrays, layout_option, layout):
    clip = read_people(write_clip(tmp_path, **arrays), layout_option)[0]
    assert clip.layout == layout
    np.testing.assert_array_equal(clip.keypoints_px, PEOPLE_PX[:, 0])


@pytest.mark.parametrize("arrays, layout, message", [
    ({**PLAIN, "layout": "h36m17"}, "body25",
     "clip.npz: --layout says 'body25', of 25 keypoints; the file has 17 of h36m17"),
    (MINE, "body25", "clip.npz: --layout says 'body25', of 25 keypoints; the file has 17 of coco17"),
    ({**MINE, **H36M}, "body25", "clip.npz has the arrays coco17, .*; wanted 'body25' or `keypoints`"),
    ({**MINE, **H36M, "layout": ["coco17"]}, None, "of the layouts coco17, h36m17: choose one"),
    ({**MINE, **H36M, "layout": "BODY_25B"}, None, "of the layouts coco17, h36m17: choose one"),
    ({**MINE, **H36M}, None, "clip.npz has keypoints of the layouts coco17, h36m17: choose one with --layout"),
    ({**PLAIN, "layout": "coco"}, None, "clip.npz: layout is 'coco'; wanted one of coco17,"),
    ({**PLAIN, "layout": 17}, None, "layout is 17; wanted"),
    ({**PLAIN, "layout": ["coco17"]}, None, r"layout is \['coco17'\]; wanted one of"),
    ({**MINE, "layout": "h36m17"}, None,
     "clip.npz says layout 'h36m17' and has the arrays coco17, .*; wanted `keypoints` of that layout"),
    (PLAIN, None, "clip.npz: say the layout of its `keypoints`"),])
def test_a_layout_that_is_not_clear_is_an_error(tmp_path, arrays, layout, message):
    with pytest.raises(ValueError, match=message):
        read_people(write_clip(tmp_path, **arrays), layout)


def test_keypoints_of_a_layout_nobody_knows_beside_known_ones_are_streamed_and_it_is_said(tmp_path):
    path = write_clip(tmp_path, **MINE, keypoints=np.concatenate([PEOPLE_PX, PEOPLE_PX[..., :8, :]], axis=-2),
                      layout="BODY_25B")
    with pytest.warns(UserWarning, match=r"clip.npz: its layout 'BODY_25B' is not known; its array 'coco17' is taken"):
        clip = read_people(path)[0]
    assert clip.layout == "coco17"
    np.testing.assert_array_equal(clip.keypoints_px, PEOPLE_PX[:, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_people(path, "body25")[0].keypoints_px.shape == (5, 25, 3)  # --layout decides


def test_what_no_clip_has_is_not_read(tmp_path):
    class Unreadable:
        def __reduce__(self):
            return pytest.fail, ("read",)

    assert len(read_people(write_clip(tmp_path, **MINE, notes=np.array(Unreadable(), dtype=object)))) == 3
