import json
import os
import re

import numpy as np
import onnxruntime
import pytest
import torch
from models import randomised

import edgepose
from edgepose import enginefile, zoo
from edgepose.build_engines import compile as compiler
from edgepose.build_engines.budgets import Budget, over_budget
from edgepose.build_engines.lifters import NamedModule, weights_sha256
from edgepose.build_engines.report import Row, write_report
from edgepose.build_engines.windows import evaluation_windows
from edgepose.cli import main
from edgepose.columns import joints_of
from edgepose.metrics import mpjpe
from edgepose.shipped import WEIGHTS
from edgepose.skeleton import H36M16
from edgepose.zoo import checkpoints

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("engines")
    assert main(["compile", "--model", "ampose", "--out", str(out)]) == 0
    return out


def test_every_variant_is_there_and_loads(built):
    names = {"native_fp32", "native_fp16", "onnx_fp32", "onnx_fp16", "torchscript_fp32"}
    assert {file.name for file in built.iterdir()} == {f"ampose_{name}.epose" for name in names} | {"report.json"}
    for name in names:
        engine = edgepose.load(built / f"ampose_{name}.epose", trust=True)
        assert f"{engine.backend}_{engine.precision}" == name and engine.model == "ampose" and engine.frames == 1


def test_the_report_has_a_row_an_engine_within_its_budget(built):
    report = json.loads((built / "report.json").read_text())
    assert len(report["rows"]) == 5 and report["machine"]["instruction_sets"]
    for row in report["rows"]:
        assert row["is_kept"]
        assert row["mean_error_mm"] <= row["budget_mm"] == {"fp32": 0.01, "fp16": 0.5}[row["precision"]]
        assert 0 < row["median_ms"] <= row["p90_ms"] <= row["p99_ms"]
        assert row["mpjpe_mm"] == pytest.approx(row["torch_mpjpe_mm"], abs=row["budget_mm"])
        assert row["parameters"] == zoo.parameters(zoo.build("ampose"))


@pytest.mark.parametrize("variant", ["native_fp32", "native_fp16", "onnx_fp32", "onnx_fp16", "torchscript_fp32"])
def test_each_variant_agrees_with_torch(built, variant):
    engine = edgepose.load(built / f"ampose_{variant}.epose", trust=True)
    x = np.random.default_rng(3).uniform(-0.5, 0.5, (5, 1, 17, 2)).astype(np.float32)
    with torch.inference_mode():
        reference = compiler.load_lifter("ampose").module(torch.from_numpy(x)).numpy()
    error_mm = np.linalg.norm(engine.run(x) - reference, axis=-1) * 1e3
    assert error_mm.mean() < compiler.BUDGETS[engine.precision].mean_mm


def test_the_header_says_what_the_file_is(built):
    header, _ = enginefile.read(built / "ampose_native_fp16.epose")
    assert header["skeleton"] == "h36m17" and "metres" in header["units"] and header["is_trained"]
    assert header["weights_sha256"] == weights_sha256(compiler.load_lifter("ampose").module)


@pytest.mark.parametrize("rate_hz", [60.0, None])
def test_the_frame_rate_goes_from_the_checkpoint_into_the_engine(tmp_path, rate_hz):
    module = zoo.build("strided27-s")
    metadata = {"model": "strided27-s", "frames": 27, "skeleton": "h36m17", "options": {},
                **({} if rate_hz is None else {"rate_hz": rate_hz})}
    checkpoints.save_checkpoint(tmp_path / "mine.safetensors", module, metadata)
    enginefile.write(tmp_path / "mine.epose",
                     *compiler.build(compiler.load_lifter(str(tmp_path / "mine.safetensors")), "native", "fp16", None))
    engine = edgepose.load(tmp_path / "mine.epose")
    assert engine.rate_hz == rate_hz
    if rate_hz:
        assert edgepose.Stream(engine, "coco17", (640, 480)).rate_hz == 60


