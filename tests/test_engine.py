"""load() and Engine.run: their refusals, engines shared by threads, the cost of an idle engine."""

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from guarded import WIDENING_ISAS
from models import keypoints, tiny_lifter, torch_poses, write_engine

import edgepose
from edgepose import _native

ISAS = _native.isas()
each_isa = pytest.mark.parametrize("isa", WIDENING_ISAS)


@pytest.fixture(scope="module")
def engine_path(tmp_path_factory):
    return write_engine(tmp_path_factory.mktemp("engine") / "tiny.epose", tiny_lifter())


@pytest.fixture(scope="module")
def engine(engine_path):
    return edgepose.load(engine_path)


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


@pytest.mark.parametrize("x, error, message", [
    (zeros(1, 1, 17, 2, dtype=np.float64), TypeError, "keypoints_norm is float64, C-contiguous True"),
    (zeros(1, 1, 17, 2, dtype=np.float16), TypeError, "keypoints_norm is float16"),
    (zeros(1, 1, 17, 2, dtype=np.int32), TypeError, "keypoints_norm is int32"),
    (zeros(1, 1, 17, 2, dtype=">f4"), TypeError, "keypoints_norm is >f4"),
    (zeros(2, 1, 17, 4)[..., :2], TypeError, "float32, C-contiguous False; it needs .*np.ascontiguousarray"),
    (zeros(4, 1, 17, 2)[::2], TypeError, "C-contiguous False"),
    (zeros(1, 1, 17, 2).tolist(), TypeError, "keypoints_norm is list"),
    (None, TypeError, "keypoints_norm is NoneType"),
    (zeros(1, 17, 2), ValueError, r"keypoints_norm has shape \(1, 17, 2\); it needs \(B, 1, 17, 2\)"),
    (zeros(17, 2), ValueError, r"it needs \(B, 1, 17, 2\)"),
    (zeros(1, 9, 17, 2), ValueError, r"\(1, 9, 17, 2\); it needs"),
    (zeros(1, 1, 16, 2), ValueError, r"\(1, 1, 16, 2\); it needs"),
    (zeros(1, 1, 17, 3), ValueError, r"\(1, 1, 17, 3\); it needs"),
    (zeros(), ValueError, r"shape \(\); it needs"),
    (zeros(2, 1, 1, 17, 2), ValueError, "it needs"),
], ids=lambda v: getattr(v, "shape", None) and str(v.shape))
def test_run_refuses_keypoints_of_another_kind_or_shape(engine, x, error, message):
    with pytest.raises(error, match=message):
        engine.run(x)


@pytest.mark.parametrize("out, error, message", [
    (zeros(2, 17, 3, dtype=np.float64), TypeError, "out is float64"),
    (zeros(2, 17, 6)[..., :3], TypeError, "out is float32, C-contiguous False"),
    ([[0.0]], TypeError, "out is list"),
    (zeros(2, 17, 2), ValueError, r"out has shape \(2, 17, 2\); it needs \(B, 17, 3\)"),
    (zeros(17, 3), ValueError, r"out has shape \(17, 3\)"),
    (zeros(3, 17, 3), ValueError, "out is for 3 poses, writeable True; it needs 2, writeable"),
    (np.broadcast_to(np.float32(0), (1, 17, 3)).copy(), ValueError, "out is for 1 poses"),
], ids=str)
def test_run_refuses_an_out_of_another_kind_or_shape(engine, out, error, message):
    with pytest.raises(error, match=message):
        engine.run(zeros(2, 1, 17, 2), out)


def test_run_refuses_an_out_that_may_not_be_written(engine):
    out = zeros(2, 17, 3)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="writeable False"):
        engine.run(zeros(2, 1, 17, 2), out)


def test_run_writes_into_out_and_returns_it(engine):
    x = keypoints(tiny_lifter(), 2)
    out = np.full((2, 17, 3), np.nan, np.float32)
    assert engine.run(x, out) is out
    np.testing.assert_array_equal(out, engine.run(x))


def test_no_people_give_no_poses(engine):
    assert engine.run(zeros(0, 1, 17, 2)).shape == (0, 17, 3)


