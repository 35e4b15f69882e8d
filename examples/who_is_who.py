"""Follow people whom a detector gives in any order: here clips that ship, side by side and shuffled."""

import random

import numpy as np

import edgepose
from edgepose.clip import load_clip

clips = [load_clip(name).keypoints_px + [1088 * i, 0, 0] for i, name in enumerate(("balance_cam2", "balance_cam3"))]
people = edgepose.People(edgepose.load("dln-s"), "coco17", image_size=(2176, 1920))

for frame in range(100):
    found = [clip[frame] for clip in clips]
    random.shuffle(found)
    poses = people.push(np.stack(found), frame / 60)  # (N, 17, 3), however many there are
    heads_m = [(who, pose.joints_m[pose.skeleton.index("head")]) for who, pose in poses]
    print(f"frame {frame}:", ", ".join(f"person {who}: head {-y:.2f} m above the pelvis" for who, (_, y, _) in heads_m))
