"""Commits that are pushed to real Git servers: what is in them, and that no other commit is ever lost or forced away.

Judge of everything is the real git.
"""

# These tests prepare and look at files and processes between their awaits, while nothing else runs.
# ruff: noqa: ASYNC221

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest

from gitsyncd.edges.git import history
from gitsyncd.edges.git.mirror import GitMirror
from gitsyncd.edges.git.writer import GitWriter
from gitsyncd.model.errors import (
    ConfigError,
    PushContended,
    PushRefused,
    RevisionNotFound,
    SourceDenied,
    SourceError,
    SourceUnreachable,
)
from gitsyncd.model.source import GitAuth, PasswordAuth, Repository, SshAuth
from gitsyncd.model.update import Author, KeyKind, Proposal, Restored, SigningKey, Tip, Written
from tests.gitserver.certificates import Authority
from tests.gitserver.repository import BARE_ENVIRONMENT, IDENTITY, Repo
from tests.gitserver.server import Answer, Cut, GitServer
from tests.gitserver.ssh import SshGitServer

pytestmark = pytest.mark.real

MINUTE = timedelta(minutes=1)
AUTHOR = Author(name="Robot", email="robot@example.com")
TRAILER = "\n\nGitsyncd-Policy: front\n"


class Rig:
    """One repository on some server, and writers for it."""

    opened: ClassVar[list[GitWriter]] = []

    def __init__(
        self, repo: Repo, url: str, folder: Path, *, auth: GitAuth | None = None, ca: Path | None = None
    ) -> None:
        self.repo = repo
        self.repository = Repository(url=url, auth=auth, ca_file=ca)
        self.folder = folder
        self.timeout = MINUTE

    def writer(
        self,
        folder: str = "mirror",
        *,
        name: str = "edge/fleet",
        signing: SigningKey | None = None,
        author: Author = AUTHOR,
    ) -> GitWriter:
        mirror = GitMirror(self.folder / folder, self.repository, self.timeout, agent="gitsyncd/test (edge)")
        made = GitWriter(
            mirror,
            self.repository,
            self.timeout,
            agent="gitsyncd/test (edge)",
            name=name,
            author=author,
            signing=signing,
            now=lambda: datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC),
        )
        self.opened.append(made)
        return made

    def files(self, branch: str = "main") -> dict[str, str]:
        listed = self.repo.git("ls-tree", "-r", "--full-tree", branch).splitlines()
        return {line.partition("\t")[2]: line.split()[0] + " " + line.split()[2] for line in listed}

    def content(self, path: str, branch: str = "main") -> str:
        done = subprocess.run(
            ["git", "cat-file", "blob", f"{branch}:{path}"],
            cwd=self.repo.path,
            env=BARE_ENVIRONMENT,
            capture_output=True,
            check=True,
        )
        return done.stdout.decode()

    def hook(self, name: str, script: str) -> None:
        file = self.repo.path / "hooks" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)


@pytest.fixture(autouse=True)
async def closed() -> AsyncIterator[None]:
    """In the loop of the test, in which they were opened."""
    yield
    while Rig.opened:
        await Rig.opened.pop().close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture(params=["https", "ssh", "file"])
def rig(request: pytest.FixtureRequest, tmp_path: Path, authority: Authority) -> Iterator[Rig]:
    with contextlib.ExitStack() as stack:
        match request.param:
            case "https":
                password = tmp_path / "password"
                password.write_text("s3cret\n")
                server = stack.enter_context(
                    GitServer(tmp_path / "srv", authority=authority, credentials=("writer", "s3cret"))
                )
                auth = PasswordAuth(username="writer", password_file=password)
                made = Rig(server.create("fleet"), server.url("fleet"), tmp_path, auth=auth, ca=authority.ca_file)
            case "ssh":
                ssh = stack.enter_context(SshGitServer(tmp_path / "srv"))
                known_hosts = tmp_path / "known_hosts"
                known_hosts.write_text(ssh.known_hosts)
                key = SshAuth(key_file=ssh.client_key(tmp_path / "key"), known_hosts_file=known_hosts)
                made = Rig(ssh.create("fleet"), ssh.url("fleet"), tmp_path, auth=key)
            case _:
                repo = Repo(tmp_path / "srv" / "fleet.git")
                made = Rig(repo, repo.url, tmp_path)
        yield made


def puts(files: dict[str, bytes], message: str = "Update front to 1.2.0" + TRAILER) -> Callable[[Tip], Proposal]:
    return lambda _tip: Proposal(message=message, files=files)