@each_isa
def test_edgepose_isa_forces_the_kernels(engine_path, monkeypatch, isa):
    monkeypatch.setenv("EDGEPOSE_ISA", isa)
    engine = edgepose.load(engine_path)
    assert engine.isa == isa and isa in repr(engine)
    model = tiny_lifter()
    x = keypoints(model, 2)
    assert np.abs(engine.run(x) - torch_poses(model, x)).max() < 1e-5


def test_the_isa_argument_goes_before_the_environment(engine_path, monkeypatch):
    monkeypatch.setenv("EDGEPOSE_ISA", "no such")
    assert edgepose.load(engine_path, isa="generic").isa == "generic"
    assert edgepose.load(engine_path, isa="").isa == ISAS[0]


@pytest.mark.parametrize("isa", ["sse9", "AVX2", "avx2 ", "neon" if "avx2" in ISAS else "avx2"])
def test_an_unknown_instruction_set_is_an_error_that_lists_what_is_there(engine_path, monkeypatch, isa):
    monkeypatch.setenv("EDGEPOSE_ISA", isa)
    with pytest.raises(edgepose.EngineError, match=f'"{isa}" is not one this CPU runs; it runs {", ".join(ISAS)}'):
        edgepose.load(engine_path)


@pytest.mark.parametrize("threads", [0, -1, 257, True, "2", 1.0, None, np.int64(2)])
def test_threads_are_a_whole_number_from_1_to_256(engine_path, threads):
    with pytest.raises(ValueError, match="threads is .*; it needs a whole number from 1 to 256"):
        edgepose.load(engine_path, threads=threads)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_engine_shared_by_python_threads_gives_each_its_own_answer(tmp_path, threads):
    model = tiny_lifter()
    engine = edgepose.load(write_engine(tmp_path / "tiny.epose", model), threads=threads)
    callers, calls = 4, 60
    windows = [keypoints(model, 1 + caller, seed=caller) for caller in range(callers)]
    expected = [engine.run(x) for x in windows]
    start, wrong = threading.Barrier(callers), []

    def call(caller):
        start.wait()
        for _ in range(calls):
            if not np.array_equal(engine.run(windows[caller]), expected[caller]):
                wrong.append(caller)

    members = [threading.Thread(target=call, args=(caller,)) for caller in range(callers)]
    for member in members:
        member.start()
    for member in members:
        member.join()
    assert wrong == []


def test_an_engine_keeps_no_trace_of_the_frame_before(tmp_path):
    model = tiny_lifter()
    engine = edgepose.load(write_engine(tmp_path / "tiny.epose", model))
    x = keypoints(model, 2)
    first = engine.run(x)
    engine.run(np.full((5, 1, 17, 2), np.nan, np.float32))
    np.testing.assert_array_equal(engine.run(x), first)


IDLE = """
import sys, time, numpy as np, edgepose
engine = edgepose.load(sys.argv[1], threads=2)
engine.run(np.zeros((1, 1, 17, 2), np.float32))
time.sleep(0.05)
before = time.process_time()
time.sleep(0.3)
print(time.process_time() - before)
"""


def run_python(code, *arguments):
    path = os.pathsep.join([str(Path(edgepose.__file__).parent.parent), *sys.path])
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True,
                          text=True, timeout=60, env={**os.environ, "PYTHONPATH": path})


def test_an_idle_engine_with_two_threads_takes_no_processor_time(tmp_path):
    process = run_python(IDLE, write_engine(tmp_path / "tiny.epose", tiny_lifter()))
    assert process.returncode == 0, process.stderr
    assert float(process.stdout) < 0.02


SHARED = """
import os, sys, threading, time, numpy as np, edgepose
def threads(): return len(os.listdir("/proc/self/task"))
before = threads()
engines = [edgepose.load(sys.argv[1], threads=3) for _ in range(4)]
x = np.zeros((2, 1, 17, 2), np.float32)
wanted = engines[0].run(x)
right = []
def call(engine):
    right.append(all(np.array_equal(engine.run(x), wanted) for _ in range(200)))
callers = [threading.Thread(target=call, args=(engine,)) for engine in engines]
for caller in callers: caller.start()
for caller in callers: caller.join()
time.sleep(0.2)  # a thread that was joined may not be gone at once
print(all(right), threads() - before)
del engines, callers
print(threads() - before)
"""


