"""Type arguments of a generic base class, found through any number of classes in between."""

from __future__ import annotations

from typing import Any, TypeVar, get_args, get_origin

__all__ = ["parameters_of"]


def parameters_of(cls: type, generic: type) -> tuple[Any, ...]:
    """Return the arguments of `cls` for its base `generic`; empty if no class on the way names any.

    A parameter that stays open is a TypeVar.

    >>> from typing import Generic
    >>> A, B = TypeVar("A"), TypeVar("B")
    >>> class Base(Generic[A, B]): ...
    >>> class Lists(Base[list[A], str]): ...
    >>> class Numbers(Lists[int]): ...
    >>> parameters_of(Numbers, Base)
    (list[int], <class 'str'>)
    """
    for base in vars(cls).get("__orig_bases__", cls.__bases__):
        origin = get_origin(base) or base
        if origin is generic:
            return get_args(base)
        if isinstance(origin, type) and issubclass(origin, generic):
            open_ones = dict(zip(getattr(origin, "__parameters__", ()), get_args(base), strict=False))
            if found := tuple(_filled(each, open_ones) for each in parameters_of(origin, generic)):
                return found
    return ()


def _filled(parameter: Any, values: dict[Any, Any]) -> Any:
    if isinstance(parameter, TypeVar):
        return values.get(parameter, parameter)
    inner = getattr(parameter, "__parameters__", ())
    return parameter[tuple(values.get(each, each) for each in inner)] if inner else parameter
