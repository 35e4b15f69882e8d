"""Weakly supervised training: a lifter learns from 2D keypoints and from 3D poses that do not belong together.

Source: PoseGate-Former (003), sections 3.2 and 3.3, after RepNet (Wandt and Rosenhahn 2019). A generator (any
single-frame lifter of the zoo) makes a pose of the keypoints, a camera network a 2 x 3 matrix M; W' = M X must give the
keypoints back (projection loss), M must be a scaled part of a rotation (camera loss), and a critic, trained as WGAN-GP
on the pose and on its kinematic chain space matrix, must not tell the poses from real ones (Wasserstein loss).

No 2D-3D pair is used: keypoints come from one half of the training subjects, poses from the other half, each through
cameras of its own, which stand as those of the source's data set do (cameras.STUDIO). No pose is projected but the
generator's own.

Decided where the source says less; in trials with martinez-s each was worse without:
- The pose is in camera axes, for the generator and for the critic. A body mirrored in depth projects nearly alike and
  has the same chain matrix; its coordinates, those of hips, knees and head taken together, are no person's.
- The penalty is on the critic's slope in what it sees, the coordinates in parts of their deviation and the chain
  matrix, not in the pose.
- X in W' = M X is what a detector reports of the pose (landmarks), not the pose: the keypoint of the nose stands 10 cm
  before the base of the skull, and a pose that must put its joint there is not a real one.
- X is seen from where the pelvis stands in the picture, and is larger where it is nearer: the lens is taken as known,
  so the pelvis gives the direction and M's scale the distance. The source's camera network has to find the lens too.
What it reaches, with pairs and without: docs/results.md.
The picture does not say how large a person is: errors are given after the best scale for each pose. Poses are judged
and projected from their root, and the root's own distance from zero, where a lifter has it, is a fourth term.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Mapping

import numpy as np
import torch
from torch import nn

from .. import zoo
from ..adapters import ADAPTERS
from ..cli import reporting
from ..skeleton import H36M17
from ..zoo.checkpoints import save_checkpoint
from .bodies import vary_bodies
from .cameras import STUDIO
from .landmarks import coco_landmarks
from .losses import mean_distance
from .mocap import Motion, draw_windows, read_motion
from .observation import AS_CAPTURED, observe
from .runs import (Report, StepReport, Trainer, add_option_argument, add_run_arguments, check_run_arguments,
                   option_words, print_run, read_options, reserve, run, step_generator)

SEEN_IN_STUDIO = replace(AS_CAPTURED, rig=STUDIO)
BATCH = 256
LEARNING_RATE = 1e-3
WARM_UP = 100  # steps of the generator
BETAS = (0.5, 0.9)  # Gulrajani et al. 2017
GRADIENT_PENALTY = 10.0  # the same
CRITIC_STEPS = 2  # a step of the generator
WASSERSTEIN, PROJECTION, CAMERA = 0.3, 10.0, 1.0  # weights of the three losses
AVERAGING = 0.995
VALIDATION_WINDOWS = 2048
ROOT = slice(H36M17.root, H36M17.root + 1)
STATISTICS_WINDOWS = 20_000  # for models that standardise their input and output
FOCAL = math.sqrt(STUDIO.focal[0] * STUDIO.focal[1])  # over the picture's width
START_SCALE = 0.4  # M's: half screen widths a metre, seen from 5.7 m
DEVIATION_M = 0.3  # about that of a real pose's coordinates
CHAIN_SCALE = 10.0  # factor of the chain matrix, whose metres squared are small numbers
LEAST_DISTANCE = 0.3  # a joint's from the camera, in parts of the person's


def bones(pose_m: torch.Tensor) -> torch.Tensor:
    """B, each joint less its parent: (N, J, 3) -> (N, 3, J - 1)."""
    parents, joints = zip(*H36M17.bones)
    return (pose_m[:, joints] - pose_m[:, parents]).transpose(1, 2)


def kinematic_chain_space(pose_m: torch.Tensor) -> torch.Tensor:
    """Psi = B^T B: bone lengths squared on the diagonal, angles between bones elsewhere. (N, J, 3) ->
    (N, J - 1, J - 1)."""
    b = bones(pose_m)
    return b.transpose(1, 2) @ b


class CameraNetwork(nn.Module):
    """Keypoints -> the camera matrix M: (N, T, J, 2) -> (N, 2, 3)."""

    def __init__(self, joints: int, channels: int = 256):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2 * joints, channels), nn.LeakyReLU(), nn.Linear(channels, channels),
                                    nn.LeakyReLU())
        self.head = nn.Linear(channels, 6)
        nn.init.zeros_(self.head.weight)
        with torch.no_grad():
            self.head.bias.copy_(START_SCALE * torch.eye(2, 3).flatten())

    def forward(self, keypoints: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(from_root(keypoints).flatten(1))).reshape(-1, 2, 3)


class Critic(nn.Module):
    """A score of how real a pose looks, from its coordinates in camera axes and from its kinematic chain space
    matrix."""

    def __init__(self, joints: int, channels: int = 256):
        super().__init__()
        self.coordinates, chains = 3 * joints, (joints - 1) ** 2
        self.of_pose, self.of_chains = (
            nn.Sequential(nn.Linear(inputs, channels), nn.LeakyReLU(), nn.Linear(channels, channels), nn.LeakyReLU())
            for inputs in (self.coordinates, chains))
        self.head = nn.Sequential(nn.Linear(2 * channels, channels), nn.LeakyReLU(), nn.Linear(channels, 1))

    @staticmethod
    def inputs(pose_m: torch.Tensor) -> torch.Tensor:
        """The numbers of a pose that the critic sees: (N, J, 3) -> (N, 3J + (J - 1)^2)."""
        return torch.cat([pose_m.flatten(1) / DEVIATION_M, CHAIN_SCALE * kinematic_chain_space(pose_m).flatten(1)], 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(N, 3J + (J - 1)^2) -> (N,)."""
        pose, chains = inputs[:, :self.coordinates], inputs[:, self.coordinates:]
        return self.head(torch.cat([self.of_pose(pose), self.of_chains(chains)], 1))[:, 0]


