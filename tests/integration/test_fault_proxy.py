"""The proxy of the fault tests does what it says: passes everything untouched, and hurts exactly what it is told to hurt."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults import faults
from tests.faults.faults import Fault, asking
from tests.faults.proxy import Proxy, identity, upstream
from tests.gitserver.certificates import Authority
from tests.sandbox import Cluster

pytestmark = pytest.mark.real

PATH = "/api/v1/namespaces/default/configmaps"


class Client:
    """One connection to the API server through the proxy."""

    def __init__(self, proxy: Proxy, cluster: Cluster, authority: Authority) -> None:
        context = ssl.create_default_context(cafile=authority.ca_file)
        self.connection = http.client.HTTPSConnection("127.0.0.1", proxy.port, context=context, timeout=2)
        self._headers = {"Authorization": f"Bearer {cluster.admin_token}", "User-Agent": "tester"}

    def ask(self, method: str = "GET", path: str = "/version", body: Any = None) -> tuple[int, bytes]:
        data = None if body is None else json.dumps(body).encode()
        self.connection.request(method, path, data, {**self._headers, "Content-Type": "application/json"})
        answer = self.connection.getresponse()
        return answer.status, answer.read()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def proxy(bare_cluster: Cluster, authority: Authority) -> Iterator[Proxy]:
    server = upstream("127.0.0.1", bare_cluster.port, ca_file=bare_cluster.ca_file)
    with Proxy(server, identity=identity(authority), seed=7) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy, bare_cluster: Cluster, authority: Authority) -> Iterator[Client]:
    client = Client(proxy, bare_cluster, authority)
    yield client
    client.connection.close()


def test_what_passes_is_untouched_and_recorded(client: Client, proxy: Proxy, bare_cluster: Cluster) -> None:
    direct = bare_cluster.request("GET", "/version")

    assert json.loads(client.ask()[1]) == direct
    assert client.ask("POST", PATH, {"metadata": {"generateName": "a-"}})[0] == 201
    assert len(client.ask(path="/openapi/v2")[1]) > 1_000_000

    assert [(r.method, r.verb, r.resource, r.agent) for r in proxy.requests] == [
        ("GET", "", "", "tester"),
        ("POST", "create", "configmaps", "tester"),
        ("GET", "", "", "tester"),
    ]
    assert proxy.connections["accepted"] == 1


def test_a_watch_is_passed_on_event_by_event(client: Client, proxy: Proxy, bare_cluster: Cluster) -> None:
    version = bare_cluster.request("GET", PATH)["metadata"]["resourceVersion"]
    client.connection.request("GET", f"{PATH}?watch=1&resourceVersion={version}", headers=client._headers)
    answer = client.connection.getresponse()

    bare_cluster.request("POST", PATH, {"metadata": {"generateName": "watched-"}})

    event = json.loads(answer.readline())
    assert event["type"] == "ADDED"
    assert proxy.requests[-1].verb == "watch"


# OpenSSL as Python 3.11 uses it tells a reset as an end.
ENDED = (ConnectionError, http.client.HTTPException, ssl.SSLError)
ENDS: dict[str, tuple[Fault, type[Exception] | tuple[type[Exception], ...]]] = {
    "request cut": (faults.CutRequest(20), ENDED),
    "request cut by a farewell": (faults.CutRequest(20, reset=False), ENDED),
    "answer cut in its head": (faults.CutAnswer(5), ENDED),
    "answer cut in its body": (faults.CutAnswer(5000, reset=False), http.client.IncompleteRead),
    "no HTTP": (faults.Raw(), http.client.BadStatusLine),
    "swallowed": (faults.Swallow(), TimeoutError),
    "answer stalled": (faults.StallAnswer(5000), TimeoutError),
    "too short": (faults.Change(lambda body: body, length_is=10), http.client.IncompleteRead),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_request_that_is_hit_ends_as_it_should_and_the_next_one_is_answered(
    client: Client, proxy: Proxy, name: str
) -> None:
    fault, error = ENDS[name]
    rule = proxy.put(fault, when=asking(path="^/api/v1$"), times=1)

    with pytest.raises(error):
        client.ask(path="/api/v1")

    client.connection.close()
    assert client.ask(path="/api/v1")[0] == 200
    assert rule.hits == 1


def test_a_write_whose_answer_is_lost_has_happened(client: Client, proxy: Proxy, bare_cluster: Cluster) -> None:
    proxy.put(faults.CutAnswer(0), when=asking("create"))

    with pytest.raises(ENDED):
        client.ask("POST", PATH, {"metadata": {"name": "answer-lost"}})

    assert bare_cluster.request("GET", f"{PATH}/answer-lost")["metadata"]["name"] == "answer-lost"


def test_a_strike_is_before_or_after_the_deed(client: Client, proxy: Proxy, bare_cluster: Cluster) -> None:
    seen: list[set[str]] = []

    def look(_: Any) -> None:
        names = {item["metadata"]["name"] for item in bare_cluster.request("GET", PATH)["items"]}
        seen.append(names & {"before", "after"})

    proxy.put(faults.Strike(look), when=asking("create", body=b"before"), times=1)
    proxy.put(faults.Strike(look, answered=True), when=asking("create", body=b"after"), times=1)
    for name in ("before", "after"):
        with pytest.raises(ENDED):
            client.ask("POST", PATH, {"metadata": {"name": name}})
        client.connection.close()

    assert seen == [set(), {"after"}]


def test_answers_can_be_made_up_and_changed(client: Client, proxy: Proxy) -> None:
    proxy.put(faults.too_many(3), times=1)
    proxy.put(faults.forbidden(), times=1)
    proxy.put(faults.Change(faults.half), times=1)

    assert client.ask()[0] == 429
    status, said = client.ask(path="/apis/apps/v1/deployments")
    assert status == 403 and b'cannot list resource \\"deployments\\" in API group \\"apps\\"' in said
    status, broken = client.ask()
    assert status == 200
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        json.loads(broken)


def test_some_requests_pass_before_one_is_hit_and_chance_follows_the_seed(client: Client, proxy: Proxy) -> None:
    proxy.put(faults.status(503), skip=2, times=1)
    assert [client.ask()[0] for _ in range(4)] == [200, 200, 503, 200]

    proxy.put(faults.status(500), chance=0.5)
    first = [client.ask()[0] for _ in range(12)]
    assert set(first) == {200, 500}


def test_nobody_listens_until_it_is_healed(client: Client, proxy: Proxy) -> None:
    assert client.ask()[0] == 200
    proxy.put(faults.Refuse())

    with pytest.raises(ENDED):
        client.ask()
    client.connection.close()
    with pytest.raises(ConnectionRefusedError):
        client.ask()
    client.connection.close()

    proxy.heal()
    assert client.ask()[0] == 200


@pytest.mark.parametrize("fault", [faults.Mute(), faults.BlackHole()])
def test_new_connections_are_met_with_silence(
    client: Client, proxy: Proxy, authority: Authority, bare_cluster: Cluster, fault: Fault
) -> None:
    assert client.ask()[0] == 200
    proxy.put(fault)

    with pytest.raises(TimeoutError):
        Client(proxy, bare_cluster, authority).ask()

    if isinstance(fault, faults.Mute):
        assert client.ask()[0] == 200, "those that stood go on"
    else:
        with pytest.raises(TimeoutError):
            client.ask()
        proxy.heal()
        client.connection.close()
    proxy.heal()
    assert client.ask()[0] == 200


def test_a_certificate_is_replaced(client: Client, proxy: Proxy, authority: Authority, tmp_path: Path) -> None:
    wrong = {
        "unable to get local issuer|self-signed": identity(Authority(tmp_path / "other", name="another CA")),
        "IP address mismatch": identity(authority, "example.com"),
        "expired": identity(authority, "127.0.0.1", days=(-9, -2)),
    }
    for reason, shown in wrong.items():
        proxy.put(faults.Certificate(shown))
        client.connection.close()
        with pytest.raises(ssl.SSLCertVerificationError, match=reason):
            client.ask()
        client.connection.close()
        proxy.heal()

    assert client.ask()[0] == 200


def test_what_is_no_tls_is_said(client: Client, proxy: Proxy) -> None:
    proxy.put(faults.Babble())
    with pytest.raises(ssl.SSLError):
        client.ask()


def test_a_slow_line_delivers_everything(client: Client, proxy: Proxy) -> None:
    whole = client.ask(path="/api/v1")[1]
    proxy.put(faults.Slow(latency_s=0.05, bytes_per_s=200_000))
    assert client.ask(path="/api/v1")[1] == whole


def test_without_an_identity_it_is_a_plain_relay(bare_cluster: Cluster) -> None:
    with Proxy(upstream("127.0.0.1", bare_cluster.port)) as proxy:
        context = ssl.create_default_context(cafile=bare_cluster.ca_file)
        connection = http.client.HTTPSConnection("127.0.0.1", proxy.port, context=context, timeout=2)
        connection.request("GET", "/version", headers={"Authorization": f"Bearer {bare_cluster.admin_token}"})
        assert connection.getresponse().read().startswith(b"{")
        proxy.put(faults.BlackHole())
        connection.request("GET", "/version")
        with pytest.raises(TimeoutError):
            connection.getresponse()
        connection.close()
        with socket.create_connection(("127.0.0.1", proxy.port)):
            pass
