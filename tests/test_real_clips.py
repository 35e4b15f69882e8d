import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from tiny_real_clips import FRAMES, SIZE, bodies, camera, seen, write_balance, write_clip, write_folder

from edgepose.adapters import ADAPTERS, COCO17
from edgepose.cli import main
from edgepose.columns import LENGTHS
from edgepose.skeleton import H36M17
from edgepose.training import real_clips, real_plots, real_scores

LIMB_ROWS = [COCO17.index(joint) for joint in real_clips.LIMBS]


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "clips")


def limbs_of(by):
    """`bodies` in a camera's axes, from the middle of the hips: (FRAMES, 12, 3) m."""
    limbs = (bodies()[:, :17] @ by["camera_R"].T)[:, LIMB_ROWS]
    return limbs - limbs[:, [6, 7]].mean(1, keepdims=True)


class Knows:
    """An engine that knows the limbs of what a camera sees by the keypoints' x and y, and answers with them times a
    scale."""

    skeleton = H36M17

    def __init__(self, cameras, scale=1.0, frames=1):
        self.frames, self.answers = frames, []
        for by in cameras:
            world = bodies()[:, :17]
            px, _ = ADAPTERS["coco17"](real_clips.project_distorted(world, by))
            pose = np.zeros((FRAMES, 17, 3))
            pose[:, [H36M17.index(joint) for joint in real_clips.LIMBS]] = scale * limbs_of(by)
            self.answers += list(zip(px * (2 / SIZE[0]) - (1, SIZE[1] / SIZE[0]), pose))

    def run(self, keypoints_norm, out=None):
        rows = [H36M17.index(joint) for joint in real_clips.LIMBS]
        keypoints = keypoints_norm[:, self.frames // 2, rows]
        return np.stack([min(self.answers, key=lambda answer: np.abs(answer[0][rows] - one).sum())[1]
                         for one in keypoints]).astype(np.float32)


class Recorder:
    """An engine of these columns that keeps its windows and answers with zeros."""

    skeleton, frames = H36M17, 1

    def __init__(self, *inputs):
        self.inputs, self.windows = inputs, []

    def run(self, windows, out=None):
        self.windows.append(windows.copy())
        return np.zeros((len(windows), 17, 3), np.float32)


def test_a_folder_is_read_by_group_and_what_has_no_reference_is_named(folder):
    clips, left_out = real_clips.read_real_clips(folder)
    assert {clip.name: clip.group for clip in clips} == {
        "aist_break_ch01_cam3": "AIST++", "pose2sim_balance_mediapipe_cam2": "beam, MediaPipe",
        "pose2sim_multi_mediapipe_cam1, man": "several people, MediaPipe",
        **{f"pose2sim_balance_cam{n}": "beam, OpenPose" for n in (1, 2, 3)}}
    assert left_out == {"pose2sim_balance_refined": "no keypoints", "walk": "no reference_coco17_world_m"}
    by_name = {clip.name: clip for clip in clips}
    assert by_name["pose2sim_balance_mediapipe_cam2"].detected.layout == "mediapipe33"
    assert by_name["pose2sim_balance_cam1"].detected.layout == "coco17"  # BODY_25B has no adapter
    dance = by_name["aist_break_ch01_cam3"].detected
    assert dance.layout == "coco17" and dance.fps == 60 and dance.image_size == SIZE


def test_the_reference_is_in_camera_axes_from_the_hips_and_unknown_where_a_limb_is(folder):
    clip = real_clips.read_real_clips(folder)[0][0]
    known = [0, 1, 3, 4, 5, 6, 7]  # frame 2 lacks a wrist; frame 3 lacks an eye, which does not count
    np.testing.assert_allclose(clip.reference_m[known], limbs_of(camera(30))[known], atol=1e-6)
    assert np.isnan(clip.reference_m[2]).all() and clip.own_m is None


def test_perfect_keypoints_are_the_reference_in_the_picture_and_a_joint_not_known_is_not_found(folder):
    clip = real_clips.read_real_clips(folder)[0][0]
    np.testing.assert_allclose(clip.perfect.keypoints_px[4], clip.detected.keypoints_px[4], atol=0.01)
    assert clip.perfect.keypoints_px[3, COCO17.index("left_eye")].tolist() == [0, 0, 0]
    assert clip.perfect.keypoints_px[..., 2].sum() == FRAMES * 17 - 2


def test_a_clip_without_a_reference_takes_its_camera_of_the_refined_ones(tmp_path):
    write_balance(tmp_path, error_m=0.3)
    clips, _ = real_clips.read_real_clips(tmp_path)
    for clip, degrees in zip(clips, (0, 60, 160)):
        np.testing.assert_allclose(clip.reference_m, limbs_of(camera(degrees)), atol=1e-6)
        # With its own camera it would be some 75 px off.
        np.testing.assert_allclose(clip.perfect.keypoints_px, clip.detected.keypoints_px, atol=0.01)


def test_distortion_is_that_of_opencv():
    by = {**camera(0), "camera_R": np.eye(3), "camera_t": np.zeros(3)}
    x, y = 0.3, -0.2
    r2 = x * x + y * y
    radial = 1 - 0.04 * r2 + 0.1 * r2**2
    wanted = (1000 * (x * radial + 2 * 6e-4 * x * y - 5e-4 * (r2 + 2 * x * x)) + 480,
              990 * (y * radial + 6e-4 * (r2 + 2 * y * y) + 2 * -5e-4 * x * y) + 610)
    np.testing.assert_allclose(real_clips.project_distorted(np.array([2 * x, 2 * y, 2]), by), wanted)


def test_triangulation_undoes_projection_and_does_not_take_what_was_not_found():
    cameras, world = [camera(degrees) for degrees in (0, 60, 160)], bodies()[0]
    points = np.stack([seen(world, by).astype(float) for by in cameras])
    points[..., :2] = [real_clips.project_distorted(world, by) for by in cameras]  # in double precision
    points[0, 3], points[0, 4], points[1, 4] = (1e4, 0, 0), 0, 0
    found = real_clips.triangulate(points, cameras)
    assert np.isnan(found[4]).all()
    np.testing.assert_allclose(np.delete(found, 4, 0), np.delete(world, 4, 0), atol=1e-9)
    points[0, 5, :2] += 50
    weights = ([[[1, 1, weight]], [[1, 1, 1]], [[1, 1, 1]]] for weight in (1.0, 0.1))
    sure, unsure = (np.linalg.norm(real_clips.triangulate(points * weight, cameras)[5] - world[5])
                    for weight in weights)
    assert unsure < 0.5 * sure


def test_a_file_that_lacks_an_array_or_is_damaged_is_named(tmp_path):
    with pytest.raises(ValueError, match="there is no clip with a reference in it; wanted .npz files with"):
        real_clips.read_real_clips(tmp_path)
    write_clip(tmp_path / "a_cam1.npz", camera(0), fps=None)
    with pytest.raises(ValueError, match="a_cam1.npz has no 'fps'; it has coco17, image_size"):
        real_clips.read_real_clips(tmp_path)
    (tmp_path / "a_cam1.npz").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ValueError, match="a_cam1.npz is no .npz file of arrays"):
        real_clips.read_real_clips(tmp_path)


