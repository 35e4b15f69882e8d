"""Poses within 10 ms, whatever else the machine does: those that would be late are predicted, and say so."""

import edgepose
from edgepose.clip import load_clip

clip = load_clip("balance_cam1")
people = edgepose.People(edgepose.load("ampose"), clip.layout, clip.image_size, deadline_ms=10)

for i, keypoints_px in enumerate(clip.keypoints_px):
    for who, pose in people.push([keypoints_px], clip.time_of(i)):
        print(f"person {who}: {pose}")  # "predicted for ..." where pose.predicted_s is above 0
print({kind: people.notices[kind] for kind in ("not_lifted", "late_push")})
