"""Models with a state: frame by frame equals the clip at once, for any length, gaps and resets; each person has one."""

import numpy as np
import pytest
import torch
from models import person_sized, randomised, small

import edgepose
from edgepose import enginefile, zoo
from edgepose.build_engines.build import build
from edgepose.build_engines.lifters import NamedModule
from edgepose.build_engines.lower import lower
from edgepose.build_engines.plan_module import PlanModule
from edgepose.zoo.strided_causal import DILATIONS, TAPS

REACHES = tuple(DILATIONS)
EQUAL_M = 1e-5  # what sums of float32 in another order may differ by
CLIPS = 6


def lifter(frames=27):
    """A small strided-causal model whose layers over time matter, with poses of a person's size."""
    module = randomised(small("strided-causal", frames))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for layer in module.layers:
            layer.age.copy_(torch.randn(layer.age.shape, generator=generator))
    return person_sized(module)


def engine_of(folder, module, precision="fp32", threads=1, backend="native"):
    path = folder / f"{backend}_{precision}_{module.frames}.epose"
    if not path.exists():
        enginefile.write(path, *build(NamedModule("strided-causal", module, True, {}), backend, precision))
    return edgepose.load(path, threads=threads, trust=True)


def clip(module, people, frames, seed):
    """Keypoints (people, frames, J, C) with random gaps, some of them long, and here and there a frame that begins
    anew."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-0.6, 0.6, (people, frames, len(module.skeleton), len(module.inputs))).astype(np.float32)
    gap_s = rng.uniform(0.005, 0.05, (people, frames)) * np.where(rng.random((people, frames)) < 0.1, 20, 1)
    gap_s[rng.random((people, frames)) < 0.04] = 0
    gap_s[:, 0] = 0
    x[..., -1] = gap_s[..., None]
    return x


def stepped(engine, x, states=None):
    """Every frame's answer, one frame at a time: (people, frames, J, D)."""
    if states is None:
        states = np.zeros((len(x), engine.state), np.float32)
    return np.stack([engine.step(np.ascontiguousarray(x[:, t:t + 1]), list(states)) for t in range(x.shape[1])], 1)


def batch_form(module, x):
    with torch.inference_mode():
        return module.sequence(torch.from_numpy(x)).numpy()


@pytest.mark.parametrize("frames", REACHES)
def test_reach_is_what_the_name_says(frames):
    module = lifter(frames)
    assert 1 + sum(layer.remembers + TAPS - 1 for layer in module.layers) == frames
    x = torch.rand(1, frames + 3, len(module.skeleton), len(module.inputs), dtype=torch.float64)
    x[..., -1] = 0.02
    x.requires_grad_()
    module.double().sequence(x)[0, -1, :, :3].square().sum().backward()
    counts = x.grad[0, ..., :-1].abs().sum((1, 2)) > 0
    assert counts.tolist() == [False] * 3 + [True] * frames


@pytest.mark.parametrize("seed", range(CLIPS))
def test_the_step_of_the_module_is_its_batch_form(seed):
    module = lifter(REACHES[seed % 2])
    x = clip(module, 3, 20 + 17 * seed, seed)
    state, answers = module.empty(3), []
    rng = np.random.default_rng(seed)
    with torch.inference_mode():
        at = 0
        while at < x.shape[1]:  # frames in parts of random lengths
            end = at + int(rng.integers(1, 9))
            part, state = module.advance(torch.from_numpy(x[:, at:end]), state)
            state = module.unpack(module.pack(state))
            answers.append(part.numpy())
            at = end
    np.testing.assert_allclose(np.concatenate(answers, 1), batch_form(module, x), atol=EQUAL_M)


@pytest.mark.parametrize("frames", REACHES)
def test_the_engine_is_torchs_batch_form(tmp_path, frames):
    module = lifter(frames)
    engine = engine_of(tmp_path, module)
    assert engine.frames == frames and engine.is_causal and engine.state > 0
    x = clip(module, 2, frames + 35, frames)
    np.testing.assert_allclose(stepped(engine, x), batch_form(module, x), atol=EQUAL_M)


