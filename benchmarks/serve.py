"""edgepose serve under load: clients at a camera's rate, and the time from each frame's departure to its poses.

    python -m edgepose.benchmarks.serve --engine martinez-s --people 200

The server is a process of its own on one processor, the clients are another one on the other processors. On a machine
whose processors have other work the figures are that work's too: repeat, and say so.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from edgepose.clip import load_clip
from edgepose.serve.messages import POSES, POSES_HEAD, Frame, frame_bytes
from edgepose.timing import percentiles

CLIP = "balance_cam1"
WARM_UP_S = 2.0
APART = 1.2  # pictures' widths between the people of a frame
COMMAND = (sys.executable, "-m", "edgepose", "serve", "--port", "0")


@contextmanager
def running(arguments: argparse.Namespace, people: int) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """(the address of the messages, the process) of a server on the first processor that this process may use."""
    first, *others = sorted(os.sched_getaffinity(0))
    command = [*COMMAND, "--engine", arguments.engine, "--most-people", str(people), "--most-clients", "100"]
    if arguments.deadline:
        command += ["--deadline", str(arguments.deadline)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True,
                               preexec_fn=lambda: os.sched_setaffinity(0, {first}))
    try:
        line = process.stdout.readline()
        if not line:
            raise OSError("the server did not start")
        if others:
            os.sched_setaffinity(0, others)
        yield line.split()[2].replace("http", "ws", 1) + "ws", process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=20)


def everybody(people: int) -> tuple[list[list[np.ndarray]], tuple[float, float]]:
    """(each frame's people, the picture's size): one clip, over and over, to and fro, with people beside each other."""
    clip = load_clip(CLIP)
    keypoints = np.concatenate([clip.keypoints_px, clip.keypoints_px[-2:0:-1]]).astype(np.float32)
    width, height = clip.image_size
    places = [np.array([APART * width * i, 0, 0], np.float32) for i in range(people)]
    return [[frame + place for place in places] for frame in keypoints], (APART * width * people, height)


async def client(address: str, people: int, hz: float, seconds: float, latencies_ms: list[float]) -> tuple[int, int]:
    """(frames sent, answers) of one client that sends at a rate; the latency of each answer after the warm-up."""
    import json

    from websockets.asyncio.client import connect

    frames, image_size = everybody(people)
    sent: dict[int, float] = {}
    answers = 0

    async def read() -> None:
        nonlocal answers
        async for message in connection:
            now = time.perf_counter()
            if isinstance(message, bytes) and message[0] == POSES:
                number = POSES_HEAD.unpack_from(message)[4]
                answers += 1
                if sent[number] - start > WARM_UP_S:
                    latencies_ms.append(1e3 * (now - sent[number]))

    async with connect(address, compression=None, max_queue=None) as connection:
        await connection.send(json.dumps({"type": "open", "layout": "coco17", "image_size": image_size,
                                          "form": "binary"}))
        reading = asyncio.create_task(read())
        await asyncio.sleep(random.random() / hz)
        start = due = time.perf_counter()
        number = 0
        while due < start + seconds + WARM_UP_S:
            frame = Frame(number, number / hz, np.stack(frames[number % len(frames)]))
            sent[number] = time.perf_counter()
            await connection.send(frame_bytes(frame))
            number, due = number + 1, due + 1 / hz
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await asyncio.sleep(0.5)
        reading.cancel()
    return number, answers


def cpu_seconds(process: subprocess.Popen[str]) -> float:
    """The processor time of a process so far."""
    fields = open(f"/proc/{process.pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(arguments: argparse.Namespace, address: str, process: subprocess.Popen[str]) -> None:
    """Runs the load and prints a line of figures."""
    shares = [len(part) for part in np.array_split(np.arange(arguments.people), arguments.clients)]
    latencies_ms: list[float] = []
    start_s, cpu_s = time.perf_counter(), cpu_seconds(process)
    counts = await asyncio.gather(*(client(address, people, arguments.hz, arguments.seconds, latencies_ms)
                                    for people in shares))
    used_s, lasted_s = cpu_seconds(process) - cpu_s, time.perf_counter() - start_s
    sent, answers = (sum(column) for column in zip(*counts))
    figures = percentiles(np.array(latencies_ms))
    print(f"{arguments.engine}: {arguments.people} people, {arguments.clients} clients at {arguments.hz:g} Hz: "
          f"median {figures['median_ms']:.1f} ms, "
          f"p99 {figures['p99_ms']:.1f} ms, most {max(latencies_ms):.1f} ms; {answers} of {sent} frames answered; the "
          f"server used {used_s / lasted_s:.0%} of a processor, {1e3 * used_s / max(answers, 1):.2f} ms for each "
          "answer", flush=True)


def main(argv: list[str] | None = None) -> int:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="martinez-s")
    parser.add_argument("--people", type=int, default=200, help="of all clients together (default 200)")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--hz", type=float, default=30.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--deadline", type=float, metavar="MS")
    arguments = parser.parse_args(argv)
    with running(arguments, -(-arguments.people // arguments.clients)) as (address, process):
        asyncio.run(measure(arguments, address, process))
    return 0


if __name__ == "__main__":
    sys.exit(main())
