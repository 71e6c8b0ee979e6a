"""Credit divides exactly, whatever is done to it."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.model.record import FULL_CREDIT, Credit
from drakkar_flow.runtime.acknowledgement.credit import CreditPool, InvariantError, split

wholes = st.integers(min_value=1, max_value=FULL_CREDIT)
amounts = wholes | st.fractions(min_value=Fraction(1, 10**6), max_value=FULL_CREDIT)


@given(credit=amounts, n=st.integers(min_value=1, max_value=200))
def test_shares_are_positive_and_add_up(credit: Credit, n: int) -> None:
    """A divided credit has n positive shares that add up to it exactly."""
    shares = split(credit, n)

    assert len(shares) == n
    assert all(share > 0 for share in shares)
    assert sum(shares) == credit


@given(n=st.integers(min_value=1, max_value=200), extra=st.integers(min_value=0, max_value=FULL_CREDIT))
def test_whole_credit_stays_whole_while_it_lasts(n: int, extra: int) -> None:
    """Shares are ints, the first with the remainder, as long as each can be 1 or more."""
    first, *others = split(n + extra, n)

    assert type(first) is int
    assert all(type(share) is int for share in others)
    assert len(set(others)) <= 1
    assert all(0 <= first - share < n for share in others)


@given(widths=st.lists(st.integers(min_value=1, max_value=1000), max_size=30))
def test_nested_divisions_add_up(widths: list[int]) -> None:
    """A record that fans out again and again gets back exactly what it gave."""
    returned: Credit = 0
    credit: Credit = FULL_CREDIT
    for n in widths:
        credit, *others = reversed(split(credit, n))
        returned += sum(others)

    assert returned + credit == FULL_CREDIT


@pytest.mark.parametrize("n", [0, -1])
def test_there_is_no_division_into_nothing(n: int) -> None:
    """Fewer than one share is refused."""
    with pytest.raises(ValueError, match="1 or more shares"):
        split(FULL_CREDIT, n)


@pytest.mark.parametrize("credit", [0, -1, Fraction(-1, 2)])
def test_no_credit_can_not_be_divided_or_given_out(credit: Credit) -> None:
    """Credit that is not positive is a bug, for a division and for a credit pool."""
    with pytest.raises(InvariantError, match="no credit"):
        split(credit, 1)
    with pytest.raises(InvariantError, match="no credit"):
        CreditPool(credit)


@given(credit=st.integers(min_value=1, max_value=40) | amounts, takes=st.integers(min_value=0, max_value=60))
def test_purse_loses_nothing(credit: Credit, takes: int) -> None:
    """Shares of a credit pool are positive, at most 1, and add up with its rest to the start."""
    credit_pool = CreditPool(credit)
    shares = [credit_pool.allocate() for _ in range(takes)]
    rest = credit_pool.drain()

    assert all(0 < share <= 1 for share in shares)
    assert rest > 0
    assert sum(shares) + rest == credit


@given(credit=st.integers(min_value=2, max_value=40))
def test_purse_gives_whole_shares_while_more_than_one_is_left(credit: int) -> None:
    """A whole credit pool gives the int 1 until 1 is left, then halves."""
    credit_pool = CreditPool(credit)

    assert [type(credit_pool.allocate()) for _ in range(credit - 1)] == [int] * (credit - 1)
    assert [credit_pool.allocate(), credit_pool.allocate()] == [Fraction(1, 2), Fraction(1, 4)]


def test_rest_is_given_once() -> None:
    """After its rest was given a credit pool has nothing to give."""
    credit_pool = CreditPool(FULL_CREDIT)

    assert credit_pool.drain() == FULL_CREDIT
    with pytest.raises(InvariantError, match="empty"):
        credit_pool.allocate()
    with pytest.raises(InvariantError, match="empty"):
        credit_pool.drain()
