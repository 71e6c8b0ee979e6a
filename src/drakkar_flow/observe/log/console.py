"""Console format of log lines: one line per event, long texts and stacks as indented blocks below. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

__all__ = ["render"]

_COLORS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}
_NEXT_LINE = 60  # characters; a longer text with spaces gets a separate line
_HIDDEN = ("timestamp", "level", "event", "expect", "exception", "logger")


def render(line: Mapping[str, Any], *, color: bool = False) -> str:
    """Return the line as text.

    >>> print(render({"timestamp": "", "level": "info", "event": "seen", "topic": "in", "of": ["a", "b"], "x": "a b"}))
    INFO     seen  topic=in of=a,b x="a b"
    >>> print(render({"level": "error", "event": "bad", "stderr": "one\\ntwo", "expect": "it goes on"}))
    ERROR    bad
        stderr:
            one
            two
        -> it goes on
    """
    level = str(line.get("level", "info"))
    shown = {name: value for name, value in line.items() if name not in _HIDDEN}
    inline = [f"{name}={_inline(value)}" for name, value in shown.items() if not _is_block(value)]
    label = f"{level.upper():8}"
    head = [_local_time(line.get("timestamp")), f"\x1b[{_COLORS.get(level, '0')}m{label}\x1b[0m" if color else label]
    event = _clean(str(line.get("event", "")))
    first, *more = event.split("\n")
    head.append(f"\x1b[1m{first}\x1b[0m" if color else first)
    if "logger" in line:
        head.append(f"({_clean(str(line['logger']))})")
    text = " ".join(filter(None, head)) + ("  " + " ".join(inline) if inline else "")
    blocks = [*(f"    {each}" for each in more)]
    for name, value in shown.items():
        if _is_block(value):
            blocks += _block(f"{name}:", value, 1)
    if line.get("exception"):
        blocks += _indented(str(line["exception"]), 1)
    if line.get("expect"):
        blocks.append(f"    -> {_clean(str(line['expect']))}")
    return "\n".join([text, *blocks])


def _is_block(value: Any) -> bool:
    """Return True if a value needs separate lines."""
    if isinstance(value, str):
        return "\n" in value.strip("\n") or (len(value) > _NEXT_LINE and " " in value)
    if isinstance(value, Mapping):
        return any(map(_is_block, value.values()))
    return isinstance(value, list) and any(map(_is_block, value))


def _block(title: str, value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str) and "\n" not in value.strip("\n"):
        yield f"{'    ' * depth}{title} {_clean(value.strip())}"
        return
    yield f"{'    ' * depth}{title}"
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _block(f"{_clean(str(name))}:", inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _block("-", inner, depth + 1)
    else:
        yield from _indented(_inline(value) if not isinstance(value, str) else value, depth + 1)


def _indented(text: str, depth: int) -> Iterator[str]:
    for line in _clean(text.strip("\n")).split("\n"):
        yield f"{'    ' * depth}{line}".rstrip()


def _inline(value: Any) -> str:
    """Return a value as one line of text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return ",".join(f"{_clean(str(name))}:{_inline(inner)}" for name, inner in value.items()) or "none"
    if isinstance(value, list):
        return ",".join(map(_inline, value)) or "none"
    text = _clean(str(value).strip("\n"))
    return f'"{text}"' if " " in text or not text else text


def _clean(text: str) -> str:
    """Escape control characters except line breaks and tabs, so that a text can't control a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def _local_time(timestamp: Any) -> str:
    try:
        return datetime.fromisoformat(str(timestamp)).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return ""
