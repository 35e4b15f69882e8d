"""Training a detector: pictures with keypoints -> heatmaps, on rendered people (`pictures`), made anew for every step.

    python -m edgepose.training.heatmaps --path DIR --out DIR --model hrnet-w8 --steps N

Targets and loss are HRNet's (Sun et al. 2019, section 3): a Gaussian of SIGMA px of the heatmap around each keypoint,
squared error, keypoints out of the picture left out. The augmentations are those of Ahmed and Marti, "Deep 3D Human
Pose Estimation", section 2.1 (hue, contrast, saturation, brightness, noise, rotation, shift) with HRNet's scale and
flip; they turn their square pictures by multiples of 90 degrees, our upright ones are turned by up to TURN_RAD
(HRNet's code: 40 degrees). Learning rate and warm-up as in `supervised`, the loop in `runs`.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from .. import zoo
from ..adapters import COCO17
from ..cli import reporting
from ..pictures.detector import MEAN, STD, STRIDE, decode
from ..zoo.detectors import SIZE, SIZES, save_detector
from .mocap import Motion, read_motion
from .pictures import draw_pictures, in_picture
from .runs import (Report, StepReport, Trainer, add_run_arguments, check_run_arguments, print_run, reserve, run,
                   step_generator, warn_of_emulation)
from .schedules import learning_rate

BATCH = 32
SIGMA = 2.0  # px in a heatmap
RATE = 2.0  # times the lifters' learning rate
WEIGHT_DECAY = 1e-4
AVERAGING = 0.997
TURN_RAD, TURN_CHANCE = math.radians(20), 0.5  # uniform within; the cameras of rendered people are rolled as well
SCALE, SHIFT = 0.15, 0.05  # uniform within: factor 1 +- SCALE, part of the picture's side
HUE_RAD, SATURATION, CONTRAST, BRIGHTNESS, NOISE = 0.5, 0.4, 0.4, 0.2, 0.06  # largest changes; noise's deviation
VALIDATION_PICTURES = 512
NEAR = 0.05  # a keypoint within this part of the crop's height from its place is found
PRECISIONS = ("float32", "bfloat16")


def gaussian_targets(keypoints_px: torch.Tensor, size: tuple[int, int], sigma: float = SIGMA) -> torch.Tensor:
    """Heatmaps with a Gaussian of height 1 around each keypoint: (B, K, 2) px of the picture ->
    (B, K, height / 4, width / 4).

    size: height and width of the picture. sigma: px of the heatmap.
    """
    height, width = (side // STRIDE for side in size)
    x, y = (keypoints_px[..., None, axis] / STRIDE for axis in (0, 1))
    across = torch.exp(-(torch.arange(width) - x) ** 2 / (2 * sigma**2))
    down = torch.exp(-(torch.arange(height) - y) ** 2 / (2 * sigma**2))
    return down[..., :, None] * across[..., None, :]


def heatmap_loss(predicted: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of (B, K, h, w) heatmaps, those of weight (B, K) 0 left out: a scalar."""
    return (weight * (predicted - target).square().mean((-2, -1))).sum() / weight.sum().clamp(min=1)


