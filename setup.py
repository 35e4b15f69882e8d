"""Builds edgepose._native, the CPU engine, and where nvcc is found edgepose._cuda, the GPU engine. What the package is
and needs stands in pyproject.toml.

EDGEPOSE_CUDA_ARCHITECTURES: which GPUs _cuda is for, as "87 90"; default: all of ARCHITECTURES that this nvcc knows.
"none": no _cuda.
EDGEPOSE_BUILD_JOBS: how many compilers run at once; default: one for each processor, as far as half of the memory
allows.
EDGEPOSE_RUNTIME_ONLY=1: a wheel without the weights that edgepose-weights and edgepose-checkpoints have.
"""

import os
import re
import runpy
import shutil
import subprocess
from glob import glob
from pathlib import Path

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension, build_ext
from setuptools import setup
from setuptools.command.build_py import build_py

ARCHITECTURES = ("72", "75", "80", "86", "87", "89", "90", "100", "110", "120")
ASKED_FOR = os.environ.get("EDGEPOSE_CUDA_ARCHITECTURES", "").split()
NVCC = None if ASKED_FOR == ["none"] else shutil.which("nvcc")
OLDEST_CUDA = 12  # cudaGraphInstantiate of three arguments, __CUDA_ARCH_LIST__
COMPILER_MB = 400  # the memory that one compiler takes
# On a small board gcc collects its garbage early: at most 388 MB a file instead of 538, for up to 70 % more time.
SMALL_MB = 4096
LESS_MEMORY = ["--param", "ggc-min-expand=10", "--param", "ggc-min-heapsize=32768"]
HEADERS = [*glob("csrc/*.h"), *glob("csrc/*.inl"), *glob("csrc/*/*.h")]

native = Pybind11Extension(
    "edgepose._native",
    sorted({*glob("csrc/*.cpp"), *glob("csrc/python/*.cpp"), *glob("csrc/runtime/*.cpp")}
           - {"csrc/runtime/edgepose.cpp"}),
    depends=HEADERS,
    cxx_std=17,
    # -fno-math-errno: sqrt is an instruction. -Wno-psabi: no vector crosses a function that is not inlined.
    extra_compile_args=["-O3", "-fno-math-errno", "-Wno-psabi", "-pthread"],
    extra_link_args=["-pthread"],
)
cuda = Pybind11Extension(
    "edgepose._cuda",
    ["csrc/cuda/bindings.cpp", "csrc/cuda/program.cpp", "csrc/placement.cpp", "csrc/plan_check.cpp",
     "csrc/plan_reader.cpp", "csrc/json.cpp"],
    depends=[*HEADERS, *glob("csrc/cuda/*")],
    cxx_std=17,
    extra_compile_args=["-O2"],
)


class BuildExtensions(build_ext):
    """Compiles the runtime without fused multiply-adds, as CMakeLists.txt does: its poses are the same on every CPU, to
    the bit. Compiles several files at once, and those anew whose object is older or was made by another command. Links
    _cuda with nvcc, which knows where its own libraries are, after it has compiled the kernels."""

    def build_extensions(self):
        need_compiler(self.compiler)
        compile_one = self.compiler._compile
        less_memory = LESS_MEMORY if memory_mb() <= SMALL_MB and is_gcc(self.compiler) else []

        def compile_exactly(object_file, source, extension, arguments, more, preprocessor):
            options = [*less_memory, *(["-ffp-contract=off"] if source.startswith("csrc/runtime/") else [])]
            if source != "csrc/bindings.cpp" and not source.startswith(("csrc/python/", "csrc/cuda/")):
                # One object serves every Python.
                arguments = [argument for argument in arguments if not argument.startswith("-I")]
            command = " ".join([*self.compiler.compiler_so_cxx, *arguments, *more, *options])
            record = Path(object_file + ".command")
            is_same = record.exists() and record.read_text() == command
            if self.force or not is_same or is_older(object_file, [source, *HEADERS]):
                compile_one(object_file, source, extension, arguments, [*more, *options], preprocessor)
                record.write_text(command)

        self.compiler._compile = compile_exactly
        with ParallelCompile("EDGEPOSE_BUILD_JOBS", default=jobs()):
            super().build_extensions()

    def build_extension(self, extension):
        if extension is not cuda:
            return super().build_extension(extension)
        path = self.get_ext_fullpath(extension.name)
        kernels = os.path.join(self.build_temp, "cuda_engine.o")
        if not self.force and not is_older(path, [*extension.sources, *extension.depends]):
            return None
        need_cuda()
        os.makedirs(self.build_temp, exist_ok=True)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        call([NVCC, "-std=c++17", "-O3", *code_for(architectures()), "-Xcompiler", "-fPIC", "-c", "csrc/cuda/engine.cu",
              "-o", kernels])
        objects = self.compiler.compile(extension.sources, self.build_temp, include_dirs=extension.include_dirs,
                                        extra_postargs=extension.extra_compile_args, depends=extension.depends)
        return call([NVCC, "-shared", "--cudart=static", *objects, kernels, "-o", path])


