"""Names: texts that repeat, as numbers of one file. Pure."""

from __future__ import annotations

__all__ = ["OTHER", "Name", "Names", "storable"]

Name = tuple[str, str]
"""Kind and text, for example ("sink", "kafka:results")."""

OTHER = "(other)"
"""Text that stands for those beyond the bound."""

_MAX_NAMES = 10_000
_MAX_TEXT = 300


class Names:
    """Numbers of the names of one file; beyond 10,000 all further ones of a kind share one number.

    >>> names = Names()
    >>> names.id("hook", "arrange"), names.id("hook", "collect"), names.id("hook", "arrange"), names.take()
    (1, 2, 1, [(1, 'hook', 'arrange'), (2, 'hook', 'collect')])
    """

    def __init__(self) -> None:
        self._ids: dict[Name, int] = {}
        self._new: list[tuple[int, str, str]] = []

    def id(self, kind: str, text: str) -> int:
        """Return the number of a name."""
        found = self._ids.get((kind, text))
        if found is not None:
            return found
        short = text[:_MAX_TEXT] if len(self._ids) < _MAX_NAMES else OTHER
        if short != text:
            return self._ids.get((kind, short)) or self._add(kind, short)
        return self._add(kind, text)

    def take(self) -> list[tuple[int, str, str]]:
        """Return the rows of the names that are new since the last call."""
        new, self._new = self._new, []
        return new

    def _add(self, kind: str, text: str) -> int:
        number = self._ids[kind, text] = len(self._ids) + 1
        self._new.append((number, kind, storable(text)))
        return number


def storable(text: str) -> str:
    """Return a text that has a form in UTF-8: lone surrogates, of bytes that are not UTF-8, are written out.

    >>> storable("a\\udcffb"), storable("ü")
    ('a\\\\udcffb', 'ü')
    """
    if text.isascii():
        return text
    return text.encode(errors="backslashreplace").decode()
