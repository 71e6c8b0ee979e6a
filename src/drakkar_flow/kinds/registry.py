"""Registry of plug-ins: kinds of sinks and executors from installed packages, or added by the program.

An installed plug-in is an entry point: its name is the kind, its value a spec. An invalid plug-in stops only the flows
that use its kind.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from pydantic import BaseModel

from drakkar_flow.errors import FlowArgumentError, Problem
from drakkar_flow.kinds.executor import ExecutorSpec
from drakkar_flow.kinds.sink import SinkSpec

__all__ = ["EXECUTORS", "SINKS", "Registry", "Spec"]

API: Final = 1
"""Version of the plug-in interface that this library offers."""


class Spec(Protocol):
    """Common part of the specs of all plug-ins."""

    @property
    def kind(self) -> str:
        """Name in the configuration."""
        ...

    @property
    def settings_type(self) -> type[BaseModel]:
        """Model of the settings."""
        ...

    @property
    def api(self) -> int:
        """Version of the plug-in interface that the spec was written for."""
        ...

    def problem(self) -> str:
        """Return the reason why the spec is invalid; empty if it is valid."""
        ...


S = TypeVar("S", bound=Spec)


class _Found(NamedTuple):
    """A candidate: its origin, its kind, and the loaded object or the error."""

    origin: str
    kind: str
    loaded: Any
    error: str = ""


class Registry(Generic[S]):
    """Plug-ins of one entry point group.

    >>> len(SINKS.broken())
    0
    """

    def __init__(self, group: str, spec_type: type[S]) -> None:
        self.group = group
        self._spec_type = spec_type
        self._reserved: frozenset[str] = frozenset()
        self._added: dict[tuple[str, str], S] = {}
        self._resolved: tuple[dict[str, S], dict[str, Problem]] | None = None

    def reserve(self, names: Iterable[str]) -> None:
        """Refuse plug-ins with the names of the library's own kinds and settings."""
        self._reserved |= frozenset(names)
        self._resolved = None

    def add(self, *specs: S) -> None:
        """Add kinds that no installed package has; replaces a kind whose settings type has the same qualified name.

        Raises:
            FlowArgumentError: an argument is not a spec.
        """
        for spec in specs:
            if not isinstance(spec, self._spec_type):
                what = f"expected a {self._spec_type.__name__}, got {spec!r}"
                raise FlowArgumentError([Problem("plug-in", what, f"pass the {self._spec_type.__name__} of the kind")])
            self._added[_origin(spec), spec.kind] = spec
            self._resolved = None

    def forget(self) -> None:
        """Remove all added kinds; those of installed packages stay."""
        self._added.clear()
        self._resolved = None

    def usable(self) -> Mapping[str, S]:
        """Return the valid specs by kind."""
        return self._resolve()[0]

    def broken(self) -> Mapping[str, Problem]:
        """Return the problems of the invalid plug-ins by kind."""
        return self._resolve()[1]

    def _resolve(self) -> tuple[dict[str, S], dict[str, Problem]]:
        if self._resolved is None:
            usable: dict[str, S] = {}
            broken: dict[str, Problem] = {}
            for kind, found in self._candidates().items():
                wrong = next((_problem(each.origin, what) for each in found if (what := self._wrong(each))), None)
                distinct = {id(each.loaded) for each in found}
                if wrong is None and len(distinct) > 1:
                    origins = " and ".join(sorted(each.origin for each in found))
                    wrong = Problem(origins, f"both define the kind {kind!r}", "uninstall one, or rename its kind")
                if wrong is not None:
                    broken[kind] = wrong
                else:
                    usable[kind] = found[0].loaded
            self._resolved = usable, broken
        return self._resolved

    def _candidates(self) -> dict[str, list[_Found]]:
        found: defaultdict[str, list[_Found]] = defaultdict(list)
        for entry in _installed().select(group=self.group):
            found[entry.name].append(_loaded(entry))
        for (origin, kind), spec in self._added.items():
            found[kind].append(_Found(f"spec of {origin}", kind, spec))
        return found

    def _wrong(self, found: _Found) -> str:
        """Return the reason why a candidate is invalid; empty if it is valid."""
        spec, name = found.loaded, self._spec_type.__name__
        if found.error:
            return found.error
        if not isinstance(spec, self._spec_type):
            return f"{found.kind!r} is a {type(spec).__name__}, expected a {name}"
        if spec.api != API:
            return f"{found.kind!r} needs version {spec.api} of the plug-in interface, supported is version {API}"
        if spec.kind != found.kind:
            return f"the entry point has the name {found.kind!r}, its {name} the kind {spec.kind!r}"
        if spec.kind in self._reserved:
            return f"the kind {spec.kind!r} is reserved"
        if not re.fullmatch("[a-z][a-z0-9_]*", spec.kind):
            return f"invalid kind {spec.kind!r}: use a-z, 0-9 and _"
        return spec.problem()


def _problem(origin: str, what: str) -> Problem:
    return Problem(origin, f"invalid plug-in: {what}", "fix it, or uninstall it")


def _origin(spec: Spec) -> str:
    kind = spec.settings_type
    return f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', kind)}"


@cache
def _installed() -> Any:
    return entry_points()  # cached: reading 74 packages takes 5 ms


def _loaded(entry: EntryPoint) -> _Found:
    dist = entry.dist
    origin = f"package {dist.name} {dist.version}" if dist is not None else f"entry point {entry.value}"
    try:
        return _Found(origin, entry.name, entry.load())
    except (Exception, SystemExit) as exc:  # an import may raise anything
        return _Found(origin, entry.name, None, f"{entry.value} can't be imported: {type(exc).__name__}: {exc}")


SINKS: Final = Registry("drakkar_flow.sinks", SinkSpec)
"""Kinds of sinks from plug-ins."""
EXECUTORS: Final = Registry("drakkar_flow.executors", ExecutorSpec)
"""Kinds of executors from plug-ins."""
