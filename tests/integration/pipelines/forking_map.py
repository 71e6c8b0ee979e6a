"""A function on the engine's thread forks, and the child comes back from it."""

import os
import sys

from drakkar_flow import KafkaPayload, KafkaSink, StreamFlow


def fork(value: bytes) -> KafkaPayload:
    """The parent waits for its child, which returns or exits."""
    if os.fork() == 0:
        if os.environ["FORKING"] == "exiting":
            sys.exit(7)
        return KafkaPayload(data=b"from the child", key=b"k")
    _, status = os.wait()
    return KafkaPayload(data=str(os.waitstatus_to_exitcode(status)), key=value)


flow = StreamFlow("forking").decode(bytes).map(fork).route(KafkaSink("out"))
