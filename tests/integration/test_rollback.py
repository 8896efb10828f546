"""Going back in a real repository: its history, its quarantine file and its branch, with a cluster of memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gitsyncd.edges.render.plain import PlainRenderer
from gitsyncd.model.errors import UsageError
from gitsyncd.model.source import Repository
from gitsyncd.model.target import Agent
from gitsyncd.wiring import _git_mirror, _git_writer
from tests.engine.world import World, config_map, source, target
from tests.gitserver.repository import Repo

pytestmark = pytest.mark.real


class Rig:
    """A target that follows one folder of a repository, or (empty) all of it."""

    def __init__(self, folder: Path, path: str) -> None:
        self.repo, self.path = Repo(folder / "fleet.git"), path
        agent = Agent(name="edge", state_dir=folder / "state", cluster_namespace="gitsyncd", socket=folder / "socket")
        followed = replace(source(), repository=Repository(url=self.repo.url), interval=timedelta(hours=1))
        self.world = World([replace(target("web", source=followed), path=path)])
        self.world._edges = replace(
            self.world._edges, mirror=lambda _agent, each: _git_mirror(agent, each), renderer=PlainRenderer
        )
        self.write = lambda update: _git_writer(agent, update)

    def push(self, number: int, **others: str) -> str:
        content = json.dumps(config_map("a", v=str(number)))
        return self.repo.commit({f"{self.path or 'app'}/a.yaml": content, **others})

    async def until(self, is_so: Callable[[], Any]) -> None:
        async with asyncio.timeout(60):
            while not is_so():
                self.world.parts.sources[0].bell.ring()
                await asyncio.sleep(0.1)

    async def good(self, commit: str) -> None:
        """Until it is the newest of the history, and healthy."""
        chronicle = self.world.parts.chronicles["web@c1"]
        await self.until(
            lambda: (
                chronicle._history
                and (latest := chronicle._history.passages[:1])
                and latest[0].commit == commit
                and latest[0].is_good
            )
        )

    async def back(self, to: str = "", *, confirmed: bool = True) -> dict[str, Any]:
        return await self.world.control.rollback("web", to, confirmed=confirmed, reason="it crashes")

    @property
    def number(self) -> str:
        content: dict[str, Any] = json.loads(self.repo.git("cat-file", "blob", f"main:{self.path or 'app'}/a.yaml"))
        return str(content["data"]["v"])


@pytest.mark.parametrize("path", ["web", ""])
async def test_each_time_one_further_back_and_never_over_what_others_pushed(tmp_path: Path, path: str) -> None:
    rig = Rig(tmp_path, path)
    first = rig.push(1, **{"README.md": "of people\n"})
    async with rig.world:
        rig.world.parts.rollbacks._writer = rig.write
        await rig.good(first)
        second = rig.push(2)
        await rig.good(second)
        third = rig.push(3)
        await rig.good(third)

        once = await rig.back()
        assert ((once["from"], once["to"]), rig.number) == ((third, second), "2")
        await rig.good(once["commit"])

        twice = await rig.back()
        assert ((twice["from"], twice["to"]), rig.number) == ((once["commit"], first), "1")
        assert twice["passed_over"] == [third]
        await rig.good(twice["commit"])

        with pytest.raises(UsageError, match="and is not quarantined"):
            await rig.back()
        for barred in (second, third, once["commit"]):
            with pytest.raises(UsageError, match="quarantined"):
                await rig.back(barred)
        with pytest.raises(UsageError, match="nothing to go back from"):
            await rig.back(first)

        cure = rig.push(4)
        with pytest.raises(UsageError, match=f"newer commits below {path or '/'} than .*: {cure[:12]}"):
            await rig.back()
        await rig.good(cure)
        thrice = await rig.back(confirmed=False)

    assert (thrice["from"], thrice["to"]) == (cure, twice["commit"])
    assert rig.repo.git("show", "main:README.md") == "of people"
    assert rig.repo.git("fsck", "--strict", "--no-dangling") == ""