# --- what is in a commit ---------------------------------------------------------------------------------------------
async def test_a_commit_changes_what_was_proposed_and_nothing_else(rig: Rig) -> None:
    first = rig.repo.commit(
        {"web/a.yaml": "a: 1\n", "web/b.yaml": "b: 1\n", "run.sh": "#!/bin/sh\n", "übel/ü.yaml": "ü: 1\n"},
        links={"web/link.yaml": "a.yaml"},
    )
    before = rig.files()
    seen: list[Tip] = []

    def propose(tip: Tip) -> Proposal:
        seen.append(tip)
        return Proposal(message="Update front" + TRAILER, files={"web/a.yaml": b"a: 2\n", "new/deep/c.yaml": b"c: 1\n"})

    async with asyncio.timeout(60):
        writer = rig.writer()
        written = await writer.write(propose, branch="main", paths=["web", "nowhere"])

    assert written == Written(commit=rig.repo.head() or "", branch="main", parent=first, attempts=1)
    assert seen == [Tip(commit=first, files={"web/a.yaml": b"a: 1\n", "web/b.yaml": b"b: 1\n"})]
    after = rig.files()
    assert {path for path in after if after[path] != before.get(path)} == {"web/a.yaml", "new/deep/c.yaml"}
    assert before.keys() <= after.keys()
    assert rig.content("web/a.yaml") == "a: 2\n"
    assert rig.repo.git("log", "-1", "--format=%an <%ae>|%cn <%ce>|%aI|%cI|%P|%B") == (
        "Robot <robot@example.com>|Robot <robot@example.com>|2026-05-04T03:02:01+00:00|2026-05-04T03:02:01+00:00|"
        f"{first}|Update front\n\nGitsyncd-Policy: front\nGitsyncd-Update: edge/fleet"
    )
    rig.repo.git("fsck", "--full", "--strict")


async def test_the_mode_of_a_file_stays(rig: Rig) -> None:
    blob = rig.repo.blob(b"a: 1\n")
    rig.repo.raw_commit([("100755", b"a.yaml", blob)])

    await rig.writer().write(puts({"a.yaml": b"a: 2\n"}), branch="main")

    assert rig.files()["a.yaml"].startswith("100755 ")


async def test_what_changes_nothing_makes_no_commit(rig: Rig) -> None:
    head = rig.repo.commit({"a.yaml": "a: 1\n"})
    writer = rig.writer()

    assert await writer.write(puts({"a.yaml": b"a: 1\n"}), branch="main") is None
    assert await writer.write(lambda _: None, branch="main") is None
    assert rig.repo.head() == head


async def test_a_tip_that_is_known_is_not_looked_at(rig: Rig) -> None:
    head = rig.repo.commit({"a.yaml": "a: 1\n"})

    def never(_tip: Tip) -> None:
        raise AssertionError("asked")

    assert await rig.writer().write(never, branch="main", unless=head) is None


async def test_the_quarantine_file_is_always_among_the_files(rig: Rig) -> None:
    rig.repo.commit({"web/a.yaml": "a: 1\n", ".gitsyncd/quarantine.yaml": "images: []\n", "other/b.yaml": "b: 1\n"})
    seen: list[Tip] = []

    await rig.writer().write(seen.append, branch="main", paths=["web"])

    assert set(seen[0].files) == {"web/a.yaml", ".gitsyncd/quarantine.yaml"}


async def test_of_files_too_large_for_manifests_those_with_a_mark_are_among_them(rig: Rig) -> None:
    long = "# x\n" * 1_100_000
    rig.repo.commit(
        {"a.yaml": "a: 1\n", "marked.yaml": 'b: c # {"$imagepolicy": "front"}\n' + long, "plain.yaml": long}
    )
    seen: list[Tip] = []

    await rig.writer().write(seen.append, branch="main")

    assert set(seen[0].files) == {"a.yaml", "marked.yaml"}


async def test_a_folder_gets_what_it_had_in_another_commit(rig: Rig) -> None:
    good = rig.repo.commit({"web/a.yaml": "a: 1\n", "web/sub/b.yaml": "b: 1\n", "other.yaml": "o: 1\n"})
    bad = rig.repo.commit(
        {"web/a.yaml": "a: 2\n", "web/sub/b.yaml": None, "web/c.yaml": "c: 1\n", "other.yaml": "o: 2\n"}
    )
    back_to = {"web": Restored(commit=good, over=bad)}

    def back(_tip: Tip) -> Proposal:
        return Proposal(message="back", restored=back_to, files={".gitsyncd/quarantine.yaml": b"images: []\n"})

    await rig.writer().write(back, branch="main")

    assert rig.repo.git("rev-parse", "main:web") == rig.repo.git("rev-parse", f"{good}:web")
    assert rig.content("other.yaml") == "o: 2\n"
    assert rig.content(".gitsyncd/quarantine.yaml") == "images: []\n"


