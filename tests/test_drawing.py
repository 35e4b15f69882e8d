import sys

import matplotlib
import numpy as np
import pytest
from PIL import Image

import edgepose
from edgepose.camera import screen_to_px
from edgepose.cli import main
from edgepose.clip import Clip, load_clip, stream_clip
from edgepose.show import drawing
from edgepose.skeleton import H36M16, H36M17

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def clip():
    return load_clip("balance_cam1")


@pytest.fixture(scope="module")
def poses(clip):
    return stream_clip(edgepose.load("ampose"), clip)[0]


def pose_at(timestamp_s, shift_m=0.0, skeleton=H36M17):
    joints = len(skeleton)
    joints_m = np.random.default_rng(0).uniform(-0.5, 0.5, (joints, 3)).astype(np.float32) + shift_m
    return edgepose.Pose(joints_m, timestamp_s, joints_m[:, :2] / 2, np.ones(joints), np.arange(joints) % 5 > 0,
                         skeleton, False)


def clip_of(fps, frames=10, reference_m=None):
    return Clip("made", np.zeros((frames, 17, 2)), "coco17", (640.0, 480.0), fps, reference_m)


def has_colour(frame, colour, reach=40):
    wanted = np.array([int(colour[i:i + 2], 16) for i in (1, 3, 5)])
    return (np.abs(frame.astype(int) - wanted).max(-1) < reach).any()


def test_left_is_red_right_is_blue_and_a_bone_has_the_colour_of_its_end():
    colours = dict(zip(H36M17.bones, drawing.bone_colours(H36M17)))
    end = {H36M17.joints[joint]: colour for (_, joint), colour in colours.items()}
    assert end["left_wrist"] == end["left_hip"] == "#d1495b" and end["right_knee"] == "#2a6fbb"
    assert end["spine"] == drawing.MIDLINE


def test_the_lines_lie_where_the_joints_are():
    from matplotlib.figure import Figure

    figure, pose = Figure(), pose_at(0.0)
    flat, solid = figure.add_subplot(121), figure.add_subplot(122, projection="3d")
    keypoints_px = screen_to_px(pose.keypoints_norm, (640, 480))
    for axes, joints in ((flat, keypoints_px), (solid, pose.joints_m)):
        lines = drawing._lines(axes, drawing.bone_colours(H36M17), 2.0)
        drawing._place(lines, H36M17, joints)
        for line, bone, colour in zip(lines, H36M17.bones, drawing.bone_colours(H36M17)):
            ends = joints[list(bone)]
            assert line.get_color() == colour
            if axes is flat:
                np.testing.assert_allclose(line.get_xydata(), ends)
            else:  # matplotlib's y is forward and its z is up
                np.testing.assert_allclose(np.transpose(line.get_data_3d()), ends[:, [0, 2, 1]])
    drawing._frame_3d(solid, 0.8)
    assert solid.get_zlim() == (0.8, -0.8) and solid.get_xlim() == solid.get_ylim() == (-0.8, 0.8)


@pytest.mark.parametrize("fps, rate_hz, frames",
                         [(60, 15, 25), (50, 12.5, 25), (15, 15, 100), (8, 8, 100), (29.97, 14.985, 50)])
def test_a_film_shows_every_nth_frame_up_to_its_rate(fps, rate_hz, frames):
    poses = [pose_at(i / fps) for i in range(100)]
    rate, shown_poses = drawing.film_poses(poses, fps)
    assert rate == pytest.approx(rate_hz) and len(shown_poses) == frames
    step = round(fps / rate_hz)
    assert [poses.index(pose) for pose in shown_poses] == list(range(0, 100, step))


def test_a_film_shows_nobody_while_nobody_was_there():
    poses = [pose_at(i / 15) for i in (*range(5), *range(20, 25))]
    _, shown_poses = drawing.film_poses(poses, 15)
    frames_drawn = 4 + int(drawing.HELD_S * 15)
    is_empty = [False] * (frames_drawn + 1) + [True] * (19 - frames_drawn) + [False] * 5
    assert [pose is None for pose in shown_poses] == is_empty
    frames = list(drawing.film_frames(clip_of(15), poses, shown_poses, 15))
    for colour in drawing.SIDES.values():  # below the legend
        assert has_colour(frames[0][30:], colour) and has_colour(frames[24][30:], colour)
        assert not has_colour(frames[15][30:], colour)


