"""Asking the remote when there is nothing new: a warm poll in a running process, against `git ls-remote`."""

from __future__ import annotations

import asyncio
import subprocess
import time
from datetime import timedelta

from gitsyncd.edges.git.mirror import GitMirror
from gitsyncd.model.source import Repository
from tests.bench.stage import Stage, say
from tests.bench.table import Row, median
from tests.gitserver.repository import BARE_ENVIRONMENT

POLLS = 20
"""Of each kind, in turn, per round."""


def measure(stage: Stage) -> list[Row]:
    ours, floor = asyncio.run(_measure(stage))
    say(f"poll: {median(ours):.1f} ms, git ls-remote {median(floor):.1f} ms")
    return [
        Row(
            name="poll",
            what="one poll of one branch, nothing new, HTTPS",
            unit="ms",
            ours=median(ours),
            floor=median(floor),
            floor_is="git ls-remote",
            at_most=0.3,
            samples={"ours": ours, "floor": floor},
        )
    ]


async def _measure(stage: Stage) -> tuple[list[float], list[float]]:
    repository = Repository(url=stage.url, ca_file=stage.ca_file)
    mirror = GitMirror(stage.folder / "mirror", repository, timedelta(seconds=60), agent="gitsyncd/bench")
    ours, floor = [], []
    try:
        await mirror.update(["main"])
        for _ in range(POLLS * stage.rounds):
            begun = time.perf_counter()
            await mirror.update(["main"])
            ours.append((time.perf_counter() - begun) * 1000)
            floor.append(await asyncio.to_thread(_ls_remote, stage))
    finally:
        await mirror.close()
    return ours, floor


def _ls_remote(stage: Stage) -> float:
    environment = {**BARE_ENVIRONMENT, "GIT_SSL_CAINFO": str(stage.ca_file)}
    begun = time.perf_counter()
    command = ["git", "ls-remote", stage.url, "refs/heads/main"]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return (time.perf_counter() - begun) * 1000
