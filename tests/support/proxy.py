"""A TCP proxy on loopback that a test can cut, refuse, delay and turn into a black hole."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

__all__ = ["TcpProxy"]

T = TypeVar("T")


class TcpProxy:
    """Forwards connections to a port of this machine; use it as a context manager, from any one thread.

    Kafka clients follow the addresses that brokers advertise, so behind a proxy only the bootstrap goes astray.

    Args:
        target: the port that connections are forwarded to.

    Attributes:
        port: where the proxy listens; stays the same when it refuses and heals.
        delay_s: how long every piece of data is held back, in both directions.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.delay_s = 0.0
        self._swallow = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy")
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def connections(self) -> int:
        """Sockets that are open now: two for each connection that is forwarded."""
        return len(self._connections)

    def cut(self) -> None:
        """Break all connections; new ones are welcome."""
        self._call(self._cut())

    def refuse(self) -> None:
        """Break all connections and refuse new ones."""
        self._call(self._unlisten())
        self._call(self._cut())

    def black_hole(self) -> None:
        """Go on accepting connections and data, and pass nothing on."""
        self._swallow = True

    def heal(self) -> None:
        """Forward again; what the black hole took stays lost, so its connections are broken."""
        if self._swallow:
            self._swallow = False
            self.cut()
        self._call(self._listen())

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _unlisten(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    async def _stop(self) -> None:
        await self._unlisten()
        await self._cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    async def _cut(self) -> None:
        for writer in list(self._connections):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._connections |= {writer, there}
        try:
            await asyncio.gather(self._pump(reader, there), self._pump(there_reader, writer))
        finally:
            self._connections -= {writer, there}
            writer.transport.abort()
            there.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await asyncio.sleep(self.delay_s)
                if not self._swallow:
                    writer.write(data)
                    await writer.drain()
            writer.close()
