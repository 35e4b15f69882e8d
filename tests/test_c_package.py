"""The CMake package: installed files, programs that find it, the examples on the shipped clip, another architecture."""

import re
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from c_package import CSRC, FOR_ARM, build, installed, need, run, tool
from models import tiny_lifter, write_engine
from run_folder import built_once

import edgepose
from edgepose import enginefile
from edgepose.build_engines import compile as compiler
from edgepose.build_engines import quantise
from edgepose.build_engines.lower import lower
from edgepose.clip import load_clip, stream_clip

pytestmark = pytest.mark.slow

CLIP = "balance_cam1"


@pytest.fixture(scope="module")
def examples():
    """The folder of the examples, built against the installed package."""
    return built_once("examples", lambda into: build(CSRC / "examples", into, f"-DCMAKE_PREFIX_PATH={installed()}"))


@pytest.fixture(scope="module")
def clip():
    return load_clip(CLIP)


def lifted(program, clip, engine="ampose"):
    """(times, poses (N, 17, 3)) that lift.c prints for a clip."""
    frames = [clip.seen_in(i) for i in range(len(clip.keypoints_px))]
    lines = ["" if frame is None else " ".join(f"{value:.9g}" for value in frame.ravel()) for frame in frames]
    arguments = [edgepose.load(engine).path, clip.layout, *clip.image_size, clip.fps]
    process = run(*program, *arguments, input="\n".join(lines) + "\n")
    numbers = np.array([line.split() for line in process.stdout.splitlines()], float)
    return numbers[:, 0], numbers[:, 1:].reshape(len(numbers), -1, 3)


@pytest.mark.parametrize("engine", ["ampose", "strided27-s"])
def test_the_example_in_c_lifts_the_shipped_clip_as_python_does(examples, clip, engine):
    poses, _ = stream_clip(edgepose.load(engine), clip)
    times, joints_m = lifted([examples / "lift"], clip, engine)
    np.testing.assert_allclose(times, [pose.timestamp_s for pose in poses], atol=1e-6)
    np.testing.assert_allclose(joints_m, [pose.joints_m for pose in poses], rtol=0, atol=1e-5)
    assert len(poses) > 80 and np.abs(joints_m).max() > 0.3


def test_the_example_in_cpp_follows_a_joint_as_python_does(examples, clip):
    stream = edgepose.Stream(edgepose.load("ampose"), clip.layout, clip.image_size,
                             smoothing=edgepose.OneEuro(1.0, 5.0))
    lines, expected = [], []
    for i in range(len(clip.keypoints_px)):
        keypoints = None if 20 < i < 25 or 40 < i < 80 else clip.seen_in(i)
        values = [i / clip.fps, *(() if keypoints is None else keypoints.ravel())]
        lines.append(", ".join(f"{value:.9g}" for value in values))
        if pose := stream.push(None if keypoints is None else keypoints.astype(np.float32),
                               float(f"{i / clip.fps:.9g}")):
            expected.append((pose.timestamp_s, pose.joints_m[pose.skeleton.index("left_wrist")],
                             pose.is_seen[pose.skeleton.index("left_wrist")]))
    process = run(examples / "stream", edgepose.load("ampose").path, clip.layout, *clip.image_size,
                  "left_wrist", input="\n".join(lines) + "\n")
    answers = [line.split() for line in process.stdout.splitlines()]
    assert len(answers) == len(expected) < 95  # nobody was found for longer than the last frame is repeated
    for (time_s, x, y, z, word), (expected_s, at_m, is_seen) in zip(answers, expected):
        assert abs(float(time_s) - expected_s) < 1e-6 and word == ("seen" if is_seen else "held")
        np.testing.assert_allclose([float(x), float(y), float(z)], at_m, rtol=0, atol=1e-5)
    assert {answer[-1] for answer in answers} == {"seen", "held"}
    assert process.stderr.startswith("ampose fp16, 1 frames, ")


