"""`git http-backend` behind a threaded web server on loopback: TLS and basic auth if wanted, faults on demand.

    with GitServer(folder) as server:
        repo = server.create("fleet")
        repo.commit({"web/a.yaml": "a: 1"})
        server.fault = Cut(after=1000, at="fetch")
        ... server.url("fleet") ...

Each request is recorded. A fault stays until it is changed, and hits the requests of its kind only.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import unquote, urlsplit

from tests.gitserver.certificates import Authority
from tests.gitserver.repository import BARE_ENVIRONMENT, Repo

Kind = Literal["discovery", "ls-refs", "fetch", "push-discovery", "push"]


@dataclass(frozen=True)
class Request:
    """What a client asked."""

    kind: Kind
    method: str
    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Only for requests of the kind `at`; for all when empty."""

    at: Kind | Literal[""] = ""


@dataclass(frozen=True, kw_only=True)
class Cut(Fault):
    """End the connection after so many bytes of the body."""

    after: int


@dataclass(frozen=True, kw_only=True)
class Stall(Fault):
    """Say nothing more after so many bytes of the body, until the server stops or `released` is set."""

    after: int = 0
    before_headers: bool = False
    released: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, kw_only=True)
class Answer(Fault):
    """This answer in place of the real one."""

    status: int = 200
    body: bytes = b""
    content_type: str = ""
    """Empty for the right one."""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Flip(Fault):
    """Change one byte of the body."""

    at_byte: int


@dataclass(frozen=True, kw_only=True)
class Replace(Fault):
    """Change bytes of the body, wherever they are."""

    old: bytes
    new: bytes


def html_page(at: Kind | Literal[""] = "") -> Answer:
    return Answer(body=b"<html><body>Please log in</body></html>", content_type="text/html; charset=utf-8", at=at)


class GitServer:
    """All repositories of one folder, at `http(s)://127.0.0.1:PORT/NAME.git`."""

    def __init__(
        self,
        folder: Path,
        *,
        authority: Authority | None = None,
        credentials: tuple[str, str] | None = None,
        token: str = "",
        client_certificates: bool = False,
        protocol: Literal[0, 2] = 2,
    ) -> None:
        """Whoever asks needs the credentials, the token, or a certificate of the same authority."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.authority = authority
        self.credentials = credentials
        self.token = token
        self.protocol = protocol
        self.fault: Fault | None = None
        self.pushes = True
        """Whether whoever may read may write."""
        self.redirects: dict[str, str] = {}
        """From a path without its query to a `Location`."""
        self.requests: list[Request] = []
        self._stopping = threading.Event()
        self._server = _Server(("127.0.0.1", 0), self)
        if authority is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*authority.server_certificate("127.0.0.1", "localhost"))
            if client_certificates:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(authority.ca_file)
            self._server.tls = context
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def base(self) -> str:
        return f"{'https' if self.authority else 'http'}://127.0.0.1:{self.port}"

    def url(self, name: str) -> str:
        return f"{self.base}/{name}.git"

    def create(self, name: str) -> Repo:
        return Repo(self.folder / f"{name}.git")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        if isinstance(self.fault, Stall):
            self.fault.released.set()
        self._server.shutdown()
        self._server.end_connections()
        self._server.server_close()
        self._thread.join()

    def stalled(self, fault: Stall) -> None:
        """Wait as long as the fault says."""
        while not fault.released.wait(0.05) and not self._stopping.is_set():
            pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True
    request_queue_size = 64
    tls: ssl.SSLContext | None = None

    def __init__(self, address: tuple[str, int], owner: GitServer) -> None:
        self.owner = owner
        self._connections: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._connections.add(connection)
        return connection, address

    def finish_request(self, request: Any, client_address: Any) -> None:
        # The handshake happens in the connection's own thread: a client that stays silent delays nobody.
        with contextlib.suppress(OSError):
            if self.tls is None:
                super().finish_request(request, client_address)
                return
            with self.tls.wrap_socket(request, server_side=True) as secured:
                self._connections.add(secured)
                super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients of these tests hang up in the middle of everything."""

    def end_connections(self) -> None:
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def _kind(method: str, path: str, body: bytes) -> Kind:
    if "git-receive-pack" in path:
        return "push-discovery" if method == "GET" else "push"
    return "discovery" if method == "GET" else "ls-refs" if b"command=ls-refs" in body else "fetch"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Silent."""

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _serve(self, body: bytes) -> None:
        owner = self.server.owner
        kind = _kind(self.command, self.path, body)
        owner.requests.append(Request(kind, self.command, self.path, dict(self.headers.items())))
        fault = owner.fault
        if fault is not None and fault.at not in {"", kind}:
            fault = None
        if (location := owner.redirects.get(urlsplit(self.path).path)) is not None:
            fault = Answer(status=301, headers={"Location": location})
        if isinstance(fault, Stall) and fault.before_headers:
            owner.stalled(fault)
            self.close_connection = True
            return
        if isinstance(fault, Answer):
            suffix = "advertisement" if self.command == "GET" else "result"
            service = "receive" if kind.startswith("push") else "upload"
            kept = f"application/x-git-{service}-pack-{suffix}"
            headers = {"Content-Type": fault.content_type or kept, **fault.headers}
            self._answer(fault.status, headers, fault.body, None)
            return
        if not self._allowed():
            self._answer(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"", None)
            return
        status, headers, answer = self._backend(body)
        match fault:
            case Flip(at_byte=at_byte) if at_byte < len(answer):
                answer = answer[:at_byte] + bytes([answer[at_byte] ^ 0xFF]) + answer[at_byte + 1 :]
            case Replace(old=old, new=new):
                answer = answer.replace(old, new)
            case _:
                pass
        self._answer(status, headers, answer, fault)

    def _allowed(self) -> bool:
        credentials, token = self.server.owner.credentials, self.server.owner.token
        if token:
            return self.headers.get("Authorization") == f"Bearer {token}"
        if credentials is None:
            return True
        return self.headers.get("Authorization") == "Basic " + b64encode(":".join(credentials).encode()).decode()

    def _backend(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        owner = self.server.owner
        url = urlsplit(self.path)
        environment = {
            **BARE_ENVIRONMENT,
            "GIT_PROJECT_ROOT": str(owner.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": unquote(url.path),
            "QUERY_STRING": url.query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "REMOTE_ADDR": "127.0.0.1",
        }
        if owner.pushes:
            environment["REMOTE_USER"] = "writer"  # for http-backend, whoever is known may push
        if owner.protocol == 2 and "Git-Protocol" in self.headers:
            environment["GIT_PROTOCOL"] = self.headers["Git-Protocol"]
        done = subprocess.run(["git", "http-backend"], input=body, capture_output=True, env=environment)
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        return int(headers.pop("Status", "200").split()[0]), headers, answer

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes, fault: Fault | None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        match fault:
            case Cut(after=after) if after < len(body):
                self.wfile.write(body[:after])
                self.close_connection = True
            case Stall(after=after):
                self.wfile.write(body[:after])
                self.wfile.flush()
                self.server.owner.stalled(fault)
                self.close_connection = True
            case _:
                self.wfile.write(body)
