"""Programs that a kubeconfig names for credentials: which are run, with what, how often, and what is made of it."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from gitsyncd.edges.kube import client as client_module
from gitsyncd.edges.kube import plugin as plugin_module
from gitsyncd.edges.kube.client import Call, Client
from gitsyncd.edges.kube.connect import AccessSource
from gitsyncd.edges.kube.plugin import Credential, Login, Plugin, listed_as, parsed, renew_at
from gitsyncd.model.errors import ClusterDenied, ConfigError, GitsyncdError
from gitsyncd.model.target import Agent, Cluster, Kubeconfig
from tests.gitserver.certificates import Authority
from tests.unit.edges.kube_server import Scripted

V1 = "client.authentication.k8s.io/v1"
GET = Call(method="GET", verb="get", path="/api/v1/namespaces/a")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Script:
    """A plugin: counts how often it was run, keeps what it was given, then does what it is told to."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "login"
        self._runs = folder / "runs"
        self._given = folder / "given"
        self.does("exit 1")

    def does(self, work: str) -> None:
        keep = f'env -0 >{self._given}; echo "$PWD" >{self._given}.folder; printf \'%s\\n\' "$@" >{self._given}.args'
        self.file.write_text(f"#!/bin/sh\necho run >>{self._runs}\n{keep}\n{work}\n")
        self.file.chmod(0o755)

    def prints(self, version: str = V1, **status: str) -> None:
        answer = {"apiVersion": version, "kind": "ExecCredential", "status": status}
        self.does(f"cat <<'END'\n{orjson.dumps(answer).decode()}\nEND")

    @property
    def runs(self) -> int:
        return len(self._runs.read_text().splitlines()) if self._runs.exists() else 0

    @property
    def environment(self) -> dict[str, str]:
        rows = self._given.read_text().rstrip("\0").split("\0")
        return dict(row.split("=", 1) for row in rows)

    @property
    def folder(self) -> str:
        return Path(f"{self._given}.folder").read_text().strip()

    @property
    def folder_mode(self) -> int:
        return Path(self.folder).stat().st_mode & 0o777

    @property
    def arguments(self) -> list[str]:
        return Path(f"{self._given}.args").read_text().splitlines()


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def passes(self, **time: float) -> None:
        self.now += timedelta(**time)


@pytest.fixture
def script(tmp_path: Path) -> Script:
    folder = tmp_path / "bin"
    folder.mkdir()
    return Script(folder)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def login(script: Script, clock: Clock, tmp_path: Path) -> Login:
    return Login([script.file], tmp_path / "state" / "plugins" / "eu", subject="cluster eu", now=clock)


def plugin(**facts: Any) -> Plugin:
    return Plugin(**{"command": "login", "api_version": V1} | facts)


async def ask(login: Login, asked: Plugin | None = None) -> Credential:
    return await login.credential(asked or plugin(), Path("/etc"))


async def refusal_of(login: Login, asked: Plugin | None = None) -> GitsyncdError:
    with pytest.raises(GitsyncdError) as caught:
        await ask(login, asked)
    return caught.value


# --- what is run ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "means"),
    [
        ("/opt/a/login", "/opt/a/login"),
        ("/opt/a/../a/login", "/opt/a/login"),
        ("./login", "/opt/a/login"),
        ("other", "/opt/a/other"),
        ("login", ""),  # two have that name
        ("/opt/c/login", ""),
        ("../c/login", ""),
        ("sh", ""),
        ("", ""),
    ],
)
def test_a_kubeconfig_chooses_among_the_programs_that_are_listed(command: str, means: str) -> None:
    listed = [Path("/opt/a/login"), Path("/opt/b/login"), Path("/opt/a/other")]

    chosen = listed_as(command, listed, Path("/opt/a"))

    assert chosen == (Path(means) if means else None)


async def test_a_program_that_is_not_listed_is_not_run(script: Script, login: Login, tmp_path: Path) -> None:
    other = Script(tmp_path)
    other.prints(token="t")

    error = await refusal_of(login, plugin(command=str(other.file)))

    assert other.runs == 0
    assert "`agent.exec_plugins` does not list" in error.message
    assert "tokenFile" in error.hint


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o644])
async def test_a_program_that_others_can_write_or_nobody_can_run_is_not_run(
    script: Script, login: Login, mode: int
) -> None:
    script.prints(token="t")
    script.file.chmod(mode)

    error = await refusal_of(login)

    assert script.runs == 0
    assert "mode 0755" in error.hint


