"""What goes to a child and what comes back, however the bytes are cut."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.executor.persistent.codec import Answer, Codec, ProtocolError, UnencodableTask
from drakkar_flow.executor.persistent.filters import LinePerTask, LinesToMarker
from drakkar_flow.executor.persistent.frames import JsonLines, LengthPrefixed, dialect_for
from drakkar_flow.model.task import ExecutorTask

LIMIT = 1000

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
lines = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=30)
answers = st.builds(Answer, st.integers(1, 10**9), st.integers(0, 255), texts, texts, st.booleans())


def task(stdin: str | bytes | None = None, **fields: object) -> ExecutorTask:
    """A task with nothing but stdin."""
    return ExecutorTask(task_id="t", source_offsets=[], stdin=stdin, **fields)  # type: ignore[arg-type]  # one of any framing


def fed(dialect: Codec, stream: bytes, cuts: list[int]) -> tuple[list[Answer], str]:
    """The answers of a stream that arrives in pieces, and how the protocol was broken, if it was."""
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    heard: list[Answer] = []
    try:
        for start, end in pairwise(places):
            for answer in dialect.feed(stream[start:end]):
                heard.append(answer)  # noqa: PERF402 - those before an error count
    except ProtocolError as exc:
        return heard, type(exc).__name__
    return heard, ""


def as_line(answer: Answer) -> bytes:
    """What a child writes in JSON lines."""
    fields = {"id": answer.id, "exit_code": answer.exit_code, "stdout": answer.stdout, "stderr": answer.stderr}
    return json.dumps({**fields, "type": "progress" if answer.progress else "result"}).encode() + b"\n"


def as_frame(answer: Answer) -> bytes:
    """What a child writes in length-prefixed frames."""
    fields = {"id": answer.id, "exit_code": answer.exit_code, "stderr": answer.stderr}
    head = json.dumps({**fields, "type": "progress" if answer.progress else "result"}).encode()
    body = answer.stdout.encode()
    return len(head).to_bytes(4) + len(body).to_bytes(4) + head + body


@given(st.lists(answers, max_size=6), st.lists(st.integers(0), max_size=8))
def test_frames_are_the_same_however_they_are_cut(said: list[Answer], cuts: list[int]) -> None:
    """Both framings, any piece of the stream at a time, down to single bytes."""
    assert fed(JsonLines(LIMIT), b"".join(map(as_line, said)), cuts) == (said, "")
    assert fed(LengthPrefixed(LIMIT), b"".join(map(as_frame, said)), cuts) == (said, "")


@given(st.lists(lines, max_size=6), st.lists(st.integers(0), max_size=8))
def test_each_line_of_a_filter_answers_the_next_task(written: list[str], cuts: list[int]) -> None:
    """The output keeps its line end, as the filter wrote it."""
    stream = "".join(line + "\n" for line in written).encode()
    expected = [Answer(number, stdout=line + "\n") for number, line in enumerate(written, 1)]
    assert fed(LinePerTask(LIMIT), stream, cuts) == (expected, "")


@given(st.lists(st.lists(lines, max_size=4), max_size=6), st.lists(st.integers(0), max_size=8))
def test_everything_before_a_marker_is_its_answer(written: list[list[str]], cuts: list[int]) -> None:
    """No line, one line or several; a line that only looks a little like a marker is output."""
    outputs = ["".join(line.replace("#drakkar-", "#drakka-") + "\n" for line in output) for output in written]
    stream = "".join(f"{output}#drakkar-{number}\n" for number, output in enumerate(outputs, 1)).encode()
    expected = [Answer(number, stdout=output) for number, output in enumerate(outputs, 1)]
    assert fed(LinesToMarker(LIMIT), stream, cuts) == (expected, "")


def dialects() -> Iterator[Callable[[], Codec]]:
    """Each dialect with a small limit."""
    for kind in (JsonLines, LengthPrefixed, LinePerTask, LinesToMarker):
        yield lambda kind=kind: kind(40)  # type: ignore[misc]  # mypy knows no lambda with a default here


@given(st.binary(max_size=300), st.lists(st.integers(0), max_size=8))
def test_nonsense_breaks_the_protocol_at_the_same_place_however_it_is_cut(stream: bytes, cuts: list[int]) -> None:
    """Nothing but ProtocolError is raised, the answers before it are heard, and little is held."""
    for make in dialects():
        dialect = make()
        assert fed(dialect, stream, cuts) == fed(make(), stream, list(range(len(stream))))


@given(st.binary(min_size=100, max_size=300), st.integers(1, 50))
def test_an_answer_that_never_ends_is_not_held_for_ever(noise: bytes, size: int) -> None:
    """A flood breaks the protocol as soon as it is longer than a frame may be."""
    for make in dialects():
        dialect = make()
        held = 0
        try:
            for _ in range(50):
                list(dialect.feed(noise[:size].replace(b"\n", b"x").replace(b"#", b"x").replace(b"\0", b"\xff")))
                held = dialect.held
        except ProtocolError:
            assert held <= 40
        else:
            pytest.fail("a flood was taken in")


@given(texts | st.binary(max_size=50))
def test_a_task_arrives_as_it_was_given(stdin: str | bytes) -> None:
    """Text as text, bytes that are no text as base64, in the body as they are."""
    raw = stdin.encode() if isinstance(stdin, str) else stdin
    whole = {"args": ["-x"], "env": {"A": "1"}, "labels": {"l": "2"}, "metadata": {"m": [3]}}
    frame = json.loads(JsonLines(LIMIT).encode(7, task(stdin, **whole), 2.5))
    assert {key: frame[key] for key in whole} == whole
    assert (frame["type"], frame["id"], frame["timeout_s"]) == ("task", 7, 2.5)
    said = frame.get("stdin", "").encode() or base64.b64decode(frame.get("stdin_base64", ""))
    assert said == raw
    prefixed = LengthPrefixed(LIMIT).encode(7, task(stdin), 2.5)
    head, body = int.from_bytes(prefixed[:4]), int.from_bytes(prefixed[4:8])
    assert json.loads(prefixed[8 : 8 + head])["id"] == 7
    assert (prefixed[8 + head :], body) == (raw, len(raw))


def test_an_answer_may_be_bytes() -> None:
    """Base64 in a line, the body in a frame; what is no text is replaced."""
    assert next(JsonLines(LIMIT).feed(b'{"id":1,"stdout_base64":"aG//"}\n')).stdout == "ho\N{REPLACEMENT CHARACTER}"
    frame = len(b'{"id":1}').to_bytes(4) + (3).to_bytes(4) + b'{"id":1}ho\xff'
    assert next(LengthPrefixed(LIMIT).feed(frame)).stdout == "ho\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("line", [b"{oops", b"[]", b"{}", b'{"id":"1"}', b'{"id":1,"type":"what"}', b"\xff", b""])
def test_a_line_that_is_no_answer_is_shown(line: bytes) -> None:
    """The message has what was said, so that a forgotten print is found."""
    with pytest.raises(ProtocolError, match="no valid answer"):
        list(JsonLines(LIMIT).feed(line + b"\n"))


def test_the_answers_before_a_broken_frame_are_heard() -> None:
    """Only what was under way is lost."""
    assert fed(JsonLines(LIMIT), b'{"id":1}\n{"id":2}\noops\n', []) == ([Answer(1), Answer(2)], "ProtocolError")


@pytest.mark.parametrize("framing", ["json-lines", "length-prefixed"])
def test_a_request_is_cancelled_only_where_the_child_can(framing: str) -> None:
    """Without the capability there is nothing to say."""
    assert b'{"type":"cancel","id":3}' in (dialect_for(framing, LIMIT, can_cancel=True).cancel(3) or b"")  # type: ignore[arg-type]  # one of any framing
    assert dialect_for(framing, LIMIT, can_cancel=False).cancel(3) is None  # type: ignore[arg-type]  # one of any framing


HOLDS_ITSELF: dict[str, object] = {}
HOLDS_ITSELF["m"] = HOLDS_ITSELF

UNSPEAKABLE = [
    (JsonLines, task("x" * 2000), "max_frame_bytes"),
    (LengthPrefixed, task("x" * 2000), "max_frame_bytes"),
    (JsonLines, task("\ud800"), "JSON"),
    (LengthPrefixed, task("\ud800"), "not valid text"),
    (JsonLines, task(args=["a", b"\xff"]), r"args\[1\] is not UTF-8"),
    (LengthPrefixed, task(env={"A": b"\xff"}), r"env\['A'\] is not UTF-8"),
    (JsonLines, task(metadata={"m": object()}), "JSON"),
    (JsonLines, task(metadata=HOLDS_ITSELF), "JSON"),
    (LinePerTask, task("a\nb"), "several lines"),
    (LinesToMarker, task(b"a\nb\n"), "several lines"),
    (LinePerTask, task("\ud800"), "not valid text"),
    (LinePerTask, task("x" * 2000), "max_frame_bytes"),
    (LinePerTask, task("x", args=["-v"]), "args"),
    (LinesToMarker, task("x", env={"A": "1"}), "env"),
    (LinesToMarker, task("#drakkar-9"), "marker"),
]


@pytest.mark.parametrize(("kind", "given_task", "why"), UNSPEAKABLE)
def test_what_can_not_be_said_is_refused_with_the_reason(
    kind: Callable[..., Codec], given_task: ExecutorTask, why: str
) -> None:
    """Nothing is sent, so the child is none the worse."""
    with pytest.raises(UnencodableTask, match=why):
        kind(LIMIT).encode(1, given_task, 1.0)


@pytest.mark.parametrize(("stdin", "line"), [("a", b"a\n"), (b"a\n", b"a\n"), (None, b"\n"), ("", b"\n")])
def test_a_task_is_one_line_with_or_without_its_end(stdin: str | bytes | None, line: bytes) -> None:
    """A record's value has no line end as a rule."""
    assert LinePerTask(LIMIT).encode(1, task(stdin), 1.0) == line


@pytest.mark.parametrize("number", [b"", b"x", b"-1", b"9" * 5000], ids=["none", "text", "negative", "long"])
def test_a_marker_without_a_number_breaks_the_protocol(number: bytes) -> None:
    """Such a line was not written by us."""
    with pytest.raises(ProtocolError, match="without a number"):
        list(LinesToMarker(10_000).feed(b"#drakkar-%b\n" % number))


def test_what_is_exactly_as_long_as_allowed_passes() -> None:
    """Both ways; a line's end does not count."""
    assert LinePerTask(5).encode(1, task("12345"), 1.0) == b"12345\n"
    assert [answer.stdout for answer in LinePerTask(5).feed(b"12345\n")] == ["12345\n"]
    frame = as_frame(Answer(1, stdout="12345"))
    assert [answer.stdout for answer in LengthPrefixed(len(frame) - 8).feed(frame)] == ["12345"]
    with pytest.raises(ProtocolError):
        list(LengthPrefixed(len(frame) - 9).feed(frame))
