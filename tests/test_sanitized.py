"""Untrusted engine files, and calls of the C functions in any order, with AddressSanitizer and
UndefinedBehaviorSanitizer."""

import functools
import os
import platform
import random
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import fuzz_engine
import numpy as np
import pytest
from c_package import CSRC, run, tool
from fuzz_seeds import SEEDS, engine, in_parts, write_seeds
from models import randomised, write_engine
from run_folder import new_folder
from test_fuzz import MODELS

import edgepose
from edgepose.zoo.posemlp import PoseMLP

pytestmark = pytest.mark.slow


TESTS = CSRC.parent / "tests"
CASES = 100  # for each model
SECONDS = int(os.environ.get("EDGEPOSE_FUZZ_SECONDS", 5))
SANITIZE = ["-std=c++17", "-g1", "-O1", "-Wno-psabi", "-pthread", "-fsanitize=address,undefined",
            "-fno-sanitize-recover=undefined"]
WARNINGS = ["-Wall", "-Wextra", "-Werror"]
ENVIRONMENT = {**os.environ, "ASAN_OPTIONS": "max_allocation_size_mb=2048:allocator_may_return_null=0",
               "UBSAN_OPTIONS": "print_stacktrace=1"}
# The wide kernels take most of the time to compile, and no file decides which kernels run.
WIDE = ("avx2", "avxvnni", "avx512", "avx512vnni")
LEFT_OUT = "".join(
    f'namespace edgepose::{isa} {{ extern const Kernels table; const Kernels table = {{"left out of this build"}}; }}\n'
    for isa in WIDE)


def has_libfuzzer(compiler, into):
    program = "extern \"C\" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }"
    return subprocess.run([compiler, "-fsanitize=fuzzer,address", "-x", "c++", "-", "-o", into / "probe"],
                          input=program, text=True, capture_output=True).returncode == 0


@functools.cache
def sanitized():
    """(compiler, true if it has libFuzzer, the objects of csrc/ without the C functions)."""
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        pytest.skip("written for Linux on x86-64")
    into = new_folder()
    clang = next(filter(tool, ("clang++", *(f"clang++-{version}" for version in range(22, 12, -1)))), None)
    is_fuzzer = bool(clang) and has_libfuzzer(tool(clang), into)
    compiler = tool(clang) if is_fuzzer else tool("g++")
    if not compiler:
        pytest.skip("needs clang++ with libFuzzer, or g++")
    (into / "left_out.cpp").write_text('#include "kernels.h"\n' + LEFT_OUT)
    left_out = {"bindings", "edgepose", *(f"kernels_{isa}" for isa in WIDE)}
    sources = [path for path in (*CSRC.glob("*.cpp"), *CSRC.glob("runtime/*.cpp"), into / "left_out.cpp")
               if path.stem not in left_out]
    objects = [into / f"{source.stem}.o" for source in sources]
    coverage = ["-fsanitize=fuzzer-no-link"] if is_fuzzer else []
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda pair: run(compiler, *SANITIZE, *coverage, f"-I{CSRC}", "-c", pair[0], "-o", pair[1]),
                      zip(sources, objects)))
    return compiler, is_fuzzer, objects


@functools.cache
def c_functions():
    """The object of the C functions."""
    compiler, _, objects = sanitized()
    made = objects[0].parent / "edgepose.o"
    run(compiler, *SANITIZE, *WARNINGS, '-DEDGEPOSE_VERSION="0"', "-c",
        CSRC / "runtime" / "edgepose.cpp", "-o", made)
    return made


@functools.cache
def fuzzer(name="fuzz_engine_file"):
    """A fuzzer's program: with libFuzzer, or with a main that reads the files it gets."""
    compiler, is_fuzzer, objects = sanitized()
    program = objects[0].parent / name
    driver = ["-fsanitize=fuzzer"] if is_fuzzer else [CSRC / "fuzz" / "run_files.cpp"]
    more = [c_functions()] if name == "fuzz_calls" else []
    run(compiler, *SANITIZE, *driver, CSRC / "fuzz" / f"{name}.cpp", *objects, *more, "-o", program)
    return program


def test_every_seed_is_an_engine_that_runs_and_together_they_have_every_op(tmp_path):
    ops = set()
    for path in write_seeds(tmp_path):
        if path.suffix == ".epose" and path.stem in SEEDS:
            engine = edgepose.load(path)
            assert np.isfinite(engine.run(np.full((1, engine.frames, 17, len(engine.inputs)), 0.25, np.float32))).all()
            ops |= {step["op"] for step in engine.header["plan"]["steps"]}
    known = re.search(r"ops\[\] = \{(.*?)\};", (CSRC / "plan_reader.cpp").read_text(), re.DOTALL).group(1)
    assert ops == set(re.findall(r'"(\w+)"', known))