@pytest.mark.parametrize("arrays, message", [
    ({"coco17": np.zeros((8, 5, 3))}, r"coco17 is float64 of shape \(8, 5, 3\); wanted numbers, \(8, 17, 3\)"),
    ({"coco17": np.zeros((3, 17, 3))}, r"coco17 .*wanted numbers, \(8, 17, 3\)"),
    ({"fps": np.float32([30, 60])}, r"fps is float32 of shape \(2,\); wanted numbers, \(1\)"),
    ({"image_size": np.array("wide")}, r"image_size is <U4 of shape \(\); wanted numbers, \(2\)"),
    ({"camera_K": np.eye(4)}, r"camera_K is float64 of shape \(4, 4\); wanted numbers, \(3, 3\)"),
    ({"camera_dist": np.zeros(5)}, r"camera_dist .*wanted numbers, \(4\)"),
    ({"mediapipe_world_m": np.zeros((8, 17, 3))}, r"mediapipe_world_m .*wanted numbers, \(8, 33, 3\)"),
    ({"coco17_by_person": np.zeros((1, 8, 17, 3)), "person_names": np.array(["a", "b"])},
     r"person_names has shape \(2,\); wanted an entry for each of 1 people"),
    ({"coco17_by_person": np.zeros(3)}, r"coco17_by_person .*wanted numbers, \(any, any, 17, 3\)")])
