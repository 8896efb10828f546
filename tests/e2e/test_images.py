"""From a push to a registry to a running object: a real registry, a real repository, a real cluster, one daemon."""

from __future__ import annotations

import itertools
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
from tests.registry.images import image
from tests.registry.server import Registry
from tests.sandbox import Cluster

pytestmark = pytest.mark.real

WRITE_PASSWORD = "wr1te-it"
_NUMBERS = itertools.count()
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
    def url(self) -> str:
        return f"/apis/apps/v1/namespaces/{self.agent.name}/deployments/front"

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
        found: Any = self.cluster.request("GET", self.url)
        return str(found["spec"]["template"]["spec"]["containers"][0]["image"])

    def arrives(self, tag: str) -> None:
        until(lambda: self.live() == f"{self.image}:{tag}", f"{tag} is live")

    def status(self, *, healthy: bool) -> None:
        """What the controllers and a node of a whole cluster would say of the workload."""
        found: Any = self.cluster.request("GET", self.url)
        status = {
            "observedGeneration": found["metadata"]["generation"],
            "replicas": 1,
            "updatedReplicas": 1,
            **({"readyReplicas": 1, "availableReplicas": 1} if healthy else {"unavailableReplicas": 1}),
            "conditions": [
                {
                    "type": "Available",
                    "status": "True" if healthy else "False",
                    "reason": "MinimumReplicasAvailable" if healthy else "MinimumReplicasUnavailable",
                    "message": "",
                },
                {
                    "type": "Progressing",
                    "status": "True" if healthy else "False",
                    "reason": "NewReplicaSetAvailable" if healthy else "ProgressDeadlineExceeded",
                    "message": "" if healthy else "the pods crash",
                },
            ],
        }
        self.cluster.kubectl(
            "-n", self.agent.name, "patch", "deployment", "front", "--subresource=status", "--type=merge", "-p",
            json.dumps({"status": status}),
        )  # fmt: skip

    def history(self) -> list[Any]:
        revisions: list[Any] = self.agent.run("history", "web@here", "--output", "json").json["targets"][0]["revisions"]
        return revisions

    def shown(self) -> Any:
        ran = self.agent.run("images", "--output", "json")
        return ran.json["policies"][0]


@pytest.fixture
def world(bare_cluster: Cluster, tmp_path: Path) -> Iterator[World]:
    space = f"imaging-{next(_NUMBERS)}"
    bare_cluster.create_namespace(space)
    agent = Agent(tmp_path / "agent", name=space)
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
        agent.target("web", path="web", namespace=space)
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
        f"Gitsyncd-Image: {world.image}:1.0.0 -> 1.2.0\n"
        f"Gitsyncd-Update: {world.agent.name}/fleet"
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


def test_a_bad_image_is_rolled_back_by_a_commit_and_only_a_newer_one_passes(world: World, tmp_path: Path) -> None:
    daemon, repo, agent = world.daemon, world.repo, world.agent
    daemon.wait_for("target in sync", target="web@here")
    world.status(healthy=True)
    until(lambda: world.history()[0]["healthy"], "the first revision is healthy")
    good = repo.head()
    before = world.file()

    # A bad image arrives by the ordinary way, and its workload fails.
    world.push("1.5.0")
    world.arrives("1.5.0")
    bad = until(lambda: repo.head() if repo.head() != good else "", "the commit")
    world.status(healthy=False)
    failed = until(lambda: world.history()[0] if world.history()[0]["failed"] else None, "the failure is written down")
    assert (failed["commit"], failed["images"]) == (bad, [f"{world.image}:1.5.0"])
    assert "the pods crash" in failed["error"]
    shown = agent.run("history", "web@here")
    assert (shown.code, f"main@{bad[:8]}" in shown.stdout, "failed" in shown.stdout) == (0, True, True)

    # Asked without --yes, it says what it would do and does nothing.
    asked = agent.run("rollback", "web@here")
    assert asked.code == 2, asked
    assert f"from {bad[:8]} back to {str(good)[:8]}" in asked.stderr
    assert f"fix: If that is meant: gitsyncd rollback web@here --to {good} --yes" in asked.stderr
    assert repo.head() == bad

    # The good one is back, by a commit; the bad one stays out, and a newer one passes.
    done = agent.run("rollback", "web@here", "--reason", "the pods crash", "--yes", "--output", "json")
    assert done.code == 0, done
    told = daemon.wait_for("rollback committed", target="web@here")
    assert (told["from"], told["to"], told["commit"]) == (bad, good, repo.head())
    assert told["quarantined"] == [f"{world.image}:1.5.0"]
    world.arrives("1.0.0")
    assert world.file() == before
    assert repo.git("log", "-1", "--format=%(trailers:key=Gitsyncd-Rollback,valueonly)", "main") == f"{bad} -> {good}"
    assert repo.git("log", "-1", "--format=%P", "main") == bad
    held = until(lambda: daemon.said("image held", tag="1.5.0", reason="quarantined"), "the bad tag is held")
    assert held[0]["detail"] == "the pods crash"
    world.push("1.5.1")
    world.arrives("1.5.1")

    # Whoever takes the rollback back gets held: the tree of the bad commit does not come back by itself. The policy is
    # locked, since it would write a better image there at once.
    assert agent.run("images", "lock", "front", "--reason", "a look").code == 0
    repo.git("update-ref", "refs/heads/main", repo.git("commit-tree", f"{bad}^{{tree}}", "-p", "main", "-m", "again"))
    assert agent.run("sync", "web").code == 0
    stopped = daemon.wait_for("revision held", reason="quarantined")
    assert "gitsyncd approve fleet --revision" in stopped["hint"]
    assert world.live() == f"{world.image}:1.5.1"

    # What was written down survives the agent's disk.
    known = world.history()
    assert daemon.stop() == 0
    agent.lose_state()
    with agent.start() as again:
        again.wait_for("daemon ready")
        assert [each["commit"] for each in world.history()][-len(known) :] == [each["commit"] for each in known]


def test_a_rollback_without_a_remote_says_so_and_what_can_be_done(world: World) -> None:
    daemon, repo, agent = world.daemon, world.repo, world.agent
    daemon.wait_for("target in sync", target="web@here")
    good = repo.head()
    world.push("1.6.0")
    world.arrives("1.6.0")
    hidden = repo.path.with_name("hidden.git")
    repo.path.rename(hidden)
    try:
        ran = agent.run("rollback", "web@here", "--to", str(good), "--yes")
    finally:
        hidden.rename(repo.path)

    assert ran.code == 1, ran
    what, _ = ran.complaint
    assert "repository not found" in what
    assert world.live() == f"{world.image}:1.6.0"


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