def test_all_engines_of_a_process_share_their_threads_and_leave_none_behind(tmp_path):
    process = run_python(SHARED, write_engine(tmp_path / "tiny.epose", tiny_lifter()))
    assert process.returncode == 0, process.stderr
    assert process.stdout.split() == ["True", "2", "0"]


PINNED = """
import os, sys, numpy as np, edgepose
cpus = sorted(os.sched_getaffinity(0))
engine = edgepose.load(sys.argv[1], threads=2, cpus=cpus[-1:])
x = np.zeros((2, 1, 17, 2), np.float32)
same = np.array_equal(engine.run(x), edgepose.load(sys.argv[1]).run(x))
threads = [int(task) for task in os.listdir("/proc/self/task") if int(task) != os.getpid()]
print(same, [sorted(os.sched_getaffinity(thread)) for thread in threads].count(cpus[-1:]) > 0)
"""


def test_workers_are_pinned_where_they_are_asked_to_be(tmp_path):
    process = run_python(PINNED, write_engine(tmp_path / "tiny.epose", tiny_lifter()))
    assert process.returncode == 0, process.stderr
    assert process.stdout.split() == ["True", "True"]


@pytest.mark.parametrize("cpu", [-1, 1023, 5000])
def test_a_processor_that_the_process_may_not_use_is_named(engine_path, cpu):
    with pytest.raises(edgepose.EngineError, match=f"processor {cpu} is not one that this process may use"):
        edgepose.load(engine_path, threads=2, cpus=[cpu])


@pytest.mark.parametrize("threads, cpus",
                         [(2, ["a"]), (2, "1"), (2, [1.5]), (2, [True]), (2, 0.5), (2, None), (1, [0]), (2, [0, 1])])
def test_cpus_are_whole_numbers_fewer_than_threads(engine_path, threads, cpus):
    with pytest.raises(ValueError, match="cpus is .*; it needs whole numbers, at most one for each of the"):
        edgepose.load(engine_path, threads=threads, cpus=cpus)


SCARCE = """
import resource, sys, numpy as np, edgepose
engine = edgepose.load(sys.argv[1], threads=200)
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (200 << 20), -1))
x = np.zeros((1, 1, 17, 2), np.float32)
for attempt in range(2):
    try:
        engine.run(x)
        print("ran")
    except RuntimeError as error:
        print(error)
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
print(engine.run(x).shape)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs RLIMIT_AS and /proc")
def test_threads_that_cannot_be_started_are_an_error_and_not_the_end_of_the_process(tmp_path):
    process = run_python(SCARCE, write_engine(tmp_path / "tiny.epose", tiny_lifter()))
    assert process.returncode == 0, process.stderr
    first, second, third = process.stdout.splitlines()
    assert "of 199 threads could be started" in first and "of 199 threads" in second and third == "(1, 17, 3)"


def test_broken_numbers_come_out_broken_on_every_instruction_set():
    for isa in _native.isas():
        engine = edgepose.load("ampose", isa=isa)
        x = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 1, 17, 2)).astype(np.float32)
        x[0, 0, 3, 1] = np.nan
        assert np.isnan(engine.run(x)).all()


def test_an_engine_of_several_threads_goes_on_working_in_a_fork():
    program = """
import os, sys
import numpy as np
import edgepose
engine = edgepose.load("ampose", threads=3)
x = np.full((1, 1, 17, 2), 0.1, np.float32)
before = engine.run(x)
child = os.fork()
if child == 0:
    os._exit(0 if (engine.run(x) == before).all() else 1)
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status) or int((engine.run(x) != before).any()))
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_an_engine_says_why_it_cannot_be_pickled():
    with pytest.raises(TypeError, match="call edgepose.load in each process"):
        pickle.dumps(edgepose.load("ampose"))


@pytest.mark.parametrize("threads", [1, 2])
def test_the_process_ends_while_daemon_threads_are_in_the_engine(engine_path, threads):
    program = f"""
import threading, time
import numpy as np
import edgepose
engine = edgepose.load({str(engine_path)!r}, threads={threads})
def work():
    x = np.zeros((64, 1, 17, 2), np.float32)
    while True:
        engine.run(x)
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.2)
"""
    for _ in range(3):
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        assert (ended.returncode, ended.stderr) == (0, "")
