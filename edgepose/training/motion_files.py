"""Files of motion capture: Acclaim's skeleton (.asf) with its motion (.amc), and BVH. Both give where every joint is,
in the units of the file, world axes as the file has them.

Sources: the Acclaim and BVH descriptions of M. Meredith and S. Maddock, "Motion capture file formats explained", 2001.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


LONGEST_NUMBER = 18  # digits of a frame's number


def rotations(degrees: np.ndarray, axes: str) -> np.ndarray:
    """Products of rotations about the axes, the first the outermost: (..., n), "zyx" -> (..., 3, 3)."""
    product = np.broadcast_to(np.eye(3), (*degrees.shape[:-1], 3, 3))
    for i, axis in enumerate(axes):
        cos, sin = np.cos(np.radians(degrees[..., i])), np.sin(np.radians(degrees[..., i]))
        turn = np.zeros((*degrees.shape[:-1], 3, 3))
        a, b = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
        c = 3 - a - b
        turn[..., c, c] = 1
        turn[..., a, a], turn[..., a, b], turn[..., b, a], turn[..., b, b] = cos, -sin, sin, cos
        product = product @ turn
    return product


@dataclass
class Bone:
    """A bone of an .asf. direction: (3,), from its start to its end at rest, of length 1. axes: (3, 3), what its angles
    are about.

    dof: the angles that the motion has for it, in the order in which they turn it: "xyz", "x", ...; for the root with
    the letters of its translation in front, "XYZxyz".
    """

    name: str
    direction: np.ndarray = field(default_factory=lambda: np.zeros(3))
    length: float | None = None
    axes: np.ndarray = field(default_factory=lambda: np.eye(3))
    dof: str = ""
    parent: str = ""


class _Lines:
    """The lines of a file that say something, as words; raises errors that name the file and the line."""

    def __init__(self, path: Path, comment: str = "#"):
        self.path, self.number = path, 0
        try:
            self.text = path.read_text(encoding="latin1").splitlines()
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error}") from error
        self.comment = comment

    def __iter__(self) -> Iterator[list[str]]:
        for self.number, line in enumerate(self.text, 1):
            words = line.partition(self.comment)[0].split()
            if words:
                yield words

    def error(self, message: str) -> ValueError:
        return ValueError(f"{self.path}, line {self.number}: {message}")

    def numbers(self, words: Sequence[str], count: int) -> np.ndarray:
        try:
            values = np.array([float(word) for word in words])
        except ValueError:
            values = np.array([np.nan])
        if len(values) != count or not np.isfinite(values).all():
            raise self.error(f"{' '.join(words[:8])!r} has {len(words)} words; wanted {count} finite numbers")
        return values


def read_asf(path: Path) -> tuple[dict[str, Bone], float]:
    """({name: bone}, parents before their children; the length of a unit, in inches, as :units says).

    Raises ValueError, naming the file and the line, for anything that is not an Acclaim skeleton in degrees.
    """
    lines, section, unit = _Lines(path), "", 1.0
    bones, open_bone = {"root": Bone("root")}, None
    order = ["root"]
    angles, axis = np.zeros(3), "xyz"  # the root's
    for words in lines:
        key, rest = words[0].lower(), words[1:]
        if key.startswith(":"):
            section = key
        elif section == ":units" and key == "length":
            unit = float(lines.numbers(rest, 1)[0])
        elif section == ":units" and key == "angle" and rest != ["deg"]:
            raise lines.error(f"angles in {' '.join(rest)}; wanted deg")
        elif section == ":root" and key == "order":
            bones["root"].dof = "".join(_dof(lines, word) for word in rest)
        elif section == ":root" and key == "axis":
            axis = _order(lines, rest)
        elif section == ":root" and key == "position" and lines.numbers(rest, 3).any():
            raise lines.error("a root that is not at 0 0 0 is not read")
        elif section == ":root" and key == "orientation":
            angles = lines.numbers(rest, 3)
        elif section == ":bonedata":
            open_bone = _bone_line(lines, key, rest, open_bone, bones)
        elif section == ":hierarchy" and key not in ("begin", "end"):
            for name in words:
                if name not in bones:
                    raise lines.error(f"bone {name!r} is not in :bonedata; there are {', '.join(bones)}")
            if words[0] not in order:
                raise lines.error(f"{words[0]!r} has children before it has a parent")
            for child in rest:
                bones[child].parent = words[0]
            order += rest
    if len(order) < 2 or not bones["root"].dof:
        raise ValueError(f"{path} has no :root with an order, or no :hierarchy; it is no Acclaim skeleton")
    bones["root"].axes = rotations(angles[::-1], axis[::-1])
    return {name: bones[name] for name in order}, unit


def _bone_line(lines: _Lines, key: str, rest: list[str], bone: Bone | None, bones: dict[str, Bone]) -> Bone | None:
    """One line of :bonedata; the bone that is open after it. Its end puts it into `bones`."""
    if key == "begin":
        return Bone("")
    if bone is None:
        raise lines.error(f"{key!r} outside of begin and end")
    if key == "end":
        if not bone.name or not bone.direction.any() or bone.length is None:
            raise lines.error("a bone needs a name, a direction and a length")
        bones[bone.name] = bone
        return None
    if key == "name" and len(rest) == 1:
        bone.name = rest[0]
    elif key == "direction":
        bone.direction = lines.numbers(rest, 3)
    elif key == "length":
        bone.length = float(lines.numbers(rest, 1)[0])
    elif key == "axis":
        bone.axes = rotations(lines.numbers(rest[:3], 3)[::-1], _order(lines, rest[3:])[::-1])
    elif key == "dof":
        bone.dof = "".join(_dof(lines, word) for word in rest)
    return bone


def _dof(lines: _Lines, word: str) -> str:
    letters = {"tx": "X", "ty": "Y", "tz": "Z", "rx": "x", "ry": "y", "rz": "z"}
    if word.lower() not in letters:
        raise lines.error(f"degree of freedom {word!r}; there are {', '.join(letters)}")
    return letters[word.lower()]


def _order(lines: _Lines, words: Sequence[str]) -> str:
    if len(words) != 1 or sorted(words[0].lower()) != ["x", "y", "z"]:
        raise lines.error(f"axis order {' '.join(words)!r}; wanted one like XYZ")
    return words[0].lower()


def read_amc(path: Path, bones: dict[str, Bone]) -> dict[str, np.ndarray]:
    """The end of each bone in every frame of an .amc, in the units of the skeleton: {name: (F, 3)}; "root" is the root
    itself.

    Raises ValueError, naming the file and the line, for a bone that the skeleton has not, a missing or repeated one, a
    wrong number of angles, radians, or frames that do not count from one to the next.
    """
    lines = _Lines(path)
    moved = {name: bone for name, bone in bones.items() if bone.dof}
    values: dict[str, list[np.ndarray]] = {name: [] for name in moved}
    frame = first = None
    for words in lines:
        if words[0].startswith(":"):
            if words[0].lower() == ":radians":
                raise lines.error("angles in radians; wanted :DEGREES")
        elif len(words) == 1 and words[0].isdecimal() and len(words[0]) <= LONGEST_NUMBER:
            number = int(words[0])
            if frame is None:
                first = number
            elif number != frame + 1:
                raise lines.error(f"frame {number} after frame {frame}")
            else:
                _check_frame(lines, values, number - first)
            frame = number
        elif words[0] not in moved:
            raise lines.error(f"{words[0]!r} is no bone that moves; the skeleton has {', '.join(moved)}")
        elif frame is None or len(values[words[0]]) != frame - first:
            raise lines.error(f"{words[0]!r} " + ("before the first frame" if frame is None
                                                  else f"twice in frame {frame}"))
        else:
            values[words[0]].append(lines.numbers(words[1:], len(moved[words[0]].dof)))
    if frame is None:
        raise ValueError(f"{path} has no frames")
    _check_frame(lines, values, frame + 1 - first)
    return _ends(bones, {name: np.stack(rows) for name, rows in values.items()}, frame + 1 - first)


def _check_frame(lines: _Lines, values: dict[str, list[np.ndarray]], frames: int) -> None:
    missing = [name for name, rows in values.items() if len(rows) != frames]
    if missing:
        raise lines.error(f"the frame that ends here has no {', '.join(missing)}")


def _ends(bones: dict[str, Bone], values: dict[str, np.ndarray], frames: int) -> dict[str, np.ndarray]:
    """A bone's angles turn it in its own axes C: its rotation in the world is that of its parent times C M C^-1."""
    turns, ends = {}, {}
    for name, bone in bones.items():
        angles = [i for i, letter in enumerate(bone.dof) if letter.islower()]
        turn = np.broadcast_to(np.eye(3), (frames, 3, 3))
        if angles:  # the first angle turns first: it is the innermost
            turn = bone.axes @ rotations(values[name][:, angles[::-1]],
                                         "".join(bone.dof[i] for i in angles[::-1])) @ bone.axes.T
        if not bone.parent:
            turns[name], ends[name] = turn, np.zeros((frames, 3))
            for i, letter in enumerate(bone.dof):
                if letter.isupper():
                    ends[name][:, "XYZ".index(letter)] = values[name][:, i]
        else:
            turns[name] = turns[bone.parent] @ turn
            ends[name] = ends[bone.parent] + turns[name] @ (bone.length * bone.direction)
    return ends


