"""Repositories that cannot be used, at the start or later: said once with a reason and a fix, nothing is pruned, the
others go on, and what was missed is made good as soon as they answer."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.daemon import Agent, Daemon, Json, until
from tests.e2e.fleet import config_map, find
from tests.gitserver.certificates import Authority
from tests.gitserver.repository import BARE_ENVIRONMENT, IDENTITY, Repo
from tests.gitserver.server import GitServer
from tests.sandbox import Cluster

pytestmark = pytest.mark.real

MIB = 1 << 20
# What is said, who has to mend it, and a word of the hint.
BAD = {
    "nobody-listens": ("connect", "wait", "network"),
    "wrong-password": ("401", "fix-config", "auth"),
    "wrong-ca": ("certificate", "fix-config", "tls.ca_file"),
    "no-repository": ("404", "fix-config", "url"),
    "no-folder": ("no-folder.git is not a Git repository", "wait", "url"),
    "no-branch": ("branch 'main' is not in the repository", "fix-config", "ref.branch"),
    "empty": ("branch 'main' is not in the repository, or it has no commit yet", "fix-config", "Push"),
}


@dataclass(frozen=True, slots=True)
class World:
    """A daemon with one good source and every bad one, all of them for one cluster."""

    daemon: Daemon
    agent: Agent
    folder: Path
    server: GitServer
    cluster: Cluster


@pytest.fixture(scope="module")
def world(bare_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("bad-source")
    ours, others = Authority(folder / "ours"), Authority(folder / "others")
    agent = Agent(folder / "agent", name="bad-source")
    agent.cluster("here", bare_cluster.kubeconfig)
    bare_cluster.create_namespace("bad-source")
    (folder / "right").write_text("letmein")
    (folder / "wrong").write_text("hunter2")
    (folder / "now-and-then").write_text("letmein")
    with GitServer(folder / "repos", authority=ours, credentials=("git", "letmein")) as server, unused_port() as port:
        right: Json = {
            "auth": {"username": "git", "password_file": str(folder / "right")},
            "tls": {"ca_file": str(ours.ca_file)},
        }
        wrong: Json = {**right, "auth": {"username": "git", "password_file": str(folder / "wrong")}}
        for name in ("good", "no-branch", "wrong-password", "wrong-ca", "nobody-listens", "now-and-then"):
            server.create(name).commit({"a.yaml": config_map(name)}, branch="trunk" if name == "no-branch" else "main")
        server.create("empty")
        for name in ("good", "no-branch", "empty", "no-repository"):
            agent.source(name, server.url(name), **right)
        agent.source("wrong-password", server.url("wrong-password"), **wrong)
        then: Json = {**right, "auth": {"username": "git", "password_file": str(folder / "now-and-then")}}
        agent.source("now-and-then", server.url("now-and-then"), **then)
        agent.source("wrong-ca", server.url("wrong-ca"), **{**right, "tls": {"ca_file": str(others.ca_file)}})
        agent.source("nobody-listens", f"https://127.0.0.1:{port}/x.git", **right)
        agent.source("no-folder", f"file://{folder}/no-folder.git")
        for name in ("good", "now-and-then", *BAD):
            agent.target(name, name, path=".", namespace="bad-source")
        with agent.start() as daemon:
            yield World(daemon, agent, folder, server, bare_cluster)


class unused_port:  # noqa: N801 - used as a function
    """A port of loopback on which nobody listens, as long as the context lasts."""

    def __enter__(self) -> int:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        return int(self._socket.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._socket.close()


@pytest.mark.parametrize("name", BAD)
def test_a_repository_that_cannot_be_used_is_said_once_with_the_fix(world: World, name: str) -> None:
    what, remedy, hint = BAD[name]

    said = world.daemon.wait_for("source unreachable", source=name)

    assert what.lower() in said["error"].lower()
    assert said["remedy"] == remedy
    assert said["hint"]
    assert hint in said["hint"]
    assert len(world.daemon.said("source unreachable", source=name)) == 1
    assert not [line for line in world.daemon.lines if "hunter2" in json.dumps(line) or "letmein" in json.dumps(line)]


def test_a_good_repository_is_followed_while_others_cannot_be_used(world: World) -> None:
    world.daemon.wait_for("target in sync", target="good@here")

    world.server.create("good").commit({"b.yaml": config_map("good-more")})

    world.daemon.wait_for("object applied", object="ConfigMap/bad-source/good-more")


def test_a_password_that_is_mended_is_used_without_a_restart(world: World) -> None:
    world.daemon.wait_for("source unreachable", source="wrong-password")

    (world.folder / "wrong").write_text("letmein")

    world.daemon.wait_for("source recovered", source="wrong-password", within_s=60)
    world.daemon.wait_for("target in sync", target="wrong-password@here")


def test_what_could_not_be_asked_for_is_never_called_in_sync(world: World) -> None:
    """In sync with what was known is not in sync with what was pushed a moment ago."""
    world.daemon.wait_for("target in sync", target="now-and-then@here")
    password = world.folder / "now-and-then"
    password.write_text("hunter2")
    planned = world.agent.run("plan", "now-and-then")
    synced = world.agent.run("sync", "now-and-then", "--wait")
    password.write_text("letmein")

    what, fix = planned.complaint
    assert (planned.code, synced.code) == (2, 1)
    assert "nothing to do" in planned.stdout
    assert "401" in what
    assert "auth" in fix
    assert world.agent.run("sync", "now-and-then", "--wait").code == 0


def test_the_first_commit_of_an_empty_repository_is_applied(world: World) -> None:
    world.daemon.wait_for("source unreachable", source="empty")
    shown = world.agent.run("status", "empty", "--output", "json")

    world.server.create("empty").commit({"a.yaml": config_map("first")})

    world.daemon.wait_for("source recovered", source="empty", within_s=60)
    world.daemon.wait_for("object applied", object="ConfigMap/bad-source/first")
    assert shown.code == 1
    (target,) = shown.json["targets"]
    assert (target["state"], target["revision"]) == ("unknown", None)
    assert "no commit yet" in target["problems"][0]["error"]


def test_a_plan_of_a_branch_that_is_not_there_says_so(world: World) -> None:
    for ref in ("no-such-branch", "main~0", "0123456789"):
        ran = world.agent.run("plan", "good", "--ref", ref)

        assert ran.code == 2
        what, fix = ran.complaint
        assert repr(ref) in what
        assert "good" in what
        assert "branch" in fix


def test_a_plan_of_a_commit_by_its_first_digits_and_of_a_whole_name_of_a_branch(world: World) -> None:
    world.daemon.wait_for("target in sync", target="good@here")
    ran = world.agent.run("status", "good", "--output", "json")
    admitted = ran.json["targets"][0]["admitted"].rpartition(":")[2]

    for ref in (admitted, admitted[:8], "refs/heads/main"):
        planned = world.agent.run("plan", "good", "--ref", ref, "--output", "json")
        assert planned.json["targets"][0]["revision"].endswith(admitted)


def test_an_approval_of_what_is_not_held_or_refused_is_refused(world: World) -> None:
    world.daemon.wait_for("target in sync", target="good@here")

    plan = world.agent.run("approve", "good", "--plan", "0123456789abcdef")
    revision = world.agent.run("approve", "good", "--revision", "0" * 40)
    nowhere = world.agent.run("approve", "nowhere", "--revision", "0" * 40)

    assert [ran.code for ran in (plan, revision, nowhere)] == [2, 2, 2]
    assert "0123456789abcdef" in plan.complaint[0]
    assert "gitsyncd plan good" in plan.complaint[1]
    assert "is not a head of good that is held" in revision.complaint[0]
    assert "good" in nowhere.complaint[1]


def test_a_target_in_use_is_not_deleted(world: World) -> None:
    world.daemon.wait_for("target in sync", target="good@here")

    ran = world.agent.run("delete", "good", "--yes")

    assert ran.code == 1
    what, fix = ran.complaint
    assert "not suspended" in what
    assert "gitsyncd suspend good@here" in fix
    assert find(world.cluster, "/api/v1/namespaces/bad-source/configmaps/good") is not None


def test_commands_about_targets_that_are_not_there_name_those_that_are(world: World) -> None:
    world.daemon.wait_for("daemon ready")

    for arguments in (("status", "goot"), ("sync", "goot"), ("resume", "goot")):
        ran = world.agent.run(*arguments)
        assert ran.code == 2, arguments
        assert "'goot'" in ran.complaint[0]
        assert "good@here" in ran.complaint[1]


# --- later -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Running:
    """A daemon of the test's own that is in sync with its repository."""

    agent: Agent
    daemon: Daemon
    repo: Repo
    cluster: Cluster
    namespace: str

    def live(self, name: str) -> bool:
        return find(self.cluster, f"/api/v1/namespaces/{self.namespace}/configmaps/{name}") is not None

    def heals(self, name: str) -> None:
        """What is deleted on the cluster is put back."""
        since = self.daemon.now
        self.cluster.request("DELETE", f"/api/v1/namespaces/{self.namespace}/configmaps/{name}")
        self.daemon.wait_for("drift reverted", since=since, object=f"ConfigMap/{self.namespace}/{name}")


