"""The CUDA kernels on a CPU: cuda_emulated.cpp compiled and imported."""

import functools
import importlib.util
import subprocess
import sysconfig
import tempfile
from pathlib import Path

import numpy as np
import pybind11

ROOT = Path(__file__).parents[1]
SOURCES = ["tests/cuda_emulated.cpp", "csrc/cuda/program.cpp", "csrc/plan_check.cpp", "csrc/plan_reader.cpp", "csrc/json.cpp"]


@functools.cache
def module():
    """The module, compiled once a process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"cuda_emulated{sysconfig.get_config_var('EXT_SUFFIX')}"
        subprocess.run(["g++", "-std=c++17", "-O2", "-fno-strict-aliasing", "-Wall", "-Werror", "-Wno-unknown-pragmas", "-fPIC", "-shared",
                        "-fvisibility=hidden", f"-I{pybind11.get_include()}", f"-I{sysconfig.get_paths()['include']}", "-Itests",
                        *SOURCES, "-o", str(path)], cwd=ROOT, check=True)
        spec = importlib.util.spec_from_file_location("cuda_emulated", path)
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        return loaded


class Emulated:
    """Runs plans with the emulated kernels: blocks of threads, with or without tensor cores, their turns in some order."""

    def __init__(self, module, uses_tensor_cores, blocks=3, order=0):
        self.module, self.uses_tensor_cores, self.blocks, self.order = module, uses_tensor_cores, blocks, order

    def run(self, plan, tensors, x):
        """(B, J, 3) from x (B, T, J, 2)."""
        y = np.full((len(x), plan["joints"], 3), np.nan, np.float32)
        self.module.run(plan, tensors, x, y, self.blocks, self.uses_tensor_cores, self.order)
        return y

    def attention_newest(self, q, keys, values, newest, count, heads, span):
        y = np.full_like(q, np.nan)
        self.module.attention_newest(q, keys, values, y, newest, count, heads, span)
        return y


class OnDevice:
    """The same on the GPU."""

    uses_tensor_cores = None

    def run(self, plan, tensors, x):
        from edgepose import _cuda

        y = np.full((len(x), plan["joints"], 3), np.nan, np.float32)
        made = _cuda.Plan(plan, tensors)
        self.uses_tensor_cores = made.uses_tensor_cores
        _cuda.Context(made).run(x, y)
        return y

    def attention_newest(self, q, keys, values, newest, count, heads, span):
        from edgepose import _cuda

        y = np.full_like(q, np.nan)
        _cuda.attention_newest(q, keys, values, y, newest, count, heads, span)
        return y
