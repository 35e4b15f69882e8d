import json
import os
import subprocess
import sys

import numpy as np
import pytest
from fake_tensorrt import FULL, VERSIONS
from gpu_engines import HEADER, a_gpu, a_source, graph

import edgepose
from edgepose import enginefile
from edgepose.build_engines.tensorrt import builder
from edgepose.cli import main
from edgepose.enginefile import EngineError

pytestmark = pytest.mark.slow

LEGACY, STRONG = {"fp16": "legacy-fp16", "int8": "legacy-qdq"}, {"fp16": "strong-fp16", "int8": "strong-fp16-qdq"}
EVERYWHERE = """__version__ float32 ILogger Builder Builder.create_network Builder.create_builder_config
    Builder.build_serialized_network NetworkDefinitionCreationFlag OnnxParser OnnxParser.parse
    Config.set_memory_pool_limit MemoryPoolType MemoryPoolType.WORKSPACE Config.clear_flag BuilderFlag
    BuilderFlag.TF32 Config.profiling_verbosity ProfilingVerbosity ProfilingVerbosity.DETAILED
    Config.create_timing_cache Config.set_timing_cache Config.get_timing_cache TimingCache.serialize Runtime
    Runtime.deserialize_cuda_engine Engine.create_engine_inspector Inspector.get_engine_information
    LayerInformationFormat LayerInformationFormat.JSON Config.set_tactic_sources TacticSource
    TacticSource.JIT_CONVOLUTIONS Engine.num_io_tensors Engine.get_tensor_name Engine.get_tensor_mode
    Engine.get_tensor_shape Engine.get_tensor_dtype TensorIOMode TensorIOMode.INPUT TensorIOMode.OUTPUT
    Engine.create_execution_context Context.set_input_shape Context.set_tensor_address
    Context.execute_async_v3""".split()
OF_LEGACY = """BuilderFlag.FP16 BuilderFlag.INT8 BuilderFlag.OBEY_PRECISION_CONSTRAINTS Config.set_flag
    Network.num_layers Network.get_layer Layer.name Layer.num_outputs Layer.get_output Layer.precision
    Layer.set_output_type Tensor.dtype float16""".split()
OF_STRONG = ["NetworkDefinitionCreationFlag.STRONGLY_TYPED"]
NEEDED = {version: {*EVERYWHERE, *(OF_LEGACY if version == "8.6" else OF_STRONG)} for version in VERSIONS}
LOOKED_FOR = {"NetworkDefinitionCreationFlag.EXPLICIT_BATCH"}  # version 11 lacks it


def rungs_of(version):
    return LEGACY if version == "8.6" else STRONG


def build_and_run(monkeypatch, folder, version, without=()):
    """Build, load and run an int8 engine of that version with every option; returns the fake library."""
    _, trt = a_gpu(monkeypatch, version, without)
    source = a_source("int8", rungs_of(version)["int8"], kept=["softmax"] if version == "8.6" else [])
    of_plan, tensors = builder.engine_parts(source, builder.Builder(folder, ["jit_convolutions"]).build(source))
    enginefile.write(folder / "a.epose", {**HEADER, **of_plan}, tensors)
    edgepose.load(folder / "a.epose", trust=True).run(np.zeros((1, 1, 17, 2), np.float32))
    return trt


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_is_asked_for_precision_in_its_own_way(monkeypatch, tmp_path, version, precision):
    _, trt = a_gpu(monkeypatch, version)
    plan = builder.Builder(tmp_path).build(a_source(precision, rungs_of(version)[precision],
                                                    kept=["softmax"] if version == "8.6" else []))
    asked, = trt.built
    flags = {"fp16": ["FP16", "OBEY_PRECISION_CONSTRAINTS"],
             "int8": ["FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"]}[precision]
    assert asked["strong"] == (version != "8.6") and asked["flags"] == (flags if version == "8.6" else [])
    assert asked["kept"] == (["softmax"] if version == "8.6" else []) and asked["detail"] == "DETAILED"
    assert asked["sources"] is None
    assert plan.machine["tensorrt"] == FULL[version] and json.loads(plan.layers)["Layers"]


@pytest.mark.parametrize("version", ["10.3", "10.13"])
def test_a_version_with_both_ways_builds_a_legacy_rung_without_strong_types(monkeypatch, tmp_path, version):
    _, trt = a_gpu(monkeypatch, version)
    builder.Builder(tmp_path).build(a_source("int8", "legacy-qdq"))
    assert not trt.built[0]["strong"] and trt.built[0]["flags"] == ["FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"]


