"""The agent's own machine: full disks, folders that may not be written, sockets that are taken. Said in words, with a fix;
nothing that was good is lost, and clusters go on being kept."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.daemon import COMMAND, ROOT, Agent, Daemon, until
from tests.e2e.fleet import config_map, find
from tests.gitserver.repository import Repo
from tests.sandbox import Cluster

pytestmark = pytest.mark.real


@pytest.fixture
def ready(agent: Agent, repo: Repo, bare_cluster: Cluster, namespace: str) -> Agent:
    """An agent with one target, nothing wrong yet."""
    agent.document["agent"].update(name=f"machine-{namespace}", cluster_namespace=f"gitsyncd-{namespace}")
    bare_cluster.create_namespace(namespace)
    agent.cluster("here", bare_cluster.kubeconfig)
    agent.source("fleet", repo.url)
    agent.target("web", path=".", namespace=namespace)
    repo.commit({"a.yaml": config_map("a", value="1")})
    return agent


# --- sockets and two daemons -------------------------------------------------------------------------------------------


def refusal(daemon: Daemon) -> tuple[int, str, str]:
    """Exit code, WHAT: WHY, and fix of a daemon that does not come up."""
    code = daemon.wait()
    daemon.check()
    first, _, fix = daemon.stderr.strip().partition("\nfix: ")
    assert first.startswith("gitsyncd: ")
    return code, first, fix


def test_a_socket_path_that_is_too_long_is_told_with_the_limit(ready: Agent) -> None:
    ready.document["agent"]["socket"] = str(ready.folder / ("x" * 120) / "agent.sock")

    code, what, fix = refusal(ready.start())

    assert code == 2
    assert "agent.socket: is longer than 107 bytes" in what
    assert fix


def test_a_socket_in_a_folder_that_cannot_be_is_told(ready: Agent) -> None:
    (ready.folder / "file").write_text("")
    ready.document["agent"]["socket"] = str(ready.folder / "file" / "agent.sock")

    code, what, fix = refusal(ready.start())

    assert code == 1
    assert f"cannot listen on {ready.folder}/file/agent.sock" in what
    assert "agent.socket" in fix


def test_a_second_daemon_is_refused_and_the_first_goes_on(ready: Agent, repo: Repo) -> None:
    with ready.start() as first:
        first.wait_for("target in sync")

        code, what, fix = refusal(ready_again(ready))

        assert code == 1
        assert f"{ready.state_dir} is in use by another daemon" in what
        assert "agent.state_dir" in fix
        repo.commit({"b.yaml": config_map("b")})
        first.wait_for("target in sync", objects=2)
        assert ready.run("status").code == 0


def test_a_daemon_whose_socket_is_taken_is_refused(ready: Agent) -> None:
    with ready.start() as first:
        first.wait_for("target in sync")
        second = Agent(ready.folder / "second")
        second.document = json.loads(json.dumps(ready.document))
        second.document["agent"]["state_dir"] = str(second.state_dir)

        code, what, fix = refusal(second.start())

        assert code == 1
        assert f"a daemon already listens on {ready.socket}" in what
        assert "agent.socket" in fix


def ready_again(agent: Agent) -> Daemon:
    """The same agent file; its errors go to a file of their own."""
    second = Agent(agent.folder / "second")
    second.document = agent.document
    return second.start()


def test_a_second_daemon_with_another_socket_and_the_same_state_is_refused(ready: Agent) -> None:
    with ready.start() as first:
        first.wait_for("target in sync")
        second = Agent(ready.folder / "second")
        second.document = json.loads(json.dumps(ready.document))
        second.document["agent"]["socket"] = str(second.socket)

        code, what, fix = refusal(second.start())

        assert code == 1
        assert str(ready.state_dir) in what
        assert "another daemon" in what
        assert "agent.state_dir" in fix


def test_a_socket_that_a_dead_daemon_left_is_taken_over(ready: Agent) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(ready.socket))

    with ready.start() as daemon:
        daemon.wait_for("target in sync")
        assert ready.run("status").code == 0
        assert daemon.stop() == 0

    assert not ready.socket.exists()


# --- folders -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("--once",)], ids=["run", "run --once"])
def test_a_state_folder_that_cannot_be_written_is_told_with_the_key(ready: Agent, arguments: tuple[str, ...]) -> None:
    """/proc refuses new folders to everybody, root included."""
    ready.document["agent"]["state_dir"] = "/proc/gitsyncd"

    code, what, fix = refusal(ready.start(*arguments))

    assert code == 1
    assert "/proc/gitsyncd" in what
    assert "agent.state_dir" in fix


def about(daemon: Daemon, words: str) -> dict[str, str] | None:
    return next((line for line in daemon.lines if words in line.get("error", "")), None)


# --- a full disk -------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mount.returncode != 0:
        pytest.fail(f"this test must be able to mount: {mount.stderr.decode()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_full_disk_is_said_and_what_was_good_is_kept_until_there_is_space(
    ready: Agent, repo: Repo, bare_cluster: Cluster, namespace: str, small_disk: Path
) -> None:
    ready.document["agent"]["state_dir"] = str(small_disk / "state")
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    with ready.start() as daemon:
        daemon.wait_for("target in sync")
        filler = small_disk / "filler"
        fill(filler)
        since = daemon.now
        repo.commit({"b.yaml": config_map("b"), "large.bin": os.urandom(300_000)})

        said = daemon.wait_for("source unreachable", since=since)
        bare_cluster.request("DELETE", f"{path}/a")
        daemon.wait_for("drift reverted", since=since, object=f"ConfigMap/{namespace}/a")
        filler.unlink()
        daemon.wait_for("source recovered", since=since)
        daemon.wait_for("target in sync", since=since, objects=2)

    assert "No space left on device" in said["error"]
    assert str(small_disk) in said["error"]
    assert said["remedy"] == "fix-config"
    assert "space" in said["hint"]
    assert find(bare_cluster, f"{path}/b") is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_disk_that_is_full_from_the_start_is_said_and_used_once_there_is_space(
    ready: Agent, small_disk: Path
) -> None:
    ready.document["agent"]["state_dir"] = str(small_disk / "state")
    filler = small_disk / "filler"
    fill(filler)
    with ready.start() as daemon:
        said = until(lambda: about(daemon, str(small_disk)), "the disk to be named")
        filler.unlink()
        daemon.wait_for("target in sync")

    assert "full" in said["error"] or "No space left" in said["error"]
    assert said["hint"]


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as out:
        try:
            while True:
                out.write(bytes(4096))
        except OSError:
            pass


def test_a_state_folder_that_is_lost_while_running_is_made_again(ready: Agent, repo: Repo) -> None:
    with ready.start() as daemon:
        daemon.wait_for("target in sync")
        ready.lose_state()

        repo.commit({"b.yaml": config_map("b")})

        daemon.wait_for("target in sync", objects=2)


# --- a log that nobody reads -------------------------------------------------------------------------------------------


def test_a_log_that_nobody_reads_holds_up_nothing_and_is_whole_when_it_is_read(
    ready: Agent, repo: Repo, bare_cluster: Cluster, namespace: str
) -> None:
    ready.document["agent"]["log"] = {"level": "debug"}
    repo.commit({f"m{number}.yaml": config_map(f"m{number}") for number in range(300)})
    ready.write()
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    env = {**os.environ, "GITSYNCD_CONFIG": str(ready.file)}
    with open(reader, encoding="utf-8") as log:  # noqa: PTH123 - a descriptor
        daemon = subprocess.Popen([*COMMAND, "run"], stdout=writer, env=env, cwd=ROOT)
        os.close(writer)
        try:
            until(lambda: ready.run("status").code == 0, "all in sync although nobody reads", within_s=60)
            applied = find(bare_cluster, f"/api/v1/namespaces/{namespace}/configmaps")
            daemon.send_signal(signal.SIGTERM)
            lines = [json.loads(line) for line in log]
        finally:
            daemon.kill()
            code = daemon.wait()

    assert code == 0
    assert applied is not None
    said = [line["event"] for line in lines]
    assert said.count("object applied") == 301
    assert said[-1] == "daemon stopped"
    assert "log lines lost" not in said
