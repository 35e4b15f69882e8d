import importlib.util
import os
import re
import sys
import types
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from google.protobuf import text_format
from models import engine_header, lowered, small, tiny_lifter, write_engine

import edgepose
from edgepose import enginefile
from edgepose.build_engines import compile as compiler
from edgepose.build_engines import triton_repository as repository
from edgepose.build_engines.build import build
from edgepose.build_engines.lifters import NamedModule
from edgepose.build_engines.plan_onnx import plan_to_onnx
from edgepose.cli import main
from edgepose.enginefile import EngineError
from edgepose.skeleton import H36M16

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parent.parent / "docs"


def published_definition():
    """tritonclient's module of Triton's model_config.proto, alone: its package imports a network stack."""
    folder, = importlib.util.find_spec("tritonclient").submodule_search_locations
    spec = importlib.util.spec_from_file_location("model_config_pb2", Path(folder) / "grpc" / "model_config_pb2.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


triton = published_definition()


def parsed(folder):
    """The configuration in a model's folder, as Triton reads it: an unknown field or a wrong type is an error."""
    return text_format.Parse((folder / "config.pbtxt").read_text(), triton.ModelConfig())


def write_onnx(path, model, precision="fp32"):
    """An engine file of the ONNX backend."""
    stored = "int8, one scale" if precision == "int8" else precision
    payload = plan_to_onnx(*lowered(model, stored), None, 17, stores_int8=True).SerializeToString()
    enginefile.write(path, {**engine_header(model, precision), "backend": "onnx"},
                     {"payload": np.frombuffer(payload, np.uint8)})
    return path


def write_plan(path, batch=4, rung="strong-fp16"):
    """An engine file of the TensorRT backend; its plan is any bytes."""
    header = {**engine_header(tiny_lifter(), "fp16"), "backend": "tensorrt", "batch": batch,
              "rung": rung, "machine": {}}
    enginefile.write(path, header, {"payload": np.arange(200, dtype=np.uint8)})
    return path


def publish(folder, *engines):
    return repository.publish(folder, engines, lambda text: None)


def contents(folder):
    """{path: (bytes, time)} of every file under a folder."""
    return {path.relative_to(folder): (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*")
            if path.is_file()}


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines")
    return {precision: write_onnx(folder / f"tiny_onnx_{precision}.epose", tiny_lifter(frames=9), precision)
            for precision in ("fp32", "fp16", "int8")}


@pytest.fixture(scope="module")
def models(engines, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    publish(folder, *engines.values())
    return folder


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_configuration_says_of_an_onnx_model_what_the_graph_says(models, precision):
    config = parsed(models / f"tiny_{precision}")
    assert (config.name, config.platform) == (f"tiny_{precision}", "onnxruntime_onnx")
    graph = onnx.load(models / f"tiny_{precision}" / "1" / "model.onnx").graph
    for (one,), (tensor,) in ((config.input, graph.input), (config.output, graph.output)):
        first, *others = tensor.type.tensor_type.shape.dim
        assert first.dim_param and one.name == tensor.name and len(others) == len(one.dims)
        assert all(dim.dim_param or dim.dim_value == size for dim, size in zip(others, one.dims))  # a named size is any
        assert one.data_type == triton.TYPE_FP32 and tensor.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert (config.input[0].name, list(config.input[0].dims)) == ("keypoints_norm", [9, 17, 2])
    assert (config.output[0].name, list(config.output[0].dims)) == ("pose_m", [17, 3])


def test_windows_of_many_requests_are_batched_and_the_newest_version_is_served(models):
    config = parsed(models / "tiny_fp16")
    assert config.max_batch_size == max(config.dynamic_batching.preferred_batch_size) == 64
    assert config.dynamic_batching.max_queue_delay_microseconds == 1000
    assert config.version_policy.latest.num_versions == 1
    assert config.version_policy.WhichOneof("policy_choice") == "latest"
    group, = config.instance_group
    assert (group.kind, group.count) == (triton.ModelInstanceGroup.KIND_CPU, 1)


def test_the_parameters_say_what_the_model_is(models, engines):
    header, _ = enginefile.read(engines["int8"])
    parameters = {key: one.string_value for key, one in parsed(models / "tiny_int8").parameters.items()}
    assert parameters == {"intra_op_thread_count": "1", "is_causal": "false", "is_trained": "false",
                          **{key: str(header[key]) for key in ("model", "precision", "frames", "skeleton",
                                                               "units", "weights_sha256")}}
    assert "metres" in parameters["units"] and parameters["frames"] == "9"


def test_eight_bits_come_with_advice_for_old_processors_that_is_a_configuration(models):
    advice = re.search("# int8 .*add (.*), or", (models / "tiny_int8" / "config.pbtxt").read_text())
    level = text_format.Parse(advice[1], triton.ModelConfig()).optimization.graph.level
    assert level == 2  # level of Triton's ONNX Runtime backend: no optimisation at all
    assert "int8" not in (models / "tiny_fp16" / "config.pbtxt").read_text()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("people", [1, 3, 8, 64])
def test_the_served_file_answers_as_the_engine_does(models, engines, precision, people):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if precision == "int8":  # edgepose runs it so, and the sums are exact on every processor
        options.add_session_config_entry("session.x64quantprecision", "1")
    config = parsed(models / f"tiny_{precision}")
    session = onnxruntime.InferenceSession(models / config.name / "1" / "model.onnx", options,
                                           providers=["CPUExecutionProvider"])
    x = np.random.default_rng(people).uniform(-0.5, 0.5, (people, *config.input[0].dims)).astype(np.float32)
    pose_m, = session.run([config.output[0].name], {config.input[0].name: x})
    assert pose_m.shape == (people, *config.output[0].dims)
    np.testing.assert_allclose(pose_m, edgepose.load(engines[precision], trust=True).run(x), atol=1e-5)


def test_a_tensorrt_plan_is_served_with_its_one_batch_and_never_batched(tmp_path):
    version, = publish(tmp_path / "models", write_plan(tmp_path / "tiny_tensorrt_fp16_b4.epose"))
    assert version == tmp_path / "models" / "tiny_tensorrt_fp16_b4" / "1"
    assert (version / "model.plan").read_bytes() == bytes(range(200))
    config = parsed(version.parent)
    assert (config.platform, config.max_batch_size) == ("tensorrt_plan", 0) and not config.HasField("dynamic_batching")
    assert (list(config.input[0].dims), list(config.output[0].dims)) == ([4, 1, 17, 2], [4, 17, 3])
    assert [group.kind for group in config.instance_group] == [triton.ModelInstanceGroup.KIND_GPU]
    assert "max_batch_size: 0" in (version.parent / "config.pbtxt").read_text()  # written, though it is the default


def test_a_plan_that_names_its_tensors_otherwise_is_not_served(tmp_path):
    assert publish(tmp_path / "models", write_plan(tmp_path / "tiny.epose", rung="torch-tensorrt")) == []


@pytest.mark.parametrize("batch", [None, 0, "4", True])
def test_a_tensorrt_engine_without_a_batch_is_refused(tmp_path, batch):
    with pytest.raises(EngineError, match="tiny.epose: the header's 'batch' is"):
        publish(tmp_path / "models", write_plan(tmp_path / "tiny.epose", batch))
    assert not (tmp_path / "models").exists()


def test_an_engine_that_only_edgepose_runs_is_left_out(tmp_path):
    write_engine(tmp_path / "tiny_native_fp32.epose", tiny_lifter())
    warnings = []
    assert repository.publish(tmp_path / "models", [tmp_path / "tiny_native_fp32.epose"], warnings.append) == []
    assert warnings == ["nothing for Triton: no engine of onnx or tensorrt was kept"]
    assert not (tmp_path / "models").exists()


def test_a_model_of_16_joints_or_with_a_name_that_needs_quoting_is_described_as_it_is(tmp_path):
    version, = publish(tmp_path, write_onnx(tmp_path / 'my_onnx_"1"_onnx_fp32.epose', tiny_lifter(skeleton=H36M16)))
    config = parsed(version.parent)
    assert config.name == version.parent.name == 'my_onnx_"1"_fp32'
    assert (list(config.input[0].dims), list(config.output[0].dims)) == ([1, 16, 2], [16, 3])


def test_a_changed_model_adds_a_version_beside_the_earlier_ones_and_the_same_one_adds_none(tmp_path):
    engine, models = tmp_path / "tiny_onnx_fp32.epose", tmp_path / "models"
    first, second = (plan_to_onnx(*lowered(tiny_lifter(order=order), "fp32"), None, 17,
                                  stores_int8=True).SerializeToString() for order in ("encoder first", "graph first"))
    assert first != second

    def compiled(payload, weights):
        header = {**engine_header(tiny_lifter()), "backend": "onnx", "weights_sha256": weights}
        enginefile.write(engine, header, {"payload": np.frombuffer(payload, np.uint8)})
        version, = publish(models, engine)
        assert parsed(version.parent).parameters["weights_sha256"].string_value == weights
        return version.name

    assert compiled(first, "a") == "1"
    before = contents(models)
    assert compiled(first, "a") == "1" and contents(models) == before
    assert compiled(second, "b") == "2"
    assert contents(models)[Path("tiny_fp32/1/model.onnx")] == before[Path("tiny_fp32/1/model.onnx")]
    assert compiled(first, "a") == "3"  # Triton serves the newest
    assert {path.name for path in (models / "tiny_fp32").iterdir()} == {"1", "2", "3", "config.pbtxt"}


def test_what_the_operator_changed_is_kept(engines, tmp_path):
    version, = publish(tmp_path, engines["fp32"])
    path = version.parent / "config.pbtxt"
    edited = path.read_bytes().replace(
        b"max_batch_size: 64", "max_batch_size: 128  # für alle".encode("latin-1")).replace(b"KIND_CPU", b"KIND_GPU")
    path.write_bytes(edited.replace(b"weights_sha256", b"weights_sha"))
    publish(tmp_path, engines["fp32"])
    assert path.read_bytes() == edited and [group.kind for group in text_format.Parse(
        edited.decode("latin-1"), triton.ModelConfig()).instance_group] == [triton.ModelInstanceGroup.KIND_GPU]


@pytest.mark.parametrize("config, message", [
    (b'name: "tiny_fp16"\n', r"tiny_fp16/config.pbtxt was not written by edgepose.*another --triton DIR"),
    (b"\xff", "was not written by edgepose"),
    (None, r"tiny_fp16/config.pbtxt is of another model: .*\[1, 17, 2\].*; this one is .*\[9, 17, 2\].*Move "
     r".*tiny_fp16 away"),])
def test_a_model_of_the_same_name_that_is_another_one_is_refused_and_nothing_is_written(engines,
                                                                                        tmp_path, config, message):
    version, = publish(tmp_path / "models", write_onnx(tmp_path / "tiny_onnx_fp16.epose", tiny_lifter(), "fp16"))
    if config is not None:
        (version.parent / "config.pbtxt").write_bytes(config)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=message):
        publish(tmp_path / "models", engines["fp32"], engines["fp16"])
    assert contents(tmp_path) == before and not (tmp_path / "models" / "tiny_fp32").exists()


def test_a_server_that_polls_never_sees_half_a_version(tmp_path, monkeypatch):
    model, versions_seen = tmp_path / "models" / "tiny_tensorrt_fp16_b4", []

    def look(*_):
        # Triton reads versions with C++'s stoll.
        versions = {path.name for path in model.iterdir() if path.is_dir() and re.match(r"\s*[-+]?\d", path.name)}
        if versions:
            assert parsed(model).platform == "tensorrt_plan"
        assert all((model / version / "model.plan").read_bytes() in (bytes(range(200)), b"another plan")
                   for version in versions)
        versions_seen.append(versions)

    def watched(function):
        def call(*arguments):
            look()
            result = function(*arguments)
            look()
            return result
        return call

    for name in ("fsync", "replace"):
        monkeypatch.setattr(enginefile.os, name, watched(getattr(os, name)))
    monkeypatch.setattr(Path, "rename", watched(Path.rename))
    model.mkdir(parents=True)
    engine = write_plan(tmp_path / "tiny_tensorrt_fp16_b4.epose")
    publish(tmp_path / "models", engine)
    header, _ = enginefile.read(engine)
    enginefile.write(engine, header, {"payload": np.frombuffer(b"another plan", np.uint8)})
    publish(tmp_path / "models", engine)
    assert versions_seen[0] == set() and {"1"} in versions_seen and versions_seen[-1] == {"1", "2"}


@pytest.mark.parametrize("is_first", [True, False])
def test_a_full_disk_leaves_the_repository_as_it_was(engines, tmp_path, monkeypatch, is_first):
    models = tmp_path / "models"
    models.mkdir()
    if not is_first:
        version, = publish(models, engines["fp32"])
        (version / "model.onnx").write_bytes(b"another model")
        (version.parent / "config.pbtxt").write_text(
            (version.parent / "config.pbtxt").read_text().replace("0" * 64, "1" * 64))

    def full(fd):
        raise OSError(28, "No space left on device")

    before = contents(models)
    monkeypatch.setattr(enginefile.os, "fsync", full)
    with pytest.raises(OSError, match="cannot write .*tiny_fp32.*No space left"):
        publish(models, engines["fp32"])
    assert contents(models) == before and [path.name for path in models.rglob("*") if path.name.endswith(".part")] == []
    assert (models / "tiny_fp32").exists() is not is_first


@pytest.mark.parametrize("value", ['a "quoted" \\ text\nof two lines', "Gelenk: größe, 関節 \x01\x7f", "'", ""])
def test_texts_of_any_kind_come_back_from_the_text_format(value):
    written = repository.text_format(
        {"name": value, "parameters": [{"key": value, "value": {"string_value": 2 * value}}]})
    config = text_format.Parse(written, triton.ModelConfig())
    assert config.name == value
    assert {key: one.string_value for key, one in config.parameters.items()} == {value: 2 * value}
    assert written.isascii()


def test_compile_fills_the_repository_and_compiling_again_adds_nothing(tmp_path, capsys):
    command = ["compile", "--model", "martinez-s", "--backend", "native", "onnx", "--precision",
               "fp16", "--out", str(tmp_path / "engines"), "--triton", str(tmp_path / "models")]
    assert main(command) == 0
    assert "martinez-s_fp16/1/model.onnx" in capsys.readouterr().out.replace("\n", "")
    before = contents(tmp_path / "models")
    assert before.keys() == {Path("martinez-s_fp16/config.pbtxt"), Path("martinez-s_fp16/1/model.onnx")}
    assert before[Path("martinez-s_fp16/1/model.onnx")][0] == enginefile.read(
        tmp_path / "engines" / "martinez-s_onnx_fp16.epose")[1]["payload"].tobytes()
    assert main(command) == 0 and contents(tmp_path / "models") == before
    assert "(as it was)" in capsys.readouterr().out


@pytest.mark.parametrize("arguments, message", [
    (["--triton", "a_file"], "--triton a_file: .*a_file is a file; wanted a folder"),
    (["--triton", "a_file/models"], "--triton a_file/models: .*a_file is a file"),
    (["--triton", "locked/models"], "--triton locked/models: .*locked is not writeable"),
    (["--triton", "models", "--backend", "native", "torchscript"],
     "serves onnx and tensorrt engines, not native, torchscript: add --backend onnx"),
    (["--triton", "models", "--untrained"], "--untrained would put random weights there"),
    (["--triton", "models", "--model", "hrnet-w8"], "hrnet-w8 is a detector"),])
def test_a_repository_that_cannot_be_written_is_refused_before_any_work(arguments, message,
                                                                        tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").write_text("")
    (tmp_path / "locked").mkdir()
    monkeypatch.setattr(repository.os, "access", lambda path, mode: Path(path).name != "locked")
    monkeypatch.setattr(compiler, "load_lifter", None)
    assert main(["compile", "--model", "ampose", *arguments]) == 1
    assert re.search(message, capsys.readouterr().err)
    assert {path.name for path in tmp_path.iterdir()} == {"a_file", "locked"}


@pytest.mark.parametrize("fault, message", [("config", "was not written by edgepose"),
                                            ("file", "martinez-s_fp32 is a file; wanted a folder"),
                                            ("locked", "martinez-s_fp32 is not writeable")])
def test_a_place_that_another_model_holds_is_found_before_the_build(fault, message, tmp_path, monkeypatch, capsys):
    place = tmp_path / "models" / "martinez-s_fp32"
    place.parent.mkdir()
    if fault == "file":
        place.write_text("")
    else:
        place.mkdir()
    if fault == "config":
        (place / "config.pbtxt").write_text('name: "theirs"')
    if fault == "locked":
        monkeypatch.setattr(repository.os, "access", lambda path, mode: Path(path) != place)
    monkeypatch.setattr(compiler, "compile_lifter", None)
    assert main(["compile", "--model", "martinez-s", "--backend", "onnx", "--triton", str(tmp_path / "models"),
                 "--out", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err


def test_a_repository_without_a_name_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["compile", "--model", "martinez-s", "--triton", ""])
    assert "--triton: the name of a folder is missing" in capsys.readouterr().err


def test_random_weights_go_to_a_name_of_their_own():
    assert compiler.load_lifter("martinez-s", untrained=True).file_stem == "martinez-s-untrained"


def test_the_client_of_the_documentation_streams_through_the_repository(models, engines, monkeypatch):
    class Client:
        def __init__(self, url):
            assert url == "localhost:8001"

        def get_model_config(self, name):
            return types.SimpleNamespace(config=parsed(models / name))

        def infer(self, name, inputs):
            config, (one,) = parsed(models / name), inputs
            assert one.name == config.input[0].name and one.shape == list(one.data.shape)
            assert one.shape[1:] == list(config.input[0].dims)
            session = onnxruntime.InferenceSession(models / name / "1" / "model.onnx",
                                                   providers=["CPUExecutionProvider"])
            outputs = dict(zip([config.output[0].name], session.run(None, {one.name: one.data})))
            return types.SimpleNamespace(as_numpy=outputs.__getitem__)

    class Input(types.SimpleNamespace):
        def __init__(self, name, shape, kind):
            assert kind == "FP32"
            super().__init__(name=name, shape=shape)

        def set_data_from_numpy(self, data):
            assert data.dtype == np.float32
            self.data = data

    grpc = types.ModuleType("tritonclient.grpc")
    grpc.InferenceServerClient, grpc.InferInput = Client, Input
    package = types.ModuleType("tritonclient")
    package.grpc = grpc
    monkeypatch.setitem(sys.modules, "tritonclient", package)
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", grpc)
    code, = re.findall("```python\n(.*?)```", (DOCS / "triton.md").read_text(), re.DOTALL)
    names = {}
    exec(code.replace("ampose_fp16", "tiny_fp16"), names)
    stream, local = names["stream"], edgepose.Stream(edgepose.load(engines["fp16"], trust=True),
                                                     layout="coco17", image_size=(1920, 1080))
    for frame in range(12):
        keypoints_px = np.random.default_rng(frame).uniform(300, 700, (17, 2))
        answer, wanted = stream.push(keypoints_px, frame / 50), local.push(keypoints_px, frame / 50)
        np.testing.assert_allclose(answer.joints_m, wanted.joints_m, atol=1e-5)


def test_a_model_that_remembers_frames_is_served_by_sequences(tmp_path):
    file = tmp_path / "small_onnx_fp32.epose"
    enginefile.write(file, *build(NamedModule("strided-causal", small("strided-causal", 27), True, {}), "onnx", "fp32"))
    folder, = repository.publish(tmp_path / "models", [file], print)
    config = parsed(folder.parent)
    graph = onnx.load(folder / "model.onnx").graph
    assert {tensor.name: tuple(tensor.dims) for tensor in (*config.input, *config.output)} == {
        "keypoints_norm": (1, 17, 10), "pose_m": (17, 4)}
    state, = config.sequence_batching.state
    for name, tensors in ((state.input_name, graph.input), (state.output_name, graph.output)):
        shape, = [tensor.type.tensor_type.shape for tensor in tensors if tensor.name == name]
        assert [shape.dim[1].dim_value] == list(state.dims) == list(state.initial_state[0].dims)
    assert state.initial_state[0].zero_data and not config.HasField("dynamic_batching")
    assert config.sequence_batching.oldest.max_candidate_sequences >= config.max_batch_size
