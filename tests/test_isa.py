"""The kernels of every instruction set against the generic ones: by each compiler, for ARM under emulation, and those
of x86 whose instruction this CPU lacks with the instruction emulated."""

import platform
import shutil
import subprocess

import pytest
from c_package import tool
from test_sanitized import has_libfuzzer

from edgepose import _native

pytestmark = pytest.mark.slow

SECONDS = 5


def sources_of(root, *kernels):
    found = [root / f"csrc/kernels_{name}.cpp" for name in kernels] or sorted((root / "csrc").glob("kernels_*.cpp"))
    return [root / "csrc/dispatch.cpp", root / "csrc/pack.cpp", *found]


def compiled(compiler, root, folder, *options):
    program = folder / "kernels_agree"
    subprocess.run([compiler, "-std=c++17", "-O2", "-fno-math-errno", "-Wno-psabi", *options,
                    root / "tests/kernels_agree.cpp", *sources_of(root), "-o", program], check=True)
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


@pytest.mark.skipif(platform.machine() != "x86_64" or "avx2" not in _native.isas(), reason="needs AVX2")
def test_instructions_that_this_cpu_may_lack_agree_when_they_are_emulated(request, tmp_path):
    need("g++")
    process = subprocess.run([compiled("g++", request.config.rootpath, tmp_path, "-DEP_EMULATED")], capture_output=True,
                             text=True)
    assert process.returncode == 0, process.stdout
    assert "avxvnni" in process.stdout.splitlines()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="written for x86-64")
def test_libfuzzer_finds_no_sizes_or_numbers_in_which_a_kernel_differs(request, tmp_path):
    clang = next(filter(tool, ("clang++", *(f"clang++-{version}" for version in range(22, 12, -1)))), None)
    if not clang or not has_libfuzzer(tool(clang), tmp_path):
        pytest.skip("needs clang++ with libFuzzer")
    root, program = request.config.rootpath, tmp_path / "fuzz"
    options = ["-std=c++17", "-O1", "-fno-math-errno", "-Wno-psabi", "-DEP_EMULATED"]
    subprocess.run([tool(clang), *options, "-fsanitize=fuzzer,address", root / "csrc/fuzz/fuzz_kernels.cpp",
                    *sources_of(root), "-o", program], check=True)
    (tmp_path / "corpus").mkdir()
    process = subprocess.run([program, "-max_len=10", "-len_control=0", f"-max_total_time={SECONDS}", "-seed=1",
                              "-rss_limit_mb=0", f"-artifact_prefix={tmp_path}/", tmp_path / "corpus"],
                             capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-4000:]
    assert any((tmp_path / "corpus").iterdir())


@pytest.fixture(scope="module", params=FOR_ARM if shutil.which(FOR_ARM[-1]) else ("aarch64-linux-gnu-g++", *FOR_ARM))
def for_arm(request, tmp_path_factory):
    need(request.param)
    return compiled(request.param, request.config.rootpath, tmp_path_factory.mktemp("arm"), "-static")


@pytest.mark.parametrize("cpu, isas", [("max", {"neoni8mm", "neondot", "neon", "neonfp16", "generic"}),
                                       ("cortex-a76", {"neondot", "neon", "neonfp16", "generic"}),
                                       ("cortex-a72", {"neon", "generic"})])
def test_the_neon_kernels_agree_with_the_generic_ones_under_emulation(for_arm, cpu, isas):
    need("qemu-aarch64")
    process = subprocess.run(["qemu-aarch64", "-cpu", cpu, for_arm], capture_output=True, text=True)
    assert process.returncode == 0, process.stdout
    assert {line for line in process.stdout.splitlines() if " " not in line} == isas


@pytest.mark.skipif(platform.machine() != "x86_64", reason="written for x86-64")
def test_the_wheels_compiler_finds_the_instruction_sets_that_gcc_finds(request, tmp_path):
    need("g++")
    names = ("fma", "avx2", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni")
    rows = "".join(f'std::printf("{name} %d %d\\n", cpu_has("{name}"), __builtin_cpu_supports("{name}") != 0);'
                   for name in names)
    program = ('#include <cstdio>\n#define EP_OWN_CPUID\n#include "cpu.h"\n#undef __builtin_cpu_supports\n'
               f'using namespace edgepose;\nint main() {{ {rows} return cpu_has("none"); }}\n')
    subprocess.run(["g++", "-std=c++17", f"-I{request.config.rootpath / 'csrc'}", "-x", "c++", "-", "-o",
                    tmp_path / "a"], input=program, text=True, check=True)
    lines = subprocess.run([tmp_path / "a"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(names)
    assert all(line.split()[1] == line.split()[2] for line in lines)


def test_a_compiler_that_is_too_old_is_told_so_in_a_line(request):
    need("g++")
    source = request.config.rootpath / "csrc/kernels_generic.cpp"
    process = subprocess.run(["g++", "-std=c++17", "-fsyntax-only", "-U__GNUC__", "-D__GNUC__=8", source],
                             capture_output=True, text=True)
    assert 'edgepose\'s kernels need gcc 9 or later, or clang' in process.stderr
