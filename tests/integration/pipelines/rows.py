"""Every record becomes a row that says where it came from."""

from drakkar_flow import PostgresPayload, Record, StreamFlow
from drakkar_flow.graph.nodes import SinkRef


def to_row(number: int, record: Record) -> PostgresPayload:
    """A row for one record."""
    return PostgresPayload(table="rows", data={"lane": record.partition, "place": record.offset, "number": number})


flow = StreamFlow("rows").decode(int).map(to_row, with_record=True).route(SinkRef("postgres", "main"))
