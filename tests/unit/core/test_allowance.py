"""How often somebody may ask."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitsyncd.core.allowance import Allowance, Rate, peer, spend

RATE = Rate(at_once=3, per_second=0.5)


def test_so_many_at_once_and_then_so_many_per_second() -> None:
    allowance, answers = None, []
    for now in [0.0, 0.0, 0.0, 0.0, 1.9, 2.0, 2.0, 100.0, 100.0, 100.0, 100.0]:
        allowance, within = spend(allowance, now, RATE)
        answers.append(within)

    assert answers == [True, True, True, False, False, True, False, True, True, True, False]


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=50))
def test_never_more_than_the_rate_over_any_time(moments: list[float]) -> None:
    allowance: Allowance | None = None
    granted: list[float] = []
    for now in sorted(moments):
        allowance, within = spend(allowance, now, RATE)
        granted += [now] if within else []

    for first in range(len(granted)):
        for last in range(first, len(granted)):
            assert last - first + 1 <= RATE.at_once + (granted[last] - granted[first]) * RATE.per_second + 1e-6


def test_a_clock_that_goes_back_gives_nothing_back() -> None:
    allowance, _ = spend(Allowance(0.0, 100.0), 50.0, RATE)

    assert allowance == Allowance(0.0, 50.0)


@pytest.mark.parametrize(
    ("address", "who"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_who_counts_as_one(address: str, who: str) -> None:
    assert peer(address) == who
