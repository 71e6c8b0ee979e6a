"""structlog, imported without rich and pygments.

If rich is installed, structlog imports it to draw tracebacks on a console; that is a tenth of the CPU of all imports.
The log lines of this library never use it. A program that does gets rich when the first traceback is drawn.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

__all__ = ["structlog"]

_TAKEN = {"rich": (), "rich.console": ("Console",), "rich.pretty": (), "rich.traceback": ("Traceback",)}
"""Modules that structlog imports, and the names that it takes from them."""


class _Later:
    """Lazy value: imported when it is called or one of its attributes is used."""

    def __init__(self, module: str, name: str) -> None:
        self._home = (module, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._value()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._value(), name)

    def _value(self) -> Any:
        module, name = self._home
        return getattr(import_module(module), name)


class _LaterModule(ModuleType):
    """Lazy module of rich: its names are imported on access."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if f"{self.__name__}.{name}" in _TAKEN:
            return import_module(f"{self.__name__}.{name}")
        return getattr(import_module(self.__name__), name)


@contextmanager
def _rich_later() -> Iterator[None]:
    """Replace rich's modules by lazy ones in this context, unless rich is loaded or missing."""
    stand_ins: dict[str, ModuleType] = {}
    if "rich" not in sys.modules and find_spec("rich") is not None:
        stand_ins = {module: _LaterModule(module) for module in _TAKEN}
        for module, names in _TAKEN.items():
            for name in names:
                setattr(stand_ins[module], name, _Later(module, name))
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for module in stand_ins:
            del sys.modules[module]


with _rich_later():
    import structlog
