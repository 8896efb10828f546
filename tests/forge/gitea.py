"""A real Gitea on loopback, over TLS: built once, from Go modules.

with Gitea(folder, authority) as gitea:
    ... gitea.repository, gitea.username, gitea.password, gitea.token, gitea.ask("GET", "/repos/…") ...
"""

from __future__ import annotations

import getpass
import http.client
import json
import os
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any, Self

from tests.gitserver.certificates import Authority
from tests.sandbox.binaries import program

PROJECT = "robot/fleet"


class Gitea:
    """One user, and one repository of it with a branch `main`."""

    username, password = "robot", "g1tea-pass"

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.folder = folder
        self.ca_file = authority.ca_file
        certificate, key = authority.server_certificate("127.0.0.1")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        executable = program("gitea")
        self._config = folder / "app.ini"
        self._command = [str(executable), "--config", str(self._config)]
        folder.mkdir(parents=True)
        self._config.write_text(f"""\
RUN_USER = {getpass.getuser()}
RUN_MODE = prod
WORK_PATH = {folder}
I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true
[server]
PROTOCOL = https
CERT_FILE = {certificate}
KEY_FILE = {key}
HTTP_ADDR = 127.0.0.1
HTTP_PORT = {self.port}
ROOT_URL = {self.address}/
STATIC_ROOT_PATH = {executable.parent}
OFFLINE_MODE = true
DISABLE_SSH = true
[database]
DB_TYPE = sqlite3
[security]
INSTALL_LOCK = true
PASSWORD_HASH_ALGO = pbkdf2$1$8
[oauth2]
ENABLED = false
[indexer]
ISSUE_INDEXER_TYPE = db
[log]
MODE = console
LEVEL = Warn
""")
        self.token = ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def repository(self) -> str:
        return f"{self.address}/{PROJECT}.git"

    def __enter__(self) -> Self:
        self._run("migrate")
        login = ["--username", self.username, "--password", self.password, "--email", "robot@example.com"]
        self._run("admin", "user", "create", *login, "--must-change-password=false")
        named = ["--username", self.username, "--token-name", "tests", "--scopes", "all", "--raw"]
        self.token = self._run("admin", "user", "generate-access-token", *named).split()[-1]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, "web"], stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self._env()
            )
        self._wait()
        self.ask("POST", "/user/repos", {"name": "fleet", "auto_init": True, "default_branch": "main"})
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """By the API, below `/api/v1`. Raises `AssertionError` for what it refuses."""
        trust = ssl.create_default_context(cafile=self.ca_file)
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=trust, timeout=30)
        try:
            headers = {"Authorization": f"token {self.token}", "Content-Type": "application/json"}
            connection.request(method, f"/api/v1{path}", None if body is None else json.dumps(body).encode(), headers)
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        assert answer.status < 300, (method, path, answer.status, said)
        return json.loads(said) if said else None

    def _wait(self) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            assert self._process is not None
            if self._process.poll() is not None:
                break
            try:
                self.ask("GET", "/version")
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise RuntimeError(f"Gitea did not start: {(self.folder / 'log').read_text()[-3000:]}")

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._command, *arguments], capture_output=True, text=True, env=self._env(), timeout=120, check=False
        )
        assert done.returncode == 0, (arguments[:3], done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout

    def _env(self) -> dict[str, str]:
        return {**os.environ, "HOME": str(self.folder), "GITEA_WORK_DIR": str(self.folder)}
