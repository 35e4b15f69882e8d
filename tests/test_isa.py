import shutil
import subprocess

import pytest

from edgepose import _native


def compiled(compiler, root, folder, *options):
    program = folder / "kernels_agree"
    sources = [root / "tests/kernels_agree.cpp", root / "csrc/dispatch.cpp", *sorted((root / "csrc").glob("kernels_*.cpp"))]
    subprocess.run([compiler, "-std=c++17", "-O2", "-fno-math-errno", "-Wno-psabi", *options, *sources, "-o", program], check=True)
    return program


CLANG = next((name for name in ("clang++", *(f"clang++-{version}" for version in range(22, 10, -1))) if shutil.which(name)), "clang++")


@pytest.mark.parametrize("compiler", ["g++", CLANG])
def test_every_instruction_set_of_this_cpu_agrees_with_the_generic_kernels(request, tmp_path, compiler):
    if not shutil.which(compiler):
        pytest.skip(f"needs {compiler}")
    done = subprocess.run([compiled(compiler, request.config.rootpath, tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert all(isa in done.stdout.splitlines() for isa in _native.isas())


@pytest.fixture(scope="module")
def for_arm(request, tmp_path_factory):
    if not (shutil.which("aarch64-linux-gnu-g++") and shutil.which("qemu-aarch64")):
        pytest.skip("needs aarch64-linux-gnu-g++ and qemu-aarch64")
    return compiled("aarch64-linux-gnu-g++", request.config.rootpath, tmp_path_factory.mktemp("arm"), "-static")


@pytest.mark.parametrize("cpu, isas", [("max", {"neondot", "neon", "generic"}), ("cortex-a72", {"neon", "generic"})])
def test_the_neon_kernels_agree_with_the_generic_ones_under_emulation(for_arm, cpu, isas):
    done = subprocess.run(["qemu-aarch64", "-cpu", cpu, for_arm], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert {line for line in done.stdout.splitlines() if " " not in line} == isas
