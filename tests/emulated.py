"""The CUDA kernels on a CPU: cuda_emulated.cpp, compiled and imported, and an edgepose._cuda built on it."""

import functools
import importlib.util
import subprocess
import sysconfig
import threading
import time
import types
from pathlib import Path

import numpy as np
from run_folder import built_once

ROOT = Path(__file__).parents[1]
SOURCES = ["tests/cuda_emulated.cpp", "csrc/cuda/program.cpp", "csrc/placement.cpp", "csrc/plan_check.cpp",
           "csrc/plan_reader.cpp", "csrc/json.cpp"]


@functools.cache
def module():
    """The module, compiled once a test run."""
    import pybind11

    name = f"cuda_emulated{sysconfig.get_config_var('EXT_SUFFIX')}"

    def build(folder):
        subprocess.run(["g++", "-std=c++17", "-O2", "-fno-strict-aliasing", "-Wall", "-Werror", "-Wno-unknown-pragmas",
                        "-fPIC", "-shared", "-fvisibility=hidden", f"-I{pybind11.get_include()}",
                        f"-I{sysconfig.get_paths()['include']}", "-Itests", *SOURCES, "-o", str(folder / name)],
                       cwd=ROOT, check=True)

    spec = importlib.util.spec_from_file_location("cuda_emulated", built_once("cuda_emulated", build) / name)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


class Emulated:
    """Plans run with the emulated kernels: blocks of threads, with or without tensor cores, in varying thread order."""

    def __init__(self, module, uses_tensor_cores, blocks=3, order=0):
        self.module, self.uses_tensor_cores, self.blocks, self.order = module, uses_tensor_cores, blocks, order

    def run(self, plan, tensors, x):
        """(B, J, D) from x (B, T, J, C)."""
        y = np.full((len(x), plan["joints"], len(plan["outputs"])), np.nan, np.float32)
        self.module.run(plan, tensors, x, y, self.blocks, self.uses_tensor_cores, self.order)
        return y

    def attention_newest(self, q, keys, values, newest, count, heads, span):
        y = np.full_like(q, np.nan)
        self.module.attention_newest(q, keys, values, y, newest, count, heads, span)
        return y


class OnDevice:
    """Plans run on the GPU."""

    uses_tensor_cores = None

    def run(self, plan, tensors, x):
        from edgepose import _cuda

        y = np.full((len(x), plan["joints"], len(plan["outputs"])), np.nan, np.float32)
        device_plan = _cuda.Plan(plan, tensors)
        self.uses_tensor_cores = device_plan.uses_tensor_cores
        _cuda.Context(device_plan).run(x, y)
        return y

    def attention_newest(self, q, keys, values, newest, count, heads, span):
        from edgepose import _cuda

        y = np.full_like(q, np.nan)
        _cuda.attention_newest(q, keys, values, y, newest, count, heads, span)
        return y


def extension():
    """edgepose._cuda as it would be with a GPU. context_threads: the threads that made a context."""
    class Plan:
        def __init__(self, plan, tensors):
            self.parts, self.steps, self.uses_tensor_cores = (plan, tensors), module().steps(plan, tensors), True
            self.constant_bytes = sum(tensor.nbytes for tensor in tensors.values())

    class Context:
        def __init__(self, plan):
            self.plan, self.last = plan, None
            fake.context_threads.append(threading.get_ident())

        def run(self, x, y):
            self.last = x.copy(), y.copy()
            module().run(*self.plan.parts, x, y, 2, True, 0)

        def device_ms(self, launches):
            start = time.perf_counter()
            for _ in range(launches):
                self.run(*self.last)
            return (time.perf_counter() - start) * 1e3 / launches

    fake = types.ModuleType("edgepose._cuda")
    fake.context_threads, fake.why_unavailable, fake.Plan, fake.Context = [], lambda: None, Plan, Context
    fake.architectures = lambda: [90]
    fake.devices = lambda: [{"name": "Emulated GPU", "compute_capability": "9.0", "multiprocessors": 2,
                             "memory_bytes": 1 << 30, "l2_bytes": 1 << 20, "is_integrated": False}]
    fake.read_ms = lambda size, times: size / 1e6
    return fake
