"""Nothing secret of what leads from a registry to a commit is ever shown: not by what is said, kept, pushed or run.

The real edges and loops, against servers on loopback that ask for every credential there is. What is looked through:
log lines, what `images` answers, the state that is kept on disk apart from Git's own objects, the commits themselves,
and the arguments and environments of every child.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gitsyncd.automation import Automation
from gitsyncd.edges.forge.client import ForgeClient
from gitsyncd.edges.schedule import Calendar
from gitsyncd.edges.store import FileStore
from gitsyncd.engine.image_control import ImageControl
from gitsyncd.engine.supervise import Tasks
from gitsyncd.model.image import ImagePolicy, RegistryAccess, Rule, Select
from gitsyncd.model.source import PasswordAuth, Repository
from gitsyncd.model.target import Agent, Images
from gitsyncd.model.update import Author, Forge, KeyKind, PullRequest, SigningKey, Update
from gitsyncd.wiring import _MAKERS, SystemClock
from tests.engine.world import Diary
from tests.forge.server import TOKEN, ForgeServer
from tests.gitserver.certificates import Authority
from tests.gitserver.server import GitServer
from tests.registry.images import image
from tests.registry.peculiar import Answer, Peculiar, Shelf, listing

pytestmark = pytest.mark.real

REGISTRY, ISSUED, GIT = "Canary-Registry-31d7", "Canary-Issued-5f2c", "Canary-Git-8a06"
WRONG = {name: f"Canary-Wrong-{name}" for name in ("registry", "git", "forge", "sign")}
"""What takes the place of each good credential, and is no less secret."""

children: list[str] = []
"""Arguments and environments of all that were begun by this process, once it was asked to listen."""


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event in {"subprocess.Popen", "os.posix_spawn", "os.exec"}:
        children.append(repr(arguments))


@pytest.fixture(scope="module", autouse=True)
def listening() -> None:
    sys.addaudithook(_hear)


class Rig:
    """One policy, and one update that signs what it writes and asks for it to be merged."""

    def __init__(self, folder: Path, authority: Authority, git: GitServer, forge: ForgeServer) -> None:
        self.folder, self.forge, self.repo = folder, forge, git.create("fleet")
        self.tags = ["1.0.0"]
        self.shelf = Shelf()
        self.registry = Peculiar(self._answer)
        self.push("1.0.0")
        self.files = {name: folder / f"{name}.secret" for name in ("registry", "git", "forge", "sign")}
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "robot", "-f", self.files["sign"]], check=True
        )
        self.key = [line for line in self.files["sign"].read_text().splitlines() if not line.startswith("-----")]
        for name, secret in (("registry", REGISTRY), ("git", GIT), ("forge", TOKEN)):
            self.files[name].write_text(f"{secret}\n")
        self.image = f"{self.registry.host}/team/front"
        self.repo.commit({"app.yaml": f'image: {self.image}:1.0.0 # {{"$imagepolicy": "front"}}\n'})
        access = RegistryAccess(
            prefix=self.registry.host,
            auth=PasswordAuth(username="robot", password_file=self.files["registry"]),
            allow_plain_http=True,
        )
        policy = ImagePolicy(
            name="front",
            image=self.image,
            select=Select(rule=Rule.SEMVER, wanted=">=1"),
            interval=timedelta(seconds=1),
        )
        update = Update(
            name="fleet",
            source="fleet",
            repository=Repository(
                url=git.url("fleet"),
                auth=PasswordAuth(username="writer", password_file=self.files["git"]),
                ca_file=authority.ca_file,
            ),
            branch="main",
            timeout=timedelta(seconds=30),
            author=Author(name="Robot", email="robot@example.com"),
            policies=("front",),
            signing=SigningKey(kind=KeyKind.SSH, file=self.files["sign"]),
            push_branch="updates",
            pull_request=PullRequest(forge=Forge.GITEA, token_file=self.files["forge"]),
            max_commits_per_hour=3600,
        )
        self.agent = Agent(
            name="edge", state_dir=folder / "state", cluster_namespace="gitsyncd", socket=folder / "agent.sock"
        )
        self.images = Images(registries=(access,), policies=(policy,), updates=(update,))
        self.log = Diary()
        self.clock = SystemClock()
        makers = replace(_MAKERS, requests=self._requests)
        store = FileStore(self.agent.state_dir)
        self.automation = Automation(makers, clock=self.clock, calendar=Calendar(), log=self.log, store=store)
        self.control = ImageControl(self.automation.policies, self.automation.updates, clock=self.clock)
        self.heard = ""

    def _requests(self, _agent: Agent, update: Update) -> ForgeClient:
        """The forge of the tests is not where the repository is: it has a port of its own."""
        access, ca_file = update.pull_request, update.repository.ca_file
        assert access is not None
        return ForgeClient(self.forge.repository, access, ca_file=ca_file, timeout=update.timeout, agent="test")

    def _answer(self, path: str, authorization: str) -> Answer:
        if path.startswith("/token"):
            right = self.files["registry"].read_text().strip() == REGISTRY
            return (200, {}, json.dumps({"token": ISSUED}).encode()) if right else (401, {}, b"")
        if authorization != f"Bearer {ISSUED}" or self.files["registry"].read_text().strip() != REGISTRY:
            return 401, {"WWW-Authenticate": f'Bearer realm="http://{self.registry.host}/token"'}, b""
        return (200, {}, listing(*self.tags)) if "/tags/list" in path else self.shelf.get(path, authorization)

    def push(self, tag: str) -> None:
        self.shelf.put(tag, image(tag))
        self.tags.append(tag)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            tasks = Tasks(group, clock=self.clock, log=self.log)
            await self.automation.adopt(self.images, self.agent, tasks, lambda _: None)
            self.automation.start(tasks)
            yield
            await self.automation.adopt(Images(), self.agent, tasks, lambda _: None)

    async def until(self, is_so: Callable[[dict[str, Any]], bool]) -> None:
        async with asyncio.timeout(60):
            while not is_so(answer := self.control.status([])):
                self.heard += json.dumps(answer, default=str)
                for bell in [*(p.bell for p in self.automation.policies), *(u.bell for u in self.automation.updates)]:
                    bell.ring()
                await asyncio.sleep(0.2)
        self.heard += json.dumps(answer, default=str)

    def everything(self) -> Iterator[tuple[str, str]]:
        yield "the log", "\n".join(map(repr, self.log.lines))
        yield "status", self.heard
        yield "children", "\n".join(children)
        ids = self.repo.git("rev-list", "--all").split()
        yield "commits", self.repo.git("log", "-p", "--all") + "".join(self.repo.git("cat-file", "-p", i) for i in ids)
        yield "requests to merge", json.dumps(self.forge.requests)
        for path in self.agent.state_dir.rglob("*"):
            if path.is_file() and "objects" not in path.parts:
                yield str(path), path.read_bytes().decode("latin-1")


def broken(name: str) -> Callable[[dict[str, Any]], bool]:
    """Whether the credential of that name is told to be no good, by its file."""
    return lambda answer: any(
        f"{name}.secret" in f"{each['error']}{each['hint']}" for each in (*answer["policies"], *answer["updates"])
    )


async def test_no_credential_of_an_update_is_shown_anywhere(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    with GitServer(tmp_path / "git", authority=authority, credentials=("writer", GIT)) as git:
        async with ForgeServer("gitea", authority) as forge:
            rig = Rig(tmp_path, authority, git, forge)
            with rig.registry:
                async with rig.running():
                    rig.push("1.1.0")
                    await rig.until(lambda answer: bool(answer["updates"][0]["pull_request"]))
                    for number, (name, wrong) in enumerate(WRONG.items()):
                        right = rig.files[name].read_text()
                        rig.files[name].write_text(f"{wrong}\n")
                        rig.push(f"1.2.{number}")
                        await rig.until(broken(name))
                        rig.files[name].write_text(right)
                        await rig.until(lambda answer: not any(each["error"] for each in answer["updates"]))
            found = dict(rig.everything())

    assert "BEGIN SSH SIGNATURE" in found["commits"]
    assert TOKEN in "".join(forge.tokens), "the forge was asked with its token"
    assert "fetch" in found["children"], "children were heard"
    secrets = [REGISTRY, ISSUED, GIT, TOKEN, *rig.key, *WRONG.values()]
    assert [(secret, where) for where, text in found.items() for secret in secrets if secret in text] == []


async def test_what_a_forge_says_of_its_token_is_not_passed_on(tmp_path: Path) -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        return web.json_response({"message": f"what is {request.headers['Authorization']}?"}, status=422)

    authority = Authority(tmp_path / "ca")
    (tmp_path / "token").write_text(TOKEN)
    access = PullRequest(forge=Forge.GITEA, token_file=tmp_path / "token")
    async with ForgeServer("gitea", authority) as forge:
        forge.fault = echo
        client = ForgeClient(
            forge.repository, access, ca_file=authority.ca_file, timeout=timedelta(seconds=10), agent="test"
        )
        with pytest.raises(Exception, match=r"does not accept the request \(422\): what is token \*\*\*\?") as caught:
            await client.withdraw("updates", "main", "x")

    assert TOKEN not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
