"""`status --watch` and the progress of waiting commands, as a person at a terminal and a program at a pipe have them."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import pytest

from tests.e2e.daemon import COMMAND, ROOT, Agent, until
from tests.e2e.hands import config_map, files
from tests.gitserver.repository import Repo
from tests.sandbox import Cluster

pytestmark = [pytest.mark.real, pytest.mark.slow]

LEFT = "\033[?1049l"


class Terminal:
    """A command on a terminal of its own, and everything that it sent there."""

    def __init__(self, agent: Agent, *arguments: str, streams: Sequence[str] = ("stdout", "stderr")) -> None:
        agent.write()
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, 80))
        out, err = (theirs if name in streams else subprocess.DEVNULL for name in ("stdout", "stderr"))
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=theirs,
            stdout=out,
            stderr=err,
            env={**os.environ, **agent._env(), "TERM": "xterm"},
            cwd=ROOT,
        )
        os.close(theirs)
        self.sent = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def wait_for(self, pattern: str, *, since: int = 0, within_s: float = 30) -> int:
        """Until it was sent; the position after it."""
        deadline = time.monotonic() + within_s
        while not (found := re.compile(pattern).search(self.sent, since)):
            assert self._read(deadline - time.monotonic()), f"{pattern} was not sent:\n{self.sent[since:]}"
        return found.end()

    def end(self, number: int | None = None) -> int:
        """Its exit code, after a signal."""
        if number is not None:
            self._process.send_signal(number)
        while self._read(30):
            pass
        return self._process.wait(30)

    def _read(self, within_s: float) -> bool:
        if not select.select([self._ours], [], [], max(0.0, within_s))[0]:
            return False
        with contextlib.suppress(OSError):  # its end
            part = os.read(self._ours, 1 << 16)
            self.sent += part.decode(errors="replace")
            return bool(part)
        return False


@pytest.fixture
def world(bare_cluster: Cluster, tmp_path: Path, namespace: str) -> tuple[Agent, Repo]:
    agent, repo = Agent(tmp_path / "agent", name=f"watch-{namespace}"), Repo(tmp_path / "fleet.git")
    agent.document["agent"]["cluster_namespace"] = f"gitsyncd-{namespace}"
    agent.cluster("here", bare_cluster.kubeconfig)
    agent.source("fleet", repo.url)
    agent.target("web", path="web", namespace=namespace)
    bare_cluster.create_namespace(namespace)
    repo.commit({f"web/{name}": content for name, content in files([config_map("a")]).items()})
    return agent, repo


def test_watch_outlives_a_restart_of_the_daemon_and_ctrl_c_gives_the_terminal_back(world: tuple[Agent, Repo]) -> None:
    agent, _ = world
    with agent.start() as daemon:
        daemon.wait_for("target in sync")
        with Terminal(agent, "status", "--watch") as terminal:
            there = terminal.wait_for("1 of 1 target in sync")
            daemon.stop()
            gone = terminal.wait_for(r"no daemon answers there[^$]*gitsyncd run", since=there)
            with agent.start() as again:
                again.wait_for("target in sync")
                terminal.wait_for(r"\033\[H[^\n]*\r\n[^\n]*1 of 1 target in sync", since=gone)
                code = terminal.end(signal.SIGINT)

    assert code == 0
    after = terminal.sent.rpartition(LEFT)[2]
    assert "1 of 1 target in sync" in after
    assert terminal.sent.count(LEFT) == 1


def test_a_terminal_is_given_back_when_the_watch_is_terminated(world: tuple[Agent, Repo]) -> None:
    agent, _ = world
    with agent.start() as daemon:
        daemon.wait_for("target in sync")
        with Terminal(agent, "status", "--watch") as terminal:
            terminal.wait_for("1 of 1 target in sync")
            code = terminal.end(signal.SIGTERM)

    assert code == 128 + signal.SIGTERM
    assert LEFT in terminal.sent


@contextlib.contextmanager
def piped(agent: Agent, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    out = agent.folder / "watched"
    with out.open("w") as file:
        process = subprocess.Popen([*COMMAND, *arguments], stdout=file, env={**os.environ, **agent._env()}, cwd=ROOT, text=True)  # fmt: skip
    try:
        yield process, out
    finally:
        process.kill()
        process.wait()


def test_a_program_that_watches_reads_a_line_for_each_change_and_none_for_the_passing_of_time(
    world: tuple[Agent, Repo],
) -> None:
    agent, repo = world
    with agent.start() as daemon:
        daemon.wait_for("target in sync")
        with piped(agent, "status", "--watch", "--output", "json") as (process, out):
            until(lambda: out.read_text().count("\n") == 1, "the first line")
            commit = repo.commit({f"web/{name}": text for name, text in files([config_map("b")]).items()})
            until(lambda: f'"revision":"main@sha1:{commit}"' in out.read_text(), "a line with the new revision")
            daemon.stop()
            until(lambda: out.read_text().endswith("}\n") and '"error":"' in out.read_text(), "a line with the reason")
            process.send_signal(signal.SIGINT)
            code = process.wait(30)

    documents = [json.loads(line) for line in out.read_text().splitlines()]
    assert code == 2, "no daemon answers any more"
    assert [document["targets"][0]["target"] for document in documents[:-1]] == ["web@here"] * (len(documents) - 1)
    assert documents[-1].keys() == {"error", "remedy", "hint"}
    assert documents == [d for n, d in enumerate(documents) if n == 0 or d != documents[n - 1]]


def test_without_a_daemon_watch_ends_at_once_with_2(world: tuple[Agent, Repo]) -> None:
    agent, _ = world

    ran = agent.run("status", "--watch")

    assert ran.code == 2
    assert "gitsyncd run" in ran.complaint[1]


def test_a_pass_shows_its_progress_on_the_terminal_and_not_in_the_log(world: tuple[Agent, Repo]) -> None:
    agent, repo = world
    agent.document["clusters"][0]["limits"] = {"parallel": 1}
    repo.commit({f"web/{n}": text for n, text in files([config_map(f"m{n}") for n in range(300)]).items()})

    with Terminal(agent, "run", "--once", streams=["stderr"]) as terminal:
        terminal.wait_for(r"syncing web@here \[[=> ]+\] \d+/301")
        code = terminal.end()

    assert code == 0
    assert terminal.sent.endswith("\r\033[K")