class BuildPackage(build_py):
    """Leaves what other wheels have out of a runtime's wheel."""

    def find_data_files(self, package, folder):
        files = super().find_data_files(package, folder)
        if package != "edgepose" or not os.environ.get("EDGEPOSE_RUNTIME_ONLY"):
            return files
        wheel_of = runpy.run_path("edgepose/shipped.py")["wheel_of"]
        names = {file: os.path.relpath(file, folder) for file in files}
        return [file for file, name in names.items()
                if not name.startswith(("weights/", "clips/")) or wheel_of(name) == "edgepose"]


def jobs():
    """The number of compilers that run at once: as many as there are processors, in at most half of the memory."""
    return max(1, min(os.cpu_count() or 1, memory_mb() // 2 // COMPILER_MB))


def memory_mb():
    """The memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20


def is_older(path, sources):
    """True for a file that is missing or older than one that it is made of."""
    return not os.path.exists(path) or any(os.path.getmtime(path) <= os.path.getmtime(source) for source in sources)


def need_compiler(compiler):
    """Stops the build, in a sentence, if there is no C++ compiler."""
    command = getattr(compiler, "compiler_so_cxx", None) or getattr(compiler, "compiler_so", None)
    if command and not shutil.which(command[0]):
        raise SystemExit(f"edgepose is built from C++17 source, and there is no compiler {command[0]!r} here. Install "
                         "one (Debian, Ubuntu, Jetson: apt-get install g++ python3-dev), or name yours: CXX=clang++ "
                         "CC=clang")


def is_gcc(compiler):
    """True if the C++ compiler is gcc, whatever it is called."""
    said = subprocess.run([*compiler.compiler_so_cxx, "--version"], capture_output=True, text=True).stdout
    return "Free Software Foundation" in said


def call(command):
    """Runs nvcc, or stops the build."""
    print(" ".join(command))
    if subprocess.run(command).returncode:
        raise SystemExit("edgepose._cuda does not compile with this nvcc (above). To build without it: "
                         "EDGEPOSE_CUDA_ARCHITECTURES=none")


def need_cuda():
    """Stops the build if nvcc is too old."""
    said = subprocess.run([NVCC, "--version"], capture_output=True, text=True, check=True).stdout
    release = re.search(r"release (\d+)\.(\d+)", said)
    if release and int(release[1]) < OLDEST_CUDA:
        raise SystemExit(f"{NVCC} is of CUDA {release[1]}.{release[2]}; edgepose._cuda needs {OLDEST_CUDA} or later. "
                         "To build without it: EDGEPOSE_CUDA_ARCHITECTURES=none")


def architectures():
    """Those asked for, else all that nvcc knows. An nvcc that knows none of them, or not what was asked for, is an
    error."""
    known = subprocess.run([NVCC, "--list-gpu-code"], capture_output=True, text=True, check=True).stdout.split()
    chosen = ASKED_FOR or [name for name in ARCHITECTURES if f"sm_{name}" in known]
    if not chosen or any(f"sm_{name}" not in known for name in chosen):
        wanted = ", ".join(ASKED_FOR or [f"sm_{name}" for name in ARCHITECTURES])
        raise SystemExit(f"{NVCC} compiles for {', '.join(known)}; asked for {wanted}")
    return chosen


def code_for(chosen):
    """nvcc's options: machine code for each, and for GPUs to come what the newest is made from."""
    newest = max(chosen, key=int)
    return [*(f"-gencode=arch=compute_{name},code=sm_{name}" for name in chosen),
            f"-gencode=arch=compute_{newest},code=compute_{newest}"]


setup(ext_modules=[native, *([cuda] if NVCC else [])],
      cmdclass={"build_ext": BuildExtensions, "build_py": BuildPackage})
