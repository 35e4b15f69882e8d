"""Small lifters with weights that look trained, and engine files of them."""

import numpy as np
import torch
from torch import nn

from edgepose import _native, enginefile, zoo
from edgepose.build_engines import quantise
from edgepose.build_engines.lower import lower
from edgepose.build_engines.plan_module import MATRIX_PRODUCTS
from edgepose.columns import inputs_of, outputs_of
from edgepose.skeleton import H36M16, H36M17
from edgepose.zoo.ampose import BLOCKS, ORDERS, AMPose
from edgepose.zoo.layers import NEIGHBOUR_GROUPS, Mlp, SampleLayerNorm, folded_linear
from edgepose.zoo.martinez import Martinez
from edgepose.zoo.posegate import GATES, PoseGateFormer
from edgepose.zoo.refined import RefinedAMPose
from edgepose.zoo.strided import StridedTransformer
from edgepose.zoo.strided_causal import StridedCausal

# The models that take windows; the others remember frames.
WINDOWED = [name for name, entry in zoo.MODELS.items() if not getattr(entry.build, "has_state", False)]
REQUIRED = {"format": int, "model": str, "frames": int, "skeleton": str, "precision": str, "backend": str, "units": str,
            "weights_sha256": str, "built_with": dict}  # in an engine file's header
WANTED = {int: "a whole number", str: "a string", dict: "an object"}  # as the messages name these types
TINY = {"depth": 1, "channels": 16, "heads": 2}


def randomised(model, seed=0):
    """The model in evaluation mode, with seeded weights and with norms whose gains and statistics are not 1 and 0."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor, low, high):
        with torch.no_grad():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    for module in model.modules():
        if isinstance(getattr(module, "position", None), nn.Parameter):
            uniform(module.position, -0.5, 0.5)
        if isinstance(module, (nn.Linear, nn.Conv1d)):
            bound = module.weight[0].numel() ** -0.5
            uniform(module.weight, -bound, bound)
            if module.bias is not None:
                uniform(module.bias, -bound, bound)
        if isinstance(module, (nn.LayerNorm, nn.BatchNorm1d, SampleLayerNorm)):
            uniform(module.weight, 0.5, 1.5)
            uniform(module.bias, -0.2, 0.2)
        if isinstance(module, nn.BatchNorm1d):
            uniform(module.running_mean, -0.2, 0.2)
            uniform(module.running_var, 0.5, 2)
        if isinstance(module, Martinez):
            uniform(module.input_mean, -0.2, 0.2)
            uniform(module.input_deviation, 0.2, 0.5)
            uniform(module.output_mean, -0.3, 0.3)
            uniform(module.output_deviation, 0.1, 0.3)
    return model.eval()


class ErrorLifter(nn.Module):
    """A lifter of x, y and confidence that predicts its error too, with a head of its own over a pose in one row."""

    inputs, outputs = ("x", "y", "confidence"), ("x", "y", "z", "error")

    def __init__(self, frames=1, channels=64, skeleton=H36M17):
        super().__init__()
        self.skeleton, self.frames, joints = skeleton, frames, len(skeleton)
        self.embed = nn.Linear(3 * frames * joints, channels)
        self.norm = nn.LayerNorm(channels)
        self.mlp = Mlp(channels)
        self.head, self.error_head = nn.Linear(channels, 3 * joints), nn.Linear(channels, joints)

    def forward(self, x):
        x = self.embed(x.flatten(1))
        x = x + self.mlp(self.norm(x))
        joints = len(self.skeleton)
        return torch.cat([self.head(x).reshape(-1, joints, 3), torch.relu(self.error_head(x)).reshape(-1, joints, 1)],
                         -1)

    def lower(self, plan):
        x = plan.linear(plan.reshape(plan.frame_tokens(), 1), *folded_linear(self.embed))
        x = self.mlp.lower(plan, plan.normalize(x, self.norm.eps), self.norm, residual=x)
        pose, joints = plan.linear(x, *folded_linear(self.head)), len(self.skeleton)
        error = plan.linear(x, *folded_linear(self.error_head), activation="relu")
        return plan.concat(plan.reshape(pose, joints), plan.reshape(error, joints))


class ErrorJointLifter(nn.Module):
    """A lifter with the same columns, a token a joint and one head."""

    inputs, outputs = ErrorLifter.inputs, ErrorLifter.outputs

    def __init__(self, frames=1, channels=64, skeleton=H36M17):
        super().__init__()
        self.skeleton, self.frames = skeleton, frames
        self.embed, self.norm, self.mlp, self.head = (nn.Linear(3 * frames, channels), nn.LayerNorm(channels),
                                                      Mlp(channels), nn.Linear(channels, 4))

    def forward(self, x):
        x = self.embed(x.transpose(1, 2).flatten(2))
        return self.head(x + self.mlp(self.norm(x)))

    def lower(self, plan):
        x = plan.linear(plan.joint_tokens(), *folded_linear(self.embed))
        return plan.linear(self.mlp.lower(plan, plan.normalize(x, self.norm.eps), self.norm, residual=x),
                           *folded_linear(self.head))


def tiny_lifter(**options):
    """An AMPose of 16 channels and one pair of blocks: it has every kind of step."""
    return randomised(AMPose(**{**TINY, **options}))


def engine_header(model, precision="fp32"):
    """The header of a model's engine file without the plan."""
    return {"model": "tiny", "frames": model.frames, "skeleton": model.skeleton.name, "precision": precision,
            "inputs": list(inputs_of(model)), "outputs": list(outputs_of(model)), "backend": "native",
            "weights_sha256": "0" * 64, "built_with": {"edgepose": "0.1.0"}}


