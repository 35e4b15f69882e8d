"""Identities that People changes: on simulated crossings of real motion, and on recordings whose people are known.

    python -m edgepose.benchmarks.people
    python -m edgepose.benchmarks.people --recordings pose2sim_multi_mediapipe_cam1.npz
    python -m edgepose.benchmarks.people --motion

The motion is that of the windows and clips that ship: motion capture through cameras and a simulated detector, and a
man on a beam as OpenPose saw him. Of each frame the order is shuffled and one detection in ten is lost.
A recording has `person` (F, P) beside its keypoints: whose pose each is, -1 for nobody's; `keypoints_NAME` comes with
`person_NAME`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepose.adapters import ADAPTERS
from edgepose.clip import load_clip
from edgepose.people import People
from edgepose.shipped import shipped_file
from edgepose.skeleton import H36M17

PICTURE = (26000, 4000)  # px: twenty people beside each other
SIZE_PX = 400  # a person's size, before they differ by SIZES
SIZES = (0.8, 1.25)
WALK_PER_S = (0.3, 1.2)  # sizes: 0.5 to 2 m/s
LOST = 0.1  # part of the detections
SECONDS = 4
WINDOWS_HZ = 50  # the frame rate of the shipped windows
SEEN = 0.3
SCENES = {2: 150, 5: 40, 20: 8}  # people: so many scenes
GAPS_S = (1 / 60, 1 / 30, 0.1, 0.2, 0.5, 1.0)


class NoLifter:
    """A stand-in for an engine: people are told apart by their keypoints alone."""

    frames, skeleton, rate_hz = 1, H36M17, 50.0

    def run(self, keypoints_norm: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Joints that are all in one place."""
        return np.zeros((len(keypoints_norm), len(H36M17), 3), np.float32)


@dataclass(frozen=True)
class Count:
    """Switches: a person has another id than when last seen. Crossings: of two people. lost: detections without an
    id."""

    switches: int = 0
    crossings: int = 0
    detections: int = 0
    lost: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


def motions() -> list[tuple[np.ndarray, float]]:
    """(joints (F, 17, 3) px of x, y and confidence, frames a second) of each piece of real motion that ships."""
    keypoints_norm = np.load(shipped_file("clips/evaluation351.npz"))["keypoints_norm"].astype(float)
    found = [(np.dstack([window * SIZE_PX, np.ones(window.shape[:2])]), WINDOWS_HZ) for window in keypoints_norm]
    for name in ("balance_cam1", "balance_cam2", "balance_cam3"):
        clip = load_clip(name)
        xy, confidence = ADAPTERS[clip.layout].onto(H36M17)(clip.keypoints_px)
        found.append((np.dstack([xy, confidence]), clip.fps))
    return found


def crowd(rng: np.random.Generator, people: int, rate_hz: float, is_crossing: bool) -> np.ndarray:
    """(F, people, 17, 3) px: people who walk to and fro through each other, or each in a lane of their own."""
    times_s, pieces = np.arange(round(SECONDS * rate_hz)) / rate_hz, motions()
    width = max(4.0, 1.2 * people)  # sizes
    walkers = []
    for person in range(people):
        piece, piece_hz = pieces[rng.integers(len(pieces))]
        there_and_back = np.concatenate([piece, piece[::-1]])
        frames = (times_s * piece_hz).astype(int) % len(there_and_back)
        joints = there_and_back[frames].copy()
        xy = joints[..., :2]
        xy /= np.median(np.ptp(xy, axis=1).max(axis=1))
        for axis in (0, 1):  # without the way that the piece itself goes
            xy[..., axis] -= np.polyval(np.polyfit(times_s, xy[:, 0, axis], 1), times_s)[:, None]
        xy *= rng.uniform(*SIZES)
        if is_crossing:
            speed, middle = rng.uniform(*WALK_PER_S) * rng.choice([-1, 1]), rng.uniform(-width, width) / 4
            xy += np.stack([middle + speed * (times_s - SECONDS / 2),
                            np.full(len(times_s), rng.uniform(-0.15, 0.15))], axis=1)[:, None]
        else:
            xy[..., 0] += 3 * (person + 0.5 - people / 2)
        xy *= SIZE_PX
        xy += np.divide(PICTURE, 2)
        walkers.append(joints)
    return np.stack(walkers, axis=1)


def detections(rng: np.random.Generator, everybody: np.ndarray,
               lost: float = LOST) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """(who is found, in any order, and their joints) in each frame of a crowd."""
    for frame in everybody:
        found = rng.permutation(len(frame))
        found = found[rng.random(len(found)) >= lost]
        yield found, frame[found]


def crossings(everybody: np.ndarray) -> int:
    """Pairs of people who pass each other, from left to right."""
    x = everybody[:, :, 0, 0]
    pairs = [(a, b) for a in range(x.shape[1]) for b in range(a)]
    return sum(bool((np.diff(np.sign(x[:, a] - x[:, b])) != 0).any()) for a, b in pairs)


