"""The mirror over SSH, against a real SSH server that runs the real `git upload-pack`: what is fetched, whom it trusts,
and that every failure has a name, a reason and a fix.
"""

# What happens in the server's thread can only be looked at.
# ruff: noqa: ASYNC110

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from gitsyncd.edges.git import ssh as ssh_module
from gitsyncd.edges.git.caps import Caps
from gitsyncd.edges.git.known_hosts import fingerprint
from gitsyncd.edges.git.mirror import GitMirror
from gitsyncd.model.errors import GitsyncdError, SourceDenied, SourceTooLarge, SourceUnreachable
from gitsyncd.model.source import Repository, SshAuth
from tests.gitserver.server import Answer, Cut, Stall
from tests.gitserver.ssh import SshGitServer, new_key, public_text

pytestmark = pytest.mark.real

MINUTE = timedelta(minutes=1)
PASSPHRASE = "c0rrect-horse"


class Rig:
    """A server with one repository, and a mirror of it that may come in."""

    def __init__(self, server: SshGitServer, folder: Path) -> None:
        self.server = server
        self.repo = server.create("fleet")
        self.key = server.client_key(folder / "key")
        self.known_hosts = folder / "known_hosts"
        self.known_hosts.write_text(server.known_hosts)
        self.passphrase: Path | None = None
        self.folder = folder / "mirror"
        self.mirrors: list[GitMirror] = []

    def mirror(self, *, url: str = "", timeout: timedelta = MINUTE, caps: Caps | None = None) -> GitMirror:
        auth = SshAuth(key_file=self.key, known_hosts_file=self.known_hosts, passphrase_file=self.passphrase)
        repository = Repository(url=url or self.server.url("fleet"), auth=auth)
        self.mirrors.append(GitMirror(self.folder, repository, timeout, agent="gitsyncd/test (edge)", caps=caps))
        return self.mirrors[-1]

    async def refused(self, mirror: GitMirror | None = None) -> GitsyncdError:
        """The next look is denied; and nothing was fetched."""
        error = await self.fails(SourceDenied, mirror)
        assert error.hint
        return error

    async def fails(self, kind: type[GitsyncdError], mirror: GitMirror | None = None) -> GitsyncdError:
        before = self.packs()
        with pytest.raises(kind) as caught:
            await (mirror or self.mirror()).update(["main"])
        assert self.packs() == before
        assert PASSPHRASE not in f"{caught.value} {caught.value.hint}"
        return caught.value

    def packs(self) -> set[str]:
        folder = self.folder / "objects/pack"
        return {path.name for path in folder.iterdir()} if folder.exists() else set()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SshGitServer]:
    with SshGitServer(tmp_path / "srv") as running:
        yield running


