"""Payloads in one pickle: pydantic models are the same behind it, whatever kind of model they are."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, PrivateAttr

from drakkar_flow.kernel.payloads import read_payloads, write_payloads


class Inner(BaseModel):
    """A field of others."""

    n: int = 0


class Plain(BaseModel):
    """Its state is its fields."""

    name: str
    inner: Inner = Inner()
    tags: list[str] = []


class Open(BaseModel):
    """Takes fields that it does not define."""

    model_config = ConfigDict(extra="allow")
    name: str


class Secret(BaseModel):
    """Has a private attribute."""

    name: str
    _seen: int = PrivateAttr(default=0)

    def model_post_init(self, _context: Any) -> None:
        """Differ from the default."""
        self._seen = len(self.name)


class Frozen(BaseModel):
    """Can't be changed."""

    model_config = ConfigDict(frozen=True)
    name: str


class Custom(BaseModel):
    """Says itself what is pickled."""

    name: str

    def __getstate__(self) -> dict[Any, Any]:
        return {**super().__getstate__(), "__dict__": {"name": self.name.upper()}}


plain = st.builds(Plain, name=st.text()) | st.builds(Plain, name=st.text(), inner=st.builds(Inner, n=st.integers()))
models = st.one_of(
    st.lists(plain, min_size=1),
    st.lists(st.builds(Open, name=st.text(), more=st.integers()), min_size=1),
    st.lists(st.builds(Secret, name=st.text()), min_size=1),
    st.lists(st.builds(Frozen, name=st.text()), min_size=1),
    st.lists(st.builds(Custom, name=st.text()), min_size=1),
    st.lists(plain | st.integers() | st.none(), min_size=1),
)


@given(models)
def test_models_are_as_pickle_alone_would_make_them(payloads: list[Any]) -> None:
    """Fields, set fields, extra fields and private attributes; a class of its own state is asked."""
    got, wanted = read_payloads(write_payloads(payloads)), pickle.loads(pickle.dumps(payloads, 5))
    assert got == wanted
    for one, other in zip(got, wanted, strict=True):
        if isinstance(one, BaseModel):
            assert one.model_fields_set == other.model_fields_set
            assert one.model_extra == other.model_extra
            assert one.__pydantic_private__ == other.__pydantic_private__
            assert one.model_dump() == other.model_dump()


def test_what_is_read_is_not_shared() -> None:
    """A change of one model's set fields is not one of another's."""
    first, second = read_payloads(write_payloads([Plain(name="a", tags=[], inner=Inner()) for _ in range(2)]))
    first.model_fields_set.discard("name")
    first.tags.append("x")
    assert (second.model_fields_set, second.tags) == ({"name", "inner", "tags"}, [])


def test_one_that_can_not_be_pickled_is_an_error() -> None:
    """In a field of a model, too."""
    with pytest.raises(Exception, match="pickle"):
        write_payloads([Plain.model_construct(name=lambda: 0)])  # type: ignore[arg-type]  # wrong on purpose
