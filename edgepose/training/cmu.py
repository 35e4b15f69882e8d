"""The CMU Graphics Lab's motion capture (mocap.cs.cmu.edu), from its own files to the .npz files that `mocap` reads.

    python -m edgepose.training.cmu --files DIR --out DIR

reads every SUBJECT_TRIAL.amc under DIR with the SUBJECT.asf in its folder, and every SUBJECT_TRIAL.bvh, and writes one
.npz a subject. Lengths in these files are inches times 0.45.

Pelvis: the middle of the hip joints. Spine: the top of `lowerback`. Thorax: the top of `thorax`. Nose: the top of
`upperneck`, the base of the skull. Head: the end of `head`. Shoulders: the ends of the clavicles. Wrists: the ends of
the `wrist` bones. The BVH conversions that are passed on have lost some bones, which are put back where their length is
0: the thorax bone, as long as the one below it and straight up at rest; the wrist bones, half as long as the forearm;
the head, as long as the neck below it and straight up.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..cli import reporting
from ..skeleton import H36M17
from .motion_files import Joint, bvh_positions, read_amc, read_asf, read_bvh

INCH_M = 0.0254
BVH_UNIT = 0.45  # inches; the conversions do not say it
AMC_HZ = 120.0  # an .amc does not say; some trials have 60
OUT_HZ = 60.0
FASTEST_M_S = 24.0  # no joint is as fast: a trial is cut there
SHORTEST_S = 0.5  # a shorter part on either side of a cut is left out

SIDES = (("left", "l", "Left"), ("right", "r", "Right"))
# Our joint: the bone of an .asf at whose end it is.
BONES = {"spine": "lowerback", "thorax": "thorax", "nose": "upperneck", "head": "head"} | {
    f"{side}_{joint}": f"{letter}{bone}" for side, letter, _ in SIDES for joint, bone in (
        ("hip", "hipjoint"), ("knee", "femur"), ("ankle", "tibia"),
        ("shoulder", "clavicle"), ("elbow", "humerus"), ("wrist", "wrist"))}
# Our joint: the joint of a BVH.
JOINTS = {"spine": "Spine", "thorax": "Neck", "nose": "Head", "head": "Head end"} | {
    f"{side}_{joint}": f"{word}{name}" for side, _, word in SIDES for joint, name in (
        ("hip", "UpLeg"), ("knee", "Leg"), ("ankle", "Foot"), ("shoulder", "Arm"), ("elbow", "ForeArm"),
        ("wrist", "FingerBase"))}


def joints_of_amc(amc: Path, asf: Path) -> np.ndarray:
    """(F, 17, 3) m, y up, of an .amc and its skeleton. Raises what read_asf and read_amc raise, and ValueError, naming
    the file, for a bone that is missing."""
    bones, unit = read_asf(asf)
    return _ours(read_amc(amc, bones), BONES, asf) * (INCH_M / unit)


def joints_of_bvh(path: Path) -> tuple[np.ndarray, float]:
    """((F, 17, 3) m, y up; frames a second) of a BVH conversion, lost bones put back. Raises as joints_of_amc."""
    joints, values, fps = read_bvh(path)
    if abs(fps / max(round(fps), 1) - 1) < 1e-3:
        fps = float(round(fps))  # the file's time has few digits: 0.008333 s is 120 Hz
    _put_back(joints, path)
    return _ours(bvh_positions(joints, values), JOINTS, path) * (INCH_M / BVH_UNIT), fps


def _put_back(joints: Mapping[str, Joint], path: Path) -> None:
    needed = ("Spine1", "Neck", "LeftShoulder", "RightShoulder", "Head", "Head end", *(
        f"{word}{name}" for _, _, word in SIDES for name in ("Hand", "FingerBase")))
    missing = [name for name in needed if name not in joints]
    if missing:
        raise ValueError(f"{path} has no joint {', '.join(missing)}; it has {', '.join(joints)}")

    def up(name: str) -> np.ndarray:
        return np.array([0.0, np.linalg.norm(joints[name].offset), 0.0])

    above = [joints[name] for name in ("Neck", "LeftShoulder", "RightShoulder")]
    if not any(joint.offset.any() for joint in above):
        for joint in above:
            joint.offset = up("Spine1")
    if not joints["Head end"].offset.any():
        joints["Head end"].offset = up("Head")
    for _, _, word in SIDES:
        if not joints[f"{word}FingerBase"].offset.any():
            joints[f"{word}FingerBase"].offset = 0.5 * joints[f"{word}Hand"].offset


def _ours(places: Mapping[str, np.ndarray], names: Mapping[str, str], path: Path) -> np.ndarray:
    missing = [name for name in names.values() if name not in places]
    if missing:
        raise ValueError(f"{path} has no {', '.join(missing)}; it has {', '.join(places)}")
    ours = {joint: places[name] for joint, name in names.items()}
    ours["pelvis"] = (ours["left_hip"] + ours["right_hip"]) / 2
    return np.stack([ours[joint] for joint in H36M17.joints], 1)


def parts(joints_m: np.ndarray, fps: float) -> list[np.ndarray]:
    """The trial without its glitches, at OUT_HZ: it is cut where a joint moves faster than FASTEST_M_S, and parts
    shorter than SHORTEST_S are left out. (F, 17, 3) m -> several (F, 17, 3) m."""
    steps = np.linalg.norm(np.diff(joints_m, axis=0), axis=-1).max(-1)
    pieces = np.split(joints_m, np.flatnonzero(steps * fps > FASTEST_M_S) + 1)
    return [_resampled(piece, fps) for piece in pieces if len(piece) >= SHORTEST_S * fps]


def _resampled(joints_m: np.ndarray, fps: float) -> np.ndarray:
    """Linearly between the two nearest frames; from 120 to 60 Hz that is every second one."""
    time = np.arange(int((len(joints_m) - 1) * OUT_HZ / fps) + 1) * fps / OUT_HZ
    before = np.minimum(time.astype(int), len(joints_m) - 1)
    after = np.minimum(before + 1, len(joints_m) - 1)
    blend = (time - before)[:, None, None]
    return joints_m[before] * (1 - blend) + joints_m[after] * blend


def subject_name(subject: str) -> str:
    """"5" and "05" are called "cmu_005", as `mocap` knows its validation subjects; other names stay."""
    return f"cmu_{int(subject):03d}" if subject.isdigit() else subject


def convert(files: Path, out: Path, amc_hz: float = AMC_HZ) -> dict[str, int]:
    """Writes OUT/<subject>.npz for every subject with files under `files`: {its name: frames}. Where a trial is there
    as .amc and as .bvh, the .amc is taken.

    amc_hz: the frame rate of the .amc files. Raises ValueError, naming what is wrong, before anything is written.
    """
    if not amc_hz > 0:
        raise ValueError(f"amc_hz is {amc_hz}; wanted above 0")
    trials = {path.stem: path for suffix in ("bvh", "amc") for path in sorted(Path(files).rglob(f"*.{suffix}"))}
    if not trials:
        raise ValueError(f"{files} has no .amc and no .bvh file")
    subjects: dict[str, list[tuple[str, str, np.ndarray]]] = defaultdict(list)  # (clip, made from, joints)
    for trial, path in sorted(trials.items()):
        subject = trial.partition("_")[0]
        if path.suffix == ".amc":
            asf = path.with_name(f"{subject}.asf")
            if not asf.is_file():
                raise ValueError(f"{path} has no skeleton; wanted {asf}")
            joints_m, fps = joints_of_amc(path, asf), amc_hz
        else:
            joints_m, fps = joints_of_bvh(path)
        pieces = parts(joints_m, fps)
        for n, piece in enumerate(pieces, 1):
            subjects[subject_name(subject)].append((f"{trial}_p{n}" if len(pieces) > 1 else trial,
                                                    path.suffix[1:].upper(), piece))
    Path(out).mkdir(parents=True, exist_ok=True)
    for subject, clips in subjects.items():
        names, kinds, pieces = zip(*clips)
        np.savez_compressed(
            Path(out) / f"{subject}.npz", positions=np.concatenate(pieces).astype(np.float32),
            clip_starts=np.cumsum([0, *(len(piece) for piece in pieces[:-1])]).astype(np.int32),
            clip_names=np.array(names),
            clip_descriptions=np.array([""] * len(names)),
            clip_sources=np.array([f"mocap.cs.cmu.edu ({kind})" for kind in kinds]),
            fps=np.float32(OUT_HZ), joint_names=np.array(H36M17.joints), parents=np.array(H36M17.parents))
    return {subject: sum(len(piece) for _, _, piece in clips) for subject, clips in subjects.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", required=True, type=Path, metavar="DIR",
                        help="with .asf and .amc, or .bvh files, at any depth")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the .npz files go, one a subject")
    parser.add_argument("--amc-hz", type=float, default=AMC_HZ,
                        help=f"frame rate of the .amc files (default {AMC_HZ:g})")
    options = parser.parse_args()

    def run() -> None:
        for name, frames in convert(options.files, options.out, options.amc_hz).items():
            print(f"{options.out / name}.npz: {frames} frames at {OUT_HZ:g} Hz")

    sys.exit(reporting("cmu", run))
