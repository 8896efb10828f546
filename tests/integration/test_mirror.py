"""The mirror against a real Git server and real local repositories: what is fetched, what is read."""

# These tests prepare and look at files and processes between their awaits, while nothing else runs.
# ruff: noqa: ASYNC109, ASYNC221, ASYNC240

from __future__ import annotations

import asyncio
import gc
import os
import stat
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest
from dulwich.pack import Pack

from gitsyncd.edges.git.caps import Caps
from gitsyncd.edges.git.mirror import GitMirror
from gitsyncd.edges.git.store import ObjectStore
from gitsyncd.model.errors import (
    ConfigError,
    ManifestInvalid,
    RevisionNotFound,
    SourceDenied,
    SourceError,
    SourceTooLarge,
    SourceUnreachable,
)
from gitsyncd.model.source import BearerAuth, CertificateAuth, PasswordAuth, Repository
from tests.gitserver.certificates import Authority
from tests.gitserver.repository import Repo
from tests.gitserver.server import GitServer

pytestmark = pytest.mark.real

MINUTE = timedelta(minutes=1)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with GitServer(tmp_path / "srv") as running:
        yield running


@asynccontextmanager
async def opened(
    folder: Path, url: str, *, caps: Caps | None = None, timeout: timedelta = MINUTE
) -> AsyncIterator[GitMirror]:
    mirror = GitMirror(folder, Repository(url=url), timeout, agent="gitsyncd/test", caps=caps)
    try:
        yield mirror
    finally:
        await mirror.close()


@pytest.fixture(params=["http", "http, protocol 0", "file"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Repo, str]]:
    """A repository, and the URL at which it is asked."""
    with GitServer(tmp_path / "srv", protocol=0 if "0" in request.param else 2) as running:
        repo = running.create("fleet")
        yield repo, repo.url if request.param == "file" else running.url("fleet")


async def test_a_branch_is_mirrored_and_its_files_are_read(remote: tuple[Repo, str], tmp_path: Path) -> None:
    repo, url = remote
    first = repo.commit({"web/a.yaml": "a: 1", "web/notes.md": "no", "other/b.yaml": "b: 1"})
    second = repo.commit({"web/sub/c.yml": "c: 1"}, message="two\n\nGitsyncd-Approve: web@eu-1 prune=3\n")

    async with opened(tmp_path / "mirror", url) as mirror:
        heads = await mirror.update(["main", "gone"])
        revision = await mirror.revision("fleet", "main", second)
        snapshot = await mirror.snapshot(second, "web")
        older = await mirror.snapshot(first, "web")

        assert heads == {"main": second, "gone": None}
        assert [(file.path, file.content) for file in snapshot.files] == [
            ("web/a.yaml", b"a: 1"),
            ("web/sub/c.yml", b"c: 1"),
        ]
        assert snapshot.tree == repo.git("rev-parse", f"{second}:web") == await mirror.tree_id(second, "web")
        assert [file.path for file in older.files] == ["web/a.yaml"]
        assert revision.approvals == ("web@eu-1 prune=3",)
        assert revision.committed_at == datetime.fromtimestamp(int(repo.git("log", "-1", "--format=%ct", second)), UTC)
        assert await mirror.descends(second, first)
        assert not await mirror.descends(first, second)


async def test_what_was_opened_to_be_read_does_not_wait_for_the_garbage_collector(
    server: GitServer, tmp_path: Path
) -> None:
    repo = server.create("fleet")
    commit = repo.commit({"web/a.yaml": "a: 1"})
    async with opened(tmp_path / "mirror", server.url("fleet")) as mirror:
        await mirror.update(["main"])
        gc.collect()
        gc.disable()
        try:
            await mirror.snapshot(commit, "web")
            left = [thing for thing in gc.get_objects() if isinstance(thing, Pack)]
        finally:
            gc.enable()

    assert left == []


