"""Typed values of keyed state: round trips, expiry, older models, refused values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, field_validator

from drakkar_flow.errors import StateError
from drakkar_flow.model.state import StateCodec, key_of, key_text, plain_value


class Count(msgspec.Struct, frozen=True):
    """A struct."""

    n: int = 0


class CountWithUser(msgspec.Struct, frozen=True):
    """A later version of it."""

    number: int
    user: str = ""


class Profile(BaseModel):
    """A pydantic model."""

    name: str
    seen: datetime


class Bounded(BaseModel):
    """A pydantic model with a validator."""

    least: ClassVar[int] = 0
    n: int

    @field_validator("n")
    @classmethod
    def check(cls, n: int) -> int:
        """Refuse numbers below `least`."""
        if n < cls.least:
            raise ValueError(f"{n} is less than {cls.least}")
        return n


@dataclass
class Pair:
    """A dataclass."""

    left: int
    right: list[str]


@pytest.mark.parametrize(
    ("model", "value"),
    [
        (Count, Count(3)),
        (Profile, Profile(name="anna", seen=datetime(2026, 1, 2, tzinfo=UTC))),
        (Pair, Pair(1, ["a"])),
        (int, 7),
        (bool, True),
        (str, "text"),
        (bytes, b"\xff"),
        (dict[str, int], {"a": 1}),
        (dict, {"a": [1, {"b": None}]}),
        (tuple[int, str], (1, "a")),
        (datetime, datetime(2026, 1, 2, tzinfo=UTC)),
    ],
)
def test_a_value_is_read_as_it_was_written(model: object, value: object) -> None:
    """Pydantic models, structs, dataclasses and builtin types survive the round trip."""
    codec = StateCodec(model)
    read = codec.decode(codec.encode(value, 5))
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("model", "value", "text"),
    [
        (Count, {"n": 3}, "expected Count, got dict"),
        (Count, Count(n="x"), "Expected `int`, got `str`"),  # type: ignore[arg-type]  # wrong on purpose
        (Profile, Count(), "expected Profile, got Count"),
        (Profile, Profile.model_construct(name="anna", seen=None), "seen"),  # type: ignore[arg-type]  # wrong on purpose
        (int, "7", "Expected `int`, got `str`"),
        (dict, {"a": object()}, "unsupported"),
        (int, 1 << 70, "can't be stored as int"),
    ],
)
def test_a_value_that_a_later_read_would_refuse_is_refused_when_it_is_written(
    model: type[object], value: object, text: str
) -> None:
    """The error names both types, so that the record at fault fails and not all that follow it."""
    with pytest.raises(StateError, match=text):
        StateCodec(model).encode(value, 5)


@given(st.sampled_from([bool, int, float, str, bytes]), st.data())
def test_a_scalar_that_is_written_can_be_read(model: type[object], data: st.DataObject) -> None:
    """Also at the ends of its range; one that can't be written is refused."""
    values = {
        bool: st.booleans(),
        int: st.integers(-(2**64), 2**65),
        float: st.floats(allow_nan=False),
        str: st.text(st.characters()),
        bytes: st.binary(),
    }
    value, codec = data.draw(values[model]), StateCodec(model)
    try:
        stored = codec.encode(value, 5)
    except StateError:
        assert model in (int, str)
    else:
        assert codec.decode(stored) == value


@pytest.mark.parametrize(("model", "value"), [(int, True), (float, "1"), (str, b"a"), (bytes, "a"), (bool, 1)])
def test_a_scalar_of_another_type_is_refused(model: type[object], value: object) -> None:
    """As every value that its model does not allow."""
    with pytest.raises(StateError, match="can't be stored"):
        StateCodec(model).encode(value, 5)


def test_a_type_that_can_not_be_stored_is_refused_at_once() -> None:
    """The check of a flow reports it before a record is read."""
    with pytest.raises(TypeError, match="custom type"):
        StateCodec(object)


def test_a_value_of_a_model_with_more_optional_fields_needs_no_migration() -> None:
    """A field with a default may be added; docstrings and titles are no part of a model's version."""

    class Later(msgspec.Struct):
        """Another docstring."""

        n: int
        extra: str = "none"

    assert StateCodec(Later).decode(StateCodec(Count).encode(Count(3), 5)) == Later(3)


