"""The source archive: it has what builds and tests edgepose, with and without nvcc."""

import os
import re
import stat
import subprocess
import sys
import tarfile
from email import message_from_string
from pathlib import Path

import pytest

from edgepose.shipped import IN_THE_RUNTIME

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
NVCC = """#!/bin/sh
# Answers what setup.py asks, and refuses a source that is not there, as nvcc does.
case "$*" in
  *--version*) echo "Cuda compilation tools, release 13.0, V13.0.1" ;;
  *--list-gpu-code*) echo sm_90 ;;
  *) for word in "$@"; do
       if [ "$is_output" ]; then : > "$word"
       else case $word in *.cu|*.o) [ -f "$word" ] || { echo "no $word"; exit 1; } ;; esac; fi
       is_output=; [ "$word" = -o ] && is_output=1
     done; true ;;
esac
"""
# A compiler that reads a source with all its includes and makes an empty object: it shows what an archive lacks; other
# tests compile the rest.
COMPILER = """#!/bin/sh
for word in "$@"; do
  case $word in *.cpp) source=$word ;; -I*) includes="$includes $word" ;; esac
  [ "$is_output" ] && output=$word; is_output=; [ "$word" = -o ] && is_output=1
done
[ -z "$source" ] || g++ -std=c++17 -M $includes "$source" > /dev/null || exit 1
: > "$output"
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdist")
    (folder / "info").mkdir()
    subprocess.run([sys.executable, "setup.py", "-q", "egg_info", "--egg-base", folder / "info",
                    "sdist", "--dist-dir", folder], cwd=ROOT, check=True)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as packed:
        packed.extractall(folder / "unpacked", filter="data")
    return next((folder / "unpacked").iterdir())


def test_the_source_archive_holds_what_the_sources_hold(archive):
    missing = [str(path.relative_to(ROOT))
               for folder in ("csrc", "docs", "tests", "edgepose", "benchmarks", "build_engines", "examples")
               for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix not in (".pyc", ".so")
               and not {"__pycache__", "node_modules"} & set(path.parts)
               and not (archive / path.relative_to(ROOT)).is_file()]
    assert missing == []
    assert all((archive / name).is_file()
               for name in ("LICENSE", "THIRD_PARTY_NOTICES.md", "README.md", "CHANGELOG.md", "CONTRIBUTING.md",
                            "SECURITY.md", "pyproject.toml", "setup.py"))
    assert not [path for path in archive.rglob("*") if path.suffix in (".pyc", ".so")]


def program(path, text):
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def built(archive, folder, path, architectures):
    compiler = program(folder / "c++", COMPILER)
    return subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--build-lib", folder / "lib",
                           "--build-temp", folder / "temp"], cwd=archive,
                          capture_output=True, text=True, env={"PATH": path, "CC": str(compiler), "CXX": str(compiler),
                                                               "EDGEPOSE_CUDA_ARCHITECTURES": architectures})


@pytest.mark.parametrize("has_nvcc", [False, True])
def test_the_source_archive_builds(archive, tmp_path, has_nvcc):
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin/nvcc", NVCC)
    process = built(archive, tmp_path, f"{tmp_path}/bin:/usr/bin:/bin" if has_nvcc else "/usr/bin:/bin",
                    "90" if has_nvcc else "none")
    assert process.returncode == 0, process.stdout + process.stderr
    libraries = {path.name.partition(".")[0] for path in (tmp_path / "lib").rglob("*.so")}
    assert libraries == ({"_native", "_cuda"} if has_nvcc else {"_native"})


def test_a_second_build_compiles_what_has_changed(archive, tmp_path):
    def objects():
        assert built(archive, tmp_path, "/usr/bin:/bin", "none").returncode == 0
        return {path.name: path.stat().st_mtime_ns for path in (tmp_path / "temp").rglob("*.o")}

    first = objects()
    (archive / "csrc/json.cpp").touch()
    second = objects()
    assert len(first) > 30 and {name for name in first if first[name] != second[name]} == {"json.o"}
    (archive / "csrc/vec.h").touch()
    assert all(second[name] != time for name, time in objects().items())


def test_a_wheel_of_the_runtime_leaves_the_other_wheels_files_out(archive, tmp_path):
    subprocess.run([sys.executable, "setup.py", "-q", "build_py", "--build-lib", tmp_path], cwd=archive, check=True,
                   env={**os.environ, "EDGEPOSE_RUNTIME_ONLY": "1"})
    files = {str(path.relative_to(tmp_path / "edgepose")) for folder in ("weights", "clips")
             for path in (tmp_path / "edgepose" / folder).iterdir()}
    assert files == set(IN_THE_RUNTIME)


def test_every_file_that_a_source_includes_is_in_the_archive(archive):
    sources = [path for path in (archive / "csrc").rglob("*")
               if path.suffix in (".h", ".hpp", ".inl", ".cpp", ".cu", ".cuh", ".c")]
    folders = [archive / "tests", archive / "csrc", *(path for path in (archive / "csrc").iterdir() if path.is_dir())]
    missing = {name for path in sources for name in re.findall(r'^#include "([^"]+)"', path.read_text(), re.M)
               if not any((folder / name).is_file() for folder in (path.parent, *folders))}
    assert len(sources) > 30 and missing == set()


def test_a_machine_without_a_compiler_is_told_so_in_a_sentence(archive, tmp_path):
    process = subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--build-lib", tmp_path / "lib",
                              "--build-temp", tmp_path / "temp"], cwd=archive, capture_output=True,
                             text=True, env={"PATH": str(tmp_path), "CC": "no-such-cc", "CXX": "no-such-c++",
                                             "EDGEPOSE_CUDA_ARCHITECTURES": "none"})
    assert process.returncode == 1 and "Traceback" not in process.stderr
    assert re.search("edgepose is built from C\\+\\+17 source, and there is no compiler 'no-such-c.*' "
                     "here. Install one .*apt-get install g\\+\\+", process.stderr)


def test_the_metadata_names_all_licences(archive):
    about = message_from_string((archive / "PKG-INFO").read_text())
    assert about["License-Expression"] == "Apache-2.0 AND BSD-3-Clause AND MIT"
    assert set(about.get_all("License-File")) == {"LICENSE", "THIRD_PARTY_NOTICES.md"}
    notices = (ROOT / "THIRD_PARTY_NOTICES.md").read_text()
    assert all(name in notices for name in ("Wenzel Jakob", "three.js authors", "perfanalytics", "mocap.cs.cmu.edu"))


def test_every_weights_card_says_the_weights_licence():
    cards = sorted((ROOT / "edgepose/weights").glob("*.md"))
    assert len(cards) >= 6 and all("| licence | the weights: Apache-2.0" in card.read_text() for card in cards)
