"""A real registry on loopback, over TLS and with a password: Debian's docker-registry where it is installed, else the
same program, built once: the registry that most others came from.

with Registry(folder) as registry:
    registry.push("team/front", "1.2.3", image())
    ... registry.server, registry.ca_file, registry.username, registry.password ...
"""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time
from base64 import b64encode
from http.client import HTTPSConnection
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from tests.gitserver.certificates import Authority
from tests.registry.images import Image, digest
from tests.sandbox.binaries import REGISTRY, program

_USER, _PASSWORD = "robot", "c0rrect-horse"


def program_file() -> str:
    """Built first where there is none. Raises `BuildFailed`."""
    return shutil.which(REGISTRY.installed) or str(program("registry"))


class Registry:
    """Keeps what is pushed in a folder."""

    username, password = _USER, _PASSWORD

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        authority = Authority(folder / "pki")
        self.ca_file = authority.ca_file
        self._certificate, self._key = authority.server_certificate("127.0.0.1")
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def server(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """At the same port, with what it had."""
        import bcrypt

        password = bcrypt.hashpw(_PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        (self._folder / "htpasswd").write_text(f"{_USER}:{password}\n")
        config = self._folder / "config.yml"
        config.write_text(f"""\
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {self._folder}/data}}, delete: {{enabled: true}}}}
auth: {{htpasswd: {{realm: test, path: {self._folder}/htpasswd}}}}
http:
  addr: {self.server}
  secret: test
  tls: {{certificate: {self._certificate}, key: {self._key}}}
""")
        executable = program_file()
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [executable, "serve", str(config)], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                if self._process.poll() is not None:
                    break
                time.sleep(0.02)
            else:
                return
        raise RuntimeError(f"docker-registry did not start: {(self._folder / 'log').read_text()[-2000:]}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def push(self, repository: str, tag: str, image: Image) -> str:
        """The digest that the tag stands for from now on."""
        for blob in image.blobs:
            location = self._ask("POST", f"/v2/{repository}/blobs/uploads/", wanted=202)
            joint = "&" if "?" in location else "?"
            self._ask("PUT", f"{location}{joint}digest={digest(blob)}", blob, wanted=201)
        for number, (kind, body) in enumerate(image.manifests, 1):
            name = tag if number == len(image.manifests) else digest(body)
            self._ask("PUT", f"/v2/{repository}/manifests/{name}", body, kind=kind, wanted=201)
        return image.digest

    def delete(self, repository: str, digest_: str) -> None:
        """The manifest, and with it every tag that stands for it."""
        self._ask("DELETE", f"/v2/{repository}/manifests/{digest_}", wanted=202)

    def _ask(self, method: str, path: str, body: bytes = b"", *, kind: str = "", wanted: int) -> str:
        """Where the answer says that the thing is."""
        parts = urlsplit(path)
        connection = HTTPSConnection(
            "127.0.0.1", self.port, context=ssl.create_default_context(cafile=self.ca_file), timeout=20
        )
        try:
            login = b64encode(f"{_USER}:{_PASSWORD}".encode()).decode()
            headers = {"Authorization": f"Basic {login}", "Content-Type": kind or "application/octet-stream"}
            connection.request(method, f"{parts.path}?{parts.query}", body, headers)
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status == wanted, (method, path, answer.status, said)
            return answer.headers.get("Location", "")
        finally:
            connection.close()