async def test_a_folder_that_was_not_there_goes_and_its_empty_parent_with_it(rig: Rig) -> None:
    good = rig.repo.commit({"other.yaml": "o: 1\n"})
    bad = rig.repo.commit({"apps/web/a.yaml": "a: 1\n"})
    back_to = {"apps/web": Restored(commit=good, over=bad)}

    await rig.writer().write(lambda _: Proposal(message="back", restored=back_to), branch="main")

    assert set(rig.files()) == {"other.yaml"}


async def test_the_whole_tree_can_be_what_it_was(rig: Rig) -> None:
    good = rig.repo.commit({"a.yaml": "a: 1\n"})
    bad = rig.repo.commit({"a.yaml": "a: 2\n", "b.yaml": "b: 1\n"})
    back_to = {"": Restored(commit=good, over=bad)}

    await rig.writer().write(lambda _: Proposal(message="back", restored=back_to), branch="main")

    assert rig.repo.git("rev-parse", "main^{tree}") == rig.repo.git("rev-parse", f"{good}^{{tree}}")


async def test_what_somebody_pushes_meanwhile_is_restored_over_only_where_it_is_elsewhere(rig: Rig) -> None:
    good = rig.repo.commit({"web/a.yaml": "a: 1\n"})
    bad = rig.repo.commit({"web/a.yaml": "a: 2\n"})
    back = Proposal(message="back", restored={"web": Restored(commit=good, over=bad)})
    rival = {"other.yaml": "o: 1\n"}

    def propose(_tip: Tip) -> Proposal:
        if rival:
            rig.repo.commit(dict(rival))
            rival.clear()
        return back

    await rig.writer().write(propose, branch="main")
    assert (rig.content("web/a.yaml"), rig.content("other.yaml")) == ("a: 1\n", "o: 1\n")

    rig.repo.commit({"web/a.yaml": "a: 2\n"})
    rival = {"web/b.yaml": "b: by a person\n"}
    with pytest.raises(PushContended, match="somebody has just changed web") as caught:
        await rig.writer().write(propose, branch="main")

    assert caught.value.hint
    assert rig.content("web/b.yaml") == "b: by a person\n"


# --- races -----------------------------------------------------------------------------------------------------------
async def test_a_lost_race_is_run_again_on_the_new_tip(rig: Rig) -> None:
    rig.repo.commit({"a.yaml": "a: 1\n"})
    asked: list[str] = []

    def propose(tip: Tip) -> Proposal:
        asked.append(tip.commit)
        if len(asked) < 3:
            rig.repo.commit({"b.yaml": f"b: {len(asked)}\n"})  # somebody is faster
        return Proposal(message="mine" + TRAILER, files={"a.yaml": b"a: 2\n"})

    written = await rig.writer().write(propose, branch="main")

    assert written is not None
    assert written.attempts == 3
    assert len(set(asked)) == 3
    assert (rig.content("a.yaml"), rig.content("b.yaml")) == ("a: 2\n", "b: 2\n")
    assert rig.repo.git("rev-list", "--count", "main") == "4"


