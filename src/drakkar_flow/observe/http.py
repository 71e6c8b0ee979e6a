"""The HTTP server for machines that watch: metrics, and whether the worker lives and is ready."""

from __future__ import annotations

import errno
import json
import logging
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import ThreadingHTTPServer
from socketserver import TCPServer
from threading import Thread
from typing import Any, ClassVar

from prometheus_client import MetricsHandler
from prometheus_client.registry import Collector

from drakkar_flow.errors import Problem, StartupError
from drakkar_flow.kernel.shortage import shortage_of

__all__ = ["MetricsServer", "Page"]

_STOP_POLL_S = 0.1  # how long close() waits at most for the accepting thread to notice
_SHORT_S = 0.1  # between two attempts to accept a client on a host that lacks descriptors
_CLIENT_TIMEOUT_S = 5.0  # a client that neither asks nor reads for so long is let go


Page = Callable[[], tuple[int, Mapping[str, object]]]
"""Gives a page's HTTP status and what is sent as its JSON; called on the server's threads, must not block."""


class MetricsServer:
    """Serves `registry` at `/metrics` and `pages` at their paths, on its own threads, from `start` to `close`.

    >>> from prometheus_client import CollectorRegistry
    >>> server = MetricsServer(CollectorRegistry(), host="127.0.0.1", port=0)
    >>> server.start()
    >>> server.port > 0
    True
    >>> server.close()
    """

    def __init__(self, registry: Collector, *, host: str, port: int, pages: Mapping[str, Page] | None = None) -> None:
        self._handler = type("Handler", (_Handler,), {"registry": registry, "pages": pages or {}})
        self._host = host
        self._port = port
        self._server: _Server | None = None
        self._thread: Thread | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; port 0 becomes the one picked by `start`."""
        return self._port

    def start(self) -> None:
        """Listen and serve; returns as soon as a scrape would succeed.

        Raises:
            StartupError: when the port is taken (exit code 1) or the address can't be used (2).
        """
        try:
            self._server = _Server(_resolve(self._host, self._port), self._handler)
        except OSError as exc:
            if shortage_of(exc):
                raise
            raise self._explain(exc) from exc
        self._port = self._server.server_address[1]
        self._thread = Thread(
            target=self._server.serve_forever, args=(_STOP_POLL_S,), name="drakkar-metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening, cut open connections and end every thread; safe to call twice and before `start`."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._server = self._thread = None

    def disown(self) -> None:
        """Close the sockets of a forked process, which are those of the process that serves."""
        server, self._server = self._server, None
        if server is not None:
            server.disown()

    def _explain(self, exc: OSError) -> StartupError:
        where = f"metrics on {self._host}:{self._port}"
        if exc.errno == errno.EADDRINUSE:
            remedy = "set metrics.port to a free port, to 0 to have one picked, or metrics.enabled to false"
            return StartupError([Problem(where, f"port {self._port} is taken", remedy)], exit_code=1)
        remedy = "set metrics.host and metrics.port to an address of this machine"
        return StartupError([Problem(where, f"can't listen there: {exc.strerror or exc}", remedy)], exit_code=2)


class _Handler(MetricsHandler):
    timeout = _CLIENT_TIMEOUT_S
    pages: ClassVar[Mapping[str, Page]]

    def do_GET(self) -> None:  # noqa: N802 - the base's name
        page = self.pages.get(self.path.partition("?")[0])
        if page is None:
            super().do_GET()
            return
        status, content = page()
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close() joins them

    def __init__(self, address: tuple[socket.AddressFamily, tuple[Any, ...]], handler: type) -> None:
        self.address_family, bind_to = address
        self._open: set[socket.socket] = set()
        super().__init__(bind_to, handler)

    def server_bind(self) -> None:
        # HTTPServer looks up the host's full name here, which can take many seconds and is for nothing.
        TCPServer.server_bind(self)

    def get_request(self) -> tuple[Any, Any]:
        try:
            return super().get_request()
        except OSError as exc:
            if shortage_of(exc):  # the client goes on waiting, so the next attempt would come at once
                time.sleep(_SHORT_S)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the host has no thread left: probes are answered all the same
            vars(self)["_threads"].reap()  # the one that did not start
            self.process_request_thread(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # the base's signature
        if not isinstance(sys.exception(), ConnectionError):  # a client that went away is no event
            logging.getLogger(__name__).exception("metrics_scrape_failed", extra={"expect": "only this answer is lost"})

    def disown(self) -> None:
        for opened in (self.socket, *self._open):
            opened.close()

    def server_close(self) -> None:
        for request in tuple(self._open):
            with suppress(OSError):  # the client was faster
                request.shutdown(socket.SHUT_RDWR)
        super().server_close()


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    family, _, _, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
        0
    ]
    return family, address