@pytest.mark.parametrize("version, rung, missing", [("8.6", "strong-fp16", "strongly typed networks"),
                                                    ("11", "legacy-fp16", "builder flags for precision")])
def test_a_rung_that_the_version_does_not_have_is_refused_by_name(monkeypatch, tmp_path, version, rung, missing):
    a_gpu(monkeypatch, version)
    assert not builder.is_offered(rung)
    with pytest.raises(builder.NotBuilt, match=f"TensorRT {FULL[version]} has no {missing}, which rung {rung} needs"):
        builder.Builder(tmp_path).build(a_source("fp16", rung))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_names_below_are_all_that_a_version_is_asked_for(monkeypatch, tmp_path, version):
    assert build_and_run(monkeypatch, tmp_path, version).used - LOOKED_FOR == NEEDED[version]


@pytest.mark.parametrize("version, name", [(version, name) for version in VERSIONS for name in sorted(NEEDED[version])])
def test_a_library_without_a_name_that_is_needed_is_refused_by_that_name(monkeypatch, tmp_path, version, name):
    message = {"NetworkDefinitionCreationFlag.STRONGLY_TYPED": "strongly typed networks",
               "BuilderFlag.FP16": "builder flags",
               "TacticSource.JIT_CONVOLUTIONS": "jit_convolutions"}.get(
                   name, f"no attribute '{name.rpartition('.')[2]}'")
    with pytest.raises((EngineError, ValueError), match=message):
        build_and_run(monkeypatch, tmp_path, version, [name])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_library_without_a_name_that_newer_ones_dropped_still_builds(monkeypatch, tmp_path, version):
    if version == "8.6":
        with pytest.raises(builder.NotBuilt, match="does not take the graph: the network needs EXPLICIT_BATCH"):
            build_and_run(monkeypatch, tmp_path, version, LOOKED_FOR)
    else:
        assert build_and_run(monkeypatch, tmp_path, version, LOOKED_FOR).built


def test_what_the_parser_does_not_take_is_said_in_its_words(monkeypatch, tmp_path):
    a_gpu(monkeypatch, "8.6")
    with pytest.raises(builder.NotBuilt, match="TensorRT 8.6.2 does not take the graph: opset 20 is newer than 17"):
        builder.Builder(tmp_path).build(a_source("fp16", "legacy-fp16", opset=20))


def test_what_the_builder_refuses_is_said_in_its_words(monkeypatch, tmp_path):
    _, trt = a_gpu(monkeypatch)
    trt.breaks = lambda network, config: "out of workspace"
    with pytest.raises(builder.NotBuilt, match="builds no engine: Error Code 10: out of workspace$"):
        builder.Builder(tmp_path).build(a_source())
    assert not list(tmp_path.iterdir())


def test_layers_whose_results_are_no_floats_keep_their_precision(monkeypatch, tmp_path):
    _, trt = a_gpu(monkeypatch, "8.6")
    # "rows" is a shape: the fake refuses it.
    builder.Builder(tmp_path).build(a_source("fp16", "legacy-fp16", kept=["rows", "sum"]))
    assert trt.built[0]["kept"] == ["sum"]


def test_a_node_that_became_several_layers_keeps_float32_in_all_of_them(monkeypatch, tmp_path):
    _, trt = a_gpu(monkeypatch, "8.6")
    parse = type(trt._OnnxParser(None, None)).parse

    def with_another(self, model, path=None):
        from fake_tensorrt import Layer
        is_taken = parse(self, model, path)
        self._network._layers.append(Layer(trt, _node="softmax, once more", _types=["float32"],
                                           name="softmax_3", num_outputs=1))
        return is_taken
    monkeypatch.setattr(type(trt._OnnxParser(None, None)), "parse", with_another)
    builder.Builder(tmp_path).build(a_source("fp16", "legacy-fp16", kept=["softmax"]))
    assert trt.built[0]["kept"] == ["softmax", "softmax, once more"]


def test_a_node_that_must_keep_float32_and_is_not_there_is_an_error(monkeypatch, tmp_path):
    a_gpu(monkeypatch, "8.6")
    with pytest.raises(
            builder.NotBuilt, match="no layer 'softmx', which must compute in float32; did you mean softmax"):
        builder.Builder(tmp_path).build(a_source("fp16", "legacy-fp16", kept=["softmx"]))