async def test_somebody_who_is_faster_each_time_is_told(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gitsyncd.edges.git.writer._PAUSE_S", 0.0)
    rig.repo.commit({"a.yaml": "a: 1\n"})

    def propose(tip: Tip) -> Proposal:
        rig.repo.commit({"b.yaml": tip.commit})
        return Proposal(message="mine", files={"a.yaml": b"a: 2\n"})

    with pytest.raises(PushContended, match="others were faster on main, 10 times"):
        await rig.writer().write(propose, branch="main")

    assert rig.content("a.yaml") == "a: 1\n"


async def test_ten_writers_of_the_same_edit_make_one_commit(rig: Rig) -> None:
    rig.repo.commit({"a.yaml": "a: 1\n"})
    writers = [rig.writer(f"mirror-{number}") for number in range(10)]

    done = await asyncio.gather(*(writer.write(puts({"a.yaml": b"a: 2\n"}), branch="main") for writer in writers))

    assert len([written for written in done if written is not None]) == 1
    assert rig.repo.git("rev-list", "--count", "main") == "2"


# --- refusals --------------------------------------------------------------------------------------------------------
async def test_a_hook_that_refuses_is_told_with_its_words(rig: Rig) -> None:
    head = rig.repo.commit({"a.yaml": "a: 1\n"})
    rig.hook("pre-receive", 'echo "main is protected: ask the release team" >&2; exit 1')

    with pytest.raises(PushRefused) as caught:
        await rig.writer().write(puts({"a.yaml": b"a: 2\n"}), branch="main")

    assert "pre-receive hook declined" in caught.value.message
    assert "main is protected: ask the release team" in caught.value.message
    assert caught.value.hint
    assert rig.repo.head() == head


async def test_a_hook_of_one_branch_that_refuses(rig: Rig) -> None:
    rig.repo.commit({"a.yaml": "a: 1\n"})
    rig.hook("update", "exit 1")

    with pytest.raises(PushRefused, match="hook declined"):
        await rig.writer().write(puts({"a.yaml": b"a: 2\n"}), branch="main")


async def test_after_a_refusal_the_next_one_may_pass(rig: Rig) -> None:
    rig.repo.commit({"a.yaml": "a: 1\n"})
    rig.hook("pre-receive", "exit 1")
    writer = rig.writer()
    with pytest.raises(PushRefused):
        await writer.write(puts({"a.yaml": b"a: 2\n"}), branch="main")

    (rig.repo.path / "hooks" / "pre-receive").unlink()
    written = await writer.write(puts({"a.yaml": b"a: 2\n"}), branch="main")

    assert written is not None
    assert written.commit == rig.repo.head()


async def test_a_branch_that_is_not_there(rig: Rig) -> None:
    rig.repo.commit({"a.yaml": "a: 1\n"})

    with pytest.raises(RevisionNotFound, match="has no branch gone"):
        await rig.writer().write(puts({"a.yaml": b"a: 2\n"}), branch="gone")


async def test_a_path_that_leaves_the_repository_is_not_written(rig: Rig) -> None:
    rig.repo.commit({"a.yaml": "a: 1\n"})

    with pytest.raises(ConfigError, match="leaves the repository"):
        await rig.writer().write(puts({"../a.yaml": b"a: 2\n"}), branch="main")


async def test_what_goes_wrong_in_a_proposal_comes_out(rig: Rig) -> None:
    rig.repo.commit({"a.yaml": "a: 1\n"})

    def propose(_tip: Tip) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError):
        await rig.writer().write(propose, branch="main")


async def test_the_branch_that_somebody_works_on_is_not_pushed_to(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "fleet.git")
    repo.commit({"a.yaml": "a: 1\n"})
    work = tmp_path / "work"
    subprocess.run(["git", "clone", "-q", repo.path, work], env=BARE_ENVIRONMENT, check=True)
    rig = Rig(Repo(work), f"file://{work}", tmp_path)

    with pytest.raises(PushRefused, match="branch is currently checked out"):
        await rig.writer().write(puts({"a.yaml": b"a: 2\n"}), branch="main")


# --- over HTTP -------------------------------------------------------------------------------------------------------
@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with GitServer(tmp_path / "srv") as running:
        yield running


async def test_who_may_read_and_not_write_is_told_so(server: GitServer, tmp_path: Path) -> None:
    rig = Rig(server.create("fleet"), server.url("fleet"), tmp_path)
    rig.repo.commit({"a.yaml": "a: 1\n"})
    server.pushes = False

    with pytest.raises(PushRefused, match=r"these credentials may not write \(403\)"):
        await rig.writer().write(puts({"a.yaml": b"a: 2\n"}), branch="main")


async def test_credentials_that_are_refused(tmp_path: Path, authority: Authority) -> None:
    password = tmp_path / "password"
    password.write_text("s3cret\n")
    with GitServer(tmp_path / "srv", authority=authority, credentials=("writer", "s3cret")) as server:
        auth = PasswordAuth(username="writer", password_file=password)
        rig = Rig(server.create("fleet"), server.url("fleet"), tmp_path, auth=auth, ca=authority.ca_file)
        rig.repo.commit({"a.yaml": "a: 1\n"})
        writer = rig.writer()
        await writer.write(lambda _: None, branch="main")

        def expire(_tip: Tip) -> Proposal:
            server.credentials = ("writer", "another")
            return Proposal(message="x", files={"a.yaml": b"a: 2\n"})

        with pytest.raises(SourceDenied) as caught:
            await writer.write(expire, branch="main")
        password.write_text("another\n")
        written = await writer.write(puts({"a.yaml": b"a: 2\n"}), branch="main")

    assert "s3cret" not in str(caught.value) + caught.value.hint
    assert written is not None


@pytest.mark.parametrize(
    "answer", [Answer(status=500, at="push"), Answer(body=b"what?", at="push"), Cut(after=4, at="push")]
)
async def test_an_answer_that_says_nothing_is_found_out_at_the_next_look(
    server: GitServer, tmp_path: Path, answer: Answer | Cut
) -> None:
    rig = Rig(server.create("fleet"), server.url("fleet"), tmp_path)
    first = rig.repo.commit({"a.yaml": "a: 1\n"})
    writer = rig.writer()
    server.fault = answer

    with pytest.raises(SourceError):
        await writer.write(puts({"a.yaml": b"a: 2\n"}), branch="main")
    server.fault = None
    written = await writer.write(puts({"a.yaml": b"a: 2\n"}), branch="main")

    assert written is not None
    assert (written.commit, written.parent) == (rig.repo.head(), first)
    assert written.late is isinstance(answer, Cut)  # else the server never saw it
    assert rig.repo.git("rev-list", "--count", "main") == "2"
    assert await writer.write(puts({"a.yaml": b"a: 2\n"}), branch="main") is None