@pytest.fixture
def running(agent: Agent, repo: Repo, bare_cluster: Cluster, namespace: str) -> Iterator[Running]:
    agent.document["agent"].update(name=f"sources-{namespace}", cluster_namespace=f"gitsyncd-{namespace}")
    bare_cluster.create_namespace(namespace)
    agent.cluster("here", bare_cluster.kubeconfig)
    agent.source("fleet", repo.url)
    agent.target("web", path="web", namespace=namespace)
    repo.commit({f"web/{name}.yaml": config_map(name) for name in ("a", "b")})
    with agent.start() as daemon:
        daemon.wait_for("target in sync", objects=2)
        yield Running(agent, daemon, repo, bare_cluster, namespace)


def test_a_branch_that_is_deleted_prunes_nothing_and_drift_is_healed(running: Running) -> None:
    head = running.repo.head()
    assert head is not None

    running.repo.delete("main")

    said = running.daemon.wait_for("source unreachable")
    assert "branch 'main' is not in the repository" in said["error"]
    assert "Push the branch" in said["hint"]
    running.heals("a")
    assert running.daemon.said("object pruned") == running.daemon.said("plan refused") == []
    running.repo.set_head("main", head)
    running.repo.commit({"web/c.yaml": config_map("c")})
    running.daemon.wait_for("source recovered")
    running.daemon.wait_for("target in sync", objects=3)


