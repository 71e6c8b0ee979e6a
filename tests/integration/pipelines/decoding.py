"""Values must be numbers; the output's key says where each came from."""

from drakkar_flow import KafkaPayload, KafkaSink, Record, StreamFlow


def to_payload(number: int, record: Record) -> KafkaPayload:
    """The number as text, under the record's label."""
    return KafkaPayload(data=str(number), key=record.label)


flow = StreamFlow("decoding").decode(int).map(to_payload, with_record=True).route(KafkaSink("out"))
