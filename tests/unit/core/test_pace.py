"""How many requests at once."""

import pytest

from gitsyncd.core.pace import CAP, CUT_FORGOTTEN_S, Pace, answered, initial, refused, seen


def after(pace: Pace, *, took: float, least: float, answers: int = 1, now: float = 1000.0) -> Pace:
    for _ in range(answers):
        pace = answered(pace, share=least / took, now=now)
    return pace


@pytest.mark.parametrize(("cap", "expected"), [(32, 8), (8, 8), (3, 3), (1, 1), (1000, 8)])
def test_it_begins_with_eight_unless_fewer_are_allowed(cap: int, expected: int) -> None:
    assert initial(cap).width == expected


def test_while_nothing_queues_it_widens_by_a_quarter_in_a_round_trip() -> None:
    assert after(initial(CAP), took=0.05, least=0.05, answers=8).limit == 10.0


@pytest.mark.parametrize("cap", [1, 12, 32])
def test_it_never_exceeds_the_cap(cap: int) -> None:
    assert after(initial(cap), took=0.05, least=0.05, answers=1000).limit == cap


@pytest.mark.parametrize(
    ("limit", "took", "direction"),
    [
        (32, 0.060, 0),  # 50 ms on the way: 5 of 32 queue
        (31, 0.060, +1),
        (24, 0.024, -1),  # 3 ms on the way: 21 of 24 queue
        (14, 0.014, +1),  # 11 of 14
        (15, 0.015, 0),  # 12.2 of 15
    ],
)
def test_the_queue_is_kept_at_a_dozen_or_so(limit: int, took: float, direction: int) -> None:
    least = 0.050 if took == 0.060 else 0.003
    pace = Pace(cap=32, limit=float(limit), share=least / took)

    change = after(pace, took=took, least=least).limit - limit

    assert (change > 0) - (change < 0) == direction


def test_slow_answers_alone_never_take_it_below_the_queue_that_is_wanted() -> None:
    pace = after(Pace(cap=32, limit=32.0), took=10.0, least=0.001, answers=10_000)

    assert 12 <= pace.width <= 16


def test_one_slow_answer_among_quick_ones_narrows_nothing() -> None:
    pace = Pace(cap=32, limit=32.0)

    assert after(pace, took=2.0, least=0.05).limit == 32.0


def test_a_refusal_halves_it() -> None:
    assert refused(Pace(cap=32, limit=32.0), sent_at=10.0, now=10.1).limit == 16.0


def test_refusals_of_requests_that_were_on_their_way_already_halve_it_only_once() -> None:
    pace = Pace(cap=32, limit=32.0)

    for _ in range(10):
        pace = refused(pace, sent_at=10.0, now=10.1)

    assert pace.limit == 16.0
    assert refused(pace, sent_at=10.2, now=10.3).limit == 8.0


def test_one_request_at_least_may_always_go() -> None:
    pace = initial(CAP)

    for at in range(100):
        pace = refused(pace, sent_at=float(at), now=at + 0.1)

    assert pace.width == 1


def test_what_was_cut_grows_back_by_one_a_second() -> None:
    pace = refused(Pace(cap=32, limit=32.0), sent_at=999.0, now=1000.0)

    for tenth in range(1, 101):
        pace = after(pace, took=0.05, least=0.05, now=1000.0 + tenth / 10)

    assert 25 <= pace.width <= 26


def test_a_cut_is_forgotten_after_a_minute() -> None:
    cut = refused(Pace(cap=32, limit=32.0), sent_at=999.0, now=1000.0)

    assert after(cut, took=0.05, least=0.05, answers=4, now=1000.0 + CUT_FORGOTTEN_S).limit == 17.0


def test_the_least_time_is_the_least_that_was_seen() -> None:
    least = None
    for took in (0.5, 0.2, 0.3):
        least = seen(least, took, now=0.0)

    assert least is not None
    assert least.value == 0.2


def test_a_path_that_became_longer_is_believed_after_two_periods() -> None:
    least = seen(None, 0.003, now=0.0)

    values = []
    for at in (29.0, 31.0, 62.0):
        least = seen(least, 0.1, now=at)
        values.append(least.value)

    assert values == [0.003, 0.003, 0.1]
