"""Side file of a sealed recording: what it holds, so that a query can skip the recording unopened."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec

from drakkar_flow.recorder.fold.samples import id_hash

__all__ = ["Side", "read_side", "side_from", "write_side"]

_BITS_PER_TASK = 8
_MAX_BITS = 23


class Side(msgspec.Struct, frozen=True, gc=False):
    """Identity, period, offsets by topic partition, and a filter of task ids.

    `offsets` has, by topic:partition, the lowest and the highest offset that was read or passed. The filter has a bit
    per hash of a task id, shifted right by `shift`.
    """

    file: str
    worker: str
    ended: str
    began_us: int
    ended_us: int
    size: int
    offsets: dict[str, tuple[int, int]]
    shift: int
    bits: bytes
    stripped: bool = False

    def may_have_task(self, task_id: str) -> bool:
        """Return False if no task of this id is in the recording."""
        place = id_hash(task_id) >> self.shift
        return bool(self.bits[place // 8] & (1 << place % 8)) if self.bits else False

    def may_have_record(self, topic_partition: str, offset: int) -> bool:
        """Return False if the recording knows nothing of this record."""
        first, last = self.offsets.get(topic_partition, (0, -1))
        return first <= offset <= last


def read_side(path: Path) -> Side | None:
    """Return the content of a side file; None if there is none that can be read."""
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=Side)
    except (OSError, msgspec.MsgspecError):
        return None


def write_side(recording: Path, path: Path) -> Side:
    """Write the side file of a closed recording.

    Raises:
        OSError, sqlite3.Error: the recording can't be read, or the file can't be written.
    """
    with closing(sqlite3.connect(f"{recording.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        side = side_from(connection, recording.stat().st_size)
    temporary = path.with_name(f"{path.name}.new")
    temporary.touch(mode=0o600)
    temporary.write_bytes(msgspec.msgpack.encode(side))
    temporary.replace(path)
    return side


def side_from(connection: sqlite3.Connection, size: int) -> Side:
    """Return what a recording holds.

    Raises:
        sqlite3.Error: it can't be read.
    """
    meta = dict(connection.execute("SELECT name, value FROM meta").fetchall())
    offsets: dict[str, tuple[int, int]] = {}
    reads = (
        "SELECT topic_partition, min(first), max(max(last, passed)) FROM spans WHERE first >= 0"
        " GROUP BY topic_partition"
    )
    passes = "SELECT topic_partition, min(passed), max(passed) FROM spans WHERE passed >= 0 GROUP BY topic_partition"
    seen = "SELECT topic_partition, min(offset), max(offset) FROM {} WHERE offset IS NOT NULL GROUP BY topic_partition"
    names = dict(connection.execute("SELECT id, text FROM names WHERE kind = 'topic_partition'").fetchall())
    for statement in (reads, passes, *(seen.format(table) for table in ("tasks", "events", "traces"))):
        for number, first, last in connection.execute(statement):
            if number in names:
                low, high = offsets.get(names[number], (first, last))
                offsets[names[number]] = (min(low, first), max(high, last))
    shift, bits = _filter(connection)
    return Side(
        file=str(meta.get("file", "")),
        worker=str(meta.get("worker", "")),
        ended=str(meta.get("ended", "open")),
        began_us=int(meta.get("began_us", 0)),
        ended_us=int(meta.get("ended_us", 0)),
        size=size,
        offsets=offsets,
        shift=shift,
        bits=bits,
        stripped=bool(meta.get("stripped", 0)),
    )


def _filter(connection: sqlite3.Connection) -> tuple[int, bytes]:
    count = connection.execute("SELECT (SELECT count(*) FROM tasks) + (SELECT count(*) FROM outputs)").fetchone()[0]
    width = min(_MAX_BITS, max(6, (count * _BITS_PER_TASK).bit_length()))
    shift = 32 - width
    bits = bytearray((1 << width) // 8)
    for table in ("tasks", "outputs"):
        for (place,) in connection.execute(f"SELECT DISTINCT hash >> {shift} FROM {table}"):  # noqa: S608 - ours
            bits[place // 8] |= 1 << place % 8
    return shift, bytes(bits)
