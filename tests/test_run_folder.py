import multiprocessing

import pytest
from run_folder import built_once, run_folder


def fill(folder):
    (folder / "file").write_text("built")
    with open(run_folder() / "builds", "a") as builds:
        builds.write("x")


def ask(_):
    return (built_once("shared", fill) / "file").read_text()


@pytest.fixture
def own_run(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEPOSE_TEST_RUN", str(tmp_path))
    return tmp_path


def test_many_processes_build_once(own_run):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert pool.map(ask, range(8)) == ["built"] * 8
    assert (own_run / "builds").read_text() == "x"


def test_a_build_that_failed_is_tried_again(own_run):
    def fail(folder):
        (folder / "half").touch()
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        built_once("shared", fail)
    folder = built_once("shared", fill)
    assert [path.name for path in folder.iterdir()] == ["file"]
