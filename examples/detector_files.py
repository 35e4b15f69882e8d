"""Lift what OpenPose wrote, and write it for OpenSim: `detector_files.py FOLDER`; without one, a folder is made."""

import json
import sys
from pathlib import Path

from edgepose.cli import main
from edgepose.clip import load_clip

folder = Path(sys.argv[1])
if not folder.exists():  # stands in for OpenPose: the clip that ships, as its --write_json would write it
    folder.mkdir(parents=True)
    for i, keypoints_px in enumerate(load_clip("balance_cam1").keypoints_px):
        person = {"pose_keypoints_2d": [float(number) for number in keypoints_px.ravel()]}
        (folder / f"walk_{i:012d}_keypoints.json").write_text(json.dumps({"people": [person]}))
sys.exit(main(["stream", "--clip", str(folder), "--image-size", "1088", "1920", "--fps", "60",
               "--out", str(folder / "walk.trc")]))