def move(pictures: torch.Tensor, keypoints: torch.Tensor,
         generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures turned, scaled, shifted and half of them mirrored, black where there was nothing, with their keypoints.

    pictures: (B, 3, H, W). keypoints: (B, 17, 3) COCO: px, and 0 for what is not to be learnt. The same shapes.
    """
    batch, _, height, width = pictures.shape

    def uniform(reach: float) -> torch.Tensor:
        return reach * (2 * torch.rand(batch, generator=generator) - 1)

    mirrored = uniform(1) < 0
    angle = torch.where(uniform(0.5) + 0.5 < TURN_CHANCE, uniform(TURN_RAD), 0.0)
    scale = 1 + uniform(SCALE)
    shift = torch.stack([uniform(SHIFT * width), uniform(SHIFT * height)], -1)
    # A point p about the centre goes to scale R p + shift; the picture is sampled at the way back.
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).reshape(batch, 2, 2)
    turn = turn * torch.stack([torch.where(mirrored, -1.0, 1.0), torch.ones(batch)], -1)[:, None]
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2])
    x, y = torch.meshgrid(torch.arange(width, dtype=torch.float), torch.arange(height, dtype=torch.float),
                          indexing="xy")
    places = torch.stack([x, y], -1).reshape(1, -1, 2) - centre - shift[:, None]
    source = places @ turn / scale[:, None, None]  # R transposed: places are rows
    grid = (source / (centre + 0.5)).reshape(batch, height, width, 2)
    moved = functional.grid_sample(pictures, grid, align_corners=False)
    points = scale[:, None, None] * (keypoints[..., :2] - centre) @ turn.transpose(1, 2) + shift[:, None] + centre
    weight = keypoints[..., 2:]
    swapped = torch.cat([points, weight], -1)
    swapped = torch.where(mirrored[:, None, None], swapped[:, list(COCO17.mirror)], swapped)
    return (moved,
            torch.cat([swapped[..., :2], in_picture(swapped[..., :2], (height, width))[..., 2:] * swapped[..., 2:]],
                      -1))


def recolour(pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Pictures (B, 3, H, W) in [0, 1] in another light: hue, saturation, contrast, brightness and Gaussian noise."""
    batch = len(pictures)

    def uniform(reach: float) -> torch.Tensor:
        return reach * (2 * torch.rand(batch, 1, 1, generator=generator) - 1)

    # Hue turns colours about the axis of greys, saturation moves them along the way to it.
    grey = torch.full((3, 3), 1 / 3)
    root = 3**-0.5
    cross = root * torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    angle, saturation = uniform(HUE_RAD), 1 + uniform(SATURATION)
    mixing = grey + saturation * (angle.cos() * (torch.eye(3) - grey) + angle.sin() * cross)
    mixed = torch.einsum("bij,bjhw->bihw", mixing, pictures)
    contrast, brightness = ((base + uniform(reach))[..., None] for base, reach in ((1, CONTRAST), (0, BRIGHTNESS)))
    noise = uniform(0.5)[..., None].add(0.5) * NOISE * torch.randn(pictures.shape, generator=generator)
    return ((mixed - 0.5) * contrast + 0.5 + brightness + noise).clamp(0, 1)


def normalised(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures in [0, 1] as the networks take them, as `detector.normalised` makes them at run time."""
    return (pictures - torch.from_numpy(MEAN)[:, None, None]) / torch.from_numpy(STD)[:, None, None]


class DetectorTrainer(Trainer):
    """A detector in training."""

    def __init__(self, model: str, size: tuple[int, int], motion: Motion, steps: int, seed: int, precision: str,
                 batch: int):
        torch.manual_seed(seed)
        module = zoo.build_detector(model).to(memory_format=torch.channels_last)
        optimiser = torch.optim.AdamW(module.parameters(), weight_decay=WEIGHT_DECAY)
        super().__init__({"module": module}, {"optimiser": optimiser}, steps, seed, AVERAGING)
        self.motion, self.size, self.precision, self.batch = motion, size, precision, batch

    def rates(self) -> dict[str, float]:
        return {"optimiser": RATE * learning_rate(self.done, self.steps)}

    def learn(self, generator: torch.Generator) -> dict[str, float]:
        """A step on one batch of pictures; its loss."""
        pictures, keypoints = move(*draw_pictures(self.motion, self.batch, self.size, generator), generator)
        pictures = normalised(recolour(pictures, generator)).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16"):
            predicted = self.module(pictures)
        loss = heatmap_loss(predicted.float(), gaussian_targets(keypoints[..., :2], self.size), keypoints[..., 2])
        self.descend("optimiser", loss)
        return {"loss": loss.item()}


@torch.no_grad()
def validate(module: nn.Module, pictures: torch.Tensor, keypoints: torch.Tensor) -> dict[str, float]:
    """Scores of a detector on the keypoints (B, 17, 3) that are in the pictures (B, 3, H, W) in [0, 1].

    The part within NEAR of the height, that part if left may stand for right, and the mean distance in percent of the
    height.
    """
    found = torch.cat([torch.from_numpy(decode(module(part).numpy())) for part in normalised(pictures).split(64)])
    distance, exchanged = ((STRIDE * found[..., :2] - points[..., :2]).norm(dim=-1)[keypoints[..., 2] > 0]
                           / pictures.shape[-2]
                           for points in (keypoints, keypoints[:, list(COCO17.mirror)]))
    return {"found_percent": round(100 * (distance < NEAR).float().mean().item(), 2),
            "found_either_side_percent": round(100 * (torch.minimum(distance, exchanged) < NEAR).float().mean().item(),
                                               2),
            "mean_error_percent": round(100 * distance.mean().item(), 2)}


def train(model: str, data: str | Path, out: str | Path, steps: int, *, size: tuple[int, int] | None = None,
          seed: int = 0, precision: str = "float32", every: int = 250, resume: bool = False, command: str = "",
          pictures: int = VALIDATION_PICTURES, report: Report | None = None) -> Path:
    """Trains a detector of the zoo and returns the path of its checkpoint, OUT/<name>.safetensors.

    data: a folder as `mocap` describes. Every `every` steps and at the end the averaged weights are scored on
    `pictures` rendered pictures of the validation subjects and written to the checkpoint, and what is needed to resume
    to a file beside it.
    resume: go on from that file; another number of steps stretches the rest of the schedule. report: called after each
    step; the scores are those of validate().
    Raises ValueError for an unknown model or precision, a state of another run, or a checkpoint that is there already
    and not resumed; FileNotFoundError if there is nothing to resume.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; there are {', '.join(PRECISIONS)}")
    path = Path(out) / f"{model}.safetensors"
    reserve(path, resume)
    size = size or SIZES.get(model, SIZE)
    trainer = DetectorTrainer(model, size, read_motion(data, "training"), steps, seed, precision, BATCH)
    validation = draw_pictures(read_motion(data, "validation"), pictures, size, step_generator(seed, -1))
    identity = {"model": model, "size": list(size), "seed": seed, "precision": precision}
    about = {**identity, "command": command, "data": "CMU Graphics Lab Motion Capture Database, rendered"}
    return run(trainer, path, identity, every=every, resume=resume,
               validate=lambda: validate(trainer.averaged, *validation), save=save_detector, about=about, report=report)


def main(argv: list[str] | None = None) -> int:
    """Runs the command: a line for every checkpoint. The exit status."""
    parser = argparse.ArgumentParser(prog="python -m edgepose.training.heatmaps",
                                     description="train a detector on rendered people")
    parser.add_argument("--model", default="hrnet-w8", choices=zoo.DETECTORS)
    parser.add_argument("--path", required=True, metavar="DIR", help="motion capture, one .npz a subject")
    parser.add_argument("--steps", type=int, default=20_000, metavar="N", help=f"of {BATCH} pictures each")
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="of the crops")
    parser.add_argument("--precision", default="float32", choices=PRECISIONS, help="of the convolutions")
    add_run_arguments(parser, every=250)
    args = parser.parse_args(argv)
    return reporting("heatmaps", lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    check_run_arguments(args)
    torch.set_num_threads(args.threads)
    size = tuple(args.size) if args.size else SIZES.get(args.model, SIZE)
    command = (f"python -m edgepose.training.heatmaps --path DIR --out DIR --model {args.model} --steps {args.steps} "
               f"--size {size[0]} {size[1]} --seed {args.seed} --precision {args.precision}")

    def words(step: StepReport) -> str:
        loss = f"loss {1e3 * step.means['loss']:.3f}e-3"
        if not step.scores:
            return loss
        return (f"{loss}  found {step.scores['found_percent']:.1f} %  error "
                f"{step.scores['mean_error_percent']:.2f} % of the height  {step.left_s / 60:.1f} min left")

    warn_of_emulation(args.precision, "cpu")
    print_run(args.model, args.steps, words,
              lambda report: train(args.model, args.path, args.out, args.steps, size=size, seed=args.seed,
                                   precision=args.precision, every=args.every, resume=args.resume, command=command,
                                   pictures=VALIDATION_PICTURES, report=report))


if __name__ == "__main__":
    sys.exit(main())
