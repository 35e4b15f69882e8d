"""A folder that all processes of a test run share, and what one of them builds there for the others."""

import atexit
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

VARIABLE = "EDGEPOSE_TEST_RUN"  # the processes that pytest-xdist starts inherit it


def run_folder():
    """The folder, removed when the process that made it ends."""
    if VARIABLE not in os.environ:
        os.environ[VARIABLE] = tempfile.mkdtemp(prefix="edgepose-tests-")
        atexit.register(shutil.rmtree, os.environ[VARIABLE], ignore_errors=True)
    return Path(os.environ[VARIABLE])


def new_folder():
    """An empty folder that lasts as long as the run."""
    return Path(tempfile.mkdtemp(dir=run_folder()))


def built_once(name, build):
    """The folder `name` of the run, filled by build(folder) in the first process that asks; the others wait."""
    folder, finished = run_folder() / name, run_folder() / f"{name}.finished"
    with open(run_folder() / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what a failed build left
            folder.mkdir()
            build(folder)
            finished.touch()
    return folder