EIGHT_BITS = {  # a step's, for quantise.in_eight_bits
    "w8": {}, "int8": {"x_bits": 8}, "int16": {"x_bits": 16}, "int8, one scale": {"x_scale": 40.0}}


def lowered(model, precision):
    """Lower a model, in those of EIGHT_BITS too: every product, however narrow."""
    if precision not in EIGHT_BITS:
        return lower(model, precision)
    plan, tensors = lower(model, "fp32")
    return quantise.in_eight_bits(plan, tensors, {name: EIGHT_BITS[precision] for name in product_labels(plan)})


def eight_bit_scales(calibration):
    """The scales of every product in eight bits, weights to the nearest."""
    labels = [label for _, label, _ in quantise.products(calibration.plan)]
    return {"w8": {label: {} for label in labels}, "rows": {label: {"x_bits": 8} for label in labels},
            **calibration.scales(quantise.Recipe("max"))}


def product_labels(plan):
    """The labels of all products of a plan."""
    return [quantise.label(number, step) for number, step in enumerate(plan["steps"]) if step["op"] in MATRIX_PRODUCTS]


def write_engine(path, model, precision="fp32"):
    """Lower a model into a native engine file at `path`; returns the path."""
    plan, tensors = lowered(model, precision)
    enginefile.write(path, {**engine_header(model, precision), "plan": plan}, tensors)
    return path


SMALL = {"depth": 2, "channels": 36, "heads": 3}  # heads of 12: no vector or panel fits evenly


def small_options(name):
    """The options that make a model of the registry 48 channels wide."""
    return {"channels": 48, **({"heads": 4} if "heads" in zoo.options_of(name) else {})}


def small(name, frames=None, **options):
    """A model of the registry, 48 channels wide."""
    return zoo.build(name, frames, **small_options(name), **options)


PERSON_M = 0.5  # mean distance of a person's joints from the root
LAST = {Martinez: ("output_mean", "output_deviation"), RefinedAMPose: ("head.", "refine.3."),
        StridedTransformer: ("head.linear.",), StridedCausal: ("head.", "head_time.")}


def person_sized(model):
    """Scale the model's last layer so that its poses have about the size of a person: random heads give any size."""
    factor = float(PERSON_M / np.linalg.norm(torch_poses(model, keypoints(model, 16)), axis=-1).mean())
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.startswith(LAST.get(type(model), ("head.",))):
                tensor.mul_(factor)
    return model


def lifters():
    """Every name of the registry with every window length it takes, small, and every option of its classes once; models
    whose weights ship in full size."""
    for name, entry in zoo.MODELS.items():
        for frames in entry.frames:
            yield f"{name}, {frames} frames, small", lambda name=name, frames=frames: small(name, frames)
    for name in ("ampose", "ampose-s", "posegate-s", "dln-s", "strided27-s"):
        yield name, lambda name=name: zoo.build(name)
    for option, values in (("block", BLOCKS), ("order", ORDERS), ("groups", NEIGHBOUR_GROUPS)):
        for value in values:
            yield f"{option} {value}", lambda option=option, value=value: AMPose(**SMALL, **{option: value})
    for gate in GATES:
        yield f"gate {gate}", lambda gate=gate: PoseGateFormer(**SMALL, gate=gate)
    for option in ({"is_causal": True}, {"is_causal": True, "attention": "dense"}, {"norm": "sample"}, {"depth": 1}):
        for frames in (27, 81):
            yield f"strided, {frames} frames, {option}", lambda option=option, frames=frames: StridedTransformer(
                frames=frames, **{**SMALL, **option})
    for frames in zoo.FRAMES:
        yield f"16 joints, {frames} frames", lambda frames=frames: AMPose(H36M16, frames, **SMALL)
    for name in ("posegate", "martinez", "dln", "strided27"):
        yield f"{name}, 16 joints", lambda name=name: small(name, skeleton=H36M16)


LIFTERS = dict(lifters())


def keypoints(model, people, seed=0):
    """Seeded keypoints_norm (people, T, J, C) for a model."""
    shape = (people, model.frames, len(model.skeleton), len(inputs_of(model)))
    x = np.random.default_rng(seed).uniform(-0.6, 0.6, shape).astype(np.float32)
    if "gap" in inputs_of(model):  # no frame comes before the last one
        gap = inputs_of(model).index("gap")
        x[..., gap] = np.abs(x[..., :1, gap])
    return x


def torch_poses(model, x):
    """A model's own answer, (people, J, D)."""
    with torch.inference_mode():
        return model(torch.from_numpy(x)).numpy()


def run_native(plan, tensors, x, out):
    """out (people, J, D): a plan on the CPU."""
    _native.Context(_native.Plan(plan, tensors, ""), 1).run(x, out)
