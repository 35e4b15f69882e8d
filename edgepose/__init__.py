"""edgepose: 2D keypoints in, 3D joints out, in real time. numpy is all it needs to run.

    engine = edgepose.load("ampose")
    stream = edgepose.Stream(engine, layout="coco17", image_size=(1920, 1080))
    pose = stream.push(keypoints_px, timestamp_s)

Metres and camera axes (x right, y down, z forward) everywhere; joints relative to the pelvis.
"""

from importlib.metadata import version

try:
    from . import _native
except ImportError as error:
    raise ImportError(f"edgepose's compiled part is not in {__path__[0]} ({error}). If this is a source tree, run "
                      "Python elsewhere, or build in it: pip install -e .") from error

from .adapters import Adapter
from .axes import Axes, Floor
from .columns import lengths_of_height
from .engine import Engine, load
from .enginefile import EngineError
from .filters import OneEuro
from .kinematics import Kinematics, Movement, with_constant_bones
from .people import People
from .pictures.detector import open_detector
from .pictures.results import people_in
from .skeleton import Skeleton
from .stream import Pose, Stream, push_many

__version__ = version("edgepose")
__all__ = ["Adapter", "Axes", "Engine", "EngineError", "Floor", "Kinematics", "Movement", "OneEuro", "People", "Pose",
           "Skeleton", "Stream", "lengths_of_height", "load", "open_detector", "people_in", "push_many",
           "with_constant_bones"]
