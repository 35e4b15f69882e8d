"""Promises of every model of the registry: all variants within their budgets, Stream equal to the off-line run."""

import numpy as np
import pytest
import torch
from models import (PERSON_M, WINDOWED, eight_bit_scales, keypoints, person_sized, randomised, small,
                    torch_poses)

import edgepose
from edgepose import enginefile, zoo
from edgepose.build_engines import quantise
from edgepose.build_engines.budgets import BUDGETS
from edgepose.build_engines.compile import build, why_not_here
from edgepose.build_engines.lifters import NamedModule
from edgepose.build_engines.lower import lower
from edgepose.build_engines.variants import VARIANTS, WITH_STATE
from edgepose.columns import joints_of, with_all_columns
from edgepose.training.losses import Objective

pytestmark = pytest.mark.slow

CASES = [*((name, entry.frames[0]) for name, entry in zoo.MODELS.items()),
         ("ampose", 9), ("posegate-s", 27), ("dln-s", 9)]
each_model = pytest.mark.parametrize("name, frames", CASES, ids=[f"{name}-{frames}" for name, frames in CASES])


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@each_model
def test_every_variant_is_within_its_error_budget(tmp_path, name, frames):
    module = person_sized(randomised(small(name, frames)))  # budgets hold for poses of people's size
    x = keypoints(module, 3)
    expected = torch_poses(module, x)
    assert np.linalg.norm(joints_of(expected), axis=-1).mean() == pytest.approx(PERSON_M, rel=0.1)
    calibration = quantise.Calibration(*lower(module, "fp32"), keypoints(module, 16))
    scales = eight_bit_scales(calibration)
    # A build keeps some steps in half precision; here all are in eight bits, within a twentieth of the pose.
    budget_mm = {precision: budget.mean_mm for precision, budget in BUDGETS.items()} | {"w8": 25.0, "int8": 25.0}
    for backend, precisions in VARIANTS.items():
        if why_not_here(backend):  # test_cuda_kernels.py has the emulated kernels
            continue
        if name not in WINDOWED and backend not in WITH_STATE:
            continue
        for precision in precisions:
            path = tmp_path / f"{backend}_{precision}.epose"
            enginefile.write(path, *build(NamedModule(name, module, True, {}), backend, precision, scales))
            engine = edgepose.load(path, trust=True)
            assert (engine.model, engine.frames, engine.is_causal) == (name, frames, name not in WINDOWED)
            for people in (1, 3):
                error_mm = 1e3 * np.linalg.norm(joints_of(engine.run(x[:people]) - expected[:people]), axis=-1)
                assert error_mm.mean() < budget_mm[precision], f"{backend} {precision}, {people} people"


@pytest.mark.parametrize("name, frames", [case for case in CASES if case[0] in WINDOWED])
def test_a_stream_is_the_off_line_run_to_the_bit(tmp_path, name, frames):
    module = randomised(small(name, frames))
    enginefile.write(tmp_path / "a.epose", *build(NamedModule(name, module, True, {}), "native", "fp32"))
    engine = edgepose.load(tmp_path / "a.epose")
    rng = np.random.default_rng(4)
    clip_px = rng.uniform(300, 700, (1, 17, 2)) + rng.normal(0, 3, (12, 17, 2))
    stream = edgepose.Stream(engine, "h36m17", (1000, 1000), delay_frames=frames // 2, rate_hz=None)
    poses = [pose for i, frame in enumerate(clip_px) if (pose := stream.push(frame, 0.02 * i))] + stream.flush()
    screen = np.stack([edgepose.camera.normalize_screen(frame, (1000, 1000)) for frame in clip_px]).astype(np.float32)
    padded = with_all_columns(np.pad(screen, ((frames // 2, frames // 2), (0, 0), (0, 0)), mode="edge"), engine)
    for i, pose in enumerate(poses):
        assert pose.timestamp_s == pytest.approx(0.02 * i)
        answer = engine.run(np.ascontiguousarray(padded[None, i:i + frames]))[0]
        np.testing.assert_array_equal(pose.joints_m, joints_of(answer))
        assert (pose.error_m is None) == (answer.shape[-1] == 3)
    assert len(poses) == len(clip_px)


@pytest.mark.parametrize("name", [name for name in zoo.MODELS if name.startswith("strided") and name.endswith("-s")])
def test_a_causal_model_streams_without_delay(tmp_path, name):
    module = randomised(small(name, is_causal=True))
    enginefile.write(tmp_path / "a.epose", *build(NamedModule(name, module, True, {}), "native", "fp32"))
    engine = edgepose.load(tmp_path / "a.epose")
    assert engine.is_causal
    rng = np.random.default_rng(5)
    clip_px = rng.uniform(300, 700, (1, 17, 2)) + rng.normal(0, 3, (6, 17, 2))
    stream = edgepose.Stream(engine, "h36m17", (1000, 1000), rate_hz=None)
    with pytest.raises(
            ValueError, match=f"a causal window of {engine.frames} frames has no later ones to wait for: wanted 0"):
        edgepose.Stream(engine, "h36m17", (1000, 1000), delay_frames=1)
    screen = np.stack([edgepose.camera.normalize_screen(frame, (1000, 1000)) for frame in clip_px]).astype(np.float32)
    padded = np.concatenate([np.repeat(screen[:1], engine.frames - 1, 0), screen])
    for i, frame in enumerate(clip_px):
        pose = stream.push(frame, 0.02 * i)
        np.testing.assert_array_equal(pose.joints_m,
                                      engine.run(np.ascontiguousarray(padded[None, i:i + engine.frames]))[0])
        np.testing.assert_array_equal(pose.keypoints_norm, screen[i])


@each_model
def test_a_gradient_reaches_every_parameter(name, frames):
    torch.manual_seed(0)
    module = small(name, frames)
    if name == "ampose-refined":  # its correction starts at zero and passes no gradient back at first
        torch.nn.init.normal_(module.refine[-1].weight, std=0.01)
    for head in ("head_time", "error_time"):  # and so do these
        if hasattr(module, head):
            torch.nn.init.normal_(getattr(module, head).weight, std=0.01)
    x = torch.from_numpy(keypoints(module, 4))
    Objective(module)(x, torch.randn(4, frames, 17, 3))[0].backward()
    # Among several GPUs every one of them must be part of the loss, or the processes wait for each other.
    assert all(tensor.grad is not None for tensor in module.parameters())
    unreached = [parameter for parameter, tensor in module.named_parameters() if not tensor.grad.abs().sum()]
    # A norm's shift or a key's bias that adds the same to every score, or to the values a BatchNorm takes the mean of,
    # changes nothing.
    assert not [parameter for parameter in unreached if not parameter.endswith("bias")]