async def test_a_new_commit_is_fetched_alone(remote: tuple[Repo, str], tmp_path: Path) -> None:
    repo, url = remote
    repo.commit({f"web/{number}.yaml": f"a: {number}" for number in range(200)})
    async with opened(tmp_path / "mirror", url) as mirror:
        await mirror.update(["main"])
        second = repo.commit({"web/7.yaml": "a: changed"})

        heads = await mirror.update(["main"])

        assert heads == {"main": second}
        # Commit, two folders, one file.
        assert sorted(objects_in(path) for path in (tmp_path / "mirror/objects/pack").glob("*.pack")) == [4, 203]


def objects_in(pack: Path) -> int:
    return int.from_bytes(pack.read_bytes()[8:12], "big")


async def test_only_the_wanted_branches_are_fetched(remote: tuple[Repo, str], tmp_path: Path) -> None:
    repo, url = remote
    repo.commit({"a.yaml": "a: 1"})
    other = repo.commit({"b.yaml": "b: 1"}, branch="main2", parent=None)
    tagged = repo.commit({"c.yaml": "c: 1"}, branch="temporary", parent=None)
    repo.git("tag", "v1", tagged)
    async with opened(tmp_path / "mirror", url) as mirror:
        await mirror.update(["main"])

        for commit in (other, tagged):
            with pytest.raises(RevisionNotFound):
                await mirror.revision("fleet", "main", commit)


async def test_an_empty_repository_answers_none_and_is_fetched_once_it_has_a_commit(
    remote: tuple[Repo, str], tmp_path: Path
) -> None:
    repo, url = remote
    async with opened(tmp_path / "mirror", url) as mirror:
        before = await mirror.update(["main", "env/eu"])
        commit = repo.commit({"a.yaml": "a: 1"})
        after = await mirror.update(["main", "env/eu"])

        assert before == {"main": None, "env/eu": None}
        assert after == {"main": commit, "env/eu": None}


async def test_a_branch_that_is_deleted_is_none_and_its_commit_stays_readable(
    remote: tuple[Repo, str], tmp_path: Path
) -> None:
    repo, url = remote
    repo.commit({"a.yaml": "a: 1"})
    commit = repo.commit({"b.yaml": "b: 1"}, branch="env")
    async with opened(tmp_path / "mirror", url) as mirror:
        await mirror.update(["main", "env"])
        repo.delete("env")
        # A branch below the name of the one that was there: no file may stand in the way.
        below = repo.commit({"c.yaml": "c: 1"}, branch="env/eu")

        heads = await mirror.update(["main", "env", "env/eu"])

        assert heads == {"main": repo.head(), "env": None, "env/eu": below}
        assert [file.path for file in (await mirror.snapshot(commit, "")).files] == ["b.yaml"]


async def test_a_rewritten_branch_is_followed_and_is_no_descendant(remote: tuple[Repo, str], tmp_path: Path) -> None:
    repo, url = remote
    base = repo.commit({"a.yaml": "a: 1"})
    old = repo.commit({"a.yaml": "a: 2"})
    async with opened(tmp_path / "mirror", url) as mirror:
        await mirror.update(["main"])
        repo.set_head("main", base)
        new = repo.commit({"a.yaml": "a: 3"})

        heads = await mirror.update(["main"])

        assert heads == {"main": new}
        assert not await mirror.descends(new, old)
        assert await mirror.descends(new, base)
        assert (await mirror.snapshot(old, "")).files[0].content == b"a: 2"


async def test_a_rewind_to_an_older_commit_fetches_nothing(remote: tuple[Repo, str], tmp_path: Path) -> None:
    repo, url = remote
    base = repo.commit({"a.yaml": "a: 1"})
    old = repo.commit({"a.yaml": "a: 2"})
    async with opened(tmp_path / "mirror", url) as mirror:
        await mirror.update(["main"])
        repo.set_head("main", base)

        heads = await mirror.update(["main"])

        assert heads == {"main": base}
        assert not await mirror.descends(base, old)
        assert await mirror.descends(old, base)