def test_a_repository_that_is_gone_and_comes_back_loses_nothing(running: Running) -> None:
    away = running.repo.path.with_name("away.git")
    running.repo.path.rename(away)

    said = running.daemon.wait_for("source unreachable")
    assert str(running.repo.path) in said["error"]
    running.heals("b")
    away.rename(running.repo.path)
    running.repo.commit({"web/b.yaml": None})

    running.daemon.wait_for("source recovered")
    running.daemon.wait_for("object pruned", object=f"ConfigMap/{running.namespace}/b")
    assert running.live("a")


def test_a_path_that_leaves_the_commit_is_an_error_and_prunes_nothing(running: Running) -> None:
    since = running.daemon.now
    running.repo.commit({"web": None, "README.md": "moved"})

    failure = running.daemon.wait_for("render failed", since=since)

    assert "'web'" in failure["error"]
    assert failure["remedy"] == "fix-config"
    assert failure["hint"]
    running.daemon.wait_for("target failed", since=since)
    assert running.live("a") and running.live("b")
    running.repo.commit({"web/a.yaml": config_map("a"), "web/b.yaml": config_map("b")})
    running.daemon.wait_for("target in sync", since=since, objects=2)


def test_a_path_that_is_emptied_is_refused_until_approved(running: Running) -> None:
    running.repo.commit({"web": None, "web/README.md": "Nothing here."})

    refused = running.daemon.wait_for("plan refused")

    assert refused["prune"] == 2
    assert "no object at all" in refused["reason"]
    assert running.live("a") and running.live("b")
    ran = running.agent.run("approve", "web", "--plan", refused["plan"])
    assert ran.code == 0
    until(lambda: not running.live("a") and not running.live("b"), "the approved deletes")
    again = running.agent.run("approve", "web", "--plan", refused["plan"])
    assert again.code == 2
    assert "gitsyncd plan web" in again.complaint[1]


def test_a_huge_file_in_a_small_pack_is_refused_by_name_with_memory_flat(running: Running) -> None:
    with running.daemon.measured() as peak:
        huge = push_zeros(running.repo, "web/huge.bin", 400 * MIB)
        said = running.daemon.wait_for("source unreachable", within_s=60)
        running.heals("a")

    assert "400 MiB" in said["error"]
    assert said["remedy"] == "fix-repo"
    assert said["hint"]
    assert peak.bytes < 700 * MIB
    assert running.live("b")
    running.repo.set_head("main", running.repo.git("rev-parse", f"{huge}^"))
    running.repo.commit({"web/c.yaml": config_map("c")})
    running.daemon.wait_for("source recovered")
    running.daemon.wait_for("target in sync", objects=3)


def push_zeros(repo: Repo, name: str, size: int) -> str:
    """A commit with a file of zeros, some hundred kilobytes when packed. Made by git, without holding it in memory."""
    stream = subprocess.Popen(
        ["git", "hash-object", "-w", "--stdin"],
        cwd=repo.path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**BARE_ENVIRONMENT, **IDENTITY},
    )
    assert stream.stdin is not None and stream.stdout is not None
    for _ in range(size // MIB):
        stream.stdin.write(bytes(MIB))
    stream.stdin.close()
    blob = stream.stdout.read().decode().strip()
    stream.stdout.close()
    assert stream.wait(60) == 0
    index = {"GIT_INDEX_FILE": str(repo.path / "index.huge")}
    head = repo.head()
    assert head is not None
    repo.git("read-tree", head, env=index)
    repo.git("update-index", "--add", "--cacheinfo", f"100644,{blob},{name}", env=index)
    commit = repo.git("commit-tree", repo.git("write-tree", env=index), "-p", head, "-m", "huge")
    repo.set_head("main", commit)
    return commit