async def test_a_commit_that_arrived_is_found_below_what_others_put_on_top(server: GitServer, tmp_path: Path) -> None:
    rig = Rig(server.create("fleet"), server.url("fleet"), tmp_path)
    rig.repo.commit({"a.yaml": "a: 1\n"})
    writer = rig.writer()
    server.fault = Cut(after=4, at="push")
    with pytest.raises(SourceUnreachable):
        await writer.write(puts({"a.yaml": b"a: 2\n"}), branch="main")
    server.fault = None
    mine = rig.repo.head()
    rig.repo.commit({"b.yaml": "b: 1\n"})

    written = await writer.write(puts({"a.yaml": b"a: 2\n"}), branch="main")

    assert written is not None
    assert (written.commit, written.late) == (mine, True)
    assert rig.repo.git("rev-list", "--count", "main") == "3"


async def test_what_arrived_on_a_branch_of_its_own_is_found_by_who_only_looks_at_the_other(
    server: GitServer, tmp_path: Path
) -> None:
    rig = Rig(server.create("fleet"), server.url("fleet"), tmp_path)
    rig.repo.commit({"a.yaml": "a: 1\n"})
    writer = rig.writer()
    server.fault = Cut(after=4, at="push")
    with pytest.raises(SourceUnreachable):
        await writer.write(puts({"a.yaml": b"a: 2\n"}), branch="main", onto="updates")
    server.fault = None

    written = await writer.write(lambda _: None, branch="main")

    assert written is not None
    assert (written.commit, written.branch, written.late) == (rig.repo.head("updates"), "updates", True)


async def test_a_push_that_arrives_long_after_nobody_waits_for_it_is_found_all_the_same(
    server: GitServer, tmp_path: Path
) -> None:
    rig = Rig(server.create("fleet"), server.url("fleet"), tmp_path)
    first = rig.repo.commit({"a.yaml": "a: 1\n"})
    writer = rig.writer()
    server.fault = Cut(after=4, at="push")
    with pytest.raises(SourceUnreachable):
        await writer.write(puts({"a.yaml": b"a: 2\n"}), branch="main")
    server.fault = None
    mine = rig.repo.head()
    assert mine is not None
    rig.repo.set_head("main", first)  # the server is still busy with it

    assert await writer.write(lambda _: None, branch="main") is None
    rig.repo.set_head("main", mine)
    written = await writer.write(lambda _: None, branch="main")

    assert written is not None
    assert (written.commit, written.late) == (mine, True)


async def test_what_is_not_ready_is_not_pushed(rig: Rig) -> None:
    head = rig.repo.commit({"a.yaml": "a: 1\n"})
    writer = rig.writer()

    assert await writer.write(puts({"a.yaml": b"a: 2\n"}), branch="main", ready=lambda: False) is None
    assert rig.repo.head() == head


# --- a branch of its own ---------------------------------------------------------------------------------------------
async def test_a_branch_of_its_own_rolls_and_is_never_forced(rig: Rig) -> None:
    rig.repo.git("config", "receive.denyNonFastForwards", "true")
    first = rig.repo.commit({"a.yaml": "a: 1\n"})
    writer = rig.writer()

    one = await writer.write(puts({"a.yaml": b"a: 2\n"}), branch="main", onto="updates")
    assert one is not None
    assert (one.branch, one.parent, rig.repo.head()) == ("updates", first, first)
    assert await writer.write(puts({"a.yaml": b"a: 2\n"}), branch="main", onto="updates") is None

    second = rig.repo.commit({"b.yaml": "b: 1\n"})
    two = await writer.write(puts({"a.yaml": b"a: 3\n"}), branch="main", onto="updates")
    assert two is not None
    assert rig.repo.git("log", "-1", "--format=%P", "updates").split() == [one.commit, second]
    assert (rig.content("a.yaml", "updates"), rig.content("b.yaml", "updates")) == ("a: 3\n", "b: 1\n")

    rig.repo.set_head("main", two.commit)  # somebody merged it
    three = await writer.write(puts({"a.yaml": b"a: 4\n"}), branch="main", onto="updates")
    assert three is not None
    assert rig.repo.git("log", "-1", "--format=%P", "updates") == two.commit
    rig.repo.git("fsck", "--full", "--strict")


