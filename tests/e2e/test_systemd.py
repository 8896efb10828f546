"""The units under a real systemd, installed by the commands of the install page and started as they stand.

A real cluster, a Git server with TLS and password, credentials as systemd hands them over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.daemon import ROOT, Json, until
from tests.e2e.hands import Hand, config_map, files
from tests.gitserver.certificates import Authority
from tests.gitserver.repository import Repo
from tests.gitserver.server import GitServer
from tests.sandbox import Cluster
from tests.sandbox.fixtures import MakeCluster
from tests.service.checkout import checkout
from tests.service.machine import Machine, unavailable

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(unavailable()), reason=unavailable()),
]

PAGE = (ROOT / "docs/how-to/install.md").read_text()
TOKEN = "canary-of-the-git-server"
UNIT = "gitsyncd.service"


def commands(*containing: str) -> list[str]:
    """Of the page: those of the blocks that hold one of these."""
    blocks = re.findall(r"^ *```console\n(.*?)^ *```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    chosen = [block for block in blocks if any(text in block for text in containing)]
    return [line.strip().removeprefix("$ ") for block in chosen for line in block.splitlines()]


@dataclass
class Site:
    """A machine on which gitsyncd is installed, a cluster and a Git server."""

    machine: Machine
    cluster: Cluster
    server: GitServer
    repo: Repo
    checkout: Path
    targets: list[str] = field(default_factory=lambda: ["web"])

    def follow_the_page(self, *containing: str) -> None:
        for command in commands(*containing):
            self.machine.run("sh", "-c", command, cwd=self.checkout)

    def document(self, name: str, *, targets: list[str]) -> Json:
        folder = "gitsyncd" if name == "edge" else f"gitsyncd-{name}"
        return {
            "version": 1,
            "agent": {
                "name": name,
                "state_dir": f"/var/lib/{folder}",
                "socket": f"/run/{folder}/agent.sock",
                "cluster_namespace": folder,
                "http": {"listen": None},  # the port is shared with whatever else runs here
            },
            "sources": [
                {
                    "name": "fleet",
                    "url": self.server.url("fleet"),
                    "ref": {"branch": "main"},
                    "interval": "1s",
                    "auth": {"username": "git", "password_file": "{credentials}/fleet.token"},
                    "tls": {"ca_file": "ca.crt"},
                }
            ],
            "clusters": [{"name": "eu-1", "kubeconfig": {"file": "{credentials}/eu-1.kubeconfig"}}],
            "targets": [{"name": t, "source": "fleet", "path": t, "retry_interval": "1s"} for t in targets],
        }

    def write_agent_file(self, *targets: str, name: str = "edge") -> None:
        file = "gitsyncd" if name == "edge" else name
        document = self.document(name, targets=list(targets))
        self.machine.write(f"/etc/gitsyncd/{file}.yaml", json.dumps(document), 0o640)
        self.machine.run("chgrp", "gitsyncd", f"/etc/gitsyncd/{file}.yaml")

    def log(self, unit: str = UNIT) -> str:
        return self.machine.file(f"/var/lib/log-of-{unit}").read_text()

    def hand(self, name: str) -> Hand:
        return Hand(self.cluster, "ConfigMap", "service", name)

    def until_there(self, name: str) -> Json:
        found: Json = until(self.hand(name).find, f"{name} on the cluster")
        return found


def clone(folder: Path) -> Path:
    """With `make env` done."""
    checkout(folder)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


@pytest.fixture(scope="module")
def site(make_shared_cluster: MakeCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """On a cluster of its own: the agent has the name that the pages give it, and so have those of other tests."""
    folder, cluster = tmp_path_factory.mktemp("service"), make_shared_cluster()
    cluster.create_namespace("service")
    authority = Authority(folder / "authority")
    server = GitServer(folder / "repos", authority=authority, credentials=("git", TOKEN))
    with server, Machine(folder / "machine") as machine:
        site = Site(machine, cluster, server, server.create("fleet"), clone(folder / "checkout"))
        maps = {name: files([config_map(name, "service")]) for name in ("web", "more", "east", "west")}
        site.repo.commit({f"{name}/{file}": text for name, texts in maps.items() for file, text in texts.items()})
        site.follow_the_page("pip wheel", "--require-hashes", "sysusers")
        machine.write("/etc/gitsyncd/ca.crt", authority.ca_file.read_text())
        machine.write("/etc/gitsyncd/credentials/fleet.token", TOKEN)
        machine.write("/etc/gitsyncd/credentials/eu-1.kubeconfig", cluster.kubeconfig.read_text())
        site.write_agent_file("web")
        site.follow_the_page("credentials.conf")
        for unit in (UNIT, "gitsyncd@.service"):  # there is no journal on this machine
            machine.write(
                f"/etc/systemd/system/{unit}.d/log.conf", "[Service]\nStandardOutput=append:/var/lib/log-of-%n\n"
            )
        yield site
        (folder / "log").write_text(machine.console)


@pytest.fixture
def service(site: Site) -> Iterator[Site]:
    """Started by the commands of the page, which return when it is ready."""
    site.write_agent_file("web")
    site.follow_the_page("enable --now gitsyncd.service")
    assert site.machine.show(UNIT)["ActiveState"] == "active", site.log()
    yield site
    site.machine.run("systemctl", "stop", UNIT)


def test_it_is_ready_when_all_is_in_sync_and_undoes_what_is_changed(service: Site) -> None:
    assert service.hand("web").find() is not None
    shown = service.machine.show(UNIT)
    assert (shown["SubState"], shown["StatusText"]) == ("running", "1 of 1 targets in sync")

    before = service.hand("web").get()
    service.hand("web").patch({"data": {"color": "by hand"}}, "kubectl-edit")

    until(lambda: service.hand("web").get()["data"] == before["data"], "the change to be undone")
    until(lambda: '"drift reverted"' in service.log(), "the revert to be told")
    assert service.machine.run("/opt/gitsyncd/bin/gitsyncd", "status").count("in-sync") == 1


def test_a_commit_is_fetched_and_applied_by_children_under_the_same_limits(service: Site) -> None:
    texts = files([config_map("pushed", "service")])
    service.repo.commit({f"web/{name}": text for name, text in texts.items()})

    service.until_there("pushed")
    assert "internal error" not in service.log()


def test_a_reload_is_over_when_systemctl_returns(service: Site) -> None:
    process = service.machine.show(UNIT)["MainPID"]
    service.write_agent_file("web", "more")

    service.machine.run("systemctl", "reload", UNIT)

    shown = service.machine.show(UNIT)
    assert (shown["ActiveState"], shown["MainPID"]) == ("active", process)
    assert "target more@eu-1 added" in service.log()
    service.until_there("more")

    service.write_agent_file("web")
    service.machine.run("systemctl", "reload", UNIT)
    service.machine.run("/opt/gitsyncd/bin/gitsyncd", "delete", "more@eu-1", "--yes")
    assert service.hand("more").find() is None


def test_a_reload_fails_when_the_file_is_refused_and_the_service_goes_on(service: Site) -> None:
    process = service.machine.show(UNIT)["MainPID"]
    service.machine.write("/etc/gitsyncd/gitsyncd.yaml", "version: 1\nagent: {colour: red}\n", 0o640)
    service.machine.run("chgrp", "gitsyncd", "/etc/gitsyncd/gitsyncd.yaml")

    refused = service.machine.try_run("systemctl", "reload", UNIT)

    assert refused.returncode != 0
    shown = service.machine.show(UNIT)
    assert (shown["ActiveState"], shown["MainPID"]) == ("active", process)
    service.write_agent_file("web")
    service.machine.run("systemctl", "reload", UNIT)


def test_a_stop_is_an_exit_with_0_after_the_last_object(site: Site, service: Site) -> None:
    service.machine.run("systemctl", "stop", UNIT)

    shown = site.machine.show(UNIT)
    assert (shown["ActiveState"], shown["Result"], shown["ExecMainStatus"]) == ("inactive", "success", "0")
    assert '"daemon stopped"' in site.log()


def test_it_has_no_right_that_it_does_not_need(service: Site) -> None:
    facts = service.machine.facts(UNIT)
    process = service.machine.show(UNIT)["MainPID"]

    assert facts["Uid"].split()[0] != "0"
    assert {facts[key] for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
    assert re.search(
        r"^Max core file size +1 +1 ", service.machine.file(f"/proc/{process}/limits").read_text(), re.MULTILINE
    )


def test_secrets_are_neither_in_its_environment_nor_in_its_log_nor_on_its_disk(service: Site) -> None:
    process = service.machine.show(UNIT)["MainPID"]

    assert TOKEN not in service.machine.file(f"/proc/{process}/environ").read_text()
    assert TOKEN not in service.log()
    state = service.machine.file("/var/lib/gitsyncd")
    assert [file for file in state.rglob("*") if file.is_file() and TOKEN.encode() in file.read_bytes()] == []
    assert oct(state.stat().st_mode)[-3:] == "700"


def test_a_daemon_that_hangs_is_started_anew(site: Site) -> None:
    site.machine.write(f"/etc/systemd/system/{UNIT}.d/watchdog.conf", "[Service]\nWatchdogSec=3s\nRestartSec=100ms\n")
    site.write_agent_file("web")
    site.follow_the_page("enable --now gitsyncd.service")
    before = site.machine.show(UNIT)

    site.machine.run("kill", "-STOP", before["MainPID"])

    until(lambda: site.machine.show(UNIT)["NRestarts"] == "1", "another start")
    until(lambda: site.machine.show(UNIT)["ActiveState"] == "active", "it to be ready again")
    assert site.machine.show(UNIT)["MainPID"] != before["MainPID"]
    site.machine.run("systemctl", "stop", UNIT)
    site.machine.file(f"/etc/systemd/system/{UNIT}.d/watchdog.conf").unlink()


def test_a_refused_agent_file_fails_the_start_once(site: Site) -> None:
    site.machine.write("/etc/gitsyncd/gitsyncd.yaml", "version: 1\nagents: {}\n", 0o644)
    site.machine.run("systemctl", "daemon-reload")

    started = site.machine.try_run("systemctl", "start", UNIT)

    shown = site.machine.show(UNIT)
    assert started.returncode != 0
    assert (shown["ActiveState"], shown["ExecMainStatus"], shown["NRestarts"]) == ("failed", "2", "0")
    site.machine.run("systemctl", "reset-failed", UNIT)


def test_a_cluster_that_does_not_answer_does_not_hold_up_the_start_of_the_others(site: Site) -> None:
    document = site.document("edge", targets=["web"])
    document["clusters"].append(
        {"name": "gone", "server": "https://127.0.0.1:9", "token_file": "{credentials}/fleet.token"}
    )
    site.machine.write("/etc/gitsyncd/gitsyncd.yaml", json.dumps(document))

    site.follow_the_page("enable --now gitsyncd.service")

    shown = site.machine.show(UNIT)
    assert shown["ActiveState"] == "active"
    assert shown["StatusText"] == "1 of 2 targets in sync, 1 unknown: web@gone"
    site.machine.run("systemctl", "stop", UNIT)


def test_two_agents_run_side_by_side_and_neither_reads_the_state_of_the_other(site: Site) -> None:
    drop_ins = "/etc/systemd/system/gitsyncd@.service.d"
    for name in ("own-user.conf", "credentials.conf"):
        site.machine.write(f"{drop_ins}/{name}", (ROOT / "systemd/examples" / name).read_text())
    site.write_agent_file("east", name="edge-eu")
    site.write_agent_file("west", name="edge-us")

    site.follow_the_page("gitsyncd@edge-eu.service")

    users = {}
    for name in ("edge-eu", "edge-us"):
        shown = site.machine.show(f"gitsyncd@{name}.service")
        assert (shown["ActiveState"], shown["StatusText"]) == ("active", "1 of 1 targets in sync")
        users[name] = site.machine.facts(f"gitsyncd@{name}.service")["Uid"].split()[0]
    assert len(set(users.values()) | {"0"}) == 3
    site.until_there("east")
    site.until_there("west")
    peek = site.machine.try_run(
        "setpriv", f"--reuid={users['edge-us']}", "--clear-groups", "ls", "/var/lib/gitsyncd-edge-eu/"
    )
    assert peek.returncode != 0
    site.machine.run("systemctl", "stop", "gitsyncd@edge-eu", "gitsyncd@edge-us")
