"""Log lines of the Kafka source."""

from __future__ import annotations

from drakkar_flow.kernel.causes import cause_text
from drakkar_flow.observe.events.source import (
    AssignmentAwaited,
    BrokerStateChanged,
    ClientLogged,
    CommitFailed,
    Committed,
    ConsumerError,
    IntakePaused,
    PartitionsAssigned,
    PartitionsRevoked,
    TopicRecreated,
)
from drakkar_flow.observe.log.line import Level, LogLine
from drakkar_flow.observe.log.lines.common import MAX_PARTITIONS, Lines, partition_name, partition_names

__all__ = ["LINES"]


def _broker(e: BrokerStateChanged) -> LogLine:
    if e.up:
        return LogLine("info", "broker_up", {"reason": e.reason} if e.reason else {}, key=())
    expect = "reads and commits resume when a broker answers"
    return LogLine("warning", "broker_down", {"reason": e.reason}, expect, (), cause_text(e.reason))


def _consumer_error(e: ConsumerError) -> LogLine:
    return LogLine("warning", "consumer_error", {"error": e.error}, "the consumer continues", (), cause_text(e.error))


def _client_logged(e: ClientLogged) -> LogLine:
    level: Level = "error" if e.level >= 40 else "warning" if e.level >= 30 else "info" if e.level >= 20 else "debug"
    fields = {"facility": e.facility, "client": e.client, "text": e.text}
    return LogLine(level, "kafka_client_log", fields, "the client continues", (e.facility,))


def _topic_recreated(e: TopicRecreated) -> LogLine:
    expect = "its partitions are read from the beginning; records in flight of the former topic are dropped"
    return LogLine(
        "warning", "topic_recreated", {"topic": e.topic, "partitions": partition_names(e.topic_partitions)}, expect
    )


def _assignment_awaited(e: AssignmentAwaited) -> LogLine:
    fields = {"consumer_group": e.group, "waited_s": round(e.waited_s, 3), "at_most_s": e.session_timeout_s}
    expect = (
        "partitions are assigned when draining members have finished, or when the session of a member that ended "
        f"without leaving expires, {e.session_timeout_s:g} s after its last heartbeat; with more members than "
        "partitions some members get none"
    )
    return LogLine("info", "assignment_awaited", fields, expect)


def _assigned(e: PartitionsAssigned) -> LogLine:
    return LogLine("info", "partitions_assigned", {"partitions": partition_names(e.topic_partitions), "total": e.total})


def _revoked(e: PartitionsRevoked) -> LogLine:
    fields = {"partitions": partition_names(e.topic_partitions), "total": e.total, "unfinished": e.unfinished}
    expect = "unfinished records will be read again by the partitions' next owner" if e.unfinished else ""
    if e.lost:
        return LogLine("warning", "partitions_lost", fields, expect or "nothing more is committed for them here")
    return LogLine("info", "partitions_revoked", fields, expect)


def _intake(e: IntakePaused) -> LogLine:
    event = "intake_paused" if e.paused else "intake_resumed"
    return LogLine("debug", event, {"in_flight": e.in_flight}, key=())


def _committed(e: Committed) -> LogLine:
    return LogLine(
        "debug",
        "offsets_committed",
        {"offsets": {partition_name(topic_partition): offset for topic_partition, offset in e.offsets}},
    )


def _commit_failed(e: CommitFailed) -> LogLine:
    expect = "it is retried; until then a restart reads finished records again"
    fields = {"partitions": partition_names(e.topic_partitions[:MAX_PARTITIONS]), "error": e.error}
    return LogLine("warning", "commit_failed", fields, expect, (), cause_text(e.error))


LINES: Lines = {
    BrokerStateChanged: _broker,
    ConsumerError: _consumer_error,
    ClientLogged: _client_logged,
    TopicRecreated: _topic_recreated,
    AssignmentAwaited: _assignment_awaited,
    PartitionsAssigned: _assigned,
    PartitionsRevoked: _revoked,
    IntakePaused: _intake,
    Committed: _committed,
    CommitFailed: _commit_failed,
}
