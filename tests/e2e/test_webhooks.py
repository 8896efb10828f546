"""A bell in place of the poll: who may ring, what it does, and how little everybody else gets."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path

import pytest

from tests.e2e.daemon import Agent, Daemon, until
from tests.e2e.fleet import config_map
from tests.gitserver.certificates import Authority
from tests.gitserver.repository import Repo
from tests.registry.images import image
from tests.registry.server import Registry
from tests.sandbox import Cluster

pytestmark = pytest.mark.real

SECRET = "h00k-secret"
MARKED = """\
apiVersion: v1
kind: ConfigMap
metadata: {{name: front}}
data:
  image: {image}:1.0.0  # {{"$imagepolicy": "front"}}
"""


@dataclass(frozen=True, slots=True)
class World:
    daemon: Daemon
    agent: Agent
    repo: Repo
    registry: Registry
    port: int
    authority: Authority

    def post(
        self,
        path: str,
        body: bytes = b"{}",
        *,
        headers: dict[str, str] | None = None,
        method: str = "POST",
        peer: str = "127.0.0.1",
    ) -> int:
        tls = ssl.create_default_context(cafile=self.authority.ca_file)
        connection = HTTPSConnection("127.0.0.1", self.port, context=tls, timeout=20, source_address=(peer, 0))
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            assert answer.read() == b""
            return answer.status
        finally:
            connection.close()

    def push(self, value: str) -> None:
        self.repo.commit({"a.yaml": config_map("settings", value=value)})


def signed(body: bytes, secret: str = SECRET) -> dict[str, str]:
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}", "X-GitHub-Event": "push", "Content-Type": "application/json"}


@pytest.fixture(scope="module")
def world(bare_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("hooks")
    bare_cluster.create_namespace("hooks")
    authority = Authority(folder / "ca")
    chain, key = authority.server_certificate("127.0.0.1")
    (folder / "secret").write_text(f"{SECRET}\n")
    (folder / "registry-password").write_text(Registry.password)
    agent = Agent(folder / "agent", name="hooks")
    agent.cluster("here", bare_cluster.kubeconfig)
    with Registry(folder / "registry") as registry:
        repo = Repo(folder / "fleet.git")
        registry.push("team/front", "1.0.0", image("1"))
        repo.commit(
            {
                "a.yaml": config_map("settings", value="1"),
                "b.yaml": MARKED.format(image=f"{registry.server}/team/front"),
            }
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        secret = str(folder / "secret")
        agent.source("fleet", repo.url, interval="1h", webhook={"kind": "github", "secret_file": secret})
        agent.target("web", path=".", namespace="hooks")
        agent.document["agent"]["webhook"] = {
            "listen": f"127.0.0.1:{port}",
            "tls": {"cert_file": str(chain), "key_file": str(key)},
        }
        agent.document["images"] = {
            "registries": [
                {
                    "prefix": registry.server,
                    "auth": {"username": registry.username, "password_file": str(folder / "registry-password")},
                    "tls": {"ca_file": str(registry.ca_file)},
                    "webhook": {"kind": "quay", "secret_file": secret},
                }
            ],
            "policies": [
                {"name": "front", "image": f"{registry.server}/team/front", "interval": "1h", "select": {"semver": "*"}}
            ],
            "updates": [{"name": "fleet", "source": "fleet"}],
        }
        with agent.start() as daemon:
            daemon.wait_for("webhooks listening")
            daemon.wait_for("target in sync", target="web@here")
            yield World(daemon, agent, repo, registry, port, authority)


def test_a_push_is_live_long_before_the_poll(world: World) -> None:
    mark = world.daemon.now
    world.push("2")
    body = b'{"ref": "refs/heads/main"}'

    assert world.post("/hooks/fleet", body, headers=signed(body)) == 202

    world.daemon.wait_for("object applied", since=mark, object="ConfigMap/hooks/settings")


def test_a_pushed_image_is_committed_long_before_the_next_look(world: World) -> None:
    mark = world.daemon.now
    world.registry.push("team/front", "1.1.0", image("2"))
    body = json.dumps({"docker_url": f"{world.registry.server}/team/front"}).encode()

    assert world.post(f"/image-hooks?token={SECRET}", body) == 202

    world.daemon.wait_for("images committed", since=mark)
    world.daemon.wait_for("object applied", since=mark, object="ConfigMap/hooks/front")


def test_who_does_not_know_the_secret_is_told_nothing_and_changes_nothing(world: World) -> None:
    mark = world.daemon.now
    world.push("3")
    body = b"{}"

    assert world.post("/hooks/fleet", body, headers=signed(body, "another")) == 401
    assert world.post("/hooks/fleet", b"{} ", headers=signed(body)) == 401
    assert world.post("/hooks/fleet") == 401
    assert world.post("/image-hooks?token=another") == 401
    assert world.post("/hooks/other") == 404
    assert world.post("/metrics") == 404
    assert world.post("/") == 404
    assert world.post("/hooks/fleet", method="GET") == 404
    greeting = {**signed(body), "X-GitHub-Event": "ping"}
    assert world.post("/hooks/fleet", body, headers=greeting) == 202
    assert world.daemon.said("source updated", since=mark) == []

    world.post("/hooks/fleet", body, headers=signed(body))
    world.daemon.wait_for("source updated", since=mark)
    assert SECRET not in "".join(json.dumps(line) for line in world.daemon.lines) + world.daemon.stderr


def test_connections_without_a_handshake_are_few_and_short(world: World) -> None:
    silent = [socket.create_connection(("127.0.0.1", world.port), timeout=30) for _ in range(100)]

    def has_ended(connection: socket.socket) -> bool:
        try:
            return connection.recv(1) == b""
        except ConnectionError:
            return True

    assert all(has_ended(connection) for connection in silent)
    for connection in silent:
        connection.close()
    assert world.post("/hooks/other") == 404


def test_a_body_that_is_too_large_is_refused_before_it_is_read(world: World) -> None:
    tls = ssl.create_default_context(cafile=world.authority.ca_file)
    connection = HTTPSConnection("127.0.0.1", world.port, context=tls, timeout=20)
    connection.putrequest("POST", "/hooks/fleet")
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders()

    assert connection.getresponse().status == 413
    connection.close()


def test_a_secret_that_was_replaced_counts_at_once(world: World) -> None:
    file = Path(world.agent.document["sources"][0]["webhook"]["secret_file"])
    body = b"{}"
    file.write_text("another")
    try:
        assert world.post("/hooks/fleet", body, headers=signed(body)) == 401
        assert world.post("/hooks/fleet", body, headers=signed(body, "another")) == 202
        file.write_text("")
        assert world.post("/hooks/fleet", body, headers=signed(body, "")) == 503
    finally:
        file.write_text(SECRET)


def test_a_sender_that_says_nothing_is_not_waited_for(world: World) -> None:
    tls = ssl.create_default_context(cafile=world.authority.ca_file)
    with (
        socket.create_connection(("127.0.0.1", world.port), timeout=30) as plain,
        tls.wrap_socket(plain, server_hostname="127.0.0.1", suppress_ragged_eofs=True) as silent,
    ):
        proof = b"X-Hub-Signature-256: sha256=" + b"0" * 64
        silent.sendall(b"POST /hooks/fleet HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n" + proof + b"\r\n\r\n")
        with contextlib.suppress(ConnectionError):  # ended, one way or the other
            assert silent.recv(1) == b""


def test_one_peer_gets_so_many_requests_and_the_others_go_on(world: World) -> None:
    body = b"{}"

    def refused() -> bool:
        return world.post("/hooks/fleet", body, headers=signed(body), peer="127.0.0.2") == 429

    until(refused, "it is told to slow down", within_s=60)
    assert world.post("/hooks/fleet", body, headers=signed(body)) == 202


def test_plain_http_is_refused_where_there_is_a_certificate(world: World) -> None:
    connection = HTTPConnection("127.0.0.1", world.port, timeout=20)
    connection.request("POST", "/hooks/fleet", b"{}")
    with pytest.raises((OSError, HTTPException)):
        connection.getresponse()
    connection.close()