async def test_a_program_in_a_folder_that_everybody_can_write_to_is_not_run(script: Script, login: Login) -> None:
    script.prints(token="t")
    script.file.parent.chmod(0o777)

    error = await refusal_of(login)

    assert script.runs == 0
    assert "which everybody can write to" in error.message


async def test_a_program_of_another_user_is_not_run(
    script: Script, login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.prints(token="t")
    if os.geteuid() == 0:
        os.chown(script.file, 65534, 65534)
    else:
        own = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: own + 1)

    error = await refusal_of(login)

    assert script.runs == 0
    assert "belongs to neither root nor the agent's user" in error.message


# --- what it is given ----------------------------------------------------------------------------------------------------


async def test_a_plugin_gets_its_own_variables_and_nothing_of_the_agents_environment(
    script: Script, login: Login, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_SECRET", "hunter2")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    script.prints(token="t")

    await ask(login, plugin(args=("get token", "$HOME; exit 1"), env={"REGION": "eu"}, cluster={"server": "https://a"}))

    given = script.environment
    assert set(given) - {"PWD", "SHLVL", "_", "OLDPWD", "LC_CTYPE"} == {
        "PATH",
        "HOME",
        "LANG",
        "REGION",
        "KUBERNETES_EXEC_INFO",
    }
    assert orjson.loads(given["KUBERNETES_EXEC_INFO"]) == {
        "apiVersion": V1,
        "kind": "ExecCredential",
        "spec": {"interactive": False, "cluster": {"server": "https://a"}},
    }
    assert script.arguments == ["get token", "$HOME; exit 1"]
    assert script.folder == given["HOME"] == str(tmp_path / "state" / "plugins" / "eu")
    assert script.folder_mode == 0o700


@pytest.mark.parametrize(
    "name",
    [
        "LD_PRELOAD",
        "PATH",
        "PYTHONPATH",
        "CLOUDSDK_PYTHON",
        "BASH_ENV",
        "NODE_OPTIONS",
        "PERL5OPT",
        "KUBECONFIG",
        "ENV",
    ],
)
async def test_a_variable_that_could_run_something_else_is_refused(script: Script, login: Login, name: str) -> None:
    script.prints(token="t")

    error = await refusal_of(login, plugin(env={name: "hunter2"}))

    assert script.runs == 0
    assert name in error.message
    assert "hunter2" not in f"{error} {error.hint}"


async def test_variables_that_tell_a_plugin_who_asks_are_given_to_it(script: Script, login: Login) -> None:
    env = {"AWS_PROFILE": "eu", "AZURE_CLIENT_ID": "a", "GITHUB_TOKEN": "b", "LDAP_SERVER": "c", "HOME": "/srv/logins"}
    script.prints(token="t")

    await ask(login, plugin(env=env))

    assert script.environment.items() >= env.items()


# --- what it says --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [V1, "client.authentication.k8s.io/v1beta1"])
async def test_a_plugin_gives_a_token_or_a_certificate(script: Script, login: Login, version: str) -> None:
    script.prints(version, token="t\n", clientCertificateData="C", clientKeyData="K")

    found = await ask(login, plugin(api_version=version))

    assert found == Credential(token="t", cert="C", key="K")
    assert repr(found) == "Credential(expires=None)"


async def test_what_a_plugin_complains_about_is_not_shown_and_its_exit_code_is(script: Script, login: Login) -> None:
    script.does("echo hunter2 >&2; echo hunter2; exit 7")

    error = await refusal_of(login)

    assert error.message == f"the credential plugin {script.file} failed: exit code 7"
    assert "hunter2" not in f"{error} {error.hint}"
    assert "as the agent's user" in error.hint


async def test_a_plugin_that_hangs_is_ended_at_its_deadline(
    script: Script, login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin_module, "DEADLINE", timedelta(seconds=0.5))
    script.does("sleep 3600")

    error = await asyncio.wait_for(refusal_of(login), 30)

    assert error.message.endswith("failed: timed out")


async def test_a_plugin_that_says_too_much_is_ended(script: Script, login: Login) -> None:
    script.does("yes hunter2")

    error = await asyncio.wait_for(refusal_of(login), 30)

    assert error.message.endswith("failed: overflowed")


def answer(**changes: Any) -> bytes:
    return orjson.dumps({"apiVersion": V1, "kind": "ExecCredential", "status": {"token": "hunter2"}} | changes)


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (b"hunter2", "no JSON"),
        (b"", "no JSON"),
        (b"[]", "no ExecCredential"),
        (answer(kind="hunter2"), "no ExecCredential"),
        (answer(apiVersion="client.authentication.k8s.io/v1beta1"), "another version"),
        (answer(status=None), "neither a token nor"),
        (answer(status={"token": ""}), "neither a token nor"),
        (answer(status={"token": 5}), "a token that is no text"),
        (answer(status={"clientCertificateData": "hunter2"}), "without its key"),
        (answer(status={"clientKeyData": "hunter2"}), "a key alone"),
        (answer(status={"token": "hunter2", "expirationTimestamp": "hunter2"}), "no time"),
        (answer(status={"token": "hunter2", "expirationTimestamp": "2026-01-01T00:00:00"}), "without a time zone"),
    ],
)
def test_an_answer_that_is_no_credential_says_why_and_quotes_nothing(output: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        parsed(output, V1)

    assert "hunter2" not in str(caught.value)


# --- how often -----------------------------------------------------------------------------------------------------------


def stamp(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("life_s", "renewed_after_s"),
    [(3600, 3240), (900, 810), (300, 240), (60, 30), (10, 5), (0, 0)],
)
def test_a_credential_is_renewed_before_it_expires_and_not_in_the_first_half_of_its_life(
    life_s: float, renewed_after_s: float
) -> None:
    assert renew_at(NOON, NOON + timedelta(seconds=life_s)) == NOON + timedelta(seconds=renewed_after_s)


async def test_a_plugin_is_run_again_when_its_credential_is_about_to_expire(
    script: Script, login: Login, clock: Clock
) -> None:
    script.prints(token="first", expirationTimestamp=stamp(NOON + timedelta(hours=1)))
    tokens = [(await ask(login)).token]
    script.prints(token="second", expirationTimestamp=stamp(NOON + timedelta(hours=2)))

    clock.passes(minutes=53)
    tokens.append((await ask(login)).token)
    clock.passes(minutes=2)
    tokens.append((await ask(login)).token)

    assert tokens == ["first", "first", "second"]
    assert script.runs == 2


async def test_a_plugin_that_fails_is_left_alone_for_a_while_and_the_old_credential_used_to_its_end(
    script: Script, login: Login, clock: Clock
) -> None:
    script.prints(token="first", expirationTimestamp=stamp(NOON + timedelta(hours=1)))
    await ask(login)
    script.does("exit 7")

    clock.passes(minutes=55)
    still = [(await ask(login)).token for _ in range(5)]
    runs = script.runs
    clock.passes(minutes=6)
    error = await refusal_of(login)

    assert still == ["first"] * 5
    assert runs == 2
    assert "exit code 7" in error.message


async def test_a_credential_that_has_expired_when_it_is_printed_is_refused(script: Script, login: Login) -> None:
    script.prints(token="t", expirationTimestamp=stamp(NOON - timedelta(seconds=1)))

    errors = [await refusal_of(login) for _ in range(5)]

    assert {error.message for error in errors} == {
        f"the credential plugin {script.file} printed a credential that has expired already"
    }
    assert script.runs == 1


# --- with a server -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
async def server(authority: Authority) -> AsyncIterator[Scripted]:
    made = Scripted(authority.server_certificate("127.0.0.1"))
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def client(
    server: Scripted, script: Script, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Client]:
    monkeypatch.setattr(client_module, "_FRESHNESS_S", 0.0)
    monkeypatch.setattr(plugin_module, "RETRY", timedelta())
    user = {"exec": {"apiVersion": V1, "command": "login", "interactiveMode": "Never"}}
    file = tmp_path / "kubeconfig"
    file.write_bytes(
        orjson.dumps(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
                "clusters": [
                    {
                        "name": "k",
                        "cluster": {
                            "server": f"https://127.0.0.1:{server.port}",
                            "certificate-authority": str(authority.ca_file),
                        },
                    }
                ],
                "users": [{"name": "u", "user": user}],
            }
        )
    )
    agent = Agent(
        name="edge",
        state_dir=tmp_path / "state",
        cluster_namespace="gitsyncd",
        socket=tmp_path / "socket",
        exec_plugins=(script.file,),
    )
    source = AccessSource(Cluster(name="eu", connection=Kubeconfig(file=file)), agent)
    made = Client(source, cluster="eu", agent="edge", parallel=32)
    yield made
    await made.close()


