"""The configuration reference, generated from the schema: a Markdown page and a JSON Schema."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
import types
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from drakkar_flow.config.schema import ROOT, Path, Type, dotted, field_at, is_secret, is_section, mark_of, sections

__all__ = ["json_schema", "markdown"]

_INTRODUCTION: Final = """\
# Configuration

<!-- made by `drakkar-flow config docs`; edit the models in src/drakkar_flow/config instead -->

Values come from, each over the one before: the defaults below, a YAML file, environment variables, and what the
program or `--set KEY=VALUE` says.

- The file is the one given to the program (`drakkar-flow run --config FILE`, `DrakkarApp(handler, FILE)`), else the
  one that `DRAKKAR_CONFIG` (or `DK_CONFIG`) names. `drakkar-flow` and `python -m bytewax.run` look further: beside the
  flow for a file of its name (`scan.yaml` for `scan.py`), then for `drakkar.yaml`, then for `drakkar.yaml` in the
  working directory, each also with `.yml`; with both endings in one place they refuse to choose. The start logs which
  file it was (`config` of `drakkar_starting`).
- In the file's values `${NAME}` and `${NAME:-default}` take environment variables; `$${` stands for `${`.
- `DRAKKAR_KAFKA__BROKERS` (or `DK_KAFKA__BROKERS`) sets `kafka.brokers`: `__` goes a level down, keys are lower-cased
  except below `executor.env`. Sections, mappings and lists are given as JSON; an item of a list may be given by its
  index, `DRAKKAR_KAFKA__SOURCE_TOPICS__0`, and lies over that item of the file, or behind the last one.
- `drakkar-flow run`, `config lint` and `config show` take `--set kafka.brokers=localhost:9092`, as often as there is
  something to set, with values as in variables: `--set kafka.source_topics[0]=orders`,
  `--set 'executor.env={"LANG": "C"}'`. Others can see a command line: secrets belong into variables.
- An unknown key is an error. `drakkar-flow config lint` reports all errors together, and
  `drakkar-flow config show` shows the origin of each value. Both take the FILE, or `--flow FLOW.py` to find it as
  `run` does, and print its name.
- Moved keys of py-drakkar are read, and reported by `lint` and at the start; [migrating](migrating-from-py-drakkar.md)
  lists them. A key with "No effect" is accepted for compatibility with py-drakkar, and reported too.
- Where a handler names a model (`app_config_model`), `app` is checked by it and `APP_LIMIT` sets `app.limit`; these
  commands take the handler by `--flow FILE.py:NAME`.
"""
_UNITS: Final = {
    "_s": "seconds",
    "_seconds": "seconds",
    "_ms": "milliseconds",
    "_mib": "MiB",
    "_bytes": "bytes",
    "_records": "records",
    "_records_per_partition": "records",
    "_offsets": "offsets",
}
_BOUNDS: Final = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
_NAMES: Final = {str: "text", int: "integer", float: "number", bool: "boolean", Any: "any"}


def json_schema(root: Type = ROOT) -> str:
    """The JSON Schema (draft 2020-12) of the configuration file, for editors and other validators."""
    schema = root.model_json_schema()
    for _, kind in sections((), root):
        keys = (schema if kind is root else schema["$defs"].get(kind.__name__, {})).get("properties", {})
        for name, text in _texts(kind).items():
            if name in keys:
                keys[name] = {"description": text, **keys[name]}
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


def markdown(root: Type = ROOT) -> str:
    """The reference page: every key with type, default, unit and meaning."""
    return _INTRODUCTION + "".join(_section(path, kind, root) for path, kind in sections((), root))


def _section(path: Path, kind: Type, root: Type) -> str:
    texts = _texts(kind)
    fields = kind.model_fields.items()
    rows = [_row(name, field, texts.get(name, "")) for name, field in fields if not _has_own_table(field)]
    heading = f"`{_shown(path)}`" if path else "Top level"
    table = ["| Key | Type | Default | Unit | Meaning |", "| --- | --- | --- | --- | --- |", *rows] if rows else []
    text = f"{inspect.cleandoc(kind.__doc__ or '')}{_without_effect(field_at(path, root))}"
    return "\n".join(["", f"## {heading}", "", text, *([""] if table else []), *table, ""])


def _texts(kind: type) -> dict[str, str]:
    """The texts under the keys of a section, its bases' included."""
    return {
        name: text
        for base in reversed(kind.__mro__)
        if is_section(base) and base is not BaseModel
        for name, text in _own_texts(base)
    }


def _own_texts(kind: type) -> Iterator[tuple[str, str]]:
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):  # made by a program
        return
    (definition,) = ast.parse(textwrap.dedent(source)).body
    body = getattr(definition, "body", [])
    for key, text in pairwise(body):
        match key, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                yield name, inspect.cleandoc(words)


def _shown(path: Path) -> str:
    return dotted(path).replace("*", "<name>")


def _without_effect(field: FieldInfo | None) -> str:
    mark = mark_of(field)
    return f" No effect: {mark.why}." if mark else ""


def _has_own_table(field: FieldInfo) -> bool:
    kind = field.annotation
    return is_section(kind) or (_generic(kind) is dict and is_section(get_args(kind)[-1]))


def _row(name: str, field: FieldInfo, text: str) -> str:
    kind = ", ".join([_kind(field.annotation), *_bounds(field)])
    meaning = " ".join(f"{field.description or text}{_without_effect(field)}".split())
    cells = [f"`{name}`", kind, _default(field), _unit(name), meaning]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _bounds(field: FieldInfo) -> list[str]:
    return [
        f"{sign} {getattr(rule, bound)}"
        for rule in field.metadata
        for bound, sign in _BOUNDS.items()
        if hasattr(rule, bound)
    ]


def _kind(kind: Type) -> str:
    generic, arguments = _generic(kind), get_args(kind)
    if generic is Literal:
        return " or ".join(f"`{choice}`" if choice else "empty" for choice in arguments)
    if generic in (Union, types.UnionType):
        return " or ".join("null" if each is types.NoneType else _kind(each) for each in arguments)
    if generic is list and arguments:
        return f"list of {_kind(arguments[0])}"
    if generic is dict and arguments:
        return f"mapping of {_kind(arguments[1])}"
    if generic is Annotated:
        return _kind(arguments[0])
    if is_section(kind):
        return "section"
    return "secret" if is_secret(kind) else _NAMES.get(kind) or str(getattr(kind, "__name__", kind))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return "computed"
    return f"`{json.dumps(field.get_default(), default=str)}`"


def _unit(name: str) -> str:
    return next((unit for suffix, unit in _UNITS.items() if name.endswith(suffix)), "")


def _generic(kind: Type) -> Any:
    return get_origin(kind)
