"""Where somebody stands: in front of a calibrated camera, for a ROS robot, and on the floor."""

import numpy as np

import edgepose
from edgepose.clip import CLIPS, load_clip

clip, engine = load_clip("balance_cam1"), edgepose.load("posemlp")
fx, fy, cx, cy = np.load(CLIPS / "balance_cam1.npz")["camera_K"][[0, 1, 0, 1], [0, 1, 2, 2]]
stream = edgepose.Stream(engine, clip.layout, clip.image_size, camera=(fx, fy, cx, cy), height_m=1.7)
robot, floor = edgepose.Axes.named("ros_body"), edgepose.Floor(engine.skeleton)
for frame in range(len(clip.keypoints_px)):
    pose = stream.push(clip.seen_in(frame), clip.time_of(frame))
    if pose and pose.root_m is not None:
        floor.add(pose)
        x, y, z = robot(pose.root_m)
        head_m = floor.axes().of_pose(pose)[engine.skeleton.index("head"), 2]
        print(f"frame {frame}: {x:.2f} m ahead (+- {pose.root_error_m[2]:.2f}), {y:.2f} m to the left, head "
              f"{head_m:.2f} m above the floor")
