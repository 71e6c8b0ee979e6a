"""Sinks in memory: they keep payloads, and fail as the test defines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.config.sections.delivery import RetryConfig, SinkConfig
from drakkar_flow.errors import BatchFailed
from drakkar_flow.model.outcome import Delivery, Failure
from drakkar_flow.runtime.components import SinkComponent
from drakkar_flow.sinks.checks import refusal_of
from drakkar_flow.sinks.dead_letter_messages import dead_letter_messages
from drakkar_flow.sinks.dlq import as_written
from drakkar_flow.sinks.registry import SPECS
from drakkar_flow.testing.gate import Gate

__all__ = ["MemoryDeadLetters", "MemorySink", "MemorySinkSettings"]

Script = Callable[[list[Any]], None] | Iterable[Exception | None]
"""Script: a function of the payloads, which may raise; or the error of each write in turn (None: it works)."""


class MemorySinkSettings(SinkConfig):
    """Retry policy: three attempts in all, without a noticeable pause."""

    retry: RetryConfig = RetryConfig(attempts=3, initial_s=0.001, max_s=0.001)


class _Scripted:
    """Runs a script and waits at a gate before each write."""

    def __init__(self, script: Script) -> None:
        self._check = script if callable(script) else None
        self._keyed_queue = iter(()) if callable(script) else iter(script)
        self.gate = Gate()
        self.writes = 0

    async def run_script(self, items: list[Any]) -> None:
        self.writes += 1
        await self.gate.passage()
        if self._check is not None:
            self._check(items)
        elif (error := next(self._keyed_queue, None)) is not None:
            raise error


class MemorySink:
    """Stands in for the sink `kind` `name` of a flow.

    `payloads` are those written, in order. `gate` holds writes back while it is shut. `writes` counts the attempts. A
    script that raises BatchFailed writes the payloads that the error does not name. `configured` are the settings of
    the real sink, by which it refuses payloads; a run sets them.

    >>> MemorySink("results", script=[OSError("down"), None]).id
    'kafka-results'
    """

    def __init__(
        self,
        name: str = "out",
        *,
        kind: str = "kafka",
        script: Script = (),
        settings: MemorySinkSettings | None = None,
        max_in_flight: int = 1,
        max_batch: int = 1000,
    ) -> None:
        self.name = name
        self.kind = kind
        self.payloads: list[Any] = []
        self.settings = settings
        self.configured: Mapping[str, Any] = {}
        self._scripted = _Scripted(script)
        self._limits = (max_in_flight, max_batch)

    @property
    def id(self) -> str:
        """Id of the sink in the flow."""
        return f"{self.kind}-{self.name}"

    @property
    def gate(self) -> Gate:
        """Gate at which each write waits before it begins."""
        return self._scripted.gate

    @property
    def writes(self) -> int:
        """Number of attempted writes."""
        return self._scripted.writes

    @property
    def values(self) -> list[Any]:
        """Data of the payloads written."""
        return [payload.data for payload in self.payloads]

    def part(self, retry: RetryConfig | None = None) -> SinkComponent:
        """Return the sink as a component of a flow; without its own settings it takes `retry`."""
        max_in_flight, max_batch = self._limits
        spec = replace(SPECS[self.kind], max_in_flight=max_in_flight, max_batch=max_batch)
        settings = self.settings or (MemorySinkSettings(retry=retry) if retry else MemorySinkSettings())
        return SinkComponent(spec, self.name, settings, self)

    async def connect(self) -> None:
        """Do nothing: there is nothing to connect."""

    async def write_batch(self, batch: Sequence[Delivery]) -> None:
        """Keep the payloads, or raise by the script; payloads that the real sink refuses by itself are rejected."""
        payloads = [delivery.payload for delivery in batch]
        refusals = (
            (index, refusal_of(SPECS[self.kind], payload, self.configured)) for index, payload in enumerate(payloads)
        )
        failures: dict[int, Exception] = {index: cause for index, cause in refusals if cause is not None}
        try:
            await self._scripted.run_script(payloads)
        except BatchFailed as exc:
            failures.update(exc.failures)
        self.payloads += [payload for index, payload in enumerate(payloads) if index not in failures]
        if failures:
            raise BatchFailed(failures)

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""


class MemoryDeadLetters:
    """Stands in for the dead letter topic; `letters` are the failures written, as the dead letters show them."""

    def __init__(self, script: Script = ()) -> None:
        self.letters: list[Failure] = []
        self.config = DrakkarConfig()
        """Redaction of the failures; set by the flow that writes them."""
        self._scripted = _Scripted(script)

    @property
    def gate(self) -> Gate:
        """Gate at which each write waits before it begins."""
        return self._scripted.gate

    @property
    def writes(self) -> int:
        """Number of attempted writes."""
        return self._scripted.writes

    async def connect(self) -> None:
        """Do nothing: there is nothing to connect."""

    async def write(self, failures: Sequence[Failure]) -> None:
        """Make the dead letters as the worker does and keep their failures, or raise by the script."""
        redact, detail = self.config.redactor, self.config.dlq.include_server_detail
        failures = [as_written(failure, redact, include_server_detail=detail) for failure in failures]
        broken: dict[int, Exception] = {}
        for index, failure in enumerate(failures):
            try:
                dead_letter_messages(failure, 0.0)
            except Exception as exc:
                broken[index] = exc
        await self._scripted.run_script(list(failures))
        self.letters += [failure for index, failure in enumerate(failures) if index not in broken]
        if broken:
            raise BatchFailed(broken)

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""
