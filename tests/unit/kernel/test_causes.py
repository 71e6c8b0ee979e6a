"""Cause texts: what differs between failures is masked, what tells causes apart stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.kernel.causes import cause_key, cause_text

words = st.text("ghijklm", min_size=1, max_size=8)  # no hexadecimal digit
values = st.text(st.characters(codec="utf-8", exclude_characters="'\n"), max_size=1000)
numbers = st.integers(0, 10**20)


@given(st.text(max_size=1000))
def test_a_cause_is_one_short_line(text: str) -> None:
    """Whatever the text."""
    for cause in (cause_text(text), cause_key(text)):
        assert "\n" not in cause
        assert len(cause) <= 240
    assert len(cause_text(text)) <= 120


@given(words, values, values, words)
def test_quoted_values_do_not_make_causes(before: str, one: str, other: str, after: str) -> None:
    """Of any length and content; also with the prefixes of Python's literals."""
    for prefix in ("", "b"):
        first, second = (f"{before} {prefix}'{value}' {after}" for value in (one, other))
        assert cause_key(first) == cause_key(second)
        if len(one) < 400 and len(other) < 400:
            assert cause_text(first) == cause_text(second)


@given(words, numbers, numbers, st.sampled_from(["line", "column", "offset", "row", "record", "pid"]))
def test_positions_do_not_make_causes(word: str, one: int, other: int, position: str) -> None:
    """Behind the words that name them, and behind a colon."""
    for text in (f"{word} at {position} {{}}", f"{word}:{{}}: {word}"):
        assert cause_text(text.format(one)) == cause_text(text.format(other))


@given(words, numbers, numbers)
def test_numbers_make_no_causes_of_the_brake(word: str, one: int, other: int) -> None:
    """Also small ones, which the log tells apart: HTTP 404 and 503."""
    assert cause_key(f"{word} {one} {word}") == cause_key(f"{word} {other} {word}")


@given(words, words)
def test_words_make_causes(one: str, other: str) -> None:
    """What is no value tells causes apart."""
    for cause in (cause_text, cause_key):
        assert (cause(f"no {one} 'x'") == cause(f"no {other} 'y'")) == (one == other)


@given(st.text(max_size=200), st.text(max_size=200), words)
def test_one_cause_text_is_one_cause_key(one: str, other: str, word: str) -> None:
    """So a run of the brake is never split by what the log counts as one."""
    for first, second in ((one, other), (f"{word} 1234 '{one}'", f"{word} 5678 '{other}'")):
        if cause_text(first) == cause_text(second):
            assert cause_key(first) == cause_key(second)


@pytest.mark.parametrize(
    "texts",
    [
        ("invalid literal for int() with base 10: 'a'", "invalid literal for int() with base 10: 'bcd'"),
        ("in:0:17: 1 validation error for Order\n x", "in:3:9: 1 validation error for Order\n y"),
        ("[Errno 2] No such file: /data/a b", "[Errno 2] No such file: /data/c b"),
        ("key (a@b.c) exists", "key (d@e.f) exists"),
        ("can't read 'a'", "can't read 'b c'"),
        ("no C:\\data\\a here", "no C:\\data\\b here"),
        ("\n  boom", "boom"),
    ],
)
def test_texts_that_differ_in_values_only_are_one_cause(texts: tuple[str, str]) -> None:
    """Quoted values, numbers, paths, addresses, and all but the first line."""
    assert len({cause_key(text) for text in texts}) == 1


def test_the_log_tells_small_numbers_apart() -> None:
    """Exit codes and statuses are no values."""
    assert cause_text("HTTP 503") != cause_text("HTTP 404")


def test_an_apostrophe_opens_no_quotation() -> None:
    """What follows it stays readable."""
    assert cause_text("can't find the table 'x'") == "can't find the table '...'"
