"""Lift several people with one call of the engine: here the three clips that ship, as if each showed another person."""

import edgepose
from edgepose.clip import load_clip

clips = [load_clip(name) for name in ("balance_cam1", "balance_cam2", "balance_cam3")]
engine = edgepose.load("dln-s")  # little work a person
streams = [edgepose.Stream(engine, clip.layout, clip.image_size) for clip in clips]  # one a person

for frame in range(len(clips[0].keypoints_px)):
    keypoints_px = [clip.seen_in(frame) for clip in clips]  # None for a person who is not in this picture
    poses = edgepose.push_many(streams, keypoints_px, clips[0].time_of(frame))
    heads_m = [pose.joints_m[pose.skeleton.index("head")] for pose in poses if pose]
    print(f"frame {frame}:", ", ".join(f"head {-y:.2f} m above the pelvis" for _, y, _ in heads_m))
