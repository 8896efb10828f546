"""From the agent file to an address, trust and credentials: read from files, refused with a reason, read again."""

from __future__ import annotations

import base64
import os
import ssl
import stat
from pathlib import Path
from typing import Any

import orjson
import pytest

from gitsyncd.edges.kube.connect import AccessSource
from gitsyncd.edges.kube.kubeconfig import Refused, connection
from gitsyncd.model.errors import ConfigError
from gitsyncd.model.target import Cluster, InCluster, Kubeconfig, Server
from tests.gitserver.certificates import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def client_pair(authority: Authority) -> tuple[Path, Path]:
    return authority.server_certificate("agent.example.com")


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("first-token\n")
    return file


def write(file: Path, text: str) -> None:
    file.write_text(text)


def swap(file: Path, text: str) -> None:
    """As the kubelet and careful tools replace a file."""
    other = file.with_name("other")
    other.write_text(text)
    other.replace(file)


def remove(file: Path) -> None:
    file.unlink()


def names_in(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


def open_files() -> list[str]:
    """What the descriptors of this process point to."""
    return [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]


def by_server(authority: Authority, **more: Any) -> AccessSource:
    arguments: dict[str, Any] = {"url": "https://10.0.0.1:6443/", "ca_file": authority.ca_file} | more
    connection = Server(**arguments)
    return AccessSource(Cluster(name="eu", connection=connection))


def kubeconfig(**changes: Any) -> dict[str, Any]:
    """A kubeconfig; `cluster`, `user` and any top-level key replace what stands here."""
    cluster = changes.pop("cluster", {"server": "https://10.0.0.1:6443"})
    user = changes.pop("user", {"token": "a-token"})
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "eu",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "eu", "context": {"cluster": "c", "user": "u"}}],
    } | changes


def exec_user(**changes: Any) -> dict[str, Any]:
    section = {"apiVersion": "client.authentication.k8s.io/v1", "command": "login", "interactiveMode": "Never"}
    return {"exec": section | changes}


def facts_of(config: Any, context: str = "", file: Path = Path("/etc/gitsyncd/kubeconfig")) -> dict[str, str]:
    return connection(orjson.dumps(config).decode(), file, context).facts


# --- Server, token and certificate files --------------------------------------------------------------------------------


async def test_a_server_with_its_files_is_read(authority: Authority, token_file: Path) -> None:
    access = await by_server(authority, token_file=token_file).load()

    assert access.server == "https://10.0.0.1:6443"
    assert access.ca == authority.ca_file.read_text()
    assert access.authorization == "Bearer first-token"


async def test_credentials_do_not_show_when_the_facts_are_printed(
    authority: Authority, token_file: Path, client_pair: tuple[Path, Path]
) -> None:
    cert, key = client_pair

    access = await by_server(authority, token_file=token_file, client_cert_file=cert, client_key_file=key).load()

    assert "first-token" not in repr(access)
    assert key.read_text() not in repr(access)


