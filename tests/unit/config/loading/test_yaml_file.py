"""Reading YAML: positions, variables, and every way a file can be broken."""

from pathlib import Path
from typing import Any

import pytest

from drakkar_flow.config.loading.layers import Layer
from drakkar_flow.config.loading.load import load_config
from drakkar_flow.config.loading.yaml_file import read_yaml
from drakkar_flow.errors import ConfigError


def read(tmp_path: Path, text: str | bytes, **environ: str) -> Layer:
    """The layer of a file with the text."""
    path = tmp_path / "f.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_yaml(path, environ)


def told(layer: Layer) -> list[str]:
    """The layer's problems without the directory."""
    return [str(problem).rpartition("/f.yaml")[2].lstrip(":") for problem in layer.problems]


def app(layer: Layer) -> Any:
    """The value under `app`, once nothing is wrong."""
    assert layer.problems == []
    return layer.tree["app"]


def test_every_value_knows_its_line_and_column(tmp_path: Path) -> None:
    """Keys and list items, counted from one."""
    layer = read(tmp_path, "kafka:\n  source_topics:\n    - a\n    - b\n")
    path = tmp_path / "f.yaml"
    assert layer.origins == {
        (): f"{path}",
        ("kafka",): f"{path}:1:1",
        ("kafka", "source_topics"): f"{path}:2:3",
        ("kafka", "source_topics", 0): f"{path}:3:7",
        ("kafka", "source_topics", 1): f"{path}:4:7",
    }


def test_keys_and_dates_stay_as_written(tmp_path: Path) -> None:
    """YAML 1.1 would read `on` as true and make a date of a name."""
    assert app(read(tmp_path, "app: {on: 2026-01-01, 1: x, null: y}\n")) == {"on": "2026-01-01", "1": "x", "null": "y"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${A}", "1"),
        ("x-${A}-${A}", "x-1-1"),
        ("${UNSET:-d}", "d"),
        ("${UNSET:-}", ""),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY}", ""),
        ("${UNSET:-http://h:1}", "http://h:1"),
        ("$${A}", "${A}"),
        ("$A $ $$", "$A $ $$"),
    ],
)
def test_variables_are_filled_in_like_in_a_shell(tmp_path: Path, text: str, value: str) -> None:
    """`${NAME}`, `${NAME:-default}` for unset or empty ones, `$${` for a literal `${`."""
    assert app(read(tmp_path, f"app: '{text}'\n", A="1", EMPTY="")) == value


@pytest.mark.parametrize("text", ["${", "${1}", "${A", "${A-b}", "${}"])
def test_a_malformed_variable_is_a_problem(tmp_path: Path, text: str) -> None:
    """It is most likely a typing mistake, and `$${` is there for the rest."""
    (problem,) = told(read(tmp_path, f"app: '{text}'\n", A="1"))
    assert problem == "1:1 app: '${' begins no variable; write ${NAME}, ${NAME:-default}, or $${ for '${'"


def test_what_a_variable_holds_is_not_read_again(tmp_path: Path) -> None:
    """No second round of filling in, no YAML in values."""
    assert app(read(tmp_path, "app: ${A}\n", A="${B}: [x]")) == "${B}: [x]"


def test_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    """Own keys win over merged ones, earlier merged mappings over later ones."""
    text = "x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\napp: {<<: [*x, *y], a: 0}\n"
    assert app(read(tmp_path, text)) == {"a": 0, "b": 1, "c": 2}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: [", "2:5: is not YAML: while parsing a flow node, expected the node content"),
        ("a: 1\n\tb: 2\n", "2:1: is not YAML: while scanning for the next token, found character"),
        ("a: *nope", "1:4: is not YAML: found undefined alias"),
        ("a: 1\n---\nb: 2\n", "2:1: is not YAML: expected a single document"),
        ("a: 1\nb: \x00\n", "2: is not YAML: the character U+0000 is not allowed"),
        (b"a: \xff\n", "is not UTF-8 text: byte 0xff at offset 3"),
        ("- a\n", "1:1: the top level must be a mapping of sections, not a list"),
        ("text\n", "1:1: the top level must be a mapping of sections, not a value"),
        ("app: {a: 1, a: 2}", "1:13 app.a: the key stands here twice, first in line 1"),
        ("app: {[a]: 1}", "1:7 app: a key must be text"),
        ("app: !!python/object:os.system x", "1:6 app: could not determine a constructor for the tag"),
        ("app: !!binary YQ==", "1:6 app: could not determine a constructor for the tag"),
        ("app: !mine {a: 1}", "1:6 app: the tag !mine has no meaning here"),
        ("app: !!int text", "1:6 app: 'text' can't be read as int"),
        ("app: !!float ''", "1:6 app: '' can't be read as float"),
        ("app: !!bool text", "1:6 app: 'text' can't be read as bool"),
        ("app: 0x1ffffffffffffffffffff", "1:6 app: the number has more than 64 bits"),
        ("app: {<<: 1}", "1:11 app: '<<' merges mappings only"),
        ("app: &a [*a]", "values nest deeper than 60 levels; is there an alias that contains itself?"),
        ("app: &a {<<: *a}", "values nest deeper than 60 levels; is there an alias that contains itself?"),
        ("[" * 5000, "values nest too deeply"),
        (("a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
         "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n"),
         "more than 100000 values; is there an alias that contains itself?"),
    ],
)  # fmt: skip
def test_a_broken_file_is_told_with_its_place(tmp_path: Path, text: str | bytes, problem: str) -> None:
    """One readable line each, never an exception."""
    (line,) = told(read(tmp_path, text))
    assert problem in line
    assert "\n" not in line


@pytest.mark.parametrize("text", [b"\xef\xbb\xbfapp: 1\n", b"app: 1\r\n"])
def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path, text: bytes) -> None:
    """Editors write them."""
    assert app(read(tmp_path, text)) == 1


def test_a_file_that_can_not_be_opened_is_told(tmp_path: Path) -> None:
    """Missing, a directory, below a file, an impossible name."""
    (tmp_path / "f.yaml").write_text("")
    assert [
        str(read_yaml(Path(name), {}, "look again").problems[0].what)
        for name in (tmp_path / "none", tmp_path, tmp_path / "f.yaml" / "x", "a\0b")
    ] == ["file not found", "is a directory, not a file", "can't be read: Not a directory",
          "is no file name: embedded null byte"]  # fmt: skip
    assert read_yaml(tmp_path / "none", {}, "look again").problems[0].remedy == "look again"


def test_g20_a_missing_file_is_a_file_not_found_error(tmp_path: Path) -> None:
    """For programs that look for just that; whatever else is wrong is not."""
    with pytest.raises(FileNotFoundError, match="file not found") as caught:
        load_config(tmp_path / "gone.yaml", environ={})
    assert isinstance(caught.value, ConfigError)
    (tmp_path / "wrong.yaml").write_text("kafka: 5")
    with pytest.raises(ConfigError) as other:
        load_config(tmp_path / "wrong.yaml", environ={})
    assert not isinstance(other.value, FileNotFoundError)


@pytest.mark.parametrize(
    "text",
    [
        "executors:\n  sha:\n   a: 1\n    b: 2\n",
        "kafka:\n\tbrokers: a\n",
        "kafka: [a, b\n",
        "kafka: {a: 'b}\n",
        "kafka:\n a\n b: c",
    ],
)
def test_n13_a_syntax_error_says_what_to_look_at(tmp_path: Path, text: str) -> None:
    """Its line may be the one below the mistake."""
    (problem,) = read(tmp_path, text).problems
    assert problem.remedy == "correct this line or the one above: indent with spaces, close quotes and brackets"
