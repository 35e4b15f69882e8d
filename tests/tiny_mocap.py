"""A folder of motion capture in the real format, with a handful of frames, for the tests of training."""

from pathlib import Path

import numpy as np

from edgepose.skeleton import H36M17

STANDING = {  # metres; faces +z, so the person's left is +x
    "pelvis": (0, 0.9, 0),
    "right_hip": (-0.09, 0.9, 0), "right_knee": (-0.09, 0.5, 0.02), "right_ankle": (-0.09, 0.08, 0),
    "spine": (0, 1.12, -0.03), "thorax": (0, 1.35, 0), "nose": (0, 1.53, 0.01), "head": (0, 1.63, 0.03),
    "right_shoulder": (-0.18, 1.41, 0), "right_elbow": (-0.22, 1.12, 0), "right_wrist": (-0.2, 0.87, 0.08)}


def standing() -> np.ndarray:
    """(17, 3) m, y up."""
    places = {**STANDING, **{joint.replace("right", "left"): (-x, y, z) for joint, (x, y, z) in STANDING.items()}}
    return np.array([places[joint] for joint in H36M17.joints], np.float32)


def write_subject(directory: Path, subject: str, clip_frames: tuple[int, ...], fps: float = 60.0) -> np.ndarray:
    """Write <subject>.npz with clips of so many frames each, in which a person sways and drifts; returns the positions
    (F, 17, 3)."""
    rng = np.random.default_rng(sum(subject.encode()))
    frames = sum(clip_frames)
    sway = np.cumsum(rng.normal(0, 0.004, (frames, 17, 3)), 0)
    positions = (standing() + sway + np.array([0.01, 0, 0.02]) * np.arange(frames)[:, None, None]).astype(np.float32)
    write_positions(directory, subject, positions, clip_frames, fps)
    return positions


def write_positions(directory: Path, subject: str, positions: np.ndarray, clip_frames: tuple[int, ...],
                    fps: float = 60.0) -> None:
    """Write <subject>.npz with these positions (F, 17, 3), clips of so many frames each."""
    starts = np.cumsum((0, *clip_frames[:-1]))
    directory.mkdir(parents=True, exist_ok=True)
    np.savez(directory / f"{subject}.npz", positions=positions, clip_starts=starts.astype(np.int32),
             clip_names=np.array([f"{subject}_{i:02d}" for i in range(len(clip_frames))]),
             clip_descriptions=np.array(["sway"] * len(clip_frames)),
             clip_sources=np.array(["made"] * len(clip_frames)),
             fps=np.float32(fps), joint_names=np.array(H36M17.joints), parents=np.array(H36M17.parents))


def write_all(directory: Path) -> Path:
    """Two training subjects and one for validation."""
    write_subject(directory, "cmu_001", (40, 9))
    write_subject(directory, "cmu_002", (30,))
    write_subject(directory, "cmu_086", (35,))
    return directory
