"""The `runtime.cluster` section: a fixed list of processes that share the partitions of one recovery store."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from drakkar_flow.config.base import Section

__all__ = ["ClusterConfig", "host_and_port"]


def host_and_port(address: str) -> tuple[str, int]:
    """Return the two parts of an address.

    >>> host_and_port("10.0.0.7:4300"), host_and_port("[::1]:4300")
    (('10.0.0.7', 4300), ('::1', 4300))

    Raises:
        ValueError: it has no host, or no port from 1 to 65535.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) <= 65_535:
        raise ValueError(f"{address!r} is no address; write host:port, like 10.0.0.7:4300")
    return host.removeprefix("[").removesuffix("]"), int(port)


class ClusterConfig(Section):
    """The cluster. With this section several processes share the partitions of one recovery store. All have the same
    addresses and the same store directory, and each has another process_id. They start and stop together."""

    addresses: tuple[str, ...] = ()
    """The address `host:port` of each process, in the same order in all of them; a text separates them by semicolons.
    A run needs them; option `-a` and `drakkar-flow cluster` set them. The connections are not encrypted: use a trusted
    network."""
    process_id: int = Field(default=0, ge=0)
    """Index of this process in the addresses; it listens there."""
    start_timeout_s: float = Field(default=60.0, gt=0)
    """Seconds that a start waits for the other processes; then it ends with exit code 1."""
    stalled_after_s: float = Field(default=30.0, ge=5)
    """Seconds without progress of an epoch after which the process ends with exit code 1: another process hangs, or the
    network is cut. Set it above your longest synchronous step."""

    @property
    def processes(self) -> int:
        """Number of processes."""
        return max(1, len(self.addresses))

    @field_validator("addresses", mode="before")
    @classmethod
    def _a_text_is_a_list(cls, value: Any) -> Any:
        return [each.strip() for each in value.split(";") if each.strip()] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _each_process_has_an_address(self) -> Self:
        if not self.addresses:
            return self
        for address in self.addresses:
            host_and_port(address)
        if len(self.addresses) < 2:
            raise ValueError("runtime.cluster needs at least two addresses; remove the section for a single process")
        twice = sorted({address for address in self.addresses if self.addresses.count(address) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is given twice; each process needs its own address")
        if self.process_id >= len(self.addresses):
            last = len(self.addresses) - 1
            raise ValueError(f"process_id {self.process_id} has no address; it must be from 0 to {last}")
        if len(self.addresses) > 64:
            raise ValueError(f"{len(self.addresses)} addresses are too many; a cluster has at most 64 processes")
        return self
