"""Imports: who may import whom, and a runtime that needs nothing of what builds and trains."""

import ast
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from models import engine_header, tiny_lifter, write_engine

import edgepose
from edgepose import enginefile

PACKAGE = Path(edgepose.__file__).parent
TREES = {"edgepose": PACKAGE, "edgepose.build_engines": PACKAGE.parent / "build_engines",
         "edgepose.benchmarks": PACKAGE.parent / "benchmarks"}

# All that builds, trains and measures may import these; cli for its reporting().
SHARED = {"adapters", "checks", "cli", "clip", "columns", "edgepose", "engine", "enginefile", "filters", "gpu",
          "metrics", "people", "shipped", "skeleton", "stream", "timing", "zoo"}
MAY_IMPORT = {  # a module or package of edgepose -> the ones it may import, all from lines above its own
    "checks": set(), "columns": {"checks"}, "machine": set(), "npz": set(), "onnxfile": set(), "pyinstaller": set(),
    "metrics": set(), "shipped": set(), "skeleton": set(),
    "adapters": {"checks", "skeleton", "_native"}, "camera": {"checks", "skeleton", "_native"},
    "filters": {"checks", "_native"},
    "workers": {"checks"},
    "timing": {"machine", "_native"},  # _native: the probes of the rooflines
    "enginefile": {"columns", "skeleton", "_native"},
    "gpu": {"checks", "enginefile", "_cuda"},
    "backends": {"enginefile", "gpu", "onnxfile", "_cuda", "_native"},
    "engine": {"backends", "checks", "columns", "enginefile", "shipped", "skeleton"},
    "stream": {"adapters", "camera", "checks", "columns", "engine", "filters", "skeleton", "_native"},
    "people": {"adapters", "checks", "skeleton", "stream", "_native"},
    "axes": {"checks", "skeleton", "stream", "_native"}, "kinematics": {"skeleton", "stream", "_native"},
    "files": {"adapters", "checks", "kinematics", "npz", "skeleton"},
    "clip": {"adapters", "camera", "checks", "files", "filters", "npz", "people", "shipped", "skeleton", "stream"},
    "pictures": {"adapters", "camera", "checks", "shipped", "skeleton"},
    "show": {"camera", "checks", "clip", "skeleton", "stream"},
    "serve": {"adapters", "camera", "checks", "clip", "engine", "people", "pictures", "stream"},
    "edgepose": {"_native", "adapters", "axes", "columns", "engine", "enginefile", "filters", "kinematics", "people",
                 "pictures", "skeleton", "stream"},  # the public names
    "commands": {"adapters", "camera", "checks", "clip", "columns", "engine", "enginefile", "files", "filters", "gpu",
                 "kinematics", "machine", "metrics", "npz", "people", "pictures", "serve", "shipped", "show",
                 "skeleton", "stream", "workers", "_cuda", "_native"},
    "cli": {"checks", "enginefile"},  # a command's module by its name, when it is called
    "__main__": {"cli"},
    "zoo": {"checks", "columns", "enginefile", "shipped", "skeleton"},
    "training": SHARED | {"camera", "machine", "npz", "pictures", "show"},
    # training: for publish; _native: for the losses of a quantisation.
    "build_engines": SHARED | {"onnxfile", "pictures", "training", "_native"},
    "benchmarks": SHARED | {"build_engines", "kinematics", "serve", "training", "_cuda", "_native"},
}
BUILDERS = ("zoo", "training", "build_engines", "benchmarks")
HEAVY = {"torch", "onnx", "onnxruntime", "openvino", "rich", "matplotlib", "tensorrt", "pycuda", "torch_tensorrt",
         "safetensors", "scipy", "cv2", "ezc3d", "h5py", "mediapipe", "rtmlib", "PIL", "av", "rerun", "ncnn", "pnnx",
         "executorch", "ray", "websockets", "prometheus_client"}


def modules():
    for name, folder in TREES.items():
        for path in sorted(folder.rglob("*.py")):
            inside = path.relative_to(folder).with_suffix("").parts
            dotted = (*name.split("."), *inside)
            if name == "edgepose" and inside[0] in ("build_engines", "benchmarks"):
                continue
            yield ".".join(dotted), path


MODULES = dict(modules())


def part(dotted):
    """The line of MAY_IMPORT that a module belongs to: "edgepose.zoo.layers" -> "zoo"."""
    names = [name for name in dotted.split(".")[1:] if name != "__init__"]
    return names[0] if names else "edgepose"


def imports(dotted, path, only_at_load=False, with_types=False):
    """Absolute dotted names of a module's imports; only_at_load leaves out those inside functions, with_types includes
    those that only annotations need."""
    waiting = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if only_at_load and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        is_for_types = isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        if is_for_types and not with_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            base = dotted.split(".")[:-node.level] if node.level else []
            base += node.module.split(".") if node.module else []
            for alias in node.names:
                name = ".".join([*base, alias.name])
                # `from edgepose import zoo` names a module, `from edgepose import Engine` a name in one.
                is_module = base[0] == "edgepose" and (name in MODULES or f"{name}.__init__" in MODULES
                                                       or alias.name in ("_native", "_cuda"))
                yield name if is_module else ".".join(base)
        waiting.extend(ast.iter_child_nodes(node))


