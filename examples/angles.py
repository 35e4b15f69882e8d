"""Joint angles, speed and centre of mass of a recording, with bones of constant length, as lines of JSON."""

import numpy as np

import edgepose
from edgepose.clip import load_clip

clip, engine = load_clip("balance_cam2"), edgepose.load("ampose")
stream = edgepose.Stream(engine, clip.layout, clip.image_size)
poses = list(stream.lift((clip.seen_in(frame), clip.time_of(frame)) for frame in range(len(clip.keypoints_px))))
joints_m = edgepose.with_constant_bones(np.stack([pose.joints_m for pose in poses]), engine.skeleton)
kinematics = edgepose.Kinematics(engine.skeleton)
for pose, joints in zip(poses, joints_m):
    print(kinematics.at(joints, pose.timestamp_s).to_json())