@dataclass
class Joint:
    """A joint of a BVH. offset: (3,), from its parent in the parent's axes. channels: as in the file. An end site is
    called "<its joint> end"."""

    name: str
    parent: str
    offset: np.ndarray
    channels: list[str]


def read_bvh(path: Path) -> tuple[dict[str, Joint], np.ndarray, float]:
    """({name: joint}, parents before their children; the values of all channels (F, C); frames a second).

    Raises ValueError, naming the file and the line, for anything that is not a BVH.
    """
    lines = _Lines(path)
    joints: dict[str, Joint] = {}
    open_joints: list[str] = []
    rows, frames, fps, columns, in_motion = [], None, None, 0, False
    for words in lines:
        key = words[0].lower()
        if in_motion and key == "frames:":
            frames = int(lines.numbers(words[1:], 1)[0])
        elif in_motion and words[0].lower() == "frame" and len(words) == 3:
            seconds = float(lines.numbers(words[2:], 1)[0])
            if not seconds > 0:
                raise lines.error(f"a frame of {seconds} s; wanted above 0")
            fps = 1 / seconds
        elif in_motion:
            rows.append(lines.numbers(words, columns))
        elif key in ("root", "joint", "end"):
            name = f"{open_joints[-1]} end" if key == "end" and open_joints else " ".join(words[1:])
            if name in joints or (key == "root") != (not open_joints):
                raise lines.error(f"{' '.join(words)!r}: wanted one root, and every name once")
            joints[name] = Joint(name, open_joints[-1] if open_joints else "", np.zeros(3), [])
            open_joints.append(name)
        elif key == "}":
            if not open_joints:
                raise lines.error("a } without its {")
            open_joints.pop()
        elif key == "offset" and open_joints:
            joints[open_joints[-1]].offset = lines.numbers(words[1:], 3)
        elif key == "channels" and open_joints:
            channels = [word.lower() for word in words[2:]]
            known = {f"{axis}{kind}" for axis in "xyz" for kind in ("position", "rotation")}
            if words[1:2] != [str(len(channels))] or not set(channels) <= known:
                raise lines.error(f"{' '.join(words)!r}; wanted their number, then some of {', '.join(sorted(known))}")
            if len(open_joints) > 1 and any(channel.endswith("position") for channel in channels):
                raise lines.error(f"{open_joints[-1]!r} moves against its parent; only a root may have positions")
            joints[open_joints[-1]].channels = channels
            columns += len(channels)
        elif key == "motion":
            in_motion = True
        elif key not in ("hierarchy", "{"):
            raise lines.error(f"{' '.join(words[:8])!r} does not belong in a BVH")
    if not rows or fps is None or frames != len(rows):
        raise ValueError(f"{path} has {len(rows)} frames; it says {frames}, at {fps} Hz, and must have some")
    return joints, np.stack(rows), fps


def bvh_positions(joints: dict[str, Joint], values: np.ndarray) -> dict[str, np.ndarray]:
    """The place of each joint in every frame: {name: (F, 3)}, in the units of the file. values: (F, C), as from
    read_bvh."""
    turns, places, column = {}, {}, 0
    for name, joint in joints.items():
        mine = values[:, column:column + len(joint.channels)]
        column += len(joint.channels)
        angles = [i for i, channel in enumerate(joint.channels) if channel.endswith("rotation")]
        turn = rotations(mine[:, angles], "".join(joint.channels[i][0] for i in angles))  # the first is the outermost
        shift = np.tile(joint.offset, (len(values), 1))
        for i, channel in enumerate(joint.channels):
            if channel.endswith("position"):
                shift[:, "xyz".index(channel[0])] += mine[:, i]
        if joint.parent:
            turns[name] = turns[joint.parent] @ turn
            places[name] = places[joint.parent] + (turns[joint.parent] @ shift[..., None])[..., 0]
        else:
            turns[name], places[name] = turn, shift
    return places
