"""From a training run to what ships: half-precision weights with their figures inside, their card, and the native
engine that edgepose.load finds by the model's name.

    python -m edgepose.build_engines.publish --checkpoint RUN/ampose.safetensors --path DIR --out edgepose/weights
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import torch

from edgepose import enginefile
from edgepose.build_engines.build import build, find_scales
from edgepose.build_engines.compile import check
from edgepose.build_engines.lifters import NamedModule
from edgepose.build_engines.variants import Variant
from edgepose.training.cameras import ANYWHERE, IN_THE_WILD
from edgepose.training.evaluate import calibrated_error, error_coverage, evaluate
from edgepose.training.models import TorchLifter, open_model
from edgepose.training.real_scores import answers_of_folder, score_all
from edgepose.columns import outputs_of
from edgepose.zoo.checkpoints import load_checkpoint, save_checkpoint

CARD = """# {name}

Lifts 2D keypoints (COCO-17 through the adapter `coco17`, or any layout that gives Human3.6M's 17 joints) to 3D.

| | |
|---|---|
| model | `{model}`, {frames} frame(s), skeleton `{skeleton}` |
| data | {data}; validation on other subjects |
| command | `{command}` |
| seed | {seed} |
| note | {note} |
| stored as | float16; the figures are those of this file |
| licence | the weights: Apache-2.0, as edgepose itself; the data: below |

## Figures

`edgepose evaluate --model {name} --data mocap --path DIR`

{figures}
{error}
- Clean: the detector finds exactly what it looks for. Noisy: it jitters, swaps sides and loses joints as real ones do.
- Floors: the mean pose and a linear regression, fitted to 20,000 training windows. A model has to be far below them.
- Real detections: OpenPose on three views of a man stepping along a beam, through `Stream` without smoothing. The
  reference is triangulated from such detections and good to some 30 mm; camera 3 is behind him.
{real}
## What it does not know

- People of the training data walk, run, dance, climb, exercise, work with their hands and play. Few lie or sit, nobody
  is a child, nobody holds a large object.
- It has seen lenses of {lenses} along the longer side of the picture, people {nearest} and more away, cameras
  {heights} above the floor. Undistort wider lenses first.
- Legs out of the picture are guessed from the rest; `Pose.is_seen` says which joints are.
- The joints are those of motion capture: hips and shoulders are the centres of the joints, "nose" is the base of the
  skull and "head" a point near the crown.
- The distance of a joint along the line of sight is the least certain figure, and the size of the person is a guess:
  the picture does not show it.

## Source and licence of the data

{credits}
"""

CREDITS = {  # by what the checkpoint's metadata calls a source
    "CMU": """\
The data used in this project was obtained from mocap.cs.cmu.edu. The database was created with funding from NSF
EIA-0196217. It is free for all uses; the weights may be shipped and sold, the recordings may not be sold as data.""",
    "HDM05": """\
The data used in this project was obtained from HDM05. M. Müller, T. Röder, M. Clausen, B. Eberhardt, B. Krüger, A.
Weber, "Documentation Mocap Database HDM05", Technical report CG-2007-2, Universität Bonn, 2007; Creative Commons
Attribution-ShareAlike 3.0. The weights hold none of the recordings; we take them for no adaptation.""",
    "UI-PRMD": """\
A. Vakanski, H. Jun, D. Paul, R. Baker, "A Data Set of Human Body Movements for Physical Rehabilitation Exercises",
Data 3(1):2, 2018 (UI-PRMD); public domain (Open Data Commons).""",
    "h36m": "Human3.6M: its licence does not let weights trained on it be shipped.",
}


ERROR = """
The error it predicts for each joint (`Pose.error_m`) is calibrated on the validation subjects, noisy: within it lie
{parts}. One standard deviation of a normal distribution holds 68.3 %.
"""

REAL = """
## Real clips

`edgepose evaluate --model {name} --data real --path DIR`: twelve limb joints from the middle of the hips, means of each
group's clips, through `Stream` without smoothing; perfect 2D is the reference in the picture, unknown are poses
without one.

{table}
"""


def card(name: str, metadata: dict[str, Any]) -> str:
    """The card of weights whose metadata has the figures of `evaluate`, as Markdown; `real`, where it is there, those
    of real clips."""
    real = REAL.format(name=name, table=_table(metadata["real"])) if metadata.get("real") else ""
    coverage = metadata.get("error_coverage", {})
    parts = " and ".join(f"{part:.1f} % of {'all joints' if joints == 'all' else f'those {joints}'}"
                         for joints, part in coverage.items())
    rig = IN_THE_WILD if "rate_hz" in metadata else ANYWHERE  # checkpoints without a rate are of the first recipe
    narrow, wide = (round(2 * math.degrees(math.atan(0.5 / focal))) for focal in reversed(rig.focal))
    facts = {"lenses": f"{narrow} to {wide} degrees", "nearest": f"{rig.distance_m[0]:g} m",
             "heights": "{:g} to {:g} m".format(*rig.height_m),
             "credits": "\n\n".join(credit for source, credit in CREDITS.items() if source in metadata["data"])}
    return CARD.format(name=name, **{"note": "", **metadata, **facts, "figures": _table(metadata["figures"]),
                                     "real": real, "error": ERROR.format(parts=parts) if coverage else ""})


def _table(rows: dict[str, dict[str, float]]) -> str:
    columns = list(next(iter(rows.values())))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
    lines += [f"| {row} | " + " | ".join(f"{value:.1f}" if isinstance(value, float) else str(value)
                                         for value in figures.values()) + " |" for row, figures in rows.items()]
    return "\n".join(lines)


def publish(checkpoint: str | Path, data: str | Path, out: str | Path, note: str = "",
            real: str | Path | None = None) -> Path:
    """Writes OUT/<name>.safetensors in float16, OUT/<name>.md, its card, and its engines, OUT/<name>_fp16.epose and
    _int8.epose; returns the path of the weights. note: what the card should say of the run beside its command.

    checkpoint: a file of `supervised.train`. data: a folder as `mocap` describes, for the figures; real: one as
    real_clips does.
    Raises what load_checkpoint, and with real what read_real_clips raises.
    """
    module, metadata = load_checkpoint(checkpoint)
    has_error = "error" in outputs_of(module)
    if has_error:
        module.scale_error(calibrated_error(TorchLifter(module), data))
    name = Path(checkpoint).stem
    path = Path(out) / f"{name}.safetensors"
    save_checkpoint(path, module, metadata, torch.float16)
    # Once more with the figures, which are those of the weights as they were rounded.
    model, _ = open_model(str(path))
    metadata = {**metadata, "note": note, "figures": evaluate(model, data)}
    if has_error:
        metadata["error_coverage"] = error_coverage(model, data)
    if real is not None:
        metadata["real"] = score_all(*answers_of_folder(model, real)).tables()[0]
    save_checkpoint(path, module, metadata, torch.float16)
    path.with_suffix(".md").write_text(card(name, metadata))
    module, _ = load_checkpoint(path)
    lifter = NamedModule(metadata["model"], module, True, metadata["options"], rate_hz=metadata.get("rate_hz"))
    header, tensors = build(lifter, "native", "fp16")
    enginefile.write(path.with_name(f"{name}_fp16.epose"), header, tensors)
    write_int8(lifter, path.with_name(f"{name}_int8.epose"))
    return path


def write_int8(lifter: NamedModule, path: Path) -> None:
    """Writes the engine in eight bits, if it is within its budgets; else says why not."""
    variant = Variant("native", "int8")
    scales = find_scales(lifter, None, [variant], print)
    enginefile.write(path, *build(lifter, "native", "int8", scales))
    _, row = check(lifter, variant, path, threads=1)
    if not row.is_kept:
        path.unlink()
        print(f"{path.name} is not kept: {row.refusal}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkpoint", required=True, metavar="FILE")
    parser.add_argument("--path", required=True, metavar="DIR", help="motion capture, one .npz a subject")
    parser.add_argument("--real", metavar="DIR", help="real clips with a reference, for a table of the card")
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--note", default="", metavar="TEXT", help="for the card")
    options = parser.parse_args()
    print(publish(options.checkpoint, options.path, options.out, options.note, options.real))