def test_timings_are_kept_for_the_next_build_under_the_version_and_the_gpu(monkeypatch, tmp_path):
    _, trt = a_gpu(monkeypatch, name="NVIDIA Orin (nvgpu)")
    warnings = []
    for _ in range(2):
        builder.Builder(tmp_path, say=warnings.append).build(a_source())
    assert [path.name for path in tmp_path.iterdir()] == ["10.3.0-NVIDIA-Orin-nvgpu.cache"] and not warnings
    assert [asked["cache"] for asked in trt.built] == ["", "timings of 10.3.0 on NVIDIA Orin (nvgpu)"]


@pytest.mark.parametrize("content", [b"damaged", b"timings of 8.6.2 on another GPU"])
def test_timings_that_are_damaged_or_of_another_machine_are_replaced_with_a_word(monkeypatch, tmp_path, content):
    _, trt = a_gpu(monkeypatch)
    cache, warnings = tmp_path / "10.3.0-Fake-GPU-1000.cache", []
    cache.write_bytes(content)
    builder.Builder(tmp_path, say=warnings.append).build(a_source())
    assert len(warnings) == 1 and "is damaged or of another machine" in warnings[0] and str(cache) in warnings[0]
    assert trt.built[0]["cache"] == "" and cache.read_bytes() == b"timings of 10.3.0 on Fake GPU 1000"


def test_tactic_sources_are_names(monkeypatch, tmp_path):
    _, trt = a_gpu(monkeypatch)
    builder.Builder(tmp_path, ["edge_mask_convolutions", "JIT_CONVOLUTIONS"]).build(a_source())
    assert trt.built[0]["sources"] == 0b11000
    with pytest.raises(ValueError, match="tactic source 'jit'; TensorRT 10.3.0 has cublas, cublas_lt, "
                       "cudnn, edge_mask_convolutions"):
        builder.Builder(tmp_path, ["jit"]).build(a_source())


def sources(*rungs):
    return [(rung, lambda rung=rung: a_source("int8", rung)) for rung in rungs]


def without_half_scales(network, config):
    return "DequantizeLinear: scale types do not match" if "STRONGLY_TYPED" in network._flags else None


def test_a_rung_that_does_not_build_is_an_error_that_names_the_next(monkeypatch, tmp_path):
    _, trt = a_gpu(monkeypatch)
    trt.breaks = without_half_scales
    with pytest.raises(builder.NotBuilt, match="rung strong-fp16-qdq does not build; --allow-rung goes "
                       "on to legacy-qdq: .* scale types"):
        builder.Builder(tmp_path).build_first(sources("strong-fp16-qdq", "legacy-qdq"), allow_lower=False)


def test_a_lower_rung_is_taken_aloud_where_that_is_allowed(monkeypatch, tmp_path):
    _, trt = a_gpu(monkeypatch)
    trt.breaks, warnings = without_half_scales, []
    source, _ = builder.Builder(tmp_path, say=warnings.append).build_first(sources("strong-fp16-qdq", "legacy-qdq"),
                                                                           allow_lower=True)
    assert source.rung == "legacy-qdq" and len(warnings) == 1
    assert "rung strong-fp16-qdq does not build, going on to legacy-qdq: " in warnings[0]
    trt.breaks = lambda network, config: "nothing builds"
    with pytest.raises(builder.NotBuilt, match="rung legacy-qdq does not build, and it is the last one"):
        builder.Builder(tmp_path).build_first(sources("strong-fp16-qdq", "legacy-qdq"), allow_lower=True)


def test_a_machine_without_a_gpu_is_an_error(monkeypatch, tmp_path):
    a_gpu(monkeypatch, count=0)
    with pytest.raises(EngineError, match="CUDA shows no GPU to this process"):
        builder.Builder(tmp_path).build(a_source())


@pytest.fixture(scope="module")
def scales(tmp_path_factory):
    out = tmp_path_factory.mktemp("scales")
    assert main(["compile", "--model", "martinez-s", "--precision", "int8", "--backend", "onnx",
                 "--keep-slower", "--out", str(out)]) == 0
    return str(out / "martinez-s_scales.json")


