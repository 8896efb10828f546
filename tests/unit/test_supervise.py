"""Ending one loop alone, also one that has lost the news of its end."""

import asyncio

import pytest

from gitsyncd.engine import supervise
from gitsyncd.engine.supervise import Tasks
from tests.engine.virtualtime import VirtualClock
from tests.engine.world import Diary


async def test_a_loop_that_loses_its_cancellation_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = 0

    async def loses_it_once() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if lost:
                    raise
                lost += 1

    monkeypatch.setattr(supervise, "_SWALLOWED_S", 0.05)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        tasks = Tasks(group, clock=VirtualClock(), log=Diary())
        tasks.start("one", loses_it_once)
        await asyncio.sleep(0.01)
        await tasks.end("one")

    assert lost == 1
