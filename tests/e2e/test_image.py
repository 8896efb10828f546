"""The files of the container image, run as a container runs them: read-only, by a user without rights, without a shell.

There is no registry at hand to build the image from, so the last stage is put together by the same script, and the
root directory of a service under a real systemd stands in for the container.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.e2e.daemon import until
from tests.e2e.hands import Hand, config_map, files
from tests.gitserver.certificates import Authority
from tests.gitserver.server import GitServer
from tests.sandbox import Cluster
from tests.service.checkout import ROOT
from tests.service.machine import Machine, unavailable

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(600)]

USER = 65532
PROGRAM = "/usr/local/bin/gitsyncd"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("image") / "root"
    subprocess.run([sys.executable, ROOT / "scripts/image_root.py", root], check=True, capture_output=True)
    return root


def test_there_is_no_program_but_the_interpreter_and_gitsyncd(image: Path) -> None:
    programs = [
        path for path in image.rglob("*") if path.is_file() and os.access(path, os.X_OK) and ".so" not in path.name
    ]

    assert {path.name.partition(".")[0] for path in programs} == {"python3", "gitsyncd"}
    assert [name for name in ("sh", "bash", "git", "pip", "kubectl") if list(image.rglob(f"bin/{name}"))] == []


def test_nobody_but_root_can_write_to_it_save_where_the_daemon_must(image: Path) -> None:
    writable = {
        str(path.relative_to(image))
        for path in image.rglob("*")
        if not path.is_symlink() and (path.stat().st_uid == USER or path.stat().st_mode & 0o022)
    }

    assert writable <= {"tmp", "var/lib/gitsyncd", "run/gitsyncd"}
    assert [path for path in image.rglob("*") if path.stat(follow_symlinks=False).st_mode & 0o6000] == []


def test_put_together_twice_it_is_the_same_to_the_byte(image: Path, tmp_path: Path) -> None:
    again = tmp_path / "root"
    subprocess.run([sys.executable, ROOT / "scripts/image_root.py", again], check=True, capture_output=True)

    assert listing(image) == listing(again)


def listing(root: Path) -> dict[str, tuple[int, float, str]]:
    found = {}
    for path in root.rglob("*"):
        facts = path.stat(follow_symlinks=False)
        digest = sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(root))] = (facts.st_mode, facts.st_mtime, digest)
    return found


# --- as a container -----------------------------------------------------------------------------------------------------

UNIT = f"""
[Unit]
DefaultDependencies=no

[Service]
Type=notify
ExecStart={PROGRAM} run
StandardOutput=append:/var/lib/log
StandardError=append:/var/lib/log
RootDirectory={{root}}
MountAPIVFS=yes
ProtectSystem=strict
TemporaryFileSystem=/tmp
BindReadOnlyPaths=/etc/agent:/etc/gitsyncd
StateDirectory=gitsyncd
RuntimeDirectory=gitsyncd
User={USER}
Group={USER}
NoNewPrivileges=yes
CapabilityBoundingSet=
SystemCallFilter=@system-service
"""


@pytest.fixture
def container(bare_cluster: Cluster, image: Path, tmp_path: Path) -> Iterator[tuple[Machine, GitServer]]:
    if missing := unavailable():
        pytest.skip(missing)
    bare_cluster.create_namespace("image")
    root = tmp_path / "root"
    shutil.copytree(image, root, symlinks=True)  # systemd makes what it mounts upon
    for folder in ("var/lib/gitsyncd", "run/gitsyncd"):
        os.chown(root / folder, USER, USER)
    authority = Authority(tmp_path / "authority")
    server = GitServer(tmp_path / "repos", authority=authority, credentials=("git", "canary"))
    with server, Machine(tmp_path / "machine") as machine:
        server.create("fleet").commit(files([config_map("settings", "image")]))
        document = {
            "version": 1,
            "agent": {"name": "image", "cluster_namespace": "gitsyncd-image", "http": {"listen": None}},
            "sources": [
                {
                    "name": "fleet",
                    "url": server.url("fleet"),
                    "ref": {"branch": "main"},
                    "auth": {"username": "git", "password_file": "token"},
                    "tls": {"ca_file": "ca.crt"},
                }
            ],
            "clusters": [{"name": "here", "kubeconfig": {"file": "kubeconfig"}}],
            "targets": [{"name": "web", "source": "fleet", "path": "."}],
        }
        machine.write("/etc/agent/gitsyncd.yaml", json.dumps(document))
        machine.write("/etc/agent/token", "canary")
        machine.write("/etc/agent/ca.crt", authority.ca_file.read_text())
        machine.write("/etc/agent/kubeconfig", bare_cluster.kubeconfig.read_text())
        machine.write("/etc/systemd/system/image.service", UNIT.format(root=root))
        machine.write("/etc/sysusers.d/image.conf", f"u image {USER} - -\n")  # systemd wants to know the number
        machine.run("systemd-sysusers", "image.conf")
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "start", "image")
        yield machine, server


def test_it_keeps_a_cluster_in_sync_from_there(container: tuple[Machine, GitServer], bare_cluster: Cluster) -> None:
    machine, _ = container
    hand = Hand(bare_cluster, "ConfigMap", "image", "settings")
    process = machine.show("image")["MainPID"]

    before = hand.get()
    hand.patch({"data": {"color": "by hand"}}, "kubectl-edit")
    until(lambda: hand.get()["data"] == before["data"], "the change to be undone")
    inside = machine.file(f"/proc/{process}/root")
    assert not (inside / "bin/sh").exists()
    assert machine.facts("image")["Uid"].split()[0] == str(USER)

    machine.run("systemctl", "stop", "image")
    shown = machine.show("image")
    assert (shown["Result"], shown["ExecMainStatus"]) == ("success", "0")
