"""Several requests at once, of which some fail, while somebody wants all of it to end."""

import asyncio

import pytest

from gitsyncd.edges.kube.client import all_of
from gitsyncd.model.errors import ClusterUnreachable


async def fails(after_s: float) -> None:
    await asyncio.sleep(after_s)
    raise ClusterUnreachable("refused")


async def slow_to_end() -> None:
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.02)


async def test_answers_come_in_the_order_of_the_questions_and_of_none_there_are_none() -> None:
    async def later(after_s: float) -> float:
        await asyncio.sleep(after_s)
        return after_s

    assert await all_of(later(after_s) for after_s in (0.02, 0.0, 0.01)) == [0.02, 0.0, 0.01]
    assert await all_of([]) == []


async def test_the_first_error_is_raised_alone() -> None:
    with pytest.raises(ClusterUnreachable, match="refused"):
        await all_of([fails(0.0), slow_to_end()])


async def test_a_cancellation_that_meets_a_failure_is_not_lost() -> None:
    async def work() -> None:
        with pytest.raises(asyncio.CancelledError):
            await all_of([fails(0.01), slow_to_end()])
        raise asyncio.CancelledError

    task = asyncio.create_task(work())
    await asyncio.sleep(0.02)  # it has failed, and waits for the other to end
    task.cancel()
    await asyncio.wait([task], timeout=5)

    assert task.cancelled()


async def test_a_time_limit_around_it_that_meets_a_failure_is_told_as_such() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.015):
            await all_of([fails(0.01), slow_to_end()])
