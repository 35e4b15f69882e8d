"""The option --layout: a layout that ships, or a file of one's own."""

from __future__ import annotations

import argparse
import hashlib

from ..adapters import ADAPTERS, Adapter


def add_layout(parser: argparse.ArgumentParser) -> None:
    """Adds --layout; its value is a name in ADAPTERS, or the Adapter of a file."""
    parser.add_argument("--layout", type=_layout, metavar="NAME_OR_FILE",
                        help=f"the detector's keypoints, where a file does not say: {', '.join(ADAPTERS)}, or a .json "
                             "file (docs/files.md)")


def layout_name(layout: str | Adapter | None) -> str | None:
    """The layout as it is written down: one of a file with a digest of what it says."""
    if not isinstance(layout, Adapter):
        return layout
    return f"{layout.layout.name} {hashlib.sha256(repr(layout).encode()).hexdigest()[:16]}"


def _layout(text: str) -> str | Adapter:
    if text in ADAPTERS:
        return text
    if not text.endswith(".json"):
        raise argparse.ArgumentTypeError(f"there is no layout {text!r}; wanted one of {', '.join(ADAPTERS)}, or a "
                                         ".json file")
    try:
        return Adapter.from_file(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
