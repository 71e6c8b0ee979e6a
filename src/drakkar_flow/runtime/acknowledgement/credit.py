"""Credit: what a record hands to its branches and wants back before its offset counts as finished.

Every division is exact. Shares are ints as long as they can be; where less than 1 would have to be
given they become `fractions.Fraction`, so that a record may fan out without limit and still add up.
"""

from __future__ import annotations

from fractions import Fraction

import msgspec

from drakkar_flow.model.record import Credit

__all__ = ["CreditPool", "InvariantError", "split"]


class InvariantError(AssertionError):
    """Raised when credit does not add up: a bug in the library, never a matter of the data."""


def split(credit: Credit, n: int) -> list[Credit]:
    """Divide `credit` into `n` positive shares that add up to it exactly; the first has the remainder.

    >>> split(10, 3)
    [4, 3, 3]
    >>> split(1, 2)
    [Fraction(1, 2), Fraction(1, 2)]

    Raises:
        InvariantError: when there is no credit to divide.
        ValueError: when `n` is less than 1.
    """
    if n < 1:
        raise ValueError(f"credit is divided into 1 or more shares, not {n}")
    if credit <= 0:
        raise InvariantError(f"no credit to divide: {credit}")
    if n == 1:
        return [credit]
    if isinstance(credit, int) and credit >= n:
        share, remainder = divmod(credit, n)
        return [share + remainder, *[share] * (n - 1)]
    return [Fraction(credit) / n] * n


class CreditPool(msgspec.Struct, eq=False, gc=False):
    """A credit that is given out in small shares, when nobody knows yet how many there will be.

    What was given out and what is left add up to the start, exactly, at any time.

    >>> credit_pool = CreditPool(3)
    >>> credit_pool.allocate(), credit_pool.allocate(), credit_pool.allocate()
    (1, 1, Fraction(1, 2))
    >>> credit_pool.drain()
    Fraction(1, 2)

    Raises:
        InvariantError: when `left` is not positive.
    """

    left: Credit

    def __post_init__(self) -> None:
        if self.left <= 0:
            raise InvariantError(f"no credit to give out: {self.left}")

    def allocate(self) -> Credit:
        """Give a share: 1 while more than 1 is left, half of what is left from then on.

        The credit pool never becomes empty by it.

        Raises:
            InvariantError: after `rest`.
        """
        left = self.left
        if left > 1:
            self.left = left - 1
            return 1
        if not left:
            raise InvariantError("the purse is empty: its rest was given away")
        self.left = half = Fraction(left) / 2
        return half

    def drain(self) -> Credit:
        """Give all that is left and leave the credit pool empty.

        Raises:
            InvariantError: when called again.
        """
        left = self.left
        if not left:
            raise InvariantError("the purse is empty: its rest was given away")
        self.left = 0
        return left
