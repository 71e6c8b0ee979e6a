"""Outcomes of work: deliveries on their way to a sink, failures, acknowledgements."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from drakkar_flow.model.record import Credit, Record
from drakkar_flow.model.task import ExecutorError

__all__ = ["Ack", "AckStatus", "Blame", "Delivery", "Failure", "FailureKind", "Hold"]

Hold = tuple[Record, Credit]
"""A share of a record's credit: whoever has it keeps the record's offset from being committed."""


class FailureKind(StrEnum):
    """The step a failure comes from."""

    DECODE = "decode"
    ARRANGE = "arrange"
    TASK = "task"
    HOOK = "hook"
    SINK = "sink"
    ROUTING = "routing"
    BUSINESS = "business"


class Blame(StrEnum):
    """What a failure is put down to."""

    RECORD = "record"  # its data, or the code that can't take it
    FLOW = "flow"  # the flow, its configuration or a target: no record of this kind could pass
    OUTAGE = "outage"  # a target that is not available: nobody's mistake


class AckStatus(StrEnum):
    """How a branch of a record ended."""

    DONE = "done"
    SKIPPED = "skipped"
    DEAD = "dead"
    FENCED = "fenced"  # its partition was taken away: not delivered, not committed


class Ack(msgspec.Struct, gc=False):
    """The return of a share of a record's credit."""

    record: Record
    credit: Credit
    status: AckStatus = AckStatus.DONE


class Delivery(msgspec.Struct, gc=False):
    """One payload for one sink, with the credit of every record it came of, and the task if it came of one."""

    payload: Any
    holds: tuple[Hold, ...]
    task_id: str = ""


class Failure(msgspec.Struct, kw_only=True):
    """An error as a value: what failed, where, for which records.

    `stage` is the readable id of the step. `task` is set for failed tasks; `payload`, `sink_type`,
    `sink_name` and `attempts` for failed deliveries; `task_id` where it is about one task. `to_dlq` is
    set where a handler asked for the dead letter queue by itself, whatever the flow's error route
    says. `labels` are the handler's own names of the records of `holds`, in the same order; empty
    where it names none. `detail` is what a sink's target answered; it may quote rows, so no log line
    has it.

    For the brake: `cause` is `error` without what differs from record to record; `proof` is what must succeed to
    refute it, the stage unless given; `refuted` tells that it has succeeded for others of the same batch, `mark`
    how often it had succeeded when this failed. `skipped` records are dropped instead of becoming dead letters;
    `decided_by` is the setting that says so. `calls` is the number of calls that failed for this cause.
    """

    kind: FailureKind
    stage: str
    error: str
    holds: tuple[Hold, ...]
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