def test_a_frame_of_a_film_is_drawn_from_its_own_pose_alone():
    poses = [pose_at(0.0), pose_at(1 / 15, 0.2), pose_at(2 / 15)]
    first, second, third = drawing.film_frames(clip_of(15), poses, poses, 15)
    below_clock = np.s_[:440]
    assert first.shape == (drawing.FILM_PX[1], drawing.FILM_PX[0], 3) and first.dtype == np.uint8
    assert (first[below_clock] != second[below_clock]).any() and (first[below_clock] == third[below_clock]).all()


def test_the_pictures_behind_the_keypoints_are_those_of_their_frames():
    pictures = [np.full((48, 64, 3), value, np.uint8) for value in (250, 180, 90)]
    poses = [pose_at(i / 15) for i in range(3)]
    middle_left = [frame[100:380, 90:430] for frame in drawing.film_frames(clip_of(15), poses, poses, 15, pictures)]
    for shown, picture in zip(middle_left, pictures):
        assert np.median(shown) == picture[0, 0, 0] and has_colour(shown, drawing.SIDES["left_"])


@pytest.mark.parametrize("skeleton", [H36M17, H36M16])
def test_the_reference_is_drawn_in_the_joints_of_the_pose(skeleton, tmp_path):
    clip = clip_of(15, reference_m=np.random.default_rng(1).normal(size=(10, 17, 3)))
    pose = pose_at(3 / 15, skeleton=skeleton)
    reference = drawing._reference_of(clip, pose)
    for i, joint in enumerate(skeleton.joints):
        np.testing.assert_array_equal(reference[i], clip.reference_m[3, H36M17.index(joint)])
    drawing.plot_poses(clip, [pose] * 3, tmp_path / "a.png")
    drawing.save_film(clip, [pose], tmp_path / "a.gif")


def test_the_command_writes_a_gif_that_keeps_time(tmp_path, capsys):
    assert main(["stream", "--save", str(tmp_path / "a.gif")]) == 0
    assert "25 frames" in capsys.readouterr().out
    with Image.open(tmp_path / "a.gif") as film:
        assert film.n_frames == 25 and film.size == drawing.FILM_PX
        lengths_ms = []
        for i in range(film.n_frames):
            film.seek(i)
            lengths_ms.append(film.info["duration"])
            assert has_colour(np.array(film.convert("RGB"))[30:], drawing.SIDES["right_"])
    assert sum(lengths_ms) == pytest.approx(1000 * 25 / 15, abs=10)


def test_an_mp4_has_the_frames_and_the_rate(clip, poses, tmp_path):
    av = pytest.importorskip("av", reason="needs PyAV, of the extra `plot`")
    assert drawing.save_film(clip, poses, tmp_path / "a.mp4") == 25
    with av.open(str(tmp_path / "a.mp4")) as film:
        stream = film.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(stream)]
        assert stream.average_rate == 15 and stream.codec_context.pix_fmt == "yuv420p"
    originals = list(drawing.film_frames(clip, poses, drawing.film_poses(poses, clip.fps)[1], 15))
    assert len(frames) == 25 and frames[0].shape == originals[0].shape
    assert np.abs(frames[12].astype(int) - originals[12]).mean() < 2  # out of 255: the film is compressed


def test_an_mp4_without_its_library_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "av", None)
    assert main(["stream", "--save", str(tmp_path / "a.mp4")]) == 1
    assert "needs PyAV, which is not installed: pip install 'edgepose[plot]'" in capsys.readouterr().err
    assert not (tmp_path / "a.mp4").exists()


def test_another_name_of_a_film_is_refused_before_any_work(tmp_path, capsys):
    assert main(["stream", "--save", str(tmp_path / "a.avi")]) == 1
    assert "wanted a name that ends in .gif, .mp4" in capsys.readouterr().err
    with pytest.raises(ValueError, match="a.avi: wanted a name that ends in .gif, .mp4"):
        drawing.save_film(clip_of(15), [pose_at(0.0)], tmp_path / "a.avi")
    with pytest.raises(ValueError, match="there are 2 backgrounds; clip made has 10 frames"):
        drawing.save_film(clip_of(15), [pose_at(0.0)], tmp_path / "a.gif", [np.zeros((4, 4, 3), np.uint8)] * 2)