@pytest.mark.parametrize("version, batch", [("8.6", 1), ("10.3", 3)])
def test_compile_writes_engines_for_the_gpu_beside_what_tensorrt_made_of_them(monkeypatch,
                                                                              tmp_path, scales, version, batch):
    a_gpu(monkeypatch, version)
    assert main(["compile", "--model", "martinez-s", "--backend", "tensorrt", "--precision", "fp16",
                 "int8", "--batch", str(batch), "--keep-slower", "--scales", scales, "--out", str(tmp_path)]) == 0
    stems = {f"martinez-s_tensorrt_{precision}{'_b3' * (batch == 3)}" for precision in ("fp16", "int8")}
    others = {"report.json", "martinez-s_scales.json", f"{FULL[version]}-Fake-GPU-1000.cache"}
    assert {path.name for path in tmp_path.iterdir()} == others | {
        f"{stem}.{suffix}" for stem in stems for suffix in ("epose", "layers.json")}
    for row in json.loads((tmp_path / "report.json").read_text())["rows"]:
        assert row["is_kept"] and row["runtime"] == "tensorrt" and 0 < row["mean_error_mm"] <= row["budget_mm"]
        assert row["batch"] == batch
        assert row["poses_per_s"] == pytest.approx(row["batch"] * 1e3 / row["median_ms"])
    stem = f"martinez-s_tensorrt_int8{'_b3' * (batch == 3)}"
    header, tensors = enginefile.read(tmp_path / f"{stem}.epose")
    assert header["batch"] == batch and header["rung"] == rungs_of(version)["int8"]
    assert header["machine"]["tensorrt"] == FULL[version]
    assert bool(header["keep_float32"]) == (version == "8.6") and set(tensors) == {"payload", "onnx"}
    assert header["quantisation"] and 20 < header["mpjpe_mm"] < 100
    assert json.loads((tmp_path / f"{stem}.layers.json").read_text())["Layers"]


def test_int8_that_is_no_faster_than_fp16_on_the_gpu_is_refused(monkeypatch, tmp_path, scales, capsys):
    from edgepose.build_engines import compile as compiler
    a_gpu(monkeypatch)

    def time(engines, rows):
        for row in rows:
            row.median_ms = row.p90_ms = row.p99_ms = row.poses_per_s = 1.0
    monkeypatch.setattr(compiler, "_time", time)
    command = ["compile", "--model", "martinez-s", "--backend", "tensorrt", "--precision",
               "int8", "--scales", scales, "--out", str(tmp_path)]
    assert main(command) == 1 and "no faster than fp16 (1.000 ms)" in capsys.readouterr().out
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".epose" or path.name.endswith("layers.json")]


def test_compile_fails_on_a_rung_that_does_not_build_and_takes_the_next_if_allowed(monkeypatch, tmp_path, capsys):
    _, trt = a_gpu(monkeypatch)
    trt.breaks = without_half_scales
    command = ["compile", "--model", "martinez-s", "--backend", "tensorrt", "--precision",
               "fp16", "--out", str(tmp_path)]
    assert main(command) == 1
    assert "rung strong-fp16 does not build; --allow-rung goes on to legacy-fp16" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.epose"))
    assert main([*command, "--allow-rung"]) == 0
    assert enginefile.read(tmp_path / "martinez-s_tensorrt_fp16.epose")[0]["rung"] == "legacy-fp16"


@pytest.mark.parametrize("arguments, message", [
    (["--model", "ampose", "--backend", "tensorrt"],
     "TensorRT engines cannot be built here: tensorrt is not installed"),
    (["--model", "ampose", "--batch", "4", "--backend", "native"],
     "--batch is for TensorRT engines: --backend tensorrt"),
    (["--model", "ampose", "--tactic-sources", "cudnn", "--backend", "onnx"],
     "--tactic-sources is for TensorRT engines"),
])
def test_a_wrong_request_is_answered(monkeypatch, tmp_path, capsys, arguments, message):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert main(["compile", *arguments, "--out", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err


def test_a_batch_is_at_least_one_person(monkeypatch, tmp_path, capsys):
    a_gpu(monkeypatch)
    assert main(["compile", "--model", "ampose", "--backend", "tensorrt", "--batch", "0", "--out", str(tmp_path)]) == 1
    assert "--batch is 0; wanted 1 or more" in capsys.readouterr().err


def test_the_script_finds_the_library_and_not_our_file_of_its_name(monkeypatch, tmp_path, request):
    a_gpu(monkeypatch)
    (tmp_path / "tensorrt.py").write_text("raise ImportError('this is the library')")
    path = os.pathsep.join([str(tmp_path), str(request.config.rootpath), *sys.path])
    process = subprocess.run([sys.executable, str(request.config.rootpath / "build_engines/compile.py"),
                              "--model", "martinez-s", "--backend", "tensorrt", "--out", str(tmp_path)],
                             capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert process.returncode == 1 and "this is the library" in process.stderr


def test_the_graph_of_these_tests_has_fixed_shapes():
    assert b"dim_param" not in graph(3)