def test_an_array_of_another_shape_is_named(tmp_path, arrays, message):
    write_clip(tmp_path / "a_cam1.npz", camera(0), **arrays)
    with pytest.raises(ValueError, match=f"a_cam1.npz: {message}"):
        real_clips.read_real_clips(tmp_path)


def test_a_model_that_errs_by_its_size_alone_has_no_error_after_scaling(folder):
    model = Knows([camera(degrees) for degrees in (30, -40, 0, 60, 160, 10)], scale=0.5)
    scores = real_scores.score_all(*real_scores.answers_of_folder(model, folder))
    size_mm = {name: 500 * np.linalg.norm(limbs_of(camera(degrees)), axis=-1) for name, degrees in (
        ("aist_break_ch01_cam3", 30), ("pose2sim_balance_mediapipe_cam2", -40))}
    for name, of_clip in size_mm.items():
        known = [i for i in range(FRAMES) if not (name.startswith("aist") and i == 2)]
        for kind in ("detected", "perfect"):
            score = scores.clips[name][kind]
            assert score.figures["MPJPE mm"] == pytest.approx(of_clip[known].mean(), abs=0.01)
            assert score.figures["N-MPJPE mm"] < 0.01 and score.figures["P-MPJPE mm"] < 0.01
            assert score.joints_mm["left_ankle"] == pytest.approx(of_clip[known, 10].mean(), abs=0.01)
            assert (score.poses, score.unknown) == (len(known), FRAMES - len(known))
            by = camera(30 if name.startswith("aist") else -40)
            speed = np.linalg.norm(np.diff(limbs_of(by)[known], axis=0), axis=-1)
            steps = np.diff(known)[:, None] / 60
            assert score.figures["MPJVE mm/s"] == pytest.approx(500 * (speed / steps).mean(), rel=1e-3)
    own = scores.clips["pose2sim_balance_mediapipe_cam2"][real_scores.OWN]
    assert own.figures["MPJPE mm"] == pytest.approx(size_mm["pose2sim_balance_mediapipe_cam2"].mean(), abs=0.01)
    man = scores.clips["pose2sim_multi_mediapipe_cam1, man"]
    assert man["detected"].poses == FRAMES - 1 and man["perfect"].poses == FRAMES
    assert man[real_scores.OWN].figures["MPJPE mm"] < 0.01


def test_a_group_s_figure_is_the_mean_of_its_clips(folder):
    model = Knows([camera(0)], scale=0.9)
    scores = real_scores.score_all(*real_scores.answers_of_folder(model, folder))
    group = scores.groups["beam, OpenPose"]["detected"]
    clips = [scores.clips[f"pose2sim_balance_cam{n}"]["detected"] for n in (1, 2, 3)]
    for metric in group.figures:
        assert group.figures[metric] == pytest.approx(np.mean([clip.figures[metric] for clip in clips]))
    assert group.poses == 3 * FRAMES
    assert group.joints_mm["right_knee"] == pytest.approx(np.mean([clip.joints_mm["right_knee"] for clip in clips]))
    assert clips[0].figures["MPJPE mm"] < clips[1].figures["MPJPE mm"]


def test_a_model_of_many_frames_is_scored_without_delay_and_with_all_it_can_use(folder):
    model = Knows([camera(degrees) for degrees in (30, -40, 0, 60, 160, 10)], frames=5)
    clip = real_clips.read_real_clips(folder)[0][0]
    answers = real_scores.answers_to(model, clip, real_scores.delays_of(model))
    assert list(answers) == ["detected, delay 0", "detected, delay 2", "perfect, delay 0", "perfect, delay 2"]
    assert np.diff(answers["perfect, delay 2"].times_s) == pytest.approx(0.02)  # the grid of 50 Hz
    assert real_scores.score(answers["perfect, delay 2"]).figures["MPJPE mm"] < 0.01
    model.is_causal = True
    assert real_scores.delays_of(model) == [0] == real_scores.delays_of(Knows([]))


def test_a_clip_in_which_too_little_can_be_compared_is_left_out_and_said(tmp_path):
    world = bodies()[:, :17].astype(np.float32)
    write_clip(tmp_path / "b_cam1.npz", camera(0))
    world[1:] = np.nan
    write_clip(tmp_path / "a_cam1.npz", camera(0), reference_coco17_world_m=world)
    scores = real_scores.score_all(*real_scores.answers_of_folder(Knows([camera(0)]), tmp_path))
    assert list(scores.clips) == ["b_cam1"] and list(scores.groups) == ["b"]
    assert scores.left_out["a_cam1, detected"] == "1 of 8 poses have a reference; wanted at least 2"