def test_the_example_of_several_people_lifts_them_as_python_does(examples, clip):
    engine, lines, expected = edgepose.load("ampose"), [], []
    streams = [edgepose.Stream(engine, clip.layout, clip.image_size) for _ in range(3)]
    for i in range(60):
        people = [clip.seen_in(i).astype(np.float32), None if 10 < i < 15 else clip.seen_in(i + 20).astype(np.float32),
                  clip.seen_in(i + 5).astype(np.float32)]
        rows = ["" if person is None else ", ".join(f"{value:.9g}" for value in person.ravel()) for person in people]
        lines.append("; ".join([f"{i / clip.fps:.9g}", *rows]))
        for person, pose in enumerate(edgepose.push_many(streams, people, float(f"{i / clip.fps:.9g}"))):
            expected.append([pose.timestamp_s, person, *pose.joints_m[pose.skeleton.index("head")]])
    process = run(examples / "people", engine.path, clip.layout, *clip.image_size, "head",
                  input="\n".join(lines) + "\n")
    np.testing.assert_allclose(np.array([line.split() for line in process.stdout.splitlines()], float),
                               expected, rtol=0, atol=1e-5)
    assert len(expected) == 180


@pytest.mark.parametrize("program, arguments, message", [
    ("lift", ["none.epose", "coco17", 640, 480, 30], "lift: the engine: none.epose: no such file"),
    ("lift", [], "usage: lift"),
    ("lift", ["ampose", "coco", 640, 480, 30], 'lift: the stream: there is no layout "coco"'),
    ("lift", ["ampose", "coco17", 640, 480, 30], "lift: a frame: keypoints_px has shape (1, 3)"),
    ("stream", ["ampose", "coco17", 640, 480, "tail"], "stream: there is no joint tail"),
    ("stream", ["ampose", "coco17", 0, 480, "head"], "stream: image_size is (0, 480)")])
def test_the_examples_say_what_was_wrong(examples, program, arguments, message):
    arguments = [edgepose.load("ampose").path if argument == "ampose" else argument for argument in arguments]
    process = subprocess.run([str(part) for part in (examples / program, *arguments)], input="1 2 3\n",
                             capture_output=True, text=True)
    assert process.returncode in (1, 2) and message in process.stderr


def test_the_shared_library_exports_the_c_functions_and_nothing_else():
    need("nm")
    library = next(installed().glob("lib*/**/libedgepose.so"))
    exported = {line.split()[-1].split("@")[0]
                for line in run(tool("nm"), "-D", "--defined-only", library).stdout.splitlines()}
    declared = set(re.findall(r"^EDGEPOSE_API .*?(edgepose_\w+)\(", (CSRC / "include" / "edgepose.h").read_text(),
                              re.MULTILINE))
    assert exported == declared and len(declared) == 57


def test_the_headers_stand_alone_and_are_strict_c11_and_cpp17():
    need("gcc", "g++")
    include = f"-I{installed() / 'include'}"
    for program, language, standards, header in (("gcc", "c", ("c11", "c17"), "edgepose.h"),
                                                 ("g++", "c++", ("c++17", "c++20"), "edgepose.h"),
                                                 ("g++", "c++", ("c++17", "c++20"), "edgepose.hpp")):
        for standard in standards:
            source = (2 * f"#include <{header}>\n" + "edgepose_pose p = EDGEPOSE_POSE_INIT;\n"
                      "edgepose_stream_options s = EDGEPOSE_STREAM_OPTIONS_INIT;\n")
            run(program, f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion",
                "-Werror", include, "-x", language, "-fsyntax-only", "-", input=source)


def test_the_cpp_header_keeps_its_promises(tmp_path):
    engine = write_engine(tmp_path / "tiny.epose", tiny_lifter())
    library = next(installed().glob("lib*/**/libedgepose.so"))
    need("g++")
    run("g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{installed() / 'include'}",
        CSRC.parent / "tests" / "hpp_check.cpp", library, f"-Wl,-rpath,{library.parent}", "-o", tmp_path / "check")
    assert run(tmp_path / "check", engine).stdout == "done\n"


def test_pkg_config_finds_the_package(tmp_path, clip):
    need("pkg-config", "gcc")
    libraries = next(installed().glob("lib*/**/libedgepose.so")).parent
    environment = {"PKG_CONFIG_PATH": str(libraries / "pkgconfig"), "PATH": "/usr/bin:/bin"}
    flags = run(tool("pkg-config"), "--cflags", "--libs", "edgepose", env=environment).stdout.split()
    run("gcc", CSRC / "examples" / "lift.c", *flags, f"-Wl,-rpath,{libraries}", "-o", tmp_path / "lift")
    assert len(lifted([tmp_path / "lift"], clip)[0]) == 100
    assert run(tool("pkg-config"), "--modversion", "edgepose", env=environment).stdout.strip() == edgepose.__version__


