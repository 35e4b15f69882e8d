"""Options of what is known of a person and a camera: the lens, the height, that bones have one length."""

from __future__ import annotations

import argparse
from typing import Any

from ..camera import checked_distortion, checked_intrinsics
from ..checks import checked_number
from ..columns import LEAST_HEIGHT_M, MOST_HEIGHT_M


def add_knowledge(parser: argparse.ArgumentParser) -> None:
    """Adds --intrinsics, --distortion, --height and --constant-bones."""
    parser.add_argument("--intrinsics", nargs=4, type=float, metavar=("FX", "FY", "CX", "CY"),
                        help="of the lens, px: poses have their place in front of the camera")
    parser.add_argument("--distortion", nargs="+", type=float, metavar="K",
                        help="of the lens, OpenCV's: k1 k2 p1 p2 [k3 [k4 k5 k6]]")
    parser.add_argument("--height", type=float, metavar="METRES", help="of the person, standing: sets the poses' size")
    parser.add_argument("--constant-bones", action="store_true", help="the bones of a person keep their lengths")


def knowledge_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments as `Stream` takes them, but for constant bones; what is not known is left out. Raises ValueError
    for impossible ones."""
    known: dict[str, Any] = {}
    if arguments.intrinsics:
        known["camera"] = checked_intrinsics(tuple(arguments.intrinsics))
    if arguments.distortion:
        if not arguments.intrinsics:
            raise ValueError("--distortion is given and --intrinsics are not; wanted both")
        checked_distortion(arguments.distortion)
        known["distortion"] = tuple(arguments.distortion)
    if arguments.height is not None:
        known["height_m"] = checked_number("--height", arguments.height, LEAST_HEIGHT_M, MOST_HEIGHT_M)
    return known
