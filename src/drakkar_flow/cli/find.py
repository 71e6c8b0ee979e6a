"""Finding the flow a command is about."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from drakkar_flow.errors import FlowError, Problem, ProblemsError

__all__ = ["find_flow"]

_SETTINGS: Final = (".yaml", ".yml")


def find_flow(target: str) -> tuple[Any, Path | None]:
    """Load `path/to/file.py`, `path/to/file.py:name` or `package.module:name`; the name defaults to `flow`.

    Returns the object and the file it comes from.

    Raises:
        FlowError: when the file or the name does not exist, or the file can't be imported.
    """
    place, _, name = target.partition(":")
    module = _from_file(Path(place)) if _is_path(place) else _from_name(place)
    found = getattr(module, name or "flow", None)
    if found is None:
        raise FlowError([Problem(place, f"it defines no {name or 'flow'!r}", _what_to_name(place, module))])
    file = getattr(module, "__file__", None)
    return found, Path(file) if file else None


def _is_path(place: str) -> bool:
    path = Path(place)
    is_package = path.is_dir() and (path / "__init__.py").exists()
    return path.suffix in (".py", *_SETTINGS) or "/" in place or (path.exists() and not is_package)


def _from_file(path: Path) -> ModuleType:
    wrong = "is a directory" if path.is_dir() else "" if path.is_file() else "there is no such file"
    if wrong:
        raise FlowError([Problem(str(path), wrong, "give the path of a Python file with a flow")])
    if path.suffix in _SETTINGS:
        remedy = "give the flow's Python file; what stands beside it is found, any other file goes behind --config"
        raise FlowError([Problem(str(path), "is no Python file", remedy)])
    for directory in (str(path.resolve().parent), str(Path.cwd())):
        if directory not in sys.path:
            sys.path.insert(0, directory)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise FlowError([Problem(str(path), "is no Python file", "its name must end in .py")])
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    with _told(str(path)):
        spec.loader.exec_module(module)
    return module


def _from_name(name: str) -> ModuleType:
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    with _told(name):
        return importlib.import_module(name)


@contextmanager
def _told(place: str) -> Iterator[None]:
    """Makes a problem of whatever goes wrong while a user's module is imported."""
    try:
        yield
    except ModuleNotFoundError as exc:
        if place != exc.name and not place.startswith(f"{exc.name}."):
            raise FlowError([_import_problem(place, exc)]) from exc
        remedy = "give the path of a Python file, or a module that can be imported from here"
        raise FlowError([Problem(place, "there is no such file or module", remedy)]) from exc
    except SystemExit as exc:
        what = f"it ends the program (exit code {exc.code}) when it is imported"
        remedy = 'put what it runs by itself under `if __name__ == "__main__":`'
        raise FlowError([Problem(place, what, remedy)]) from exc
    except ProblemsError:
        raise
    except Exception as exc:
        raise FlowError([_import_problem(place, exc)]) from exc


def _what_to_name(place: str, module: ModuleType) -> str:
    from drakkar_flow.engine.terse import is_flow

    flows = [key for key, value in vars(module).items() if not key.startswith("_") and is_flow(value)]
    if flows:
        return f"name what it has: {' or '.join(f'{place}:{key}' for key in flows)}"
    classes = [value.__name__ for value in vars(module).values() if _is_handler(value, module)]
    if classes:
        return f"end it with flow = dataflow({classes[-1]}())"
    return "end it with flow = dataflow(...) of a StreamFlow or a handler"


def _is_handler(value: object, module: ModuleType) -> bool:
    from drakkar_flow.graph.handler import BaseDrakkarHandler

    return isinstance(value, type) and issubclass(value, BaseDrakkarHandler) and value.__module__ == module.__name__


def _import_problem(where: str, exc: Exception) -> Problem:
    if isinstance(exc, SyntaxError):
        said, places = exc.msg, [f"{exc.filename}:{exc.lineno}"]
    else:
        frames = traceback.extract_tb(exc.__traceback__)
        inner = [frame for frame in frames if frame.filename != __file__ and not frame.filename.startswith("<frozen")]
        said, places = str(exc), [f"{frame.filename}:{frame.lineno}" for frame in inner[-1:]]
    what = " at ".join([f"it can't be imported: {type(exc).__name__}: {said}", *places])
    return Problem(where, what, "mend the file")
