"""Builds edgepose._native, the CPU engine. What the package is and needs stands in pyproject.toml."""

from glob import glob

from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup

setup(ext_modules=[Pybind11Extension(
    "edgepose._native",
    sorted(glob("csrc/*.cpp")),
    depends=glob("csrc/*.h") + glob("csrc/*.inl"),
    cxx_std=17,
    # -fno-math-errno: sqrt is an instruction. -Wno-psabi: no vector crosses a function that is not inlined.
    extra_compile_args=["-O3", "-fno-math-errno", "-Wno-psabi", "-pthread"],
    extra_link_args=["-pthread"],
)])
