"""What the manager of a service hears from a real daemon, from its start to its end."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.daemon import Agent, until
from tests.e2e.hands import config_map, files
from tests.gitserver.repository import Repo
from tests.sandbox import Cluster
from tests.service.manager import Manager

pytestmark = [pytest.mark.real, pytest.mark.slow]


class Heard:
    """Keeps what the manager hears, and the last status: how many there are depends on the moment."""

    def __init__(self, manager: Manager) -> None:
        self.address = manager.address
        self.messages: list[str] = []
        self.status = ""
        self._manager = manager

    def hear(self) -> list[str]:
        for message in self._manager.heard():
            first, *_ = lines = message.splitlines()
            if not first.startswith("STATUS="):
                self.messages.append(re.sub(r"\d{6,}", "N", first))
            self.status = next((line for line in lines if line.startswith("STATUS=")), self.status)
        return self.messages


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Heard]:
    manager = Manager(str(tmp_path / "notify"))
    yield Heard(manager)
    manager.close()


@pytest.fixture
def service(agent: Agent, repo: Repo, bare_cluster: Cluster, namespace: str, manager: Heard) -> Agent:
    """One target on the shared cluster, and a manager that listens."""
    bare_cluster.create_namespace(namespace)
    repo.commit(files([config_map("settings", namespace)]))
    agent.cluster("here", bare_cluster.kubeconfig)
    agent.source("fleet", repo.url)
    agent.target("web", path=".")
    agent.document["agent"] |= {"name": namespace, "cluster_namespace": f"gitsyncd-{namespace}"}
    agent.environment["NOTIFY_SOCKET"] = manager.address
    return agent


def test_start_reload_and_stop_are_told_in_order(service: Agent, manager: Heard) -> None:
    with service.start() as daemon:
        daemon.wait_for("target in sync")
        until(lambda: len(manager.hear()) == 2, "the start to be over")
        until(lambda: manager.hear() and manager.status == "STATUS=1 of 1 targets in sync", "the status")
        os.kill(daemon.pid, signal.SIGHUP)
        until(lambda: len(manager.hear()) == 4, "the reload to be over")
        service.file.write_text("version: 2\n")
        until(lambda: len(manager.hear()) == 6, "the refused reload to be over")
        assert manager.status == "STATUS=1 of 1 targets in sync, the changed agent file is refused"

        assert daemon.stop() == 0

    assert manager.hear() == [
        "EXTEND_TIMEOUT_USEC=N",
        "READY=1",
        "RELOADING=1",
        "READY=1",
        "RELOADING=1",
        "READY=1",
        "STOPPING=1",
    ]
    assert manager.status == "STATUS=stopping"


def test_the_watchdog_is_fed_and_stops_being_fed_with_the_process(service: Agent, manager: Heard) -> None:
    service.environment["WATCHDOG_USEC"] = "200000"
    with service.start() as daemon:
        daemon.wait_for("daemon ready")

        until(lambda: manager.hear().count("WATCHDOG=1") >= 5, "signs of life")
        daemon.kill()

    heard = manager.hear()
    assert "WATCHDOG=1" not in heard[: heard.index("READY=1")]
