"""Credit: the amount that a record hands to its branches and gets back before its offset counts as finished.

Every division is exact. Shares are ints as long as possible. Shares below 1 are `fractions.Fraction`, so a record may
fan out without limit and its credit still adds up.
"""

from __future__ import annotations

from fractions import Fraction

import msgspec

from drakkar_flow.model.record import Credit

__all__ = ["CreditPool", "InvariantError", "split"]


class InvariantError(AssertionError):
    """Raised if credit does not add up: a bug in the library, never a matter of the data."""


def split(credit: Credit, n: int) -> list[Credit]:
    """Divide `credit` into `n` positive shares that add up to it exactly; the first has the remainder.

    >>> split(10, 3)
    [4, 3, 3]
    >>> split(1, 2)
    [Fraction(1, 2), Fraction(1, 2)]

    Raises:
        InvariantError: there is no credit to divide.
        ValueError: `n` is less than 1.
    """
    if n < 1:
        raise ValueError(f"credit must be divided into 1 or more shares, not {n}")
    if credit <= 0:
        raise InvariantError(f"no credit to divide: {credit}")
    if n == 1:
        return [credit]
    if isinstance(credit, int) and credit >= n:
        share, remainder = divmod(credit, n)
        return [share + remainder, *[share] * (n - 1)]
    return [Fraction(credit) / n] * n


class CreditPool(msgspec.Struct, eq=False, gc=False):
    """Credit that is given out in small shares while their number is not known yet.

    Shares given out and credit left add up to the start exactly, at any time.

    >>> credit_pool = CreditPool(3)
    >>> credit_pool.allocate(), credit_pool.allocate(), credit_pool.allocate()
    (1, 1, Fraction(1, 2))
    >>> credit_pool.drain()
    Fraction(1, 2)

    Raises:
        InvariantError: `left` is not positive.
    """

    left: Credit

    def __post_init__(self) -> None:
        if self.left <= 0:
            raise InvariantError(f"no credit to give out: {self.left}")

    def allocate(self) -> Credit:
        """Return a share: 1 while more than 1 is left, then half of the credit left.

        The credit pool never becomes empty by this call.

        Raises:
            InvariantError: after `drain`.
        """
        left = self.left
        if left > 1:
            self.left = left - 1
            return 1
        if not left:
            raise InvariantError("the credit pool is empty: it was drained already")
        self.left = half = Fraction(left) / 2
        return half

    def drain(self) -> Credit:
        """Return all credit left and leave the credit pool empty.

        Raises:
            InvariantError: when called again.
        """
        left = self.left
        if not left:
            raise InvariantError("the credit pool is empty: it was drained already")
        self.left = 0
        return left
