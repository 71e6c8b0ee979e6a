"""Routing of keys to Bytewax workers. Pure.

Bytewax sends a key to the worker `SipHash-1-3(key + 0xFF) % workers`, with keys of zero: Rust's default hash of a text.
"""

from __future__ import annotations

from itertools import count

__all__ = ["home_key", "worker_of"]

_MASK = (1 << 64) - 1


def worker_of(key: str, workers: int) -> int:
    """Return the index of the Bytewax worker that gets a key.

    >>> [worker_of(key, 3) for key in "0123"]
    [0, 1, 0, 1]
    """
    return _siphash13(key.encode() + b"\xff") % workers


def home_key(worker: int, workers: int) -> str:
    """Return the first number, as a text, that is routed to a worker.

    >>> home_key(0, 1), home_key(0, 2), home_key(1, 2)
    ('0', '4', '0')

    Raises:
        ValueError: there is no such worker.
    """
    if not 0 <= worker < workers:
        raise ValueError(f"worker {worker} of {workers}: the index must be from 0 to {workers - 1}")
    return next(key for key in map(str, count()) if worker_of(key, workers) == worker)


def _siphash13(data: bytes) -> int:
    state = [0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573]
    padded = data + bytes(7 - len(data) % 8) + bytes([len(data) & 0xFF])
    for start in range(0, len(padded), 8):
        word = int.from_bytes(padded[start : start + 8], "little")
        state[3] ^= word
        _rounds(state, 1)
        state[0] ^= word
    state[2] ^= 0xFF
    _rounds(state, 3)
    return state[0] ^ state[1] ^ state[2] ^ state[3]


def _rounds(state: list[int], times: int) -> None:
    a, b, c, d = state
    for _ in range(times):
        a = (a + b) & _MASK
        b = _rotated(b, 13) ^ a
        a = _rotated(a, 32)
        c = (c + d) & _MASK
        d = _rotated(d, 16) ^ c
        a = (a + d) & _MASK
        d = _rotated(d, 21) ^ a
        c = (c + b) & _MASK
        b = _rotated(b, 17) ^ c
        c = _rotated(c, 32)
    state[:] = a, b, c, d


def _rotated(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & _MASK
