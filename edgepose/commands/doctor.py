"""edgepose doctor: what this machine has, and which engine it would run and why."""

from __future__ import annotations

import argparse
import ctypes.util
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .. import _native, enginefile
from ..checks import checked_number
from ..engine import DEFAULT_THREADS, ENGINES, load
from ..enginefile import EngineError
from ..gpu import cuda_missing, open_gpu, tensorrt_missing
from ..machine import cores, cpu_quota, processor
from ..people import MOST_PEOPLE
from ..shipped import shipped
from .live import keeps_up, lines_of, run_live

LIBRARIES = {  # each with its use
    "numpy": "required", "safetensors": "building, training", "torch": "building, training", "onnx": "building",
    "onnxruntime": "the onnx backend, detectors, benchmarks", "openvino": "benchmarks", "tensorrt": "GPU engines",
    "pycuda": "GPU engines", "torch-tensorrt": "GPU engines, for comparison", "rich": "tables",
    "matplotlib": "pictures", "av": "films (.mp4)",
    "opencv-python": "videos, cameras", "rerun-sdk": "the live view", "websockets": "serving poses",
    "prometheus-client": "serving poses", "ray": "archives lifted by a cluster",
    "scipy": "MPI-INF-3DHP", "h5py": "MPI-INF-3DHP",
}
UNDER_OTHER_NAMES = {"opencv-python": ("opencv-python-headless", "opencv-contrib-python",
                                       "opencv-contrib-python-headless")}


def instruction_sets() -> list[str]:
    """A line for each instruction set that there are kernels for: if it runs here, on which CPUs, and what it gains."""
    lines = []
    for name, machines, gain, is_built, runs in _native.instruction_sets():
        where = "runs here" if runs else "not on this CPU" if is_built else "left out: this compiler is too old for it"
        lines.append(f"{name:<14} {where:<16} {machines}{f': {gain}' if gain else ''}")
    return lines


def gpu() -> str:
    """The NVIDIA GPUs the driver shows, or why there are none."""
    shown = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    names = [line.split(":", 1)[1].strip() for file in shown for line in file.read_text().splitlines()
             if line.startswith("Model")]
    if names:
        return ", ".join(names)
    tegra = Path("/proc/device-tree/model")
    if tegra.is_file() and "jetson" in tegra.read_text(errors="replace").lower():
        return tegra.read_text(errors="replace").strip("\0")
    return "none" if ctypes.util.find_library("cuda") is None else "a CUDA driver library, but no device"


def gpu_engines() -> str:
    """A line that says if cuda and TensorRT engines run here, or why not."""
    reason = cuda_missing()
    return f"cuda engines {f'do not run here: {reason}' if reason else 'run here'}; {_tensorrt_engines()}"


def cuda_engine() -> str:
    """A line that says if edgepose._cuda is built, and for which GPUs."""
    try:
        from .. import _cuda
    except ImportError:
        return "edgepose._cuda is not built: it needs nvcc when edgepose is installed"
    return f"edgepose._cuda is built for {', '.join(f'sm_{number}' for number in _cuda.architectures())}"


def _tensorrt_engines() -> str:
    if reason := tensorrt_missing():
        return f"TensorRT engines do not run here: {reason}"
    import tensorrt

    here = open_gpu()
    try:
        from .. import _cuda  # noqa: F401
        launches = "a frame is one launch of a CUDA graph"
    except ImportError:
        launches = "without CUDA graphs, since edgepose._cuda is not built"
    capability = here.machine(tensorrt)["compute_capability"]
    return f"TensorRT {tensorrt.__version__} engines run here ({here.name}, {capability}), {launches}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `edgepose doctor`."""
    parser.add_argument("engines", nargs="*", type=Path, help="engine files to look at (default: those that ship)")
    parser.add_argument("--trust", action="store_true", help="load an engine that is a program, as those for ONNX "
                                                             "Runtime or TensorRT are: you trust who made it")
    parser.add_argument("--live", action="store_true", help="run each engine at a camera's pace, and say what was late "
                                                            "(docs/deadlines.md)")
    parser.add_argument("--people", type=int, default=1, help="with --live: in the picture (default 1)")
    parser.add_argument("--rate", type=float, default=30.0, metavar="HZ", help="with --live: the camera's (default 30)")
    parser.add_argument("--seconds", type=float, default=5.0, help="with --live: for each engine (default 5)")
    parser.add_argument("--deadline", type=float, metavar="MS", help="with --live: of a push (default: a frame's time)")


