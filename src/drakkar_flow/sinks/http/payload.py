"""Payload of the http sink."""

from __future__ import annotations

from typing import Any

from drakkar_flow.model.base import Payload

__all__ = ["HttpPayload"]


class HttpPayload(Payload, kw_only=True, gc=False):
    """One request to an HTTP sink's url; `data` becomes its body.

    `data` is a pydantic model, a msgspec struct, a dataclass or a JSON-able value (sent as JSON), text
    or bytes (sent as they are); with the encodings `form` and `multipart` it has fields, whose
    values are text, bytes or become JSON. `content_type` replaces the header of `sinks.http.<name>.headers`,
    `application/json`, or `application/octet-stream` for bytes.
    """

    data: Any
    content_type: str | None = None
