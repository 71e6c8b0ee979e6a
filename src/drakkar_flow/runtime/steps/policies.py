"""Failure policies: a failure stops the flow, becomes a dead letter, or is skipped."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from drakkar_flow.model.outcome import Failure, FailureKind
from drakkar_flow.observe.bus import Bus
from drakkar_flow.observe.events.records import RecordsFailed
from drakkar_flow.observe.events.task_causes import cause_of_task
from drakkar_flow.runtime.failures import about
from drakkar_flow.runtime.steps.context import StepContext
from drakkar_flow.runtime.steps.labels import Labels
from drakkar_flow.runtime.steps.step import AsyncStep
from drakkar_flow.runtime.stop_signal import StopSignal

__all__ = ["Policies", "PolicyStep"]

_DLQ = "dlq"
_SKIP = "skip"
_REMEMBERED = 20_000  # records that failed, so that each is counted once


class Policies:
    """Policies for failures: that of the step, else of the kind, else `otherwise`."""

    def __init__(
        self,
        otherwise: str,
        by_kind: Mapping[FailureKind, str],
        by_step: Mapping[str, str],
        control: StopSignal,
        bus: Bus,
        labels: Labels,
    ) -> None:
        self._otherwise = otherwise
        self._by_kind = dict(by_kind)
        self._by_step = dict(by_step)
        self._control = control
        self._bus = bus
        self._labels = labels
        self._lock = threading.Lock()
        self._failed: dict[tuple[str, int, int], None] = {}

    def apply(self, failures: Iterable[Failure]) -> list[Failure]:
        """Apply a policy to each failure; returns those for the dlq step. A `fail` keeps the credit."""
        settled: list[Failure] = []
        for failure in failures:
            first = failure.tokens[0][0]
            label = self._labels.of(first)
            count = len(failure.tokens)
            policy = self._policy(failure)
            what = (failure.kind, failure.stage, first.topic_partition, count, failure.error)
            cause = cause_of_task(failure.task) if failure.task is not None else ""
            new = self._first_time(failure)
            self._bus.emit(RecordsFailed(*what, label, policy, about((failure,)), new, failure.decided_by, cause))
            if policy == "fail":
                self._control.hold(record for record, _ in failure.tokens)
                self._control.fail(f"{failure.stage} failed at {label}: {failure.error}")
            else:
                failure.skipped = policy == _SKIP
                if self._labels.are_own:
                    failure.labels = tuple(self._labels.of(record) for record, _ in failure.tokens)
                settled.append(failure)
        return settled

    def _policy(self, failure: Failure) -> str:
        if failure.to_dlq:
            return _DLQ
        if failure.skipped:
            return _SKIP
        return self._by_step.get(failure.stage) or self._by_kind.get(failure.kind, self._otherwise)

    def _first_time(self, failure: Failure) -> int:
        """Return the number of its records that have not failed before, as far back as is remembered."""
        places = {(record.topic, record.partition, record.offset) for record, _ in failure.tokens}
        with self._lock:
            new = places - self._failed.keys()
            self._failed.update(dict.fromkeys(new))
            while len(self._failed) > _REMEMBERED:
                del self._failed[next(iter(self._failed))]
        return len(new)


class PolicyStep(AsyncStep[Failure, Failure]):
    """Applies the policies to the failures of all steps of the flow; emits those that do not stop it."""

    def __init__(self, context: StepContext, policies: Policies) -> None:
        super().__init__(context, "policies")
        self._policies = policies

    def accept(self, items: list[Failure]) -> None:
        """Apply the policies."""
        self.emit_all(self._policies.apply(items))
