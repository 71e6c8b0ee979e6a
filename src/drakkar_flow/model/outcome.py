"""Outcomes of work: deliveries on their way to a sink, failures, acknowledgements."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from drakkar_flow.model.record import Credit, Record
from drakkar_flow.model.task import ExecutorError

__all__ = ["Ack", "AckStatus", "AckToken", "Blame", "Delivery", "Failure", "FailureKind"]

AckToken = tuple[Record, Credit]
"""A share of a record's credit: until it is returned, the record's offset is not committed."""


class FailureKind(StrEnum):
    """Step of a failure."""

    DECODE = "decode"
    ARRANGE = "arrange"
    TASK = "task"
    HOOK = "hook"
    SINK = "sink"
    ROUTING = "routing"
    BUSINESS = "business"
    LATE = "late"


class Blame(StrEnum):
    """Responsibility for a failure."""

    RECORD = "record"  # its data, or code that can't process it
    FLOW = "flow"  # the flow, its configuration or a target: every record of this kind fails
    OUTAGE = "outage"  # a target that is not available: no mistake


class AckStatus(StrEnum):
    """End of a branch of a record."""

    DONE = "done"
    SKIPPED = "skipped"
    DEAD = "dead"
    FENCED = "fenced"  # its partition was revoked or lost: not delivered, not committed


class Ack(msgspec.Struct, gc=False):
    """The return of a share of a record's credit."""

    record: Record
    credit: Credit
    status: AckStatus = AckStatus.DONE


class Delivery(msgspec.Struct, gc=False):
    """One payload for one sink, with the credit of each of its records, and its task if there is one."""

    payload: Any
    tokens: tuple[AckToken, ...]
    task_id: str = ""


class Failure(msgspec.Struct, kw_only=True):
    """An error as a value: failed step, cause and records.

    `stage` is the readable id of the step. `task` is set for failed tasks; `payload`, `sink_type`,
    `sink_name` and `attempts` for failed deliveries; `task_id` if it concerns one task. `to_dlq` is
    set if the handler requested the dead letter queue itself, whatever the flow's error route
    says. `labels` are the handler's names of the records of `tokens`, in the same order; empty
    if it names none. `detail` is the answer of a sink's target; it may quote rows, so no log line
    has it.

    For the brake: `cause` is `error` without the parts that differ between records; a success of `proof`, by
    default the stage, refutes it; `refuted`: it has succeeded for others of the same batch; `mark`: number of its
    successes at the failure. `skipped` records are dropped instead of becoming dead letters; `decided_by` is the
    setting for that. `calls` is the number of calls that failed for this cause.
    """

    kind: FailureKind
    stage: str
    error: str
    tokens: tuple[AckToken, ...]
    detail: str = ""
    exception_class: str = ""
    stacktrace: str = ""
    task: ExecutorError | None = None
    task_id: str = ""
    payload: Any = None
    sink_type: str = ""
    sink_name: str = ""
    attempts: int = 0
    to_dlq: bool = False
    labels: tuple[str, ...] = ()
    blame: Blame = Blame.RECORD
    cause: str = ""
    proof: Any = ""
    mark: int | None = None
    refuted: bool = False
    calls: int = 1
    skipped: bool = False
    decided_by: str = ""
