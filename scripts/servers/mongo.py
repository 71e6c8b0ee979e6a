"""MongoDB's wire protocol, spoken by mongo-java-server on a file: no real mongod can be had as a package."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

from scripts.servers.maven import fetch
from scripts.servers.single import SingleServer

__all__ = ["Mongo"]

VERSION = "1.47.0"
FILES = Path(__file__).resolve().parents[1] / "mongo"
_OP_MSG = 2013
_PING = b"\x10ping\x00\x01\x00\x00\x00\x02$db\x00\x06\x00\x00\x00admin\x00\x00"  # {ping: 1, $db: "admin"}


class Mongo(SingleServer):
    """One server, empty. It reports wire version 8."""

    kind = "mongo"

    @property
    def address(self) -> str:
        """A connection string."""
        return f"mongodb://127.0.0.1:{self.port}/?serverSelectionTimeoutMS=5000"

    def answers(self) -> bool:
        """Whether it answers a ping."""
        section = b"\x00" + struct.pack("<i", 4 + len(_PING)) + _PING
        message = struct.pack("<iiiii", 20 + len(section), 1, 0, _OP_MSG, 0) + section
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2.0) as connection:
                connection.settimeout(2.0)
                connection.sendall(message)
                return len(connection.recv(16, socket.MSG_WAITALL)) == 16
        except OSError:
            return False

    def prepare(self) -> list[str]:
        """Fetch the jars."""
        return self.command()

    def command(self) -> list[str]:
        """The command line that serves the file."""
        libs = fetch(f"mongo-java-server-{VERSION}", FILES / "pom.xml")
        main = str(FILES / "Main.java")
        return ["java", "-Xmx256m", "-cp", f"{libs}/*", main, str(self.port), str(self.data / "mongo.h2")]
