"""What a task may be made of: everything else is refused where it is made, in one line."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from drakkar_flow import ExecutorTask, Record


class Mode(StrEnum):
    """A text that is more than a text."""

    FAST = "--fast"


class Wrong:
    """A path that is none."""

    def __fspath__(self) -> Any:
        return 5


def made(**fields: Any) -> ExecutorTask:
    """A task."""
    return ExecutorTask(**{"task_id": "t-1", "source_offsets": [7], **fields})


def test_f1_texts_bytes_and_paths_are_arguments() -> None:
    """They are held as text, which gives the same bytes to the program."""
    task = made(args=["-c", Path("/x"), b"y", b"\xff", Mode.FAST], binary_path=Path("/bin/cat"))
    assert task.args == ["-c", "/x", "y", "\udcff", "--fast"]
    assert [type(arg) for arg in task.args] == [str] * 5
    assert task.binary_path == "/bin/cat"
    assert made(binary_path=b"/bin/cat").binary_path == "/bin/cat"
    assert made(env={"HOME": Path("/root"), b"A": b"\xfe"}).env == {"HOME": "/root", "A": "\udcfe"}
    assert made(stdin=bytearray(b"ab")).stdin == made(stdin=memoryview(b"ab")).stdin == b"ab"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"args": ["a", "b", 3]}, "args[2] is int 3: write str(3)"),
        ({"args": [0.5]}, "args[0] is float 0.5: write str(0.5)"),
        ({"args": [True]}, "args[0] is bool True: write str(True)"),
        ({"args": ["a", None]}, "args[1] is None: leave it out"),
        ({"args": [["a"]]}, "args[0] is list ['a']: write text, bytes or a path"),
        ({"args": ["a\0b"]}, "args[0] is str 'a\\x00b': remove the NUL byte: arguments can't contain it"),
        ({"args": [b"a\0"]}, "args[0] is bytes b'a\\x00': remove the NUL byte: arguments can't contain it"),
        ({"args": 5}, "args must be a list, not int: 5"),
        ({"binary_path": 5}, "binary_path is int 5: write str(5)"),
        ({"binary_path": "a\0"}, "binary_path is str 'a\\x00': remove the NUL byte: arguments can't contain it"),
        ({"env": {"A": 1}}, "env['A'] is int 1: write str(1)"),
        ({"env": {"A": None}}, "env['A'] is None: leave it out"),
        ({"env": {"A=B": "1"}}, "a name in env is str 'A=B': write the name of an environment variable"),
        ({"env": {"": "1"}}, "a name in env is str '': write the name of an environment variable"),
        ({"env": {1: "1"}}, "a name in env is int 1: write str(1)"),
        ({"env": {"A": "\0"}}, "env['A'] is str '\\x00': remove the NUL byte: arguments can't contain it"),
        ({"env": ["A=1"]}, "env must be a dict, not list: ['A=1']"),
        ({"env": None}, "env must be a dict, not NoneType: None"),
        ({"labels": {"a": 1}}, "labels['a'] is int 1: write text"),
        ({"labels": {1: "a"}}, "a key of labels is int 1: write text"),
        ({"labels": "ab"}, "labels must be a dict, not str: 'ab'"),
        ({"metadata": {1: "a"}}, "a key of metadata is int 1: write text"),
        ({"metadata": []}, "metadata must be a dict, not list: []"),
        ({"source_offsets": ["7"]}, "source_offsets[0] is str '7': write a whole number"),
        ({"source_offsets": [7, None]}, "source_offsets[1] is None: write a whole number"),
        ({"source_offsets": [True]}, "source_offsets[0] is bool True: write a whole number"),
        ({"source_offsets": [7.0]}, "source_offsets[0] is float 7.0: write a whole number"),
        ({"stdin": 5}, "stdin must be text or bytes, not int"),
        ({"parent_task_id": 5}, "parent_task_id is int 5: write the id of a task"),
    ],
)
def test_f1_everything_else_is_refused_with_task_field_and_value(fields: dict[str, Any], message: str) -> None:
    """The message is one line and says what to write."""
    with pytest.raises(TypeError) as caught:
        made(**fields)
    assert str(caught.value) == f"task t-1: {message}"


def test_f1_what_can_not_be_shown_is_refused_as_well() -> None:
    """A path that gives no path, a value whose repr raises, a value that is long."""

    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError

    with pytest.raises(TypeError, match=r"task t-1: args\[0\] is Wrong"):
        made(args=[Wrong()])
    with pytest.raises(TypeError, match=r"task t-1: args\[0\] is Shy <Shy>: write text, bytes or a path"):
        made(args=[Shy()])
    with pytest.raises(TypeError) as caught:
        made(args=[["x" * 10_000]])
    assert len(str(caught.value)) < 200


def test_f1_what_was_changed_later_is_found_by_the_next_check() -> None:
    """Which every task passes before it runs."""
    task = made()
    task.args.append(3)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(TypeError, match=r"task t-1: args\[0\] is int 3"):
        task.check()
    task.args[:] = [Path("/x")]  # type: ignore[list-item]  # a Path works too
    task.check()
    assert task.args == ["/x"]


def test_f1_a_copy_is_checked_like_a_new_task() -> None:
    """So replacements that are made of the task that failed are checked, too."""
    with pytest.raises(TypeError, match=r"args\[0\] is int 3"):
        made().model_copy(update={"args": [3]})
    assert made().model_copy(update={"args": [Path("/x")]}).args == ["/x"]


def test_f1_numbers_of_other_libraries_are_offsets() -> None:
    """They become plain ones, which everything else can write."""

    class Number:
        def __index__(self) -> int:
            return 7

    (offset,) = made(source_offsets=[Number()]).source_offsets
    assert (offset, type(offset)) == (7, int)


def test_f1_what_can_be_read_only_once_is_read_once() -> None:
    """Generators and iterators are as good as lists."""
    task = made(args=(name for name in ["a", "b"]), source_offsets=iter([1, 2]))
    assert (task.args, task.source_offsets) == (["a", "b"], [1, 2])


def test_n19_a_record_makes_its_tasks() -> None:
    """Ids and offsets are filled in; the names are the same each time the record is read."""
    for _ in range(2):
        record = Record(topic="in", partition=1, offset=7)
        tasks = [record.task(args=["a"]), record.task(stdin="x"), record.task(task_id="mine"), record.task()]
        assert [task.task_id for task in tasks] == ["in:1:7", "in:1:7-2", "mine", "in:1:7-3"]
        assert [task.source_offsets for task in tasks] == [[7]] * 4
        assert (tasks[0].args, tasks[1].stdin) == (["a"], "x")


def test_n19_several_records_make_one_task() -> None:
    """It works for all of them; the ids stay different from those of the first record's own tasks."""
    records = [Record(topic="in", partition=1, offset=offset) for offset in (7, 9)]
    one, both = records[0].task(), ExecutorTask.for_records(records, args=["x"])
    assert (both.task_id, both.source_offsets, both.args) == ("in:1:7-2", [7, 9], ["x"])
    assert one.task_id == "in:1:7"
    with pytest.raises(ValueError, match="at least one record"):
        ExecutorTask.for_records([])


def test_n19_a_wrong_field_is_refused_there_as_well() -> None:
    """With the id that the task would have had."""
    with pytest.raises(TypeError, match=r"task in:0:7: args\[0\] is int 3: write str\(3\)"):
        Record(topic="in", partition=0, offset=7).task(args=[3])  # type: ignore[list-item]  # wrong on purpose
