import argparse
import copy
import math
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from tiny_mocap import write_all

import edgepose
from edgepose.zoo.checkpoints import load_checkpoint, read_tensors, write_tensors
from edgepose.cli import main
from edgepose.training import losses, runs, schedules, supervised, weakly_supervised
from edgepose.training.supervised import train

pytestmark = pytest.mark.slow

CAUSAL = {"is_causal": True, "channels": 16, "heads": 2, "depth": 1}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(supervised, "BATCH", 8)
    monkeypatch.setattr(supervised, "VALIDATION_WINDOWS", 8)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def data(tmp_path):
    return write_all(tmp_path / "mocap")


def weights(path):
    return load_checkpoint(path)[0].state_dict()


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("model, frames",
                         [("ampose-s", None), ("ampose-s", 9), ("strided27-s", None), ("martinez", None)])
def test_the_same_seed_gives_the_same_run(data, tmp_path, model, frames):
    a, b, other = (weights(train(model, data, tmp_path / str(i), 3, frames=frames, seed=seed))
                   for i, seed in enumerate((0, 0, 1)))
    assert same(a, b) and not same(a, other)


@pytest.mark.parametrize("model, precision", [("ampose-s", "float32"), ("ampose-s", "bfloat16"),
                                              ("ampose-s", "float16"), ("martinez-s", "float32")])  # with dropout
def test_a_resumed_run_ends_as_an_uninterrupted_one(data, tmp_path, monkeypatch, model, precision):
    # so large a scale that float16 leaves out its first two steps; it grows again after two good ones
    monkeypatch.setattr(torch.amp, "GradScaler", partial(torch.amp.GradScaler, init_scale=2.0**19, growth_interval=2))

    class Stopped(Exception):
        pass

    def stop_after_three(step):
        if step.done == 3:
            raise Stopped

    whole = train(model, data, tmp_path / "whole", 5, every=2, precision=precision)
    with pytest.raises(Stopped):
        train(model, data, tmp_path / "parts", 5, every=2, precision=precision, report=stop_after_three)
    steps = []
    parts = train(model, data, tmp_path / "parts", 5, every=2, precision=precision, resume=True,
                  report=lambda step: steps.append(step.done))
    assert steps == [3, 4, 5]  # from the checkpoint after step 2
    assert same(weights(whole), weights(parts))
    states = [read_tensors(runs.state_file(path)) for path in (whole, parts)]
    assert same(states[0][0], states[1][0]) and states[0][1] == states[1][1]
    assert ("scaler.scale" in states[0][0]) == (precision == "float16")


