"""edgepose: 2D keypoints in, 3D joints out, in real time. numpy and safetensors are all it needs to run.

    engine = edgepose.load("ampose")
    stream = edgepose.Stream(engine, layout="coco17", image_size=(1920, 1080))
    pose = stream.push(keypoints_px, timestamp_s)

Metres and camera axes (x right, y down, z forward) everywhere; joints relative to the pelvis.
"""

from .engine import Engine, load
from .enginefile import EngineError
from .skeleton import Skeleton

__all__ = ["Engine", "EngineError", "Skeleton", "load"]
