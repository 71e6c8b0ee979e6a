"""Registry of plug-ins: kinds of sinks and executors that installed packages bring, or that a program adds.

An installed plug-in is an entry point: its name is the kind, its value a spec. One that is not usable stops only the
flows that use its kind.
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
"""The version of the plug-in interface that this library offers."""


class Spec(Protocol):
    """What the specs of all plug-ins have."""

    @property
    def kind(self) -> str:
        """The name in the configuration."""
        ...

    @property
    def settings_type(self) -> type[BaseModel]:
        """The model of the settings."""
        ...

    @property
    def api(self) -> int:
        """The version of the plug-in interface it was written for."""
        ...

    def problem(self) -> str:
        """Why it can't be used; empty when it can."""
        ...


S = TypeVar("S", bound=Spec)


class _Found(NamedTuple):
    """A candidate: who brings it, its kind, and what was loaded or why it could not be."""

    origin: str
    kind: str
    loaded: Any
    error: str = ""


class Registry(Generic[S]):
    """The plug-ins of one entry point group.

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
        """Refuse plug-ins that are called like what the section of the configuration has itself."""
        self._reserved |= frozenset(names)
        self._resolved = None

    def add(self, *specs: S) -> None:
        """Make kinds known that no installed package brings; one that was made in the same place is replaced.

        Raises:
            FlowArgumentError: something else than a spec.
        """
        for spec in specs:
            if not isinstance(spec, self._spec_type):
                what = f"expected a {self._spec_type.__name__}, got {spec!r}"
                raise FlowArgumentError([Problem("plug-in", what, f"pass the {self._spec_type.__name__} of the kind")])
            self._added[_origin(spec), spec.kind] = spec
            self._resolved = None

    def forget(self) -> None:
        """Forget all kinds that were added; those of installed packages stay."""
        self._added.clear()
        self._resolved = None

    def usable(self) -> Mapping[str, S]:
        """The specs of all plug-ins that can be used, by kind."""
        return self._resolve()[0]

    def broken(self) -> Mapping[str, Problem]:
        """What is wrong with the others, by kind."""
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
                    wrong = Problem(origins, f"both bring the kind {kind!r}", "uninstall one, or rename its kind")
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
        """Why a candidate can't be used; empty when it can."""
        spec, name = found.loaded, self._spec_type.__name__
        if found.error:
            return found.error
        if not isinstance(spec, self._spec_type):
            return f"{found.kind!r} is no {name} but {type(spec).__name__}"
        if spec.api != API:
            return f"{found.kind!r} was written for version {spec.api} of the plug-in interface, this is version {API}"
        if spec.kind != found.kind:
            return f"the entry point is called {found.kind!r} and its {name} {spec.kind!r}"
        if spec.kind in self._reserved:
            return f"the name {spec.kind!r} is taken"
        if not re.fullmatch("[a-z][a-z0-9_]*", spec.kind):
            return f"the kind {spec.kind!r} is no name: use a-z, 0-9 and _"
        return spec.problem()


def _problem(origin: str, what: str) -> Problem:
    return Problem(origin, f"the plug-in is not usable: {what}", "fix it, or uninstall it")


def _origin(spec: Spec) -> str:
    kind = spec.settings_type
    return f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', kind)}"


@cache
def _installed() -> Any:
    return entry_points()  # one look at all packages: 5 ms for 74 of them


def _loaded(entry: EntryPoint) -> _Found:
    dist = entry.dist
    origin = f"package {dist.name} {dist.version}" if dist is not None else f"entry point {entry.value}"
    try:
        return _Found(origin, entry.name, entry.load())
    except (Exception, SystemExit) as exc:  # whatever the import of a stranger's module raises
        return _Found(origin, entry.name, None, f"{entry.value} can't be imported: {type(exc).__name__}: {exc}")


SINKS: Final = Registry("drakkar_flow.sinks", SinkSpec)
"""The kinds of sinks beside the library's own."""
EXECUTORS: Final = Registry("drakkar_flow.executors", ExecutorSpec)
"""The kinds of executors beside the library's own."""
