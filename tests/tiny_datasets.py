"""The labelled data sets with a handful of frames in their real formats, for the tests of their readers and tables."""

from pathlib import Path

import h5py
import numpy as np
import scipy.io
from scipy.spatial.transform import Rotation
from tiny_mocap import standing

from edgepose.training import h36m, humaneva, mpi_inf_3dhp

H36M_ACTIONS = ("Directions", "Discussion", "Eating", "Greeting", "Phoning", "Photo", "Posing", "Purchases", "Sitting",
                "SittingDown", "Smoking", "Waiting", "WalkDog", "Walking", "WalkTogether")

# Positions of our joints among each set's own, by number here, because the readers go by name.
OF_32 = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)  # Human3.6M, in our order
THEIR_17 = (10, 8, 14, 15, 16, 11, 12, 13, 1, 2, 3, 4, 5, 6, 0, 7, 9)  # ours, in the order of MPI-INF-3DHP's test
# MPI-INF-3DHP's training joints, in the order of its test joints.
OF_28 = (7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6)
THEIR_15 = (0, 8, 11, 12, 13, 14, 15, 16, 4, 5, 6, 1, 2, 3, 10)  # ours, in the order of HumanEva


def z_up(frames, seed):
    """(F, 17, 3) m: somebody who stands near the origin and sways; world axes with z up."""
    sway = np.cumsum(np.random.default_rng(seed).normal(0, 0.01, (frames, 17, 3)), 0)
    return ((standing() + sway) @ np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])).astype(np.float32)


def seen_by(world_m, orientation, position_mm):
    """World to camera axes, by scipy's quaternions."""
    w, x, y, z = orientation
    turn = Rotation.from_quat([x, y, z, w]).inv()
    return turn.apply((world_m - np.array(position_mm) / 1000).reshape(-1, 3)).reshape(world_m.shape)


def aim(orientation, position_mm):
    """Distance of the room's middle, 1 m above the floor, from a camera's axis, and the camera's roll, both as
    tangents."""
    low, middle, high = (point[:2] / point[2] for point in (
        seen_by(np.array([0.0, 0, z]), orientation, position_mm) for z in (0, 1, 2)))
    assert low[1] > high[1]  # y is down
    return np.abs(middle).max(), abs((high - low)[0] / (high - low)[1])


def save(path: Path, **tables):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **tables)


def h36m_tables(frames=5, longer=2, takes=("Walking", "Walking 1", "Eating"), joints=32):
    """(positions_3d, positions_2d) of all subjects: the 2D is exact, and `longer` frames longer."""
    tables = {}, {}
    for n, subject in enumerate(h36m.EXTRINSICS):
        for table in tables:
            table[subject] = {}
        for i, take in enumerate(takes):
            world = z_up(frames + longer, 10 * n + i)
            stored = world
            if joints == 32:
                stored = np.full((frames + longer, 32, 3), np.nan, np.float32)  # for wrong joints
                stored[:, OF_32] = world
            tables[0][subject][take] = stored[:frames]
            tables[1][subject][take] = [lens.project(seen_by(world, *camera)).astype(np.float32)
                                        for lens, camera in zip(h36m.LENSES, h36m.EXTRINSICS[subject])]
    return tables


def write_h36m(directory: Path, kind="gt", **options) -> Path:
    positions_3d, positions_2d = h36m_tables(**options)
    metadata = {"layout_name": "h36m", "num_joints": 17,
                "keypoints_symmetry": [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]]}
    save(directory / "data_3d_h36m.npz", positions_3d=positions_3d)
    save(directory / f"data_2d_h36m_{kind}.npz", positions_2d=positions_2d, metadata=metadata)
    return directory


def person_17(frames, seed):
    """(keypoints px, joints mm) of a person 4 m away, in the order of MPI-INF-3DHP's 17 joints."""
    joints = z_up(frames, seed) @ np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]) + (0, 1, 4)
    pixels = 1500 * joints[..., :2] / joints[..., 2:] + 1000
    return pixels[:, THEIR_17], 1000 * joints[:, THEIR_17]