async def test_both_parents_of_a_merge_are_ancestors_whatever_their_clocks_say(
    server: GitServer, tmp_path: Path
) -> None:
    repo = server.create("fleet")
    base = repo.commit({"a.yaml": "a: 1"})
    left = repo.commit({"b.yaml": "b: 1"})
    tree = repo.git("rev-parse", f"{base}^{{tree}}")
    right = repo.git("commit-tree", tree, "-p", base, "-m", "right", env={"GIT_COMMITTER_DATE": "@4000000000 +0000"})
    ancient = repo.git("commit-tree", tree, "-p", right, "-m", "ancient", env={"GIT_COMMITTER_DATE": "@1 +0000"})
    merge = repo.git(
        "commit-tree", tree, "-p", left, "-p", ancient, "-m", "merge", env={"GIT_COMMITTER_DATE": "@2 +0000"}
    )
    repo.set_head("main", merge)
    async with opened(tmp_path / "mirror", server.url("fleet")) as mirror:
        await mirror.update(["main"])

        answers = [await mirror.descends(merge, commit) for commit in (base, left, right, ancient, merge)]
        others = [
            await mirror.descends(left, right),
            await mirror.descends(ancient, left),
            await mirror.descends(left, "0" * 40),
        ]

        assert answers == [True] * 5
        assert others == [False] * 3


async def test_a_missing_path_names_path_and_commit(remote: tuple[Repo, str], tmp_path: Path) -> None:
    repo, url = remote
    commit = repo.commit({"web/a.yaml": "a: 1"})
    async with opened(tmp_path / "mirror", url) as mirror:
        await mirror.update(["main"])

        for path in ("clusters", "web/a.yaml/b", "web/b.yaml"):
            with pytest.raises(RevisionNotFound) as caught:
                await mirror.snapshot(commit, path)
            assert path in str(caught.value)
            assert commit in str(caught.value)
        with pytest.raises(ConfigError):
            await mirror.tree_id(commit, "../web")


async def test_a_path_that_is_a_file_gives_that_file(server: GitServer, tmp_path: Path) -> None:
    repo = server.create("fleet")
    commit = repo.commit({"web/a.yaml": "a: 1", "web/b.yaml": "b: 1"})
    async with opened(tmp_path / "mirror", server.url("fleet")) as mirror:
        await mirror.update(["main"])

        snapshot = await mirror.snapshot(commit, "./web/a.yaml")

        assert [(file.path, file.content) for file in snapshot.files] == [("web/a.yaml", b"a: 1")]
        assert snapshot.tree == snapshot.files[0].blob


async def test_a_change_elsewhere_leaves_the_identity_of_a_path_alone(server: GitServer, tmp_path: Path) -> None:
    repo = server.create("fleet")
    first = repo.commit({"web/a.yaml": "a: 1", "other/b.yaml": "b: 1"})
    second = repo.commit({"other/b.yaml": "b: 2"})
    async with opened(tmp_path / "mirror", server.url("fleet")) as mirror:
        await mirror.update(["main"])

        same = await mirror.tree_id(first, "web") == await mirror.tree_id(second, "web")
        whole = await mirror.tree_id(first, "") == await mirror.tree_id(second, "")

        assert (same, whole) == (True, False)


async def test_who_changed_a_path_is_told_newest_first(server: GitServer, tmp_path: Path) -> None:
    repo = server.create("fleet")
    first = repo.commit({"web/a.yaml": "a: 1\n", "other.yaml": "o: 1\n"})
    other = repo.commit({"other.yaml": "o: 2\n"})
    second = repo.commit({"web/a.yaml": "a: 2\n"})
    gone = repo.commit({"web/a.yaml": None})
    async with opened(tmp_path / "mirror", server.url("fleet")) as mirror:
        await mirror.update(["main"])

        assert await mirror.touching("web", gone, since=first) == [gone, second]
        assert await mirror.touching("web", gone, since=gone) == []
        assert await mirror.touching("web", other, since=first) == []
        assert await mirror.touching("web", first, since="0" * 40) == [first]
        assert [await mirror.touching("web", each) for each in (other, second)] == [[], [second]]
        with pytest.raises(RevisionNotFound):
            await mirror.touching("web", "1" * 40)