def accepts(server: Scripted, *tokens: str) -> None:
    async def look(request: web.Request) -> web.StreamResponse:
        good = request.headers.get("Authorization") in {f"Bearer {token}" for token in tokens}
        return web.Response(body=b"{}", status=200 if good else 401)

    server.script = [look]


async def test_a_token_that_the_server_no_longer_accepts_is_asked_for_once_for_all_requests(
    client: Client, server: Scripted, script: Script
) -> None:
    script.prints(token="first")
    accepts(server, "first")
    await client.send(GET)
    script.prints(token="second")
    accepts(server, "second")

    answers = await asyncio.gather(*(client.send(GET) for _ in range(8)))

    assert answers == [b"{}"] * 8
    assert script.runs == 2


async def test_a_token_that_the_server_does_not_accept_either_is_said_and_not_asked_for_again_and_again(
    client: Client, server: Scripted, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin_module, "RETRY", timedelta(minutes=1))
    script.prints(token="first")
    accepts(server)

    errors = []
    for _ in range(5):
        with pytest.raises(ClusterDenied) as caught:
            await client.send(GET)
        errors.append(caught.value)

    assert script.runs == 1
    assert all(error.expired for error in errors)
    assert not any("first" in f"{error} {error.hint}" for error in errors)


async def test_a_plugin_that_fails_after_a_401_is_named_with_its_exit_code(
    client: Client, server: Scripted, script: Script
) -> None:
    script.prints(token="first")
    accepts(server, "first")
    await client.send(GET)
    script.does("exit 7")
    accepts(server)

    with pytest.raises(ClusterDenied) as caught:
        await client.send(GET)

    assert "(401)" in caught.value.message
    assert "exit code 7" in caught.value.message


