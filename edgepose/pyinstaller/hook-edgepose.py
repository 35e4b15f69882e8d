"""The parts of edgepose that a program needs beside the modules that PyInstaller sees imported: weights and clips, the
version, backends and commands."""

from importlib.util import find_spec

from PyInstaller.utils.hooks import collect_data_files, collect_submodules, copy_metadata

datas = collect_data_files("edgepose", includes=["weights/*", "clips/*"]) + copy_metadata("edgepose")
for package in ("edgepose_weights", "edgepose_checkpoints"):  # wheels that hold the rest of what ships
    datas += collect_data_files(package) if find_spec(package) else []
hiddenimports = ["edgepose._native", *collect_submodules("edgepose.backends"), *collect_submodules("edgepose.commands")]
