"""Wheels: `python -m build_engines.wheels`, in a checkout, builds, checks and runs all of them on this machine.

For each platform and Python a wheel `edgepose`, compiled by zig (PyPI's ziglang), whose target names the C library that
the platform's tag allows; and for all of them `edgepose-weights` and `edgepose-checkpoints`, which hold data alone.
auditwheel repairs and checks each. Those of this processor are installed into fresh environments without a compiler,
the one of ARM beside Debian's Python for ARM under qemu, and each streams a clip that ships to the poses of this
checkout.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepose.clip import load_clip, stream_clip
from edgepose.engine import load
from edgepose.shipped import HERE, wheel_of

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
LARGEST_MB = 8.0  # the limit for the runtime's wheel
# The NEON kernels sum in another order than those of x86, for which float32 allows some 1e-6 of a pose's metre.
TOLERANCE_M = 1e-5
CLIP, ENGINE = "balance_cam1", "ampose"


@dataclass(frozen=True)
class Platform:
    """A platform of wheels. tag: what pip calls it. zig: the target of its compiler."""

    tag: str
    zig: str

    @property
    def processor(self) -> str:
        return self.zig.partition("-")[0]

    @property
    def suffix(self) -> str:
        """The end of an extension's name, after the Python's number."""
        return f"{self.processor}-linux-{'musl' if 'musl' in self.tag else 'gnu'}.so"


PLATFORMS = {platform.tag: platform for platform in (
    Platform("manylinux_2_17_x86_64", "x86_64-linux-gnu.2.17"),
    Platform("manylinux_2_17_aarch64", "aarch64-linux-gnu.2.17"),
    Platform("musllinux_1_2_x86_64", "x86_64-linux-musl"),
    Platform("musllinux_1_2_aarch64", "aarch64-linux-musl"))}

# What a user does first; it prints the poses' file. Run by the wheel's Python, without this checkout.
PROGRAM = f"""
import sys
import numpy as np
import edgepose
from edgepose.clip import load_clip, stream_clip
poses, _ = stream_clip(edgepose.load({ENGINE!r}), load_clip({CLIP!r}))
np.save(sys.argv[1], np.stack([pose.joints_m for pose in poses]))
print(edgepose.__version__, edgepose.load({ENGINE!r}).isa)
try:
    edgepose.load("strided27-s")
except edgepose.EngineError as error:
    print(error)
"""
DATA_PROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "{version}"
description = "{description}"
requires-python = ">=3.10"
license = "{licence}"
license-files = ["LICENSE", "THIRD_PARTY_NOTICES.md"]

[tool.setuptools]
packages = ["{package}"]

[tool.setuptools.package-data]
"{package}" = ["*/*"]
"""
DATA = {"edgepose-weights": ("the lifters that ship with edgepose, as engines, and its detector", "Apache-2.0"),
        "edgepose-checkpoints": ("what edgepose's models are built and checked with: checkpoints and windows",
                                 "Apache-2.0 AND BSD-3-Clause")}
# Debian's packages that its Python for ARM needs.
ARM_PACKAGES = ("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libc6", "libgcc-s1",
                "libstdc++6", "zlib1g", "libexpat1", "libffi8", "libssl3", "libbz2-1.0", "liblzma5", "libuuid1")


def run(*command: object, **options: object) -> str:
    """The output of a program. Raises RuntimeError with all that it said if it failed."""
    process = subprocess.run([str(part) for part in command], text=True, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, **options)
    if process.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{process.stdout}")
    return process.stdout


def interpreter(version: str) -> Path | None:
    """The Python of a version that is installed here."""
    versions = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for found in (shutil.which(f"python{version}"), *versions):
        if found and not subprocess.run([found, "--version"], capture_output=True).returncode:
            return Path(found)
    return None


def environment(python: Path, folder: Path, *packages: str) -> Path:
    """The Python of a fresh virtual environment with some packages."""
    shutil.rmtree(folder, ignore_errors=True)
    run(python, "-m", "venv", folder)
    if packages:
        run(folder / "bin/python", "-m", "pip", "install", "-q", *packages)
    return folder / "bin/python"


