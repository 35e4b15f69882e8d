import os
import socket
import sys
import time
import types
from functools import partial
from pkgutil import resolve_name

import pytest

from edgepose.workers import CONNECT_S, Lost, Processes, RayActors, hand_out

WORK = partial(resolve_name, "builtins:eval")  # each job is an expression
PID = "__import__('os').getpid()"
KILL = f"__import__('os').kill({PID}, 9)"


class Here:
    """Three workers that answer at once; the last begins first."""

    size = 3

    def __init__(self):
        self.begun, self.at_work, self.started, self.dismissed, self.is_closed = [], {}, 0, [], False

    def start(self):
        self.started += 1
        return self.started

    def give(self, worker, job):
        self.begun.append(job)
        self.at_work[worker] = job
        assert len(self.at_work) <= self.size

    def answers(self, busy):
        assert set(busy) == set(self.at_work)
        worker, job = self.at_work.popitem()
        yield worker, Lost("fell") if job == "fatal" else job.upper()

    def dismiss(self, worker):
        self.dismissed.append(worker)

    def close(self):
        self.is_closed = True


def test_jobs_are_begun_in_their_order_and_answered_as_they_come():
    workers, jobs = Here(), list("abcdefg")
    answered = list(hand_out(jobs, workers))
    assert workers.begun == jobs and answered[0] == ("c", "C")
    assert sorted(answered) == [(job, job.upper()) for job in jobs]
    assert workers.started == 3 and sorted(workers.dismissed) == [1, 2, 3] and workers.is_closed


def test_there_are_no_more_workers_than_jobs():
    workers = Here()
    assert list(hand_out(["a"], workers)) == [("a", "A")] and workers.started == 1
    assert list(hand_out([], Here())) == []


def test_a_lost_worker_takes_its_job_along_and_another_is_started():
    workers = Here()
    answered = dict(hand_out(["a", "b", "fatal", "c", "d"], workers))
    assert answered == {"a": "A", "fatal": Lost("fell"), "b": "B", "c": "C", "d": "D"} and workers.started == 4
    assert len(workers.dismissed) == 3


def test_a_crew_is_closed_when_nobody_waits_for_the_answers():
    workers = Here()
    answers = hand_out(["a", "b"], workers)
    next(answers)
    answers.close()
    assert workers.is_closed


def test_a_process_that_is_killed_is_told_and_the_others_go_on():
    workers = Processes(WORK, 2)
    answers = dict(hand_out(["6 * 7", KILL, PID, "1 / 0", f"{PID} + 0"], workers))
    assert answers["6 * 7"] == 42 and answers[KILL] == Lost("was killed by SIGKILL, as where memory runs out")
    assert answers["1 / 0"] == Lost("ended with exit status 1")
    assert os.getpid() not in (answers[PID], answers[f"{PID} + 0"])


def test_ctrl_c_is_not_for_the_processes():
    interrupt = f"[__import__('os').kill({PID}, 2), __import__('time').sleep(0.01)]"
    answers = dict(hand_out([interrupt, interrupt + " + []"], Processes(WORK, 2)))
    assert list(answers.values()) == [[None, None]] * 2


def test_a_process_at_work_that_is_stopped_clears_up_and_is_gone(tmp_path):
    part = tmp_path / "a.part"
    job = f"""exec('''import time
try:
    open({str(part)!r}, "w").close()
    time.sleep(60)
finally:
    __import__("os").remove({str(part)!r})
''')"""
    workers = Processes(WORK, 2)
    answers = hand_out([PID, job], workers)
    pid = next(answers)[1]
    until(part.exists)
    start_s = time.monotonic()
    answers.close()
    assert not part.exists() and time.monotonic() - start_s < 4
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def until(is_so, seconds=120):
    """Wait until `something` is true and return it; fail if it never is."""
    end_s = time.monotonic() + seconds
    while not (it := is_so()):
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.01)
    return it


def test_ray_does_the_same_and_is_ended():
    ray = pytest.importorskip("ray", reason="needs Ray")
    workers = RayActors(WORK, 2)
    answers = dict(hand_out(["6 * 7", KILL, PID, "1 / 0"], workers))
    assert answers["6 * 7"] == 42 and answers[PID] != os.getpid()
    assert answers[KILL].reason.startswith("ended: The actor died")
    assert answers["1 / 0"] == Lost("ended with ZeroDivisionError: division by zero")
    assert not ray.is_initialized()


@pytest.mark.parametrize("form", ["{}:{}", "ray://{}:{}"])
def test_an_address_where_nobody_answers_is_named_at_once(form, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", types.SimpleNamespace(init=lambda **_: pytest.fail("Ray was asked")))
    with socket.socket() as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        address = form.format(*taken.getsockname())
        with pytest.raises(ConnectionError, match=f"no Ray at {address}: .*refused"):
            RayActors(WORK, 2, address)
    with pytest.raises(ConnectionError, match="no Ray at 127.0.0.1:70000: "):
        RayActors(WORK, 2, "127.0.0.1:70000")


def test_a_cluster_is_not_waited_for_longer_than_its_time(monkeypatch):
    asked = []
    monkeypatch.setitem(sys.modules, "ray", types.SimpleNamespace(init=lambda **_: pytest.fail("Ray was asked")))

    def silent(address, timeout):
        asked.append((address, timeout))
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", silent)
    with pytest.raises(ConnectionError, match="no Ray at ray://10.0.0.9:10001: timed out"):
        RayActors(WORK, 2, "ray://10.0.0.9:10001")
    assert asked == [(("10.0.0.9", 10001), CONNECT_S)] and CONNECT_S <= 30


def test_without_ray_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"--ray needs Ray, which is not installed: pip install 'edgepose\[ray\]'"):
        RayActors(WORK, 2)
