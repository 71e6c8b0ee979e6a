"""Walking the schema by path: what belongs where."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import AliasChoices, AliasPath, BaseModel, Field, Secret, SecretBytes, SecretStr
from pydantic.fields import FieldInfo

from drakkar_flow.config.base import NoEffect
from drakkar_flow.config.extended import section_with
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.config.sections.executor import ExecutorConfig, ProgramConfig, executor_section
from drakkar_flow.config.sections.sinks import SinksConfig, sinks_section
from drakkar_flow.kinds.registry import EXECUTORS

__all__ = [
    "ROOT",
    "Path",
    "Type",
    "child",
    "dotted",
    "field_at",
    "fields_at",
    "is_container",
    "is_list",
    "is_secret",
    "is_section",
    "mark_of",
    "overlooked_keys",
    "places_of",
    "plain_type",
    "root_with",
    "sections",
    "similar",
    "type_at",
]

Path = tuple[str | int, ...]
"""Keys and list indices from the root to a value."""
Type = Any
"""A field's annotation; None where the schema says nothing."""
ROOT: Final = DrakkarConfig


def root_with(app_model: type[BaseModel] | None = None) -> type[DrakkarConfig]:
    """The schema with the kinds of plug-ins, and with the model as its `app` section, if there is one.

    >>> class Limits(BaseModel):
    ...     rows: int = 10
    >>> root_with(Limits)().app.rows
    10
    """
    fields: dict[str, tuple[Any, Any]] = {}
    if (sinks := sinks_section()) is not SinksConfig:
        fields["sinks"] = (sinks, sinks())
    if EXECUTORS.usable():
        executor, program = executor_section(ExecutorConfig), executor_section(ProgramConfig)
        fields |= {"executor": (executor, executor()), "executors": (dict[str, program], {})}  # type: ignore[valid-type]
    if app_model is not None:
        fields["app"] = (app_model, Field(default_factory=dict, validate_default=True))
    return section_with(DrakkarConfig, fields)


def dotted(path: Path) -> str:
    """The path as a user writes it.

    >>> dotted(("kafka", "source_topics", 0))
    'kafka.source_topics[0]'
    """
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def is_section(kind: Type) -> bool:
    """True if the type is a section of the configuration: a model, ours or the user's."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def is_secret(kind: Type) -> bool:
    """True if values of the type must not be shown."""
    return isinstance(kind, type) and issubclass(kind, SecretStr | SecretBytes | Secret)


def is_container(kind: Type) -> bool:
    """True if values of the type hold others: a section, a mapping or a list."""
    return is_section(kind) or is_list(kind) or dict in (kind, _generic(kind))


def is_list(kind: Type) -> bool:
    """True if values of the type are lists."""
    return list in (kind, _generic(kind))


def child(kind: Type, key: str | int) -> Type:
    """The type of what stands under `key` in a value of type `kind`; None where there is no such place."""
    if is_section(kind):
        field = kind.model_fields.get(key)
        return plain_type(field.annotation) if field else None
    return plain_type(get_args(kind)[-1]) if is_container(kind) and get_args(kind) else None


def type_at(path: Path, root: Type = ROOT) -> Type:
    """The type at a path from the root; None where there is no such place."""
    kind = root
    for key in path:
        kind = child(kind, key)
    return kind


def field_at(path: Path, root: Type = ROOT) -> FieldInfo | None:
    """The field a section declares for a path; None for the root and below free mappings."""
    parent = type_at(path[:-1], root)
    return parent.model_fields.get(path[-1]) if path and is_section(parent) else None


def mark_of(field: FieldInfo | None) -> NoEffect | None:
    """The mark of a field that has no effect; None for all others."""
    marks = field.metadata if field is not None else []
    return next((mark for mark in marks if isinstance(mark, NoEffect)), None)


def fields_at(path: Path, root: Type = ROOT) -> tuple[str, ...]:
    """The keys that the section at a path knows; none where it is no section."""
    kind = type_at(path, root)
    return tuple(kind.model_fields) if is_section(kind) else ()


def places_of(key: str) -> list[str]:
    """The sections that know a key, by their dotted paths; a section that can stand under any name says `*`."""
    return [dotted(path) for path, kind in sections() if path and key in kind.model_fields]


def overlooked_keys(tree: Any, kind: Type, path: Path = ()) -> Iterator[Path]:
    """The keys that models would overlook because they do not restrict unknown ones (`extra`)."""
    if isinstance(tree, list):
        for index, item in enumerate(tree):
            yield from overlooked_keys(item, child(kind, index), (*path, index))
    if not isinstance(tree, dict):
        return
    open_ended = is_section(kind) and kind.model_config.get("extra") is None
    known = {*kind.model_fields, *_aliases(kind)} if open_ended else set()
    for key, value in tree.items():
        if open_ended and key not in known:
            yield (*path, key)
        else:
            yield from overlooked_keys(value, child(kind, key), (*path, key))


def _aliases(kind: Type) -> Iterator[Any]:
    for field in kind.model_fields.values():
        for alias in (field.alias, field.validation_alias):
            choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
            yield from (choice.path[0] if isinstance(choice, AliasPath) else choice for choice in choices)


def similar(key: str, known: Sequence[str]) -> list[str]:
    """The best two of the known keys that look like the key or contain it.

    >>> similar("brokerz", ["brokers", "topic"])
    ['brokers']
    """
    near = difflib.get_close_matches(key, known, n=2, cutoff=0.6)
    return near or [name for name in known if len(key) > 2 and key in name][:2]


def sections(path: Path = (), kind: Type = ROOT, above: tuple[Type, ...] = ()) -> Iterator[tuple[Path, Type]]:
    """Every section of the schema with its path, the root first; names a user chooses are `*`.

    A model that holds itself stands there once.
    """
    yield path, kind
    for name, field in kind.model_fields.items():
        inner, here = plain_type(field.annotation), (*path, name)
        if _generic(inner) is dict:
            inner, here = get_args(inner)[-1], (*here, "*")
        if is_section(inner) and inner not in above:
            yield from sections(here, inner, (*above, kind))


def plain_type(annotation: Type) -> Type:
    """The annotation without `| None` and what annotates it; None when it still leaves a choice between types."""
    if _generic(annotation) in (Union, types.UnionType):
        choices = [arg for arg in get_args(annotation) if arg is not types.NoneType]
        return plain_type(choices[0]) if len(choices) == 1 else None
    return plain_type(get_args(annotation)[0]) if _generic(annotation) is Annotated else annotation


def _generic(annotation: Type) -> Any:
    return get_origin(annotation)
