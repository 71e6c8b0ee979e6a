"""Redis as Debian packages it, without persistence."""

from __future__ import annotations

import socket

from scripts.servers.single import SingleServer

__all__ = ["Redis"]


class Redis(SingleServer):
    """One server, empty."""

    kind = "redis"

    @property
    def address(self) -> str:
        """A URL of database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    def answers(self) -> bool:
        """Whether it answers PING."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2.0) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n"
        except OSError:
            return False

    def prepare(self) -> list[str]:
        """Nothing is needed."""
        return self.command()

    def command(self) -> list[str]:
        """The command line that serves."""
        places = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.data)]
        return ["redis-server", *places, "--save", "", "--appendonly", "no"]
