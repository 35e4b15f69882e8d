"""Archives of recorded keypoints, lifted."""

import numpy as np
from people import SIZE, person_of

from edgepose.cli import main


def recorded(path, keypoints=person_of("coco17"), **others):
    """A file of keypoints, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{"coco17": keypoints, "fps": 50, "image_size": SIZE, **others})
    return path


def lift(*arguments):
    return main(["lift", *map(str, arguments)])


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
