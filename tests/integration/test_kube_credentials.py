"""Credentials of a cluster that are replaced on disk under a client that works, against a real API server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pytest

from gitsyncd.edges.kube.client import Call, Client
from gitsyncd.edges.kube.connect import AccessSource
from gitsyncd.model.errors import ClusterDenied, ClusterError, ClusterUnreachable
from gitsyncd.model.target import Agent, InCluster, Kubeconfig, Server
from gitsyncd.model.target import Cluster as ClusterFacts
from tests.gitserver.certificates import Authority
from tests.sandbox import Cluster

pytestmark = pytest.mark.real

WITHIN_S = 20.0
"""Shorter than any poll that a cluster is given."""


class Front:
    """What stands before an API server with a certificate of its own, and knows how many connections are open."""

    def __init__(self, port: int, authority: Authority) -> None:
        self._target = port
        self._there = ssl.create_default_context()
        self._there.check_hostname, self._there.verify_mode = False, ssl.CERT_NONE
        self._authority = authority
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.open: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        here = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        here.load_cert_chain(*self._authority.server_certificate("127.0.0.1"))
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=here)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self.open:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def present(self, authority: Authority) -> None:
        """Go on with a certificate of this authority, as after a restart."""
        await self.__aexit__()
        self._authority = authority
        await self.__aenter__()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target, ssl=self._there)
        self.open.add(writer)
        for source, sink in ((reader, back), (there, writer)):
            self._tasks.add(asyncio.create_task(self._carry(source, sink, writer)))

    async def _carry(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, writer: asyncio.StreamWriter
    ) -> None:
        try:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
        finally:
            sink.transport.abort()
            self.open.discard(writer)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca", "first")


@pytest.fixture
async def front(bare_cluster: Cluster, authority: Authority) -> AsyncIterator[Front]:
    async with Front(bare_cluster.port, authority) as made:
        yield made


@pytest.fixture
async def clients() -> AsyncIterator[list[Client]]:
    made: list[Client] = []
    yield made
    for client in made:
        await client.close()


@pytest.fixture
def space(bare_cluster: Cluster, namespace: str) -> str:
    bare_cluster.create_namespace(namespace)
    return namespace


def client_of(clients: list[Client], connection: Server | Kubeconfig, agent: Agent | None = None) -> Client:
    source = AccessSource(ClusterFacts(name="eu", connection=connection), agent)
    clients.append(Client(source, cluster="eu", agent="edge", parallel=4))
    return clients[-1]


async def who(client: Client) -> str:
    """As whom the API server sees us."""
    body = b'{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}'
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    answer: Any = json.loads(await client.send(Call(method="POST", verb="create", path=path, body=body)))
    return str(answer["status"]["userInfo"]["username"])


async def until(fact: Callable[[], Awaitable[bool]], what: str) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WITHIN_S):
            while not await fact():  # noqa: ASYNC110 - nothing in this process knows it
                await asyncio.sleep(0.1)
            return
    raise AssertionError(f"not within {WITHIN_S} s: {what}")


async def until_seen_as(client: Client, user: str) -> None:
    async def is_seen() -> bool:
        return await who(client) == user

    await until(is_seen, f"seen as {user}")


def project(folder: Path, **files: str) -> None:
    """As the kubelet does: a folder of its own for each version, and one link that is swapped."""
    version = folder / f"..{len(list(folder.iterdir()))}"
    version.mkdir()
    for name, text in files.items():
        (version / name).write_text(text)
        with contextlib.suppress(FileExistsError):
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..next").symlink_to(version.name)
    os.rename(folder / "..next", folder / "..data")  # noqa: PTH104 - over a link that exists


async def test_a_projected_token_that_is_swapped_is_used_and_the_old_connection_closed(
    bare_cluster: Cluster, front: Front, authority: Authority, clients: list[Client], space: str, tmp_path: Path
) -> None:
    folder = tmp_path / "projected"
    folder.mkdir()
    project(folder, token=bare_cluster.service_account_token(space, "first"))
    connection = Server(url=f"https://127.0.0.1:{front.port}", ca_file=authority.ca_file, token_file=folder / "token")
    client = client_of(clients, connection)
    assert await who(client) == f"system:serviceaccount:{space}:first"
    (old,) = front.open

    project(folder, token=bare_cluster.service_account_token(space, "second"))
    await until_seen_as(client, f"system:serviceaccount:{space}:second")

    async def closed() -> bool:
        return old not in front.open

    await until(closed, "the old connection closed")
    assert len(front.open) == 1


async def test_a_kubeconfig_that_is_replaced_is_used_and_one_that_is_half_written_is_not(
    bare_cluster: Cluster, clients: list[Client], space: str, tmp_path: Path
) -> None:
    def written_for(account: str) -> str:
        user = f"{space}:{account}"
        return bare_cluster.kubeconfig_for(user, token=bare_cluster.service_account_token(space, account)).read_text()

    file = tmp_path / "kubeconfig"
    file.write_text(written_for("first"))
    client = client_of(clients, Kubeconfig(file=file))
    first = await who(client)
    second = written_for("second")

    file.write_text(second[: len(second) // 2])
    begun = asyncio.get_running_loop().time()
    seen = set()
    while asyncio.get_running_loop().time() - begun < 3:
        seen.add(await who(client))
        await asyncio.sleep(0.1)
    file.write_text(second)
    await until_seen_as(client, f"system:serviceaccount:{space}:second")

    assert seen == {first} == {f"system:serviceaccount:{space}:first"}


async def test_a_client_certificate_is_exchanged_when_its_key_is_there_too(
    bare_cluster: Cluster, authority: Authority, clients: list[Client], tmp_path: Path
) -> None:
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    foreign_cert, foreign_key = authority.server_certificate("edge")
    cert.write_bytes(foreign_cert.read_bytes())
    key.write_bytes(foreign_key.read_bytes())
    good_cert, good_key = bare_cluster.admin_certificate
    client = client_of(
        clients,
        Server(url=bare_cluster.server, ca_file=bare_cluster.ca_file, client_cert_file=cert, client_key_file=key),
    )
    with pytest.raises(ClusterDenied):
        await who(client)

    cert.write_bytes(good_cert.read_bytes())
    with pytest.raises(ClusterDenied) as between:
        await who(client)
    key.write_bytes(good_key.read_bytes())

    assert await who(client) == "admin-by-certificate"
    assert between.value.expired


async def test_a_server_with_a_certificate_of_a_new_ca_is_not_trusted_until_the_ca_file_has_it(
    bare_cluster: Cluster, front: Front, authority: Authority, clients: list[Client], tmp_path: Path
) -> None:
    trusted, token = tmp_path / "ca.crt", tmp_path / "token"
    trusted.write_bytes(authority.ca_file.read_bytes())
    token.write_text(bare_cluster.admin_token)
    client = client_of(clients, Server(url=f"https://127.0.0.1:{front.port}", ca_file=trusted, token_file=token))
    assert await who(client) == "admin"
    renewed = Authority(tmp_path / "new", "second")

    await front.present(renewed)
    errors = []
    for _ in range(10):
        with pytest.raises(ClusterError) as caught:
            await who(client)
        errors.append(caught.value)
    arrived = len(front.open)
    trusted.write_bytes(renewed.ca_file.read_bytes())

    async def trusts() -> bool:
        with contextlib.suppress(ClusterError):
            return await who(client) == "admin"
        return False

    await until(trusts, "the new CA trusted")
    assert {type(error) for error in errors} <= {ClusterUnreachable, ClusterDenied}
    assert any("certificate" in error.message for error in errors)
    assert arrived == 0


async def test_in_a_pod_the_token_and_the_ca_that_the_kubelet_swaps_together_are_used(
    front: Front,
    bare_cluster: Cluster,
    authority: Authority,
    clients: list[Client],
    space: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(front.port))
    first, second = (bare_cluster.service_account_token(space, account) for account in ("first", "second"))
    project(folder, **{"ca.crt": authority.ca_file.read_text(), "token": first})
    source = AccessSource(ClusterFacts(name="eu", connection=InCluster()), service_account=folder)
    client = Client(source, cluster="eu", agent="edge", parallel=4)
    clients.append(client)
    assert await who(client) == f"system:serviceaccount:{space}:first"

    renewed = Authority(tmp_path / "new", "second")
    project(folder, **{"ca.crt": renewed.ca_file.read_text(), "token": second})
    await front.present(renewed)

    async def seen_as_second() -> bool:
        with contextlib.suppress(ClusterError):
            return await who(client) == f"system:serviceaccount:{space}:second"
        return False

    await until(seen_as_second, "the second token over the new CA")


@dataclass(frozen=True, slots=True)
class Login:
    """A plugin, a kubeconfig that names it, and an agent that lists it."""

    folder: Path
    server: str
    ca_file: Path

    @property
    def program(self) -> Path:
        return self.folder / "login"

    @property
    def runs(self) -> int:
        return len((self.folder / "runs").read_text().splitlines())

    def gives(self, token: str, *, lasts_s: float | None = None) -> None:
        status = {"token": token}
        if lasts_s is not None:
            status["expirationTimestamp"] = (datetime.now(UTC) + timedelta(seconds=lasts_s)).isoformat()
        answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
        fresh = self.folder / "next"
        fresh.write_text(f"#!/bin/sh\necho run >>{self.folder}/runs\necho '{json.dumps(answer)}'\n")
        fresh.chmod(0o755)
        fresh.rename(self.program)

    @property
    def kubeconfig(self) -> Kubeconfig:
        plugin = {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(self.program),
            "interactiveMode": "Never",
        }
        reached = {"server": self.server, "certificate-authority": str(self.ca_file)}
        document = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": reached}],
            "users": [{"name": "u", "user": {"exec": plugin}}],
        }
        file = self.folder / "kubeconfig"
        file.write_text(json.dumps(document))
        return Kubeconfig(file=file)

    @property
    def agent(self) -> Agent:
        return Agent(
            name="edge",
            state_dir=self.folder / "state",
            cluster_namespace="gitsyncd",
            socket=self.folder / "socket",
            exec_plugins=(self.program,),
        )


@pytest.fixture
def login(bare_cluster: Cluster, tmp_path: Path) -> Login:
    return Login(tmp_path, bare_cluster.server, bare_cluster.ca_file)


async def test_a_plugin_is_run_once_more_when_its_token_was_revoked(
    bare_cluster: Cluster, login: Login, clients: list[Client], space: str
) -> None:
    login.gives(bare_cluster.service_account_token(space, "first"))
    client = client_of(clients, login.kubeconfig, login.agent)
    assert await who(client) == f"system:serviceaccount:{space}:first"

    login.gives(bare_cluster.service_account_token(space, "second"))
    bare_cluster.revoke_service_account_tokens(space, "first")
    await until_seen_as(client, f"system:serviceaccount:{space}:second")

    assert login.runs == 2


async def test_a_plugin_is_run_before_its_token_expires_and_no_request_is_refused_for_it(
    bare_cluster: Cluster, login: Login, clients: list[Client], space: str
) -> None:
    login.gives(bare_cluster.service_account_token(space, "first"), lasts_s=6)
    client = client_of(clients, login.kubeconfig, login.agent)
    assert await who(client) == f"system:serviceaccount:{space}:first"

    login.gives(bare_cluster.service_account_token(space, "second"), lasts_s=3600)
    await until_seen_as(client, f"system:serviceaccount:{space}:second")

    assert login.runs == 2
    assert {code for _, code in client.sent} == {"201"}
