import os
import re
import resource
import signal
import subprocess
import sys
import threading
from multiprocessing import active_children

import pytest
from archives import contents, lift, recorded
from people import person_of
from test_workers import until

import edgepose
from edgepose.commands import lift as lift_command
from edgepose.workers import Lost

pytestmark = pytest.mark.slow


def writer_to(fifo):
    """A named pipe opened for its reader, who then waits for ever; None as long as it has no reader."""
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


def test_a_worker_that_is_killed_at_work_is_reported_and_the_work_goes_on(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    os.mkfifo(tmp_path / "in/a.npz")  # its reader waits for ever
    (tmp_path / "in/b.npz").touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/.a.npz.part").touch()  # left by a worker that was killed while it wrote

    def kill():
        writer = until(lambda: writer_to(tmp_path / "in/a.npz"))
        os.kill(active_children()[0].pid, signal.SIGKILL)
        os.close(writer)

    killer = threading.Thread(target=kill)
    killer.start()
    assert lift("--input", tmp_path / "in", "--output", tmp_path / "out", "--processes", 1) == 1
    killer.join()
    listed = capsys.readouterr().err
    assert "in/a.npz: its worker was killed by SIGKILL" in listed and "in/b.npz is no .npz file" in listed
    assert contents(tmp_path / "out") == {} and not active_children()


def command_of(*arguments):
    return [sys.executable, "-m", "edgepose", "lift", *map(str, arguments)]


@pytest.mark.parametrize("stop", [lambda pid: os.killpg(pid, signal.SIGINT), lambda pid: os.kill(pid, signal.SIGTERM)],
                         ids=["ctrl-c", "SIGTERM"])
def test_ctrl_c_or_sigterm_stops_the_workers_and_says_how_to_go_on(recordings, tmp_path, capsys, stop):
    os.mkfifo(recordings / "stuck.npz")
    command = ["--input", recordings, "--output", tmp_path / "out", "--processes", 2]
    # A job in the background ignores SIGINT.
    running = subprocess.Popen(command_of(*command), start_new_session=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    until(lambda: len(list((tmp_path / "out").rglob("[!.]*.npz"))) == 3)
    stop(running.pid)
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 130
    counts = r"[23] of 4 lifted, [23]00 frames -> [23]00 poses, \d+ frames/s"
    assert re.fullmatch(rf"edgepose lift: interrupted: {counts}. The same command goes on from there\n", errors)
    until(lambda: not is_there(running.pid))
    (recordings / "stuck.npz").unlink()
    assert lift(*command) == 0 and "3 recordings, 3 finished before" in capsys.readouterr().out


def is_there(group):
    try:
        os.killpg(group, 0)
        return True
    except ProcessLookupError:
        return False


def test_a_disk_that_takes_no_result_ends_the_work_with_its_reason(recordings, tmp_path):
    process = subprocess.run(command_of("--input", recordings, "--output", tmp_path / "out", "--processes", 1),
                             capture_output=True, text=True,
                             preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)))
    assert process.returncode == 1 and "Traceback" not in process.stderr
    assert re.search(r"cannot write \d+ bytes to .*out/.*.npz: File too large. Stopped: 0 of 3 lifted.* "
                     r"The same command goes on", process.stderr)
    assert contents(tmp_path / "out") == {}


def test_an_output_that_cannot_be_a_folder_is_noticed_before_any_work(recordings, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(lift_command, "Processes", lambda *_: pytest.fail("workers were started"))
    assert lift("--input", recordings, "--output", tmp_path / "file/out") == 1
    assert f"cannot write to {tmp_path}/file/out: Not a directory" in capsys.readouterr().err
    assert lift("--input", recordings, "--output", tmp_path / "file") == 1
    output, error = capsys.readouterr()
    assert output == "" and f"cannot write to {tmp_path}/file: File exists" in error


class Here:
    """One worker that does the jobs in this process and loses those of one name."""

    size = 1

    def __init__(self, work, lost=""):
        self.do, self.lost, self.done = work(), lost, []

    def start(self):
        return "me"

    def give(self, worker, job):
        self.done.append(job)

    def answers(self, busy):
        job = self.done[-1]
        yield "me", Lost("fell") if job.name == self.lost else self.do(job)

    def dismiss(self, worker):
        pass

    def close(self):
        pass


def test_the_largest_recordings_are_begun_first_and_progress_counts_them(tmp_path, capsys, monkeypatch):
    for frames, name in ((10, "a"), (40, "b"), (20, "c"), (40, "d")):
        recorded(tmp_path / f"in/{name}.npz", person_of("coco17", frames))
    jobs = lift_command.find_recordings([str(tmp_path / "in")], tmp_path / "out")
    options = lift_command.Options("martinez-s", 0)
    made_by = lift_command.made_with(edgepose.load("martinez-s"), options)
    workers = Here(lambda: lift_command.Lifting(options, made_by), lost="c.npz")
    monkeypatch.setattr(lift_command, "PROGRESS_S", 0.0)
    progress = lift_command.lift_archive(jobs, workers)
    assert [job.name for job in workers.done] == ["b.npz", "d.npz", "c.npz", "a.npz"]
    assert (progress.lifted, progress.frames, progress.poses) == (3, 90, 90)
    assert progress.failed == [f"{tmp_path}/in/c.npz: its worker fell"]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and "2 of 4 lifted, 80 frames -> 80 poses" in lines[2] and "1 failed; about" in lines[2]


def test_a_worker_with_another_engine_does_no_work(recordings, tmp_path):
    options = lift_command.Options("martinez-s", 0)
    made_by = lift_command.made_with(edgepose.load("ampose"), options)
    jobs = lift_command.find_recordings([str(recordings)], tmp_path / "out")
    with pytest.raises(
            OSError, match="martinez-s_fp16.epose, or edgepose, is another one here .* Stopped: 0 of 3 lifted"):
        lift_command.lift_archive(jobs, Here(lambda: lift_command.Lifting(options, made_by)))
