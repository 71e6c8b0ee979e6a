"""Values that are multiples of 100 never come to an end while HOLD is set; the output's key says where it came from."""

import asyncio
import os

from drakkar_flow import KafkaPayload, KafkaSink, Record, StreamFlow


async def pass_on(value: int, record: Record) -> KafkaPayload:
    """The value again, or never."""
    if value % 100 == 0 and os.environ.get("HOLD"):
        await asyncio.Event().wait()
    return KafkaPayload(data=str(value), key=record.label)


flow = StreamFlow("held").decode(int).map_async(pass_on, with_record=True).route(KafkaSink("out"))
