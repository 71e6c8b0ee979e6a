"""Finding the flow a command is about."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from drakkar_flow.errors import FlowError, Problem

__all__ = ["find_flow"]


def find_flow(target: str) -> tuple[Any, Path | None]:
    """Load `path/to/file.py`, `path/to/file.py:name` or `package.module:name`; the name defaults to `flow`.

    Returns the object and the file it comes from.

    Raises:
        FlowError: when the file or the name does not exist, or the file can't be imported.
    """
    place, _, name = target.partition(":")
    module = _from_file(Path(place)) if place.endswith(".py") or "/" in place else _from_name(place)
    found = getattr(module, name or "flow", None)
    if found is None:
        raise FlowError([Problem(place, f"it defines no {name or 'flow'!r}", _what_to_name(place, module))])
    file = getattr(module, "__file__", None)
    return found, Path(file) if file else None


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FlowError([Problem(str(path), "there is no such file", "give the path of a Python file with a flow")])
    for directory in (str(path.resolve().parent), str(Path.cwd())):
        if directory not in sys.path:
            sys.path.insert(0, directory)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as exc:
        raise FlowError([_import_problem(str(path), exc)]) from exc
    return module


def _from_name(name: str) -> ModuleType:
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except Exception as exc:
        raise FlowError([_import_problem(name, exc)]) from exc


def _what_to_name(place: str, module: ModuleType) -> str:
    from drakkar_flow.engine.terse import is_flow

    flows = [key for key, value in vars(module).items() if not key.startswith("_") and is_flow(value)]
    if flows:
        return f"name what it has: {' or '.join(f'{place}:{key}' for key in flows)}"
    return "end it with flow = dataflow(...) of a StreamFlow or a handler"


def _import_problem(where: str, exc: Exception) -> Problem:
    line = ""
    trace = exc.__traceback__
    while trace is not None:
        line = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return Problem(where, f"it can't be imported: {type(exc).__name__}: {exc}{line}", "mend the file")
