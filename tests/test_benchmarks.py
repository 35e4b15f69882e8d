import json

import numpy as np
import pytest
from models import randomised, small, small_options

import edgepose
from edgepose import _native, timing, zoo
from edgepose.benchmarks import run
from edgepose.build_engines.lifters import load_lifter
from edgepose.build_engines.lower import executed_macs, lower
from edgepose.build_engines.windows import evaluation_windows
from edgepose.cli import main
from edgepose.zoo import checkpoints

pytestmark = pytest.mark.slow

KEYS = {"model", "runtime", "precision", "batch", "threads", "frames", "median_ms", "p90_ms", "p99_ms", "poses_per_s",
        "mean_error_mm", "max_error_mm", "macs", "parameters", "weight_bytes", "rss_mb", "load_ms"}


def bench(tmp_path, *arguments):
    file = tmp_path / "bench.json"
    assert main(["bench", "--models", "ampose", "--rounds", "2", "--json", str(file), *arguments]) == 0
    return json.loads(file.read_text())


def test_rows_have_exactly_the_promised_keys(tmp_path, capsys):
    report = bench(tmp_path, "--plot", str(tmp_path / "bench.png"))
    assert all(set(row) == KEYS for row in report["rows"])
    assert {row["runtime"] for row in report["rows"]} >= {"native", "stream", "stream-cpp",
                                                          "people", "torch", "torchscript", "onnxruntime"}
    for row in report["rows"]:
        assert 0 < row["median_ms"] <= row["p90_ms"] <= row["p99_ms"] and row["rss_mb"] > 10
        people = 20 if row["runtime"] == "people" else row["batch"]
        assert row["poses_per_s"] == pytest.approx(people * 1e3 / row["median_ms"])
        if row["precision"] == "fp32" and not row["runtime"].endswith("-default"):
            assert row["mean_error_mm"] < 0.01
    assert (tmp_path / "bench.png").stat().st_size > 1000
    assert "x peer" in capsys.readouterr().out


def test_a_model_of_many_frames_is_a_row_like_any_other(tmp_path):
    file = tmp_path / "bench.json"
    assert main(["bench", "--models", "strided27-s", "posegate-s", "--rounds", "1", "--json", str(file),
                 "--runtimes", "native", "stream", "onnxruntime", "torchscript", "--precisions", "fp32"]) == 0
    rows = json.loads(file.read_text())["rows"]
    assert {(row["model"], row["frames"]) for row in rows} == {("strided27-s", 27), ("posegate-s", 1)}
    assert len(rows) == 8
    assert all(row["mean_error_mm"] < 0.01 for row in rows)


@pytest.mark.parametrize("name", zoo.MODELS)
def test_every_model_of_the_registry_is_a_row(tmp_path, name, monkeypatch):
    # A small model and few windows in this process: a fresh process for each of 30 runs takes long.
    monkeypatch.setattr(run, "evaluation_windows",
                        lambda module: tuple(part[:8] for part in evaluation_windows(module)))
    monkeypatch.setattr(run, "cold_start", lambda *_: {"load_ms": 1.0, "rss_mb": 100.0})
    module = randomised(small(name))
    checkpoints.save_checkpoint(tmp_path / "small.safetensors", module, {
        "model": name, "frames": module.frames, "skeleton": module.skeleton.name, "options": small_options(name)})
    row, = bench(tmp_path, "--models", str(tmp_path / "small.safetensors"), "--runtimes", "native",
                 "--precisions", "fp32", "--rounds", "1")["rows"]
    assert set(row) == KEYS and (row["model"], row["frames"]) == (name, module.frames)
    assert row["mean_error_mm"] < 0.01
    assert (row["parameters"], row["macs"]) == (zoo.parameters(module), zoo.macs(module))


def test_a_frame_is_timed_against_the_reach(tmp_path, capsys):
    file = tmp_path / "stream.json"
    assert main(["bench", "--stream", "--frames", "27", "--precisions", "fp16", "int8", "--rounds", "1",
                 "--json", str(file)]) == 0
    report = json.loads(file.read_text())
    assert [(row["model"], row["precision"], row["people"]) for row in report["rows"]] == [
        (model, precision, people) for model, counts in (("strided-causal", (1, 100)), ("strided27", (1,)))
        for precision in ("fp16", "int8") for people in counts]
    assert all(row["median_ms"] > 0 and (row["state_bytes"] > 0) == (row["model"] == "strided-causal")
               for row in report["rows"])
    assert "x window" in capsys.readouterr().out and report["machine"]


