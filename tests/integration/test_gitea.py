"""A real Gitea: what is written to it by Git, and the one request to merge."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gitsyncd.edges.forge.client import ForgeClient
from gitsyncd.edges.git.mirror import GitMirror
from gitsyncd.edges.git.writer import GitWriter
from gitsyncd.model.errors import ForgeDenied, PushRefused
from gitsyncd.model.source import PasswordAuth, Repository
from gitsyncd.model.update import Author, Forge, MergeRequest, Proposal, PullRequest, Tip
from tests.forge.gitea import PROJECT, Gitea
from tests.gitserver.certificates import Authority

pytestmark = pytest.mark.real

_NUMBERS = itertools.count()


@dataclass(frozen=True, slots=True)
class Rig:
    """One repository with a branch `head` that is a commit ahead."""

    gitea: Gitea
    token_file: Path
    head: str

    @property
    def request(self) -> MergeRequest:
        labels = ("images", "bot")
        return MergeRequest(head=self.head, base="main", title="Update front", body="| a |\n| b |", labels=labels)

    def client(self) -> ForgeClient:
        return ForgeClient(
            self.gitea.repository,
            PullRequest(forge=Forge.GITEA, token_file=self.token_file),
            ca_file=self.gitea.ca_file,
            timeout=timedelta(seconds=30),
            agent="gitsyncd/test (edge)",
        )

    def change(self, branch: str, path: str) -> None:
        """One commit with a new file, on a new branch."""
        body = {"content": "YQ==", "branch": "main", "new_branch": branch, "message": f"Add {path}"}
        self.gitea.ask("POST", f"/repos/{PROJECT}/contents/{path}", body)

    def requests(self) -> list[Any]:
        found: list[Any] = self.gitea.ask("GET", f"/repos/{PROJECT}/pulls?state=open")
        return found

    def merge(self, number: str) -> None:
        """As soon as Gitea has found out that it can be merged; it refuses before."""
        path = f"/repos/{PROJECT}/pulls/{number}"
        until = time.monotonic() + 30
        while not self.gitea.ask("GET", path)["mergeable"]:
            assert time.monotonic() < until, "it cannot be merged"
            time.sleep(0.05)
        self.gitea.ask("POST", f"{path}/merge", {"Do": "merge"})


@pytest.fixture(scope="module")
def gitea(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gitea]:
    folder = tmp_path_factory.mktemp("gitea")
    with Gitea(folder / "gitea", Authority(folder / "ca")) as running:
        yield running


@pytest.fixture
def rig(gitea: Gitea, tmp_path: Path) -> Rig:
    token_file = tmp_path / "token"
    token_file.write_text(gitea.token)
    # A branch of its own for each test: a while after one is deleted, Gitea closes every request from its name, a new
    # one of the next test, too.
    rig = Rig(gitea, token_file, head=f"updates-{next(_NUMBERS)}")
    rig.change(rig.head, rig.head)
    return rig


@pytest.fixture
async def writer(rig: Rig, tmp_path: Path) -> AsyncIterator[GitWriter]:
    password_file = tmp_path / "password"
    password_file.write_text(rig.gitea.password)
    repository = Repository(
        url=rig.gitea.repository,
        auth=PasswordAuth(username=rig.gitea.username, password_file=password_file),
        ca_file=rig.gitea.ca_file,
    )
    minute = timedelta(minutes=1)
    mirror = GitMirror(tmp_path / "mirror", repository, minute, agent="gitsyncd/test (edge)")
    made = GitWriter(
        mirror,
        repository,
        minute,
        agent="gitsyncd/test (edge)",
        name="edge/fleet",
        author=Author(name="Robot", email="robot@example.com"),
        now=lambda: datetime.now(UTC),
    )
    yield made
    await made.close()


CONTENT = b"a: 1\n"


def puts(path: str) -> Callable[[Tip], Proposal]:
    return lambda _tip: Proposal(message=f"Update {path}", files={path: CONTENT})


# --- requests to merge -------------------------------------------------------------------------------------------------
async def test_it_is_opened_once_and_kept_up_to_date(rig: Rig) -> None:
    rig.change("of-a-person", "two")
    rig.gitea.ask("POST", f"/repos/{PROJECT}/pulls", {"head": "of-a-person", "base": "main", "title": "Mine"})

    first = await rig.client().ensure(rig.request)
    again = await rig.client().ensure(rig.request)
    moved = await rig.client().ensure(replace(rig.request, title="Update 2 images", body="another"))

    assert first == again == moved
    assert first.startswith(f"{rig.gitea.address}/{PROJECT}/pulls/")
    [made] = [each for each in rig.requests() if each["head"]["ref"] == rig.head]
    assert (made["title"], made["body"], made["base"]["ref"]) == ("Update 2 images", "another", "main")
    assert {label["name"] for label in made["labels"]} == {"images", "bot"}
    [mine] = [each for each in rig.requests() if each["head"]["ref"] == "of-a-person"]
    assert (mine["title"], mine["labels"]) == ("Mine", [])


async def test_it_is_closed_with_its_reason_when_there_is_nothing_left_to_merge(rig: Rig) -> None:
    await rig.client().ensure(rig.request)
    number = next(each["number"] for each in rig.requests() if each["head"]["ref"] == rig.head)

    assert await rig.client().withdraw(rig.head, "main", "Everything of this has arrived otherwise.")
    assert not await rig.client().withdraw(rig.head, "main", "Everything of this has arrived otherwise.")

    closed = rig.gitea.ask("GET", f"/repos/{PROJECT}/pulls/{number}")
    assert closed["state"] == "closed"
    comments = rig.gitea.ask("GET", f"/repos/{PROJECT}/issues/{number}/comments")
    assert [each["body"] for each in comments] == ["Everything of this has arrived otherwise."]


async def test_a_token_that_it_does_not_know(rig: Rig) -> None:
    rig.token_file.write_text("0" * 40)

    with pytest.raises(ForgeDenied, match="refuses the token of"):
        await rig.client().ensure(rig.request)


# --- Git ---------------------------------------------------------------------------------------------------------------
async def test_what_is_pushed_is_one_request_that_a_person_merges(rig: Rig, writer: GitWriter) -> None:
    written = await writer.write(puts("web/new.yaml"), branch="main", onto="images")
    assert written is not None
    url = await rig.client().ensure(replace(rig.request, head="images"))

    number = url.rpartition("/")[2]
    changed = rig.gitea.ask("GET", f"/repos/{PROJECT}/pulls/{number}/files")
    assert [each["filename"] for each in changed] == ["web/new.yaml"]
    rig.merge(number)

    assert rig.gitea.ask("GET", f"/repos/{PROJECT}/contents/web/new.yaml?ref=main")["size"] == len(CONTENT)
    seen: list[Tip] = []
    await writer.write(seen.append, branch="main", onto="images", paths=["web"])
    assert seen[0].files["web/new.yaml"] == CONTENT, "what is merged is what it goes on from"


async def test_a_protected_branch_refuses_with_its_words_and_takes_it_when_it_may(rig: Rig, writer: GitWriter) -> None:
    rule = {"rule_name": "main", "enable_push": False}
    rig.gitea.ask("POST", f"/repos/{PROJECT}/branch_protections", rule)
    try:
        with pytest.raises(PushRefused) as caught:
            await writer.write(puts("web/kept-out.yaml"), branch="main")
    finally:
        rig.gitea.ask("DELETE", f"/repos/{PROJECT}/branch_protections/main")
    assert "protected branch" in caught.value.message
    assert caught.value.hint

    written = await writer.write(puts("web/let-in.yaml"), branch="main")

    assert written is not None
    assert rig.gitea.ask("GET", f"/repos/{PROJECT}/branches/main")["commit"]["id"] == written.commit