async def test_the_first_digits_of_a_commit_are_enough_where_no_other_has_them(
    server: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = server.create("fleet")
    first = repo.commit({"a.yaml": "a: 1\n"})
    second = repo.commit({"a.yaml": "a: 2\n"})
    tree = repo.git("rev-parse", "main^{tree}")
    async with opened(tmp_path / "mirror", server.url("fleet")) as mirror:
        await mirror.update(["main"])

        for digits in (7, 8, 13, 39, 40):
            found = await mirror.revision("fleet", "main", first[:digits])
            assert found.commit == first
        for none in (first[:6], tree[:10], "0" * 10, ""):
            with pytest.raises(RevisionNotFound):
                await mirror.revision("fleet", "main", none)

        monkeypatch.setattr(ObjectStore, "beginning", lambda _store, _digits: {first, second, tree})
        with pytest.raises(RevisionNotFound, match=f"several commits begin with {first[:9]}"):
            await mirror.revision("fleet", "main", first[:9])


async def test_links_to_files_below_the_path_are_followed_and_all_others_refused(
    server: GitServer, tmp_path: Path
) -> None:
    repo = server.create("fleet")
    good = repo.commit(
        {"web/a.yaml": "a: 1", "out.yaml": "o: 1"},
        links={"web/sub/link.yaml": "../a.yaml", "web/twice.yaml": "sub/link.yaml"},
    )
    bad = {
        target: repo.commit({}, links={"web/bad.yaml": target}, parent=good)
        for target in (
            "../out.yaml",
            "/etc/passwd",
            "bad.yaml",
            "missing.yaml",
            "sub",
            "sub/../../out.yaml",
            "../web/a.yaml",
        )
    }
    for number, commit in enumerate(bad.values()):
        repo.set_head(f"bad{number}", commit)
    repo.set_head("main", good)
    async with opened(tmp_path / "mirror", server.url("fleet")) as mirror:
        await mirror.update(["main", *(f"bad{number}" for number in range(len(bad)))])

        snapshot = await mirror.snapshot(good, "web")

        assert {file.path: file.content for file in snapshot.files} == {
            "web/a.yaml": b"a: 1",
            "web/sub/link.yaml": b"a: 1",
            "web/twice.yaml": b"a: 1",
        }
        for commit in bad.values():
            with pytest.raises(ManifestInvalid) as caught:
                await mirror.snapshot(commit, "web")
            assert caught.value.file == "web/bad.yaml"


@pytest.mark.parametrize(
    "name",
    [
        b"..",
        b".",
        b".git",
        b".GIT",
        b".gi\xe2\x80\x8ct",
        b".git ",
        b"git~1",
        b".git::$INDEX_ALLOCATION",
        b"a\\b",
        b"a\nb",
        b"\x1b[31m",
        b"\xff.yaml",
    ],
)
async def test_a_dangerous_name_is_refused_and_named(server: GitServer, tmp_path: Path, name: bytes) -> None:
    repo = server.create("fleet")
    commit = repo.raw_commit([("100644", name, repo.blob(b"a: 1"))])
    async with opened(tmp_path / "mirror", server.url("fleet")) as mirror:
        await mirror.update(["main"])

        with pytest.raises(ManifestInvalid) as caught:
            await mirror.snapshot(commit, "")

        assert caught.value.file
        assert caught.value.file.isprintable()


async def test_names_that_differ_by_case_or_accents_alone_are_refused(server: GitServer, tmp_path: Path) -> None:
    repo = server.create("fleet")
    blob = repo.blob(b"a: 1")
    commits = [
        repo.raw_commit([("100644", first, blob), ("100644", second, blob)], branch=branch)
        for branch, first, second in (("case", b"A.yaml", b"a.yaml"), ("accent", b"caf\xc3\xa9", b"cafe\xcc\x81"))
    ]
    async with opened(tmp_path / "mirror", server.url("fleet")) as mirror:
        await mirror.update(["case", "accent"])

        for commit in commits:
            with pytest.raises(ManifestInvalid, match="same name"):
                await mirror.snapshot(commit, "")


async def test_a_submodule_is_refused_with_a_hint_and_does_not_stop_the_fetch(
    remote: tuple[Repo, str], tmp_path: Path
) -> None:
    repo, url = remote
    commit = repo.raw_commit([("160000", b"vendored", "1" * 40)])
    async with opened(tmp_path / "mirror", url) as mirror:
        await mirror.update(["main"])

        with pytest.raises(ManifestInvalid) as caught:
            await mirror.snapshot(commit, "")

        assert caught.value.file == "vendored"
        assert "source" in caught.value.hint


async def test_caps_of_a_snapshot_name_what_is_above_them(server: GitServer, tmp_path: Path) -> None:
    repo = server.create("fleet")
    commit = repo.commit(
        {
            "big/a.yaml": b"#" * 3000,
            "big/picture.png": os.urandom(5000),
            "many/a.yaml": "1",
            "many/b.yaml": "2",
            "many/c.yaml": "3",
            "many/d.yaml": "4",
            "deep/1/2/3/a.yaml": "x",
        }
    )
    caps = Caps(manifest_bytes=2000, files=3, depth=2)
    async with opened(tmp_path / "mirror", server.url("fleet"), caps=caps) as mirror:
        await mirror.update(["main"])

        for path, words in (("big", "big/a.yaml"), ("many", "more than 3 files"), ("deep", "folders deep")):
            with pytest.raises(SourceTooLarge, match=words):
                await mirror.snapshot(commit, path)


async def test_a_folder_that_is_a_huge_list_is_refused_before_it_is_read(server: GitServer, tmp_path: Path) -> None:
    commit = server.create("fleet").commit(
        {f"huge/{number}.txt": "x" for number in range(100)} | {"web/a.yaml": "a: 1"}
    )
    async with opened(tmp_path / "mirror", server.url("fleet"), caps=Caps(tree_bytes=1000)) as mirror:
        await mirror.update(["main"])

        assert len((await mirror.snapshot(commit, "web")).files) == 1
        for look in (mirror.snapshot(commit, "huge"), mirror.tree_id(commit, "huge/1.txt")):
            with pytest.raises(SourceTooLarge, match="the folder huge"):
                await look


async def test_many_fetches_leave_few_packs_and_git_finds_no_fault_with_them(server: GitServer, tmp_path: Path) -> None:
    repo = server.create("fleet")
    repo.commit({f"{number}.yaml": f"a: {number}\n" * 50 for number in range(20)})
    async with opened(tmp_path / "mirror", server.url("fleet"), caps=Caps(packs=3)) as mirror:
        commits = []
        for number in range(8):
            commits.append(repo.commit({"1.yaml": f"a: {number}\n" * 60}))
            await mirror.update(["main"])

        contents = [(await mirror.snapshot(commit, "1.yaml")).files[0].content for commit in commits]

        assert contents == [f"a: {number}\n".encode() * 60 for number in range(8)]
        assert len(list((tmp_path / "mirror/objects/pack").glob("*.pack"))) <= 3
        done = subprocess.run(
            ["git", "-C", str(tmp_path / "mirror"), "fsck", "--full", "--strict"], capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")


async def test_a_warm_poll_is_one_request_and_opens_nothing(server: GitServer, tmp_path: Path) -> None:
    repo = server.create("fleet")
    repo.commit({"a.yaml": "a: 1"})
    async with opened(tmp_path / "mirror", server.url("fleet")) as mirror:
        await mirror.update(["main"])
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        server.requests.clear()

        for _ in range(5):
            await mirror.update(["main"])

        assert [request.kind for request in server.requests] == ["ls-refs"] * 5
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


async def test_the_environment_and_the_users_git_configuration_are_ignored(
    server: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = server.create("fleet")
    commit = repo.commit({"a.yaml": "a: 1"})
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        '[url "http://127.0.0.1:1/"]\n\tinsteadOf = http://\n[http]\n\tproxy = http://127.0.0.1:1\n'
    )
    (home / ".netrc").write_text("machine 127.0.0.1 login eve password stolen\n")
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    async with opened(tmp_path / "mirror", server.url("fleet")) as mirror:
        assert await mirror.update(["main"]) == {"main": commit}

    assert not any("Authorization" in request.headers for request in server.requests)


async def test_a_bearer_token_is_read_again_when_it_changes(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0ld")
    with GitServer(tmp_path / "srv", token="n3w") as server:
        head = server.create("fleet").commit({"a.yaml": "a: 1"})
        repository = Repository(url=server.url("fleet"), auth=BearerAuth(token_file=token))
        mirror = GitMirror(tmp_path / "mirror", repository, MINUTE, agent="gitsyncd/test")
        with pytest.raises(SourceDenied, match="refuses the token") as caught:
            await mirror.update(["main"])
        assert str(token) in str(caught.value.hint)

        token.write_text("n3w\n")
        assert await mirror.update(["main"]) == {"main": head}

        token.write_text("two words")
        with pytest.raises(SourceDenied, match="holds more than a token") as caught:
            await mirror.update(["main"])
        assert "two words" not in str(caught.value)
        await mirror.close()


async def test_a_client_certificate_is_shown_and_read_again_when_it_changes(tmp_path: Path) -> None:
    authority, others = Authority(tmp_path / "ca"), Authority(tmp_path / "other-ca")
    right, wrong = authority.server_certificate("edge"), others.server_certificate("edge")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    for source, copy in zip(wrong, (cert, key), strict=True):
        copy.write_bytes(source.read_bytes())
    with GitServer(tmp_path / "srv", authority=authority, client_certificates=True) as server:
        head = server.create("fleet").commit({"a.yaml": "a: 1"})
        auth = CertificateAuth(cert_file=cert, key_file=key)
        repository = Repository(url=server.url("fleet"), auth=auth, ca_file=authority.ca_file)
        mirror = GitMirror(tmp_path / "mirror", repository, MINUTE, agent="gitsyncd/test")
        with pytest.raises(SourceError):
            await mirror.update(["main"])

        cert.write_bytes(right[0].read_bytes())
        with pytest.raises(SourceDenied, match="not a certificate and its own key"):
            await mirror.update(["main"])

        key.write_bytes(right[1].read_bytes())
        assert await mirror.update(["main"]) == {"main": head}
        await mirror.close()


async def test_tls_with_a_private_ca_and_a_password_that_changes(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    password = tmp_path / "password"
    password.write_text("first\n")
    with GitServer(tmp_path / "srv", authority=authority, credentials=("git", "first")) as server:
        repo = server.create("fleet")
        repo.commit({"a.yaml": "a: 1"})
        repository = Repository(
            url=server.url("fleet"),
            auth=PasswordAuth(username="git", password_file=password),
            ca_file=authority.ca_file,
        )
        mirror = GitMirror(tmp_path / "mirror", repository, MINUTE, agent="gitsyncd/test")
        await mirror.update(["main"])
        second = repo.commit({"a.yaml": "a: 2"})
        server.credentials = ("git", "second")
        password.write_text("second")

        heads = await mirror.update(["main"])
        await mirror.close()

    assert heads == {"main": second}


@pytest.mark.parametrize("protocol", [0, 2])
async def test_requests_name_the_program_and_the_agent(tmp_path: Path, protocol: Literal[0, 2]) -> None:
    with GitServer(tmp_path / "srv", protocol=protocol) as server:
        commit = server.create("fleet").commit({"a.yaml": "a: 1"})
        agent = "gitsyncd/1.0 (edge-eu)"
        mirror = GitMirror(tmp_path / "mirror", Repository(url=server.url("fleet")), MINUTE, agent=agent)
        heads = await mirror.update(["main"])
        await mirror.close()

    assert heads == {"main": commit}
    assert {request.headers["User-Agent"] for request in server.requests} == {"git/2.0 gitsyncd/1.0 (edge-eu)"}


async def test_files_of_the_mirror_are_for_its_owner_alone(server: GitServer, tmp_path: Path) -> None:
    server.create("fleet").commit({"a.yaml": "a: 1"})
    async with opened(tmp_path / "mirror", server.url("fleet")) as mirror:
        await mirror.update(["main"])

    paths = [tmp_path / "mirror", tmp_path / "mirror.lock", *(tmp_path / "mirror").rglob("*")]
    modes = {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in paths}
    assert modes == {(True, 0o700), (False, 0o600)}


async def test_a_work_tree_and_a_linked_work_tree_are_read_like_a_bare_repository(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "bare.git")
    commit = repo.commit({"a.yaml": "a: 1"})
    repo.git("clone", "-q", str(repo.path), str(tmp_path / "tree"))
    repo.git("-C", str(tmp_path / "tree"), "worktree", "add", "-q", "-b", "side", str(tmp_path / "linked"))
    for number, folder in enumerate(("tree", "linked")):
        async with opened(tmp_path / f"mirror{number}", f"file://{tmp_path / folder}") as mirror:
            assert await mirror.update(["main", "side"]) == {"main": commit, "side": commit}


async def test_packed_refs_and_packed_objects_of_a_local_repository_are_read(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "bare.git")
    for number in range(5):
        repo.commit({f"{name}.yaml": f"a: {number}\n" * 30 for name in range(20)})
    repo.git("gc", "-q")
    async with opened(tmp_path / "mirror", repo.url) as mirror:
        heads = await mirror.update(["main"])

        assert heads == {"main": repo.head()}
        assert len((await mirror.snapshot(str(heads["main"]), "")).files) == 20


async def test_a_shallow_clone_is_refused_with_the_command_that_helps(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "bare.git")
    repo.commit({"a.yaml": "a: 1"})
    repo.commit({"a.yaml": "a: 2"})
    repo.git("clone", "-q", "--bare", "--depth=1", repo.url, str(tmp_path / "shallow.git"))
    with GitServer(tmp_path) as server:
        for number, url in enumerate((f"file://{tmp_path / 'shallow.git'}", server.url("shallow"))):
            async with opened(tmp_path / f"mirror{number}", url) as mirror:
                with pytest.raises(RevisionNotFound, match="shallow"):
                    await mirror.update(["main"])


async def test_what_is_no_repository_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "missing"):
        async with opened(tmp_path / "mirror", f"file://{path}") as mirror:
            with pytest.raises(SourceUnreachable, match=path.name):
                await mirror.update(["main"])


async def test_a_branch_name_that_could_smuggle_a_line_is_refused(server: GitServer, tmp_path: Path) -> None:
    server.create("fleet").commit({"a.yaml": "a: 1"})
    async with opened(tmp_path / "mirror", server.url("fleet")) as mirror:
        for branch in ("a\nb", "", "-x", "a b", "../x", "a..b", "x.lock", "/a", "a//b"):
            with pytest.raises(ConfigError):
                await mirror.update([branch])
    assert server.requests == []


async def test_two_mirrors_in_one_directory_take_turns(server: GitServer, tmp_path: Path) -> None:
    repo = server.create("fleet")
    first = repo.commit({"a.yaml": "a: 1"})
    second = repo.commit({"b.yaml": "b: 1"}, branch="side")
    async with (
        opened(tmp_path / "mirror", server.url("fleet")) as one,
        opened(tmp_path / "mirror", server.url("fleet")) as other,
    ):
        heads = await asyncio.gather(
            *(mirror.update([branch]) for mirror in (one, other) for branch in ("main", "side"))
        )

        assert heads == [{"main": first}, {"side": second}] * 2
        assert await one.tree_id(second, "") == await other.tree_id(second, "")


async def test_reading_goes_on_while_another_owner_fetches_and_joins_packs(server: GitServer, tmp_path: Path) -> None:
    repo = server.create("fleet")
    first = repo.commit({f"{number}.yaml": f"a: {number}" for number in range(30)})
    url = server.url("fleet")
    async with (
        opened(tmp_path / "mirror", url) as reader,
        opened(tmp_path / "mirror", url, caps=Caps(packs=1)) as writer,
    ):
        await reader.update(["main"])

        async def read_on() -> int:
            rounds = 0
            while not done.is_set():
                assert len((await reader.snapshot(first, "")).files) == 30
                rounds += 1
            return rounds

        done = asyncio.Event()
        reading = asyncio.create_task(read_on())
        for number in range(8):
            commit = repo.commit({"new.yaml": f"a: {number}"})
            assert await writer.update(["main"]) == {"main": commit}
        done.set()

        assert await reading > 8
        assert len(list((tmp_path / "mirror/objects/pack").glob("*.pack"))) == 1
        assert not list(tmp_path.glob("mirror.damaged-*"))
