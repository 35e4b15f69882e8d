"""Pictures and films of poses: 2D input beside 3D output. Needs matplotlib, and PyAV for .mp4 (the `plot` extra)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..camera import screen_to_px
from ..checks import need_library
from ..skeleton import H36M17, Skeleton
from ..stream import Pose

if TYPE_CHECKING:
    from ..clip import Clip

SIDES = {"left_": "#d1495b", "right_": "#2a6fbb"}
MIDLINE = "#30343b"
REFERENCE = "#c4c9d1"
MOMENTS = (0.1, 0.5, 0.9)  # parts of the clip, a column each
FILMS = (".gif", ".mp4")
FILM_HZ = 15.0  # frames a second of a film, at most
FILM_PX = (960, 480)  # its width and height
HELD_S = 0.2  # a pose that no other follows is shown for so long


def colour_of(joint: str) -> str:
    """The colour of a joint, and of the bone that ends in it: left is red, right is blue."""
    return next((colour for side, colour in SIDES.items() if joint.startswith(side)), MIDLINE)


def bone_colours(skeleton: Skeleton) -> list[str]:
    """One colour a bone, in the order of skeleton.bones."""
    return [colour_of(skeleton.joints[joint]) for _, joint in skeleton.bones]


def plot_poses(clip: Clip, poses: list[Pose], file: Path) -> None:
    """Three moments of a clip: above the keypoints the model was shown, in the picture; below the pose, and the clip's
    reference behind it in grey where there is one. Left is red, right is blue. The format is the file name's."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(MOMENTS), 6.6))
    for column, moment in enumerate(MOMENTS):
        pose = poses[int(moment * (len(poses) - 1))]
        keypoints_px = screen_to_px(pose.keypoints_norm, clip.image_size)
        flat = figure.add_subplot(2, len(MOMENTS), column + 1)
        solid = figure.add_subplot(2, len(MOMENTS), len(MOMENTS) + column + 1, projection="3d")
        _frame_2d(flat, keypoints_px)
        _frame_3d(solid, 0.8)
        reference = _reference_of(clip, pose)
        if reference is not None:
            _place(_lines(solid, [REFERENCE] * len(pose.skeleton.bones), 3.0), pose.skeleton, reference)
        for axes, joints in ((flat, keypoints_px), (solid, pose.joints_m)):
            _place(_lines(axes, bone_colours(pose.skeleton), 2.0), pose.skeleton, joints)
        flat.plot(*keypoints_px[~pose.is_seen].T, "o", color="white", markeredgecolor=MIDLINE, markersize=4)
        flat.set_title(f"{pose.timestamp_s:.2f} s")
    figure.axes[0].set_ylabel("keypoints, px")
    figure.subplots_adjust(left=0.07, right=0.94, bottom=0.04, top=0.94, wspace=0.22, hspace=0.08)
    figure.savefig(file, dpi=140)


def save_film(clip: Clip, poses: list[Pose], file: Path, backgrounds: Sequence[np.ndarray] | None = None) -> int:
    """Writes a .gif or .mp4 that plays in real time; the number of its frames. See `film_frames`.

    Raises ValueError for another name or a number of backgrounds that is not the clip's of frames, and ImportError,
    naming the extra, if an .mp4 is wanted and PyAV is not installed.
    """
    file = Path(file)
    if file.suffix not in FILMS:
        raise ValueError(f"{file}: wanted a name that ends in {', '.join(FILMS)}")
    if backgrounds is not None and len(backgrounds) != len(clip.keypoints_px):
        raise ValueError(f"there are {len(backgrounds)} backgrounds; clip {clip.name} has "
                         f"{len(clip.keypoints_px)} frames")
    rate_hz, shown = film_poses(poses, clip.fps)
    frames = film_frames(clip, poses, shown, rate_hz, backgrounds)
    write = _write_gif if file.suffix == ".gif" else _write_mp4
    write(frames, rate_hz, file)
    return len(shown)


