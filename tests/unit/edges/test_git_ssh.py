"""Git over SSH, without a server: what is loaded, what is said, and what of the library's words is passed on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import asyncssh
import pytest

from gitsyncd.edges.git.caps import Caps
from gitsyncd.edges.git.ssh import SshRemote
from gitsyncd.model.errors import ConfigError, SourceDenied, SourceError
from gitsyncd.model.source import PasswordAuth, Repository, SshAuth

URL = "ssh://git@git.example.com/fleet.git"
AUTH = SshAuth(key_file=Path("/nonexistent/key"), known_hosts_file=Path("/nonexistent/known_hosts"))
SECRET = "hunter2"
MIRROR = """
import sys
from datetime import timedelta
from pathlib import Path
import gitsyncd.cli, gitsyncd.daemon, gitsyncd.wiring
from gitsyncd.edges.git.mirror import GitMirror
from gitsyncd.model.source import Repository, SshAuth
auth = SshAuth(key_file=Path("key"), known_hosts_file=Path("known_hosts"))
for url in ("https://git.example.com/x", "file:///srv/x"):
    GitMirror(Path("mirror"), Repository(url=url), timedelta(minutes=1), agent="a")
GitMirror(Path("mirror"), Repository(url="git@git.example.com:x", auth=auth), timedelta(minutes=1), agent="a")
print(sorted({"asyncssh", "bcrypt", "cryptography"} & sys.modules.keys()))
"""


def remote() -> SshRemote:
    return SshRemote(Repository(url=URL, auth=AUTH), agent="gitsyncd/1", caps=Caps())


def test_the_library_is_not_loaded_before_a_server_is_asked(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", MIRROR], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize(
    "error",
    [
        asyncssh.PermissionDenied(SECRET),
        asyncssh.KeyExchangeFailed(SECRET),
        asyncssh.ProtocolNotSupported(SECRET),
        asyncssh.ChannelOpenError(1, SECRET),
        asyncssh.ConnectionLost(SECRET),
        asyncssh.DisconnectError(2, SECRET),
        asyncssh.ProtocolError(SECRET),
        OSError(111, SECRET),
        OSError(SECRET),
        TimeoutError(SECRET),
        ValueError(SECRET),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_error_of_the_library_is_translated_without_its_text(error: Exception) -> None:
    translated = remote()._translated(error)

    assert isinstance(translated, SourceError)
    assert str(translated).startswith("ssh://git.example.com/fleet.git")
    assert SECRET not in f"{translated} {translated.hint}"


def test_a_refused_key_is_not_waited_for() -> None:
    assert isinstance(remote()._translated(asyncssh.PermissionDenied("")), SourceDenied)


@pytest.mark.parametrize("auth", [None, PasswordAuth(username="git", password_file=Path("x"))])
def test_an_address_over_ssh_without_a_key_is_refused(auth: PasswordAuth | None) -> None:
    with pytest.raises(ConfigError, match="ssh_key_file"):
        SshRemote(Repository(url=URL, auth=auth), agent="a", caps=Caps())