def test_find_package_refuses_a_version_that_is_not_there(tmp_path):
    (tmp_path / "CMakeLists.txt").write_text("cmake_minimum_required(VERSION 3.16)\nproject(user LANGUAGES CXX)\n"
                                             "find_package(edgepose 9.0 CONFIG REQUIRED)\n")
    need("cmake", "ninja")
    process = subprocess.run([tool("cmake"), "-S", tmp_path, "-B", tmp_path / "build", "-G", "Ninja",
                              f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}",
                              f"-DCMAKE_PREFIX_PATH={installed()}"], capture_output=True, text=True)
    assert process.returncode != 0 and f"version: {edgepose.__version__}" in process.stderr


@pytest.fixture(scope="module")
def on_arm(tmp_path_factory):
    """lift.c compiled for ARM, and the command that runs it on an emulated processor."""
    need("aarch64-linux-gnu-g++", "qemu-aarch64")
    package = installed(*FOR_ARM)
    programs = build(CSRC / "examples", tmp_path_factory.mktemp("examples"), *FOR_ARM,
                     f"-DCMAKE_PREFIX_PATH={package}", f"-DCMAKE_FIND_ROOT_PATH={package}")
    return lambda cpu: [tool("qemu-aarch64"), "-cpu", cpu, "-L", "/usr/aarch64-linux-gnu",
                        "-E", f"LD_LIBRARY_PATH={package / 'lib'}", programs / "lift"]


@pytest.mark.parametrize("cpu", ["max", "cortex-a72"])  # with and without NEON's dot product
@pytest.mark.parametrize("engine", ["ampose", "strided27-s", "posegate-s", "dln-s", "martinez-s"])
def test_an_arm_machine_lifts_the_shipped_clip_as_python_does_here(on_arm, clip, engine, cpu):
    clip = replace(clip, keypoints_px=clip.keypoints_px[:30])
    poses, _ = stream_clip(edgepose.load(engine), clip)
    times, joints_m = lifted(on_arm(cpu), clip, engine)
    # Python answers for the frames that were still waiting at the end, too.
    np.testing.assert_allclose(times, [pose.timestamp_s for pose in poses][:len(times)], atol=1e-6)
    # The NEON kernels sum in another order, for which float32 allows some 1e-6.
    np.testing.assert_allclose(joints_m, [pose.joints_m for pose in poses][:len(times)], rtol=0, atol=1e-5)
    assert len(times) >= 20


@pytest.mark.parametrize("cpu", ["max", "cortex-a72"])
@pytest.mark.parametrize("name", ["ampose", "strided27-s"])
def test_an_arm_machine_multiplies_in_eight_bits_as_this_one_does(on_arm, clip, tmp_path, name, cpu):
    lifter = compiler.load_lifter(name)
    labels = [label for _, label, _ in quantise.products(lower(lifter.module, "fp32")[0])]
    clip = replace(clip, keypoints_px=clip.keypoints_px[:30])
    # The sums are exact. Where the last bit decides how x is rounded, the rest of that pose is rounded differently.
    # With all products in 8 bits that is most poses, so a third of them at a time; in 16 bits it is a 256th as much.
    for bits, products in ((16, labels), *((8, labels[first::3]) for first in range(3))):
        steps = {label: {"x_bits": bits} for label in products}
        enginefile.write(tmp_path / "a.epose", *compiler.build(lifter, "native", "int8", {"rows": steps}))
        poses, _ = stream_clip(edgepose.load(tmp_path / "a.epose"), clip)
        times, joints_m = lifted(on_arm(cpu), clip, tmp_path / "a.epose")
        apart_m = np.linalg.norm(joints_m - np.array([pose.joints_m for pose in poses][:len(times)]), axis=-1).mean(1)
        assert np.median(apart_m) < 1e-5 and apart_m.max() < (0.03 if bits == 8 else 0.03 / 256)