def test_half_precision_weights_take_half_the_bytes(built):
    sizes = {name: (built / f"ampose_{name}.epose").stat().st_size for name in
             ("native_fp32", "native_fp16", "onnx_fp32", "onnx_fp16")}
    assert sizes["native_fp16"] < 0.55 * sizes["native_fp32"] and sizes["onnx_fp16"] < 0.55 * sizes["onnx_fp32"]


def test_an_engine_over_its_budget_is_not_left_behind(tmp_path, monkeypatch, capsys):
    (tmp_path / "ampose_native_fp32.epose").write_bytes(b"an older engine")
    monkeypatch.setitem(compiler.BUDGETS, "fp32", Budget(1e-9))
    assert main(["compile", "--model", "ampose", "--backend", "native", "--precision", "fp32",
                 "--out", str(tmp_path)]) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]
    assert "refused" in capsys.readouterr().out
    assert not json.loads((tmp_path / "report.json").read_text())["rows"][0]["is_kept"]


def test_plain_onnx_files_have_their_dimensions_by_number(tmp_path, capsys):
    assert main(["compile", "--model", "martinez-s", "--format", "onnx", "--precision", "fp32",
                 "fp16", "--out", str(tmp_path)]) == 0
    assert "plain ONNX: " in capsys.readouterr().out
    for precision in ("fp32", "fp16"):
        file = tmp_path / f"martinez-s_{precision}.onnx"
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        shapes = [value.shape for value in (*session.get_inputs(), *session.get_outputs())]
        assert shapes == [["people", 1, 17, 2], ["people", 17, 3]]
        x = np.random.default_rng(0).uniform(-0.5, 0.5, (3, 1, 17, 2)).astype(np.float32)
        engine = edgepose.load(tmp_path / f"martinez-s_onnx_{precision}.epose", trust=True)
        np.testing.assert_array_equal(session.run(None, {"keypoints_norm": x})[0], engine.run(x))


@pytest.mark.parametrize("name", ["unchecked.epose", "epose.part"])
def test_what_a_killed_build_left_is_removed_once_it_is_old(tmp_path, name):
    left, live = tmp_path / f".strided27-s_native_fp32.{name}", tmp_path / f".other_native_fp32.{name}"
    for path in (left, live):
        path.touch()
    os.utime(left, (0, 0))
    assert main(["compile", "--model", "martinez-s", "--backend", "native", "--precision",
                 "fp32", "--out", str(tmp_path)]) == 0
    assert live.exists() and not left.exists()


