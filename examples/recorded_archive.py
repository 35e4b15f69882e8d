"""Lift a folder of recorded keypoints by all processors, and read the poses: `recorded_archive.py RECORDINGS POSES`.

Where RECORDINGS is not there yet it is made, with one recording in it.
"""

import sys
from pathlib import Path

import numpy as np

from edgepose.cli import main
from edgepose.clip import load_clip

if __name__ == "__main__":  # the workers import this file
    recordings, poses = map(Path, sys.argv[1:])
    if not recordings.exists():
        recordings.mkdir(parents=True)
        clip = load_clip("balance_cam1")
        np.savez(recordings / "walk.npz", keypoints=clip.keypoints_px, layout=clip.layout, fps=clip.fps,
                 image_size=clip.image_size)
    if main(["lift", "--input", str(recordings), "--output", str(poses)]):  # what is lifted already is left as it is
        sys.exit("some recordings could not be lifted")
    for file in sorted(poses.rglob("*.npz")):
        with np.load(file) as result:
            print(f"{file.name}: {len(result['joints_m'])} poses of {result['joints_m'].shape[1]} joints, "
                  f"{result['timestamps_s'][0]:.2f} to {result['timestamps_s'][-1]:.2f} s")