def count(people: People, frames: Iterable[tuple[Sequence[int], np.ndarray]], rate_hz: float) -> Count:
    """The switches in (who they are, their keypoints) of each frame, pushed through `people`. Nobody is -1."""
    last: dict[int, int] = {}
    switches = pushed = lost = 0
    for n, (who, keypoints_px) in enumerate(frames):
        people.push(keypoints_px, n / rate_hz)
        for person, identity in zip(np.asarray(who).tolist(), people.ids.tolist()):
            if person < 0:
                continue
            pushed += 1
            lost += identity < 0
            if identity >= 0:
                switches += last.setdefault(person, identity) != identity
                last[person] = identity
    return Count(switches, 0, pushed, lost)


def simulated(people: int, scenes: int, rate_hz: float, is_crossing: bool, seed: int = 0) -> Count:
    """The count over so many scenes."""
    rng, total = np.random.default_rng(seed), Count()
    for _ in range(scenes):
        everybody = crowd(rng, people, rate_hz, is_crossing)
        followed = People(NoLifter(), "h36m17", PICTURE, most_people=2 * people)
        total += count(followed, detections(rng, everybody), rate_hz)
        total += Count(crossings=crossings(everybody))
    return total


def recorded(path: Path, keypoints: str, person: str) -> Count:
    """The count over a recording, from each person's first frame on."""
    arrays = np.load(path)
    layout = str(arrays["layout"])
    layout = layout if layout in ADAPTERS else "mediapipe33"
    size = tuple(arrays["image_size"].astype(float).tolist())
    return count(People(NoLifter(), layout, size), zip(arrays[person], arrays[keypoints]), float(arrays["fps"]))


def motion_errors(gap_s: float) -> tuple[np.ndarray, np.ndarray]:
    """(places, poses) in sizes: the distance of people after a time from where they were expected, and that of their
    joints around them, root mean square, in all pieces of motion."""
    places, poses = [], []
    for joints, rate_hz in motions():
        gap, before = max(1, round(gap_s * rate_hz)), max(1, round(rate_hz / 30))
        for frame in range(before, len(joints) - gap):
            past, here, there = joints[frame - before], joints[frame], joints[frame + gap]
            seen = (np.stack([past, here, there])[..., 2] >= SEEN).all(axis=0)
            if seen.sum() < len(seen) / 2:
                continue
            size = np.ptp(here[here[:, 2] >= SEEN, :2], axis=0).max()
            step, moved = (here - past)[seen, :2], (there - here)[seen, :2]
            middle = np.median(moved, axis=0)
            places.append(np.linalg.norm(middle - np.median(step, axis=0) * gap / before) / size)
            poses.append(np.sqrt(((moved - middle) ** 2).sum(axis=1).mean()) / size)
    return np.array(places), np.array(poses)


def plot_ids(path: Path) -> None:
    """A picture of five people who cross: where each is over time, coloured by the place in the list and by the id."""
    import matplotlib.pyplot as plt

    rng, rate_hz = np.random.default_rng(4), 30
    everybody, people = crowd(rng, 5, rate_hz, True), People(NoLifter(), "h36m17", PICTURE)
    rows: list[tuple[float, float, int, int]] = []  # time, x in sizes, place, id
    for n, (found, joints) in enumerate(detections(rng, everybody)):
        people.push(joints, n / rate_hz)
        rows += [(n / rate_hz, x / SIZE_PX, place, identity)
                 for place, (x, identity) in enumerate(zip(joints[:, 0, 0], people.ids.tolist()))]
    times_s, x, places, ids = np.array(rows).T
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), sharey=True, layout="constrained")
    titles = "by the place in the detector's list", "by the id of People"
    for axis, colours, title in zip(axes, (places, ids), titles):
        axis.scatter(times_s, x - x.mean(), s=6, c=colours, cmap="tab10", vmin=0, vmax=9)
        axis.set(title=title, xlabel="s")
    axes[0].set_ylabel("from left to right, heights")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this program."""
    parser.add_argument("--recordings", nargs="+", type=Path, default=[], metavar="FILE.npz",
                        help="recordings whose people are known")
    parser.add_argument("--plot", type=Path, metavar="FILE",
                        help="a picture of five people who cross (matplotlib)")
    parser.add_argument("--motion", action="store_true", help="how far people and poses go in a time: the tracker's "
                                                              "constants")


def main() -> None:
    """Prints what was asked for; without options the simulated crossings."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.motion:
        for gap_s in GAPS_S:
            texts = [" / ".join(f"{value:.3f}" for value in np.percentile(errors, (50, 99, 99.9)))
                     for errors in motion_errors(gap_s)]
            print(f"after {gap_s:.3f} s, sizes (median / 99 % / 99.9 %): place {texts[0]}, pose {texts[1]}")
    for path in arguments.recordings:
        names = np.load(path).files
        for keypoints in (name for name in names if name.split("_")[0] == "keypoints"):
            person = keypoints.replace("keypoints", "person")
            if person in names:
                print(f"{path.name} {keypoints}: {recorded(path, keypoints, person)}")
    if arguments.plot:
        plot_ids(arguments.plot)
    if not (arguments.motion or arguments.recordings or arguments.plot):
        for people, scenes in SCENES.items():
            for rate_hz in (30, 60):
                for is_crossing in (True, False):
                    total = simulated(people, scenes, rate_hz, is_crossing)
                    print(f"{people:2} people at {rate_hz} Hz, {'crossing' if is_crossing else 'apart':8}: {total}",
                          flush=True)


if __name__ == "__main__":
    main()