async def test_what_is_there_is_not_made_anew_for_what_others_merge_elsewhere(rig: Rig) -> None:
    rig.repo.commit({"a.yaml": "a: 1\nz: 1\n", "b.yaml": "b: 1\n"})
    writer = rig.writer()

    async def write(**files: bytes) -> Written | None:
        proposed = puts({f"{name}.yaml": content for name, content in files.items()})
        return await writer.write(proposed, branch="main", onto="updates")

    assert await write(a=b"a: 2\nz: 1\n")
    for number in range(3):
        rig.repo.commit({"c.yaml": f"c: {number}\n"})
        assert await write(a=b"a: 2\nz: 1\n") is None

    # More is wanted, then less, then the file is another one.
    assert await write(a=b"a: 2\nz: 1\n", b=b"b: 2\n")
    rig.repo.commit({"c.yaml": "c: 4\n"})
    assert await write(a=b"a: 2\nz: 1\n", b=b"b: 2\n") is None
    assert await write(a=b"a: 2\nz: 1\n")
    assert rig.content("b.yaml", "updates") == "b: 1\n"
    changed = rig.repo.commit({"a.yaml": "a: 1\nz: 2\n"})
    last = await write(a=b"a: 2\nz: 2\n")
    assert last
    assert changed in rig.repo.git("log", "-1", "--format=%P", "updates").split()
    assert await write(a=b"a: 2\nz: 2\n") is None

    # Squashed into what is followed, and the branch left standing.
    rig.repo.commit({"a.yaml": "a: 2\nz: 2\n"})
    assert await write(a=b"a: 3\nz: 2\n")
    assert rig.content("a.yaml", "updates") == "a: 3\nz: 2\n"
    rig.repo.git("fsck", "--full", "--strict")


async def test_the_history_is_walked_once_while_neither_branch_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = Repo(tmp_path / "fleet.git")
    rig = Rig(repo, repo.url, tmp_path)
    repo.commit({"a.yaml": "a: 1\n"})
    writer = rig.writer()
    await writer.write(puts({"a.yaml": b"a: 2\n"}), branch="main", onto="updates")
    walks = 0
    walk = history.beyond

    def counted(*arguments: Any) -> list[tuple[str, tuple[str, ...]]]:
        nonlocal walks
        walks += 1
        return walk(*arguments)

    monkeypatch.setattr(history, "beyond", counted)
    for _ in range(3):
        assert await writer.write(puts({"a.yaml": b"a: 2\n"}), branch="main", onto="updates") is None
    assert walks == 1
    repo.commit({"notes.yaml": "n: 1\n"}, branch="updates")
    await writer.write(lambda _: None, branch="main", onto="updates")

    assert walks == 2


async def test_what_people_put_on_that_branch_stays(rig: Rig) -> None:
    rig.repo.commit({"a.yaml": "a: 1\n"})
    writer = rig.writer()
    await writer.write(puts({"a.yaml": b"a: 2\n"}), branch="main", onto="updates")
    people = rig.repo.commit({"notes.yaml": "n: 1\n"}, branch="updates")
    seen: list[Tip] = []

    def propose(tip: Tip) -> Proposal:
        seen.append(tip)
        return Proposal(message="x" + TRAILER, files={"a.yaml": b"a: 3\n"})

    written = await writer.write(propose, branch="main", onto="updates")

    assert written is not None
    assert written.parent == people
    assert set(seen[0].files) == {"a.yaml", "notes.yaml"}
    assert seen[0].others == people
    assert rig.content("notes.yaml", "updates") == "n: 1\n"


@pytest.mark.parametrize("name", ["edge/other", "other/fleet"])
async def test_what_another_update_or_agent_put_on_that_branch_stays(rig: Rig, name: str) -> None:
    rig.repo.commit({"a.yaml": "a: 1\n", "b.yaml": "b: 1\n"})
    theirs = await rig.writer(name=name).write(puts({"b.yaml": b"b: 2\n"}), branch="main", onto="updates")
    assert theirs is not None
    seen: list[Tip] = []

    def propose(tip: Tip) -> Proposal:
        seen.append(tip)
        return Proposal(message="x" + TRAILER, files={"a.yaml": b"a: 2\n"})

    await rig.writer("mirror-2").write(propose, branch="main", onto="updates")

    assert seen[0].others == theirs.commit
    assert (rig.content("a.yaml", "updates"), rig.content("b.yaml", "updates")) == ("a: 2\n", "b: 2\n")


