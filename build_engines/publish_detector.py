"""From a training run of `heatmaps` to what ships: half-precision weights with their figures inside, the ONNX file that
edgepose.open_detector("shipped") runs, and their card.

    python -m edgepose.build_engines.publish_detector --checkpoint RUN/hrnet-w8.safetensors --path DIR --out DIR
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgepose.adapters import COCO17
from edgepose.build_engines.compile_detector import export_detector
from edgepose.clip import Clip, load_windows, stream_clip
from edgepose.engine import load
from edgepose.metrics import mpjpe, p_mpjpe
from edgepose.pictures.detector import HRNetDetector
from edgepose.training.heatmaps import NEAR, validate
from edgepose.training.mocap import WINDOW_HZ, draw_windows, read_motion
from edgepose.training.pictures import ZOOM, draw_film, draw_pictures
from edgepose.zoo import parameters
from edgepose.zoo.detectors import load_detector, save_detector
from edgepose.zoo.hrnet import conv_macs

SEED = 1
PICTURES = 1024
FILMS, FRAMES, SIZE = 12, 41, (192, 256)  # videos from the picture to 3D: frames at WINDOW_HZ, height and width

CARD = """# {name}

Finds one person's COCO-17 keypoints in a picture: the small HRNet behind `edgepose stream --video FILE`. **It is a
demonstration. It has seen rendered people only, never a photograph**: capsules along the bones of real motion, in
random colours, before noise. On real pictures use weights trained on them: `--detector hrnet-w32_256x192.onnx`
(compiled from the authors' checkpoint by `edgepose compile-detector hrnet-w32 --published FILE.pth`), `mediapipe` or
`rtmlib`.

| | |
|---|---|
| model | `{model}`, crops of {height}x{width}, {parameters} parameters, {macs} multiply-adds a crop |
| pictures | rendered (`edgepose/training/pictures.py`) from {data}: 18 subjects for training, 5 others for validation |
| command | `{command}` |
| note | {note} |
| stored as | float16, BatchNorms folded in the ONNX file; the figures are those of these files |
| licence | the weights: Apache-2.0, as edgepose itself; the data: below |

## Figures

`python -m edgepose.build_engines.publish_detector --checkpoint FILE --path DIR --out DIR`, on rendered pictures of the
five people of the validation set

{figures}

- Crops: {pictures} pictures as in training, people of {zoom} times the box, a few behind bars. Found: within
  {near} % of the crop's height.
- Films: up to {films} videos of {frames} frames, {film_height}x{film_width}, found in the whole picture and followed by
  the last keypoints, then lifted by the shipped `ampose`. The mean pose is the floor; perfect keypoints are what the
  lifter alone would reach.

## What it does not know

- Left from right, often: that is most of its error, and what the poses suffer from.
- Real people, clothes, hair, light, lenses, blur, and rooms.
- More than one person: the clearest keypoints win, one by one.

## Source and licence of the data

The data used in this project was obtained from mocap.cs.cmu.edu. The database was created with funding from NSF
EIA-0196217. It is free for all uses; the weights may be shipped and sold, the recordings may not be sold as data.
"""


def on_films(detector: HRNetDetector, data: str | Path) -> dict[str, float]:
    """From the picture to 3D on rendered videos of the validation subjects: {what: figure}."""
    generator = torch.Generator().manual_seed(SEED)
    windows = draw_windows(read_motion(data, "validation"), FILMS, FRAMES, generator)
    engine, mean_m = load("ampose"), load_windows(1)[1].mean(0)
    distances, poses, frames = [], {"found": [], "perfect": [], "mean": []}, 0
    for positions in windows:
        try:
            film = draw_film(positions, WINDOW_HZ, SIZE, generator)
        except ValueError:  # someone walks across more than a picture
            continue
        detector.reset()
        found = [detector(image) for image in film.frames.numpy()]
        truth_px, truth_m = film.keypoints_px.numpy(), 1e3 * film.joints_m.numpy()
        height = np.ptp(truth_px[..., 1], axis=1)[:, None]
        distances += [np.linalg.norm(f[:, :2] - t, axis=1) / h for f, t, h in zip(found, truth_px, height)
                      if f is not None]
        frames += len(found)
        nobody = np.zeros((len(COCO17), 3))
        kinds = {"found": np.stack([nobody if f is None else f for f in found]), "perfect": truth_px}
        for kind, keypoints in kinds.items():
            lifted, _ = stream_clip(engine, Clip("film", keypoints, "coco17", (SIZE[1], SIZE[0]), film.fps))
            at = [round(pose.timestamp_s * film.fps) for pose in lifted]
            poses[kind].append((1e3 * np.stack([pose.joints_m for pose in lifted]), truth_m[at]))
        poses["mean"].append((np.broadcast_to(1e3 * mean_m, truth_m.shape), truth_m))
    figures = {"films: frames with somebody, %": 100 * len(distances) / frames,
               "films: median error of a keypoint, % of the person's height": 100 * float(np.median(distances))}
    for kind, text in (("found", "from the pictures"), ("perfect", "from perfect keypoints"),
                       ("mean", "the mean pose")):
        predicted, target = (np.concatenate(part) for part in zip(*poses[kind]))
        figures |= {f"films: MPJPE mm, {text}": mpjpe(predicted, target),
                    f"films: P-MPJPE mm, {text}": p_mpjpe(predicted, target)}
    return {what: round(float(value), 1) for what, value in figures.items()}


def card(name: str, metadata: dict[str, Any], module: torch.nn.Module) -> str:
    """The card of a detector's weights, as Markdown."""
    height, width = metadata["size"]
    rows = "\n".join(["| | |", "|---|---|"] + [f"| {what} | {value} |" for what, value in metadata["figures"].items()])
    return CARD.format(**{**metadata, "name": name, "zoom": "{} to {}".format(*ZOOM), "near": round(100 * NEAR),
                          "height": height, "width": width, "figures": rows, "pictures": PICTURES,
                          "films": FILMS, "frames": FRAMES, "film_height": SIZE[0], "film_width": SIZE[1],
                          "parameters": f"{parameters(module) / 1e6:.2f} M",
                          "macs": f"{conv_macs(module, (height, width)) / 1e9:.2f}e9"})


def publish_detector(checkpoint: str | Path, data: str | Path, out: str | Path, note: str = "") -> Path:
    """Writes OUT/<name>.safetensors in float16, OUT/<name>.onnx and OUT/<name>.md; returns the path of the weights.

    checkpoint: a file of `heatmaps.train`. data: a folder as `mocap` describes, for the figures. note: for the card.
    Raises what load_detector and export_detector raise.
    """
    module, metadata = load_detector(str(checkpoint))
    name = Path(checkpoint).stem
    path = Path(out) / f"{name}.safetensors"
    save_detector(path, module, metadata, torch.float16)
    module, _ = load_detector(str(path))  # as it was rounded
    export_detector(module, metadata["size"], path.with_suffix(".onnx"), "fp16")
    validation = draw_pictures(read_motion(data, "validation"), PICTURES, metadata["size"],
                               torch.Generator().manual_seed(SEED))
    on_crops = validate(module, *validation)
    figures = {"crops: found, %": on_crops["found_percent"],
               "crops: found, left for right allowed, %": on_crops["found_either_side_percent"],
               "crops: mean error, % of the crop's height": on_crops["mean_error_percent"],
               **on_films(HRNetDetector(path.with_suffix(".onnx")), data)}
    metadata = {**metadata, "note": note, "figures": figures}
    save_detector(path, module, metadata, torch.float16)
    path.with_suffix(".md").write_text(card(name, metadata, module))
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkpoint", required=True, metavar="FILE")
    parser.add_argument("--path", required=True, metavar="DIR", help="motion capture, one .npz a subject")
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--note", default="", metavar="TEXT", help="for the card")
    options = parser.parse_args()
    print(publish_detector(options.checkpoint, options.path, options.out, options.note))
