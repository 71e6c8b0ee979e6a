"""`drakkar-flow init`: write a project that runs."""

from __future__ import annotations

import re
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from drakkar_flow.errors import Problem, ProblemsError

__all__ = ["Style", "init", "project"]

_SUFFIX = ".template"


class ProjectError(ProblemsError):
    """A project can't be written to the requested place."""

    title = "the project can't be written"


class Style(StrEnum):
    """Style of the pipeline."""

    HANDLER = "handler"
    FLOW = "flow"


def init(
    directory: Annotated[Path, typer.Argument(help="where to; made if it is not there")] = Path(),
    style: Annotated[Style, typer.Option("--style", "-s", help="a class with hooks, or composed functions")] = (
        Style.HANDLER
    ),
) -> None:
    """Write a pipeline with its settings, tests and a README; existing files are kept."""
    made = project(directory.resolve().name, style)
    kept = [name for name in made if (directory / name).exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in made.items():
            if name not in kept:
                (directory / name).write_text(text)
    except OSError as exc:
        where = str(exc.filename or directory)
        raise ProjectError([Problem(where, f"can't be written: {exc.strerror}", "choose another directory")]) from exc
    for name in made:
        typer.echo(f"{directory / name}{' (kept, it exists already)' if name in kept else ''}")
    typer.echo(f"try it without Kafka: drakkar-flow test {directory / 'pipeline.test.yaml'}")


def project(name: str, style: Style) -> dict[str, str]:
    """Return the texts of a project's files by their names; its topics' names are derived from `name`."""
    topic = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "words"
    filled = {"{{name}}": topic, "{{module}}": topic.replace("-", "_")}
    templates = files("drakkar_flow.cli") / "templates"
    found = [file for kind in (style, "both") for file in (templates / kind).iterdir() if file.name.endswith(_SUFFIX)]
    texts = {_filled(file.name.removesuffix(_SUFFIX), filled): _filled(file.read_text(), filled) for file in found}
    return dict(sorted(texts.items()))


def _filled(text: str, values: dict[str, str]) -> str:
    for mark, value in values.items():
        text = text.replace(mark, value)
    return text
