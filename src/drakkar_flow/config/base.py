"""What every section of the configuration shares."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

__all__ = ["Section"]

_NUMBERS: Final = (int, float, int | None, float | None)


class Section(BaseModel):
    """A section of the configuration: unknown keys are errors, numbers finite, values final once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuses `yes` where a number is meant; pydantic would silently make it 1."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in _NUMBERS:
            raise ValueError(f"must be a number, not {str(value).lower()}")
        return value
