"""HTTP server for monitoring: metrics, liveness and readiness, within fixed bounds.

One thread serves all connections; another renders `/metrics`, one page at a time. Connections, their duration, the size
of a request, the rate of new connections and the share of CPU for rendering are bounded, so that no client takes
descriptors, threads or CPU that the flow needs.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import Any, cast

from prometheus_client import make_wsgi_app
from prometheus_client.registry import Collector

from drakkar_flow.errors import Problem, StartupError
from drakkar_flow.kernel.shortage import shortage_of
from drakkar_flow.observe.http.message import (
    MAX_HEAD_BYTES,
    HttpResponse,
    Request,
    json_response,
    not_allowed,
    not_found,
    parse,
)

__all__ = ["MetricsServer", "Page"]

_METRICS = "/metrics"
_CONNECTIONS = 64  # open at once; beyond that the oldest connection without a complete request is closed
_BACKLOG = 128
_ACCEPT_PAUSE_S = 0.002  # at most 500 new connections per second
_NO_DESCRIPTORS_PAUSE_S = 0.1
_RENDER_SHARE = 5  # rendering takes at most 1/5 of one CPU, however often the page is asked for
_CLOSE_S = 5.0


Page = Callable[[], tuple[int, Mapping[str, object]]]
"""Returns a page's HTTP status and JSON content; called on the server's thread, must not block."""

Query = tuple[str, str, str]  # query string, Accept, Accept-Encoding


class MetricsServer:
    """Serves `registry` at `/metrics` and `pages` at their paths, on its own threads, from `start` to `close`.

    Listens on the first free one of `ports`; 0 is any free port. `request_s` bounds a connection from accept to the
    last byte of the response. `on_error` is called with the exception of a metric that raises when it is read.

    >>> from prometheus_client import CollectorRegistry
    >>> server = MetricsServer(CollectorRegistry(), host="127.0.0.1", ports=[0])
    >>> server.start()
    >>> server.port > 0
    True
    >>> server.close()
    """

    def __init__(
        self,
        registry: Collector,
        *,
        host: str,
        ports: Sequence[int],
        pages: Mapping[str, Page] | None = None,
        request_s: float = 10.0,
        on_error: Callable[[Exception], object] | None = None,
    ) -> None:
        self._app = make_wsgi_app(registry)
        self._pages = dict(pages or {})
        self._host = host
        self._ports = ports
        self._request_s = request_s
        self._on_error = on_error
        self._port = ports[0]
        self._thread: Thread | None = None
        self._listening: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stop = asyncio.Event()
        self._reading: dict[asyncio.Task[None], None] = {}  # connections that have not sent their request, oldest first
        self._answering: dict[asyncio.Task[None], None] = {}
        self._asked: dict[Query, asyncio.Future[HttpResponse]] = {}  # pages that are not being rendered yet
        self._someone_asked = asyncio.Event()

    @property
    def port(self) -> int:
        """Port of the server; known after `start`."""
        return self._port

    def start(self) -> None:
        """Start to listen; returns as soon as a scrape would succeed.

        Raises:
            StartupError: all ports are in use (exit code 1), or the address is invalid on this machine (2).
        """
        listening = self._listening = self._listen()
        self._port = listening.getsockname()[1]
        try:
            self._loop = asyncio.new_event_loop()
        except OSError as exc:
            listening.close()
            raise self._unusable(exc, self._port) from exc
        self._thread = Thread(target=self._run, args=(listening,), name="drakkar-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and close all connections; safe to call twice and before `start`."""
        if self._thread is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(_CLOSE_S)
            self._thread = None

    def disown(self) -> None:
        """Close the copies of the sockets in a forked process."""
        if self._listening is not None:
            self._listening.close()

    # --- listening ------------------------------------------------------------------------------

    def _listen(self) -> socket.socket:
        for port in self._ports:
            try:
                return _bind(self._host, port)
            except OSError as exc:
                if shortage_of(exc):
                    raise
                if exc.errno != errno.EADDRINUSE:
                    raise self._unusable(exc, port) from exc
        raise self._taken()

    def _taken(self) -> StartupError:
        first, last = self._ports[0], self._ports[-1]
        if first == last:
            what = f"port {first} is in use"
            remedy = "set metrics.port to a free port or to 0 (any), leave it out, or set metrics.enabled to false"
        else:
            what = f"ports {first}-{last} are in use"
            remedy = "set metrics.port_range to more ports, or metrics.port to 0 (any)"
        return StartupError([Problem(f"metrics on {self._host}:{first}", what, remedy)], exit_code=1)

    def _unusable(self, exc: OSError, port: int) -> StartupError:
        remedy = "set metrics.host and metrics.port to an address of this machine"
        what = f"can't listen: {exc.strerror or exc}"
        return StartupError([Problem(f"metrics on {self._host}:{port}", what, remedy)], exit_code=2)

    def _run(self, listening: socket.socket) -> None:
        with listening, asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve(listening))

    async def _serve(self, listening: socket.socket) -> None:
        workers = [asyncio.create_task(self._accept(listening)), asyncio.create_task(self._render_pages())]
        await self._stop.wait()
        for task in (*workers, *self._reading, *self._answering):
            task.cancel()

    # --- connections ----------------------------------------------------------------------------

    async def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = await self._loop.sock_accept(listening)
            except OSError:  # no descriptors left: close those of the server
                self._close_oldest(len(self._reading))
                await asyncio.sleep(_NO_DESCRIPTORS_PAUSE_S)
                continue
            connection.settimeout(0)
            self._close_oldest(len(self._reading) + len(self._answering) - _CONNECTIONS + 1)
            task = asyncio.create_task(self._handle(connection))
            self._reading[task] = None
            task.add_done_callback(partial(self._ended, connection))
            await asyncio.sleep(_ACCEPT_PAUSE_S)

    def _close_oldest(self, count: int) -> None:
        for task in [*self._reading, *self._answering][: max(0, count)]:
            self._reading.pop(task, None)
            self._answering.pop(task, None)
            task.cancel()

    def _ended(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        self._reading.pop(task, None)
        self._answering.pop(task, None)
        connection.close()

    async def _handle(self, connection: socket.socket) -> None:
        with suppress(OSError, TimeoutError):  # a client that disconnects or is too slow is not an error
            async with asyncio.timeout(self._request_s):
                request = await self._read(connection)
                if request is None:
                    return
                task = cast("asyncio.Task[None]", asyncio.current_task())
                self._answering[task] = self._reading.pop(task, None)
                is_head = isinstance(request, Request) and request.method == "HEAD"
                answer = await self._answer(request) if isinstance(request, Request) else request
                await self._loop.sock_sendall(connection, answer.encode(with_body=not is_head))
                connection.shutdown(socket.SHUT_WR)

    async def _read(self, connection: socket.socket) -> Request | HttpResponse | None:
        """Return the request, the response to an invalid one, or None if the client closed the connection."""
        received = b""
        while (request := parse(received)) is None:
            more = await self._loop.sock_recv(connection, MAX_HEAD_BYTES)
            if not more:
                return None
            received += more
        return request

    async def _answer(self, request: Request) -> HttpResponse:
        if refusal := not_allowed(request):
            return refusal
        if request.path == _METRICS:
            return await self._metrics(request)
        page = self._pages.get(request.path)
        if page is None:
            return not_found(request, [_METRICS, *self._pages])
        try:
            return json_response(*page())
        except Exception as exc:  # a bug in the server must not look like a dead worker
            return self._failed(exc)

    # --- the metrics page -----------------------------------------------------------------------

    async def _metrics(self, request: Request) -> HttpResponse:
        """Return the page; one rendering serves all equal requests that arrive before it starts."""
        headers = request.headers
        query = (request.query, headers.get("accept", ""), headers.get("accept-encoding", ""))
        page = self._asked.get(query)
        if page is None:
            page = self._asked[query] = self._loop.create_future()
            self._someone_asked.set()
        return await asyncio.shield(page)

    async def _render_pages(self) -> None:
        while True:
            await self._someone_asked.wait()
            query = next(iter(self._asked))
            page = self._asked.pop(query)
            if not self._asked:
                self._someone_asked.clear()
            began = time.monotonic()
            page.set_result(await self._on_thread(partial(self._render, query)))
            await asyncio.sleep((_RENDER_SHARE - 1) * (time.monotonic() - began))

    async def _on_thread(self, render: Callable[[], HttpResponse]) -> HttpResponse:
        """Call on a daemon thread: a metric that blocks delays neither other pages nor the exit."""
        future: asyncio.Future[HttpResponse] = self._loop.create_future()

        def deliver(answer: HttpResponse) -> None:
            if not future.done():
                future.set_result(answer)

        def run() -> None:
            answer = render()
            with suppress(RuntimeError):  # the server has been closed
                self._loop.call_soon_threadsafe(deliver, answer)

        try:
            Thread(target=run, name="drakkar-metrics-page", daemon=True).start()
        except RuntimeError:  # the host has no threads left
            return render()
        return await future

    def _render(self, query: Query) -> HttpResponse:
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": _METRICS, "QUERY_STRING": query[0]}
        environ |= {"HTTP_ACCEPT": query[1], "HTTP_ACCEPT_ENCODING": query[2]}
        sent: list[Any] = []
        try:
            body = b"".join(self._app(environ, lambda status, headers: sent.extend((status, headers))))
        except Exception as exc:  # raised by a user's metric
            return self._failed(exc)
        status, headers = sent
        return HttpResponse(int(status.split()[0]), headers, body)

    def _failed(self, exc: Exception) -> HttpResponse:
        if self._on_error is not None:
            self._on_error(exc)
        return json_response(500, {"error": "the page could not be rendered, see the log"})


def _bind(host: str, port: int) -> socket.socket:
    """Bind to the first address of the name; an empty host means all addresses."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = found[0]
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
        listening.settimeout(0)
    except OSError:
        listening.close()
        raise
    return listening
