"""Credential helpers of docker configurations: which are run, with what, how often, and what is made of it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from gitsyncd.edges.registry.credentials import DockerConfig, Left, Login
from gitsyncd.edges.registry.helper import Helper
from gitsyncd.model.errors import LocalError, RegistryDenied

SECRET = "c0rrect-horse"
SERVER = "registry.example.com"


class Program:
    """A helper: counts how often it was run, keeps what it was given, then does what it is told to."""

    def __init__(self, folder: Path, name: str = "docker-credential-test") -> None:
        folder.mkdir(exist_ok=True)
        self.file = folder / name
        self._given = folder / f"{name}.given"
        self._runs = folder / f"{name}.runs"
        self.prints()

    def does(self, work: str) -> None:
        self.file.write_text(
            f'#!/bin/sh\necho run >>{self._runs}\nenv -0 >{self._given}; echo "$@" >{self._given}.args; '
            f"cat >{self._given}.stdin\n{work}\n"
        )
        self.file.chmod(0o755)

    def prints(self, secret: str = SECRET, username: str = "AWS") -> None:
        answer = json.dumps({"ServerURL": SERVER, "Username": username, "Secret": secret})
        self.does(f"cat <<'END'\n{answer}\nEND")

    @property
    def runs(self) -> int:
        return len(self._runs.read_text().splitlines()) if self._runs.exists() else 0

    @property
    def given(self) -> tuple[str, str, dict[str, str]]:
        """Arguments, standard input, environment."""
        rows = self._given.read_text().rstrip("\0").split("\0")
        args, stdin = (self._given.with_name(f"{self._given.name}.{what}").read_text() for what in ("args", "stdin"))
        return args.strip(), stdin, dict(row.split("=", 1) for row in rows)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path / "bin")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def helper(program: Program, clock: Clock, tmp_path: Path) -> Helper:
    return Helper([program.file], tmp_path / "home", clock=clock)


def left(name: str = "test", *, is_certain: bool = True) -> Left:
    return Left(name=name, server=SERVER, file=Path("/etc/docker.json"), is_certain=is_certain)


async def test_a_listed_helper_is_asked_as_docker_does_and_sees_nothing_of_the_agent(
    helper: Helper, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITSYNCD_SECRET", "x")

    found = await helper.login(left())

    assert found == Login(username="AWS", password=SECRET, shown="user 'AWS'", file=program.file)
    args, stdin, environment = program.given
    assert (args, stdin) == ("get", f"{SERVER}\n")
    assert environment["HOME"] == str(tmp_path / "home")
    assert set(environment) <= {"HOME", "PATH", "LANG", "PWD", "SHLVL", "_", "OLDPWD"}


@pytest.mark.parametrize("name", ["other", "test2", "tes"])
async def test_a_helper_that_is_not_listed_is_not_run(helper: Helper, program: Program, name: str) -> None:
    with pytest.raises(RegistryDenied, match=f"docker-credential-{name}, which .* does not list") as caught:
        await helper.login(left(name))

    assert "absolute name" in caught.value.hint
    assert program.runs == 0


async def test_two_listed_helpers_of_one_name_are_none(tmp_path: Path) -> None:
    one, other = Program(tmp_path / "one"), Program(tmp_path / "other")

    with pytest.raises(RegistryDenied, match="does not list"):
        await Helper([one.file, other.file], tmp_path / "home").login(left())

    assert (one.runs, other.runs) == (0, 0)


async def test_a_store_that_is_not_listed_leaves_other_servers_without_credentials(helper: Helper) -> None:
    assert await helper.login(left("desktop", is_certain=False)) is None


async def test_a_helper_that_others_can_change_is_not_run(helper: Helper, program: Program) -> None:
    program.file.chmod(0o777)

    with pytest.raises(RegistryDenied, match="can be written by"):
        await helper.login(left())

    assert program.runs == 0


async def test_a_helper_without_credentials_for_the_server_leaves_it_without(helper: Helper, program: Program) -> None:
    program.does("echo credentials not found in native keychain; exit 1")

    assert await helper.login(left()) is None


async def test_an_identity_token_is_no_password(helper: Helper, program: Program) -> None:
    program.prints(username="<token>")

    found = await helper.login(left())

    assert found == Login(identity=SECRET, shown="an identity token", file=program.file)
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (f"echo {SECRET}; echo {SECRET} >&2; exit 1", "failed for .*exit code 1"),
        ("kill -SEGV $$", "failed for .*signal"),
        (f"echo {SECRET}", "printed no user and secret"),
        ("echo '[]'", "printed no user and secret"),
        ('echo \'{"Username": "x"}\'', "printed no user and secret"),
        ('echo \'{"Username": "x", "Secret": 5}\'', "printed no user and secret"),
        ("head -c 2000000 /dev/zero", "failed for .*overflowed"),
    ],
)
async def test_a_helper_that_fails_is_named_and_what_it_said_is_not(
    helper: Helper, program: Program, work: str, words: str
) -> None:
    program.does(work)

    with pytest.raises(RegistryDenied, match=words) as caught:
        await helper.login(left())

    assert str(program.file) in str(caught.value)
    assert SECRET not in f"{caught.value} {caught.value.hint}"


async def test_a_home_that_cannot_be_made_is_named(program: Program, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(LocalError, match="cannot be made"):
        await Helper([program.file], tmp_path / "file" / "home").login(left())


async def test_what_it_printed_is_kept_for_some_minutes(helper: Helper, program: Program, clock: Clock) -> None:
    first = await asyncio.gather(*(helper.login(left()) for _ in range(5)))
    program.prints("new")
    clock.now += 599
    kept = await helper.login(left())
    clock.now += 1
    renewed = await helper.login(left())

    assert {each.password for each in first if each} == {SECRET}
    assert kept is first[0]
    assert renewed is not None
    assert renewed.password == "new"
    assert program.runs == 2


async def test_what_the_registry_refuses_is_renewed_but_not_what_was_just_printed(
    helper: Helper, program: Program, clock: Clock
) -> None:
    first = await helper.login(left())
    assert first is not None
    assert not helper.rejected(first)
    program.prints("new")
    clock.now += 30

    assert helper.rejected(first)
    renewed = await helper.login(left())

    assert renewed is not None
    assert renewed.password == "new"
    # a task that was still on its way with the old one need not wait
    assert helper.rejected(first)
    assert await helper.login(left()) is renewed
    assert program.runs == 2


async def test_a_renewal_that_fails_is_tried_again_and_what_was_printed_before_is_used_meanwhile(
    helper: Helper, program: Program, clock: Clock
) -> None:
    first = await helper.login(left())
    program.does("exit 1")
    clock.now += 600

    assert [await helper.login(left()) for _ in range(3)] == [first] * 3
    assert program.runs == 2
    clock.now += 10
    program.prints("new")
    renewed = await helper.login(left())

    assert renewed is not None
    assert renewed.password == "new"


async def test_a_failure_is_not_asked_for_in_vain(helper: Helper, program: Program, clock: Clock) -> None:
    program.does("exit 1")
    for _ in range(3):
        with pytest.raises(RegistryDenied):
            await helper.login(left())
    assert program.runs == 1
    clock.now += 10
    program.prints()

    assert await helper.login(left()) is not None


# --- what docker configurations say ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "server", "wanted"),
    [
        ({"credHelpers": {SERVER: "test"}}, SERVER, ("test", SERVER, True)),
        ({"credHelpers": {SERVER: "test"}}, "other.example.com", None),
        ({"credHelpers": {SERVER: "own"}, "credsStore": "all"}, SERVER, ("own", SERVER, True)),
        ({"credsStore": "all"}, SERVER, ("all", SERVER, False)),
        ({"auths": {SERVER: {}}, "credsStore": "all"}, SERVER, ("all", SERVER, True)),
        ({"credHelpers": {"docker.io": "test"}}, "registry-1.docker.io", ("test", "https://index.docker.io/v1/", True)),
    ],
)
def test_who_is_to_be_asked(
    tmp_path: Path, content: dict[str, object], server: str, wanted: tuple[str, str, bool] | None
) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(content))

    found = DockerConfig(file=file).login(server)

    if wanted is None:
        assert found is None
    else:
        name, called, is_certain = wanted
        assert found == Left(name=name, server=called, file=file, is_certain=is_certain)


def test_a_password_in_the_file_comes_before_a_store(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"auths": {SERVER: {"username": "a", "password": "b"}}, "credsStore": "all"}))

    assert isinstance(DockerConfig(file=file).login(SERVER), Login)


@pytest.mark.parametrize("name", ["../../bin/sh", "a b", "", "-x", 5, ["x"]])
def test_a_helper_by_a_name_that_is_none_is_refused_or_none(tmp_path: Path, name: object) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"credsStore": name}))

    if name == "":
        assert DockerConfig(file=file).login(SERVER) is None
    else:
        with pytest.raises(RegistryDenied, match="a credential helper that is none"):
            DockerConfig(file=file).login(SERVER)
