"""Finding the configuration's file: what is named, then what stands beside the flow, then in the working directory."""

from pathlib import Path

import pytest

from drakkar_flow.config.config_file import ConfigFile
from drakkar_flow.config.loading.find import find_config, named_config
from drakkar_flow.errors import ConfigError


@pytest.fixture
def flow(tmp_path: Path) -> Path:
    """The file of a flow; the working directory is another one."""
    (tmp_path / "flows").mkdir()
    (tmp_path / "work").mkdir()
    return tmp_path / "flows" / "scan.py"


def found(flow: Path | None, base: Path, path: str | None = None, **environ: str) -> ConfigFile:
    """What is found from the working directory `work`."""
    return find_config(path, environ, flow, base / "work")


ORDER = [
    ("flows/scan.yaml", "beside the flow"),
    ("flows/drakkar.yaml", "beside the flow"),
    ("work/drakkar.yaml", "in the working directory"),
]


def test_the_nearest_file_wins(flow: Path, tmp_path: Path) -> None:
    """One after the other is made, the farthest first, and each takes the place of the one before."""
    for name, why in reversed(ORDER):
        for ending in (".yml", ".yaml"):
            file = (tmp_path / name).with_suffix(ending)
            file.touch()
            assert (found(flow, tmp_path).path, found(flow, tmp_path).why) == (file, why)
            if ending == ".yml":
                file.unlink()


@pytest.mark.parametrize("name", [name for name, _ in ORDER])
def test_two_endings_are_one_too_many(flow: Path, tmp_path: Path, name: str) -> None:
    """Nobody can know which of them is meant."""
    file = tmp_path / name
    file.touch()
    file.with_suffix(".yml").touch()
    with pytest.raises(ConfigError) as caught:
        found(flow, tmp_path)
    (problem,) = caught.value.problems
    assert problem.where == str(file)
    assert problem.what == f"stands beside {file.stem}.yml: either could be the configuration"


def test_what_is_named_wins_over_what_stands_there(flow: Path, tmp_path: Path) -> None:
    """The argument over DRAKKAR_CONFIG over DK_CONFIG; an empty variable names nothing."""
    beside = flow.with_suffix(".yaml")
    beside.touch()
    both = {"DRAKKAR_CONFIG": "long.yaml", "DK_CONFIG": "short.yaml"}
    assert found(flow, tmp_path, "given.yaml", **both) == ConfigFile(Path("given.yaml"))
    assert str(found(flow, tmp_path, **both)) == "long.yaml (the environment variable DRAKKAR_CONFIG names it)"
    assert found(flow, tmp_path, DRAKKAR_CONFIG="", DK_CONFIG="short.yaml").path == Path("short.yaml")
    assert found(flow, tmp_path, DRAKKAR_CONFIG="").path == beside


def test_nothing_found_says_where_it_looked(flow: Path, tmp_path: Path) -> None:
    """Every place, in its order."""
    looked = ["flows/scan", "flows/drakkar", "work/drakkar"]
    files = [f"{tmp_path / stem}{ending}" for stem in looked for ending in (".yaml", ".yml")]
    assert str(found(flow, tmp_path)) == f"no file; looked for {', '.join(files)}"
    assert found(None, tmp_path).looked_for == tuple(map(Path, files[-2:]))


def test_a_place_is_looked_at_once(tmp_path: Path) -> None:
    """A flow in the working directory, given relative to it, is beside and not far away."""
    (tmp_path / "work").mkdir()
    file = tmp_path / "work" / "drakkar.yml"
    assert len(found(tmp_path / "work" / "scan.py", tmp_path).looked_for) == 4
    file.touch()
    assert found(tmp_path / "work" / "scan.py", tmp_path).why == "beside the flow"


def test_a_directory_of_that_name_is_told_and_not_passed_over(flow: Path, tmp_path: Path) -> None:
    """Whoever mounts a missing file into a container gets a directory."""
    flow.with_suffix(".yaml").mkdir()
    assert found(flow, tmp_path).path == flow.with_suffix(".yaml")


def test_a_program_of_its_own_gets_only_what_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in py-drakkar: the argument, the variable, or no file."""
    (tmp_path / "drakkar.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert named_config(None, {}) == ConfigFile()
    assert str(named_config(None, {})) == "no file; looked for DRAKKAR_CONFIG and DK_CONFIG in the environment"
    assert named_config(None, {"DK_CONFIG": "x.yaml"}).path == Path("x.yaml")
