"""Plain words and lines to 120 columns, as CONTRIBUTING asks for."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("edgepose", "build_engines", "benchmarks", "csrc", "docs", "examples", "tests")
FILES = {path.relative_to(ROOT).as_posix(): path
         for path in [ROOT / "setup.py", *sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))]}
C_FILES = [path for folder in ("csrc", "tests") for ending in ("h", "hpp", "cuh", "inl", "c", "cpp", "cu")
           for path in sorted((ROOT / folder).rglob(f"*.{ending}"))]
RIDDLE = re.compile(r"(How|What|Whether|That)\b")  # a docstring begins with a noun or an imperative
WIDEST = 120


def faults(path: Path) -> list[str]:
    """The lines of a file that break the rules, each with its reason."""
    text = path.read_text()
    found = [f"line {number} has {len(line)} columns" for number, line in enumerate(text.splitlines(), 1)
             if len(line) > WIDEST]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node,
                      (ast.Module, ast.ClassDef, ast.FunctionDef)) and RIDDLE.match(ast.get_docstring(node) or ""):
            found.append(f"the docstring of {getattr(node, 'name', 'the module')} begins with "
                         f"\"{ast.get_docstring(node)[:20]}\"")
    return found


@pytest.mark.parametrize("name", FILES)
def test_docstrings_begin_plainly_and_lines_end_at_120_columns(name):
    assert not faults(FILES[name])


@pytest.mark.parametrize("path", C_FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_lines_of_c_end_at_120_columns(path):
    lines = path.read_text().splitlines()
    assert not [f"line {number}" for number, line in enumerate(lines, 1) if len(line) > WIDEST]


@pytest.mark.parametrize("text, fault", [
    ('"""What it is."""\n', "begins with"), ('def f():\n    """Whether it is."""\n', "docstring of f begins"),
    (f'x = "{"a" * 120}"\n', "line 1 has 126 columns"), ('"""A whatnot. How it goes is said later."""\n', ""),
])
def test_what_breaks_a_rule_is_found(tmp_path, text, fault):
    (tmp_path / "module.py").write_text(text)
    found = faults(tmp_path / "module.py")
    assert len(found) == bool(fault) and all(fault in line for line in found)
