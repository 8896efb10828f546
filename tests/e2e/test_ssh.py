"""A daemon that follows a repository over SSH: it syncs, it takes a new key without a restart, and it fetches nothing
from a server that has another key than the one that is listed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.daemon import Agent, Daemon
from tests.e2e.fleet import config_map
from tests.gitserver.repository import Repo
from tests.gitserver.ssh import SshGitServer, new_key
from tests.sandbox import Cluster

pytestmark = pytest.mark.real

PASSPHRASE = "c0rrect-horse"


@dataclass(frozen=True, slots=True)
class World:
    """One source over SSH, one target."""

    daemon: Daemon
    agent: Agent
    server: SshGitServer
    repo: Repo
    key: Path
    known_hosts: Path

    def push(self, value: str) -> None:
        self.repo.commit({"a.yaml": config_map("over-ssh", value=value)})


@pytest.fixture
def world(bare_cluster: Cluster, tmp_path: Path) -> Iterator[World]:
    bare_cluster.create_namespace("over-ssh")
    agent = Agent(tmp_path / "agent", name="over-ssh")
    agent.cluster("here", bare_cluster.kubeconfig)
    with SshGitServer(tmp_path / "repos") as server:
        repo = server.create("fleet")
        repo.commit({"a.yaml": config_map("over-ssh")})
        passphrase, known_hosts = tmp_path / "passphrase", tmp_path / "known_hosts"
        passphrase.write_text(PASSPHRASE)
        passphrase.chmod(0o600)
        key = server.client_key(tmp_path / "key", passphrase=PASSPHRASE)
        known_hosts.write_text(server.known_hosts)
        files = {"ssh_key_file": key, "ssh_key_passphrase_file": passphrase, "known_hosts_file": known_hosts}
        auth = {name: str(path) for name, path in files.items()}
        agent.source("fleet", server.url("fleet"), auth=auth)
        agent.target("web", path=".", namespace="over-ssh")
        with agent.start() as daemon:
            yield World(daemon, agent, server, repo, key, known_hosts)


def test_a_daemon_follows_a_repository_over_ssh_through_new_keys_and_past_a_stranger(
    world: World, tmp_path: Path
) -> None:
    daemon, server = world.daemon, world.server
    daemon.wait_for("target in sync", target="web@here")

    # The key is replaced, and the old one is shut out.
    server.authorized.clear()
    server.client_key(tmp_path / "new", passphrase=PASSPHRASE).replace(world.key)
    server.restart()
    mark = daemon.now
    world.push("2")
    daemon.wait_for("object applied", since=mark, object="ConfigMap/over-ssh/over-ssh")

    # Somebody else answers at the address.
    commands, honest = len(server.commands), server.host_key
    server.host_key = new_key()
    server.restart()
    mark = daemon.now
    world.push("3")
    said = daemon.wait_for("source unreachable", since=mark, source="fleet")
    assert "the server's key has changed, or somebody else answers" in said["error"]
    assert said["remedy"] == "fix-config"
    assert str(world.known_hosts) in said["hint"]
    assert len(server.commands) == commands
    status = world.agent.run("status", "--output", "json").json
    assert "the server's key has changed" in json.dumps(status["sources"])

    # It was meant: the file is written anew, and nothing else is done.
    assert server.host_key is not honest
    mark = daemon.now
    world.known_hosts.write_text(server.known_hosts)
    daemon.wait_for("source recovered", since=mark, source="fleet")
    daemon.wait_for("object applied", since=mark, object="ConfigMap/over-ssh/over-ssh")

    assert PASSPHRASE not in json.dumps(daemon.lines) + daemon.stderr
    assert "PRIVATE KEY" not in json.dumps(daemon.lines) + daemon.stderr


def test_a_source_over_ssh_without_known_hosts_is_refused_with_the_line_to_write(agent: Agent, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(new_key().export_private_key())
    key.chmod(0o600)
    agent.source("fleet", "git@git.example.com:fleet.git", auth={"ssh_key_file": str(key)})

    ran = agent.run("check")

    assert ran.code == 2
    assert "auth.ssh_key_file: stands without known_hosts_file; write known_hosts_file too" in ran.stderr
    assert "PRIVATE KEY" not in ran.stderr
