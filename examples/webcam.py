"""Lift what a camera sees: `webcam.py [CAMERA]`, its number or address; a clip that ships: `webcam.py balance_cam1`."""

import sys

import edgepose
from edgepose.clip import load_clip
from edgepose.pictures.video import camera_frames, is_live


def frames(name):
    """(timestamp_s, keypoints_px, layout, image_size) of each frame of a camera or a clip."""
    if is_live(name):
        # "shipped" is a demonstration; for real work an HRNet FILE.onnx, "mediapipe" or "rtmlib".
        with edgepose.open_detector("shipped") as detector:
            for timestamp_s, image in camera_frames(name):
                yield timestamp_s, detector(image), detector.layout, image.shape[1::-1]
    else:
        clip = load_clip(name)
        for i in range(len(clip.keypoints_px)):
            yield clip.time_of(i), clip.seen_in(i), clip.layout, clip.image_size


engine, stream = edgepose.load("ampose"), None
for timestamp_s, keypoints_px, layout, image_size in frames(sys.argv[1] if len(sys.argv) > 1 else "0"):
    stream = stream or edgepose.Stream(engine, layout, image_size,
                                       smoothing=edgepose.OneEuro(min_cutoff_hz=1.0, beta=5.0))
    pose = stream.push(keypoints_px, timestamp_s)  # None: nobody has been found yet, or for too long
    if pose:
        x, y, z = pose.joints_m[pose.skeleton.index("left_wrist")]
        print(f"{pose.timestamp_s:7.3f} s  left wrist {x:+.2f} {y:+.2f} {z:+.2f} m from the pelvis")
