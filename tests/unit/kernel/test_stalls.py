"""What counts as stalled."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drakkar_flow.kernel.stalls import StallDetector


def detector(after_s: float = 10.0, max_step_s: float = 5.0) -> StallDetector[str]:
    """A detector of string keys."""
    return StallDetector(after_s, max_step_s)


def test_a_stall_is_told_once_and_its_end_once() -> None:
    """An episode has a beginning and an end, however often one looks."""
    found = detector()
    seen = [found.look({"lane": 1 if now < 30 else 2}, float(now)) for now in range(0, 40, 5)]
    assert [look.begun for look in seen] == [{}, {}, {"lane": 10.0}, {}, {}, {}, {}, {}]
    assert [look.ended for look in seen] == [{}, {}, {}, {}, {}, {}, {"lane": 30.0}, {}]


def test_a_key_with_nothing_to_do_is_not_stalled() -> None:
    """It may come back with the sign it had: its time begins anew."""
    found = detector()
    for now, signs in ((0.0, {"lane": 1}), (5.0, {"lane": 1}), (10.0, {}), (15.0, {"lane": 1}), (20.0, {"lane": 1})):
        assert found.look(signs, now).begun == {}


def test_a_stall_ends_when_there_is_nothing_left_to_do() -> None:
    """A partition that was taken away does not stay stalled."""
    found = detector(after_s=5.0)
    found.look({"lane": 1}, 0.0)
    assert found.look({"lane": 1}, 5.0).begun == {"lane": 5.0}
    assert found.stalled == {"lane"}
    assert found.look({}, 8.0).ended == {"lane": 8.0}
    assert found.stalled == frozenset()


def test_a_process_that_was_suspended_finds_nothing_stalled() -> None:
    """A gap between two looks counts as one step at most."""
    found = detector(after_s=10.0, max_step_s=1.0)
    found.look({"lane": 1}, 0.0)
    assert found.look({"lane": 1}, 3600.0).begun == {}
    assert found.age_s("lane") == 1.0


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)), max_size=60))
def test_episodes_alternate_and_cover_every_standstill(looks: list[dict[str, int]]) -> None:
    """By key: begun, ended, begun, ...; and it is stalled exactly while its sign has stood for 3 looks."""
    found = detector(after_s=3.0, max_step_s=1.0)
    since: dict[str, tuple[int, int]] = {}
    inside: set[str] = set()
    for now, signs in enumerate(looks):
        look = found.look(signs, float(now))
        assert look.begun.keys().isdisjoint(inside)
        assert look.ended.keys() <= inside
        inside = (inside - look.ended.keys()) | look.begun.keys()
        since = {
            key: since[key] if key in since and since[key][0] == sign else (sign, now) for key, sign in signs.items()
        }
        assert inside == {key for key, (_, began) in since.items() if now - began >= 3} == found.stalled