def main(arguments: argparse.Namespace) -> int:
    """Runs `edgepose doctor`; 1 if an engine cannot be run here, or does not keep up with --live."""
    checked_number("--people", arguments.people, 1, MOST_PEOPLE, whole=True)
    checked_number("--rate", arguments.rate, above=0), checked_number("--seconds", arguments.seconds, above=0)
    if arguments.deadline is not None:
        checked_number("--deadline", arguments.deadline, above=0)
    isas = _native.isas()
    forced = os.environ.get("EDGEPOSE_ISA")
    print(f"edgepose     {version('edgepose')}, Python {platform.python_version()} on "
          f"{platform.system()} {platform.machine()}")
    print(f"processor    {processor()}, {cores()} core(s) for this "
          f"process{f', a quota of {quota:g} of their time' if (quota := cpu_quota()) else ''}")
    print(f"kernels      {isas[0]} (this CPU runs {', '.join(isas)})" if not forced else
          f"kernels      {forced}: EDGEPOSE_ISA forces it (this CPU runs {', '.join(isas)})")
    for line in instruction_sets():
        print(f"  {line}")
    print(f"GPU          {gpu()}; {gpu_engines()}")
    print(f"CUDA engine  {cuda_engine()}")
    print("libraries")
    for name, purpose in LIBRARIES.items():
        print(f"  {name:<14} {_found(name, *UNDER_OTHER_NAMES.get(name, ())):<16} {purpose}")
    print("engines")
    engines = arguments.engines or shipped(ENGINES)
    if arguments.live:
        print(f"  each for {arguments.seconds:g} s with {arguments.people} in the picture, at {arguments.rate:g} Hz")
    runs = [_look(path, arguments.trust) and (not arguments.live or _run_live(path, arguments)) for path in engines]
    return 0 if all(runs) else 1


def _run_live(path: Path, arguments: argparse.Namespace) -> bool:
    deadline_ms = arguments.deadline or 1e3 / arguments.rate
    live = run_live(load(path, trust=arguments.trust), arguments.people, arguments.rate, arguments.seconds, deadline_ms)
    is_enough = keeps_up(live, deadline_ms)
    for line in lines_of(live, deadline_ms):
        print(f"    {line}")
    print(f"    {'keeps up' if is_enough else 'does not keep up: fewer people, a smaller model or a lower rate'}")
    return is_enough


def _found(*names: str) -> str:
    """The version of the first of these distributions that is installed, or "-"."""
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "-"


def _look(path: Path, trust: bool) -> bool:
    if path.is_dir():
        print(f"  {path}: a folder; wanted engine files, as {path / '*.epose'}")
        return False
    try:
        header, _ = enginefile.read(path)
        engine = load(path, trust=trust)
    except EngineError as error:
        print(f"  {path.name}: cannot run here: {error}")
        return False
    options = "".join(f", {option}={value}" for option, value in header.get("options", {}).items())
    print(f"  {path.name}: {header['model']}{options}, {header['frames']} frame(s), {header['skeleton']}, "
          f"{header['precision']}; would run on the {engine.backend} "
          f"backend{f' with {engine.isa} kernels' if engine.isa else ''}, {DEFAULT_THREADS} thread")
    if engine.backend == "native":
        why = (f"EDGEPOSE_ISA={os.environ['EDGEPOSE_ISA']}" if os.environ.get("EDGEPOSE_ISA")
               else "the best this CPU runs")
        print(f"    because it is built for the native backend; {engine.isa} is {why}; one "
              "thread has the steadiest latency (load(threads=2) for a machine with a core to spare)")
    return True
