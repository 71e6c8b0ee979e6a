"""A MongoDB server small enough to say whatever a test wants: it answers hello, ping and writes."""

from __future__ import annotations

import socketserver
import struct
import threading
from collections.abc import Callable
from typing import Any, Self

import bson

__all__ = ["FakeMongo"]

Answer = Callable[[int, dict[str, Any]], dict[str, Any]]


class FakeMongo(socketserver.ThreadingTCPServer):
    """Answers each write by `answer(number of the connection, command)`; use it as a context manager.

    `written` are the documents of the inserts that were answered with ok.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.answer = answer
        self.written: list[dict[str, Any]] = []
        self.connections = 0
        self._serving = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    @property
    def uri(self) -> str:
        """Where it is."""
        return f"mongodb://127.0.0.1:{self.server_address[1]}/?serverSelectionTimeoutMS=3000"

    def __enter__(self) -> Self:
        self._serving.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Connection(socketserver.StreamRequestHandler):
    server: FakeMongo

    def handle(self) -> None:
        self.server.connections += 1
        number = self.server.connections
        while len(head := self.rfile.read(16)) == 16:
            length, request, _, code = struct.unpack("<iiii", head)
            body = self.rfile.read(length - 16)
            if code == 2004:  # OP_QUERY, as old hellos are
                start = body.index(b"\0", 4) + 9
                reply = bson.encode(self._reply(number, bson.decode(body[start:])))
                head = struct.pack("<iiii", 36 + len(reply), request, request, 1)
                self.wfile.write(head + struct.pack("<iqii", 8, 0, 0, 1) + reply)
            else:
                reply = b"\0\0\0\0\0" + bson.encode(self._reply(number, self._command(body)))
                self.wfile.write(struct.pack("<iiii", 16 + len(reply), request, request, 2013) + reply)

    def _command(self, body: bytes) -> dict[str, Any]:
        command: dict[str, Any] = {}
        at = 4
        while at < len(body):
            kind, size = body[at], struct.unpack_from("<i", body, at + 1)[0]
            section = body[at + 1 : at + 1 + size]
            if kind == 0:
                command |= bson.decode(section)
            else:
                end = section.index(b"\0", 4)
                command[section[4:end].decode()] = bson.decode_all(section[end + 1 :])
            at += 1 + size
        return command

    def _reply(self, number: int, command: dict[str, Any]) -> dict[str, Any]:
        if {"hello", "ismaster", "isMaster"} & command.keys():
            limits = {"maxBsonObjectSize": 1 << 24, "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000}
            return {"ok": 1, "ismaster": True, "minWireVersion": 0, "maxWireVersion": 21, **limits}
        if "insert" not in command:
            return {"ok": 1}
        reply = self.server.answer(number, command)
        if reply.get("ok") and "writeErrors" not in reply:
            self.server.written += command["documents"]
        return reply