def fuzz(*arguments, name="fuzz_engine_file", timeout=120, **environment):
    """A fuzzer's finished process. A shell starts it, and does not become it: Linux counts the memory of this large
    process as the peak of one that it starts, and libFuzzer has a limit of 2 GB."""
    command = ["sh", "-c", '"$@"; exit "$?"', "sh", fuzzer(name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env={**ENVIRONMENT, **environment})


def test_no_changed_engine_touches_memory_that_is_not_its_own(tmp_path):
    rng, paths = random.Random(0), write_seeds(tmp_path)
    engines = ([write_engine(tmp_path / f"{name}.epose", make()) for name, make in MODELS.items()]
               + [path for path in paths if path.suffix == ".epose" and path.stem in SEEDS])
    for source in engines:
        for i, data in enumerate(fuzz_engine.changed(source, rng, CASES if source.stem in MODELS else 20)):
            paths.append(tmp_path / f"{source.stem}{i}.changed")
            paths[-1].write_bytes(data)
    process = fuzz(*paths, timeout=300)
    assert process.returncode == 0 and str(paths[-1]) in process.stderr, process.stderr[-4000:]


def test_what_is_read_past_a_tensor_would_be_reported(tmp_path):
    """The fuzzer finds a planted fault: without the check of the length, it reports a file that ends too early."""
    compiler, is_fuzzer, objects = sanitized()
    source = (CSRC / "runtime" / "safetensors.cpp").read_text()
    unchecked = source.replace('if (at > file_bytes - first) damaged(',
                               'if (false) damaged(').replace("if (first + at != file_bytes)", "if (false)")
    assert unchecked.count("if (false)") == 2
    (tmp_path / "safetensors.cpp").write_text(unchecked)
    run(compiler, *SANITIZE, f"-I{CSRC / 'runtime'}", "-c", tmp_path / "safetensors.cpp", "-o",
        tmp_path / "safetensors.o")
    driver = ["-fsanitize=fuzzer"] if is_fuzzer else [CSRC / "fuzz" / "run_files.cpp"]
    run(compiler, *SANITIZE, *driver, CSRC / "fuzz" / "fuzz_engine_file.cpp",
        *(o for o in objects if o.stem != "safetensors"), tmp_path / "safetensors.o", "-o", tmp_path / "fuzzer")
    text, tensors = engine("linear")
    (tmp_path / "cut").write_bytes(in_parts(text, tensors)[:-8])
    process = subprocess.run([tmp_path / "fuzzer", tmp_path / "cut"], capture_output=True, text=True, env=ENVIRONMENT)
    assert process.returncode != 0 and "AddressSanitizer: heap-buffer-overflow" in process.stderr
    assert fuzz(tmp_path / "cut").returncode == 0


def test_libfuzzer_finds_nothing_in_a_few_seconds(tmp_path):
    if not sanitized()[1]:
        pytest.skip("needs clang++ with libFuzzer")
    seeds = len(write_seeds(tmp_path / "seeds"))
    (tmp_path / "corpus").mkdir()
    process = fuzz(f"-dict={CSRC / 'fuzz' / 'engine_file.dict'}", "-max_len=8192", "-timeout=20",
                   f"-max_total_time={SECONDS}", "-seed=1", "-print_final_stats=1", f"-artifact_prefix={tmp_path}/",
                   tmp_path / "corpus", tmp_path / "seeds")
    assert process.returncode == 0, process.stderr[-4000:]
    assert int(re.search(r"number_of_executed_units: (\d+)", process.stderr).group(1)) > 2 * seeds
    assert int(re.search(r"new_units_added: *(\d+)", process.stderr).group(1)) > 0  # it gets further than the seeds


@pytest.mark.parametrize("frames", [1, 9])
def test_calls_in_any_order_change_nothing_when_they_fail(tmp_path, frames):
    model = PoseMLP(frames=frames, channels=16, blocks=1)  # it takes and gives every column
    engine_path = write_engine(tmp_path / "tiny.epose", randomised(model))
    rng = random.Random(0)
    (tmp_path / "corpus").mkdir()
    for i in range(200):
        (tmp_path / "corpus" / f"{i}").write_bytes(rng.randbytes(4096))
    arguments = ["-max_len=4096", "-timeout=20", f"-max_total_time={SECONDS}", "-seed=1",
                 f"-artifact_prefix={tmp_path}/", tmp_path / "corpus"]
    if not sanitized()[1]:
        arguments = sorted((tmp_path / "corpus").iterdir())
    process = fuzz(*arguments, name="fuzz_calls", timeout=120 + SECONDS, EDGEPOSE_FUZZ_ENGINE=str(engine_path))
    assert process.returncode == 0, process.stderr[-4000:]


def test_a_c_program_touches_no_memory_that_is_not_its_own_and_leaks_none(tmp_path):
    compiler, _, objects = sanitized()
    c_compiler = compiler.replace("clang++", "clang").replace("g++", "gcc")
    run(c_compiler, "-std=c11", *SANITIZE[1:], *WARNINGS, f"-I{CSRC / 'include'}", "-c", TESTS / "c_api_check.c",
        "-o", tmp_path / "check.o")
    run(compiler, *SANITIZE, tmp_path / "check.o", c_functions(), *objects, "-o", tmp_path / "check")
    damaged = tmp_path / "damaged.epose"
    for name in ("ampose", "strided"):
        path = write_engine(tmp_path / f"{name}.epose", MODELS[name]())
        damaged.write_bytes(path.read_bytes()[:-1] + b"\x55")
        process = subprocess.run([tmp_path / "check", path, damaged], capture_output=True, text=True,
                                 timeout=120, env=ENVIRONMENT)
        assert (process.returncode, process.stdout) == (0, "done\n"), process.stdout + process.stderr[-4000:]