def _recipe() -> torch.Tensor:
    """(2, J, K): the weight of COCO keypoint k in joint j, for x and for y."""
    adapter = ADAPTERS["coco17"]
    rows = np.zeros((2, len(adapter.skeleton), len(adapter.layout)), np.float32)
    for joint, ((terms, _), *_) in enumerate(adapter.alternatives):  # all of the face is seen
        for keypoint, x, y in terms:
            rows[:, joint, keypoint] = x, y
    return torch.from_numpy(rows)


_RECIPE = _recipe()


def project(m: torch.Tensor, pose_m: torch.Tensor, keypoints: torch.Tensor) -> torch.Tensor:
    """The keypoints of a pose, from the pelvis, as a detector reports them: W' = M X, in perspective. (N, 2, 3),
    (N, J, 3), (N, T, J, 2) -> (N, J, 2).

    A joint x, y, z from a pelvis that is seen in direction (a, b), at distance d, stands 2 f ((a d + x) / (d + z) - a)
    from it, which is 2 f / d (x - a z) / (1 + z / d). (a, b) is known of the keypoints; M's scale is 2 f / d.
    """
    points = coco_landmarks(pose_m[:, None], None)[:, 0]
    direction = keypoints[:, keypoints.shape[1] // 2, ROOT] / (2 * FOCAL)
    depth = points[..., 2:]
    turned = torch.cat([points[..., :2] - direction * depth, depth], -1)
    per_distance = (m.square().sum((1, 2)) / 2).sqrt()[:, None, None] / (2 * FOCAL)  # 1 / d
    seen = turned @ m.transpose(1, 2) / (1 + depth * per_distance).clamp(min=LEAST_DISTANCE)
    joints = torch.stack([seen[..., axis] @ _RECIPE[axis].T for axis in range(2)], -1)
    return joints - joints[:, ROOT]


def from_root(keypoints: torch.Tensor) -> torch.Tensor:
    """The middle frame's keypoints from the pelvis: (N, T, J, 2) -> (N, J, 2)."""
    middle = keypoints[:, keypoints.shape[1] // 2]
    return middle - middle[:, ROOT]


def camera_loss(m: torch.Tensor) -> torch.Tensor:
    """|2 / trace(M M^T) M M^T - I|, Frobenius, mean: zero where M's rows are orthogonal and of one length. (N, 2, 3) ->
    ()."""
    square = m @ m.transpose(1, 2)
    trace = square.diagonal(dim1=1, dim2=2).sum(1)
    return (2 / trace[:, None, None] * square - torch.eye(2, device=m.device)).norm(dim=(1, 2)).mean()


def projection_loss(m: torch.Tensor, pose_m: torch.Tensor, keypoints: torch.Tensor) -> torch.Tensor:
    """Mean distance of the projection to the keypoints, in parts of the person's size in the picture."""
    seen = from_root(keypoints)
    size = (seen.amax(1) - seen.amin(1)).amax(1)
    return ((project(m, pose_m, keypoints) - seen).norm(dim=-1).mean(1) / size).mean()


def gradient_penalty(critic: Callable[[torch.Tensor], torch.Tensor], real: torch.Tensor, generated: torch.Tensor,
                     generator: torch.Generator) -> torch.Tensor:
    """(|gradient| - 1)^2 of the critic between what it sees of real and of made poses, (N, K) each. Gulrajani et al.
    2017, eq. 3."""
    share = torch.rand(len(real), 1, generator=generator).to(real.device)
    between = (share * real + (1 - share) * generated).requires_grad_()
    gradient, = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return ((gradient.norm(dim=1) - 1) ** 2).mean()


def scaled_mpjpe(predicted_m: np.ndarray, target_m: np.ndarray) -> float:
    """MPJPE in mm after each pose, from its root, is scaled to fit best: (N, J, 3), (N, J, 3)."""
    predicted_m = predicted_m - predicted_m[:, ROOT]
    scale = (predicted_m * target_m).sum((1, 2), keepdims=True) / (predicted_m**2).sum((1, 2), keepdims=True)
    return float(1000 * np.linalg.norm(scale * predicted_m - target_m, axis=-1).mean())


def half_of(motion: Motion, half: int) -> Motion:
    """The clips of every second subject, from subject number `half` on.

    Raises ValueError if there are none.
    """
    subjects = sorted({name.split("/")[0] for name in motion.clip_names})[half::2]
    clips = [i for i, name in enumerate(motion.clip_names) if name.split("/")[0] in subjects]
    if not clips:
        raise ValueError("weakly supervised training needs 2 training subjects or more; there are "
                         f"{len(set(motion.clip_names))} clips of 1")
    frames = [motion.positions_m[motion.clip_bounds[i]:motion.clip_bounds[i + 1]] for i in clips]
    bounds = torch.tensor([0, *(len(f) for f in frames)]).cumsum(0)
    return Motion(torch.cat(frames), bounds, tuple(motion.clip_names[i] for i in clips), motion.fps)


class UnpairedTrainer(Trainer):
    """Generator, camera network and critic in training."""

    def __init__(self, model: str, motion: Motion, steps: int, seed: int, noisy: bool, options: Mapping[str, Any],
                 paired: bool = False):
        torch.manual_seed(seed)
        self.generator = zoo.build(model, 1, **options)
        self.seen, self.posed, self.noisy, self.paired = half_of(motion, 0), half_of(motion, 1), noisy, paired
        if hasattr(self.generator, "standardise"):
            random = step_generator(seed, -1)
            self.generator.standardise(self._keypoints(random, STATISTICS_WINDOWS),
                                       self._real(random, STATISTICS_WINDOWS))
        for layer in self.generator.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0  # with dropout the critic would learn to recognise its noise
        joints = len(self.generator.skeleton)
        self.camera, self.critic = CameraNetwork(joints), Critic(joints)
        making = torch.optim.Adam([*self.generator.parameters(), *self.camera.parameters()], LEARNING_RATE, BETAS)
        judging = torch.optim.Adam(self.critic.parameters(), LEARNING_RATE, BETAS)
        super().__init__({"generator": self.generator, "camera": self.camera, "critic": self.critic},
                         {"making": making, "judging": judging}, steps, seed, AVERAGING)

    def rates(self) -> dict[str, float]:
        rate = LEARNING_RATE * min(1.0, 2 * (1 - self.done / self.steps))
        return {"making": min(1.0, (self.done + 1) / WARM_UP) * rate, "judging": rate}

    def learn(self, generator: torch.Generator) -> dict[str, float]:
        """CRITIC_STEPS of the critic and one of the generator and the camera."""
        return self._with_pairs(generator) if self.paired else self._without_pairs(generator)

    def _with_pairs(self, random: torch.Generator) -> dict[str, float]:
        """A step of the same generator with the pose of each keypoint set: for comparison."""
        keypoints, target_m = self._observed(self.seen, random, self.noisy, BATCH)
        loss = mean_distance(self.generator(keypoints), target_m)
        self.descend("making", loss)
        return {"distance": loss.item()}

    def _without_pairs(self, random: torch.Generator) -> dict[str, float]:
        for _ in range(CRITIC_STEPS):
            with torch.no_grad():
                made_m = self.generator(self._keypoints(random, BATCH))
                generated, real = Critic.inputs(made_m - made_m[:, ROOT]), Critic.inputs(self._real(random, BATCH))
            judged = self.critic(generated).mean() - self.critic(real).mean()
            self.descend("judging",
                         judged + GRADIENT_PENALTY * gradient_penalty(self.critic, real, generated, random))
        keypoints = self._keypoints(random, BATCH)
        made_m, m = self.generator(keypoints), self.camera(keypoints)
        root_m, made_m = made_m[:, ROOT], made_m - made_m[:, ROOT]
        parts = {"wasserstein": -self.critic(Critic.inputs(made_m)).mean(),
                 "projection": projection_loss(m, made_m, keypoints), "camera": camera_loss(m)}
        self.descend("making", WASSERSTEIN * parts["wasserstein"] + PROJECTION * parts["projection"]
                     + CAMERA * parts["camera"] + root_m.norm(dim=-1).mean())
        return {"critic": -judged.item(), **{name: part.item() for name, part in parts.items()}}

    def _keypoints(self, random: torch.Generator, count: int) -> torch.Tensor:
        return self._observed(self.seen, random, self.noisy, count)[0]

    def _real(self, random: torch.Generator, count: int) -> torch.Tensor:
        return self._observed(self.posed, random, False, count)[1]

    def _observed(self, motion: Motion, random: torch.Generator, noisy: bool,
                  count: int) -> tuple[torch.Tensor, torch.Tensor]:
        return observe(vary_bodies(draw_windows(motion, count, 1, random), random), random, noisy, SEEN_IN_STUDIO)


def train(model: str, data: str | Path, out: str | Path, steps: int, *, options: Mapping[str, Any] = {}, seed: int = 0,
          noisy: bool = False, paired: bool = False, every: int = 200, resume: bool = False, command: str = "",
          report: Report | None = None) -> Path:
    """Trains a single-frame lifter without 2D-3D pairs; the path of its checkpoint, OUT/<model>-weak.safetensors.

    paired: the same generator and steps with 2D-3D pairs, OUT/<model>-paired.safetensors, to see what the pairs are
    worth.
    data: a folder as `mocap` describes. options: of the model. noisy: keypoints as a detector gives them, not as they
    are.
    report: called after each step; the scores are the scale-aligned MPJPE in mm on the validation subjects, and that of
    the training poses' mean.
    Raises ValueError for an unknown model or option, a state of another run, or a checkpoint that is there already and
    not resumed; TypeError for an option of another kind; FileNotFoundError if there is nothing to resume.
    """
    path = Path(out) / f"{model}-{'paired' if paired else 'weak'}.safetensors"
    reserve(path, resume)
    motion = read_motion(data, "training")
    trainer = UnpairedTrainer(model, motion, steps, seed, noisy, options, paired)
    random = step_generator(seed, -1)
    keypoints, target = observe(draw_windows(read_motion(data, "validation"), VALIDATION_WINDOWS, 1, random), random,
                                noisy, SEEN_IN_STUDIO)
    mean_pose = observe(draw_windows(trainer.posed, VALIDATION_WINDOWS, 1, random), random,
                        recipe=SEEN_IN_STUDIO)[1].mean(0, keepdim=True)
    floor = scaled_mpjpe(mean_pose.expand_as(target).numpy(), target.numpy())
    identity = {"model": model, "seed": seed, "noisy": noisy, "paired": paired, "options": dict(options)}
    about = {"model": model, "frames": 1, "skeleton": H36M17.name, "options": dict(options), "seed": seed,
             "command": command,
             "data": "CMU Graphics Lab Motion Capture Database" + ", no 2D-3D pairs" * (not paired)}

    def validate() -> dict[str, float]:
        with torch.no_grad():
            error = scaled_mpjpe(trainer.averaged(keypoints).numpy(), target.numpy())
        return {"validation_scaled_mpjpe_mm": error, "mean_pose_scaled_mpjpe_mm": floor}

    return run(trainer, path, identity, every=every, resume=resume, validate=validate, save=save_checkpoint,
               about=about, report=report)


def main(argv: list[str] | None = None) -> int:
    """Runs the command: a line for every checkpoint. The exit status."""
    parser = argparse.ArgumentParser(prog="python -m edgepose.training.weakly_supervised",
                                     description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="martinez-s",
                        choices=[name for name, entry in zoo.MODELS.items() if 1 in entry.frames],
                        metavar="NAME", help="the generator, a model of one frame (default martinez-s)")
    add_option_argument(parser)
    parser.add_argument("--path", required=True, metavar="DIR", help="motion capture, one .npz a subject")
    parser.add_argument("--steps", type=int, default=2_000, metavar="N", help="of the generator (default 2000)")
    parser.add_argument("--noisy", action="store_true", help="keypoints with a detector's noise")
    parser.add_argument("--paired", action="store_true", help="with 2D-3D pairs, for comparison")
    add_run_arguments(parser, every=200)
    args = parser.parse_args(argv)
    return reporting("weakly_supervised", lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    check_run_arguments(args)
    torch.set_num_threads(args.threads)
    options = read_options(args.model, args.option)
    command = (f"python -m edgepose.training.weakly_supervised --model {args.model} --path DIR --out DIR "
               f"--steps {args.steps} --seed {args.seed}" + " --noisy" * args.noisy + " --paired" * args.paired
               + "".join(f" {shlex.quote(word)}" for word in option_words(options)))

    def words(step: StepReport) -> str:
        losses = "  ".join(f"{name} {value:.3f}" for name, value in step.losses.items())
        if not step.scores:
            return losses
        error, floor = step.scores.values()
        return f"{losses}  validation {error:.1f} mm after scaling (mean pose {floor:.1f})"

    print_run(f"{args.model}, {'paired' if args.paired else 'weak'}", args.steps, words,
              lambda report: train(args.model, args.path, args.out, args.steps, options=options, seed=args.seed,
                                   noisy=args.noisy, paired=args.paired, every=args.every, resume=args.resume,
                                   report=report, command=command))


if __name__ == "__main__":
    sys.exit(main())
