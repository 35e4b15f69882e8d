"""Many jobs, each done whole by one worker: processes of this machine, or actors of Ray. A worker that dies loses its
job, not the rest."""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any, Protocol

from .checks import first_line, need_library

STOP_S = 5.0  # after this a worker that was asked to end is killed
CONNECT_S = 10.0  # the longest wait for a cluster to answer
OBJECT_STORE_BYTES = 80 << 20  # near the least that Ray takes: jobs and answers are small, recordings go through files

Work = Callable[[], Callable[[Any], Any]]  # called once in a worker; what it gives is called with each job


@dataclass(frozen=True)
class Lost:
    """The answer to a job whose worker died. reason: the way in which it died."""

    reason: str


class Workers(Protocol):
    """At most `size` workers. A worker is any key that can be hashed."""

    size: int

    def start(self) -> Any: ...
    def give(self, worker: Any, job: Any) -> None: ...
    def answers(self, busy: Collection[Any]) -> Iterable[tuple[Any, Any]]:
        """Waits for one of the busy workers: (worker, its answer, or Lost and the worker is no more)."""
    def dismiss(self, worker: Any) -> None: ...
    def close(self) -> None:
        """Ends all workers, also those at work."""


def hand_out(jobs: Iterable[Any], workers: Workers) -> Iterator[tuple[Any, Any]]:
    """Each job with its answer, or Lost, as they come; the jobs are begun in their order. All workers are closed at the
    end, whatever ends it."""
    waiting, busy = deque(jobs), {}
    try:
        while waiting or busy:
            while waiting and len(busy) < workers.size:
                worker = workers.start()
                busy[worker] = waiting.popleft()
                workers.give(worker, busy[worker])
            for worker, answer in workers.answers(list(busy)):
                job = busy.pop(worker)
                if not isinstance(answer, Lost):
                    if waiting:
                        busy[worker] = waiting.popleft()
                        workers.give(worker, busy[worker])
                    else:
                        workers.dismiss(worker)
                yield job, answer
    finally:
        workers.close()


class Processes:
    """Workers that are processes of this machine. Spawned, not forked: an engine's threads and memory do not cross a
    fork."""

    def __init__(self, work: Work, size: int) -> None:
        self.size, self._work = size, work
        self._context = multiprocessing.get_context("spawn")
        self._processes: dict[multiprocessing.connection.Connection, Any] = {}

    def start(self) -> multiprocessing.connection.Connection:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._work), daemon=True)
        resource_tracker.ensure_running()  # else it is started below, and lifts the block
        # Ctrl-C reaches every process of the terminal: a worker is born deaf to it, and ended by close().
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
            self._processes[ours] = process
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous)
        theirs.close()  # so that the end of the worker is the end of the connection
        return ours

    def give(self, worker: multiprocessing.connection.Connection, job: Any) -> None:
        try:
            worker.send(job)
        except OSError:
            pass  # it has died; answers() says so

    def answers(self, busy: Collection[multiprocessing.connection.Connection]) -> Iterator[tuple[Any, Any]]:
        for worker in multiprocessing.connection.wait(busy):
            try:
                answer = worker.recv()
            except (EOFError, OSError):
                process = self._processes.pop(worker)
                process.join()
                worker.close()
                answer = Lost(_end_of(process.exitcode))
            yield worker, answer

    def dismiss(self, worker: multiprocessing.connection.Connection) -> None:
        worker.close()
        self._processes.pop(worker).join()

    def close(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for worker, process in self._processes.items():
            process.join(STOP_S)
            process.kill()
            process.join()
            worker.close()
        self._processes.clear()


def _serve(connection: multiprocessing.connection.Connection, work: Work) -> None:
    """A worker process: does jobs until the connection ends, as it does with the parent."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # an exception, so that files half written are removed
    do = work()
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            return
        answer = do(job)
        try:
            connection.send(answer)
        except OSError:
            return


def _end_of(exitcode: int) -> str:
    if exitcode >= 0:
        return f"ended with exit status {exitcode}"
    name = signal.Signals(-exitcode).name
    return f"was killed by {name}" + (", as where memory runs out" if name == "SIGKILL" else "")


class RayActors:
    """Workers that are actors of Ray, one processor each.

    address: of a cluster as ray.init takes it, whose nodes have edgepose and see the same files; "local" starts Ray on
    this machine, and close() ends it. size: None for the processors of the cluster.
    Raises ImportError, naming the extra, if Ray is not installed, ConnectionError if there is no cluster, or it does
    not let us in.
    """

    def __init__(self, work: Work, size: int | None, address: str = "local") -> None:
        need_library("ray", "--ray")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a Ray that we start reports to nobody
        import ray

        self._ray = ray
        _check_reachable(address)
        local = ({"num_cpus": size, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
                 if address == "local" else {})
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
        except (OSError, RuntimeError, ray.exceptions.RayError) as error:
            raise ConnectionError(f"no Ray at {address}: {first_line(error)}") from error
        self.size = size or max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._work, self._actors, self._answers = work, set(), {}  # _answers: a job's answer to come -> its actor

    def start(self) -> Any:
        actor = self._ray.remote(_Actor).options(num_cpus=1).remote(self._work)
        self._actors.add(actor)
        return actor

    def give(self, worker: Any, job: Any) -> None:
        self._answers[worker.do.remote(job)] = worker

    def answers(self, busy: Collection[Any]) -> Iterator[tuple[Any, Any]]:
        ready, _ = self._ray.wait(list(self._answers), num_returns=1)
        for reference in ready:
            worker = self._answers.pop(reference)
            try:
                answer = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError as error:
                self.dismiss(worker)
                answer = Lost(f"ended with {type(error.cause).__name__}: {first_line(error.cause)}")
            except self._ray.exceptions.RayError as error:
                self.dismiss(worker)
                answer = Lost(f"ended: {first_line(error)}")
            yield worker, answer

    def dismiss(self, worker: Any) -> None:
        self._actors.discard(worker)
        self._ray.kill(worker)

    def close(self) -> None:
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors.clear()
        self._ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raises ConnectionError, naming it, if nobody answers at host:port or ray://host:port: Ray itself would try for
    minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdecimal():
        return  # a name of Ray's, as "auto"
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise ConnectionError(f"no Ray at {address}: {first_line(error)}") from error


class _Actor:
    def __init__(self, work: Work) -> None:
        self._do = work()

    def do(self, job: Any) -> Any:
        return self._do(job)