async def test_a_commit_of_ours_that_a_person_changed_is_that_person_s(rig: Rig) -> None:
    rig.repo.commit({"a.yaml": "a: 1\n"})
    writer = rig.writer()
    await writer.write(puts({"a.yaml": b"a: 2\n"}), branch="main", onto="updates")
    kept = rig.repo.git("log", "-1", "--format=%B", "updates")
    amended = rig.repo.commit({"notes.yaml": "n: 1\n"}, message=kept, branch="updates")
    seen: list[Tip] = []

    await writer.write(seen.append, branch="main", onto="updates")

    assert seen[0].others == amended


# --- signatures ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa", "rsa, PEM"])
async def test_git_accepts_the_signature(tmp_path: Path, kind: str) -> None:
    key = tmp_path / "sign"
    name, _, form = kind.partition(", ")
    subprocess.run(["ssh-keygen", "-q", "-t", name, "-N", "", *(["-m", "PEM"] if form else []), "-f", key], check=True)
    repo = Repo(tmp_path / "fleet.git")
    repo.commit({"a.yaml": "a: 1\n"})
    rig = Rig(repo, repo.url, tmp_path)
    signers = tmp_path / "signers"
    signers.write_text(f"robot@example.com {key.with_suffix('.pub').read_text()}")

    written = await rig.writer(signing=SigningKey(kind=KeyKind.SSH, file=key)).write(
        puts({"a.yaml": b"a: 2\n"}), branch="main"
    )

    assert written is not None
    options = ["-c", "gpg.format=ssh", "-c", f"gpg.ssh.allowedSignersFile={signers}"]
    repo.git(*options, "verify-commit", written.commit)
    assert repo.git(*options, "log", "-1", "--format=%G? %GS", "main") == "G robot@example.com"


def gpg(home: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    return subprocess.run(
        [
            "gpg",
            "--homedir",
            home,
            "--batch",
            "--quiet",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
            "--faked-system-time",
            "20260101T000000",
            *arguments,
        ],
        input=stdin,
        capture_output=True,
        check=True,
    ).stdout


@pytest.mark.parametrize("kind", ["ed25519", "rsa3072", "subkey", "rsa3072, binary"])
async def test_gpg_accepts_an_openpgp_signature(tmp_path: Path, kind: str) -> None:
    home = tmp_path / "gpg"
    home.mkdir(mode=0o700)
    name, _, form = kind.partition(", ")
    if name == "subkey":
        gpg(home, "--quick-generate-key", "Robot <robot@example.com>", "ed25519", "cert")
        fingerprint = gpg(home, "--list-keys", "--with-colons").decode().split("fpr:::::::::")[1].split(":")[0]
        gpg(home, "--quick-add-key", fingerprint, "rsa3072", "sign")
    else:
        gpg(home, "--quick-generate-key", "Robot <robot@example.com>", name, "sign")
    key = tmp_path / "key"
    key.write_bytes(gpg(home, *([] if form else ["--armor"]), "--export-secret-keys"))
    repo = Repo(tmp_path / "fleet.git")
    repo.commit({"a.yaml": "a: 1\n"})
    rig = Rig(repo, repo.url, tmp_path)

    writer = rig.writer(signing=SigningKey(kind=KeyKind.OPENPGP, file=key))
    written = await writer.write(puts({"a.yaml": b"a: 2\n"}), branch="main")

    assert written is not None
    repo.git("verify-commit", written.commit, env={"GNUPGHOME": str(home)})
    shown = repo.git("log", "-1", "--format=%G? %GS", "main", env={"GNUPGHOME": str(home)})
    assert shown in {"U Robot <robot@example.com>", "G Robot <robot@example.com>"}


@pytest.mark.parametrize("what", ["nonsense", "public", "passphrase", "ssh", "cut"])
async def test_an_openpgp_key_that_cannot_sign_writes_nothing(tmp_path: Path, what: str) -> None:
    home = tmp_path / "gpg"
    home.mkdir(mode=0o700)
    key = tmp_path / "key"
    if what == "passphrase":
        subprocess.run(
            ["gpg", "--homedir", home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "s3cret",
             "--quick-generate-key", "Robot <robot@example.com>", "ed25519", "sign"],
            check=True, capture_output=True,
        )  # fmt: skip
        key.write_bytes(
            subprocess.run(
                ["gpg", "--homedir", home, "--batch", "--pinentry-mode", "loopback", "--passphrase", "s3cret",
                 "--armor", "--export-secret-keys"],
                check=True, capture_output=True,
            ).stdout
        )  # fmt: skip
    else:
        gpg(home, "--quick-generate-key", "Robot <robot@example.com>", "ed25519", "sign")
        key.write_bytes(
            {
                "nonsense": b"nonsense",
                "public": gpg(home, "--armor", "--export"),
                "ssh": b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
                "cut": gpg(home, "--export-secret-keys")[:40],
            }[what]
        )
    repo = Repo(tmp_path / "fleet.git")
    head = repo.commit({"a.yaml": "a: 1\n"})
    rig = Rig(repo, repo.url, tmp_path)

    with pytest.raises(SourceDenied, match=str(key)):
        await rig.writer(signing=SigningKey(kind=KeyKind.OPENPGP, file=key)).write(
            puts({"a.yaml": b"a: 2\n"}), branch="main"
        )

    assert repo.head() == head


@pytest.mark.parametrize("what", ["passphrase", "nonsense", "public", "gone"])
async def test_a_key_that_cannot_sign_writes_nothing(tmp_path: Path, what: str) -> None:
    key = tmp_path / "sign"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret phrase" if what == "passphrase" else "", "-f", key],
        check=True,
    )
    match what:
        case "nonsense":
            key.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n")
        case "public":
            key.write_text(key.with_suffix(".pub").read_text())
        case "gone":
            key.unlink()
    repo = Repo(tmp_path / "fleet.git")
    head = repo.commit({"a.yaml": "a: 1\n"})
    rig = Rig(repo, repo.url, tmp_path)

    with pytest.raises(SourceDenied, match=str(key)) as caught:
        await rig.writer(signing=SigningKey(kind=KeyKind.SSH, file=key)).write(
            puts({"a.yaml": b"a: 2\n"}), branch="main"
        )

    assert caught.value.hint
    assert repo.head() == head


