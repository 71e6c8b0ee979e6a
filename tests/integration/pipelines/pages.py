"""Keeps the last value of each key."""

from drakkar_flow import KafkaSink, StreamFlow


def keep(_last: str | None, value: str, _record: object) -> tuple[str, str]:
    """The value."""
    return value, value[:10]


flow = (
    StreamFlow("pages").decode(str).stateful(keep, key=lambda _value, record: record.key, state=str, with_record=True)
)
flow = flow.route(KafkaSink("out"))
