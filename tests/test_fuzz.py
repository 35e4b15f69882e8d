"""csrc/ built with AddressSanitizer and UndefinedBehaviorSanitizer: changed engines, and kernels on exact arrays."""

import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from models import randomised, tiny_lifter, write_engine

from edgepose.zoo.dln import DLN
from edgepose.zoo.posegate import PoseGateFormer
from edgepose.zoo.strided import StridedTransformer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
CASES = 600  # for each model
TINY = {"channels": 16, "heads": 2, "depth": 1}
MODELS = {"ampose": tiny_lifter, "strided": lambda: randomised(StridedTransformer(frames=27, **TINY)),
          "posegate": lambda: randomised(PoseGateFormer(**TINY)), "dln": lambda: randomised(DLN(channels=16))}
ENVIRONMENT = {"PYTHONMALLOC": "malloc", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
               # Leaks are Python's own. No engine may ask for 2 GiB at once, or take that much in all.
               "ASAN_OPTIONS": "detect_leaks=0:max_allocation_size_mb=2048:allocator_may_return_null=0:"
                               "hard_rss_limit_mb=2048",
               "UBSAN_OPTIONS": "print_stacktrace=1"}

PRELOADED = ("libasan.so", "libstdc++.so.6")  # the second because ASan must find the real __cxa_throw when it starts

# The kernels for AVX-512 take most of the time to compile, and sanitizers do not see masked loads.
LEFT_OUT = """
#include "kernels.h"
namespace edgepose::avx512 { extern const Kernels table; const Kernels table = {"left out of this build"}; }
"""


def library(name):
    path = subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
    return path if os.path.isabs(path) and os.path.exists(path) else None


def reason_to_skip():
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return "written for Linux on x86-64"
    if not shutil.which("g++"):
        return "needs g++"
    if not all(map(library, PRELOADED)):
        return "needs g++'s AddressSanitizer (libasan)"
    return None


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory):
    """The folder of a copy of the package whose _native is sanitized."""
    if reason := reason_to_skip():
        pytest.skip(reason)
    import pybind11

    folder = tmp_path_factory.mktemp("sanitized")
    not_needed = shutil.ignore_patterns("*.so", "__pycache__", "weights", "clips", "zoo", "training",
                                        "build_engines", "benchmarks")
    shutil.copytree(ROOT / "edgepose", folder / "edgepose", ignore=not_needed)
    (folder / "left_out.cpp").write_text(LEFT_OUT)
    includes = [f"-I{path}" for path in (ROOT / "csrc", pybind11.get_include(), sysconfig.get_path("include"))]
    sources = [*(source for part in ("", "python/", "runtime/")
                 for source in sorted((ROOT / "csrc").glob(f"{part}*.cpp"))
                 if source.stem not in ("kernels_avx512", "edgepose")), folder / "left_out.cpp"]
    module = folder / "edgepose" / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"
    subprocess.run(["g++", "-std=c++17", "-O1", "-g1", "-fPIC", "-shared", "-pthread", "-Wno-psabi",
                    "-fvisibility=hidden", *SANITIZE, *includes, *sources, "-o", module], check=True, timeout=300)
    return folder


def run_sanitized(folder, *command):
    return subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, timeout=300, cwd=folder,
                          env={**os.environ, **ENVIRONMENT, "LD_PRELOAD": " ".join(library(name) for name in PRELOADED),
                               "PYTHONPATH": os.pathsep.join([str(folder), *sys.path[1:]])})


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_no_changed_engine_touches_memory_that_is_not_its_own(sanitized, tmp_path, make):
    engine = write_engine(tmp_path / "tiny.epose", make())
    process = run_sanitized(sanitized, ROOT / "tests" / "fuzz_engine.py", engine, 0, CASES)
    reports = [word for word in ("Sanitizer", "runtime error") if word in process.stderr]
    assert process.returncode == 0 and not reports, process.stderr[-4000:]
    counts = json.loads(process.stdout)
    assert sum(counts.values()) == CASES
    # Otherwise the changes were so coarse that none came as far as the kernels, or so fine that none was wrong.
    assert counts["ran"] > CASES / 20 and counts["refused when loaded"] > CASES / 20


OUT_OF_BOUNDS = """
import numpy as np, edgepose
from edgepose import _native
assert _native.__file__.startswith({folder!r})
w, b = np.zeros((8, 16), np.float32), np.zeros((1, 8), np.float32)
_native.kernels.linear(np.ones((1, 8), np.float32), w, b, None, np.zeros((1, 16), np.float32), "none", "generic")
"""


def test_a_kernel_that_reads_past_its_bias_would_be_reported(sanitized):
    process = run_sanitized(sanitized, "-c", OUT_OF_BOUNDS.format(folder=str(sanitized)))
    assert process.returncode != 0 and "AddressSanitizer: heap-buffer-overflow" in process.stderr


EXACT = """
import itertools, sys
import numpy as np
sys.path.insert(0, {tests!r})
import reference as ref
from edgepose import _native

kernels, sizes = _native.kernels, (1, 2, 3, 7, 8, 9, 15, 16, 17, 33)
ones = lambda *shape: np.ones(shape, np.float32)
for isa in ("generic", "avx2"):
    if isa not in _native.isas():
        continue
    for m, n in itertools.product(sizes, sizes):
        kernels.add(ones(m, n), ones(m, n), ones(m, n), isa)
        kernels.normalize(ones(m, n), ones(m, n), 1e-5, isa)
        kernels.multiply(ones(m, n), ones(m, n), ones(m, n), "sigmoid", isa)
        kernels.blend(0.5, 0.5, ones(m, n), ones(m, n), isa)
        for before, after in ((m, m), (1, 0), (0, 2)):
            kernels.attention(ones(m, n), ones(m, n), ones(m, n), ones(m, n), before, after, isa)
        for k, half in itertools.product((1, 2, 17), (False, True)):
            w = ones(k, n).astype(np.float16 if half else np.float32)
            for activation, residual in itertools.product(ref.ACTIVATIONS, (None, ones(m, n))):
                kernels.linear(ones(m, k), w, ref.pack_bias(ones(1, n)), residual, ones(m, n), activation, isa)
        if m <= 9:  # joints
            gather, scatter, group_rows = ref.gather_scatter(np.ones((2, m, m)))
            for k, people in itertools.product((1, 17), (1, 5)):
                kernels.graph_conv(ones(people * m, k), ones(2, k, n), ref.pack_bias(ones(m, n)),
                                   ones(people * m, n), ones(people * m, n), gather, scatter, group_rows, "relu", isa)
print("done")
"""


def test_no_kernel_reads_or_writes_past_the_end_of_an_exact_array(sanitized):
    process = run_sanitized(sanitized, "-c", EXACT.format(tests=str(ROOT / "tests")))
    assert (process.returncode, process.stdout, process.stderr) == (0, "done\n", "")
