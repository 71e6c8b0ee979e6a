"""Flow loader: imports a flow by its path or module; every error is a FlowError."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from drakkar_flow.errors import FlowError, Problem, ProblemsError
from drakkar_flow.graph.places import shown

__all__ = ["find_flow"]

_SETTINGS: Final = (".yaml", ".yml")
_FOREIGN: Final = tuple(
    {sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {str(Path(__file__).resolve().parents[1]) + os.sep}
)
"""Directories of code that is not the user's."""


def find_flow(target: str) -> tuple[Any, Path | None]:
    """Load `path/to/file.py`, `path/to/file.py:name` or `package.module:name`; the name defaults to `flow`.

    Returns the object and its file.

    Raises:
        FlowError: the file or the name does not exist, or the file can't be imported.
    """
    place, _, name = target.partition(":")
    module = _from_file(Path(place)) if _is_path(place) else _from_name(place)
    found = getattr(module, name or "flow", None)
    if found is None:
        raise FlowError([Problem(place, f"{name or 'flow'!r} is not defined", _suggested_name(place, module))])
    file = getattr(module, "__file__", None)
    return found, Path(file) if file else None


def _is_path(place: str) -> bool:
    path = Path(place)
    is_package = path.is_dir() and (path / "__init__.py").exists()
    return path.suffix in (".py", *_SETTINGS) or "/" in place or (path.exists() and not is_package)


def _from_file(path: Path) -> ModuleType:
    wrong = "is a directory" if path.is_dir() else "" if path.is_file() else "file not found"
    if wrong:
        raise FlowError([Problem(str(path), wrong, "give the path of a Python file with a flow")])
    if path.suffix in _SETTINGS:
        remedy = "give the flow's Python file; a configuration file beside it is found, pass others with --config"
        raise FlowError([Problem(str(path), "is not a Python file", remedy)])
    for directory in (str(path.resolve().parent), str(Path.cwd())):
        if directory not in sys.path:
            sys.path.insert(0, directory)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise FlowError([Problem(str(path), "is not a Python file", "its name must end in .py")])
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    with _import_problems(str(path)):
        spec.loader.exec_module(module)
    return module


def _from_name(name: str) -> ModuleType:
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    with _import_problems(name):
        return importlib.import_module(name)


@contextmanager
def _import_problems(place: str) -> Iterator[None]:
    """Convert errors of a user module's import to a FlowError; errors of this library pass unchanged."""
    try:
        yield
    except ProblemsError:
        raise
    except ModuleNotFoundError as exc:
        if place != exc.name and not place.startswith(f"{exc.name}."):
            raise FlowError([_import_problem(place, exc)]) from exc
        remedy = "give the path of a Python file, or a module that can be imported from here"
        raise FlowError([Problem(place, "file or module not found", remedy)]) from exc
    except SystemExit as exc:
        what = f"its import ends the program (exit code {exc.code})"
        remedy = 'put the code that exits under `if __name__ == "__main__":`'
        raise FlowError([Problem(place, what, remedy)]) from exc
    except Exception as exc:
        raise FlowError([_import_problem(place, exc)]) from exc


def _suggested_name(place: str, module: ModuleType) -> str:
    from drakkar_flow.engine.entrypoint import is_flow

    flows = [key for key, value in vars(module).items() if not key.startswith("_") and is_flow(value)]
    if flows:
        return f"use {' or '.join(f'{place}:{key}' for key in flows)}"
    classes = [value.__name__ for value in vars(module).values() if _is_handler(value, module)]
    if classes:
        return f"end the file with flow = dataflow({classes[-1]}())"
    return "end the file with flow = dataflow(...) of a StreamFlow or a handler"


def _is_handler(value: object, module: ModuleType) -> bool:
    from drakkar_flow.graph.handler import BaseDrakkarHandler

    return isinstance(value, type) and issubclass(value, BaseDrakkarHandler) and value.__module__ == module.__name__


def _import_problem(where: str, exc: Exception) -> Problem:
    said = str(exc).partition("\n")[0]
    if isinstance(exc, SyntaxError) and exc.filename and exc.lineno:
        said, places = exc.msg, [shown(exc.filename, exc.lineno)]
    elif isinstance(exc, SyntaxError | UnicodeDecodeError):
        return Problem(where, f"is not Python source: {said}", "give the path of a Python file with a flow")
    elif isinstance(exc, OSError) and exc.filename and Path(exc.filename) == Path(where):
        return Problem(where, f"can't be read: {exc.strerror}", "make it readable, or give another file")
    else:
        places = _user_frames(exc)
    what = " at ".join([f"can't be imported: {type(exc).__name__}: {said}", *places[:1]])
    called = f" (called from {', '.join(places[1:])})" if places[1:] else ""
    return Problem(where, what + called, _suggestion(exc) or "fix the file")


def _suggestion(exc: BaseException) -> str:
    """Return Python's suggestion for a misspelled name; for variables our own where Python has none, as 3.11."""
    said = next(traceback.TracebackException.from_exception(exc).format_exception_only())
    if found := re.search(r"(did you mean:? '[^']+'\?)\s*$", said, re.IGNORECASE):
        return found[1].replace("Did", "did").replace("mean:", "mean")
    near: list[str] = []
    if isinstance(exc, NameError):
        *_, (frame, _) = traceback.walk_tb(exc.__traceback__)
        near = get_close_matches(exc.name or "", [*frame.f_builtins, *frame.f_globals, *frame.f_locals], n=1)
    return f"did you mean {near[0]!r}?" if near else ""


def _user_frames(exc: BaseException) -> list[str]:
    """Return `file:line` of the frames in the user's files, innermost first; of all frames if there are none."""
    frames = [frame for frame in traceback.extract_tb(exc.__traceback__) if not frame.filename.startswith("<frozen")]
    inner = [frame for frame in frames if frame.filename != __file__]
    own = [frame for frame in inner if not frame.filename.startswith(_FOREIGN)] or inner[-1:]
    return [shown(frame.filename, frame.lineno or 0) for frame in reversed(own)]
