"""edgepose serve: keypoints or pictures in and poses out for other programs, and a page that shows them."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from ..checks import checked_number, need_library
from ..engine import Engine, load
from ..people import MOST_PEOPLE
from ..pictures.detector import DETECTORS, Detector, open_detector
from ..pictures.video import check_video, is_live
from ..serve.cameras import crowd_of, look, play
from ..serve.feeds import Limits
from ..serve.lines import serve_lines
from ..serve.metrics import Metrics
from ..serve.server import Server, is_loopback
from ..serve.service import Service

PORT = 8350
TOKEN_BYTES = 18
LEAST_TOKEN = 8  # characters
LEAST_MESSAGE, MOST_MESSAGE = 1 << 10, 1 << 28  # bytes
MOST_PORT = 65535
MOST_CLIENTS, MOST_WAITING = 1000, 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `edgepose serve`."""
    parser.add_argument("--engine", default="ampose", help="an engine file, or one that ships (default: ampose)")
    parser.add_argument("--trust", action="store_true", help="load an engine that is a program, as those for ONNX "
                                                             "Runtime or TensorRT are: you trust who made it")
    parser.add_argument("--threads", type=int, default=1, help="of the engine (default 1)")
    parser.add_argument("--clip", nargs="+", metavar="CLIP", help="clips as a camera, side by side: files of keypoints "
                                                                  "(docs/files.md), or those that ship (balance_cam1)")
    parser.add_argument("--camera", metavar="N", help="a camera, through --detector: its number, its device, an "
                                                      "address (rtsp://...), a GStreamer pipeline or a film")
    parser.add_argument("--detector", metavar="NAME_OR_FILE",
                        help=f"for --camera, and for clients that send pictures: {DETECTORS}")
    parser.add_argument("--lines", action="store_true", help="JSON lines on stdin and stdout; no address is opened")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at (default: this machine alone); "
                                                            "another one wants a token")
    parser.add_argument("--port", type=int, default=PORT, help=f"(default {PORT}; 0: any that is free)")
    parser.add_argument("--token", help="that clients must show; without it one is made for any --host but this "
                                        "machine's own")
    parser.add_argument("--most-clients", type=int, default=Limits.clients, metavar="N")
    parser.add_argument("--most-people", type=int, default=Limits.people, metavar="N", help="of one client")
    parser.add_argument("--most-bytes", type=int, default=Limits.message_bytes, metavar="N", help="of one message")
    parser.add_argument("--most-waiting", type=int, default=Limits.waiting, metavar="N",
                        help="frames of a client that wait; then the oldest is dropped")
    parser.add_argument("--most-hz", type=float, default=Limits.frames_hz, metavar="HZ",
                        help="frames a second of one client; who sends more is read more slowly")
    parser.add_argument("--deadline", type=float, metavar="MS", help="the most time to lift a frame in; who would be "
                                                                     "late is predicted (docs/deadlines.md)")


def _limits(arguments: argparse.Namespace) -> Limits:
    return Limits(checked_number("--most-clients", arguments.most_clients, 1, MOST_CLIENTS, whole=True),
                  checked_number("--most-people", arguments.most_people, 1, MOST_PEOPLE, whole=True),
                  checked_number("--most-bytes", arguments.most_bytes, LEAST_MESSAGE, MOST_MESSAGE, whole=True),
                  checked_number("--most-waiting", arguments.most_waiting, 1, MOST_WAITING, whole=True),
                  checked_number("--most-hz", arguments.most_hz, above=0),
                  arguments.deadline and checked_number("--deadline", arguments.deadline, above=0))


def main(arguments: argparse.Namespace) -> int:
    """Runs `edgepose serve`, until Ctrl-C, SIGTERM or the end of stdin."""
    limits = _limits(arguments)
    engine = load(arguments.engine, threads=arguments.threads, trust=arguments.trust)
    if arguments.lines:
        if arguments.clip or arguments.camera or arguments.detector:
            raise ValueError("--lines takes its frames from stdin; wanted no --clip, --camera and --detector")
        serve_lines(engine, limits, sys.stdin.buffer, sys.stdout)
        return 0
    checked_number("--port", arguments.port, 0, MOST_PORT, whole=True)
    need_library("websockets", "edgepose serve")
    need_library("prometheus_client", "edgepose serve")
    make_detector = _detector_of(arguments)
    crowd = crowd_of(arguments.clip) if arguments.clip else None
    cameras: list[Callable[[Service], Coroutine[Any, Any, None]]] = []
    if crowd is not None:
        cameras.append(partial(play, crowd=crowd))
    if arguments.camera is not None:
        cameras.append(partial(look, source=arguments.camera, make_detector=make_detector))
    token = arguments.token
    if token is not None and len(token) < LEAST_TOKEN:
        raise ValueError(f"--token has {len(token)} characters; wanted {LEAST_TOKEN} or more")
    if token is None and not is_loopback(arguments.host):
        token = secrets.token_urlsafe(TOKEN_BYTES)
    asyncio.run(_serve(engine, limits, make_detector, cameras, arguments.host, arguments.port, token))
    return 0


def _detector_of(arguments: argparse.Namespace) -> Callable[[], Detector] | None:
    """Opens a new detector; None without --detector. Raises ValueError for a camera without a detector."""
    if arguments.detector is None:
        if arguments.camera is not None:
            raise ValueError(f"--camera wants a --detector: {DETECTORS}")
        return None
    need_library("cv2", "reading pictures")
    if arguments.camera is not None and not is_live(arguments.camera):
        check_video(arguments.camera)
    make_detector = partial(open_detector, arguments.detector, threads=arguments.threads)
    make_detector().close()  # one that cannot be opened is refused here
    return make_detector


async def _serve(engine: Engine, limits: Limits, make_detector: Callable[[], Detector] | None,
                 cameras: list[Callable[[Service], Coroutine[Any, Any, None]]], host: str, port: int,
                 token: str | None) -> None:
    metrics = Metrics()
    service = Service(engine, limits, make_detector, metrics.answered)
    metrics.serve(service)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with Server(service, metrics, token).listening(host, port) as port:
        shown = f"[{host}]" if ":" in host else host
        print(f"edgepose serve: http://{shown}:{port}/{f'?token={token}' if token else ''}  (Ctrl-C ends it)",
              flush=True)
        filming = asyncio.create_task(_film(service, cameras))
        stopping = asyncio.create_task(stopped.wait())
        await asyncio.wait([filming, stopping], return_when=asyncio.FIRST_COMPLETED)
        filming.cancel(), stopping.cancel()
        with suppress(asyncio.CancelledError):
            await filming


async def _film(service: Service, cameras: list[Callable[[Service], Coroutine[Any, Any, None]]]) -> None:
    """Runs the server's own cameras, then nothing for ever. Raises what a camera raises."""
    await asyncio.gather(*(camera(service) for camera in cameras))
    await asyncio.Event().wait()
