"""Places, bones and angles on real clips: how far off people stand, and what constant bones cost.

    python -m edgepose.benchmarks.place --data DIR
    python -m edgepose.benchmarks.place --windows
    python -m edgepose.benchmarks.place --plot-place place.png --plot-angles angles.png

DIR has real clips with cameras and references, as `edgepose evaluate --data real` takes them. The pictures are of the
clips that ship.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import edgepose
from edgepose.clip import CLIPS, Clip, load_clip, stream_clip
from edgepose.columns import LENGTHS, joints_of, with_all_columns
from edgepose.kinematics import Kinematics, with_constant_bones
from edgepose.skeleton import H36M17, Skeleton
from edgepose.stream import Pose
from edgepose.training.real_clips import LIMBS, from_hips, read_real_clips

ENGINES = ("ampose", "posemlp", "dln-s")
SHIPPED = ("balance_cam1", "balance_cam2", "balance_cam3")
PIXELS_AN_INCH = 110
WINDOWS, EVERY = "evaluation351.npz", 5  # frames of a window of 7 s that are lifted


def lengths_of(joints_m: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """(N, bones) m of (N, J, 3)."""
    parents, ends = np.array(skeleton.bones).T
    return np.linalg.norm(joints_m[:, ends] - joints_m[:, parents], axis=-1)


def variation(joints_m: np.ndarray, skeleton: Skeleton) -> float:
    """The widest range of a bone's length over its mean."""
    found = lengths_of(joints_m, skeleton)
    return float((np.ptp(found, axis=0) / found.mean(axis=0)).max())


def limb_error_mm(joints_m: np.ndarray, wanted_m: np.ndarray, skeleton: Skeleton) -> float:
    """MPJPE of the limbs from the middle of the hips, over the frames in which all are known. wanted_m: (N, 12, 3)."""
    found = from_hips(joints_m[:, [skeleton.index(joint) for joint in LIMBS]].astype(float))
    return 1e3 * float(np.nanmean(np.linalg.norm(found - wanted_m, axis=-1)))


def rows(folder: str, heights_m: dict[str, float]) -> Iterator[str]:
    """A line for each engine and clip of a folder. heights_m: standing heights by parts of the clips' names."""
    for name in ENGINES:
        engine = edgepose.load(name)
        errors = []
        for clip in read_real_clips(folder)[0]:
            height_m = next((height for part, height in heights_m.items() if part in clip.name), None)
            poses, _ = stream_clip(engine, clip.detected, camera=clip.lens, distortion=clip.distortion,
                                   height_m=height_m)
            live, _ = stream_clip(engine, clip.detected, camera=clip.lens, distortion=clip.distortion,
                                  height_m=height_m, constant_bones=True)
            frames = clip.detected.frames_at(np.array([pose.timestamp_s for pose in poses]))
            true_m, wanted_m = clip.hips_m[frames], clip.reference_m[frames]
            found_m = np.array([np.full(3, np.nan) if pose.root_m is None else pose.root_m for pose in poses])
            off = np.abs(found_m[:, 2] / true_m[:, 2] - 1)
            joints_m = np.stack([pose.joints_m for pose in poses])
            held_m, live_m = with_constant_bones(joints_m, engine.skeleton), np.stack([pose.joints_m for pose in live])
            errors.append([limb_error_mm(some, wanted_m, engine.skeleton) for some in (joints_m, held_m, live_m)])
            raw, held, streamed = errors[-1]
            yield (f"{name:8} {clip.name:38}{'' if height_m is None else f' of {height_m:g} m'}: distance "
                   f"{np.nanmean(true_m[:, 2]):.2f} m, off by {np.nanmedian(off):.1%} (95 %: "
                   f"{np.nanpercentile(off, 95):.1%}); bones vary by {variation(joints_m, engine.skeleton):.0%}, held "
                   f"{variation(held_m, engine.skeleton):.2%}; error {raw:.1f} mm, held {held:.1f}, as they come "
                   f"{streamed:.1f}")
        yield "{} mean error {:.1f} mm, held {:.1f}, as they come {:.1f}".format(name, *np.mean(errors, axis=0))


def window_rows() -> Iterator[str]:
    """A line for each engine: the windows that ship, of strangers through simulated cameras and detectors, with bones
    that are held as learnt from each window, and as measured."""
    with np.load(CLIPS / WINDOWS) as arrays:
        keypoints_norm, targets_m = arrays["keypoints_norm"][:, ::EVERY].astype(np.float32), arrays["target_m"]
    middle = keypoints_norm.shape[1] // 2
    for name in ENGINES:
        engine = edgepose.load(name)
        errors = []
        for window, target_m in zip(keypoints_norm, targets_m):
            joints_m = joints_of(engine.run(with_all_columns(window[:, None], engine)))
            true_m = dict(zip((end for _, end in H36M17.bones), lengths_of(target_m[None], H36M17)[0]))
            known = {part: float(true_m[H36M17.index(joints[0])]) for part, joints in LENGTHS.items()
                     if part in ("upper_arm", "forearm", "thigh", "shank")}
            for some in (joints_m, with_constant_bones(joints_m, H36M17),
                         with_constant_bones(joints_m, H36M17, known)):
                errors.append(1e3 * np.linalg.norm(some[middle] - target_m, axis=-1).mean())
        raw, held, told = np.reshape(errors, (-1, 3)).mean(axis=0)
        yield f"{name:8} {WINDOWS}: error {raw:.1f} mm, held as learnt {held:.1f}, with the limbs measured {told:.1f}"


