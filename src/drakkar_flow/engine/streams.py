"""Standard descriptors: keeps closed ones from being reused for a socket or a file."""

from __future__ import annotations

import os

__all__ = ["occupy_standard_descriptors"]


def occupy_standard_descriptors() -> None:
    """Open /dev/null for each of the descriptors 0 to 2 that is closed.

    Otherwise the next opened file or socket gets the output that C libraries write to standard error.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # the descriptor stays open
    os.close(descriptor)
