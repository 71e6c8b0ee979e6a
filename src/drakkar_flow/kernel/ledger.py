"""Ledger: keyed state of one partition, where a change becomes final with the record that made it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from drakkar_flow.kernel.partition_row import StateKey, StateTables

__all__ = ["Ledger", "StateChange"]

StateChange = tuple[str, bytes | None, int]
"""Key, its new value or None if it is deleted, and the offset of the record that changes it."""


class _Table:
    """Values of one step by the user's key."""

    __slots__ = ("final", "newest", "step", "unswept")

    def __init__(self, step: str, final: dict[str, bytes]) -> None:
        self.step = step
        self.final = final
        self.newest: dict[str, _Change | _Record] = {}
        """Newest changes that are not final."""
        self.unswept: list[str] = []

    def size(self) -> int:
        """Return the bytes of final keys and values, as `_size` counts each."""
        return len(self.step) * len(self.final) + sum(map(len, self.final)) + sum(map(len, self.final.values()))


class _Change(msgspec.Struct, eq=False):
    """Change by a record that has changed another key before."""

    record: _Record
    table: _Table
    key: str
    value: bytes | None
    newer: _Change | _Record | None = None


class _Record(msgspec.Struct, eq=False):
    """Unfinished record with changes, or a finished one whose changes wait for others.

    It is its own first change: most records have no other.
    """

    offset: int
    table: _Table | None = None
    """Table of the first change; None if the record is only tied to others so far."""
    key: str = ""
    value: bytes | None = None
    newer: _Change | _Record | None = None
    """The next change of the same key."""
    more: list[_Change] | None = None
    """The changes of other keys."""
    before: list[_Record] | None = None
    """Records whose changes must be final first, or together with these; None if there are none, as for most."""
    finished: bool = False
    final: bool = False
    waits_for: _Record | None = None
    """A record that this finished one depends on, over others or directly. Following it leads to an unfinished
    record."""
    waiters: list[_Record] | None = None

    @property
    def record(self) -> _Record:
        """The record of the first change."""
        return self

    def goes_after(self, before: _Record) -> None:
        """Note that the changes of another record must be final first, or together with these."""
        if self.before is None:
            self.before = [before]
        else:
            self.before.append(before)