@pytest.fixture
async def rig(server: SshGitServer, tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(server, tmp_path)
    yield made
    for mirror in made.mirrors:
        await mirror.close()


async def until(holds: Callable[[], bool]) -> None:
    """What another thread is about to make true."""
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


def descriptors_open() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


# --- what is fetched ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [0, 2])
async def test_a_clone_and_what_was_pushed_since_come_over_one_connection(
    rig: Rig, server: SshGitServer, protocol: int
) -> None:
    server.protocol = protocol  # type: ignore[assignment]
    mirror = rig.mirror()
    first = rig.repo.commit({"a.yaml": "a: 1"})
    assert await mirror.update(["main", "other"]) == {"main": first, "other": None}

    second = rig.repo.commit({"b.yaml": os.urandom(300_000).hex()})
    assert await mirror.update(["main"]) == {"main": second}

    assert {file.path for file in (await mirror.snapshot(second, "")).files} == {"a.yaml", "b.yaml"}
    assert server.connections == 1
    assert set(server.commands) == {"git-upload-pack '/fleet.git'"}


async def test_a_warm_poll_is_one_command_and_no_handshake(rig: Rig, server: SshGitServer) -> None:
    mirror = rig.mirror()
    head = rig.repo.commit({"a.yaml": "a: 1"})
    await mirror.update(["main"])
    commands = len(server.commands)

    for _ in range(3):
        assert await mirror.update(["main"]) == {"main": head}

    assert (len(server.commands) - commands, server.connections) == (3, 1)


async def test_a_connection_that_nobody_uses_is_ended(
    rig: Rig, server: SshGitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_module, "_IDLE_SECONDS", 0.05)
    rig.repo.commit({"a.yaml": "a: 1"})

    await rig.mirror().update(["main"])

    await until(lambda: server.open == 0)


@pytest.mark.parametrize("algorithm", ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp521", "ssh-rsa"])
async def test_keys_of_every_kind_with_a_passphrase_open_the_door(
    rig: Rig, server: SshGitServer, tmp_path: Path, algorithm: str
) -> None:
    head = rig.repo.commit({"a.yaml": "a: 1"})
    rig.key = server.client_key(tmp_path / "other", algorithm, PASSPHRASE)
    rig.passphrase = tmp_path / "passphrase"
    rig.passphrase.write_text(PASSPHRASE + "\n")
    server.host_key = new_key(algorithm)
    server.restart()
    rig.known_hosts.write_text(server.known_hosts)

    assert await rig.mirror().update(["main"]) == {"main": head}


async def test_nothing_of_the_environment_is_looked_at(
    rig: Rig, server: SshGitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home that would open the door, with a key that may come in and a server that is known, opens none."""
    rig.repo.commit({"a.yaml": "a: 1"})
    home = tmp_path / "home/.ssh"
    home.mkdir(parents=True)
    server.client_key(home / "id_ed25519")
    (home / "known_hosts").write_text(server.known_hosts)
    (home / "config").write_text(f"Host *\n  IdentityFile {home}/id_ed25519\n  UserKnownHostsFile {home}/known_hosts\n")
    monkeypatch.setenv("HOME", str(home.parent))
    rig.key.write_bytes(new_key().export_private_key())
    mirror = rig.mirror()
    assert "refuses the key" in str(await rig.refused(mirror))

    rig.known_hosts.write_text("# nothing\n")
    assert "no key that can be used" in str(await rig.refused(mirror))


# --- whom it trusts ----------------------------------------------------------------------------------------------


async def test_a_server_that_is_not_listed_is_told_nothing_and_shown_by_its_fingerprint(
    rig: Rig, server: SshGitServer
) -> None:
    rig.repo.commit({"a.yaml": "a: 1"})
    rig.known_hosts.write_text(f"elsewhere {public_text(server.host_key)}\n")

    error = await rig.refused()

    assert fingerprint(server.host_key.public_data) in str(error)
    assert server.name in str(error)
    assert f"ssh-keyscan -p {server.port} 127.0.0.1" in str(error.hint)
    assert server.commands == []


async def test_a_changed_host_key_is_told_nothing_and_both_fingerprints_are_shown(
    rig: Rig, server: SshGitServer
) -> None:
    head = rig.repo.commit({"a.yaml": "a: 1"})
    mirror = rig.mirror()
    await mirror.update(["main"])
    old, commands = server.host_key, list(server.commands)
    server.host_key = new_key()
    rig.repo.commit({"b.yaml": "b: 1"})
    server.restart()

    error = await rig.refused(mirror)

    assert "has changed, or somebody else answers" in str(error)
    assert fingerprint(old.public_data) in str(error)
    assert fingerprint(server.host_key.public_data) in str(error)
    assert str(rig.known_hosts) in str(error.hint)
    assert server.commands == commands
    assert len((await mirror.snapshot(head, "")).files) == 1


async def test_a_key_that_is_revoked_while_a_connection_is_open_ends_it(rig: Rig, server: SshGitServer) -> None:
    head = rig.repo.commit({"a.yaml": "a: 1"})
    mirror = rig.mirror()
    await mirror.update(["main"])
    commands = list(server.commands)

    rig.known_hosts.write_text(server.known_hosts + f"@revoked * {public_text(server.host_key)}\n")
    error = await rig.refused(mirror)

    assert "@revoked" in str(error)
    assert fingerprint(server.host_key.public_data) in str(error)
    assert server.commands == commands

    rig.known_hosts.write_text(server.known_hosts)
    assert await mirror.update(["main"]) == {"main": head}


async def test_the_key_of_another_kind_is_asked_for_when_that_one_is_listed(rig: Rig, server: SshGitServer) -> None:
    """A server that shows an ECDSA key where an ed25519 key is listed is not taken for the same."""
    rig.repo.commit({"a.yaml": "a: 1"})
    server.host_key = new_key("ecdsa-sha2-nistp256")
    server.restart()

    error = await rig.refused()

    assert "has changed" in str(error)


async def test_a_certificate_of_a_listed_authority_is_trusted_and_of_no_other(rig: Rig, server: SshGitServer) -> None:
    head = rig.repo.commit({"a.yaml": "a: 1"})
    server.authority, other = new_key(), new_key()
    server.restart()

    rig.known_hosts.write_text(f"@cert-authority {server.name} {public_text(server.authority)}\n")
    assert await rig.mirror().update(["main"]) == {"main": head}

    rig.known_hosts.write_text(f"@cert-authority {server.name} {public_text(other)}\n")
    error = await rig.refused()
    assert fingerprint(other.public_data) in str(error)
    assert fingerprint(server.authority.public_data) in str(error)

    line = f"@cert-authority {server.name} {public_text(server.authority)}\n"
    for revoked in (server.authority, server.host_key):
        rig.known_hosts.write_text(line + f"@revoked {server.name} {public_text(revoked)}\n")
        assert "@revoked" in str(await rig.refused())


async def test_a_certificate_for_another_host_is_not_good(rig: Rig, server: SshGitServer) -> None:
    rig.repo.commit({"a.yaml": "a: 1"})
    server.authority, server.principal = new_key(), "elsewhere.example.com"
    server.restart()
    rig.known_hosts.write_text(f"@cert-authority {server.name} {public_text(server.authority)}\n")

    error = await rig.refused()

    assert "what the server shows is not good" in str(error)


# --- its own files -----------------------------------------------------------------------------------------------


async def test_a_key_that_may_not_come_in_is_named_and_its_successor_is_read_without_a_restart(
    rig: Rig, server: SshGitServer, tmp_path: Path
) -> None:
    head = rig.repo.commit({"a.yaml": "a: 1"})
    stranger = new_key()
    right = rig.key.read_bytes()
    rig.key.write_bytes(stranger.export_private_key())
    mirror = rig.mirror()

    error = await rig.refused(mirror)
    assert f"refuses the key {fingerprint(stranger.public_data)} for user 'git'" in str(error)
    assert str(rig.key) in str(error.hint)

    replacement = tmp_path / "new"
    replacement.write_bytes(right)
    replacement.replace(rig.key)
    assert await mirror.update(["main"]) == {"main": head}


async def test_a_replaced_key_is_the_one_that_is_shown_at_the_next_look(
    rig: Rig, server: SshGitServer, tmp_path: Path
) -> None:
    """Though the connection of before is still open: its key may have been taken away from us."""
    rig.repo.commit({"a.yaml": "a: 1"})
    mirror = rig.mirror()
    await mirror.update(["main"])

    server.client_key(tmp_path / "new").replace(rig.key)
    await mirror.update(["main"])

    assert server.connections == 2
    await until(lambda: server.open == 1)


def _wrong_passphrase(rig: Rig, folder: Path) -> None:
    rig.key = rig.server.client_key(folder / "locked", passphrase=PASSPHRASE)
    rig.passphrase = folder / "passphrase"
    rig.passphrase.write_text("another")


def _no_passphrase(rig: Rig, folder: Path) -> None:
    rig.key = rig.server.client_key(folder / "locked", passphrase=PASSPHRASE)


def _no_passphrase_file(rig: Rig, folder: Path) -> None:
    _no_passphrase(rig, folder)
    rig.passphrase = folder / "missing"


def _public_half(rig: Rig, folder: Path) -> None:
    rig.key.write_text(public_text(new_key()))


def _unreadable_revocation(rig: Rig, folder: Path) -> None:
    rig.known_hosts.write_text(rig.server.known_hosts + "@revoked * ssh-ed25519 AAAA\n")


@pytest.mark.parametrize(
    ("spoil", "words", "hint"),
    [
        (_wrong_passphrase, "its passphrase is another one", "ssh_key_passphrase_file"),
        (_no_passphrase, "it has a passphrase and none is configured", "ssh_key_passphrase_file"),
        (_no_passphrase_file, "the passphrase file .*missing cannot be read", "ssh_key_passphrase_file"),
        (_public_half, "holds no private key that is understood", "ssh_key_file"),
        (lambda rig, _: rig.key.write_bytes(b"\x00\xff" * 500), "holds no private key", "ssh_key_file"),
        (lambda rig, _: rig.key.write_bytes(b""), "it is empty", "ssh_key_file"),
        (lambda rig, _: rig.key.write_bytes(b"x" * (1 << 20)), "larger than 64 KiB", "ssh_key_file"),
        (lambda rig, _: rig.key.unlink(), "the private key .* cannot be read", "ssh_key_file"),
        (lambda rig, _: rig.known_hosts.unlink(), "the known_hosts file .* cannot be read", "known_hosts_file"),
        (_unreadable_revocation, "line 2 cannot be read", "line"),
    ],
)
async def test_a_file_that_cannot_be_used_is_named_with_the_key_that_names_it(
    rig: Rig, server: SshGitServer, tmp_path: Path, spoil: Callable[[Rig, Path], None], words: str, hint: str
) -> None:
    rig.repo.commit({"a.yaml": "a: 1"})
    spoil(rig, tmp_path)
    private = rig.key.read_bytes() if rig.key.exists() else b""

    with pytest.raises(SourceDenied, match=words) as caught:
        await rig.mirror().update(["main"])

    assert hint in str(caught.value.hint)
    assert server.connections == 0
    assert not any(line in str(caught.value) for line in private.decode("latin-1").splitlines() if len(line) > 20)


# --- servers that fail -------------------------------------------------------------------------------------------


async def test_a_repository_that_is_not_there_is_told_in_the_words_of_the_server(
    rig: Rig, server: SshGitServer
) -> None:
    error = await rig.refused(rig.mirror(url=server.url("nothing")))

    assert "the server says" in str(error)
    assert "does not appear to be a git repository" in str(error)


@pytest.mark.parametrize("at", ["discovery", "ls-refs", "fetch"])
@pytest.mark.parametrize("after", [0, 1, 40, 3000])
async def test_a_stream_that_is_cut_loses_nothing_and_the_next_look_is_good(
    rig: Rig, server: SshGitServer, at: str, after: int
) -> None:
    rig.repo.commit({"a.yaml": "a: 1"})
    mirror = rig.mirror()
    await mirror.update(["main"])
    if at != "fetch" and after == 3000:
        after = 20
    head = rig.repo.commit({"b.yaml": os.urandom(8000).hex()})
    server.fault = Cut(after=after, at=at)  # type: ignore[arg-type]

    await rig.fails(SourceUnreachable, mirror)

    server.fault = None
    assert await mirror.update(["main"]) == {"main": head}


@pytest.mark.parametrize("at", ["discovery", "ls-refs", "fetch"])
async def test_a_server_that_falls_silent_costs_the_timeout_and_leaves_nothing_behind(
    rig: Rig, server: SshGitServer, at: str
) -> None:
    head = rig.repo.commit({"a.yaml": "a: 1"})
    descriptors, threads = descriptors_open(), threading.active_count()
    server.fault = fault = Stall(after=10, at=at)  # type: ignore[arg-type]
    mirror = rig.mirror(timeout=timedelta(seconds=1.5))

    error = await rig.fails(SourceUnreachable, mirror)

    assert "no complete answer within 1.5s" in str(error)
    await until(lambda: server.open == 0)
    server.fault = None
    fault.released.set()
    rig.mirrors.append(mirror := rig.mirror())
    assert await mirror.update(["main"]) == {"main": head}
    await mirror.close()
    await until(lambda: server.open == 0)
    await until(lambda: descriptors_open() <= descriptors + 2)
    assert threading.active_count() <= threads + 8  # those of the pools of both loops


async def test_a_look_that_is_cancelled_ends_its_connection(rig: Rig, server: SshGitServer) -> None:
    rig.repo.commit({"a.yaml": "a: 1"})
    server.fault = fault = Stall(at="discovery")
    look = asyncio.create_task(rig.mirror().update(["main"]))
    await until(lambda: server.commands != [])

    look.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await look

    assert look.cancelled()
    await until(lambda: server.open == 0)
    fault.released.set()


@pytest.mark.parametrize("at", ["discovery", "ls-refs", "fetch"])
@pytest.mark.parametrize("body", [b"Last login: today\r\n", b"\xff" * 70_000, b"fff0" + b"x" * 10])
async def test_garbage_is_a_named_error_and_no_answer(rig: Rig, server: SshGitServer, at: str, body: bytes) -> None:
    rig.repo.commit({"a.yaml": "a: 1"})
    mirror = rig.mirror(timeout=timedelta(seconds=5))
    server.fault = Answer(body=body, at=at)  # type: ignore[arg-type]

    await rig.fails(SourceUnreachable, mirror)

    server.fault = None
    assert (await mirror.update(["main"]))["main"] == rig.repo.head()


async def test_a_shell_that_greets_is_named_as_such(rig: Rig, server: SshGitServer) -> None:
    rig.repo.commit({"a.yaml": "a: 1"})
    server.greeting = b"Welcome to the machine!\n"

    error = await rig.fails(SourceUnreachable)

    assert "does not answer as a Git server" in str(error)
    assert "shell" in str(error.hint)


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 100_000, b"SSH-1.0-old\r\n"])
async def test_what_listens_there_and_is_no_ssh_server_is_a_named_error(rig: Rig, greeting: bytes) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    listener = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        rig.known_hosts.write_text(f"[127.0.0.1]:{port} {public_text(rig.server.host_key)}\n")

        with pytest.raises((SourceUnreachable, SourceDenied)) as caught:
            await rig.mirror(url=f"ssh://git@127.0.0.1:{port}/x.git", timeout=timedelta(seconds=10)).update(["main"])

    assert caught.value.hint


async def test_a_port_that_is_closed_and_a_name_that_is_none_are_told(rig: Rig) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(SourceUnreachable, match="cannot connect"):
            await rig.mirror(url=f"ssh://git@127.0.0.1:{port}/x.git").update(["main"])
    with pytest.raises(SourceUnreachable, match="cannot be resolved"):
        await rig.mirror(url="git@no-such-host.invalid:x.git").update(["main"])


async def test_a_pack_that_is_too_large_is_refused_before_it_is_all_there(rig: Rig, server: SshGitServer) -> None:
    rig.repo.commit({"a.bin": os.urandom(3 << 20)})

    error = await rig.fails(SourceTooLarge, rig.mirror(caps=Caps(pack_bytes=1 << 20)))

    assert "more than 1 MiB for one fetch" in str(error)
    assert list((rig.folder / "incoming").iterdir()) == []
    await until(lambda: server.open == 0)