def test_the_picture_shows_the_median_and_a_bad_pose_of_each_group(folder):
    answers, _ = real_scores.answers_of_folder(Knows([camera(0)]), folder)
    moments = real_plots.moments_of(answers)
    assert list(moments) == ["AIST++", "beam, OpenPose", "beam, MediaPipe", "several people, MediaPipe"]
    for group, frames_shown in moments.items():
        of_group = [kinds["detected"].errors_mm().mean(1) for clip, kinds in answers.items() if clip.group == group]
        everything = np.sort(np.concatenate(of_group)[np.isfinite(np.concatenate(of_group))])
        for (_, _, of_clip, i), share in zip(frames_shown, (0.5, 0.9)):
            assert of_clip.errors_mm()[i].mean() == everything[int(share * (len(everything) - 1))]


def test_errors_in_depth_show_from_the_side_and_above_and_not_from_the_front():
    lines_of = {}

    class Axes:
        def plot(self, x, y, **_):
            lines_of.setdefault(self.view, []).append([*x, *y])

    pose = np.random.default_rng(0).normal(size=(12, 3))
    deeper = pose + [0, 0, 0.3]
    for view, directions in real_plots.VIEWS.items():
        for joints_m in (pose, deeper):
            axes = Axes()
            axes.view = view
            real_plots._draw(axes, joints_m, directions)
    for view, lines in lines_of.items():
        here, there = np.split(np.array(lines), 2)
        assert np.allclose(here, there) == (view == "front")


def test_the_command_prints_tables_and_writes_json_and_a_picture(folder, tmp_path, capsys):
    file, picture = tmp_path / "f.json", tmp_path / "p.png"
    outputs = ["--json", str(file), "--plot", str(picture)]
    assert main(["evaluate", "--model", "martinez-s", "--data", "real", "--path", str(folder), *outputs]) == 0
    printed = capsys.readouterr().out
    for text in ("AIST++, detected", "beam, MediaPipe, MediaPipe's own", "N-MPJPE mm", "MPJVE mm/s", "shoulders mm",
                 "balance_cam3, perfect", "walk (no reference_coco17_world_m)"):
        assert text in printed
    written = json.loads(file.read_text())
    score = written["clips"]["pose2sim_balance_cam1"]["perfect"]
    assert f" {score['MPJPE mm']:.1f} " in printed
    assert set(score["joints_mm"]) == set(real_clips.LIMBS) and score["poses"] == FRAMES
    assert written["left_out"]["walk"] == "no reference_coco17_world_m"
    assert written["model"]["model"] == "martinez-s" and written["data"] == "real"
    with Image.open(picture) as image:
        assert image.format == "PNG" and min(image.size) > 700


@pytest.mark.parametrize("arguments, message", [
    (["--data", "real"], "where does real lie"),
    (["--data", "real", "--path", "x", "--flip"], "--flip is not for real"),
    (["--data", "real", "--path", "x", "--clips", "y"], "--clips is not for real"),
    (["--delay", "3"], "--delay is for --data real"),
    (["--data", "real", "--path", "nowhere"], "nowhere: there is no clip with a reference in it")])