# --- a thousand ------------------------------------------------------------------------------------------------------
PEOPLE, BY_EACH, ROBOTS, BY_ROBOT = 2, 150, 2, 350


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_thousand_pushes_at_once_lose_nothing(tmp_path: Path) -> None:
    """Three hundred by people with git, seven hundred by writers, on one branch that takes no force."""
    repo = Repo(tmp_path / "fleet.git")
    repo.git("config", "receive.denyNonFastForwards", "true")
    repo.git("config", "gc.auto", "0")
    repo.git("config", "receive.autogc", "false")
    repo.commit({f"robot-{number}.yaml": "n: 0\n" for number in range(ROBOTS)})
    rig = Rig(repo, repo.url, tmp_path)
    rig.timeout = 10 * MINUTE  # four at once on two cores: who waits is not who is slow

    people = [asyncio.to_thread(_person, tmp_path / f"person-{number}", repo, number) for number in range(PEOPLE)]
    robots = [_robot(rig.writer(f"mirror-{number}"), number) for number in range(ROBOTS)]
    attempts = await asyncio.gather(*robots, *people)

    subjects = repo.git("log", "--format=%s", "main").splitlines()
    expected = {f"person {who} {n}" for who in range(PEOPLE) for n in range(BY_EACH)}
    expected |= {f"robot {who} {n}" for who in range(ROBOTS) for n in range(BY_ROBOT)}
    assert len(expected) == 1000
    assert sorted(subjects) == sorted([*expected, "change"])
    assert repo.git("rev-list", "--min-parents=2", "--count", "main") == "0"
    for number in range(ROBOTS):
        assert rig.content(f"robot-{number}.yaml") == f"n: {BY_ROBOT}\n"
    for number in range(PEOPLE):
        assert rig.content(f"person-{number}.txt") == f"{BY_EACH - 1}\n"
    repo.git("fsck", "--full", "--strict")
    assert max(attempts) > 1, "nobody was ever in anybody's way: the test shows nothing"


async def _robot(writer: GitWriter, number: int) -> int:
    """The most attempts that one of its commits took."""
    most = 0
    for count in range(BY_ROBOT):

        def propose(tip: Tip, count: int = count) -> Proposal:
            before = tip.files[f"robot-{number}.yaml"]
            assert before == f"n: {count}\n".encode()
            return Proposal(
                message=f"robot {number} {count}" + TRAILER,
                files={f"robot-{number}.yaml": f"n: {count + 1}\n".encode()},
            )

        while True:
            try:
                written = await writer.write(propose, branch="main")
            except PushContended:
                most = 10
                continue  # as the daemon does, later
            assert written is not None
            most = max(most, written.attempts)
            break
    return most


def _person(work: Path, repo: Repo, number: int) -> int:
    environment = {**BARE_ENVIRONMENT, **IDENTITY}

    def git(*args: str | Path) -> int:
        return subprocess.run(["git", *args], cwd=work, env=environment, capture_output=True).returncode

    work.mkdir()
    assert git("clone", "-q", repo.path, ".") == 0
    for count in range(BY_EACH):
        (work / f"person-{number}.txt").write_text(f"{count}\n")
        assert git("add", "-A") == 0
        assert git("commit", "-q", "-m", f"person {number} {count}") == 0
        while git("push", "-q", "origin", "main"):
            assert git("pull", "-q", "--rebase", "origin", "main") == 0
    return 1
