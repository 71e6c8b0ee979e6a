"""JSON in and out: what it can't hold is an error, never null."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any, NoReturn

import msgspec
import pytest
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import SchemaValidator

from drakkar_flow import Handler, PendingContext, StreamFlow
from drakkar_flow.model import codec
from drakkar_flow.model.codec import decoder_for, encode
from drakkar_flow.model.record import Record
from drakkar_flow.testing import FlowHarness


class Priced(BaseModel):
    """A field that may be a float."""

    price: float | None = None


class Anything(BaseModel):
    """A field of whatever type."""

    price: Any = None


class Extra(BaseModel):
    """Fields that nobody declared."""

    model_config = ConfigDict(extra="allow")


class Nested(BaseModel):
    """A float further down."""

    items: list[Priced] = []
    price: dict[str, float] | float | None = None


class Lax(BaseModel):
    """A model whose author wants such numbers."""

    model_config = ConfigDict(allow_inf_nan=True)
    price: float


class Counted(BaseModel):
    """No field can be a float."""

    id: int
    names: list[str] = []
    at: dt.datetime | None = None


class Point(msgspec.Struct):
    """A struct with a float."""

    price: float | None = None


@dataclasses.dataclass
class Row:
    """A dataclass with a float."""

    price: float | None = None


TARGETS = [dict, dict[str, float | None], dict[str, Any], Any, Priced, Anything, Extra, Nested, Point, Row]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "[NaN]"])
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_f20_numbers_that_json_does_not_have_are_decode_errors(target: Any, number: str) -> None:
    """Whatever a record is decoded to."""
    with pytest.raises(ValueError, match=r"."):
        decoder_for(target)(b'{"price": %s}' % number.encode())


@pytest.mark.parametrize("target", [dict, Priced, Counted, Extra], ids=str)
@pytest.mark.parametrize(
    "text",
    [b'\xef\xbb\xbf{"id":1}', b'{"id":"\xff"}', b'{"id":"\\ud800"}', b'{"id":1', b'{"id":1} x', b"", b"[" * 100_000],
    ids=["bom", "utf-8", "surrogate", "short", "more", "empty", "deep"],
)
def test_f20_what_is_not_json_is_a_decode_error(target: Any, text: bytes) -> None:
    """Whatever a record is decoded to."""
    with pytest.raises((ValueError, RecursionError)):
        decoder_for(target)(text)


@pytest.mark.parametrize("target", [dict, Anything, Extra], ids=str)
def test_huge_integers_stay_whole_and_the_last_of_equal_keys_counts(target: Any) -> None:
    """As Python's own decoder has it."""
    made = decoder_for(target)(b'{"price": 1, "price": %d}' % 10**40)
    assert (made if isinstance(made, dict) else made.model_dump())["price"] == 10**40


def test_a_model_that_allows_such_numbers_gets_them() -> None:
    """Its author said so."""
    assert decoder_for(Lax)(b'{"price": Infinity}').price == float("inf")


class Shelf(BaseModel):
    """Floats by another name, with a default that is not finite, and in a model below."""

    label: str
    limit: float = float("inf")
    width: float | None = Field(None, validation_alias="w")
    inner: Priced | None = None


@pytest.fixture(params=["told", "deaf", "older"])
def pydantic_versions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """pydantic as it is, one that takes a model's own validator all the same, and one without the option."""

    def deaf(schema: Any, *, _use_prebuilt: bool) -> SchemaValidator:
        return SchemaValidator(schema)

    def older(schema: Any) -> SchemaValidator:
        return SchemaValidator(schema)

    if request.param != "told":
        monkeypatch.setattr(codec, "SchemaValidator", {"deaf": deaf, "older": older}[request.param])
    how: str = request.param
    return how


@pytest.mark.parametrize(
    "text",
    [b'{"label":"a","limit":NaN}', b'{"label":"a","w":1e400}', b'{"label":"a","inner":{"price":-Infinity}}'],
    ids=["field", "alias", "inner"],
)
def test_numbers_are_checked_with_every_version_of_pydantic(pydantic_versions: str, text: bytes) -> None:
    """The option that makes it cheap is not documented: without it the JSON is read twice."""
    decode = decoder_for(Shelf)
    with pytest.raises(ValueError, match=r"."):
        decode(text)
    read = decode(b'{"label":"a","w":1.5,"inner":{"price":2}}')
    assert read == Shelf(label="a", w=1.5, inner=Priced(price=2.0))
    assert (type(read), type(read.inner), read.model_fields_set) == (Shelf, Priced, {"label", "width", "inner"})


def test_pydantic_names_the_field() -> None:
    """And its text says what is wrong."""
    with pytest.raises(ValueError, match=r"inner\.price\n.*finite number"):
        decoder_for(Shelf)(b'{"label":"a","inner":{"price":NaN}}')


def test_a_model_without_floats_is_validated_directly() -> None:
    """Nothing is read twice where no number can go wrong."""
    assert decoder_for(Counted) == Counted.__pydantic_validator__.validate_json


NAN = float("nan")


@pytest.mark.parametrize(
    "data",
    [{"a": NAN}, {"a": [float("inf")]}, [NAN], NAN, (Priced(price=NAN),), Priced(price=NAN), Anything(price={"a": NAN}),
     Point(NAN), Row(NAN), {"a": Point(NAN)}, {"a": Row(-float("inf"))}, {"a": {1: {NAN}}}],
    ids=repr,
)  # fmt: skip
def test_f20_data_with_such_numbers_is_refused(data: Any) -> None:
    """Both serializers would write null."""
    with pytest.raises(ValueError, match="has no JSON form"):
        encode(data)


@pytest.mark.parametrize("data", [{"a": None, "b": 1.5}, Priced(), Point(), Row(), [None, "null"]], ids=repr)
def test_nulls_are_written_where_there_are_any(data: Any) -> None:
    """None is no such number."""
    assert b"null" in encode(data)


def test_f20_such_records_are_dead_letters() -> None:
    """Their neighbours are delivered."""
    with FlowHarness(StreamFlow("numbers").decode(dict).route()) as kit:
        kit.wait_acknowledged(*[kit.send(text) for text in (b'{"a":1}', b'{"a":NaN}', b'{"a":1e400}', b'{"a":2}')])
        assert kit.values == [{"a": 1}, {"a": 2}]
        assert [each.kind for each in kit.dead_letters] == ["decode", "decode"]


def test_f20_a_handlers_records_too() -> None:
    """By its input model."""

    class Prices(Handler[Priced, Any]):
        async def arrange(self, messages: list[Record[Priced]], pending: PendingContext) -> NoReturn:
            raise AssertionError(messages)

    with FlowHarness(Prices()) as kit:
        kit.wait_acknowledged(kit.send(b'{"price": NaN}'))
        assert [each.kind for each in kit.dead_letters] == ["decode"]
