"""What every section of the configuration shares."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from drakkar_flow.config.redact import plain

__all__ = ["NO_PAGE", "NoEffect", "Section"]

_NUMBERS: Final = (int, float, int | None, float | None)


@dataclass(frozen=True, slots=True)
class NoEffect:
    """Marks a key, in its `Annotated` type, that is accepted and checked, but that nothing heeds yet; `why` says so.

    Whoever writes the feature takes the mark away.
    """

    why: str


NO_PAGE: Final = NoEffect("there is no web page in this version to show it")


class Section(BaseModel):
    """A section of the configuration: unknown keys are errors, numbers finite, values final once read."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,  # it may be a secret
    )

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuses `yes` where a number is meant; pydantic would silently make it 1."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in _NUMBERS:
            raise ValueError(f"must be a number, not {str(value).lower()}")
        return value

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """What `repr` and `str` show: no secrets."""
        for name, value in super().__repr_args__():
            yield name, value if isinstance(value, Section) else plain(value)
