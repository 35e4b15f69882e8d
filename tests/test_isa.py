import shutil
import subprocess

import pytest

from edgepose import _native


def compiled(compiler, root, folder, *options):
    program = folder / "kernels_agree"
    sources = [root / "tests/kernels_agree.cpp", root / "csrc/dispatch.cpp",
               *sorted((root / "csrc").glob("kernels_*.cpp"))]
    subprocess.run([compiler, "-std=c++17", "-O2", "-fno-math-errno", "-Wno-psabi", *options, *sources, "-o", program],
                   check=True)
    return program


# The oldest and the newest of each kind on the systems that edgepose is built on.
COMPILERS = ("g++-11", "g++-12", "clang++-14", "clang++-19")
FOR_ARM = ("aarch64-linux-gnu-g++-11", "aarch64-linux-gnu-g++-12")


def need(*programs):
    if missing := [program for program in programs if not shutil.which(program)]:
        pytest.skip(f"needs {' and '.join(missing)}")


@pytest.mark.parametrize("compiler", COMPILERS if shutil.which("g++-12") else ("g++", *COMPILERS))
def test_every_instruction_set_of_this_cpu_agrees_with_the_generic_kernels(request, tmp_path, compiler):
    need(compiler)
    process = subprocess.run([compiled(compiler, request.config.rootpath, tmp_path)], capture_output=True, text=True)
    assert process.returncode == 0, process.stdout
    assert all(isa in process.stdout.splitlines() for isa in _native.isas())


@pytest.fixture(scope="module", params=FOR_ARM if shutil.which(FOR_ARM[-1]) else ("aarch64-linux-gnu-g++", *FOR_ARM))
def for_arm(request, tmp_path_factory):
    need(request.param)
    return compiled(request.param, request.config.rootpath, tmp_path_factory.mktemp("arm"), "-static")


@pytest.mark.parametrize("cpu, isas", [("max", {"neondot", "neon", "generic"}), ("cortex-a72", {"neon", "generic"})])
def test_the_neon_kernels_agree_with_the_generic_ones_under_emulation(for_arm, cpu, isas):
    need("qemu-aarch64")
    process = subprocess.run(["qemu-aarch64", "-cpu", cpu, for_arm], capture_output=True, text=True)
    assert process.returncode == 0, process.stdout
    assert {line for line in process.stdout.splitlines() if " " not in line} == isas


def test_a_compiler_that_is_too_old_is_told_so_in_a_line(request):
    need("g++")
    source = request.config.rootpath / "csrc/kernels_generic.cpp"
    process = subprocess.run(["g++", "-std=c++17", "-fsyntax-only", "-U__GNUC__", "-D__GNUC__=8", source],
                             capture_output=True, text=True)
    assert 'edgepose\'s kernels need gcc 9 or later, or clang' in process.stderr
