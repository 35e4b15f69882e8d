"""A service over HTTP and WebSocket: its page, its metrics and its messages. Needs websockets (the extra `serve`)."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from contextlib import asynccontextmanager, suppress
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .messages import Opening, read_first, refusal
from .metrics import Metrics
from .service import Outbox, Service

PAGE = Path(__file__).parent / "page.html"
MESSAGES = "/ws"  # the path of the messages
FIRST_S = 10.0  # within which a client says what it wants
PING_S = 20.0  # a client that answers no ping for so long has gone
READ_AHEAD = 4  # messages of a client that wait to be read
SEND_AHEAD = 1 << 16  # bytes for a client that wait in the socket's buffer
TRY_AGAIN, BAD_MESSAGE = 1013, 1008  # WebSocket's close codes
PAGE_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self' ws: wss:"


class Server:
    """A service behind one address.

    token: what clients must show, as "Authorization: Bearer TOKEN" or "?token=TOKEN"; None: nothing, for a server on
    this machine alone. Raises ImportError without websockets.
    """

    def __init__(self, service: Service, metrics: Metrics, token: str | None = None) -> None:
        self._service, self._metrics, self._token = service, metrics, token
        self._page = PAGE.read_bytes()
        self._clients = 0

    @asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[int]:
        """Listens, and lifts, for as long as the context is open; its value is the port. port: 0 for any. Raises
        OSError if the address cannot be had."""
        from websockets.asyncio.server import serve

        limits = self._service.limits
        lifting = asyncio.create_task(self._service.run())
        try:
            async with serve(self._serve, host, port, process_request=self._answer, compression=None,
                             max_size=limits.message_bytes, max_queue=READ_AHEAD, write_limit=SEND_AHEAD,
                             ping_interval=PING_S, ping_timeout=PING_S, open_timeout=FIRST_S, close_timeout=1,
                             server_header=None) as server:
                yield server.sockets[0].getsockname()[1]
        finally:
            lifting.cancel()
            with suppress(asyncio.CancelledError):
                await lifting

    async def _answer(self, connection: Any, request: Any) -> Any:
        """The response to a request over HTTP; None for one that opens a WebSocket."""
        path = urlsplit(request.path)
        if (refused := self._reason_to_refuse(request.headers, path.query)) is not None:
            return connection.respond(*refused)
        if path.path == MESSAGES:
            return None
        if path.path == "/":
            response = connection.respond(HTTPStatus.OK, "")
            return _with_body(response, self._page, "text/html; charset=utf-8")
        if path.path == "/metrics":
            return _with_body(connection.respond(HTTPStatus.OK, ""), *self._metrics.text())
        return connection.respond(HTTPStatus.NOT_FOUND, f"wanted /, /metrics or {MESSAGES}\n")

    def _reason_to_refuse(self, headers: Any, query: str) -> tuple[HTTPStatus, str] | None:
        host = headers.get("Host", "")
        if self._token is not None:
            shown = headers.get("Authorization", "").removeprefix("Bearer ") or parse_qs(query).get("token", [""])[0]
            if not hmac.compare_digest(shown.encode(), self._token.encode()):
                return HTTPStatus.UNAUTHORIZED, "wanted the token: ?token=TOKEN, or Authorization: Bearer TOKEN\n"
        elif not is_loopback(urlsplit(f"//{host}").hostname or ""):
            # A page of a stranger whose name leads to this machine.
            return HTTPStatus.FORBIDDEN, f"this server is known as localhost, not as {host}\n"
        origin = headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return HTTPStatus.FORBIDDEN, f"pages of {origin} may not use this server\n"
        return None

    async def _serve(self, connection: Any) -> None:
        """Serves one client until it goes."""
        from websockets.exceptions import ConnectionClosed

        if self._clients == self._service.limits.clients:
            await connection.close(TRY_AGAIN, f"there are {self._clients} clients already")
            return
        self._clients += 1
        try:
            with suppress(ConnectionClosed):
                await self._serve_one(connection)
        finally:
            self._clients -= 1

    async def _serve_one(self, connection: Any) -> None:
        try:
            first = read_first(await asyncio.wait_for(connection.recv(), FIRST_S))
        except asyncio.TimeoutError:
            return await _refuse(connection, f"no message came in {FIRST_S:g} s")
        except ValueError as error:
            return await _refuse(connection, error)
        outbox = self._service.new_outbox(first.form)
        sending = asyncio.create_task(_send(connection, outbox))
        try:
            if isinstance(first, Opening):
                await self._take_frames(connection, first, outbox)
            else:
                self._service.watch(first, outbox)
                await connection.recv()
                await _refuse(connection, "a watcher sends nothing")
        finally:
            self._service.gone(outbox)
            sending.cancel()

    async def _take_frames(self, connection: Any, opening: Opening, outbox: Outbox) -> None:
        try:
            one = await self._service.open(opening, outbox)
        except (ValueError, TypeError) as error:
            return await _refuse(connection, error)
        try:
            outbox.note(self._service.opened_text(one))
            pace = Pace(self._service.limits.frames_hz)
            async for message in connection:
                self._service.put(one, message)
                await pace.keep()
        finally:
            self._service.close(one)


class Pace:
    """Holds up whoever is faster than so many frames a second, apart from a burst of a tenth of a second."""

    def __init__(self, most_hz: float) -> None:
        self._period_s, self._burst_s, self._free_s = 1 / most_hz, 0.1, 0.0

    async def keep(self) -> None:
        """Returns when the next frame may come."""
        now_s = asyncio.get_running_loop().time()
        self._free_s = max(self._free_s, now_s - self._burst_s) + self._period_s
        if self._free_s > now_s:
            await asyncio.sleep(self._free_s - now_s)


def is_loopback(host: str) -> bool:
    """True for names and addresses of this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _send(connection: Any, outbox: Outbox) -> None:
    """Sends what waits for a client until the connection closes; a slow reader holds up nobody else."""
    from websockets.exceptions import ConnectionClosed

    with suppress(ConnectionClosed):
        while True:
            await connection.send(await outbox.next())


async def _refuse(connection: Any, error: object) -> None:
    """Says what is wrong, and closes."""
    await connection.send(refusal(error))
    await connection.close(BAD_MESSAGE, "see the last message")


def _with_body(response: Any, body: bytes, content_type: str) -> Any:
    del response.headers["Content-Length"], response.headers["Content-Type"]
    response.body = body
    response.headers.update({"Content-Length": str(len(body)), "Content-Type": content_type, "Cache-Control":
                             "no-store", "X-Content-Type-Options": "nosniff", "Content-Security-Policy": PAGE_POLICY})
    return response