def test_a_value_that_does_not_fit_names_the_way_out() -> None:
    """Without `migrate` a value of an incompatible model is an error."""
    with pytest.raises(
        StateError, match=r"another version of CountWithUser and does not fit: .*number.*; pass migrate="
    ):
        StateCodec(CountWithUser).decode(StateCodec(Count).encode(Count(3), 5))


def test_a_value_that_is_damaged_or_that_a_validator_refuses_now_is_an_error_of_the_value() -> None:
    """A validator is no part of the schema, so the version of the model is the same."""
    stored = StateCodec(int).encode(7, now_ms=0)
    for damaged in (b"", stored[:4], stored[:-1], stored[:-1] + b"\xc1"):
        with pytest.raises(StateError, match="can't be read as int"):
            StateCodec(int).decode(damaged)
        assert not StateCodec(int, ttl_s=1).is_expired(damaged, now_ms=0)
    former = StateCodec(Bounded).encode(Bounded(n=7), now_ms=0)
    Bounded.least = 8
    with pytest.raises(StateError, match=r"can't be read as Bounded: .*is less than 8"):
        StateCodec(Bounded).decode(former)


def test_migrate_gets_plain_data_or_the_older_model() -> None:
    """The annotation of its parameter decides; a present value is not migrated."""

    def from_plain(old: dict[str, Any]) -> CountWithUser:
        return CountWithUser(old["n"], "plain")

    def from_model(old: Count) -> CountWithUser:
        return CountWithUser(old.n, "model")

    def from_pydantic(old: Profile) -> CountWithUser:
        return CountWithUser(0, old.name)

    older = StateCodec(Count).encode(Count(3), 5)
    assert StateCodec(CountWithUser, migrate=from_plain).decode(older) == CountWithUser(3, "plain")
    assert StateCodec(CountWithUser, migrate=from_model).decode(older) == CountWithUser(3, "model")
    profile = StateCodec(Profile).encode(Profile(name="anna", seen=datetime(2026, 1, 2, tzinfo=UTC)), 5)
    assert StateCodec(CountWithUser, migrate=from_pydantic).decode(profile) == CountWithUser(0, "anna")
    codec = StateCodec(CountWithUser, migrate=from_plain)
    assert codec.decode(codec.encode(CountWithUser(4, "new"), 5)) == CountWithUser(4, "new")


@pytest.mark.parametrize(
    ("migrate", "text"), [(lambda _old: 3, "migrate returned int"), (lambda old: old["m"], "migrate failed: 'm'")]
)
def test_a_migration_that_fails_or_returns_something_else_is_an_error(migrate: Callable[..., Any], text: str) -> None:
    """The value stays as it is."""
    with pytest.raises(StateError, match=text):
        StateCodec(CountWithUser, migrate=migrate).decode(StateCodec(Count).encode(Count(3), 5))


def test_equal_values_differ_in_time_only() -> None:
    """The comparison that spares a write."""
    codec = StateCodec(Count)
    assert codec.are_equal(codec.encode(Count(3), 5), codec.encode(Count(3), 6))
    assert not codec.are_equal(codec.encode(Count(3), 5), codec.encode(Count(4), 5))
    assert plain_value(codec.encode(Count(3), 5)) == {"n": 3}


@given(*[st.one_of(st.text(), st.integers(), st.binary())] * 2)
def test_different_keys_have_different_texts(one: bytes | int | str, other: bytes | int | str) -> None:
    """Text, numbers and bytes never collide, and a key is found again from its text."""
    assert key_of(key_text(one)) == one
    assert (key_text(one) == key_text(other)) == (type(one) is type(other) and one == other)


@pytest.mark.parametrize("key", [None, 1.5, ("a", 1), object()])
def test_keys_of_other_types_are_refused(key: float | object | tuple[str, int] | None) -> None:
    """A key that nothing could be found by again."""
    with pytest.raises(TypeError, match="a str, an int or bytes, not"):
        key_text(key)
    with pytest.raises(ValueError, match="surrogates"):
        key_text("\ud800")
