"""Use a detector whose keypoints have an order and names of their own, here 15 of them."""

import edgepose
from edgepose.clip import load_clip

JOINTS = ["nose", "left_ear", "right_ear",  # the detector's keypoints, in its order; left and right are the person's
          "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
          "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"]
MAPPING = {  # for every joint of the model: a keypoint, the mean of several, or {keypoint: weight}
    "pelvis": ("left_hip", "right_hip"),
    "spine": ("left_hip", "right_hip", "left_shoulder", "right_shoulder"),
    "thorax": ("left_shoulder", "right_shoulder"),
    "nose": "nose",
    "head": {"left_ear": 0.5, "right_ear": 0.5},
    **{joint: joint for joint in JOINTS[3:]},
}

clip = load_clip("balance_cam1")  # stands in for the detector: COCO-17, of which the two eyes are left out
adapter = edgepose.Adapter.from_mapping(MAPPING, JOINTS, "mine")
stream = edgepose.Stream(edgepose.load("ampose"), adapter, clip.image_size)
for frame, keypoints_px in enumerate(clip.keypoints_px[:, [0, *range(3, 17)]]):
    pose = stream.push(keypoints_px, clip.time_of(frame))
    print(pose)
