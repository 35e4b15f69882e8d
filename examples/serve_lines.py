"""Poses for a program that is not Python, over a pipe: what it would write and read, here of a clip that ships."""

import json
import subprocess

from edgepose.clip import load_clip

clip = load_clip("balance_cam1")
pipe = subprocess.Popen(["edgepose", "serve", "--lines"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
print(json.dumps({"type": "open", "layout": "coco17", "image_size": clip.image_size}), file=pipe.stdin, flush=True)
print(json.loads(pipe.stdout.readline())["engine"])
for i, keypoints_px in enumerate(clip.keypoints_px):
    frame = {"type": "frame", "timestamp_s": clip.time_of(i), "people": [keypoints_px.tolist()]}
    print(json.dumps(frame), file=pipe.stdin, flush=True)
    print(pipe.stdout.readline()[:100])
