"""Lesson 7: state by key. Numbers the visits of each user and collects them in sessions; kills do not miscount.

A change of state is final with its record, and is stored with the position of the partition, so each visit counts once.
A worker stores both on a local disk (`runtime.recovery`). This lesson runs on the testing kit, which can kill a flow
at a chosen moment. The rules are in docs/state.md.

    python -m examples.07_state
"""

import json
from collections.abc import Iterable
from operator import add
from typing import Any

from pydantic import BaseModel

from drakkar_flow import KafkaSink, Session, StreamFlow, WindowResult
from drakkar_flow.testing import CRASH, run_flow


class Visit(BaseModel):
    """A user opened a page, at a time in seconds. `number` counts the visits of the user."""

    user: str
    at: float
    number: int = 0


def user_of(visit: Visit) -> str:
    """Key of the state. It is kept per partition: send the messages of a user to the same one."""
    return visit.user


def count(visits: int | None, visit: Visit) -> tuple[int, Visit]:
    """Return the next state, which is None before the first visit of the user, and the output."""
    number = (visits or 0) + 1
    return number, visit.model_copy(update={"number": number})


def collect(numbers: list[int] | None, visit: Visit) -> list[int]:
    """Add a visit to the session it belongs to."""
    return sorted([*(numbers or []), visit.number])


def described(session: WindowResult[list[int]]) -> dict[str, Any]:
    """Turn the result of a session into a message."""
    return {"user": session.key, "from": session.start_s, "visits": session.value}


# A session ends 30 minutes after its last visit: as soon as a record of its partition is later, by the times of the
# visits. Visits may arrive up to a minute out of order.
flow = (
    StreamFlow("visits")
    .decode(Visit)
    .stateful(count, key=user_of, state=int)
    .window(
        Session(1800, merge=add),
        key=user_of,
        time=lambda visit: visit.at,
        add=collect,
        state=list[int],
        allowed_lateness_s=60,
    )
    .map(described)
    .route(KafkaSink("sessions"))
)

CONFIG = {
    "kafka": {"source_topic": "visits", "consumer_group": "visits"},
    "runtime": {"recovery": {}},
    "sinks": {"kafka": {"sessions": {"topic": "visits-sessions"}}},
}
"""Settings of a worker: state needs the recovery store, which is in recovery/visits here."""

MONDAY = [("anna", 0), ("otto", 30), ("anna", 600), ("anna", 570)]
TUESDAY = [("anna", 90_000), ("otto", 90_100)]


def encoded(visits: Iterable[tuple[str, float]]) -> list[bytes]:
    """Messages of visits, which are users and times."""
    return [json.dumps({"user": user, "at": at}).encode() for user, at in visits]


def main() -> None:
    """Kill the flow after each day, before it could commit: it reads all visits again."""
    outcome = run_flow(flow, [*encoded(MONDAY), CRASH, *encoded(TUESDAY), CRASH])
    for session in outcome.values:
        print("session:", json.dumps(session))
    print("visits by user:", outcome.state["stateful-count"])
    print("open sessions:", outcome.state["window-collect"])


if __name__ == "__main__":
    main()