@pytest.mark.parametrize(
    "damage", [b"", b'{"rows":', b"[]", b'{"rows": 3}', b'{"rows": [{}]}', b"null", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_report_is_set_aside_and_said(tmp_path, capsys, damage):
    report = tmp_path / "report.json"
    for aside in ("report.damaged.json", "report.damaged1.json"):
        report.write_bytes(damage)
        write_report(tmp_path, [])
        assert json.loads(report.read_text())["rows"] == [] and (tmp_path / aside).read_bytes() == damage
        assert "report.json is damaged" in (said := capsys.readouterr().out) and f"it is now {aside}" in said


def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    def full(fd):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(enginefile.os, "fsync", full)
    assert main(["compile", "--model", "ampose", "--backend", "native", "--precision", "fp16",
                 "--out", str(tmp_path)]) == 1
    assert list(tmp_path.iterdir()) == [] and "No space left" in capsys.readouterr().err


@pytest.mark.parametrize("arguments, message", [
    (["--model", "amposse"], "'amposse' is neither a .safetensors checkpoint nor one of ampose, .*did you mean ampose"),
    (["--model", "nix", "--untrained"], "unknown model 'nix'"),
    (["--model", "hrnet-w8"], "hrnet-w8 is a detector: edgepose compile-detector hrnet-w8"),
    (["--model", str(WEIGHTS / "hrnet-w8.safetensors")],
     "is a detector: edgepose compile-detector .*hrnet-w8.safetensors"),
    (["--model", "martinez", "--untrained", "--published", "x.pth"], "--published and --untrained exclude each other"),
    (["--model", str(WEIGHTS / "ampose.safetensors"), "--frames", "9"],
     r"ampose.safetensors is a model of 1 frame\(s\), not of 9"),
    (["--model", "ampose", "--threads", "0"], "--threads is 0; wanted 1 or more"),
    (["--model", "martinez", "--published", __file__],
     "--published takes weights by the authors of strided27-dense, .*; not of martinez"),
    (["--model", "mine.pth"], "mine.pth is a file of torch.save"),
    (["--format", "onnx", "--backend", "native", "--model", "ampose"], "--format onnx goes with"),
    (["--model", "ampose-l"], "no weights ship for ampose-l.*edgepose train --model ampose-l"),
    (["--model", "nowhere.safetensors"], "nowhere.safetensors"),
    (["--model", "ampose", "--frames", "3", "--untrained"], "takes 1, 9, 27 frames, not 3"),
    (["--model", "ampose", "--backend", "torchscript", "--precision", "fp16"],
     "none of torchscript comes in fp16"),])
def test_a_wrong_request_is_answered_with_what_there_is(arguments, message, tmp_path, capsys):
    assert main(["compile", *arguments, "--out", str(tmp_path)]) == 1
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize("frames, skeleton", [(1, H36M16), (9, H36M16), (27, None)])
def test_a_trained_checkpoint_of_any_window_and_skeleton_compiles(tmp_path, frames, skeleton):
    torch.manual_seed(frames)
    module = zoo.build("ampose-s", frames, **({"skeleton": skeleton} if skeleton else {}))
    checkpoints.save_checkpoint(tmp_path / "mine.safetensors", module, {
        "model": "ampose-s", "frames": frames, "skeleton": module.skeleton.name, "options": {}})
    out = tmp_path / "engines"
    assert main(["compile", "--model", str(tmp_path / "mine.safetensors"), "--precision", "fp32",
                 "--out", str(out)]) == 0
    engine = edgepose.load(out / "mine_native_fp32.epose")
    assert engine.frames == frames and engine.skeleton == module.skeleton
    stream = edgepose.Stream(engine, layout="coco17", image_size=(640, 480))
    assert stream.push(np.random.default_rng(0).uniform(100, 400, (17, 2)),
                       0.0).joints_m.shape == (len(module.skeleton), 3)


@pytest.mark.parametrize("model, checkpoint, options, stem", [
    ("strided27-s", "strided27-s", {"is_causal": True}, "strided27-s-causal"),
    ("strided27-s", "strided27-s", {"is_causal": False}, "strided27-s"),
    ("strided27-s", "strided27-s", {"dropout": 0.5, "channels": 64}, "strided27-s-channels64-dropout0.5"),
    ("ampose", "", {}, "ampose"), ("ampose", "ampose", {"block": "two residual"}, "ampose-block-two-residual"),
    ("strided27-s", "mine", {"is_causal": True}, "mine")])
def test_a_model_with_options_does_not_write_over_the_engine_of_the_model_without(model, checkpoint, options, stem):
    assert NamedModule(model, zoo.build(model, **options), True, options, checkpoint).file_stem == stem


def test_the_report_keeps_the_rows_of_a_model_with_other_options(tmp_path):
    def row(options):
        return Row("strided27-s", "native", "fp32", 1, 1, 27, *[None] * 4, 0.0, 0.0, 0.0, 1, 1, 1, 0.0, None, None,
                   0.01, True, "a", "", options)

    for options in ({}, {"is_causal": True}, {"is_causal": True}):
        write_report(tmp_path, [row(options)])
    assert ([row["options"] for row in json.loads((tmp_path / "report.json").read_text())["rows"]]
            == [{}, {"is_causal": True}])


def test_an_engine_says_its_options_and_a_header_with_others_is_refused(tmp_path):
    module = randomised(zoo.build("strided27-s", channels=16, depth=1, heads=2, is_causal=True))
    named = NamedModule("strided27-s", module, True, {"channels": 16, "heads": 2, "depth": 1, "is_causal": True})
    header, tensors = compiler.build(named, "native", "fp32")
    enginefile.write(tmp_path / "a.epose", header, tensors)
    assert ", channels=16, depth=1, heads=2, is_causal=True" in repr(edgepose.load(tmp_path / "a.epose"))
    enginefile.write(tmp_path / "a.epose", {**header, "options": ["is_causal"]}, tensors)
    with pytest.raises(edgepose.EngineError, match=r"the header's 'options' is an array; it needs an object"):
        edgepose.load(tmp_path / "a.epose")


def test_two_checkpoints_of_a_model_do_not_write_over_each_other_s_engines(tmp_path):
    for name in ("ampose", "ampose-mine"):
        (tmp_path / f"{name}.safetensors").write_bytes((WEIGHTS / "ampose.safetensors").read_bytes())
        assert main(["compile", "--model", str(tmp_path / f"{name}.safetensors"), "--out",
                     str(tmp_path), "--backend", "native", "--precision", "fp16"]) == 0
    engines = {file.name: edgepose.load(file, trust=True).model for file in tmp_path.glob("*.epose")}
    assert engines == {"ampose_native_fp16.epose": "ampose", "ampose-mine_native_fp16.epose": "ampose"}


@pytest.fixture(scope="module")
def in_eight_bits(tmp_path_factory):
    out = tmp_path_factory.mktemp("eight")
    assert main(["compile", "--model", "martinez-s", "--precision", "w8", "int8", "--backend",
                 "native", "onnx", "--keep-slower", "--out", str(out)]) == 0
    return out


def test_engines_in_eight_bits_are_within_their_budget_and_beside_their_scales(in_eight_bits):
    variants = {"native_w8", "native_int8", "onnx_int8"}
    assert {file.name for file in in_eight_bits.iterdir()} == {
        f"martinez-s_{name}.epose" for name in variants} | {"report.json", "martinez-s_scales.json"}
    for row in json.loads((in_eight_bits / "report.json").read_text())["rows"]:
        assert row["is_kept"] and 0 < row["mean_error_mm"] <= row["budget_mm"] == 1.0
        assert row["mean_error_mm"] < row["tail_error_mm"] < min(10, row["max_error_mm"])
        assert row["mpjpe_mm"] <= row["torch_mpjpe_mm"] + 0.3
        schemes = {"native_w8": {"w8", "fp16"}, "native_int8": {"int8", "fp16"}, "onnx_int8": {"int8", "fp16"}}
        assert set(row["schemes"].values()) <= schemes[f"{row['runtime']}_{row['precision']}"]
        assert len(row["schemes"]) == 6
        engine = edgepose.load(in_eight_bits / row["file"], trust=True)
        assert engine.precision == row["precision"] and row["mpjpe_mm"] == pytest.approx(row["torch_mpjpe_mm"], abs=1.0)


def test_a_build_with_the_scales_of_an_earlier_one_needs_no_data(in_eight_bits, tmp_path, monkeypatch):
    monkeypatch.setattr(compiler, "calibration_windows", None)
    assert main(["compile", "--model", "martinez-s", "--precision", "int8", "--backend", "native", "--keep-slower",
                 "--out", str(tmp_path), "--scales", str(in_eight_bits / "martinez-s_scales.json")]) == 0
    (_, first), (_, second) = (enginefile.read(folder / "martinez-s_native_int8.epose")
                               for folder in (in_eight_bits, tmp_path))
    assert first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def test_scales_of_other_weights_are_refused(in_eight_bits, tmp_path, capsys):
    assert main(["compile", "--model", "martinez", "--untrained", "--precision", "int8", "--out", str(tmp_path),
                 "--scales", str(in_eight_bits / "martinez-s_scales.json")]) == 1
    assert "holds the scales of martinez-s with other weights" in capsys.readouterr().err


def test_int8_that_is_no_faster_than_fp16_is_refused_with_the_reason(in_eight_bits, tmp_path, monkeypatch, capsys):
    def time(engines, rows):
        for row in rows:
            row.median_ms, row.p90_ms, row.p99_ms, row.poses_per_s = {
                "fp16": (1.0, 1.0, 1.0, 1.0), "int8": (1.0, 2.0, 2.0, 1.0)}[row.precision]
    monkeypatch.setattr(compiler, "_time", time)
    command = ["compile", "--model", "martinez-s", "--precision", "int8", "--backend", "native",
               "--out", str(tmp_path), "--scales", str(in_eight_bits / "martinez-s_scales.json")]
    assert main(command) == 1
    assert not list(tmp_path.glob("*.epose")) and "no faster than fp16 (1.000 ms)" in capsys.readouterr().out
    row, = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert not row["is_kept"] and "--keep-slower" in row["refusal"]
    assert main([*command, "--keep-slower"]) == 0 and len(list(tmp_path.glob("*.epose"))) == 1


SHIPPED = sorted(file.stem for file in WEIGHTS.glob("*.safetensors") if file.stem in zoo.MODELS)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_engine_is_made_from_the_shipped_weights(name):
    header, tensors = enginefile.read(WEIGHTS / f"{name}_fp16.epose")
    lifter = compiler.load_lifter(name)
    assert header["weights_sha256"] == weights_sha256(lifter.module)
    again, fresh = compiler.build(lifter, "native", "fp16")
    if header["format"] == 1:  # this format has the places of the buffers and no names of columns
        header["plan"] = {**header["plan"], "buffers": [buffer[:2] for buffer in header["plan"]["buffers"]]}
        del header["plan"]["arena"]
        header["plan"] |= {key: again["plan"][key] for key in ("inputs", "outputs")}
    for step in header["plan"]["steps"]:
        if header["format"] < 3 and step["op"] in ("concat", "multiply"):
            step["other"] = step.pop("residual")
    assert again["plan"] == header["plan"] and all((tensors[key] == fresh[key]).all() for key in fresh)


IN_EIGHT_BITS = sorted(file.stem for file in WEIGHTS.glob("*_int8.epose"))


@pytest.mark.parametrize("name", IN_EIGHT_BITS)
def test_a_shipped_engine_in_eight_bits_is_of_the_shipped_weights_and_within_its_budgets(name):
    lifter, engine = compiler.load_lifter(name.removesuffix("_int8")), edgepose.load(name)
    assert (engine.precision, engine.header["weights_sha256"]) == ("int8", weights_sha256(lifter.module))
    x, target = evaluation_windows(lifter.module)
    with torch.inference_mode():
        reference = lifter.module(torch.from_numpy(x)).numpy()
    assert over_budget(engine.run(x), reference, "int8", target) == ""


def test_the_default_lifter_ships_in_eight_bits_too():
    assert "posemlp_int8" in IN_EIGHT_BITS


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_are_small_have_a_card_and_are_far_better_than_a_linear_map(name):
    folder = WEIGHTS
    assert (folder / f"{name}.safetensors").stat().st_size <= 10e6
    assert f"edgepose train --path DIR --out DIR --model {name} " in (folder / f"{name}.md").read_text()
    engine = edgepose.load(name)
    x, target = evaluation_windows(compiler.load_lifter(name).module)
    assert mpjpe(1e3 * joints_of(engine.run(x)), 1e3 * target) < 80  # the linear regression of the cards has 136


def test_weights_ship_for_every_family():
    # The first begins with another model's weights; the second is in training.
    without_own = {zoo.MODELS["ampose-refined"].build, zoo.MODELS["strided-causal"].build}
    assert {zoo.MODELS[name].build for name in SHIPPED} | without_own == {entry.build for entry in zoo.MODELS.values()}
