"""Every record becomes a row and a request with the same private text, which both targets refuse."""

import os

from drakkar_flow import HttpPayload, HttpSink, PostgresPayload, PostgresSink, StreamFlow

TEXT = "private-4711"


def to_payloads(number: int) -> list[PostgresPayload | HttpPayload]:
    """A row that violates a constraint, and a request whose answer quotes it."""
    return [PostgresPayload(table=os.environ["TABLE"], data={"text": TEXT}), HttpPayload(data={"text": TEXT})]


flow = StreamFlow("refused").decode(int).flat_map(to_payloads).route(PostgresSink("main"), HttpSink("main"))
