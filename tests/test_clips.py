import numpy as np
import pytest
from tiny_mocap import write_all
from tiny_real_clips import BODY, FRAMES, SIZE, bodies, camera, write_balance

from edgepose.adapters import COCO17
from edgepose.camera import root_translation
from edgepose.clip import CLIPS, load_clip, load_windows
from edgepose.metrics import mpjpe
from edgepose.skeleton import H36M17
from edgepose.training import clips
from edgepose.training.landmarks import CROWN, SKULL_BASE
from edgepose.training.real_clips import project_distorted


def test_windows_are_read_as_they_were_written(tmp_path):
    mocap = write_all(tmp_path / "mocap")
    clips.write_windows(tmp_path / "evaluation.npz", mocap, 12, 27)
    clips.write_windows(tmp_path / "evaluation351.npz", mocap, 5, 41)
    whole, target = load_windows(27, folder=tmp_path)
    assert whole.shape == (12, 27, 17, 2) and target.shape == (12, 17, 3)
    assert whole.dtype == target.dtype == np.float32
    for frames in (1, 9):
        np.testing.assert_array_equal(load_windows(frames, folder=tmp_path)[0],
                                      whole[:, 13 - frames // 2:14 + frames // 2])
    np.testing.assert_array_equal(load_windows(9, is_causal=True, folder=tmp_path)[0], whole[:, 5:14])
    longer, its_target = load_windows(29, folder=tmp_path)
    assert longer.shape == (5, 29, 17, 2) and len(its_target) == 5
    with pytest.raises(ValueError, match="windows of 41 frames; the middle 81"):
        load_windows(81, folder=tmp_path)


def test_a_causal_window_longer_than_the_past_repeats_its_first_frame(tmp_path):
    mocap = write_all(tmp_path / "mocap")
    clips.write_windows(tmp_path / "evaluation.npz", mocap, 3, 3)
    clips.write_windows(tmp_path / "evaluation351.npz", mocap, 3, 9)
    all_frames, _ = load_windows(9, folder=tmp_path)
    causal, _ = load_windows(7, is_causal=True, folder=tmp_path)
    np.testing.assert_array_equal(causal[:, 2:], all_frames[:, :5])
    assert (causal[:, :2] == all_frames[:, :1]).all()


@pytest.mark.parametrize("name, degrees", [("cam1", 0), ("cam2", 60), ("cam3", 160)])
def test_a_clip_has_its_refined_camera_and_its_reference_in_that_camera_s_axes_from_the_pelvis(tmp_path, name, degrees):
    write_balance(tmp_path / "raw", error_m=0.3)
    clips.write_clip(tmp_path / f"balance_{name}.npz", tmp_path / "raw", name)
    clip = load_clip(str(tmp_path / f"balance_{name}.npz"))
    assert clip.name == f"balance_{name}" and clip.fps == 60 and clip.image_size == SIZE
    assert clip.keypoints_px.shape == clip.reference_m.shape == (FRAMES, 17, 3)
    with np.load(tmp_path / f"balance_{name}.npz") as file:
        for key, value in camera(degrees).items():
            np.testing.assert_array_equal(file[key], value)
    body = dict(zip(BODY, np.moveaxis(bodies() @ camera(degrees)["camera_R"].T, 1, 0)))
    pelvis = (body["left_hip"] + body["right_hip"]) / 2
    for limb in ("knee", "ankle", "elbow", "wrist"):
        for joint in (f"left_{limb}", f"right_{limb}"):
            np.testing.assert_allclose(clip.reference_m[:, H36M17.index(joint)], body[joint] - pelvis, atol=1e-6)
    skull = body["head_top"] - body["upper_neck"]
    for joint, share in (("head", CROWN), ("nose", SKULL_BASE)):
        wanted = body["upper_neck"] + share * skull - pelvis
        np.testing.assert_allclose(clip.reference_m[:, H36M17.index(joint)], wanted, atol=1e-5)


def test_a_reference_with_a_gap_is_refused(tmp_path):
    write_balance(tmp_path)
    for name in ("cam1", "cam3"):
        with np.load(tmp_path / f"pose2sim_balance_{name}.npz") as file:
            arrays = dict(file)
        arrays["keypoints"][2, arrays["keypoint_names"].tolist().index("head_top")] = 0
        np.savez(tmp_path / f"pose2sim_balance_{name}.npz", **arrays)
    with pytest.raises(ValueError, match="the reference of cam1 has gaps"):
        clips.write_clip(tmp_path / "balance_cam1.npz", tmp_path, "cam1")


@pytest.mark.parametrize("name", clips.CAMERAS)
def test_the_shipped_clips_are_whole(name):
    clip = load_clip(f"balance_{name}")
    assert clip.keypoints_px.shape == clip.reference_m.shape == (100, 17, 3)
    assert clip.fps == 60 and clip.image_size == (1088, 1920)
    knee, hip = (clip.reference_m[:, H36M17.index(joint)] for joint in ("left_knee", "left_hip"))
    assert 0.35 < np.median(np.linalg.norm(knee - hip, axis=-1)) < 0.5


@pytest.mark.parametrize("name", clips.CAMERAS)
def test_a_shipped_clip_s_reference_lies_where_its_camera_saw_the_joints(name):
    with np.load(CLIPS / f"balance_{name}.npz") as file:
        clip = {name: file[name].astype(float) for name in file.files}
    # These joints are the same in both skeletons.
    joints = [joint for joint in COCO17.joints if joint.endswith(("elbow", "wrist", "knee", "ankle"))]
    keypoints = clip["coco17"][:, [COCO17.index(joint) for joint in joints]]
    joints_m = clip["reference_m"][:, [H36M17.index(joint) for joint in joints]]
    in_axes = {**clip, "camera_R": np.eye(3), "camera_t": np.zeros(3)}
    (fx, _, cx), (_, fy, cy), _ = clip["camera_K"]
    frames = zip(joints_m, keypoints[..., :2], keypoints[..., 2])
    pelvises_m = [root_translation(*frame, fx, fy, cx, cy) for frame in frames]
    projected = project_distorted(joints_m + np.array(pelvises_m)[:, None], in_axes)
    off_px = np.linalg.norm(projected - keypoints[..., :2], axis=-1)[keypoints[..., 2] > 0]
    assert np.median(off_px) < 8  # 5.3, 5.1 and 7.5; the published calibration gives 11.5, 6.1 and 15.5


@pytest.mark.parametrize("split, count, frames", clips.WINDOWS.values())
def test_the_shipped_windows_are_whole(split, count, frames):
    keypoints, target = load_windows(frames, use={"validation": "evaluation", "training": "calibration"}[split])
    assert keypoints.shape == (count, frames, 17, 2) and np.isfinite(keypoints).all()
    assert (target[:, H36M17.root] == 0).all()
    assert 100 < mpjpe(1000 * np.repeat(target.mean(0)[None], len(target), 0), 1000 * target) < 300