async def test_the_next_token_is_fetched_in_the_background_while_requests_go_on_with_the_old_one(
    client: Client, server: Scripted, script: Script, tmp_path: Path
) -> None:
    soon = stamp(datetime.now(UTC) + timedelta(seconds=6))
    script.prints(token="first", expirationTimestamp=soon)
    accepts(server, "first", "second")
    await client.send(GET)
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    later = stamp(datetime.now(UTC) + timedelta(hours=1))
    status = {"token": "second", "expirationTimestamp": later}
    said = orjson.dumps({"apiVersion": V1, "kind": "ExecCredential", "status": status}).decode()
    script.does(f"cat {gate} >/dev/null\necho '{said}'")

    while script.runs < 2:
        await client.send(GET)
        await asyncio.sleep(0.02)
    await client.send(GET)
    used = server.seen[-1].headers["Authorization"]
    await asyncio.to_thread(gate.write_text, "go on")
    while server.seen[-1].headers["Authorization"] != "Bearer second":
        await client.send(GET)
        await asyncio.sleep(0.02)

    assert used == "Bearer first"
    assert script.runs == 2


async def test_a_client_certificate_from_a_plugin_is_shown_to_the_server(
    client: Client, script: Script, authority: Authority
) -> None:
    cert, key = authority.server_certificate("client.example.com")
    script.prints(clientCertificateData=cert.read_text(), clientKeyData=key.read_text())

    wire = await client.wire()

    assert isinstance(wire.tls, ssl.SSLContext)
    assert wire.access.cert == cert.read_text()
    assert wire.access.key == key.read_text()
    assert wire.access.authorization == ""


async def test_a_plugin_that_fails_at_the_start_is_named_and_run_again_later(
    client: Client, server: Scripted, script: Script
) -> None:
    accepts(server, "first")
    with pytest.raises(ConfigError) as caught:
        await client.send(GET)
    script.prints(token="first")

    assert "failed: exit code 1" in caught.value.message
    assert await client.send(GET) == b"{}"
