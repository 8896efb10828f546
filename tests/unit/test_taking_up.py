"""A changed agent file is taken up by one loop, and whoever asked for it hears what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gitsyncd.daemon import Daemon
from gitsyncd.edges.web import local
from gitsyncd.model.errors import ConfigError, LocalError
from gitsyncd.model.target import Configuration
from gitsyncd.wiring import Fleet
from tests.engine.world import World, target


class Desk:
    """One daemon over memory with a real socket, and the agent file that it would read next."""

    def __init__(self, folder: Path) -> None:
        world = World(["web"])
        world.repo.commit({"web": [], "db": []})
        agent = replace(world.daemon._configuration.agent, socket=folder / "s")
        self.configuration = replace(world.daemon._configuration, agent=agent)
        self.next: Configuration | Exception = self.configuration
        self.reads = 0
        self.socket = folder / "s"
        self.log = world.log
        self.daemon = Daemon(self.configuration, log=world.log, edges=world._edges, store=world.store, load=self._load)

    async def _load(self) -> Configuration:
        self.reads += 1
        await asyncio.sleep(0.05)
        if isinstance(self.next, Exception):
            raise self.next
        return self.next

    def with_target(self, name: str) -> Configuration:
        return replace(self.configuration, targets=(*self.configuration.targets, target(name)))

    async def ask(self, call: str = "reload") -> Any:
        return await asyncio.to_thread(local.ask, self.socket, call, within_s=20)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[int]]:
        run = asyncio.create_task(self.daemon.run())
        try:
            for _ in range(2_000):
                if self.socket.exists():
                    break
                await asyncio.sleep(0.01)
            yield run
        finally:
            run.cancel()
            await asyncio.wait({run})


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def test_all_who_ask_at_once_hear_of_one_reading(desk: Desk) -> None:
    async with desk.running():
        desk.next = desk.with_target("db")

        first, second = await asyncio.gather(desk.ask(), desk.ask())
        third = await desk.ask()

    changed = ["target db@c1 added"]
    assert changed in (first["changed"], second["changed"])
    assert third == {"file": str(desk.configuration.file), "changed": []}
    assert desk.reads in {2, 3}


@pytest.mark.parametrize(
    "error", [ConfigError("targets: are missing"), LocalError("no child process can be started", hint="Check limits.")]
)
async def test_a_file_that_cannot_be_used_is_told_and_the_daemon_goes_on(desk: Desk, error: Exception) -> None:
    async with desk.running() as run:
        desk.next = error

        with pytest.raises(local.NotDone, match=str(error)):
            await desk.ask()

        assert not run.done()
        assert desk.log.events("configuration refused")
        assert [each["target"] for each in (await desk.ask("status"))["targets"]] == ["web@c1"]


async def test_a_bug_in_taking_it_up_is_told_and_ends_the_daemon_instead_of_leaving_it_half(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk.running() as run:
        desk.next = desk.with_target("db")

        def bug(_self: Fleet, _target: object) -> None:
            raise RuntimeError("half way")

        monkeypatch.setattr(Fleet, "_add_target", bug)

        with pytest.raises(local.NotDone, match="internal error"):
            await desk.ask()

        await asyncio.wait({run})
        assert run.exception() is not None
    assert desk.log.events("configuration loaded", changed=["target db@c1 added"]) == []
