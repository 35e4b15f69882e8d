import gc
import os
import sys
import threading
import warnings

import numpy as np
import pytest
from fake_tensorrt import FULL, VERSIONS
from gpu_engines import JOINTS, a_gpu, a_source, poses, windows, write_engine
from models import tiny_lifter
from models import write_engine as write_native_engine

import edgepose
from edgepose import enginefile
from edgepose.enginefile import EngineError

CLOSE = {"rtol": 0, "atol": 2e-6}  # 2 * k * eps * max|x| * max|w| with k = 34


@pytest.mark.parametrize("version", VERSIONS)
def test_an_engine_answers_on_every_version(monkeypatch, tmp_path, version):
    gpu, _ = a_gpu(monkeypatch, version)
    rung = "legacy-fp16" if version == "8.6" else "strong-fp16"
    engine = edgepose.load(write_engine(tmp_path / "a.epose", a_source("fp16", rung)), trust=True)
    x = windows(1)
    np.testing.assert_allclose(engine.run(x), poses(x), **CLOSE)
    assert gpu.depth() == 0 and gpu.launches == 2  # the graph's: one when it was tried, one now


@pytest.mark.parametrize("people", [0, 1, 3, 4, 5, 11])
@pytest.mark.parametrize("extension", ["careful", None])
def test_any_number_of_people_goes_in_batches_of_the_plan_s_size(monkeypatch, tmp_path, people, extension):
    gpu, _ = a_gpu(monkeypatch, extension=extension)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        engine = edgepose.load(write_engine(tmp_path / "a.epose", a_source(batch=4)), trust=True)
    before, x = gpu.launches, windows(people)
    out = np.full((people, JOINTS, 3), np.nan, np.float32)
    assert engine.run(x, out) is out
    np.testing.assert_allclose(out, poses(x), **CLOSE)
    assert gpu.launches - before == (-(-people // 4) if extension else 0)


def test_a_person_s_pose_does_not_depend_on_who_else_is_in_the_batch(monkeypatch, tmp_path):
    a_gpu(monkeypatch)
    engine = edgepose.load(write_engine(tmp_path / "a.epose", a_source(batch=4)), trust=True)
    x = windows(4)
    engine.run(np.full_like(x, np.nan))
    np.testing.assert_array_equal(engine.run(x[2:3])[0], engine.run(x)[2])


def test_a_stream_lifts_with_a_tensorrt_engine(monkeypatch, tmp_path):
    a_gpu(monkeypatch)
    engine = edgepose.load(write_engine(tmp_path / "a.epose"), trust=True)
    stream = edgepose.Stream(engine, layout="coco17", image_size=(1920, 1080))
    for frame in range(3):
        pose = stream.push(np.random.default_rng(frame).uniform(300, 700, (17, 2)), 0.02 * frame)
        np.testing.assert_allclose(pose.joints_m, poses(pose.keypoints_norm[None, None].astype(np.float32))[0], **CLOSE)


def test_without_the_extension_each_frame_is_enqueued_and_that_is_said(monkeypatch, tmp_path):
    gpu, _ = a_gpu(monkeypatch, extension=None)
    path = write_engine(tmp_path / "a.epose")
    with pytest.warns(
            RuntimeWarning, match="edgepose._cuda is not built here: TensorRT engines run without CUDA graphs"):
        engine = edgepose.load(path, trust=True)
    x = windows(1)
    np.testing.assert_allclose(engine.run(x), poses(x), **CLOSE)
    assert gpu.launches == 0


def test_a_frame_that_tensorrt_refuses_is_an_error_and_not_the_answer_before(monkeypatch, tmp_path):
    _, trt = a_gpu(monkeypatch, extension=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        engine = edgepose.load(write_engine(tmp_path / "a.epose"), trust=True)
    first, second = windows(1, seed=1), windows(1, seed=2)
    engine.run(first)
    trt.refuse = 1
    out = np.full((1, JOINTS, 3), 7, np.float32)
    with pytest.raises(EngineError, match="TensorRT refuses the frame .*the enqueue was refused"):
        engine.run(second, out)
    assert (out == 7).all()
    np.testing.assert_allclose(engine.run(second), poses(second), **CLOSE)


def test_a_lane_that_failed_is_freed_while_its_context_is_current(monkeypatch, tmp_path):
    gpu, trt = a_gpu(monkeypatch)
    engine = edgepose.load(write_engine(tmp_path / "a.epose"), trust=True)
    lane, = engine._runner._free_lanes
    monkeypatch.setattr(type(lane), "run", lambda self: (_ for _ in ()).throw(EngineError("refused")))
    del lane
    with pytest.raises(EngineError, match="refused") as error:
        engine.run(windows(1))
    assert error.tb is not None and not gpu.memory and gpu.leaked == 0


def test_nothing_is_collected_while_a_graph_is_captured(monkeypatch, tmp_path):
    a_gpu(monkeypatch)
    capture, enabled = sys.modules["edgepose._cuda"].capture, []
    monkeypatch.setattr(sys.modules["edgepose._cuda"], "capture",
                        lambda *arguments: (enabled.append(gc.isenabled()), capture(*arguments))[1])
    edgepose.load(write_engine(tmp_path / "a.epose"), trust=True)
    assert enabled == [False] and gc.isenabled()


@pytest.mark.parametrize("extension, reason", [("careful", "what was to be captured was refused"),
                                               ("careless", "the replay does not answer as the plain run")])
def test_a_graph_whose_capture_was_refused_is_not_replayed(monkeypatch, tmp_path, extension, reason):
    gpu, trt = a_gpu(monkeypatch, extension=extension)
    path = write_engine(tmp_path / "a.epose")
    capture = sys.modules["edgepose._cuda"].capture

    def refusing(handle, enqueue):
        trt.refuse = 1
        return capture(handle, enqueue)
    sys.modules["edgepose._cuda"].capture = refusing
    with pytest.warns(RuntimeWarning, match=rf"no CUDA graph \({reason}"):
        engine = edgepose.load(path, trust=True)
    launches = gpu.launches
    for seed in (1, 2, 3):
        x = windows(1, seed)
        np.testing.assert_allclose(engine.run(x), poses(x), **CLOSE)
    assert gpu.launches == launches


def test_zero_copy_lets_the_gpu_work_in_the_host_s_memory(monkeypatch, tmp_path):
    gpu, _ = a_gpu(monkeypatch)
    path = write_engine(tmp_path / "a.epose")
    driver = sys.modules["pycuda.driver"]
    for name in ("mem_alloc", "memcpy_htod_async", "memcpy_dtoh_async"):
        monkeypatch.setattr(driver, name, None)
    engine = edgepose.load(path, zero_copy=True, trust=True)
    x = windows(3)
    np.testing.assert_allclose(engine.run(x), poses(x), **CLOSE)


def test_zero_copy_is_for_tensorrt_engines(tmp_path):
    path = write_native_engine(tmp_path / "native.epose", tiny_lifter())
    with pytest.raises(
            EngineError, match="zero_copy=True is for tensorrt engines; this one runs on the native backend"):
        edgepose.load(path, zero_copy=True, trust=True)


@pytest.mark.parametrize("option", [{"isa": "avx2"}, {"cpus": [0], "threads": 2}])
def test_options_of_native_engines_are_refused(monkeypatch, tmp_path, option):
    a_gpu(monkeypatch)
    path = write_engine(tmp_path / "a.epose")
    with pytest.raises(
            EngineError, match=f"{next(iter(option))}=.* is for native engines; this one runs on the tensorrt backend"):
        edgepose.load(path, **option, trust=True)


@pytest.mark.parametrize("field, here, there", [
    ("tensorrt", FULL["10.3"], "10.9.0"), ("compute_capability", "8.7", "9.0"), ("system", "Linux", "QNX"),
    ("architecture", "x86_64", "aarch64"), ("cuda", "12", "13")])
def test_an_engine_of_another_machine_is_refused_by_the_field_that_differs(monkeypatch, tmp_path, field, here, there):
    _, trt = a_gpu(monkeypatch)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    path = write_engine(tmp_path / "a.epose")
    header, tensors = enginefile.read(path)
    header["machine"][field] = there
    enginefile.write(path, header, tensors)
    trt._Runtime = None  # the engine is refused before TensorRT sees the plan
    with pytest.raises(EngineError) as refusal:
        edgepose.load(path, trust=True)
    assert str(refusal.value) == (f"{path}: built for another machine ({field} {there} there, {here} here). "
                                  f"Build it again on this machine: edgepose rebuild {path}")


def test_every_field_that_differs_is_named(monkeypatch, tmp_path):
    a_gpu(monkeypatch)
    path = write_engine(tmp_path / "a.epose")
    a_gpu(monkeypatch, "11", capability=(9, 0), cuda=(13, 0, 0))
    with pytest.raises(EngineError, match=r"tensorrt 10.3.0 there, 11.4.1 here; compute_capability 8.7 "
                       r"there, 9.0 here; cuda 12 there, 13 here"):
        edgepose.load(path, trust=True)


def test_a_machine_of_which_less_is_known_is_another(monkeypatch, tmp_path):
    a_gpu(monkeypatch)
    path = write_engine(tmp_path / "a.epose", machine={"tensorrt": "10.3.0", "nvlink": "yes"})
    with pytest.raises(
            EngineError, match="compute_capability unknown there, 8.7 here; .*nvlink yes there, unknown here"):
        edgepose.load(path, trust=True)


def test_a_plan_that_tensorrt_does_not_take_is_an_error(monkeypatch, tmp_path):
    a_gpu(monkeypatch)
    path = write_engine(tmp_path / "a.epose")
    header, tensors = enginefile.read(path)
    enginefile.write(path, header, {**tensors, "payload": tensors["payload"][5:]})
    with pytest.raises(EngineError, match=r"does not take the plan in it \(Serialization assertion failed: "
                       r"the plan is damaged\). .*edgepose rebuild"):
        edgepose.load(path, trust=True)


@pytest.mark.parametrize("header, message", [
    ({"batch": 2}, r"the plan's INPUT is \[\(\(1, 1, 17, 2\), 'float32'\)\]; the header says \(2, 1, 17, 2\), float32"),
    ({"frames": 9}, r"the header says \(1, 9, 17, 2\)"),
    ({"skeleton": "h36m16"}, r"the header says \(1, 1, 16, 2\)"),
    ({"batch": 0}, "'batch' is 0; it needs 1 or more"),
    ({"batch": "1"}, '\'batch\' is "1"; it needs a whole number'),
    ({"machine": None}, "'machine' is null; it needs an object"),
    ({"rung": 3}, "'rung' is 3; it needs a string"),
])
def test_a_header_that_does_not_fit_the_plan_is_refused(monkeypatch, tmp_path, header, message):
    a_gpu(monkeypatch)
    path = write_engine(tmp_path / "a.epose", **header)
    with pytest.raises(EngineError, match=message):
        edgepose.load(path, trust=True)


@pytest.mark.parametrize("missing, message",
                         [("tensorrt", "the tensorrt backend needs tensorrt and pycuda, which is not installed"),
                          ("pycuda", "the tensorrt backend needs tensorrt and pycuda, which is not installed")])
def test_a_missing_library_is_named(monkeypatch, tmp_path, missing, message):
    a_gpu(monkeypatch)
    path = write_engine(tmp_path / "a.epose")
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EngineError, match=message
                       + ".*on a Jetson the system's package, in a virtual environment with --system-site-packages"):
        edgepose.load(path, trust=True)


def test_a_machine_without_a_gpu_says_so(monkeypatch, tmp_path):
    gpu, _ = a_gpu(monkeypatch)
    path = write_engine(tmp_path / "a.epose")
    gpu.count = 0
    with pytest.raises(EngineError, match="CUDA shows no GPU to this process"):
        edgepose.load(path, trust=True)


def test_threads_that_share_an_engine_each_get_their_own_answer(monkeypatch, tmp_path):
    gpu, _ = a_gpu(monkeypatch)
    engine = edgepose.load(write_engine(tmp_path / "a.epose", a_source(batch=2)), trust=True)
    callers, wrong, start = 4, [], threading.Barrier(4)

    def call(caller):
        x = windows(1 + caller, seed=caller)
        start.wait()
        for _ in range(20):
            if not np.allclose(engine.run(x), poses(x), **CLOSE):
                wrong.append(caller)
        if gpu.depth():
            wrong.append("a context was left on the stack: PyCUDA would abort the process")

    threads = [threading.Thread(target=call, args=(caller,)) for caller in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and len(gpu.streams) <= callers  # callers share lanes


def test_an_engine_that_is_no_longer_used_frees_its_memory(monkeypatch, tmp_path):
    gpu, _ = a_gpu(monkeypatch)
    path = write_engine(tmp_path / "a.epose")
    collected = threading.Thread(target=lambda: [edgepose.load(path, trust=True).run(windows(3)), gc.collect()])
    collected.start()
    collected.join()
    gc.collect()
    assert gpu.leaked == 0 and not gpu.memory


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_an_engine_in_a_fork_is_an_error_that_says_what_to_do(monkeypatch, tmp_path):
    gpu, _ = a_gpu(monkeypatch)
    engine = edgepose.load(write_engine(tmp_path / "a.epose"), trust=True)
    held = len(gpu.memory)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            engine.run(windows(1))
        except EngineError as error:
            os.write(writer, str(error).encode())
        del engine
        gc.collect()
        os.write(writer, f" {len(gpu.memory)} {gpu.leaked}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    output = os.read(reader, 1000).decode()
    os.close(reader)
    assert "CUDA does not work in a fork" in output and "\"spawn\"" in output and output.endswith(f" {held} 0")
    np.testing.assert_allclose(engine.run(windows(1)), poses(windows(1)), **CLOSE)
