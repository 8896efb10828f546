"""From a push to a registry to a running object: a real registry, a real repository, a real cluster, one daemon."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.daemon import Agent, Daemon, until
from tests.gitserver.certificates import Authority
from tests.gitserver.repository import BARE_ENVIRONMENT, Repo
from tests.gitserver.server import GitServer
from tests.registry import server as registry_server
from tests.registry.images import image
from tests.registry.server import Registry
from tests.sandbox import Cluster

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(bool(registry_server.unavailable()), reason=registry_server.unavailable()),
]

WRITE_PASSWORD = "wr1te-it"
DEPLOYMENT = """\
# The front of the shop.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: front
spec:
  replicas: 1   # people count
  selector: {{matchLabels: {{app: front}}}}
  template:
    metadata: {{labels: {{app: front}}}}
    spec:
      containers:
        - name: front
          image: {image}:{tag}  # {{"$imagepolicy": "front"}}
"""


@dataclass(frozen=True, slots=True)
class World:
    """One policy, one update, one target."""

    daemon: Daemon
    agent: Agent
    registry: Registry
    repo: Repo
    cluster: Cluster

    @property
    def image(self) -> str:
        return f"{self.registry.server}/team/front"

    def push(self, tag: str) -> str:
        return self.registry.push("team/front", tag, image(f"front {tag}"))

    def file(self) -> str:
        done = subprocess.run(
            ["git", "cat-file", "blob", "main:web/front.yaml"],
            cwd=self.repo.path,
            env=BARE_ENVIRONMENT,
            capture_output=True,
            check=True,
        )
        return done.stdout.decode()

    def live(self) -> str:
        found: Any = self.cluster.request("GET", "/apis/apps/v1/namespaces/imaging/deployments/front")
        return str(found["spec"]["template"]["spec"]["containers"][0]["image"])

    def arrives(self, tag: str) -> None:
        until(lambda: self.live() == f"{self.image}:{tag}", f"{tag} is live")

    def shown(self) -> Any:
        ran = self.agent.run("images", "--output", "json")
        return ran.json["policies"][0]


@pytest.fixture
def world(bare_cluster: Cluster, tmp_path: Path) -> Iterator[World]:
    bare_cluster.create_namespace("imaging")
    agent = Agent(tmp_path / "agent", name="imaging")
    agent.cluster("here", bare_cluster.kubeconfig)
    authority = Authority(tmp_path / "ca")
    (tmp_path / "registry-password").write_text(Registry.password)
    (tmp_path / "write").write_text(WRITE_PASSWORD)
    with (
        Registry(tmp_path / "registry") as registry,
        GitServer(tmp_path / "repos", authority=authority, credentials=("writer", WRITE_PASSWORD)) as server,
    ):
        repo = server.create("fleet")
        name = f"{registry.server}/team/front"
        registry.push("team/front", "1.0.0", image("front 1.0.0"))
        repo.commit({"web/front.yaml": DEPLOYMENT.format(image=name, tag="1.0.0")})
        login = {"username": "writer", "password_file": str(tmp_path / "write")}
        agent.source("fleet", server.url("fleet"), auth=login, tls={"ca_file": str(authority.ca_file)}, interval="1h")
        agent.target("web", path="web", namespace="imaging")
        agent.document["images"] = {
            "registries": [
                {
                    "prefix": registry.server,
                    "auth": {"username": registry.username, "password_file": str(tmp_path / "registry-password")},
                    "tls": {"ca_file": str(registry.ca_file)},
                }
            ],
            "policies": [{"name": "front", "image": name, "interval": "500ms", "select": {"semver": ">=1.0 <2"}}],
            "updates": [
                {"name": "fleet", "source": "fleet", "paths": ["web"], "author": {"email": "robot@example.com"}}
            ],
        }
        with agent.start() as daemon:
            yield World(daemon, agent, registry, repo, bare_cluster)


def test_a_pushed_image_is_a_commit_and_live_and_what_must_not_come_back_stays_out(
    world: World, tmp_path: Path
) -> None:
    daemon, repo = world.daemon, world.repo
    daemon.wait_for("target in sync", target="web@here")
    before = world.file()

    # A new image is pushed: a commit, and live, although the source is asked once an hour only.
    digest = world.push("1.2.0")
    world.push("2.0.0")
    committed = daemon.wait_for("images committed")
    world.arrives("1.2.0")
    assert world.file() == before.replace(":1.0.0", ":1.2.0")
    assert committed["commit"] == repo.head()
    assert committed["changes"] == [
        {"file": "web/front.yaml", "policy": "front", "old": f"{world.image}:1.0.0", "new": f"{world.image}:1.2.0"}
    ]
    assert repo.git("log", "-1", "--format=%an <%ae>%n%B", "main").strip() == (
        "gitsyncd <robot@example.com>\n"
        "Update front to 1.2.0\n\n"
        "Gitsyncd-Policy: front\n"
        f"Gitsyncd-Image: {world.image}:1.0.0 -> 1.2.0"
    )
    shown = world.shown()
    assert (shown["state"], shown["tag"], shown["digest"]) == ("selected", "1.2.0", digest)
    assert [(place["file"], place["line"]) for place in until(lambda: world.shown()["written"], "it is read")] == [
        ("web/front.yaml", 14)
    ]

    # Locked: nothing moves, and it says so.
    locked = world.agent.run("images", "lock", "front", "--reason", "release freeze", "--for", "1h")
    assert locked.code == 0, locked
    world.push("1.3.0")
    daemon.wait_for("image held", tag="1.3.0", reason="locked")
    text = world.agent.run("images")
    assert "locked for" in text.stdout
    assert "release freeze" in text.stdout
    assert world.live() == f"{world.image}:1.2.0"
    assert world.agent.run("images", "unlock", "front").code == 0
    world.arrives("1.3.0")

    # People quarantine it and go back; a newer one passes.
    world.push("1.3.1")
    world.arrives("1.3.1")
    entry = f"images:\n  - {{image: {world.image}, tag: 1.3.1, reason: breaks the login}}\n"
    repo.commit({"web/front.yaml": world.file().replace("1.3.1", "1.3.0"), ".gitsyncd/quarantine.yaml": entry})
    assert world.agent.run("sync", "web").code == 0
    world.arrives("1.3.0")
    daemon.wait_for("image held", tag="1.3.1", reason="quarantined")
    world.push("1.3.2")
    world.arrives("1.3.2")
    assert world.file() == before.replace(":1.0.0", ":1.3.2")

    # The registry goes and comes back; nothing moves meanwhile.
    head = repo.head()
    world.registry.stop()
    told = daemon.wait_for("registry unreachable", policy="front")
    assert (told["remedy"], bool(told["hint"])) == ("wait", True)
    failing = world.agent.run("images")
    assert (failing.code, "fix: " in failing.stdout) == (1, True)
    world.registry.start()
    daemon.wait_for("registry recovered", policy="front", within_s=60)
    assert repo.head() == head

    # A hook refuses; it says so, and recovers by itself.
    hook = repo.path / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho main is protected >&2\nexit 1\n")
    hook.chmod(0o755)
    world.push("1.4.0")
    refused = daemon.wait_for("image update failed", update="fleet")
    assert "main is protected" in refused["error"]
    assert refused["remedy"] == "fix-repo"
    hook.unlink()
    world.arrives("1.4.0")

    assert repo.git("rev-list", "--count", "--no-merges", "main") == "7"
    _no_secret(world, tmp_path)


def _no_secret(world: World, tmp_path: Path) -> None:
    """Neither the registry's password nor the writer's is anywhere but in its file."""
    secrets = [Registry.password, WRITE_PASSWORD]
    everything = "".join(json.dumps(line) for line in world.daemon.lines) + world.daemon.stderr
    everything += world.agent.run("status", "--output", "json").stdout + world.agent.run("images").stdout
    everything += world.repo.git("log", "-p", "--all")
    for kept in world.agent.state_dir.rglob("*"):
        if kept.is_file():
            everything += kept.read_bytes().decode("latin-1")
    everything += _process(world.daemon.pid)
    assert [secret for secret in secrets if secret in everything] == []


def _process(pid: int) -> str:
    return "".join(Path(f"/proc/{pid}/{name}").read_text(errors="replace") for name in ("cmdline", "environ"))
