"""The settings of a cluster."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from drakkar_flow.config.sections.cluster import ClusterConfig
from drakkar_flow.config.sections.runtime import RuntimeConfig

_TWO = ["a:4300", "b:4300"]


def test_a_text_of_addresses_is_a_list_of_them() -> None:
    """As -a and the environment give it."""
    assert ClusterConfig.model_validate({"addresses": " a:1; [::1]:2 ;"}).addresses == ("a:1", "[::1]:2")


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"addresses": ["a:1"]}, "needs at least two addresses"),
        ({"addresses": ["a:1", "b:1", "a:1"]}, "a:1 is given twice"),
        ({"addresses": ["a:1", "b"]}, "'b' is no address"),
        ({"addresses": ["a:1", ":2"]}, "':2' is no address"),
        ({"addresses": ["a:1", "b:0"]}, "'b:0' is no address"),
        ({"addresses": ["a:1", "b:65536"]}, "'b:65536' is no address"),
        ({"addresses": ["a:1", "b:²"]}, "'b:²' is no address"),
        ({"addresses": _TWO, "process_id": 2}, "must be from 0 to 1"),
        ({"addresses": _TWO, "process_id": -1}, "greater than or equal to 0"),
        ({"addresses": [f"a:{port}" for port in range(1, 66)]}, "at most 64 processes"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object], text: str) -> None:
    """With what is wrong."""
    with pytest.raises(ValidationError) as caught:
        ClusterConfig.model_validate(wrong)
    assert text in str(caught.value)


def test_a_cluster_needs_a_store() -> None:
    """The group would assign the partitions else."""
    with pytest.raises(ValidationError, match=r"needs runtime.recovery; add recovery: \{\}"):
        RuntimeConfig.model_validate({"cluster": {"addresses": _TWO}})
    assert RuntimeConfig.model_validate({"cluster": {"addresses": _TWO}, "recovery": {}}).cluster is not None
