"""How long to wait."""

from datetime import timedelta

import pytest

from gitsyncd.core.backoff import Fight, is_forgotten, is_over, next_delay, next_look, reverted

SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("failures", "expected"),
    [(0, 30), (1, 30), (2, 60), (3, 120), (4, 240), (5, 300), (6, 300), (1000, 300)],
)
def test_the_delay_doubles_up_to_its_cap(failures: int, expected: int) -> None:
    assert next_delay(failures, base=30 * SECOND, cap=5 * MINUTE) == expected * SECOND


def test_jitter_adds_up_to_a_tenth() -> None:
    assert next_delay(1, base=100 * SECOND, cap=200 * SECOND, jitter=0.5) == 105 * SECOND


def test_a_cap_below_the_base_does_not_shorten_the_first_wait() -> None:
    assert next_delay(3, base=MINUTE, cap=SECOND) == MINUTE


def test_no_base_is_no_wait() -> None:
    assert next_delay(9, base=timedelta(), cap=timedelta()) == timedelta()


@pytest.mark.parametrize("failures", [31, 40, 10**9])
def test_long_waits_that_fail_often_stay_at_their_cap(failures: int) -> None:
    assert next_delay(failures, base=DAY, cap=7 * DAY) == 7 * DAY


# --- fights ------------------------------------------------------------------------------------------------------------


def after(times: list[float], manager: str | None = "argocd") -> Fight:
    fight = Fight()
    for at in times:
        fight = reverted(fight, at, manager)
    return fight


def test_five_reverts_in_a_minute_are_no_fight() -> None:
    fight = after([0, 10, 20, 30, 40])

    assert (fight.fighting, fight.until, fight.total) == (False, 0.0, 5)


def test_the_sixth_revert_in_a_minute_is_a_fight() -> None:
    fight = after([0, 10, 20, 30, 40, 50])

    assert (fight.fighting, fight.until, fight.manager, fight.total) == (True, 52.0, "argocd", 6)


def test_reverts_that_are_spread_out_are_no_fight() -> None:
    assert not after([0, 15, 30, 45, 60, 75, 90, 105, 120]).fighting


def test_each_wait_is_three_times_the_last_up_to_five_minutes() -> None:
    fight, waits = after([0, 1, 2, 3, 4]), []
    for _ in range(8):
        now = fight.until + 10
        fight = reverted(fight, now, "argocd")
        waits.append(fight.until - now)

    assert waits == [2, 6, 18, 54, 162, 300, 300, 300]


def test_a_fight_of_weeks_does_not_overflow() -> None:
    fight = after([float(number * 301) for number in range(10)])
    assert not fight.fighting
    fight = after([0, 1, 2, 3, 4, 5])

    for _ in range(2000):
        fight = reverted(fight, fight.until, "argocd")

    assert fight.total == 2006


def test_a_revert_whose_writer_is_unknown_keeps_the_last_known_name() -> None:
    fight = reverted(after([0, 1, 2, 3, 4, 5]), 10, None)

    assert fight.manager == "argocd"


@pytest.mark.parametrize(("seconds_after_the_wait", "over"), [(-1, False), (60, False), (61, True)])
def test_a_fight_is_over_after_a_quiet_minute(seconds_after_the_wait: float, over: bool) -> None:
    fight = after([0, 1, 2, 3, 4, 5])

    assert is_over(fight, fight.until + seconds_after_the_wait) is over


def test_an_object_in_a_fight_is_looked_at_when_its_wait_ends_and_when_the_fight_can_be_over() -> None:
    fight = after([0, 1, 2, 3, 4, 5])

    assert next_look(fight, fight.until - 1) == fight.until
    assert is_over(fight, next_look(fight, fight.until))


def test_where_there_is_no_fight_none_is_over() -> None:
    assert not is_over(after([0, 1]), 1000)


def test_reverts_without_a_fight_are_forgotten_after_a_minute() -> None:
    assert [is_forgotten(after([0, 10]), now) for now in (11, 69.9, 70)] == [False, False, True]
    assert is_forgotten(Fight(), 0)


def test_a_fight_is_never_forgotten_before_it_is_over() -> None:
    assert not is_forgotten(after([0, 1, 2, 3, 4, 5]), 1_000_000)
