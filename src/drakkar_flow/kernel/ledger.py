"""Ledger: keyed state of one partition, where a change becomes final with the record that made it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from drakkar_flow.kernel.partition_row import StateKey

__all__ = ["Ledger"]


class _Record:
    """Unfinished record with changes, or a finished one whose changes wait for others."""

    __slots__ = ("before", "changes", "final", "finished", "offset", "waiters", "waits_for")

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.changes: list[_Change] | None = None
        self.before: list[_Record] | None = None
        """Records whose changes must be final first, or together with these; None if there are none, as for most."""
        self.finished = False
        self.final = False
        self.waits_for: _Record | None = None
        """A record that this finished one depends on, over others or directly. Following it leads to an unfinished
        record."""
        self.waiters: list[_Record] | None = None

    def goes_after(self, before: _Record) -> None:
        """Note that the changes of another record must be final first, or together with these."""
        if self.before is None:
            self.before = [before]
        else:
            self.before.append(before)


class _Change:
    __slots__ = ("key", "newer", "record", "value")

    def __init__(self, record: _Record, key: StateKey, value: bytes | None) -> None:
        self.record = record
        self.key = key
        self.value = value
        self.newer: _Change | None = None


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

    __slots__ = ("_changed", "_final", "_newest", "_open", "_unswept", "size")

    def __init__(self, final: Mapping[StateKey, bytes] | None = None) -> None:
        self._final: dict[StateKey, bytes] = dict(final or {})
        self._newest: dict[StateKey, _Change] = {}
        self._open: dict[int, _Record] = {}
        self._unswept: list[StateKey] = []
        self._changed: set[StateKey] | None = None
        self.size = sum(_size(key, value) for key, value in self._final.items())
        """Bytes of the final keys and values."""

    def __contains__(self, offset: object) -> bool:
        """True if a record has changes that are not final."""
        return offset in self._open

    def __len__(self) -> int:
        """Number of final keys."""
        return len(self._final)

    @property
    def final(self) -> Mapping[StateKey, bytes]:
        """The final values; a view that changes with the ledger."""
        return MappingProxyType(self._final)

    @property
    def waiting(self) -> int:
        """Number of records with changes that are not final."""
        return len(self._open)

    def get(self, key: StateKey) -> bytes | None:
        """Return the newest value of a key, final or not; None if it has none."""
        change = self._newest.get(key)
        return self._final.get(key) if change is None else change.value

    def put(self, key: StateKey, value: bytes | None, offset: int) -> None:
        """Change the value of a key for an unfinished record; None deletes it.

        Raises:
            ValueError: the record is finished.
        """
        record = self._open.get(offset)
        if record is None:
            record = self._open[offset] = _Record(offset)
        elif record.finished:
            raise self._late(offset)
        newest = self._newest.get(key)
        if newest is not None and newest.record is record:
            newest.value = value
            return
        change = self._newest[key] = _Change(record, key, value)
        if record.changes is None:
            record.changes = [change]
        else:
            record.changes.append(change)
        if newest is not None:
            newest.newer = change
            record.goes_after(newest.record)

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
        record = self._open.get(offset)
        if record is None:
            return [offset]
        record.finished = True
        if record.before is None and record.waiters is None:  # most, and so cheaper
            self._make_final((record,))
            return [offset]
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

    def clear_unfinished(self) -> None:
        """Drop all changes that are not final: their records will be read again."""
        self._newest.clear()
        self._open.clear()

    def record_changes(self, changed: Iterable[StateKey] = ()) -> None:
        """Record from now on which final values change, and count those of `changed` as changed."""
        self._changed = {*(self._changed or ()), *changed}

    def take_changes(self) -> dict[StateKey, bytes | None]:
        """Return the final values that changed since the last call, None for removed ones.

        Changes that were taken and not stored must be counted again by `record_changes`.

        >>> ledger = Ledger({("count", "anna"): b"1"})
        >>> ledger.record_changes()
        >>> ledger.put(("count", "anna"), b"2", offset=7)
        >>> ledger.take_changes(), ledger.finish(7), ledger.take_changes()
        ({}, [7], {('count', 'anna'): b'2'})
        """
        if not self._changed:
            return {}
        changed, self._changed = self._changed, set()
        return {key: self._final.get(key) for key in changed}

    def sweep(self, is_expired: Callable[[StateKey, bytes], bool], limit: int) -> None:
        """Remove expired final values among the next `limit` keys; repeated calls reach every key in turn."""
        if not self._unswept:
            self._unswept = list(self._final)
        for _ in range(min(limit, len(self._unswept))):
            key = self._unswept.pop()
            value = self._final.get(key)
            if value is not None and key not in self._newest and is_expired(key, value):
                self._write(key, None)

    def _opened(self, offset: int) -> _Record:
        record = self._open.get(offset)
        if record is None:
            record = self._open[offset] = _Record(offset)
        elif record.finished:
            raise self._late(offset)
        return record

    def _late(self, offset: int) -> ValueError:
        return ValueError(f"the record at offset {offset} is finished: it can't change state any more")

    def _finished_with(self, record: _Record) -> Iterable[_Record]:
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
        self._make_final(group)
        return group

    def _make_final(self, group: Iterable[_Record]) -> None:
        for record in group:
            record.final = True
        for record in group:
            del self._open[record.offset]
            for change in record.changes or ():
                newer = change.newer
                if newer is None:
                    del self._newest[change.key]
                if newer is None or not newer.record.final:
                    self._write(change.key, change.value)
            record.before = None  # else each record would keep all before it in memory

    def _write(self, key: StateKey, value: bytes | None) -> None:
        if self._changed is not None:
            self._changed.add(key)
        was = self._final.get(key)
        if value is None:
            if was is not None:
                del self._final[key]
                self.size -= _size(key, was)
            return
        self._final[key] = value
        self.size += _size(key, value) if was is None else len(value) - len(was)


def _size(key: StateKey, value: bytes) -> int:
    return len(key[0]) + len(key[1]) + len(value)
