"""Whatever stands in a configuration: it loads or it is explained, never anything else."""

from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drakkar_flow.config.loading.legacy_keys import LEGACY_KEYS
from drakkar_flow.config.loading.load import Loaded, from_mapping, load, load_config
from drakkar_flow.config.root import DrakkarConfig
from drakkar_flow.config.schema import sections
from drakkar_flow.config.show import render_yaml
from drakkar_flow.errors import ConfigError

in_one_directory = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

KEYS = sorted(
    {str(key) for path, kind in sections() for key in (*path, *kind.model_fields)}
    | {part for former in LEGACY_KEYS for part in former.split(".")}
)
SECTIONS = {path[0] for path, _ in sections() if path}
texts = st.text(st.characters(codec="utf-8"), max_size=12)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), texts, st.dates(), st.binary(max_size=4),
    st.sampled_from(["${", "${X}", "$${", "^(", "http://a:b@c", "SSL", "dlq"]),
)  # fmt: skip
keys = st.one_of(st.sampled_from(KEYS), texts, st.integers(), st.booleans(), st.none())
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=12,
)


def near_the_schema(kind: Any) -> st.SearchStrategy[Any]:
    """Mappings whose keys are mostly the section's, so that the fuzz gets past the first unknown key."""
    fields = st.dictionaries(st.one_of(st.sampled_from(sorted(kind.model_fields)), keys), values, max_size=4)
    return st.one_of(fields, values)


configurations = st.one_of(
    values,
    st.fixed_dictionaries(
        {},
        optional={path[0]: near_the_schema(kind) for path, kind in sections() if len(path) == 1}
        | {former.partition(".")[0]: values for former in LEGACY_KEYS if former.partition(".")[0] not in SECTIONS}
        | {"app": values},
    ),
)


def explained(error: ConfigError) -> None:
    """Every problem says where and what, in a line."""
    assert error.problems
    for problem in error.problems:
        assert problem.where
        assert problem.what
        assert "\n" not in problem.what


@given(configurations)
@settings(deadline=None)
def test_any_data_loads_or_is_explained(data: Any) -> None:
    """Nested data of any shape."""
    try:
        assert isinstance(from_mapping(data), DrakkarConfig)
    except ConfigError as error:
        explained(error)


@given(configurations)
@in_one_directory
def test_any_yaml_loads_or_is_explained(tmp_path: Path, data: Any) -> None:
    """The same through a file."""
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True))
    try:
        load_config(path, environ={"X": "x"})
    except ConfigError as error:
        explained(error)


@given(st.one_of(st.binary(max_size=60), st.text("ab:-[]{}&*!<>|'\"#%@?,\n \t${}0x1.", max_size=60).map(str.encode)))
@in_one_directory
def test_any_bytes_load_or_are_explained(tmp_path: Path, data: bytes) -> None:
    """Files that are hardly YAML."""
    path = tmp_path / "p.yaml"
    path.write_bytes(data)
    try:
        load_config(path, environ={})
    except ConfigError as error:
        explained(error)


@given(st.dictionaries(
    st.lists(st.one_of(st.sampled_from(KEYS), st.text("AB_", max_size=5)), min_size=1, max_size=4)
    .map(lambda parts: "DRAKKAR_" + "__".join(parts).upper()),
    st.one_of(texts, st.sampled_from(["1", "{}", "[]", "[1]", '{"a": {}}', "NaN"])), max_size=3,
))  # fmt: skip
@settings(deadline=None)
def test_any_environment_loads_or_is_explained(environ: dict[str, str]) -> None:
    """Names and values of any kind; the configuration file is left out."""
    environ.pop("DRAKKAR_CONFIG", None)
    try:
        load_config(environ=environ)
    except ConfigError as error:
        explained(error)


harmless = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(allow_nan=False), harmless),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(harmless, inner, max_size=3)),
    max_leaves=8,
)


@given(st.dictionaries(harmless, plain, max_size=4), st.dictionaries(harmless, harmless, max_size=3), harmless)
@in_one_directory
def test_what_is_shown_loads_again(tmp_path: Path, app: dict[str, Any], env: dict[str, str], topic: str) -> None:
    """Showing is idempotent: the shown file shows the same values, and equals the original where nothing was masked."""
    sinks = {"kafka": {"out": {"topic": topic}}}
    loaded = load(environ={}, overrides={"app": app, "executor": {"env": env}, "sinks": sinks})
    path = tmp_path / "p.yaml"
    path.write_text(render_yaml(loaded))
    again = load(path, environ={})
    assert values_of(again) == values_of(loaded)
    if "********" not in path.read_text():
        assert again.config == loaded.config


def values_of(loaded: Loaded) -> Any:
    """What the shown YAML holds, without comments."""
    return yaml.safe_load(render_yaml(loaded))