def test_resuming_another_run_is_refused(data, tmp_path, monkeypatch):
    train("ampose-s", data, tmp_path, 2, seed=0)
    with pytest.raises(ValueError, match=r"is of a run with {'seed': 0}; this one has {'seed': 1}"):
        train("ampose-s", data, tmp_path, 2, seed=1, resume=True)
    with pytest.raises(
            ValueError, match=r"is of a run with {'precision': 'float32'}; this one has {'precision': 'float16'}"):
        train("ampose-s", data, tmp_path, 2, precision="float16", resume=True)
    monkeypatch.setattr(supervised, "processes", lambda: 2)
    with pytest.raises(ValueError, match=r"is of a run with {'processes': 1}; this one has {'processes': 2}"):
        train("ampose-s", data, tmp_path, 2, resume=True)
    with pytest.raises(FileNotFoundError):
        train("ampose-s", data, tmp_path / "empty", 2, resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_checkpoint_without_a_state_is_told_to_whoever_resumes_and_whoever_does_not(data, tmp_path, resume):
    (tmp_path / "ampose-s.safetensors").touch()
    with pytest.raises(ValueError, match="ampose-s.safetensors is there already, of an earlier run that "
                       "left nothing to resume from"):
        train("ampose-s", data, tmp_path, 2, resume=resume)


def test_a_run_that_stops_between_its_first_two_files_is_resumed(data, tmp_path, monkeypatch):
    whole = train("ampose-s", data, tmp_path / "whole", 4, every=2)
    with monkeypatch.context() as until_stopped:
        until_stopped.setattr(supervised, "save_checkpoint", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train("ampose-s", data, tmp_path / "parts", 4, every=2)
    parts = train("ampose-s", data, tmp_path / "parts", 4, every=2, resume=True)
    assert same(weights(whole), weights(parts))


def test_a_run_whose_disk_is_full_at_its_first_file_can_be_begun_again(data, tmp_path, monkeypatch):
    with monkeypatch.context() as until_full:
        until_full.setattr(runs, "write_tensors", lambda *_: (_ for _ in ()).throw(OSError("No space left on device")))
        with pytest.raises(OSError, match="No space left"):
            train("ampose-s", data, tmp_path, 2, every=1)
    assert train("ampose-s", data, tmp_path, 2, every=1).is_file()


@pytest.mark.parametrize(
    "name, how", [("ampose-s.safetensors", " that left nothing to resume from: another --out keeps it"),
                  ("ampose-s.state.safetensors", ": --resume goes on with that run, another --out keeps it")])
def test_an_earlier_runs_files_are_not_written_over(data, tmp_path, capsys, monkeypatch, name, how):
    (tmp_path / name).write_bytes(b"weeks of work")
    message = f"{name} is there already, of an earlier run{how}"
    with pytest.raises(ValueError, match=message):
        train("ampose-s", data, tmp_path, 2)
    monkeypatch.setattr(supervised, "affordable_steps", lambda *_, **__: pytest.fail("work was done"))
    assert main(["train", "--model", "ampose-s", "--path", str(data), "--out", str(tmp_path), "--minutes", "1"]) == 1
    assert message in capsys.readouterr().err and (tmp_path / name).read_bytes() == b"weeks of work"
    train("ampose-s", data, tmp_path, 1, frames=9)  # the files of another model


def train_weakly(model, data, out, steps, **options):
    return weakly_supervised.train(model, data, out, steps, options={"channels": 16, "depth": 1, "heads": 2}, **options)


@pytest.mark.parametrize("training, name", [(train, "ampose-s"), (train_weakly, "posegate-s-weak")])
@pytest.mark.parametrize("spoil, message", [
    (lambda state, metadata: metadata.pop("done"), "lacks done"),
    (lambda state, metadata: [metadata.pop(key) for key in ("options", "seed")],
     "lacks .*, as an earlier version's does: it cannot be resumed; "
     "ampose-s.safetensors has the weights"),
    (lambda state, metadata: metadata.update(done="2"), "'done' is '2'; wanted int"),
    (lambda state, metadata: metadata.update(seed=3), "is of a run with {'seed': 3}; this one has {'seed': 0}"),
    (lambda state, metadata: state.clear(), "does not fit the run: "),
    (lambda state, metadata: state.update({f"{name}.x": torch.zeros(1) for name in ("optimiser", "judging")}),
     "does not fit the run: "),
    (lambda state, metadata: state.update({name: tensor[:1] for name, tensor in state.items() if tensor.dim() > 1}),
     "does not fit the run: ")])
def test_a_state_that_is_spoilt_is_named(data, tmp_path, monkeypatch, training, name, spoil, message):
    for size in ("BATCH", "STATISTICS_WINDOWS", "VALIDATION_WINDOWS"):
        monkeypatch.setattr(weakly_supervised, size, 8)
    model, file = name.removesuffix("-weak"), tmp_path / f"{name}.state.safetensors"
    training(model, data, tmp_path, 2)
    state, metadata = read_tensors(file)
    spoil(state, metadata)
    write_tensors(file, state, metadata)
    with pytest.raises(ValueError, match=f"{name}.state.safetensors.*{message.replace('ampose-s', name)}"):
        training(model, data, tmp_path, 3, resume=True)


def test_a_finished_run_that_is_resumed_says_so_and_has_its_weights(data, tmp_path, capsys):
    command = ["train", "--model", "martinez-s", "--path", str(data), "--out", str(tmp_path),
               "--steps", "2", "--threads", "1", "--device", "cpu"]
    assert main(command) == 0
    kept = weights(tmp_path / "martinez-s.safetensors")
    (tmp_path / "martinez-s.safetensors").unlink()
    capsys.readouterr()
    assert main([*command, "--resume"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/martinez-s.safetensors: the run is at step 2 or later already\n"
    assert same(weights(tmp_path / "martinez-s.safetensors"), kept)


def test_a_finished_weakly_supervised_run_that_is_resumed_has_its_weights(data, tmp_path, monkeypatch):
    for size in ("BATCH", "STATISTICS_WINDOWS", "VALIDATION_WINDOWS"):
        monkeypatch.setattr(weakly_supervised, size, 8)
    file = train_weakly("posegate-s", data, tmp_path, 2)
    kept = weights(file)
    file.unlink()
    assert same(weights(train_weakly("posegate-s", data, tmp_path, 2, resume=True)), kept)


@pytest.mark.parametrize("training", [train, train_weakly])
def test_a_folder_that_cannot_be_is_noticed_before_the_work(data, tmp_path, monkeypatch, training):
    (tmp_path / "file").touch()
    for module in (supervised, weakly_supervised):
        monkeypatch.setattr(module, "read_motion", lambda *_: pytest.fail("the data was read"), raising=False)
    monkeypatch.setattr(supervised, "open_source", lambda *_: pytest.fail("the data was read"))
    with pytest.raises(OSError, match="file"):
        training("ampose-s", data, tmp_path / "file/out", 2)


def test_the_weights_that_are_kept_are_an_average_of_those_of_every_step(data, tmp_path, monkeypatch):
    history = []

    class Kept(supervised.LifterTrainer):
        def step(self):
            history.append(copy.deepcopy(self.module.state_dict()))
            return super().step()

        def state(self):
            history.append(copy.deepcopy(self.module.state_dict()))
            return super().state()

    monkeypatch.setattr(supervised, "LifterTrainer", Kept)
    monkeypatch.setattr(supervised, "AVERAGING", 0.25)
    kept = weights(train("strided27-s", data, tmp_path, 5, options=CAUSAL))
    assert len(history) == 6
    for name, tensor in kept.items():
        expected = history[0][name]
        # The first steps are forgotten faster.
        for keep, state in zip((1 / 10, 2 / 11, 3 / 12, 0.25, 0.25), history[1:]):
            expected = keep * expected + (1 - keep) * state[name] if tensor.is_floating_point() else state[name]
        torch.testing.assert_close(tensor, expected)
    assert not same(kept, history[-1]) and kept["head.norm.num_batches_tracked"] == 5


def test_the_checkpoint_says_how_it_was_made(data, tmp_path):
    path = train("ampose-s", data, tmp_path, 2, frames=9, seed=7, command="edgepose train")
    module, metadata = load_checkpoint(path)
    assert path.name == "ampose-s9.safetensors" and module.frames == 9
    assert metadata["seed"] == 7 and metadata["command"] == "edgepose train" and "CMU" in metadata["data"]
    assert metadata["rate_hz"] == 50 and metadata["figures"]["steps"] == 2
    assert 0 < metadata["figures"]["validation_mpjpe_mm"] < 5000


@pytest.mark.parametrize("model, steps, to", [
    ("ampose-s", 40, 0.6), ("posegate-s", 40, 0.6), ("dln-s", 120, 0.6), ("strided27-s", 40, 0.6),
    ("martinez", 250, 0.85)])  # it starts from the mean pose, and drops half its neurons
def test_training_lowers_the_error(model, steps, to, data, tmp_path):
    distances = []
    train(model, data, tmp_path, steps, every=500, report=lambda step: distances.append(step.losses["loss"]))
    assert np.mean(distances[-5:]) < to * np.mean(distances[:5])


def test_time_left_does_not_count_a_pause(data, tmp_path, monkeypatch):
    clock = iter(np.cumsum([1000.0 if i == 9 else 1.0 for i in range(40)]))  # the fifth step took 1000 s
    monkeypatch.setattr(runs.time, "perf_counter", lambda: next(clock))
    left = []
    train("ampose-s", data, tmp_path, 8, every=100, report=lambda step: left.append(step.left_s))
    assert left == [7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0]


def test_a_loss_that_is_no_number_stops_the_run(data, tmp_path, monkeypatch):
    monkeypatch.setitem(losses.LOSSES, "distance", lambda predicted, target: predicted.sum() * math.nan)
    with pytest.raises(FloatingPointError, match="nan at step 0"):
        train("ampose-s", data, tmp_path, 2)


def test_a_batch_of_long_windows_has_fewer_of_them(monkeypatch):
    monkeypatch.setattr(supervised, "BATCH", 128)
    assert [supervised.batch_size(frames) for frames in (1, 9, 27, 81, 351)] == [128, 128, 64, 21, 8]


def test_a_budget_of_minutes_becomes_steps(data, monkeypatch):
    clock = iter(range(0, 10_000, 3))  # each call is 3 s after the last
    monkeypatch.setattr(supervised.time, "process_time", lambda: next(clock))
    assert supervised.affordable_steps(2, "ampose-s", data) == 40


def test_martinez_standardises_with_the_data_it_trains_on(data, tmp_path):
    module, _ = load_checkpoint(train("martinez", data, tmp_path, 1))
    mean_m = module.output_mean.reshape(17, 3)
    assert torch.isfinite(module.input_deviation).all() and (module.input_deviation > 0.01).all()
    assert mean_m[0].abs().max() == 0 and mean_m.norm(dim=-1).max() > 0.3  # the root is at zero, limbs are not


OF_TWO = """
import itertools, os, runpy, sys
from edgepose.zoo.checkpoints import write_tensors
from edgepose.training import supervised

process = int(os.environ["RANK"])
# Each process measures another step time: 2 steps of 3 s, or 6 of 1 s, are the budget.
clock = itertools.count(0, (3, 1)[process])
supervised.time.process_time = lambda: next(clock)
supervised.BATCH_FRAMES, supervised.VALIDATION_WINDOWS, supervised.PROBE_STEPS = 216, 8, 3
trainers = []

class Kept(supervised.LifterTrainer):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        trainers.append(self)

supervised.LifterTrainer = Kept
try:
    runpy.run_module("edgepose", run_name="__main__")
except SystemExit as end:
    assert not end.code
out = sys.argv[sys.argv.index("--out") + 1]
write_tensors(out + f"/{process}", dict(trainers[-1].module.named_parameters()), {"done": trainers[-1].done})
"""


def test_two_processes_train_one_model_for_as_many_steps_as_the_first_can_afford(data, tmp_path):
    (tmp_path / "of_two.py").write_text(OF_TWO)
    process = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29517",
         str(tmp_path / "of_two.py"), "train", "--model", "strided27-s", "--path", str(data), "--out", str(tmp_path),
         "--minutes", "0.1", "--threads", "1", "--device", "cpu"], capture_output=True, text=True, timeout=180)
    assert process.returncode == 0, process.stderr[-2000:]
    assert process.stdout.count("step 2/2") == 1 and "find_unused_parameters" not in process.stderr
    said = load_checkpoint(tmp_path / "strided27-s.safetensors")[1]
    assert said["figures"]["steps"] == 2
    assert said["command"].startswith("torchrun --nproc-per-node 2 -m edgepose train --path DIR ")
    (first, said), (second, also_said) = (read_tensors(tmp_path / process) for process in "01")
    assert same(first, second) and said["done"] == also_said["done"] == 2


def test_a_refined_lifter_begins_as_good_as_the_lifter(data, tmp_path):
    lifter = train("ampose", data, tmp_path, 3)
    refined = supervised.zoo.build("ampose-refined").eval()
    supervised.begin_with(refined, lifter)
    x = torch.randn(2, 1, 17, 2)
    with torch.no_grad():
        torch.testing.assert_close(refined(x), load_checkpoint(lifter)[0](x))
    trained = train("ampose-refined", data, tmp_path, 2, start=lifter)
    assert trained.name == "ampose-refined.safetensors"
    with pytest.raises(ValueError, match="does not fit: the model has no .* of that shape"):
        train("martinez", data, tmp_path, 2, start=lifter)


def test_a_model_with_options_of_its_own_is_trained_compiled_and_evaluated(data, tmp_path, capsys):
    file, given = tmp_path / "strided27-s.safetensors", ["is_causal=true", "channels=16", "heads=2", "depth=1"]
    begin = ["train", "--model", "strided27-s", "--path", str(data), "--out", str(tmp_path),
             "--threads", "1", "--device", "cpu", "--steps"]
    assert main([*begin, "2", "--option", *given[:1], "--option", *given[1:]]) == 0
    module, metadata = load_checkpoint(file)
    assert metadata["options"] == CAUSAL and "--option " + " ".join(given) in metadata["command"] and module.is_causal
    assert main([*begin, "3", "--resume", "--option", *given[1:]]) == 1
    assert "is of a run with {'options': {'is_causal': True, " in capsys.readouterr().err
    assert main([*begin, "3", "--resume", "--option", *given]) == 0
    assert main(["compile", "--model", str(file), "--backend", "native", "--precision", "fp32",
                 "--out", str(tmp_path)]) == 0
    engine = edgepose.load(tmp_path / "strided27-s-channels16-depth1-heads2-causal_native_fp32.epose")
    assert repr(engine).startswith("Engine(strided27-s, 27 frames, ")
    assert ", channels=16, depth=1, heads=2, is_causal=True" in repr(engine)
    assert ("strided27-s, 27 frames, channels=16, depth=1, heads=2, is_causal=True: engines in"
            in " ".join(capsys.readouterr().out.split()))
    stream = edgepose.Stream(engine, layout="h36m17", image_size=(640, 480), rate_hz=None, smoothing=None)
    random = np.random.default_rng(0)
    keypoints_px = random.uniform(100, 400, (17, 2)) + random.normal(0, 3, (30, 17, 2))
    poses = [stream.push(frame, number / 50) for number, frame in enumerate(keypoints_px)]
    assert [pose.timestamp_s for pose in poses] == [number / 50 for number in range(30)]
    window = torch.from_numpy((keypoints_px[3:] - [320, 240]) / 320).float()  # the 27 newest, none repeated
    with torch.no_grad():
        np.testing.assert_allclose(poses[-1].joints_m, load_checkpoint(file)[0](window[None])[0], atol=1e-5)
    assert main(["evaluate", "--model", str(file), "--data", "mocap", "--path", str(data)]) == 0
    assert "model, clean" in capsys.readouterr().out


def test_the_budget_of_minutes_is_that_of_the_model_with_its_options(data, tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr(
        supervised.zoo, "build",
        lambda *args, build=supervised.zoo.build, **options: built.append(options) or build(*args, **options))
    monkeypatch.setattr(supervised, "PROBE_STEPS", 1)
    assert main(["train", "--model", "strided27-s", "--path", str(data), "--out", str(tmp_path),
                 "--minutes", "0.00001", "--threads", "1", "--device", "cpu",
                 "--option", "is_causal=true", "channels=16", "heads=2", "depth=1"]) == 0
    assert len(built) >= 2 and all(options == CAUSAL for options in built)


def test_the_learning_rate_warms_up_stays_and_ends_at_zero():
    rates = [schedules.learning_rate(step, 1000) for step in range(1000)]
    assert rates[0] < rates[1] < rates[49] and set(rates[50:700]) == {schedules.LEARNING_RATE}
    assert all(np.diff(rates[700:]) < 0) and rates[-1] < 0.002 * schedules.LEARNING_RATE
    assert [schedules.learning_rate(step, 100_000) for step in (999, 1000, 69_000)] == [schedules.LEARNING_RATE] * 3


def test_what_a_lengthened_run_learnt_before_its_cool_down_does_not_depend_on_its_length():
    short, long = ([schedules.learning_rate(step, steps) for step in range(14_000)] for steps in (20_000, 60_000))
    assert short == long


def test_the_command_prints_a_line_a_checkpoint(data, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    supervised.add_arguments(parser)
    supervised.main(parser.parse_args([
        "--model", "ampose-s", "--path", str(data), "--out", str(tmp_path), "--steps", "4", "--every", "2",
        "--threads", "1", "--precision", "bfloat16"]))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("step 2/4  loss ") and lines[1].startswith("step 4/4") and len(lines) == 3
    command = load_checkpoint(lines[2])[1]["command"]
    assert "--seed 0" in command and "--precision bfloat16" in command and str(tmp_path) not in command


@pytest.mark.parametrize("arguments, message", [
    (["--steps", "0"], "--steps is 0; wanted 1 or more"), (["--every", "0"], "--every is 0"),
    (["--threads", "-1"], "--threads is -1"),
    (["--minutes", "0"], "--minutes is 0.0; wanted a number above 0"), (["--minutes", "nan"], "--minutes is nan"),
    (["--seed", "99999999999"], "--seed is 99999999999"), (["--device", "mps"], "--device is 'mps'; here there is cpu"),
    (["--keypoints", "cpn"], "--keypoints cpn is for labelled data sets"),
    (["--option", "is_causal=true"], "has no option 'is_causal'; it has depth, "),
    (["--option", "block=round"], "unknown block 'round'; there are plain then residual, "),
    (["--option", "frames=9"], "has no option 'frames'"), (["--option", "depth"], "wanted NAME=VALUE"),
    (["--resume", "--minutes", "1"], "--resume goes on to a number of steps, not of minutes"),
    (["--resume", "--start", "a.safetensors"], "--start is what a new run begins with")])
def test_an_impossible_argument_is_refused_before_anything_is_written(data, tmp_path, arguments, message, capsys):
    assert main(["train", "--model", "ampose-s", "--path", str(data), "--out", str(tmp_path / "out"), *arguments]) == 1
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


TIME = {"channels": 32, "blocks": 1, "width": 16, "heads": 2}  # a strided-causal model in small


def test_a_model_over_time_begins_as_the_frozen_encoder_it_starts_with(data, tmp_path):
    encoder = {name: TIME[name] for name in ("channels", "blocks")}
    start = train("posemlp", data, tmp_path / "a", 2, options=encoder)
    frozen = ("embed", "blocks", "norm", "head", "error")
    path = train("strided-causal", data, tmp_path / "b", 2, frames=27, options=TIME, start=start, frozen=frozen)
    before, after = weights(start), weights(path)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert after["head_time.weight"].abs().sum() > 0  # zero at first
    longer = train("strided-causal", data, tmp_path / "b", 4, frames=27, options=TIME, frozen=frozen, resume=True)
    assert all(torch.equal(weights(longer)[name], tensor) for name, tensor in before.items())


def test_a_part_that_a_model_does_not_have_is_not_frozen(data, tmp_path):
    with pytest.raises(ValueError, match="no part 'head_tim' to freeze; it has embed, blocks, norm, head, error, "):
        train("strided-causal", data, tmp_path, 1, frames=27, options=TIME, frozen=("head_tim",))


def test_a_model_that_answers_for_every_frame_takes_no_teacher(data, tmp_path):
    teacher = train("posemlp", data, tmp_path / "a", 1, options={"channels": 32, "blocks": 1})
    with pytest.raises(ValueError, match="leave it out"):
        train("strided-causal", data, tmp_path / "b", 1, frames=27, options=TIME, teacher=teacher)
