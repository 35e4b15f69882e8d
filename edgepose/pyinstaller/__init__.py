"""The answer to what PyInstaller asks edgepose, so that a program that imports it needs no option: it finds
hook-edgepose.py by an entry point."""

from __future__ import annotations

from pathlib import Path


def hook_dirs() -> list[str]:
    """The folders with hooks."""
    return [str(Path(__file__).parent)]
