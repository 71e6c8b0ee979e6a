"""The signatures of all public names, written down in signatures.txt.

A change is a decision: `.venv/bin/python tests/unit/contract/test_signatures.py > tests/unit/contract/signatures.txt`
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import msgspec

import drakkar_flow

WRITTEN_DOWN = Path(__file__).with_name("signatures.txt")


def lines_of(name: str) -> Iterator[str]:
    """A public name with its parameters or fields, and what can be called on it."""
    value = getattr(drakkar_flow, name)
    if not callable(value):
        return
    if value.__name__ != name:
        yield f"{name} = {value.__name__}"
        return
    if isinstance(value, type) and issubclass(value, Enum):
        yield f"{name}: {', '.join(f'{member.name}={member.value!r}' for member in value)}"
    elif isinstance(value, type) and issubclass(value, msgspec.Struct):
        yield name
        yield from (f"    {field}" for field in fields_of(value))
        yield from members_of(value)
    elif isinstance(value, type) and issubclass(value, drakkar_flow.DrakkarConfig):
        yield f"{name}: see docs/configuration.md"
    elif isinstance(value, type):
        yield name if getattr(value, "_is_protocol", False) else name + parameters_of(value)
        yield from members_of(value)
    else:
        yield name + parameters_of(value)


def parameters_of(value: Any) -> str:
    """Its parameters and what it returns, without the quotes around types."""
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(value)))


def fields_of(struct: type[msgspec.Struct]) -> Iterator[str]:
    """The fields as a class writes them."""
    for field in msgspec.structs.fields(struct):
        declared = next(
            base.__annotations__[field.name] for base in struct.__mro__ if field.name in base.__annotations__
        )
        if field.required:
            yield f"{field.name}: {declared}"
        elif field.default_factory is not msgspec.NODEFAULT:
            yield f"{field.name}: {declared} = {field.default_factory.__name__}()"
        else:
            yield f"{field.name}: {declared} = {field.default!r}"


def members_of(cls: type) -> Iterator[str]:
    """The public methods and properties that a class defines itself."""
    for name, member in vars(cls).items():
        if name.startswith("_"):
            continue
        plain: Any = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if inspect.isfunction(plain):
            word = "async " if inspect.iscoroutinefunction(plain) else ""
            yield f"    {word}.{name}{parameters_of(plain)}"
        elif isinstance(plain, property) or hasattr(plain, "attrname"):
            yield f"    .{name}"


def signatures() -> str:
    """All of them."""
    return "".join(f"{line}\n" for name in drakkar_flow.__all__ for line in lines_of(name))


def test_the_public_signatures_are_written_down():
    """Parameters, fields, defaults, methods."""
    assert signatures().splitlines() == WRITTEN_DOWN.read_text().splitlines()


if __name__ == "__main__":
    print(signatures(), end="")
