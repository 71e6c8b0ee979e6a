"""The public interface, read from the code: the page docs/api.md, and the pinned signatures.

python -m scripts.api > docs/api.md
python -m scripts.api signatures > tests/unit/contract/signatures.txt
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from itertools import pairwise
from typing import Any

import msgspec

from drakkar_flow.config.base import Section

__all__ = ["MODULES", "page", "signatures"]

MODULES = (
    "drakkar_flow",
    "drakkar_flow.errors",
    "drakkar_flow.events",
    "drakkar_flow.plugins",
    "drakkar_flow.testing",
    "drakkar_flow.testing.conformance",
    "drakkar_flow.worker",
)
"""The public modules; everything else is private."""
_INTRODUCTION = """\
# API

<!-- made by `python -m scripts.api`; edit the docstrings instead -->

What is public: the names below. They change with a new major version only, and with a line in the changelog. Everything
else is private, whatever it is called.
"""


def signatures() -> str:
    """The signatures of all public names, as text that is compared."""
    lines: list[str] = []
    for module in MODULES:
        prefix = module.removeprefix("drakkar_flow").removeprefix(".")
        for name in import_module(module).__all__:
            lines += _lines_of(f"{prefix}.{name}" if prefix else name, getattr(import_module(module), name))
    return "".join(f"{line}\n" for line in lines)


def page() -> str:
    """The page about the public interface."""
    parts = [_INTRODUCTION]
    described: dict[int, str] = {}
    for name in MODULES:
        module = import_module(name)
        parts += ["", f"## {name}", "", _markdown(module.__doc__)]
        for each in module.__all__:
            value = getattr(module, each)
            parts += _described(each, value, name, described)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).rstrip() + "\n"


def _described(name: str, value: Any, module: str, described: dict[int, str]) -> Iterator[str]:
    """The section of a public name; one that was described in another module is a link."""
    if name == "__version__":
        return
    yield from ("", f"### {name}", "")
    known = described.get(id(value))
    if known is not None and callable(value):
        yield f"[`{known}`](#{known.rpartition('.')[2].lower()})."
        return
    described[id(value)] = f"{module}.{name}"
    lines = list(_lines_of(name, value)) or [f"{name} = {_alias(value)}"]
    yield from ("```text", *lines, "```", "")
    if _is_plain(value):
        yield _markdown(_text_of_assignment(name, value))
        return
    yield _markdown(value.__doc__)
    yield ""
    yield from (f"- `{member}`: {text}" for member, text in _member_texts(value))


def _is_plain(value: Any) -> bool:
    """Whether it is neither a class nor a function: an alias or a constant."""
    return not (inspect.isclass(value) or inspect.isroutine(value))


def _alias(value: Any) -> str:
    return re.sub(r"[a-z_]+\.(?=[A-Za-z_.]*[A-Z])", "", str(value))


def _lines_of(name: str, value: Any) -> Iterator[str]:
    """A public name with its parameters or fields, and what can be called on it."""
    own = name.rpartition(".")[2]
    if _is_plain(value):
        return
    if value.__name__ != own:
        yield f"{name} = {value.__name__}"
    elif isinstance(value, type) and issubclass(value, Enum):
        yield f"{name}: {', '.join(f'{member.name}={member.value!r}' for member in value)}"
    elif isinstance(value, type) and issubclass(value, msgspec.Struct):
        yield name
        yield from (f"    {field}" for field in _fields_of(value))
        yield from _members_of(value)
    elif isinstance(value, type) and issubclass(value, Section):
        yield f"{name}: see docs/configuration.md"
    elif isinstance(value, type):
        yield name if getattr(value, "_is_protocol", False) else name + _parameters_of(value)
        yield from _members_of(value)
    else:
        yield name + _parameters_of(value)


def _parameters_of(value: Any) -> str:
    """Its parameters and what it returns, without the quotes around types."""
    try:
        text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(value)))
    except ValueError:  # of a class that is written in C
        return "(...)"
    text = re.sub(r"<function (?:[\w.]+\.)?<lambda> at 0x\w+>", "...", text)
    return re.sub(r"<(?:function|class) '?(?:[\w.]*\.)?(\w+)'?(?: at 0x\w+)?>", r"\1", text)


def _fields_of(struct: type[msgspec.Struct]) -> Iterator[str]:
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


def _members_of(cls: type) -> Iterator[str]:
    """The public methods and properties that a class defines itself."""
    for name, plain in _own_members(cls):
        if inspect.isfunction(plain):
            word = "async " if inspect.iscoroutinefunction(plain) else ""
            yield f"    {word}.{name}{_parameters_of(plain)}"
        else:
            yield f"    .{name}"


def _own_members(cls: type) -> Iterator[tuple[str, Any]]:
    for name, member in vars(cls).items():
        plain: Any = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if name.startswith(("_", "test_", "model_post_init")):  # the last is pydantic's
            continue
        if inspect.isfunction(plain) or isinstance(plain, property) or hasattr(plain, "attrname"):
            yield name, plain


def _member_texts(value: Any) -> Iterator[tuple[str, str]]:
    """The first sentences of what a class has, methods first, then fields."""
    if not isinstance(value, type) or issubclass(value, Enum):
        return
    for name, member in _own_members(value):
        if text := inspect.getdoc(member):
            yield name, " ".join(text.partition("\n\n")[0].split())
    for base in reversed(value.__mro__):
        if base.__module__.startswith("drakkar_flow"):
            yield from _texts_in(base)


def _texts_in(cls: type) -> Iterator[tuple[str, str]]:
    """The texts under the fields of a class."""
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError, SyntaxError):
        return
    for key, text in pairwise(getattr(definition, "body", [])):
        match key, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                yield name, " ".join(words.split())


def _text_of_assignment(name: str, value: Any) -> str:
    """The text under an alias or a constant, in the module that makes it."""
    for module in [each for key, each in sorted(sys.modules.items()) if key.startswith("drakkar_flow.")]:
        if vars(module).get(name) is not value or not getattr(module, "__file__", None):
            continue
        body = ast.parse(inspect.getsource(module)).body
        for key, text in pairwise(body):
            match key, text:
                case ast.Assign(targets=[ast.Name(id=found)]), ast.Expr(value=ast.Constant(value=str(words))):
                    if found == name:
                        return words
    return ""


def _markdown(docstring: str | None) -> str:
    """A docstring as Markdown: examples fenced, lists of arguments and errors as lists."""
    lines: list[str] = []
    block = ""
    for given in inspect.cleandoc(docstring or "").splitlines():
        line = given
        if line.lstrip().startswith(">>>") and block != "example":
            lines += ["```pycon"]
            block = "example"
        elif block == "example" and not line.strip():
            lines += ["```"]
            block = ""
        elif line in ("Args:", "Raises:", "Returns:"):
            lines += [f"{line[:-1]}:", ""]
            block = "list"
            continue
        elif block == "list" and re.match(r"    \S", line):
            name, colon, text = line.strip().partition(": ")
            line = f"- `{name}`: {text}" if colon and " " not in name.replace(", ", ",") else f"- {line.strip()}"
        elif block == "list" and line.strip():
            line = f"  {line.strip()}"
        lines.append(line)
    return "\n".join([*lines, *(["```"] if block == "example" else [])])


if __name__ == "__main__":
    print(signatures() if sys.argv[1:] == ["signatures"] else page(), end="")