def test_a_long_clip_stays_torchs_batch_form(tmp_path):
    module = lifter()
    x = clip(module, 1, 500, 11)
    np.testing.assert_allclose(stepped(engine_of(tmp_path, module), x), batch_form(module, x), atol=EQUAL_M)


def test_a_window_is_the_frames_one_by_one_to_the_bit(tmp_path):
    module = lifter()
    engine = engine_of(tmp_path, module)
    x = clip(module, 3, 3 * module.frames, 5)
    x[:, 1:, :, -1] = np.maximum(x[:, 1:, :, -1], 0.01)  # a window does not begin anew inside
    answers = stepped(engine, x)
    for end in (1, 5, module.frames, module.frames + 9, x.shape[1]):
        window = x[:, max(0, end - module.frames):end]
        if window.shape[1] == module.frames:
            np.testing.assert_array_equal(engine.run(np.ascontiguousarray(window)), answers[:, end - 1])


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_people_threads_and_saved_states_change_no_bit(tmp_path, precision):
    module = lifter()
    engine = engine_of(tmp_path, module, precision)
    x = clip(module, 21, 60, 9)
    alone = np.concatenate([stepped(engine, x[i:i + 1]) for i in range(len(x))])
    np.testing.assert_array_equal(stepped(engine, x), alone)
    for threads in (2, 3):
        several = engine_of(tmp_path, module, precision, threads)
        np.testing.assert_array_equal(stepped(several, x), alone)
        np.testing.assert_array_equal(stepped(several, x[:1]), alone[:1])
    states = np.zeros((len(x), engine.state), np.float32)
    first = stepped(engine, x[:, :31], states)
    saved = np.frombuffer(states.tobytes(), np.float32).reshape(states.shape).copy()
    stepped(engine, clip(module, 21, 7, 1), states)  # what is done with the old ones does not matter
    np.testing.assert_array_equal(np.concatenate([first, stepped(engine, x[:, 31:], saved)], 1), alone)


def test_a_frame_with_gap_zero_begins_anew_whatever_the_state(tmp_path):
    module = lifter()
    engine = engine_of(tmp_path, module)
    x = clip(module, 2, 40, 3)
    broken = np.full((2, engine.state), np.nan, np.float32)
    broken[1] = 1e30
    np.testing.assert_array_equal(stepped(engine, x, broken), stepped(engine, x))


def test_the_plan_in_torch_is_the_module():
    module = lifter()
    x = clip(module, 2, 70, 4)
    planned = PlanModule(*lower(module, "fp32"))
    with torch.inference_mode():
        memory: dict = {}
        answers = torch.stack([planned.step(frame, memory) for frame in torch.from_numpy(x).split(1, 1)], 1)
    np.testing.assert_allclose(answers.numpy(), batch_form(module, x), atol=EQUAL_M)


def test_the_onnx_step_is_the_module(tmp_path):
    pytest.importorskip("onnxruntime")
    module = lifter()
    engine = engine_of(tmp_path, module, backend="onnx")
    x = clip(module, 3, 70, 4)
    np.testing.assert_allclose(stepped(engine, x), batch_form(module, x), atol=EQUAL_M)
    window = np.ascontiguousarray(x[:, -module.frames:])
    np.testing.assert_allclose(engine.run(window), batch_form(module, window)[:, -1], atol=EQUAL_M)


def test_a_state_does_not_grow_with_time_and_is_below_a_megabyte():
    for frames in REACHES:
        module = zoo.build("strided-causal", frames)
        assert 4 * module.state < 1e6
        assert zoo.macs(module) == zoo.macs(zoo.build("strided-causal", 27)) < 5e6


def test_wrong_states_are_refused(tmp_path):
    engine = engine_of(tmp_path, lifter())
    x = np.zeros((2, 1, 17, 10), np.float32)
    states = [np.zeros(engine.state, np.float32) for _ in range(2)]
    with pytest.raises(ValueError, match="1 states for 2 people"):
        engine.step(x, states[:1])
    with pytest.raises(ValueError, match="a state has shape"):
        engine.step(x, [states[0], states[1][:-1]])
    with pytest.raises(TypeError):
        engine.step(x, [states[0], states[1].astype(np.float64)])
    with pytest.raises(ValueError, match="takes windows"):
        edgepose.load("posemlp").step(x, states)