async def test_a_client_certificate_is_loaded_without_a_file_on_any_disk(
    authority: Authority, client_pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = client_pair
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    access = await by_server(authority, client_cert_file=cert, client_key_file=key).load()

    access.tls()

    assert names_in(tmp_path) == []
    assert not [name for name in open_files() if "client-certificate" in name]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"url": "http://10.0.0.1:6443"}, "not https://"),
        ({"url": "https://user:pass@10.0.0.1"}, "not https://"),
        ({"ca_file": Path("/nowhere/ca.pem")}, "CA file /nowhere/ca.pem cannot be read: No such file"),
        ({"token_file": Path("/nowhere/token")}, "token file /nowhere/token cannot be read"),
        ({"client_cert_file": Path("/nowhere/cert")}, "client certificate /nowhere/cert cannot be read"),
    ],
)
async def test_what_cannot_be_used_is_named(authority: Authority, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        await by_server(authority, **changes).load()

    assert says in caught.value.message
    assert caught.value.subject == "cluster eu"


@pytest.mark.parametrize(("content", "says"), [("", "is empty"), ("\n", "is empty"), ("a b", "characters that no token has"), ("a\nX-Evil: 1", "characters")])  # fmt: skip
async def test_a_token_that_is_no_token_is_refused(
    authority: Authority, token_file: Path, content: str, says: str
) -> None:
    write(token_file, content)

    with pytest.raises(ConfigError) as caught:
        await by_server(authority, token_file=token_file).load()

    assert says in caught.value.message


async def test_a_ca_that_is_no_certificate_is_refused(authority: Authority, tmp_path: Path) -> None:
    write(tmp_path / "ca", "-----BEGIN CERTIFICATE-----\nhalf")

    with pytest.raises(ConfigError) as caught:
        await by_server(authority, ca_file=tmp_path / "ca").load()

    assert "CA is no PEM certificate" in caught.value.message


async def test_a_key_of_another_certificate_is_refused(authority: Authority, client_pair: tuple[Path, Path]) -> None:
    _, other_key = authority.server_certificate("other.example.com")

    with pytest.raises(ConfigError) as caught:
        await by_server(authority, client_cert_file=client_pair[0], client_key_file=other_key).load()

    assert "do not belong together" in caught.value.message


async def test_a_file_that_is_rewritten_or_swapped_shows_as_changed(authority: Authority, token_file: Path) -> None:
    source = by_server(authority, token_file=token_file)
    await source.load()
    seen = [source.changed()]

    write(token_file, "second-token")
    seen += [source.changed(), source.changed()]
    await source.load()
    seen.append(source.changed())
    swap(token_file, "third-token!")
    seen += [source.changed(), source.changed()]
    remove(token_file)
    seen += [source.changed(), source.changed()]

    # True only when it has stayed the same since the look before.
    assert seen == [False, False, True, False, False, True, False, True]


async def test_in_a_pod_the_service_account_is_used(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ca.crt").write_text(authority.ca_file.read_text())
    (tmp_path / "token").write_text("pod-token")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")

    access = await AccessSource(Cluster(name="here", connection=InCluster()), service_account=tmp_path).load()

    assert (access.server, access.authorization) == ("https://[fd00::1]:443", "Bearer pod-token")


async def test_outside_of_a_pod_in_cluster_says_what_to_use_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    with pytest.raises(ConfigError) as caught:
        await AccessSource(Cluster(name="here", connection=InCluster())).load()

    assert "inside a pod only" in caught.value.hint


# --- kubeconfig ---------------------------------------------------------------------------------------------------------


async def test_a_kubeconfig_is_read_by_a_child(authority: Authority, tmp_path: Path, token_file: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_bytes(
        orjson.dumps(
            kubeconfig(
                cluster={
                    "server": "https://10.0.0.1:6443",
                    "certificate-authority-data": base64.b64encode(authority.ca_file.read_bytes()).decode(),
                    "tls-server-name": "api.example.com",
                },
                user={"tokenFile": "token"},
            )
        )
    )
    source = AccessSource(Cluster(name="eu", connection=Kubeconfig(file=file)))

    access = await source.load()
    before = source.changed()
    write(token_file, "a-newer-token")

    assert access.server == "https://10.0.0.1:6443"
    assert access.server_name == "api.example.com"
    assert access.ca == authority.ca_file.read_text()
    assert access.authorization == "Bearer first-token"
    assert (before, source.changed(), source.changed()) == (False, False, True)


async def test_a_kubeconfig_without_that_context_names_those_that_it_has(tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_bytes(orjson.dumps(kubeconfig()))

    with pytest.raises(ConfigError) as caught:
        await AccessSource(Cluster(name="eu", connection=Kubeconfig(file=file, context="us"))).load()

    assert caught.value.message == f"kubeconfig {file}: it has no context 'us'"
    assert caught.value.hint == "It has: eu."


async def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        await AccessSource(Cluster(name="eu", connection=Kubeconfig(file=tmp_path / "none"))).load()

    assert f"kubeconfig {tmp_path}/none cannot be read: No such file or directory" in str(caught.value)


def test_files_named_in_a_kubeconfig_are_found_beside_it() -> None:
    config = kubeconfig(
        cluster={"server": "https://a", "certificate-authority": "ca.pem"},
        user={"client-certificate": "/abs/cert.pem", "client-key": "key.pem"},
    )

    assert facts_of(config) == {
        "server": "https://a",
        "ca_file": "/etc/gitsyncd/ca.pem",
        "cert_file": "/abs/cert.pem",
        "key_file": "/etc/gitsyncd/key.pem",
    }


def test_a_context_may_be_chosen_and_may_have_no_user() -> None:
    config = kubeconfig(contexts=[{"name": "anonymous", "context": {"cluster": "c"}}])

    assert facts_of(config, "anonymous") == {"server": "https://10.0.0.1:6443"}


def test_a_user_may_log_in_by_password() -> None:
    assert facts_of(kubeconfig(user={"username": "joe", "password": "p"})) == {
        "server": "https://10.0.0.1:6443",
        "username": "joe",
        "password": "p",
    }


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (kubeconfig(user={"exec": "TOP-SECRET"}), "its `exec` is no mapping"),
        (kubeconfig(user=exec_user(apiVersion="TOP-SECRET")), "`apiVersion` that is not supported"),
        (kubeconfig(user=exec_user(apiVersion=None)), "no usable `apiVersion`"),
        (kubeconfig(user=exec_user(command="")), "no usable `command`"),
        (kubeconfig(user=exec_user(args="TOP-SECRET")), "`args` of its `exec` is no list"),
        (kubeconfig(user=exec_user(args=["TOP-SECRET", 5])), "`args` of its `exec` is no list"),
        (kubeconfig(user=exec_user(args=["TOP-SECRET\0"])), "`args` of its `exec` is no list"),
        (kubeconfig(user=exec_user(env={"A": "TOP-SECRET"})), "`env` of its `exec` is no list"),
        (kubeconfig(user=exec_user(env=[{"name": "A=B", "value": "TOP-SECRET"}])), "`env` of its `exec` is no list"),
        (kubeconfig(user=exec_user(env=[{"name": "TOP-SECRET"}])), "`env` of its `exec` is no list"),
        (kubeconfig(user=exec_user(interactiveMode="Always")), "needs a person at a terminal"),
        (kubeconfig(user=exec_user(interactiveMode=None)), "needs a person at a terminal"),
        (kubeconfig(user=exec_user() | {"as": "TOP-SECRET"}), "impersonates another user"),
        (kubeconfig(user={"auth-provider": {"name": "gcp", "config": {"id-token": "TOP-SECRET"}}}), "auth-provider"),
        (kubeconfig(user={"as": "somebody", "token": "TOP-SECRET"}), "impersonates another user"),
        (kubeconfig(cluster={"server": "https://a", "insecure-skip-tls-verify": True}), "turns off the check"),
        (kubeconfig(cluster={}), "has no usable `server`"),
        (kubeconfig(cluster={"server": 5}), "has no usable `server`"),
        (kubeconfig(cluster={"server": "https://a", "certificate-authority-data": "%%%"}), "not base64"),
        (kubeconfig(clusters=[]), "it has no cluster 'c'"),
        (kubeconfig(users=[{"name": "v", "user": {"token": "TOP-SECRET"}}]), "it has no user 'u'"),
        (kubeconfig(users=["TOP-SECRET"]), "it has no user 'u'"),
        (kubeconfig(contexts="TOP-SECRET"), "it has no context 'eu'"),
        (kubeconfig(**{"current-context": ""}), "no current context"),
        ([], "it is no kubeconfig"),
        ("TOP-SECRET", "it is no kubeconfig"),
        (None, "it is empty"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_says_why_and_quotes_nothing(config: Any, says: str) -> None:
    with pytest.raises(Refused) as caught:
        facts_of(config)

    assert says in str(caught.value)
    assert "TOP-SECRET" not in f"{caught.value} {caught.value.hint}"


def test_a_kubeconfig_that_is_no_yaml_says_the_line_and_quotes_nothing() -> None:
    with pytest.raises(Refused) as caught:
        connection("a: b\nusers: [TOP-SECRET\n", Path("/x"), "")

    assert str(caught.value) == "it is no YAML (line 3)"


async def test_nothing_that_a_kubeconfig_names_is_run(tmp_path: Path) -> None:
    program, trace = tmp_path / "plugin", tmp_path / "trace"
    program.write_text(f"#!/bin/sh\ntouch {trace}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    file = tmp_path / "kubeconfig"
    file.write_bytes(orjson.dumps(kubeconfig(user=exec_user(command=str(program)))))

    with pytest.raises(ConfigError) as caught:
        await AccessSource(Cluster(name="eu", connection=Kubeconfig(file=file))).load()

    assert "trace" not in names_in(tmp_path)
    assert "service account" in caught.value.hint


async def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(authority: Authority, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "token")

    with pytest.raises(ConfigError) as caught:
        await by_server(authority, token_file=tmp_path / "token").load()

    assert "is not a regular file" in caught.value.message


async def test_the_keys_of_tls_sessions_are_never_written_down(
    authority: Authority, token_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))

    context = (await by_server(authority, token_file=token_file).load()).tls()

    assert context.keylog_filename is None
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
