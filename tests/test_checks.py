import math
import re
import sys

import numpy as np
import pytest

from edgepose import checks


@pytest.mark.parametrize("value, limits",
                         [(3, dict(whole=True)), (np.int64(0), dict(at_least=0, whole=True)),
                          (0.5, dict(at_least=0, at_most=1)),
                          (np.float32(1), dict(at_least=0, at_most=1)), (math.inf, dict(at_least=0, at_most=math.inf))])
def test_a_number_in_its_range_passes_as_it_is(value, limits):
    assert checks.checked_number("n", value, **limits) is value


@pytest.mark.parametrize("value, limits, error, message", [
    ("x", dict(at_least=0), TypeError, "n is 'x'; wanted a number, 0 or more"),
    (None, {}, TypeError, "n is None; wanted a number"), (True, {}, TypeError, "n is True"),
    (1.5, dict(at_least=1, whole=True), TypeError, "n is 1.5; wanted a whole number, 1 or more"),
    (-1, dict(at_least=0), ValueError, "n is -1; wanted 0 or more"),
    (7, dict(at_least=0, at_most=1), ValueError, "n is 7; wanted a number from 0 to 1"),
    (0.0, dict(above=0), ValueError, "n is 0.0; wanted a number above 0"),
    (7, dict(above=0, at_most=1), ValueError, "n is 7; wanted a number above 0, at most 1"),
    (math.nan, {}, ValueError, "n is nan; wanted a number"), (math.nan, dict(above=0), ValueError, "n is nan"),
    (math.inf, dict(above=0), ValueError, "n is inf"), (-math.inf, {}, ValueError, "n is -inf")])
def test_another_is_refused_with_what_was_wanted(value, limits, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        checks.checked_number("n", value, **limits)


def test_a_long_list_is_cut_and_counted():
    assert checks.listed("abcde") == "a, b, c, d, e" and checks.listed([]) == ""
    assert checks.listed(range(1000), "; ") == "0; 1; 2; 3; 4; and 995 more"


def test_of_a_long_complaint_the_first_line_is_passed_on():
    assert checks.first_line(ValueError("short\nand a\nlong story")) == "short"
    assert checks.first_line(KeyError()) == "KeyError"
    assert checks.first_line(ValueError("x" * 5000)) == "x" * 160 + " ..."


def test_a_misspelt_name_is_answered_with_the_nearest():
    assert checks.near("left_rist", ("left_wrist", "nose")) == "; did you mean left_wrist?"
    assert checks.near("tail", ("left_wrist", "nose")) == "" and checks.near(7, ("nose",)) == ""


def test_a_result_that_cannot_be_written_is_noticed(tmp_path):
    checks.check_output(None, (".json",))
    checks.check_output(tmp_path / "a.json", (".json",))
    (tmp_path / "b.json").mkdir()
    for path, message in ((tmp_path / "a.txt", "wanted a name that ends in .json"),
                          (tmp_path / "no" / "a.json", "there is no folder .*no$"),
                          (tmp_path / "b.json", "is a folder")):
        with pytest.raises(ValueError, match=message):
            checks.check_output(str(path), (".json",))


@pytest.mark.parametrize("module", checks.LIBRARIES)
def test_a_missing_library_is_named_with_its_extra_and_not_imported(module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    extras = "plot|video|live|data|peers|ray|gpu|c3d|serve|torch-tensorrt"
    with pytest.raises(
            ImportError, match=rf"that needs [\w-]+, which is not installed: pip install 'edgepose\[({extras})\]'"):
        checks.need_library(module, "that")


@pytest.mark.parametrize("name, module, wanted", [
    ("a.png", "matplotlib", r"matplotlib.*\[plot\]"), ("a.gif", "PIL", r"Pillow.*\[plot\]"),
    ("a.mp4", "av", r"PyAV.*\[plot\]"), ("a.rrd", "rerun", r"rerun.*\[live\]"), ("a.c3d", "ezc3d", r"ezc3d.*\[c3d\]")])
def test_a_result_without_the_library_that_writes_it_is_noticed(tmp_path, monkeypatch, name, module, wanted):
    suffixes = (name[1:],)
    checks.check_output(tmp_path / name, suffixes)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"writing .*{name} needs {wanted}"):
        checks.check_output(tmp_path / name, suffixes)
