"""Standard streams that were closed: their descriptors must not become those of a socket or a file."""

from __future__ import annotations

import os

__all__ = ["occupy_standard_descriptors"]


def occupy_standard_descriptors() -> None:
    """Open /dev/null for each of the descriptors 0 to 2 that is closed.

    What C libraries write to standard error would get into whatever is opened next.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # it stays open
    os.close(descriptor)
