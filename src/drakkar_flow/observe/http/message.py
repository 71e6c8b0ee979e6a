"""HTTP/1.x messages of the metrics server: parsing of request heads, encoding of responses. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

__all__ = [
    "MAX_HEAD_BYTES",
    "HttpResponse",
    "Request",
    "bad_request",
    "json_response",
    "not_allowed",
    "not_found",
    "parse",
]

MAX_HEAD_BYTES = 8192
"""Maximum size of the request line with headers."""
_END = b"\r\n\r\n"
_ALLOWED = ("GET", "HEAD")


class Request(NamedTuple):
    """Head of a request; the names in `headers` are in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]


class HttpResponse(NamedTuple):
    """Status, headers and body of a response."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes

    def encode(self, *, with_body: bool = True) -> bytes:
        """Return the bytes of the response, after which the connection is closed; HEAD gets only the headers.

        >>> HttpResponse(200, [("A", "b")], b"x").encode(with_body=False)
        b'HTTP/1.1 200 OK\\r\\nA: b\\r\\nContent-Length: 1\\r\\nConnection: close\\r\\n\\r\\n'
        """
        own = [("Content-Length", str(len(self.body))), ("Connection", "close")]
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in (*self.headers, *own)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + (self.body if with_body else b"")


def parse(received: bytes) -> Request | HttpResponse | None:
    """Return the request, the response to an invalid one, or None while the head is incomplete.

    >>> parse(b"GET /metrics?a=b HTTP/1.1\\r\\nAccept: */*\\r\\n\\r\\n")
    Request(method='GET', path='/metrics', query='a=b', headers={'accept': '*/*'})
    >>> parse(b"GET /met")
    >>> parse(b"hello\\r\\n\\r\\n").status
    400
    """
    head, end, _ = received.partition(_END)
    if not end:
        return _text(431, f"the request head exceeds {MAX_HEAD_BYTES} bytes") if len(head) > MAX_HEAD_BYTES else None
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return bad_request("the request line is not METHOD PATH HTTP/1.1")
    try:
        target = urlsplit(words[1])
    except ValueError:
        return bad_request("the path is not valid")
    fields = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, colon, value in fields if colon}
    return Request(words[0], target.path.rstrip("/") or "/", target.query, headers)


def not_allowed(request: Request) -> HttpResponse | None:
    """Return the response to a method other than GET and HEAD, else None."""
    if request.method in _ALLOWED:
        return None
    answer = _text(405, f"the method is {request.method[:20]!r}, use {' or '.join(_ALLOWED)}")
    return answer._replace(headers=[*answer.headers, ("Allow", ", ".join(_ALLOWED))])


def not_found(request: Request, paths: Sequence[str]) -> HttpResponse:
    """Return the response to an unknown path, a list of the known ones; `/` gets the list with status 200."""
    listed = "".join(f"{path}\n" for path in paths).encode()
    return HttpResponse(200 if request.path == "/" else 404, [("Content-Type", "text/plain; charset=utf-8")], listed)


def bad_request(reason: str) -> HttpResponse:
    """Return the response to an invalid request."""
    return _text(400, reason)


def json_response(status: int, content: Mapping[str, object]) -> HttpResponse:
    """Return a response with `content` as JSON."""
    return HttpResponse(status, [("Content-Type", "application/json")], json.dumps(content).encode())


def _text(status: int, text: str) -> HttpResponse:
    return HttpResponse(status, [("Content-Type", "text/plain; charset=utf-8")], f"{text}\n".encode())
