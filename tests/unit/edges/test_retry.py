"""An edge is patient for moments: some tries, some seconds, and then the plain error."""

from __future__ import annotations

import asyncio

import pytest

from gitsyncd.edges.retry import ATTEMPTS, Transient, for_moments
from gitsyncd.model.errors import ClusterUnreachable


class Flaky:
    """Fails with these pauses asked for, then answers."""

    def __init__(self, *pauses: float | None) -> None:
        self.pauses = list(pauses)
        self.tries = 0

    async def __call__(self) -> str:
        self.tries += 1
        if self.pauses:
            raise Transient(ClusterUnreachable(f"try {self.tries}"), after_s=self.pauses.pop(0))
        return "answer"


async def test_an_answer_on_a_later_try_is_the_answer() -> None:
    flaky = Flaky(0.0, 0.0)

    answer = await for_moments(flaky)

    assert answer == "answer"
    assert flaky.tries == 3


async def test_the_last_error_leaves_plain_when_all_tries_fail() -> None:
    flaky = Flaky(*[0.0] * 10)

    with pytest.raises(ClusterUnreachable) as caught:
        await for_moments(flaky)

    assert str(caught.value) == f"try {ATTEMPTS}"
    assert flaky.tries == ATTEMPTS


async def test_a_pause_longer_than_the_budget_is_left_to_the_engine() -> None:
    flaky = Flaky(60.0)

    with pytest.raises(ClusterUnreachable):
        await asyncio.wait_for(for_moments(flaky, budget_s=5.0), 1.0)

    assert flaky.tries == 1


async def test_a_pause_that_was_asked_for_is_kept() -> None:
    loop = asyncio.get_running_loop()
    flaky = Flaky(0.2)
    begin = loop.time()

    await for_moments(flaky)

    assert loop.time() - begin >= 0.2


async def test_any_other_error_is_not_tried_again() -> None:
    tries = 0

    async def attempt() -> None:
        nonlocal tries
        tries += 1
        raise ClusterUnreachable("for good")

    with pytest.raises(ClusterUnreachable):
        await for_moments(attempt)

    assert tries == 1
