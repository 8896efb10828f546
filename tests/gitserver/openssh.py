"""OpenSSH's own server on loopback, as the user who runs the tests: another opinion than that of asyncssh on both ends.

    with OpenSshServer(folder, host_key="ed25519") as server:
        repo = server.create("fleet")
        key_file = server.client_key("key")
        known_hosts.write_text(server.known_hosts)
        ... server.url("fleet") ...

Keys, certificates and fingerprints are made by ssh-keygen.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.gitserver.repository import Repo

_SEPARATED = Path("/run/sshd")
_SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")


def unavailable() -> str:
    """Why there is no such server on this machine; empty if there is."""
    if _SSHD is None or shutil.which("ssh-keygen") is None:
        return "this machine has no sshd or no ssh-keygen"
    if os.geteuid() == 0 and not _SEPARATED.is_dir():
        return f"sshd wants {_SEPARATED} when root starts it"
    try:
        shell = pwd.getpwuid(os.geteuid()).pw_shell
    except KeyError:
        return "this user has no name to log in by"
    return f"this user's shell is {shell}" if shell.endswith(("nologin", "false")) else ""


def keygen(*args: str | Path) -> str:
    return subprocess.run(["ssh-keygen", *args], capture_output=True, text=True, check=True).stdout


class OpenSshServer:
    """All repositories of one folder, at `ssh://USER@127.0.0.1:PORT/FOLDER/NAME.git`."""

    def __init__(self, folder: Path, *, host_key: str = "ed25519", protocol_2: bool = True) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.host_key = self.new_key("host", host_key)
        self.certificate: Path | None = None
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        self.port = 0
        self._protocol_2 = protocol_2
        self._process: subprocess.Popen[str] | None = None

    def create(self, name: str) -> Repo:
        return Repo(self.folder / f"{name}.git")

    def url(self, name: str) -> str:
        return f"ssh://{self.user}@127.0.0.1:{self.port}{self.folder}/{name}.git"

    def new_key(self, name: str, algorithm: str = "ed25519", passphrase: str = "") -> Path:
        keygen("-q", "-t", algorithm, "-N", passphrase, "-C", "test", "-f", self.folder / name)
        return self.folder / name

    def client_key(self, name: str, algorithm: str = "ed25519", passphrase: str = "") -> Path:
        """A new private key that may come in."""
        key = self.new_key(name, algorithm, passphrase)
        with (self.folder / "authorized_keys").open("a") as file:
            file.write(f"restrict {self.public(key)}\n")
        return key

    def certify(self, authority: Path) -> None:
        """From the next start on, the host key is shown with a certificate."""
        keygen("-q", "-s", authority, "-I", "host", "-h", "-n", "127.0.0.1", f"{self.host_key}.pub")
        self.certificate = Path(f"{self.host_key}-cert.pub")

    @staticmethod
    def public(key: Path) -> str:
        """Kind and base64, as a line of a known_hosts file ends."""
        return " ".join(Path(f"{key}.pub").read_text().split()[:2])

    @staticmethod
    def fingerprint(key: Path) -> str:
        return keygen("-l", "-f", f"{key}.pub").split()[1]

    @property
    def name(self) -> str:
        """As a known_hosts file calls this server."""
        return f"[127.0.0.1]:{self.port}"

    @property
    def known_hosts(self) -> str:
        return f"{self.name} {self.public(self.host_key)}\n"

    def __enter__(self) -> Self:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def restart(self) -> None:
        """At the same port, with the host key and the certificate that are set now."""
        self._stop()
        self._start()

    def _start(self) -> None:
        options = {
            "Port": self.port,
            "ListenAddress": "127.0.0.1",
            "HostKey": self.host_key,
            "AuthorizedKeysFile": self.folder / "authorized_keys",
            "StrictModes": "no",
            "UsePAM": "no",
            "PermitRootLogin": "prohibit-password",
            "PasswordAuthentication": "no",
            "PidFile": "none",
        }
        if self.certificate is not None:
            options["HostCertificate"] = self.certificate
        if self._protocol_2:
            options["AcceptEnv"] = "GIT_PROTOCOL"
        config = self.folder / "sshd_config"
        config.write_text("".join(f"{key} {value}\n" for key, value in options.items()))
        assert _SSHD is not None
        self._process = subprocess.Popen(
            [_SSHD, "-D", "-e", "-f", str(config)], stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:
            said.append(line)
            if "Server listening" in line:
                return
        raise RuntimeError(f"sshd did not start: {''.join(said)}")

    def _stop(self) -> None:
        if self._process is not None:
            # A server's connections are processes of its own, and outlive it.
            for child in _children(self._process.pid):
                _end(child)
            self._process.terminate()
            self._process.communicate(timeout=30)
            self._process = None


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _end(pid: int) -> None:
    try:
        os.kill(pid, 15)
    except ProcessLookupError:
        """It had ended by itself."""
