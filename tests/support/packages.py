"""Packages that look installed: a module and its metadata in a directory on the path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

__all__ = ["CSV_SINK", "package"]

CSV_SINK = '''
    """A sink of comma-separated lines."""

    from pathlib import Path

    from pydantic import SecretStr

    from drakkar_flow.plugins import BatchFailed, SinkConfig, SinkRejected, SinkSpec


    class CsvConfig(SinkConfig):
        """A file of comma-separated lines."""

        synonyms = {"file": "path"}
        path: str
        """The file."""
        token: SecretStr = SecretStr("")
        """What opens it."""


    class CsvSink:
        """Appends a line per payload."""

        def __init__(self, name, settings):
            self._path = Path(settings.path)

        async def connect(self):
            self._path.parent.mkdir(parents=True, exist_ok=True)

        async def write_batch(self, batch):
            failures = {}
            with self._path.open("a") as file:
                for index, delivery in enumerate(batch):
                    try:
                        file.write(line(delivery.payload, {}))
                    except SinkRejected as error:
                        failures[index] = error
            if failures:
                raise BatchFailed(failures)

        async def close(self):
            pass


    def line(payload, settings):
        if not isinstance(payload.data, dict):
            raise SinkRejected("no row: send a mapping")
        return ",".join(map(str, payload.data.values())) + "\\n"


    SPEC = SinkSpec(
        "csv", CsvConfig, CsvSink, check_payload=line, not_checked="rows of payloads"
    )
'''
"""The source of a plug-in with a sink."""


def package(directory: Path, name: str, source: str, **groups: Mapping[str, str]) -> Path:
    """Write the package `name` 1.0 into the directory; `groups` are its entry points, `__` standing for a period."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.py").write_text(dedent(source))
    info = directory / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = []
    for group, entries in groups.items():
        lines += [f"[{group.replace('__', '.')}]", *(f"{kind} = {value}" for kind, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return directory