def write_3dhp_test(directory: Path, frames=6) -> Path:
    for n, name in enumerate(mpi_inf_3dhp.TESTS):
        pixels, joints_mm = person_17(frames, n)
        (directory / name).mkdir(parents=True, exist_ok=True)
        with h5py.File(directory / name / "annot_data.mat", "w") as file:  # Matlab 7.3 is HDF5, its axes reversed
            file["annot2"], file["univ_annot3"] = pixels[:, None], joints_mm[:, None]
            file["annot3"] = 1.1 * joints_mm[:, None]
            file["valid_frame"] = np.array([[1], [1], [0], [1], [1], [0]], float)[:frames]
            file["activity_annotation"] = np.array([[1], [3], [3], [3], [7], [0]], float)[:frames]
    return directory


def person_28(frames, seed):
    """The same with 28 joints; those that are not ours are far away."""
    pixels, joints = (np.full((frames, 28, last), -1e5) for last in (2, 3))
    pixels[:, OF_28], joints[:, OF_28] = person_17(frames, seed)
    return pixels, joints


def write_3dhp_training(directory: Path, frames=4) -> Path:
    for n, (subject, sequence) in enumerate(mpi_inf_3dhp.SEQUENCES):
        cells = np.empty((14, 1), object), np.empty((14, 1), object)
        for camera in range(14):
            for cell, points in zip(cells, person_28(frames, 100 * n + camera)):
                cell[camera, 0] = points.reshape(frames, -1)
        (directory / subject / sequence).mkdir(parents=True)
        scipy.io.savemat(directory / subject / sequence / "annot.mat", {
            "annot2": cells[0], "univ_annot3": cells[1], "annot3": cells[1], "cameras": np.arange(14)[None],
            "frames": np.arange(frames)[:, None]})
    return directory


def write_3dhp_converted(directory: Path, frames=4) -> Path:
    def clip(seed):
        return dict(zip(("data_2d", "data_3d"), person_17(frames, seed)))

    save(directory / "data_test_3dhp.npz", data={
        name: {**clip(n), "valid": np.array([1.0, 0, 1, 1])[:frames]} for n, name in enumerate(mpi_inf_3dhp.TESTS)})
    save(directory / "data_train_3dhp.npz", data={
        " ".join(key): [{str(camera): clip(100 * n + camera) for camera in mpi_inf_3dhp.CAMERAS}, fps]
        for n, (key, (_, fps)) in enumerate(mpi_inf_3dhp.SEQUENCES.items())})
    return directory


def write_humaneva(directory: Path, frames=5) -> Path:
    positions_3d, positions_2d = {}, {}
    for prefix in ("Train", "Validate"):
        for n, subject in enumerate(humaneva.SUBJECTS):
            key = f"{prefix}/{subject}"
            positions_3d[key], positions_2d[key] = {}, {}
            for i, chunk in enumerate(("Walking 1 chunk0", "Walking 1 chunk2", "Jog 1 chunk0",
                                       "Box 1 chunk0", "Gestures 1 chunk0")):
                world = z_up(frames, 20 * n + i)[:, THEIR_15]
                positions_3d[key][chunk] = world
                cameras = [seen_by(world, *camera) for camera in humaneva.EXTRINSICS[subject]]
                positions_2d[key][chunk] = [(550 * view[..., :2] / view[..., 2:] + (320, 240)).astype(np.float32)
                                            for view in cameras]
    positions_2d["Unlabeled/S4"] = {"Walking 1": [np.zeros((3, 15, 2), np.float32)] * 3}
    save(directory / "data_3d_humaneva15.npz", positions_3d=positions_3d)
    save(directory / "data_2d_humaneva15_gt.npz", positions_2d=positions_2d,
         metadata={"layout_name": "humaneva15", "num_joints": 15})
    coco = {key: {chunk: [np.random.default_rng(0).uniform(1, 400, (frames, 17, 2)).astype(np.float32)] * 3
                  for chunk in chunks} for key, chunks in positions_2d.items()}
    save(directory / "data_2d_humaneva15_detectron_pt_coco.npz", positions_2d=coco,
         metadata={"layout_name": "coco", "num_joints": 17})
    return directory
