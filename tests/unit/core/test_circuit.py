"""When a server that does not answer is left alone, and when it is asked again."""

import pytest

from gitsyncd.core.circuit import CLOSED, Circuit, Failure, failed, probe_failed

REFUSED, SILENT, HICCUP = Failure.UNCONNECTED, Failure.UNANSWERED, Failure.HICCUP


def after(*failures: tuple[float, Failure]) -> Circuit:
    circuit = CLOSED
    for at, failure in failures:
        circuit = failed(circuit, failure, now=at, jitter=0.0)
    return circuit


@pytest.mark.parametrize(
    ("failures", "opens", "probe_after"),
    [
        ([(0, REFUSED), (0, REFUSED)], False, None),
        ([(0, REFUSED), (0, REFUSED), (0, REFUSED)], True, 1.0),
        ([(0, SILENT), (30, SILENT)], False, None),
        ([(0, SILENT), (30, SILENT), (60, SILENT)], True, 0.0),
        ([(0, HICCUP)] * 100, False, None),
        ([(0, HICCUP), (1, HICCUP), (2, HICCUP), (3, HICCUP)], False, None),
        ([(0, HICCUP), (1, HICCUP), (2, HICCUP), (3, HICCUP), (3, HICCUP)], True, 0.0),
        ([(0, HICCUP), (0, HICCUP), (0, REFUSED)], True, 1.0),
    ],
    ids=[
        "two refused",
        "three refused",
        "two silent",
        "three silent",
        "many hiccups at once",
        "four hiccups",
        "five hiccups over three seconds",
        "hiccups and one refused",
    ],
)
def test_failures_in_a_row_open_it(
    failures: list[tuple[float, Failure]], opens: bool, probe_after: float | None
) -> None:
    circuit = after(*failures)

    assert circuit.open is opens
    if opens:
        assert circuit.probe_at - failures[-1][0] == probe_after


def test_requests_that_were_on_their_way_do_not_postpone_the_probe() -> None:
    circuit = after((0, REFUSED), (0, REFUSED), (0, REFUSED))

    assert failed(circuit, REFUSED, now=0.9, jitter=0.0) == circuit


@pytest.mark.parametrize(
    ("failure", "pauses"),
    [(REFUSED, [1, 2, 4, 4, 4]), (SILENT, [1, 2, 4, 4, 4]), (HICCUP, [1, 2, 4, 8, 16, 30, 30])],
)
def test_the_pause_between_probes_doubles_up_to_that_of_the_failure(failure: Failure, pauses: list[float]) -> None:
    circuit, found = after((0, REFUSED), (0, REFUSED), (0, REFUSED)), []

    for _ in pauses:
        circuit = probe_failed(circuit, failure, now=100.0, jitter=0.0)
        found.append(circuit.probe_at - 100.0)

    assert found == pauses


def test_jitter_makes_a_pause_up_to_half_as_long_again() -> None:
    assert probe_failed(CLOSED, REFUSED, now=0.0, jitter=0.5).probe_at == 1.25


@pytest.mark.parametrize(("now", "due"), [(0.9, False), (1.0, True)])
def test_a_probe_is_due_when_its_time_has_come(now: float, due: bool) -> None:
    assert after((0, REFUSED), (0, REFUSED), (0, REFUSED)).due(now) is due


def test_a_closed_circuit_needs_no_probe() -> None:
    assert CLOSED.due(1e9) is False