def film_poses(poses: list[Pose], fps: float) -> tuple[float, list[Pose | None]]:
    """(frames a second of a film, the pose each shows): every frame of a clip, or every second, ... up to FILM_HZ.

    A frame shows the newest pose of its time, or None if that is older than HELD_S and two frames of the clip.
    """
    rate_hz = fps / math.ceil(fps / FILM_HZ - 1e-6)
    stamps_s = np.array([pose.timestamp_s for pose in poses])
    times_s = np.arange(stamps_s[0], stamps_s[-1] + 1e-6, 1 / rate_hz)
    newest = np.searchsorted(stamps_s, times_s + 1e-6, side="right") - 1
    is_old = times_s - stamps_s[newest] > max(HELD_S, 2 / fps)
    return rate_hz, [None if old else poses[i] for i, old in zip(newest, is_old)]


def film_frames(clip: Clip, poses: list[Pose], shown: list[Pose | None], rate_hz: float,
                backgrounds: Sequence[np.ndarray] | None = None) -> Iterator[np.ndarray]:
    """The frames of a film, (height, width, 3) uint8: on the left the keypoints, on the right the pose and the clip's
    reference.

    poses: those that the axes must hold; shown: the pose of each frame. backgrounds: the pictures the keypoints were
    found in, (height, width, 3) uint8, one for each frame of the clip; then the whole picture is shown.
    """
    skeleton = poses[0].skeleton
    figure, flat, solid = _film_axes(clip, poses, backgrounds is not None)
    # The axes are drawn once; only the lines added from here on are drawn in every frame.
    canvas = figure.canvas
    canvas.draw()
    empty = canvas.copy_from_bbox(figure.bbox)
    picture = None
    if backgrounds is not None:
        picture = flat.imshow(backgrounds[0], extent=(0, clip.image_size[0], clip.image_size[1], 0))
    grey = _lines(solid, [REFERENCE] * len(skeleton.bones), 3.0)
    lines = [(flat, _lines(flat, bone_colours(skeleton), 2.0)), (solid, _lines(solid, bone_colours(skeleton), 2.5))]
    hidden = flat.plot([], [], "o", color="white", markeredgecolor=MIDLINE, markersize=4)[0]
    clock = figure.text(0.5, 0.03, "", ha="center", fontsize=10)
    for i, pose in enumerate(shown):
        time_s = poses[0].timestamp_s + i / rate_hz
        canvas.restore_region(empty)
        if picture is not None:
            background = backgrounds[clip.frame_at(time_s)]
            thinning = max(1, len(background) // FILM_PX[1])  # drawing the picture takes most of a frame's time
            picture.set_data(background[::thinning, ::thinning])
            flat.draw_artist(picture)
        clock.set_text(f"{time_s:.2f} s" if pose else f"{time_s:.2f} s, nobody")
        figure.draw_artist(clock)
        if pose is not None:
            reference = _reference_of(clip, pose)
            if reference is not None:
                _place(grey, skeleton, reference)
            keypoints_px = screen_to_px(pose.keypoints_norm, clip.image_size)
            hidden.set_data(*keypoints_px[~pose.is_seen].T)
            for (axes, bones), joints in zip(lines, (keypoints_px, pose.joints_m)):
                _place(bones, skeleton, joints)
                for line in (*(grey if axes is solid and reference is not None else ()), *bones):
                    axes.draw_artist(line)
            flat.draw_artist(hidden)
        yield np.array(canvas.buffer_rgba())[..., :3]


def _film_axes(clip: Clip, poses: list[Pose], is_whole: bool) -> tuple:
    """(figure, axes of the keypoints, axes of the pose) that hold all poses, with nobody in them; is_whole: the whole
    picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    FigureCanvasAgg(figure := Figure(figsize=np.array(FILM_PX) / 100, dpi=100))
    flat, solid = figure.add_axes((0.07, 0.1, 0.4, 0.8)), figure.add_axes((0.53, 0.02, 0.42, 0.88), projection="3d")
    _frame_2d(flat, np.concatenate([screen_to_px(pose.keypoints_norm, clip.image_size) for pose in poses]))
    if is_whole:
        flat.set(xlim=(0, clip.image_size[0]), ylim=(clip.image_size[1], 0))
    flat.set_title("keypoints, px", fontsize=10)
    _frame_3d(solid, max(0.8, math.ceil(10 * max(np.abs(pose.joints_m).max() for pose in poses)) / 10))
    solid.set_title("3D pose, m from the pelvis" + ("" if clip.reference_m is None else "; reference in grey"),
                    fontsize=10)
    figure.legend(handles=[flat.plot([], [], color=colour, label=side.strip("_"))[0] for side, colour in SIDES.items()],
                  loc="upper center", ncols=2, fontsize=8, frameon=False)
    return figure, flat, solid


def _write_gif(frames: Iterator[np.ndarray], rate_hz: float, file: Path) -> None:
    from PIL import Image

    images = [Image.fromarray(frame).quantize(255, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
              for frame in frames]
    # A GIF counts in hundredths of a second: frames of unequal length, so that the film keeps time.
    ends = np.round(100 * np.arange(len(images) + 1) / rate_hz).astype(int)
    images[0].save(file, save_all=True, append_images=images[1:], loop=0,
                   duration=[10 * int(end - start) for start, end in pairwise(ends)])


def _write_mp4(frames: Iterator[np.ndarray], rate_hz: float, file: Path) -> None:
    need_library("av", f"writing {file}")
    import av

    with av.open(str(file), "w") as film:
        stream = film.add_stream("libx264", rate=Fraction(rate_hz).limit_denominator(1001), options={"crf": "20"})
        stream.pix_fmt = "yuv420p"  # every player reads this format
        stream.width, stream.height = FILM_PX
        for frame in frames:
            film.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        film.mux(stream.encode())


def _reference_of(clip: Clip, pose: Pose) -> np.ndarray | None:
    if clip.reference_m is None:
        return None
    joints = [H36M17.index(joint) for joint in pose.skeleton.joints]
    return clip.reference_m[clip.frame_at(pose.timestamp_s)][joints]


def _frame_2d(axes, keypoints_px: np.ndarray) -> None:
    """Axes in pixels around keypoints (N, 2)."""
    low, high = keypoints_px.min(0), keypoints_px.max(0)
    centre, reach = (low + high) / 2, 0.56 * (high - low).max()
    axes.set(xlim=(centre[0] - reach, centre[0] + reach), ylim=(centre[1] + reach, centre[1] - reach), aspect="equal")
    axes.tick_params(labelsize=7)


def _frame_3d(axes, reach_m: float) -> None:
    """Axes in metres: x to the right, y down, z into the picture."""
    for axis, name, sign in (("x", "x right", 1), ("y", "z forward", 1), ("z", "y down", -1)):
        axes.set(**{f"{axis}lim": (-sign * reach_m, sign * reach_m), f"{axis}label": f"{name}, m"})
        axes.locator_params(axis=axis, nbins=4)
    axes.tick_params(labelsize=7, pad=-2)
    axes.view_init(elev=12, azim=-65)
    axes.set_box_aspect((1, 1, 1), zoom=1.05)


def _lines(axes, colours: list[str], width: float) -> list:
    """One line a bone, not placed yet."""
    nowhere = [[]] * (3 if hasattr(axes, "get_zlim") else 2)
    return [axes.plot(*nowhere, color=colour, linewidth=width)[0] for colour in colours]


def _place(lines: list, skeleton: Skeleton, joints: np.ndarray) -> None:
    """Puts the bones where the joints are: (J, 2) px or (J, 3) m, camera axes."""
    for line, bone in zip(lines, skeleton.bones):
        ends = joints[list(bone)].T
        if len(ends) == 3:
            line.set_data_3d(ends[0], ends[2], ends[1])
        else:
            line.set_data(*ends)