def test_eight_bits_stand_beside_peers_of_eight_bits(tmp_path, capsys):
    file = tmp_path / "bench.json"
    assert main(["bench", "--models", "martinez-s", "--rounds", "1", "--json", str(file), "--roofline", "--precisions",
                 "w8", "int8", "--runtimes", "native", "stream", "onnxruntime", "onnxruntime-dynamic", "openvino"]) == 0
    report = json.loads(file.read_text())
    rows = {(row["runtime"], row["precision"]): row for row in report["rows"]}
    assert set(rows) == {("native", "w8"), ("native", "int8"), ("stream", "w8"), ("stream", "int8"),
                         ("onnxruntime", "int8"), ("onnxruntime-dynamic", "int8"), ("openvino", "int8")}
    assert all(0 < row["mean_error_mm"] < 10 for row in rows.values()) and min(report["roofline_ms"]) > 0
    assert rows["native", "int8"]["mean_error_mm"] < 0.7 * rows["onnxruntime", "int8"]["mean_error_mm"]
    assert rows["native", "w8"]["weight_bytes"] < 0.6 * zoo.parameters(zoo.build("martinez-s")) * 4


def test_onnx_runtime_s_quantiser_says_nothing_between_the_rows(tmp_path, capfd, caplog):
    run._quantise_dynamically(load_lifter("strided27-s").module, tmp_path / "a.onnx")
    assert (tmp_path / "a.onnx").is_file() and capfd.readouterr() == ("", "") and caplog.text == ""


def test_batches_are_rows_of_their_own(tmp_path):
    rows = bench(tmp_path, "--batch", "1", "3", "--runtimes", "native", "stream", "--precisions", "fp16")["rows"]
    assert [(row["runtime"], row["batch"]) for row in rows] == [("native", 1), ("stream", 1),
                                                                ("native", 3), ("stream", 3)]
    assert rows[2]["macs"] == 3 * rows[0]["macs"]


def test_each_way_to_stream_is_a_row_and_they_go_through_the_same_engine(tmp_path):
    rows = bench(tmp_path, "--runtimes", "native", "stream", "stream-cpp", "people", "--precisions", "fp16")["rows"]
    assert [row["runtime"] for row in rows] == ["native", "stream", "stream-cpp", "people"]
    assert len({row["mean_error_mm"] for row in rows}) == 1 and rows[3]["median_ms"] > 3 * rows[0]["median_ms"]


def test_the_stream_of_cpp_gives_the_poses_of_python():
    engine = edgepose.load("martinez-s")
    mine, theirs = (_native.Stream(str(engine.path), "coco17", 1920, 1080, 50.0, 1),
                    edgepose.Stream(engine, "coco17", (1920, 1080)))
    keypoints_px = np.random.default_rng(0).uniform(300, 700, (17, 2)).astype(np.float32)
    for n in range(3):
        pose = theirs.push(keypoints_px + n, n * 0.02)
        assert mine.push(keypoints_px + n, n * 0.02)
        np.testing.assert_array_equal(mine.joints_m(), pose.joints_m)
    with pytest.raises(ValueError, match="wanted a later"):
        mine.push(keypoints_px, 0.0)


def test_a_paced_run_counts_processor_time(tmp_path):
    report = bench(tmp_path, "--runtimes", "native", "--precisions", "fp32", "--pace", "200", "--neighbour")
    assert set(report["rows"][0]) == KEYS | {"cpu_ms_per_frame"} and report["rows"][0]["cpu_ms_per_frame"] > 0


def test_the_roofline_stands_beside_the_rows(tmp_path):
    report = bench(tmp_path, "--runtimes", "native", "--roofline")
    assert len(report["roofline_ms"]) == len(report["rows"]) and min(report["roofline_ms"]) > 0


@pytest.mark.parametrize("arguments, message", [
    (["--models", "amposse"], "neither a .safetensors checkpoint"),
    (["--plot", "a.txt"], "wanted a name that ends in .png"), (["--json", "nowhere/a.json"], "there is no folder"),
    (["--runtimes", "torch", "--precisions", "fp16"], "none of torch has fp16"), (["--rounds", "0"], "above zero"),
    (["--batch", "0"], "above zero"), (["--pace", "-1"], "above zero")])
def test_a_wrong_request_is_answered(arguments, message, capsys):
    assert main(["bench", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_macs_run_are_those_counted_less_the_zero_rows():
    module = zoo.build("ampose-l").eval()
    plan, _ = lower(module, "fp32")
    skipped = 5 * 2 * (51 - 41) * 512**2
    attention = 5 * 2 * 17**2 * 512
    assert executed_macs(plan) == zoo.macs(module) - skipped + attention
    assert sum(executed_macs(plan, {number}) for number in range(len(plan["steps"]))) == executed_macs(plan)


def test_rounds_interleave_the_candidates():
    order = []
    timings = timing.interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=2, calls=2)
    assert "".join(order) == "aaabbbaaabbb" and len(timings["a"].times_ms) == 4


def test_percentiles_are_of_the_calls():
    assert timing.percentiles(np.arange(101.0)) == {"median_ms": 50.0, "p90_ms": 90.0, "p99_ms": 99.0}
