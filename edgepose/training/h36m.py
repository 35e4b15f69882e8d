"""Human3.6M, from the files of VideoPose3D: `data_3d_h36m.npz` and `data_2d_h36m_gt.npz` or `..._cpn_ft_h36m_dbb.npz`.

`positions_3d` {subject: {action: (F, 32, 3)}}, metres, world axes with z up; 17 joints pass as those already picked.
`positions_2d` {subject: {action: four arrays (F, 17, 2)}} px, one a camera in the order of LENSES; 16 joints pass as
those without the nose, which is put half way between thorax and head. 50 Hz. "Walking 1" is a second take of "Walking".
Protocol: S1, 5, 6, 7, 8 are for training, S9 and S11 the test. `Directions` of S11 is no longer in the files: its video
is damaged.

The cameras' parameters are those of the data set's own calibration, as VideoPose3D (common/h36m_dataset.py) and
3d-pose-baseline state them, rounded to float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..skeleton import H36M16, H36M17
from .datasets import LabelledClip, assemble, to_camera
from .npz import entries, entry, load_npz, points, views

KEYPOINTS = {"gt": "gt", "cpn": "cpn_ft_h36m_dbb"}  # the kind of 2D -> the end of its file's name
SUBJECTS = {"training": ("S1", "S5", "S6", "S7", "S8"), "test": ("S9", "S11")}
FPS = 50.0
JOINTS = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)  # H36M17's places among the 32, in its order
LARGEST_MISFIT_PX = 20.0  # mean distance of true keypoints from the projected joints: another camera is off by hundreds


@dataclass(frozen=True)
class Lens:
    """One of the cameras' intrinsics, px, with the radial and tangential distortion of Human3.6M's own model."""

    name: str
    image_size: tuple[int, int]
    focal: tuple[float, float]
    centre: tuple[float, float]
    radial: tuple[float, float, float]
    tangential: tuple[float, float]

    def project(self, points: np.ndarray) -> np.ndarray:
        """Camera axes to pixels: (..., 3) -> (..., 2)."""
        x = points[..., :2] / points[..., 2:]
        r2 = (x**2).sum(-1, keepdims=True)
        bent = (1 + sum(k * r2**(i + 1) for i, k in enumerate(self.radial))
                + (x * self.tangential).sum(-1, keepdims=True))
        return np.array(self.focal) * (x * bent + np.array(self.tangential) * r2) + self.centre


LENSES = (
    Lens("54138969", (1000, 1002), (1145.0494, 1143.7811), (512.5415, 515.4515),
         (-0.20709892, 0.24777518, -0.0030751503), (-0.0009756989, -0.0014244716)),
    Lens("55011271", (1000, 1000), (1149.6757, 1147.5917), (508.84863, 508.0649),
         (-0.19421363, 0.24040854, 0.0068199756), (-0.0016190266, -0.0027408944)),
    Lens("58860488", (1000, 1000), (1149.1407, 1148.799), (519.81586, 501.40265),
         (-0.20833819, 0.255488, -0.0024604974), (0.001484387, -0.0007599993)),
    Lens("60457274", (1000, 1002), (1145.5114, 1144.7739), (514.9682, 501.88202),
         (-0.19838409, 0.21832368, -0.008947807), (-0.0005872056, -0.001813362)),
)
# For each subject the four cameras: orientation (a quaternion w, x, y, z) and position in mm.
EXTRINSICS = {
    "S1": (
        ((0.14070565, -0.15007018, -0.7552408, 0.62232804), (1841.107, 4955.2847, 1563.4454)),
        ((0.6157188, -0.7648363, -0.14833826, 0.11794741), (1761.2786, -5078.007, 1606.265)),
        ((0.14651473, -0.14647852, 0.76530236, -0.60941756), (-1846.7777, 5215.0464, 1491.9724)),
        ((0.58340085, -0.7853162, 0.14548823, -0.14749594), (-1794.7897, -3722.699, 1574.8927)),
    ),
    "S5": (
        ((0.14673772, -0.16237096, -0.7551893, 0.6178939), (2097.3916, 4880.945, 1605.7324)),
        ((0.61597586, -0.7626792, -0.15728192, 0.1189815), (2031.7008, -5167.933, 1612.9231)),
        ((0.14291371, -0.12907842, 0.7678385, -0.6110143), (-1620.5948, 5171.6587, 1496.437)),
        ((0.592048, -0.7814218, 0.12747486, -0.15036418), (-1637.1737, -3867.3174, 1547.0332)),
    ),
    "S6": (
        ((0.13378978, -0.15692396, -0.75710905, 0.61988795), (1935.4518, 4950.2456, 1618.0839)),
        ((0.61471975, -0.7628813, -0.16174768, 0.11819245), (1969.804, -5128.739, 1632.7788)),
        ((0.15299481, -0.13529131, 0.76460963, -0.6112781), (-1769.5964, 5185.3613, 1476.9934)),
        ((0.59161013, -0.7804774, 0.1283227, -0.15615939), (-1721.6687, -3884.1313, 1540.4879)),
    ),
    "S7": (
        ((0.14352418, -0.16313368, -0.75483286, 0.6188825), (1974.513, 4926.3545, 1597.8326)),
        ((0.6141673, -0.76382625, -0.15966456, 0.117792994), (1937.0585, -5119.79, 1631.5665)),
        ((0.1455006, -0.12874816, 0.76605165, -0.61271393), (-1741.8112, 5208.2495, 1464.8246)),
        ((0.5912848, -0.78217643, 0.12445474, -0.15196487), (-1734.7106, -3832.4214, 1548.583)),
    ),
    "S8": (
        ((0.14110588, -0.15589868, -0.75619173, 0.61964405), (2150.6519, 4896.161, 1611.9047)),
        ((0.61696017, -0.7647668, -0.1484635, 0.11158158), (2219.9656, -5148.453, 1613.0441)),
        ((0.1471444, -0.1337712, 0.76701283, -0.61003697), (-1571.2216, 5137.0186, 1498.1761)),
        ((0.59278244, -0.78258705, 0.12147816, -0.14631996), (-1476.9133, -3896.7412, 1547.9722)),
    ),
    "S9": (
        ((0.15540588, -0.15548216, -0.75320953, 0.6199595), (2044.4585, 4935.117, 1481.2275)),
        ((0.6187845, -0.7634735, -0.14132239, 0.11933968), (1990.9597, -5123.8105, 1568.8048)),
        ((0.13357827, -0.13671005, 0.76894546, -0.61007386), (-1670.9922, 5211.986, 1528.388)),
        ((0.5879399, -0.7823407, 0.14276144, -0.1479487), (-1696.0435, -3827.0999, 1591.4127)),
    ),
    "S11": (
        ((0.15232472, -0.1544232, -0.75475633, 0.619107), (2098.4402, 4926.5547, 1500.2786)),
        ((0.61894494, -0.7600917, -0.15300633, 0.12552583), (2083.1824, -4912.173, 1561.0786)),
        ((0.14943229, -0.15650228, 0.7681234, -0.60263044), (-1609.8153, 5177.336, 1537.8967)),
        ((0.58942515, -0.7818877, 0.13991211, -0.14715362), (-1590.738, -3854.169, 1578.0176)),
    ),
}


def read(path: Path, split: str, keypoints: str) -> list[LabelledClip]:
    """The clips of a split: every action of every subject, once a camera.

    Raises ValueError if a file, a subject, an action or a camera is missing, or something has another shape, naming it.
    """
    file_3d, file_2d = path / "data_3d_h36m.npz", path / f"data_2d_h36m_{KEYPOINTS[keypoints]}.npz"
    (positions_3d,), (positions_2d,) = load_npz(file_3d, "positions_3d"), load_npz(file_2d, "positions_2d")
    clips = []
    for subject in SUBJECTS[split]:
        in_2d = entry(positions_2d, subject, f"{file_2d}: positions_2d")
        in_3d = entries(entry(positions_3d, subject, f"{file_3d}: positions_3d"), f"{file_3d}: positions_3d, {subject}")
        for action, world_m in in_3d.items():
            world_m = _picked(points(world_m, (32, 17), (3,), f"{file_3d}: positions_3d, {subject}, {action}"))
            source = f"{file_2d}: positions_2d, {subject}, {action}"
            seen = views(entry(in_2d, action, f"{file_2d}: positions_2d, {subject}"), [lens.name for lens in LENSES],
                         source)
            for lens, (orientation, position_mm), view in zip(LENSES, EXTRINSICS[subject], seen):
                joints_m = to_camera(world_m, orientation, np.array(position_mm) / 1000).astype(np.float32)
                clip = LabelledClip(
                    f"{source}, camera {lens.name}", subject, action.partition(" ")[0], lens.name, split,
                    lens.image_size, FPS, _cut(view, len(world_m), f"{source}, camera {lens.name}"), joints_m,
                    np.ones(len(world_m), bool), np.ones(len(H36M17), bool))
                if keypoints == "gt":
                    _check_cameras(clip, lens)
                clips.append(clip)
    return clips


def _picked(world_m: np.ndarray) -> np.ndarray:
    return world_m[:, JOINTS] if world_m.shape[1] == 32 else world_m


def _cut(view: Any, frames: int, source: str) -> np.ndarray:
    """As many frames as there are in 3D, in 17 joints: some videos go on after the motion capture has ended."""
    keypoints_px = points(view, (17, 16), (2, 3), source)
    if len(keypoints_px) < frames:
        raise ValueError(f"{source} has {len(keypoints_px)} frames; the 3D has {frames}, and no fewer will do")
    keypoints_px = keypoints_px[:frames]
    if keypoints_px.shape[1] == 16:
        return assemble(keypoints_px, H36M16.joints, {"nose": ("thorax", "head")})
    return keypoints_px


def _check_cameras(clip: LabelledClip, lens: Lens) -> None:
    """Raises ValueError if true keypoints are not where the camera sees the joints: cameras or subjects exchanged."""
    misfit = np.linalg.norm(lens.project(clip.joints_m[0]) - clip.keypoints_px[0, :, :2], axis=-1).mean()
    if not misfit < LARGEST_MISFIT_PX:
        raise ValueError(f"{clip.source}: the first frame's keypoints are {misfit:.0f} px from "
                         f"where this camera sees the 3D joints; wanted below {LARGEST_MISFIT_PX:.0f}: "
                         f"are the cameras in the order {', '.join(lens.name for lens in LENSES)}?")
