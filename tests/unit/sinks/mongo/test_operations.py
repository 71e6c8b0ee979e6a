"""MongoDB operations of payloads, without a server."""

from __future__ import annotations

from drakkar_flow import MongoPayload
from drakkar_flow.sinks.mongo.operations import operation_of
from drakkar_flow.sinks.mongo.settings import MongoStatement


def test_g7_params_are_literal_in_an_aggregation_pipeline() -> None:
    """There text that begins with `$` would be the name of a field."""
    copy = MongoStatement(
        collection="items", op="update_many", filter={"n": ":n"}, update=[{"$set": {"text": ":t", "at": "$now"}}]
    )
    payload = MongoPayload(op="statement", statement="copy", params={"n": "$secret", "t": "$secret"})
    operation = operation_of(payload, {"copy": copy})
    assert operation.filter == {"n": "$secret"}
    assert operation.change == [{"$set": {"text": {"$literal": "$secret"}, "at": "$now"}}]


def test_g7_params_are_literal_below_expr_only() -> None:
    """Beside it they are values."""
    both = MongoStatement(
        collection="items", op="delete_many", filter={"n": ":n", "$expr": {"$eq": ["$text", {"$concat": [":n", "x"]}]}}
    )
    payload = MongoPayload(op="statement", statement="both", params={"n": "$secret"})
    operation = operation_of(payload, {"both": both})
    assert operation.filter == {
        "n": "$secret",
        "$expr": {"$eq": ["$text", {"$concat": [{"$literal": "$secret"}, "x"]}]},
    }
