"""Base of every section of the configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationInfo, field_validator

from drakkar_flow.config.redact import plain

__all__ = ["NO_PAGE", "NoEffect", "Section"]

_NUMBERS: Final = (int, float, int | None, float | None)


@dataclass(frozen=True, slots=True)
class NoEffect:
    """Marks a key, in its `Annotated` type, that is accepted and checked, but has no effect yet; `why` is the reason.

    Remove the mark with the feature's implementation.
    """

    why: str


NO_PAGE: Final = NoEffect("there is no web page in this version to show it")


class Section(BaseModel):
    """A section of the configuration: unknown keys are errors, numbers finite, values final once read.

    The text under a key is its entry in the manual; `config/docs.py` reads it there, for to parse them all takes
    longer than anything else that a start does with the configuration.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,  # it may be a secret
        defer_build=True,  # the root builds one validator for all of them
    )

    synonyms: ClassVar[Mapping[str, str]] = {}
    """Keys by the names that others give them; they are suggested where a key is unknown."""
    _open: bool = PrivateAttr(default=False)

    def opened(self) -> Self:
        """A copy whose values, and those of its sections, can be assigned without a check: `on_startup` may do so."""
        copy = self.model_copy(deep=True)
        _open(copy)
        return copy

    def __setattr__(self, name: str, value: Any) -> None:
        """Assigns to an `opened` section; others refuse."""
        if name in type(self).model_fields and self._open:
            self.__dict__[name] = value
            self.model_fields_set.add(name)
        else:
            super().__setattr__(name, value)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuses `yes` where a number is meant; pydantic would silently make it 1."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in _NUMBERS:
            raise ValueError(f"must be a number, not {str(value).lower()}")
        return value

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """The fields for `repr` and `str`, without secrets."""
        for name, value in super().__repr_args__():
            yield name, value if isinstance(value, Section) else plain(value)


def _open(value: object) -> None:
    if isinstance(value, Section):
        value._open = True  # noqa: SLF001 - a section of the one that is opened
        _open(value.__dict__)
    elif isinstance(value, Mapping):
        for inner in value.values():
            _open(inner)
