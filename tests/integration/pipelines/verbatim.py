"""Records go out as they came in, headers and all; one whose key is `double` comes out twice as large."""

from drakkar_flow import KafkaPayload, KafkaSink, Record, StreamFlow


def to_payload(_payload: object, record: Record) -> KafkaPayload:
    """The record again."""
    value = record.value * 2 if record.key == b"double" else record.value
    return KafkaPayload(data=value, key=record.key, headers=record.headers)


flow = StreamFlow("verbatim").map(to_payload, with_record=True).route(KafkaSink("out"))