def build_requirements() -> list[str]:
    """The packages that pyproject.toml builds with."""
    (listed,) = re.findall(r"^requires = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    return re.findall(r'"(.*?)"', listed)


def build(target: Platform, version: str, python: Path, work: Path, out: Path) -> Path:
    """A repaired wheel of edgepose in `out`. python: that of an environment with build_requirements()."""
    zig = f"{sys.executable} -m ziglang"
    short = version.replace(".", "")
    settings = {
        "CC": f"{zig} cc -target {target.zig}", "CXX": f"{zig} c++ -target {target.zig} -DEP_OWN_CPUID",
        "LDSHARED": f"{zig} cc -target {target.zig} -shared -s",
        "LDCXXSHARED": f"{zig} c++ -target {target.zig} -shared -s",
        "SETUPTOOLS_EXT_SUFFIX": f".cpython-{short}-{target.suffix}",
        "_PYTHON_HOST_PLATFORM": f"linux-{target.processor}",
        "EDGEPOSE_CUDA_ARCHITECTURES": "none", "EDGEPOSE_RUNTIME_ONLY": "1"}
    folder, objects = work / target.tag / version, work / target.tag / "objects"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "info").mkdir(parents=True)
    run(python, "setup.py", "-q", "egg_info", "--egg-base", folder / "info",
        "build", "--build-base", folder / "build", "--build-temp", objects, "build_ext", "--build-temp", objects,
        "bdist_wheel", "--bdist-dir", folder / "wheel", "--dist-dir", folder / "dist",
        "--plat-name", f"linux_{target.processor}", cwd=ROOT, env={**os.environ, **settings})
    (made,) = (folder / "dist").glob("*.whl")
    run(sys.executable, "-m", "auditwheel", "repair", "--plat", "auto", "--wheel-dir", folder / "repaired", made,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"})
    (repaired,) = (folder / "repaired").glob("*.whl")
    return Path(shutil.copy(repaired, out))


def build_data(name: str, python: Path, work: Path, out: Path) -> Path:
    """One of the wheels of DATA in `out`: the files that shipped.wheel_of says are its own."""
    project, package = work / name, name.replace("-", "_")
    shutil.rmtree(project, ignore_errors=True)
    for folder in ("weights", "clips"):
        (project / package / folder).mkdir(parents=True)
        for path in sorted((HERE / folder).iterdir()):
            if wheel_of(f"{folder}/{path.name}") == name:
                shutil.copy(path, project / package / folder)
    description, licence = DATA[name]
    (project / package / "__init__.py").write_text(f'"""Data alone: {description}."""\n')
    (version,) = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    (project / "pyproject.toml").write_text(DATA_PROJECT.format(name=name, package=package, version=version,
                                                                description=description, licence=licence))
    for notice in ("LICENSE", "THIRD_PARTY_NOTICES.md"):
        shutil.copy(ROOT / notice, project)
    run(python, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", out, project)
    (made,) = out.glob(f"{package}-*.whl")
    return made


def check(wheel: Path, target: Platform) -> str:
    """The size of a repaired wheel. Raises RuntimeError if it is too large, or auditwheel finds that it needs a newer
    system."""
    shown = run(sys.executable, "-m", "auditwheel", "show", wheel)
    size_mb = wheel.stat().st_size / 1e6
    if size_mb > LARGEST_MB or target.tag not in shown.replace("\n", " "):
        raise RuntimeError(f"{wheel.name} has {size_mb:.1f} MB of at most {LARGEST_MB}; wanted {target.tag}:\n{shown}")
    return f"{size_mb:.2f} MB"


def difference_m(poses_m: np.ndarray, expected_m: np.ndarray) -> float:
    """The largest distance of a coordinate to this checkout's. Raises RuntimeError if it is more than TOLERANCE_M."""
    if poses_m.shape != expected_m.shape or not (apart_m := np.abs(poses_m - expected_m).max()) <= TOLERANCE_M:
        raise RuntimeError(f"poses {poses_m.shape}, wanted {expected_m.shape}; {TOLERANCE_M} m apart at most")
    return float(apart_m)


def install_and_run(wheels: list[Path], python: Path, work: Path, expected_m: np.ndarray) -> str:
    """Installs the runtime's wheel, then the data's, into a fresh environment whose PATH has no compiler; runs each."""
    inside = environment(python, work / "fresh")
    bare = {"PATH": str(inside.parent), "HOME": str(work)}
    pip = [inside, "-m", "pip", "install", "-q", "--only-binary", ":all:", "--disable-pip-version-check"]
    configuration = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    run(*pip, wheels[0], env={**bare, **configuration, "HOME": os.environ["HOME"]})
    said = run(inside, "-c", PROGRAM, work / "poses.npy", env=bare, cwd=work)
    if "pip install edgepose-weights" not in said:
        raise RuntimeError(f"the runtime alone does not name the wheel of strided27-s: {said}")
    if said.split()[1] != load(ENGINE).isa:
        raise RuntimeError(f"the wheel runs the kernels of {said.split()[1]}, this checkout {load(ENGINE).isa}")
    run(*pip, "--no-deps", *wheels[1:], env=bare)
    if "pip install edgepose-weights" in run(inside, "-c", PROGRAM, work / "again.npy", env=bare, cwd=work):
        raise RuntimeError("strided27-s is not found in edgepose-weights")
    return f"{said.splitlines()[0]}, {difference_m(np.load(work / 'poses.npy'), expected_m):.1e} m apart"


def arm_system(folder: Path) -> Path:
    """A folder with Debian's Python for ARM, taken from its archive; the machine's own packages stay as they are."""
    if (folder / "usr/bin/python3.11").exists():
        return folder
    state = folder.with_name("apt")
    for part in ("lists/partial", "cache/archives/partial", "debs"):
        (state / part).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    apt = ["apt-get", "-q", "-o", "APT::Architecture=arm64", "-o", "APT::Architectures=arm64",
           "-o", f"Dir::State::lists={state}/lists", "-o", f"Dir::State::status={state}/status",
           "-o", f"Dir::Cache={state}/cache", "-o", "APT::Sandbox::User=root"]
    run(*apt, "update")
    run(*apt, "download", *ARM_PACKAGES, cwd=state / "debs")
    for package in (state / "debs").glob("*.deb"):
        run("dpkg-deb", "-x", package, folder)
    return folder


def run_on_arm(wheel: Path, work: Path, expected_m: np.ndarray) -> str:
    """Runs the wheel of Python 3.11 for ARM under qemu, beside numpy's wheel for ARM."""
    system, site = arm_system(work / "arm"), work / "site"
    shutil.rmtree(site, ignore_errors=True)
    tags = [f"--platform={tag}_aarch64" for tag in ("manylinux2014", *(f"manylinux_2_{n}" for n in (17, 27, 28)))]
    run(sys.executable, "-m", "pip", "install", "-q", "--target", site, "--only-binary", ":all:", "--python-version",
        "3.11", *tags, wheel)
    said = run("qemu-aarch64", "-cpu", "max", "-L", system, "-E", f"PYTHONHOME={system}/usr",
               "-E", f"PYTHONPATH={site}", system / "usr/bin/python3.11", "-c", PROGRAM, work / "arm.npy", cwd=work)
    return f"{said.splitlines()[0]}, {difference_m(np.load(work / 'arm.npy'), expected_m):.1e} m apart"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("dist"), help="folder of the wheels")
    parser.add_argument("--work", type=Path, default=Path("build/wheels"), help="folder of objects and environments")
    parser.add_argument("--platforms", nargs="+", choices=PLATFORMS, default=list(PLATFORMS), metavar="TAG",
                        help=f"of {', '.join(PLATFORMS)}; default: all")
    parser.add_argument("--pythons", nargs="+", choices=PYTHONS, default=list(PYTHONS), help="default: all")


def main(arguments: argparse.Namespace) -> None:
    """Builds, checks and runs; a line for each wheel. Raises RuntimeError at the first that fails."""
    out, work = arguments.out.absolute(), arguments.work.absolute()
    for folder in (out, work):
        folder.mkdir(parents=True, exist_ok=True)
    pythons = {version: interpreter(version) for version in arguments.pythons}
    if missing := [version for version, python in pythons.items() if python is None]:
        raise RuntimeError(f"there is no Python {', '.join(missing)} here; --pythons leaves it out")
    builders = {version: environment(python, work / f"builder-{version}", *build_requirements())
                for version, python in pythons.items()}
    expected_m = np.stack([pose.joints_m for pose in stream_clip(load(ENGINE), load_clip(CLIP))[0]])
    data = [build_data(name, next(iter(builders.values())), work, out) for name in DATA]
    for wheel in data:
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB", flush=True)
    for target in (PLATFORMS[tag] for tag in arguments.platforms):
        for version, python in pythons.items():
            wheel = build(target, version, builders[version], work, out)
            print(f"{wheel.name}: {check(wheel, target)}", flush=True)
            if "musl" in target.tag:
                print("  not run: there is no Python of musl here")
            elif target.processor == platform.machine():
                print(f"  run: {install_and_run([wheel, *data], python, work, expected_m)}", flush=True)
            elif version == "3.11" and target.processor == "aarch64" and shutil.which("qemu-aarch64"):
                print(f"  run by qemu: {run_on_arm(wheel, work, expected_m)}", flush=True)
            else:
                print("  not run: Debian's Python for ARM is 3.11")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m build_engines.wheels", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    try:
        main(parser.parse_args())
    except RuntimeError as error:
        sys.exit(str(error))