def test_options_that_do_not_go_together_are_refused(arguments, message, capsys):
    assert main(["evaluate", "--model", "martinez-s", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_a_model_that_takes_lengths_is_told_those_of_the_reference(tmp_path):
    model = Recorder("x", "y", "length", "length_known")
    clip = real_clips.read_real_clips(write_folder(tmp_path))[0][0]
    answers = real_scores.answers_to(model, clip, [0])
    assert [kind for kind in answers if "told" in kind] == [
        f"{kind}, told lengths" for kind in (real_scores.DETECTED, real_scores.PERFECT)]
    lengths_m = real_clips.lengths_of(clip.reference_coco17_m)
    thigh = lambda window: window[0, 0, H36M17.index("left_knee"), 2:]  # noqa: E731
    with_lengths = [window for window in model.windows if window[..., 3].any()]
    assert len(with_lengths) == len(model.windows) / 2
    np.testing.assert_allclose(thigh(with_lengths[0]), [lengths_m["thigh"], 1], rtol=1e-6)


def test_a_model_that_takes_the_elevation_is_told_lens_and_gravity_of_keypoints_without_distortion(tmp_path):
    model = Recorder("x", "y", "elevation", "elevation_known")
    clip = next(clip for clip in real_clips.read_real_clips(write_folder(tmp_path))[0] if "balance_cam1" in clip.name)
    answers = real_scores.answers_to(model, clip, [0])
    assert sum("told lens and gravity" in kind for kind in answers) == 2
    assert sum(window[..., 3].all() for window in model.windows) == len(model.windows) / 2
    fx, fy, cx, cy = clip.lens
    pinhole = {"camera_K": np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), "camera_dist": np.zeros(4)}
    distorted = {**pinhole, "camera_dist": clip.distortion, "camera_R": np.eye(3), "camera_t": np.array([0, 0, 4.0])}
    points_m = np.random.default_rng(0).normal(0, 0.5, (2, 17, 3))
    seen_px = np.insert(real_clips.project_distorted(points_m, distorted), 2, 1.0, axis=-1)
    ideal_px = real_clips.project_distorted(points_m, {**distorted, **pinhole})
    assert np.abs(seen_px[..., :2] - ideal_px).max() > 0.1
    undistorted = clip.undistorted(dataclasses.replace(clip.perfect, keypoints_px=seen_px))
    np.testing.assert_allclose(undistorted.keypoints_px[..., :2], ideal_px, atol=1e-6)


def test_a_model_that_takes_the_confidence_is_tried_without_hips_and_without_legs(tmp_path):
    clip = real_clips.read_real_clips(write_folder(tmp_path))[0][0]
    model = Recorder("x", "y", "confidence")
    answers = real_scores.answers_to(model, clip, [0])
    hidden = [f"{real_scores.DETECTED}, {kind}" for kind in ("hips hidden", "hips and legs hidden")]
    assert [kind for kind in answers if "hidden" in kind] == hidden
    without_hips, without_legs = (real_scores.without(clip.detected, real_scores.HIDDEN[kind]).keypoints_px
                                  for kind in ("hips hidden", "hips and legs hidden"))
    names = COCO17.joints
    assert [name for i, name in enumerate(names) if not without_hips[0, i].any()] == ["left_hip", "right_hip"]
    assert all(without_legs[0, i].any() == (i < names.index("left_hip")) for i in range(17))
    hips = [H36M17.index("left_hip"), H36M17.index("right_hip")]
    assert sum(not window[0, 0, hips, 2].any() for window in model.windows) == 2 * FRAMES


def test_the_upper_body_is_measured_from_the_middle_of_the_shoulders():
    target = np.random.default_rng(0).normal(size=(4, 12, 3))
    predicted = target + 5.0
    predicted[:, [6, 7, 8, 9, 10, 11]] += 100.0  # hips and legs do not count
    assert real_scores.upper_body_error(predicted, target) == pytest.approx(0, abs=1e-9)
    predicted[:, real_clips.LIMBS.index("left_wrist"), 2] += 0.6
    assert real_scores.upper_body_error(predicted, target) == pytest.approx(0.1)


def test_gravity_is_downward_in_the_camera():
    by = camera(0)
    assert real_clips.DOWN.tolist() == [0, 0, -1]
    world_m = np.zeros((2, 17, 3)) + np.array([[[0, 0, 1.0]], [[0, 0, 0.5]]])  # the second lies below the first
    fallen = np.diff(world_m @ by["camera_R"].T, axis=0)[0, 0]
    np.testing.assert_allclose(fallen / np.linalg.norm(fallen), by["camera_R"] @ real_clips.DOWN, atol=1e-12)


def test_lengths_are_those_of_the_body_whatever_is_not_known():
    points_m = np.random.default_rng(0).normal(size=(1, 17, 3)).repeat(5, 0)
    lengths_m = real_clips.lengths_of(points_m)
    points_m[1:3, 5:9] = np.nan
    assert real_clips.lengths_of(points_m) == pytest.approx(lengths_m) and set(lengths_m) == set(LENGTHS)
    shank = [np.linalg.norm(points_m[0, COCO17.index(f"{side}_knee")] - points_m[0, COCO17.index(f"{side}_ankle")])
             for side in ("left", "right")]
    assert lengths_m["shank"] == pytest.approx(np.mean(shank))