@pytest.mark.parametrize("dotted", MODULES)
def test_a_module_imports_only_what_lies_below_it(dotted):
    here = part(dotted)
    assert here in MAY_IMPORT, f"{dotted} has no line in MAY_IMPORT, nor in the house style's \"who may import whom\""
    allowed = MAY_IMPORT[here]
    for name in imports(dotted, MODULES[dotted]):
        if name.split(".")[0] == "edgepose":
            assert part(name) == here or part(name) in allowed, (
                f"{dotted} imports {name}; {here} may import {', '.join(sorted(allowed)) or 'nothing'}")


def test_the_table_reads_downwards():
    above = {"_native", "_cuda"}
    for here, allowed in MAY_IMPORT.items():
        assert allowed <= above, f"{here} may import {', '.join(sorted(allowed - above))}, of a later line or of none"
        above.add(here)


def test_no_modules_import_each_other_in_a_circle_not_even_when_called_or_for_types():
    graph = {}
    for dotted, path in MODULES.items():
        found = {name if name in MODULES else f"{name}.__init__" for name in imports(dotted, path, with_types=True)}
        graph[dotted] = found & MODULES.keys() - {dotted}
    list(TopologicalSorter(graph).static_order())  # raises CycleError with the circle


@pytest.mark.parametrize("dotted", [name for name in MODULES if part(name) not in BUILDERS])
def test_no_module_of_the_runtime_imports_a_heavy_library_when_it_is_loaded(dotted):
    loaded = {name.split(".")[0] for name in imports(dotted, MODULES[dotted], only_at_load=True)}
    assert not loaded & HEAVY
    foreign = loaded - set(sys.stdlib_module_names) - {"edgepose", "numpy"}
    assert foreign <= {"pyinstaller": {"PyInstaller"}}.get(part(dotted), set())


@pytest.mark.parametrize("dotted", [name for name in MODULES if part(name) not in BUILDERS])
def test_no_module_of_the_runtime_loads_the_models_or_the_builder(dotted):
    assert not {part(name) for name in imports(dotted, MODULES[dotted], only_at_load=True)
                if name.startswith("edgepose.")} & set(BUILDERS)


@pytest.mark.parametrize("dotted", [name for name in MODULES if part(name) == "backends"])
def test_a_backend_imports_its_library_in_its_constructor_and_nowhere_else(dotted):
    tree = ast.parse(MODULES[dotted].read_text())
    places = {}  # library -> the functions that import it
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                for alias in getattr(node, "names", []) if isinstance(node, (ast.Import, ast.ImportFrom)) else []:
                    places.setdefault(alias.name, set()).add(function.name)
    assert all(where == {"__init__"} for where in places.values())
    if part(dotted) != dotted.split(".")[-2]:
        assert places, f"{dotted} is a backend of nothing"


WITHOUT = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocked())
try:
    import torch
except ImportError:
    pass
else:
    raise SystemExit("torch was not blocked")

import numpy as np
import edgepose
from edgepose import Stream

engine = edgepose.load(sys.argv[1])
stream = Stream(engine, layout="coco17", image_size=(1920, 1080))
keypoints_px = np.random.default_rng(0).uniform(300, 700, (17, 3))
keypoints_px[:, 2] = 1
pose = stream.push(keypoints_px, 0.0)
assert pose.joints_m.shape == (17, 3) and np.isfinite(pose.joints_m).all() and pose.joints_m.any()
loaded = [name for name in sys.modules if name.split(".")[0] in {blocked!r} or name.split(".")[:2] in {builders!r}]
assert not loaded, loaded
print("a pose")
"""


def test_loading_and_streaming_need_no_torch_and_no_other_runtime(tmp_path):
    engine = write_engine(tmp_path / "tiny.epose", tiny_lifter())
    code = WITHOUT.format(blocked=sorted(HEAVY), builders=[["edgepose", name] for name in BUILDERS])
    path = os.pathsep.join([str(PACKAGE.parent), *sys.path])
    process = subprocess.run([sys.executable, "-c", code, str(engine)], capture_output=True, text=True, timeout=60,
                             env={**os.environ, "PYTHONPATH": path})
    assert (process.returncode, process.stdout) == (0, "a pose\n"), process.stderr


@pytest.mark.parametrize("backend, library", [("onnx", "onnxruntime"), ("torchscript", "torch")])
def test_a_backend_whose_library_is_missing_says_what_to_install(tmp_path, monkeypatch, backend, library):
    enginefile.write(tmp_path / "a.epose", {**engine_header(tiny_lifter()), "backend": backend}, {})
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(edgepose.EngineError, match=f"the {backend} backend needs {library}, which is "
                       "not installed .*edgepose compile --model tiny"):
        edgepose.load(tmp_path / "a.epose", trust=True)


def test_a_package_whose_compiled_part_is_missing_says_how_to_build_it():
    code = "import sys; sys.modules['edgepose._native'] = None; import edgepose"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert process.returncode == 1 and "edgepose's compiled part is not in" in process.stderr
    assert "pip install -e ." in process.stderr
