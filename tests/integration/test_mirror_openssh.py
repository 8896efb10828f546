"""The mirror over SSH against OpenSSH's own server, with keys, certificates and known hosts made by ssh-keygen.

What goes wrong on the way is in `test_mirror_ssh`; here it is whether others understand SSH as we do.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from gitsyncd.edges.git.mirror import GitMirror
from gitsyncd.model.errors import SourceDenied
from gitsyncd.model.source import Repository, SshAuth
from tests.gitserver.openssh import OpenSshServer, keygen, unavailable

pytestmark = [pytest.mark.real, pytest.mark.skipif(bool(unavailable()), reason=unavailable())]

PASSPHRASE = "c0rrect-horse"


def over_ssh(server: OpenSshServer, folder: Path, known_hosts: str, key: Path, passphrase: str) -> Repository:
    folder.mkdir()
    hosts, phrase = folder / "known_hosts", folder / "passphrase"
    hosts.write_text(known_hosts)
    phrase.write_text(passphrase)
    auth = SshAuth(key_file=key, known_hosts_file=hosts, passphrase_file=phrase if passphrase else None)
    return Repository(url=server.url("fleet"), auth=auth)


@asynccontextmanager
async def mirror_of(
    server: OpenSshServer, folder: Path, known_hosts: str, key: Path, passphrase: str = ""
) -> AsyncIterator[GitMirror]:
    """A mirror with these files beside it: `known_hosts` and `passphrase`."""
    repository = over_ssh(server, folder, known_hosts, key, passphrase)
    mirror = GitMirror(folder / "mirror", repository, timedelta(minutes=1), agent="gitsyncd/test (edge)")
    try:
        yield mirror
    finally:
        await mirror.close()


def hashed(known_hosts: str, folder: Path) -> str:
    file = folder / "to-hash"
    file.write_text(known_hosts)
    keygen("-H", "-f", file)
    return file.read_text()


@pytest.mark.parametrize("algorithm", ["ed25519", "ecdsa", "rsa"])
@pytest.mark.parametrize("protocol_2", [True, False], ids=["protocol-2", "protocol-0"])
async def test_a_clone_and_what_was_pushed_since_come_from_openssh_with_hashed_known_hosts(
    tmp_path: Path, algorithm: str, protocol_2: bool
) -> None:
    """A server that takes no GIT_PROTOCOL, which is how most are installed, is spoken to in the old protocol."""
    with OpenSshServer(tmp_path / "srv", host_key=algorithm, protocol_2=protocol_2) as server:
        repo = server.create("fleet")
        key = server.client_key("key", algorithm, PASSPHRASE)
        known_hosts = hashed(server.known_hosts, tmp_path)
        assert server.name not in known_hosts
        async with mirror_of(server, tmp_path / "m", known_hosts, key, PASSPHRASE) as mirror:
            first = repo.commit({"a.yaml": "a: 1"})
            assert await mirror.update(["main", "other"]) == {"main": first, "other": None}

            second = repo.commit({"b.yaml": os.urandom(1_500_000).hex()})
            assert await mirror.update(["main"]) == {"main": second}

            assert {file.path for file in (await mirror.snapshot(second, "")).files} == {"a.yaml", "b.yaml"}


async def test_a_connection_that_openssh_ended_is_made_anew(tmp_path: Path) -> None:
    with OpenSshServer(tmp_path / "srv") as server:
        repo = server.create("fleet")
        async with mirror_of(server, tmp_path / "m", server.known_hosts, server.client_key("key")) as mirror:
            await mirror.update(["main"])
            server.restart()
            head = repo.commit({"a.yaml": "a: 1"})

            assert await mirror.update(["main"]) == {"main": head}


async def test_a_certificate_that_ssh_keygen_signed_is_trusted_until_it_is_revoked(tmp_path: Path) -> None:
    with OpenSshServer(tmp_path / "srv") as server:
        head = server.create("fleet").commit({"a.yaml": "a: 1"})
        authority = server.new_key("authority")
        server.certify(authority)
        server.restart()
        line = f"@cert-authority {server.name} {server.public(authority)}\n"
        async with mirror_of(server, tmp_path / "m", line, server.client_key("key")) as mirror:
            assert await mirror.update(["main"]) == {"main": head}

            (tmp_path / "m/known_hosts").write_text(f"{line}@revoked * {server.public(server.host_key)}\n")
            with pytest.raises(SourceDenied, match="@revoked"):
                await mirror.update(["main"])


def _changed(server: OpenSshServer, other: Path) -> str:
    return f"{server.name} {server.public(other)}\n"


def _unknown(server: OpenSshServer, _: Path) -> str:
    return f"elsewhere {server.public(server.host_key)}\n"


def _revoked(server: OpenSshServer, _: Path) -> str:
    return server.known_hosts + f"@revoked {server.name} {server.public(server.host_key)}\n"


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        (_changed, "has changed, or somebody else answers"),
        (_unknown, "no key that can be used"),
        (_revoked, "@revoked"),
    ],
)
async def test_nothing_is_fetched_from_openssh_with_another_key_and_the_fingerprint_is_that_of_ssh_keygen(
    tmp_path: Path, listed: Callable[[OpenSshServer, Path], str], words: str
) -> None:
    with OpenSshServer(tmp_path / "srv") as server:
        server.create("fleet").commit({"a.yaml": "a: 1"})
        known_hosts = listed(server, server.new_key("other"))
        async with mirror_of(server, tmp_path / "m", known_hosts, server.client_key("key")) as mirror:
            with pytest.raises(SourceDenied, match=words) as caught:
                await mirror.update(["main"])

    assert server.fingerprint(server.host_key) in str(caught.value)
    assert not list((tmp_path / "m/mirror").glob("objects/pack/*"))


async def test_openssh_that_does_not_know_the_key_is_told_by_its_fingerprint(tmp_path: Path) -> None:
    with OpenSshServer(tmp_path / "srv") as server:
        server.create("fleet").commit({"a.yaml": "a: 1"})
        stranger = server.new_key("stranger")
        async with mirror_of(server, tmp_path / "m", server.known_hosts, stranger) as mirror:
            with pytest.raises(SourceDenied, match="refuses the key") as caught:
                await mirror.update(["main"])

    assert server.fingerprint(stranger) in str(caught.value)
