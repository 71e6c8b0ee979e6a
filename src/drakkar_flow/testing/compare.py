"""Comparison of a flow's results with the expectation of a case, as readable lines. Pure."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from drakkar_flow.model.codec import encode
from drakkar_flow.model.outcome import Failure
from drakkar_flow.model.record import TopicPartition
from drakkar_flow.observe.events.base import Event
from drakkar_flow.testing.cases import Expectation, SinkCase

__all__ = ["Match", "Observed", "differences", "fits", "plain"]


class Observed(Protocol):
    """Results of a flow that a case can expect; an `Outcome` is one."""

    @property
    def deliveries(self) -> Mapping[str, Sequence[Any]]:
        """Payloads by sink id."""
        ...

    @property
    def committed(self) -> Mapping[TopicPartition, int]:
        """Committed offsets."""
        ...

    @property
    def dead_letters(self) -> Sequence[Failure]:
        """Dead letters."""
        ...

    @property
    def events(self) -> Sequence[Event]:
        """Events of the bus."""
        ...

    @property
    def state(self) -> Mapping[str, Mapping[Any, Any]]:
        """Final values of keyed state by step and key."""
        ...

    @property
    def failure(self) -> str | None:
        """Reason of the flow's failure; None if it did not fail."""
        ...


def differences(expected: Expectation, outcome: Observed) -> list[str]:
    """Return the differences, a line or a few for each; empty if there are none."""
    found: list[str] = []
    if expected.deliveries is not None:
        known = ", ".join(outcome.deliveries)
        unknown = expected.deliveries.keys() - outcome.deliveries.keys()
        found += [f"{sink_id}: no such sink; there are: {known}" for sink_id in sorted(unknown)]
        for sink_id, payloads in outcome.deliveries.items():
            found += _deliveries(sink_id, expected.deliveries.get(sink_id, SinkCase(data=[])), payloads)
    found += _dead_letters(expected.dead_letters, outcome)
    if expected.committed is not None:
        committed = {number: offset for (_, number), offset in outcome.committed.items()}
        found += _unequal("committed", expected.committed, committed)
    if expected.state is not None:
        found += _unequal("state", *(_with_text_keys(state) for state in (expected.state, outcome.state)))
    for name, count in expected.events.items():
        emitted = sum(type(event).__name__ == name for event in outcome.events)
        if emitted != count:
            found.append(f"event {name}: emitted {emitted} times, expected {count}")
    failure = outcome.failure or ""
    if (expected.failure not in failure) if expected.failure else failure:
        found.append(f"the flow failed: {failure}" if failure else "the flow did not fail")
    return found


def _with_text_keys(state: Mapping[str, Mapping[Any, Any]]) -> dict[str, dict[str, Any]]:
    return {
        step: {plain(key if isinstance(key, bytes) else str(key)): plain(value) for key, value in values.items()}
        for step, values in state.items()
    }


Match = Literal["exact", "subset", "pattern"]


def fits(expected: Any, got: Any, match: Match = "exact") -> bool:
    """Return True if a JSON value is the expected one, compared by `match` as in SinkCase.

    >>> fits({"a": [{"b": 1}]}, {"a": [{"b": 1, "c": 2}], "d": 3}, "subset")
    True
    >>> fits({"a": 1}, {"a": True}, "subset")
    False
    >>> fits({"id": "[0-9]+", "at": ".*"}, {"id": "17", "at": 2.5, "d": 3}, "pattern")
    True
    """
    if isinstance(expected, dict) and isinstance(got, dict):
        same_keys = expected.keys() == got.keys() if match == "exact" else expected.keys() <= got.keys()
        return same_keys and all(fits(value, got[key], match) for key, value in expected.items())
    if isinstance(expected, list) and isinstance(got, list):
        pairs = zip(expected, got, strict=False)
        return len(expected) == len(got) and all(fits(each, other, match) for each, other in pairs)
    if match == "pattern" and isinstance(expected, str):
        text = got if isinstance(got, str) else json.dumps(got, ensure_ascii=False, sort_keys=True)
        return re.fullmatch(expected, text, re.DOTALL) is not None
    if isinstance(expected, bool) or isinstance(got, bool):
        return expected is got
    return bool(expected == got)


def _deliveries(sink_id: str, expected: SinkCase, payloads: Sequence[Any]) -> list[str]:
    found = []
    if expected.count is not None and len(payloads) != expected.count:
        found.append(f"{sink_id}: {len(payloads)} payloads, expected {expected.count}")
    match = expected.match
    if expected.data is not None:
        got = [plain(each.data) for each in payloads]
        found += _lists(sink_id, expected.data, got, match, ordered=expected.ordered)
    if expected.payloads is not None:
        fields = [{name: plain(getattr(each, name)) for name in each.__struct_fields__} for each in payloads]
        match = "subset" if match == "exact" else match
        found += _lists(sink_id, expected.payloads, fields, match, ordered=expected.ordered)
    return found


def _lists(what: str, expected: list[Any], got: list[Any], match: Match, *, ordered: bool) -> list[str]:
    if ordered:
        if fits(expected, got, match):
            return []
        alike = [other if fits(each, other, match) else each for each, other in zip(expected, got, strict=False)]
        return _unequal(what, [*alike, *expected[len(alike) :]], got)
    missing, left = _match(expected, got, match)
    return _unequal(f"{what}, in any order", missing, left) if missing or left else []


def _match(expected: list[Any], got: list[Any], match: Match) -> tuple[list[Any], list[Any]]:
    """Return expected items without a match, and unexpected ones. Exact matches first: a subset fits many."""
    left, missing = list(got), []
    for each in sorted(expected, key=lambda value: -len(json.dumps(value, default=str))):
        index = next((at for at, other in enumerate(left) if fits(each, other, match)), None)
        if index is None:
            missing.append(each)
        else:
            del left[index]
    return missing, left


def _dead_letters(expected: int | list[dict[str, str]], outcome: Observed) -> list[str]:
    letters = [
        {
            "kind": str(letter.kind),
            "stage": letter.stage,
            "label": ", ".join(record.label for record, _ in letter.tokens),
            "error": letter.error,
        }
        for letter in outcome.dead_letters
    ]
    if isinstance(expected, int):
        what = f"dead letters ({expected} expected)"
        return [] if len(letters) == expected else _unequal(what, [], letters) or [f"{what}: none arrived"]
    left, missing = list(letters), []
    for each in expected:
        index = next((at for at, letter in enumerate(left) if _names(each, letter)), None)
        if index is None:
            missing.append(each)
        else:
            del left[index]
    return _unequal("dead letters", missing, left) if missing or left else []


def _names(expected: dict[str, str], letter: dict[str, str]) -> bool:
    return all(part in letter.get(key, "") for key, part in expected.items())


def _unequal(what: str, expected: Any, got: Any) -> list[str]:
    if expected == got:
        return []
    lines = difflib.ndiff(_shown(expected), _shown(got))
    return [f"{what}: - expected, + actual", *(f"    {line}" for line in lines if line[0] != "?")]


def _shown(value: Any) -> list[str]:
    """Return one line for each item; nested values stay on one line as long as that is readable."""
    if isinstance(value, list):
        return [json.dumps(each, ensure_ascii=False, sort_keys=True) for each in value]
    return json.dumps(value, ensure_ascii=False, sort_keys=True, indent=2).splitlines()


def plain(value: Any) -> Any:
    """Return a payload's field as JSON: bytes and text as text, other values as they are written."""
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, str):
        return value
    return msgspec.json.decode(encode(value))