class Ledger:
    """Final values by key, and the changes of unfinished records on top of them.

    Reads return the newest value. A change becomes final when its record is finished and the change of the same key
    before it is final; records that wait for each other in a circle become final together. So the final values are at
    any time the result of finished records alone, each with all its changes.

    >>> ledger = Ledger({("count", "anna"): b"1"})
    >>> ledger.put(("count", "anna"), b"2", offset=7)
    >>> ledger.put(("count", "anna"), b"3", offset=8)
    >>> ledger.get(("count", "anna")), ledger.final[("count", "anna")]
    (b'3', b'1')
    >>> ledger.finish(8)
    []
    >>> ledger.finish(7), ledger.final[("count", "anna")]
    ([7, 8], b'3')
    """

    __slots__ = ("_open", "_tables", "size")

    def __init__(self, final: Mapping[StateKey, bytes] | None = None) -> None:
        self._tables = {step: _Table(step, values) for step, values in StateTables(final).tables.items()}
        self._open: dict[int, _Record] = {}
        self.size = sum([table.size() for table in self._tables.values()])
        """Bytes of the final keys and values."""

    def __contains__(self, offset: object) -> bool:
        """True if a record has changes that are not final."""
        return offset in self._open

    def __len__(self) -> int:
        """Number of final keys."""
        return sum([len(table.final) for table in self._tables.values()])

    @property
    def final(self) -> StateTables:
        """The final values: not a copy, they change with the ledger."""
        return StateTables.by_step({step: table.final for step, table in self._tables.items()})

    @property
    def waiting(self) -> int:
        """Number of records with changes that are not final."""
        return len(self._open)

    def get(self, key: StateKey) -> bytes | None:
        """Return the newest value of a key, final or not; None if it has none."""
        table, text = self._table(key[0]), key[1]
        change = table.newest.get(text)
        return table.final.get(text) if change is None else change.value

    def get_all(self, step: str, keys: Iterable[str]) -> dict[str, bytes | None]:
        """Return the newest values of keys of one step."""
        table = self._table(step)
        newest, final = table.newest.get, table.final.get
        return {key: final(key) if (change := newest(key)) is None else change.value for key in keys}

    def put(self, key: StateKey, value: bytes | None, offset: int) -> None:
        """Change the value of a key for an unfinished record; None deletes it.

        Raises:
            ValueError: the record is finished.
        """
        self.put_all(key[0], ((key[1], value, offset),))

    def put_all(self, step: str, changes: Iterable[StateChange]) -> None:
        """Change values of one step for unfinished records, in order.

        Raises:
            ValueError: one of the records is finished; the changes before it are made.
        """
        table, opened = self._table(step), self._open
        newest = table.newest
        for key, value, offset in changes:
            before = newest.get(key)
            record = opened.get(offset)
            if record is None:
                record = opened[offset] = newest[key] = _Record(offset, table, key, value)
                if before is None:  # most, and so cheaper
                    continue
                before.newer = record
            elif record.finished:
                raise self._late(offset)
            elif before is not None and before.record is record:
                before.value = value
                continue
            else:
                change = newest[key] = self._add(record, table, key, value)
                if before is None:
                    continue
                before.newer = change
            record.goes_after(before.record)

    def tie(self, offsets: Iterable[int]) -> None:
        """Let the changes of several unfinished records become final together only: one call made them.

        Raises:
            ValueError: one of the records is finished.
        """
        records = [self._opened(offset) for offset in dict.fromkeys(offsets)]
        if len(records) > 1:
            for record, before in zip(records, [records[-1], *records[:-1]], strict=True):
                record.goes_after(before)

    def finish(self, offset: int) -> list[int]:
        """Note that a record is finished; returns the records that are final now, this one included if it is.

        A record without changes is final at once.
        """
        return self.finish_all((offset,))

    def finish_all(self, offsets: Iterable[int]) -> list[int]:
        """Note that records are finished, in any order; returns the records that are final now."""
        opened = self._open
        final: list[int] = []
        ready: list[_Record] = []
        for offset in offsets:
            record = opened.get(offset)
            if record is not None:
                before = record.before
                if record.waiters is not None or (before is not None and [each for each in before if not each.final]):
                    final += self._finish(record)
                    continue
                del opened[offset]  # most, and so cheaper
                record.final = True
                ready.append(record)
            final.append(offset)
        self._make_final(ready)
        return final

    def clear_unfinished(self) -> None:
        """Drop all changes that are not final: their records will be read again."""
        for table in self._tables.values():
            table.newest.clear()
        self._open.clear()

    def sweep(self, step: str, is_expired: Callable[[bytes], bool], limit: int) -> None:
        """Remove expired final values among the next `limit` keys of a step; repeated calls reach every key in turn."""
        table = self._table(step)
        if not table.unswept:
            table.unswept = list(table.final)
        for _ in range(min(limit, len(table.unswept))):
            key = table.unswept.pop()
            value = table.final.get(key)
            if value is not None and key not in table.newest and is_expired(value):
                self._write(((table, key, None),))

    def _table(self, step: str) -> _Table:
        table = self._tables.get(step)
        if table is None:
            table = self._tables[step] = _Table(step, {})
        return table

    def _opened(self, offset: int) -> _Record:
        record = self._open.get(offset)
        if record is None:
            record = self._open[offset] = _Record(offset)
        elif record.finished:
            raise self._late(offset)
        return record

    def _add(self, record: _Record, table: _Table, key: str, value: bytes | None) -> _Change | _Record:
        """Add a change to a record that is open already."""
        if record.table is None:
            record.table, record.key, record.value = table, key, value
            return record
        change = _Change(record, table, key, value)
        if record.more is None:
            record.more = [change]
        else:
            record.more.append(change)
        return change

    def _late(self, offset: int) -> ValueError:
        return ValueError(f"the record at offset {offset} is finished: it can't change state any more")

    def _finish(self, record: _Record) -> list[int]:
        """Note that a record is finished that others may depend on, or that depends on others."""
        record.finished = True
        final: list[int] = []
        ready = [record]
        while ready:
            record = ready.pop()
            if record.final:
                continue
            for each in self._finished_with(record):
                final.append(each.offset)
                for waiter in each.waiters or ():
                    if not waiter.final:
                        waiter.waits_for = None
                        ready.append(waiter)
                each.waiters = None
        return final

    def _finished_with(self, record: _Record) -> Collection[_Record]:
        """Make a finished record final, with all that it depends on; returns none if an unfinished record is among it.

        A record of another tree of waiting records ends the search: an unfinished record is at the root of that tree.
        """
        group = {record: None}
        unchecked = [record]
        while unchecked:
            for before in unchecked.pop().before or ():
                if before.final or before in group:
                    continue
                root = before
                while root.waits_for is not None:
                    root = root.waits_for
                if root is not record:
                    record.waits_for = root
                    if root.waiters is None:
                        root.waiters = []
                    root.waiters.append(record)
                    return ()
                group[before] = None
                unchecked.append(before)
        for each in group:
            del self._open[each.offset]
        self._make_final(group)
        return group

    def _make_final(self, records: Collection[_Record]) -> None:
        """Write the changes of records that are no longer open."""
        changes: list[_Change | _Record] = [*records]
        for record in records:
            record.final = True
            record.before = None  # else each record would keep all before it in memory
            if record.more is not None:
                changes += record.more
        written: list[tuple[_Table, str, bytes | None]] = []
        for change in changes:
            table, key, newer = change.table, change.key, change.newer
            if table is None:
                continue  # tied to others, without a change
            if newer is None:
                del table.newest[key]
            elif newer.record.final:
                continue
            written.append((table, key, change.value))
        self._write(written)

    def _write(self, values: Iterable[tuple[_Table, str, bytes | None]]) -> None:
        """Change final values: nothing else does."""
        grown = 0
        for table, key, value in values:
            final = table.final
            was = final.get(key)
            if value is not None:
                final[key] = value
                grown += _size(table.step, key, value) if was is None else len(value) - len(was)
            elif was is not None:
                del final[key]
                grown -= _size(table.step, key, was)
        self.size += grown


def _size(step: str, key: str, value: bytes) -> int:
    return len(step) + len(key) + len(value)
