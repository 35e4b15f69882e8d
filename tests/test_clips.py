import numpy as np
import pytest
from tiny_mocap import standing, write_all

from edgepose.clip import load_clip, load_windows
from edgepose.metrics import mpjpe
from edgepose.skeleton import H36M17
from edgepose.training import clips
from edgepose.training.landmarks import COCO_JOINTS


def write_detections(directory, frames=6):
    """A clip in the format of the calibrated detections: someone who stands still, 1.6 m before the camera's height."""
    body = dict(zip(H36M17.joints, standing().astype(float)))
    body |= {"left_eye": body["head"], "right_eye": body["head"], "left_ear": body["head"], "right_ear": body["head"],
             "upper_neck": body["thorax"], "head_top": body["head"] + [0, 0.1, 0]}
    names = (*COCO_JOINTS, "upper_neck", "head_top")
    world = np.stack([body[name] for name in names])
    directory.mkdir(exist_ok=True)
    rotation, translation = np.diag([1.0, -1.0, -1.0]), np.array([0.0, 1.0, 4.0])
    np.savez(directory / "pose2sim_balance_3d.npz", positions=np.repeat(world[None], frames, 0),
             keypoint_names=np.array(names))
    in_camera = world[:17] @ rotation.T + translation
    px = 1000 * in_camera[:, :2] / in_camera[:, 2:] + [500, 500]
    coco17 = np.repeat(np.concatenate([px, np.ones((17, 1))], 1)[None], frames, 0).astype(np.float32)
    np.savez(directory / "pose2sim_balance_cam1.npz", coco17=coco17, fps=np.float32(60),
             image_size=np.array([1000, 1000]), camera_dist=np.zeros(4), camera_R=rotation, camera_t=translation,
             camera_K=np.array([[1000.0, 0, 500], [0, 1000, 500], [0, 0, 1]]))
    return directory


def test_windows_are_read_as_they_were_written(tmp_path):
    mocap = write_all(tmp_path / "mocap")
    clips.write_windows(tmp_path / "evaluation.npz", mocap, 12, 27)
    clips.write_windows(tmp_path / "evaluation351.npz", mocap, 5, 41)
    whole, target = load_windows(27, folder=tmp_path)
    assert whole.shape == (12, 27, 17, 2) and target.shape == (12, 17, 3)
    assert whole.dtype == target.dtype == np.float32
    for frames in (1, 9):
        np.testing.assert_array_equal(load_windows(frames, folder=tmp_path)[0], whole[:, 13 - frames // 2:14 + frames // 2])
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


def test_a_clip_has_its_reference_in_camera_axes_from_the_pelvis(tmp_path):
    clips.write_clip(tmp_path / "balance_cam1.npz", write_detections(tmp_path / "raw"), "cam1")
    clip = load_clip(str(tmp_path / "balance_cam1.npz"))
    assert clip.name == "balance_cam1" and clip.fps == 60 and clip.image_size == (1000, 1000)
    assert clip.keypoints_px.shape == clip.reference_m.shape == (6, 17, 3)
    expected = (standing() - standing()[0]) * [1, -1, -1]
    limbs = ("knee", "ankle", "elbow", "wrist")
    rigid = [H36M17.index(f"{side}_{limb}") for side in ("left", "right") for limb in limbs]
    np.testing.assert_allclose(clip.reference_m[:, rigid], np.repeat(expected[None, rigid], 6, 0), atol=1e-6)


@pytest.mark.parametrize("camera", clips.CAMERAS)
def test_the_shipped_clips_are_whole(camera):
    clip = load_clip(f"balance_{camera}")
    assert clip.keypoints_px.shape == clip.reference_m.shape == (100, 17, 3)
    assert clip.fps == 60 and clip.image_size == (1088, 1920)
    knee, hip = (clip.reference_m[:, H36M17.index(joint)] for joint in ("left_knee", "left_hip"))
    assert 0.35 < np.median(np.linalg.norm(knee - hip, axis=-1)) < 0.5


@pytest.mark.parametrize("split, count, frames", clips.WINDOWS.values())
def test_the_shipped_windows_are_whole(split, count, frames):
    keypoints, target = load_windows(frames, use={"validation": "evaluation", "training": "calibration"}[split])
    assert keypoints.shape == (count, frames, 17, 2) and np.isfinite(keypoints).all()
    assert (target[:, H36M17.root] == 0).all()
    assert 100 < mpjpe(1000 * np.repeat(target.mean(0)[None], len(target), 0), 1000 * target) < 300