def camera_of(name: str) -> dict[str, np.ndarray]:
    """The arrays of a shipped clip: camera_K, camera_R, camera_t, ..."""
    with np.load(CLIPS / f"{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


def placed(clip: Clip, arrays: dict[str, np.ndarray], engine: edgepose.Engine) -> list[Pose]:
    """The poses of a shipped clip, with their places."""
    matrix = arrays["camera_K"]
    return stream_clip(engine, clip, camera=(matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]))[0]


def plot_place(path: Path) -> None:
    """A man on a beam seen from above, by three cameras apart from each other, in the world of the calibration."""
    import matplotlib.pyplot as plt

    figure, (above, depth) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    engine = edgepose.load("ampose")
    for i, name in enumerate(SHIPPED):
        arrays, clip = camera_of(name), load_clip(name)
        poses = placed(clip, arrays, engine)
        world = edgepose.Axes.of_camera(arrays["camera_R"], arrays["camera_t"])
        roots_m, error_m = (np.stack([getattr(pose, key) for pose in poses]) for key in ("root_m", "root_error_m"))
        x, y, _ = world(roots_m).T
        above.plot(x, y, color=f"C{i}", label=f"by camera {i + 1}")
        above.plot(*world.origin_m[:2], "^", color=f"C{i}", markersize=9)
        times_s = [pose.timestamp_s for pose in poses]
        depth.plot(times_s, roots_m[:, 2], color=f"C{i}")
        depth.fill_between(times_s, roots_m[:, 2] - error_m[:, 2], roots_m[:, 2] + error_m[:, 2], color=f"C{i}",
                           alpha=0.15)
    above.set(title="from above: cameras (triangles) and the man", xlabel="m", ylabel="m", aspect="equal")
    above.legend(fontsize=8)
    depth.set(title="root_m: distance, and its stated error", xlabel="s", ylabel="m")
    figure.savefig(path, dpi=PIXELS_AN_INCH)
    plt.close(figure)


def plot_angles(path: Path) -> None:
    """The angles of the man's knees, and the length of a forearm as the engine has it and held."""
    import matplotlib.pyplot as plt

    clip, engine = load_clip("balance_cam2"), edgepose.load("ampose")
    poses, _ = stream_clip(engine, clip)
    joints_m, times_s = np.stack([pose.joints_m for pose in poses]), [pose.timestamp_s for pose in poses]
    kinematics, held_m = Kinematics(engine.skeleton), with_constant_bones(joints_m, engine.skeleton)
    movements = [kinematics.at(*moment) for moment in zip(held_m, times_s)]
    figure, (knees, bones) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for side, colour in (("left", "C0"), ("right", "C1")):
        for angle, style in (("knee_flexion", "-"), ("hip_flexion", "--")):
            name = f"{side}_{angle}"
            knees.plot(times_s, [movement.angles_deg[name] for movement in movements], style, color=colour, label=name)
    knees.set(title="joint angles", xlabel="s", ylabel="degrees")
    knees.legend(fontsize=8)
    wrist = [joint for _, joint in H36M17.bones].index(H36M17.index("left_wrist"))
    for some, label in ((joints_m, "as the engine has it"), (held_m, "held")):
        bones.plot(times_s, 1e3 * lengths_of(some, engine.skeleton)[:, wrist], label=label)
    bones.set(title="length of the left forearm", xlabel="s", ylabel="mm", ylim=(0, 350))
    bones.legend(fontsize=8)
    figure.savefig(path, dpi=PIXELS_AN_INCH)
    plt.close(figure)


def main() -> None:
    """Prints and draws what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", metavar="DIR", help="real clips with cameras and references")
    parser.add_argument("--height", nargs=2, action="append", default=[], metavar=("PART_OF_NAME", "METRES"),
                        help="the standing height of the person of a clip")
    parser.add_argument("--windows", action="store_true", help="the error with constant bones on the shipped windows")
    parser.add_argument("--plot-place", type=Path, metavar="FILE", help="a picture of where a man stands (matplotlib)")
    parser.add_argument("--plot-angles", type=Path, metavar="FILE", help="a picture of his angles and bones")
    arguments = parser.parse_args()
    if arguments.data:
        for row in rows(arguments.data, {part: float(height) for part, height in arguments.height}):
            print(row, flush=True)
    if arguments.windows:
        for row in window_rows():
            print(row, flush=True)
    if arguments.plot_place:
        plot_place(arguments.plot_place)
    if arguments.plot_angles:
        plot_angles(arguments.plot_angles)


if __name__ == "__main__":
    main()
