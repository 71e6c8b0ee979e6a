"""Faults: failures with one fingerprint count as one problem; counts are exact. Pure."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

from drakkar_flow.kernel.causes import cause_key

__all__ = ["Fault", "FaultFolder", "FaultRow", "fingerprint"]

_BURST = 20  # of one fault in a second, before they thin out
_MAX_FAULTS = 2_000
_CUT = "more faults than are counted one by one"


class Fault(NamedTuple):
    """One failure: its kind, step or part, exception or exit, text, and the top frame of a stack."""

    kind: str
    stage: str
    what: str
    text: str
    frame: str = ""


class FaultRow(NamedTuple):
    """A fingerprint with its count, first and last time, and one text as an example."""

    id: int
    kind: str
    stage: str
    what: str
    text: str
    frame: str
    n: int
    first_us: int
    last_us: int
    sample: str


def fingerprint(fault: Fault) -> int:
    """Return a number of 63 bits, the same on every worker: numbers, ids, paths and quoted values do not count.

    >>> one = Fault("task", "jq", "exit 2", "no such file /a/1")
    >>> other = one._replace(text="no such file /b/2")
    >>> [fingerprint(one) == fingerprint(other._replace(what=what)) for what in ("exit 2", "exit 3")]
    [True, False]
    """
    parts = (fault.kind, fault.stage, fault.what, cause_key(fault.text), fault.frame)
    digest = blake2b("\0".join(parts).encode(errors="replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class FaultFolder:
    """Counts faults of one file; `redact` is applied to texts before they are kept.

    Beyond 2,000 fingerprints, further ones count together by kind and stage.
    """

    def __init__(self, redact: Callable[[str], str] = str) -> None:
        self._redact = redact
        self._rows: dict[int, FaultRow] = {}
        self._counts: dict[int, tuple[int, int]] = {}  # fault -> second, failures in it
        self._changed: set[int] = set()
        self._ids: dict[Fault, int] = {}  # of equal faults, which mostly follow each other

    def add(self, fault: Fault, us: int, count: int = 1) -> tuple[int, int]:
        """Count a fault. Returns its fingerprint, and the weight of the event to keep: 0 if it is not kept.

        Of one fault the first 20 events of a second are kept, then those whose number is a power of two.
        """
        number = self._id_of(fault)
        row = self._rows.get(number)
        if row is None:
            if len(self._rows) >= _MAX_FAULTS:
                fault = Fault(fault.kind, fault.stage, "", _CUT)
                number = fingerprint(fault)
                row = self._rows.get(number)
            if row is None:
                text = self._redact(fault.text[:600])
                row = FaultRow(
                    number,
                    fault.kind,
                    self._redact(fault.stage),
                    fault.what,
                    cause_key(text),
                    fault.frame,
                    0,
                    us,
                    us,
                    text,
                )
        self._rows[number] = row._replace(n=row.n + count, last_us=max(us, row.last_us))
        self._changed.add(number)
        return number, self._thinned(number, us)

    def weight(self, fault: Fault, us: int) -> int:
        """Return the weight of an event of a fault as `add` does, without counting the fault."""
        return self._thinned(self._id_of(fault), us)

    def _thinned(self, number: int, us: int) -> int:
        if len(self._counts) > _MAX_FAULTS:
            self._counts.clear()
        second = us // 1_000_000
        of, seen = self._counts.get(number, (-1, 0))
        seen = seen + 1 if of == second else 1
        self._counts[number] = (second, seen)
        if seen <= _BURST:
            return 1
        if seen & (seen - 1):
            return 0
        return seen // 2 if seen > 2 * _BURST else seen - _BURST

    def take(self) -> list[FaultRow]:
        """Return the rows that changed since the last call."""
        rows = [self._rows[number] for number in sorted(self._changed)]
        self._changed = set()
        return rows

    def _id_of(self, fault: Fault) -> int:
        number = self._ids.get(fault)
        if number is None:
            if len(self._ids) >= _MAX_FAULTS:
                self._ids.clear()
            number = self._ids[fault] = fingerprint(fault)
        return number
