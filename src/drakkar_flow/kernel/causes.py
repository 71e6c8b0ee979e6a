"""Cause texts: errors without the parts that differ from one failure to the next. Pure.

* `cause_text` masks values, paths, ids, positions and long numbers. The log shows it and limits by it.
* `cause_key` masks every word with a number, path or address as well. The brake counts by it.

Texts with one `cause_text` have one `cause_key`.
"""

from __future__ import annotations

import re

__all__ = ["cause_key", "cause_text"]

_MAX_SCANNED = 600
_MAX_CAUSE = 120
_QUOTE = r"(?:(?<!\w)|\b[bBfFrRuU]{1,2})"  # no apostrophe
_VARIABLE = re.compile(
    r"(?P<count>^\d+(?= payloads of the batch))"
    rf"|(?P<quoted>{_QUOTE}'[^'\n]*(?:'|$)|{_QUOTE}\"[^\"\n]*(?:\"|$)|`[^`\n]*(?:`|$))"
    r"|(?P<path>(?<![\w:/])[\w.~-]*/[^\s:,;)'\"]+)"
    r"|(?P<id>\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4,12})*\b|\b0x[0-9a-fA-F]+|\b\w*\d{4,}\w*)"
    r"|(?P<position>(?<=:)\d+\b|(?<=\bline )\d+|(?<=\bcolumn )\d+|(?<=\bchar )\d+|(?<=\boffset )\d+|(?<=\bpid )\d+"
    r"|(?<=\bposition )\d+|(?<=\bbyte )\d+|(?<=\brow )\d+|(?<=\brecord )\d+)"
)
_WORD = re.compile(r"\S*[\d#/\\@]\S*|'\.\.\.'")


def cause_text(text: str) -> str:
    """The first line of an error, without quoted values, paths, ids, positions and long numbers.

    >>> cause_text("no column 'price' in /data/in-7.csv, line 12"), cause_text("HTTP 503 after 3 attempts")
    ("no column '...' in /..., line #", 'HTTP 503 after 3 attempts')
    """
    first = text.strip()[:_MAX_SCANNED].partition("\n")[0]
    return _VARIABLE.sub(_placeholder, first)[:_MAX_CAUSE]


def cause_key(text: str) -> str:
    """The first line of an error without quoted values and words with numbers, paths or addresses.

    >>> cause_key("invalid literal for int() with base 10: 'abc'"), cause_key("row 17: no /data/x.txt")
    ('invalid literal for int() with base # #', 'row # no #')
    """
    return " ".join(_WORD.sub("#", cause_text(text)).split())


def _placeholder(match: re.Match[str]) -> str:
    return {"quoted": "'...'", "path": "/..."}.get(match.lastgroup or "", "#")
