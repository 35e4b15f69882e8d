import numpy as np
import pytest
from tiny_datasets import aim, save, seen_by, write_humaneva, z_up

from edgepose.adapters import ADAPTERS
from edgepose.skeleton import H36M17
from edgepose.training import humaneva
from edgepose.training.datasets import read_dataset
from edgepose.training.npz import load_npz


@pytest.fixture
def data(tmp_path):
    return write_humaneva(tmp_path)


def test_the_papers_actions_and_subjects_are_there_once_a_chunk_and_camera(data):
    for split in ("training", "test"):
        clips = read_dataset("humaneva", data, split)
        assert len(clips) == 3 * 4 * 3 and {clip.action for clip in clips} == {"Walk", "Jog", "Box"}
        assert {(clip.image_size, clip.fps) for clip in clips} == {((640, 480), 60.0)}
    assert all("Validate/" in clip.source for clip in clips)


def test_joints_are_put_in_our_order_in_the_axes_of_the_camera(data):
    clip = [clip for clip in read_dataset("humaneva", data, "test", actions=["Box"]) if clip.subject == "S2"][1]
    expected = seen_by(z_up(5, 20 + 3), *humaneva.EXTRINSICS["S2"][1])
    np.testing.assert_allclose(clip.joints_m[:, clip.measured], expected[:, clip.measured], atol=1e-5)
    assert (clip.joints_m[..., 2] > 2).all()
    assert (clip.joints_m[:, H36M17.index("right_ankle"), 1] > clip.joints_m[:, H36M17.index("head"), 1] + 1).all()


def test_every_camera_looks_level_at_the_middle_of_the_room():
    for cameras in humaneva.EXTRINSICS.values():
        for orientation, position_mm in cameras:
            assert abs(np.linalg.norm(orientation) - 1) < 1e-6
            off_axis, roll = aim(orientation, position_mm)
            assert off_axis < 0.1 and roll < 0.02


def test_the_spine_and_the_nose_are_made_and_said_to_be(data):
    clip = read_dataset("humaneva", data, "test")[0]
    assert [joint for joint, measured in zip(H36M17.joints, clip.measured) if not measured] == ["spine", "nose"]
    for values in (clip.joints_m, clip.keypoints_px):
        spine, pelvis, thorax = (values[:, H36M17.index(joint)] for joint in ("spine", "pelvis", "thorax"))
        np.testing.assert_allclose(spine, (pelvis + thorax) / 2, rtol=1e-5)


def test_detections_in_coco_go_through_the_adapter(data):
    clip = read_dataset("humaneva", data, "test", keypoints="detectron")[0]
    detected = load_npz(data / "data_2d_humaneva15_detectron_pt_coco.npz",
                        "positions_2d")[0]["Validate/S1"]["Walking 1 chunk0"][0]
    np.testing.assert_allclose(clip.keypoints_px, ADAPTERS["coco17"](detected)[0], rtol=1e-6)


@pytest.mark.parametrize("spoil, message", [
    (lambda a, b: a.pop("Validate/S3"), "data_3d_humaneva15.npz: positions_3d has no 'Validate/S3'; it has Train/S1"),
    (lambda a, b: b["Validate/S1"].pop("Jog 1 chunk0"),
     "positions_2d, Validate/S1 has no 'Jog 1 chunk0'; it has Walking 1 chunk0"),
    (lambda a, b: b["Validate/S1"]["Jog 1 chunk0"].pop(),
     "Validate/S1, Jog 1 chunk0 has 2 cameras; wanted 3: C1, C2, C3"),
    (lambda a, b: b["Validate/S1"]["Jog 1 chunk0"].__setitem__(2, np.zeros((5, 20, 2))),
     r"Jog 1 chunk0, camera C3 has shape \(5, 20, 2\); wanted \(F, 15, 2 or 3\), as its layout is humaneva15"),
    (lambda a, b: b["Validate/S1"]["Jog 1 chunk0"].__setitem__(2, np.zeros((4, 15, 2))),
     r"C3: keypoints_px has shape \(4, 17, 2\)"),
    (lambda a, b: a["Validate/S2"].update({"Box 1 chunk0": np.zeros((5, 20, 3))}),
     r"Box 1 chunk0 has shape \(5, 20, 3\); wanted \(F, 15, 3\)")])
def test_what_is_wrong_with_a_file_is_named(data, spoil, message):
    (positions_3d,) = load_npz(data / "data_3d_humaneva15.npz", "positions_3d")
    positions_2d, metadata = load_npz(data / "data_2d_humaneva15_gt.npz", "positions_2d", "metadata")
    spoil(positions_3d, positions_2d)
    save(data / "data_3d_humaneva15.npz", positions_3d=positions_3d)
    save(data / "data_2d_humaneva15_gt.npz", positions_2d=positions_2d, metadata=metadata)
    with pytest.raises(ValueError, match=message):
        read_dataset("humaneva", data, "test")


def test_another_layout_is_refused(data):
    (positions_2d,) = load_npz(data / "data_2d_humaneva15_gt.npz", "positions_2d")
    save(data / "data_2d_humaneva15_gt.npz", positions_2d=positions_2d, metadata={"layout_name": "humaneva20"})
    with pytest.raises(ValueError, match="the layout is 'humaneva20'; wanted humaneva15 or coco"):
        read_dataset("humaneva", data, "test")
