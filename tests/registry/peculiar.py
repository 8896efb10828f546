"""A registry of the tests' own, that does what others do, right and wrong."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from tests.registry.images import Image, digest

Answer = tuple[int, dict[str, str], bytes]


class Peculiar:
    """A registry that answers by a function of path and Authorization, on plain HTTP or with TLS; keeps what it heard.

    It knows no HEAD, unless it is given a function for that, too.
    """

    def __init__(
        self,
        answer: Callable[[str, str], Answer],
        tls: ssl.SSLContext | None = None,
        head: Callable[[str, str], Answer] = lambda _path, _authorization: (501, {}, b""),
    ) -> None:
        self.heard: list[tuple[str, str]] = []
        """Paths and credentials of GETs."""
        self.heads: list[str] = []
        """Paths of HEADs."""
        self.forms: list[tuple[str, str]] = []
        """Paths and bodies of POSTs, which are answered as if the body were a query."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                authorization = self.headers.get("Authorization", "")
                outer.heard.append((self.path, authorization))
                self.wfile.write(self._begun(*answer(self.path, authorization)))

            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
                outer.forms.append((self.path, form))
                self.wfile.write(self._begun(*answer(f"{self.path}?{form}", "")))

            def do_HEAD(self) -> None:
                outer.heads.append(self.path)
                self._begun(*head(self.path, self.headers.get("Authorization", "")))

            def _begun(self, status: int, headers: dict[str, str], body: bytes) -> bytes:
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                return body

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def listing(*tags: str) -> bytes:
    return json.dumps({"name": "team/front", "tags": list(tags)}).encode()


def always(status: int = 200, body: bytes = b"", **headers: str) -> Callable[[str, str], Answer]:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return lambda _path, _authorization: (status, named, body)


class Shelf:
    """What a registry of the tests holds: documents by tag and digest. `head` alters what HEAD says."""

    def __init__(self, head: Callable[[Answer], Answer] = lambda answer: answer) -> None:
        self._documents: dict[str, tuple[str, bytes]] = {}
        self._head = head
        self.referrers: dict[str, Answer] = {}
        """By the digest of what is referred to; there is no such list without."""

    def put(self, tag: str, held: Image) -> str:
        """The digest."""
        for blob in held.blobs:
            self._documents[digest(blob)] = ("application/octet-stream", blob)
        for kind, body in held.manifests:
            self._documents[digest(body)] = self._documents[tag] = (kind, body)
        return held.digest

    def remove(self, reference: str) -> None:
        del self._documents[reference]

    def get(self, path: str, _: str) -> Answer:
        _, what, last = path.rsplit("/", 2)
        if what == "referrers":
            return self.referrers.get(last, (404, {}, b""))
        if last not in self._documents:
            return 404, {}, b""
        kind, body = self._documents[last]
        return 200, {"Content-Type": kind, "Docker-Content-Digest": digest(body)}, body

    def head(self, path: str, authorization: str) -> Answer:
        return self._head(self.get(path, authorization))
