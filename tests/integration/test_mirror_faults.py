"""The mirror against servers that lie, hang, break off and refuse: a typed error, and nothing lost."""

# These tests prepare and look at files and processes between their awaits, while nothing else runs.
# ruff: noqa: ASYNC110, ASYNC240

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import resource
import threading
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gitsyncd.edges.git.caps import Caps
from gitsyncd.edges.git.mirror import GitMirror
from gitsyncd.model.errors import (
    ConfigError,
    GitsyncdError,
    LocalError,
    RevisionNotFound,
    SourceDenied,
    SourceTooLarge,
    SourceUnreachable,
)
from gitsyncd.model.source import PasswordAuth, Repository
from tests.gitserver.certificates import Authority
from tests.gitserver.children import fetch_child
from tests.gitserver.repository import Repo
from tests.gitserver.server import Answer, Cut, Fault, Flip, GitServer, Replace, Stall, html_page

pytestmark = pytest.mark.real

MINUTE = timedelta(minutes=1)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with GitServer(tmp_path / "srv") as running:
        yield running


class Rig:
    """A server with one repository of one commit that the mirror has, and a second one that it has not."""

    def __init__(
        self, server: GitServer, folder: Path, *, caps: Caps | None = None, timeout: timedelta = MINUTE
    ) -> None:
        self.server = server
        self.folder = folder
        self.repo: Repo = server.create("fleet")
        self.now = 0.0
        self._caps = caps
        self._timeout = timeout
        self.mirror = self._open(server.url("fleet"))
        self.first = ""
        self.second = ""

    def _open(self, url: str) -> GitMirror:
        return GitMirror(
            self.folder,
            Repository(url=url),
            self._timeout,
            agent="gitsyncd/test",
            caps=self._caps,
            clock=lambda: self.now,
        )

    async def reopen(self, url: str) -> None:
        """As another process would: nothing is known of the server."""
        await self.mirror.close()
        self.mirror = self._open(url)

    async def begin(self) -> None:
        self.first = self.repo.commit({f"{number}.yaml": os.urandom(40).hex() for number in range(100)})
        await self.mirror.update(["main"])
        self.second = self.repo.commit({"new.yaml": os.urandom(8000).hex()})

    async def fails(self, kind: type[GitsyncdError]) -> GitsyncdError:
        """The next update raises this, and what was there is there: nothing more, nothing less."""
        packs = self.packs()
        with pytest.raises(kind) as caught:
            await self.mirror.update(["main"])
        assert self.packs() == packs
        assert list((self.folder / "incoming").iterdir()) == []
        assert len((await self.mirror.snapshot(self.first, "")).files) == 100
        return caught.value

    async def recovers(self) -> None:
        self.server.fault = None
        assert await self.mirror.update(["main"]) == {"main": self.second}
        assert len((await self.mirror.snapshot(self.second, "")).files) == 101

    def packs(self) -> set[str]:
        return {path.name for path in (self.folder / "objects/pack").iterdir()}


MakeRig = Callable[..., Awaitable[Rig]]


@pytest.fixture
async def rigs() -> AsyncIterator[MakeRig]:
    """Makes rigs that are closed at the end, and have begun."""
    made: list[Rig] = []

    async def make(server: GitServer, folder: Path, **options: Any) -> Rig:
        made.append(Rig(server, folder, **options))
        await made[-1].begin()
        return made[-1]

    yield make
    for rig in made:
        await rig.mirror.close()


async def test_a_stream_cut_at_every_kilobyte_of_a_pack_loses_nothing(
    rigs: MakeRig, server: GitServer, tmp_path: Path
) -> None:
    rig = await rigs(server, tmp_path / "mirror")

    for after in range(0, 8 * 1024, 1024):
        server.fault = Cut(after=after, at="fetch")
        error = await rig.fails(SourceUnreachable)
        assert "ended in the middle" in str(error)

    await rig.recovers()


@pytest.mark.parametrize("at", ["discovery", "ls-refs"])
@pytest.mark.parametrize("after", [0, 1, 5, 30, 60])
async def test_a_poll_that_is_cut_is_an_error_and_no_answer(
    rigs: MakeRig, server: GitServer, tmp_path: Path, at: str, after: int
) -> None:
    rig = await rigs(server, tmp_path / "mirror")
    await rig.reopen(server.url("fleet"))
    server.fault = Cut(after=after, at=at)  # type: ignore[arg-type]

    await rig.fails(SourceUnreachable)

    await rig.recovers()


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (html_page(), SourceUnreachable, "web page"),
        (html_page("fetch"), SourceUnreachable, "web page"),
        (Answer(status=500), SourceUnreachable, "500"),
        (Answer(status=503, at="fetch"), SourceUnreachable, "503"),
        (Answer(status=429), SourceUnreachable, "slow down"),
        (Answer(status=401), SourceDenied, "none are configured"),
        (Answer(status=403), SourceDenied, "403"),
        (Answer(status=404), SourceDenied, "not found, or no permission"),
        (Answer(body=b"", at="fetch"), SourceUnreachable, "ended"),
        (Answer(body=b"0000", at="fetch"), SourceUnreachable, "before a pack"),
        (Answer(body=b"zzzz" * 100, at="fetch"), SourceUnreachable, "length of a packet"),
        (Answer(body=b"fffffoo", at="ls-refs"), SourceUnreachable, "too long"),
        (Answer(body=b"0003", at="ls-refs"), SourceUnreachable, "length 3"),
        (Answer(body=b"000bhello\n\n0000", at="ls-refs"), SourceUnreachable, "not a ref"),
        (Answer(body=b"0013ERR you may not"), SourceUnreachable, "you may not"),
        (Answer(body=b"0011ERR \x1b[31mred\n", at="fetch"), SourceUnreachable, "x1b"),
        (Answer(body=b"000dpackfile\n000c\x03go away", at="fetch"), SourceUnreachable, "go away"),
        (Answer(body=b"000dpackfile\n0009\x01PACK0000", at="fetch"), SourceUnreachable, "not a pack"),
        (Answer(body=b"000dpackfile\n0009\x09what0000", at="fetch"), SourceUnreachable, "in place of a part"),
        (Answer(content_type="application/json", body=b"{}"), SourceUnreachable, "application/json"),
        (Answer(content_type="text/plain", body=b"ref"), SourceUnreachable, "smart protocol"),
        (Flip(at_byte=300, at="fetch"), SourceUnreachable, ""),
        (Replace(old=b"packfile\n", new=b"sillyfil\n", at="fetch"), SourceUnreachable, "in place of a pack"),
    ],
)
async def test_a_wrong_answer_is_a_typed_error_and_the_next_poll_succeeds(
    rigs: MakeRig, server: GitServer, tmp_path: Path, fault: Fault, kind: type[GitsyncdError], words: str
) -> None:
    rig = await rigs(server, tmp_path / "mirror")
    server.fault = fault

    error = await rig.fails(kind)

    assert words in str(error)
    assert error.hint
    assert str(error).isprintable()
    await rig.recovers()


async def test_every_flipped_byte_of_a_pack_on_the_way_is_noticed(
    rigs: MakeRig, server: GitServer, tmp_path: Path
) -> None:
    rig = await rigs(server, tmp_path / "mirror")

    for at_byte in range(20, 6000, 400):
        server.fault = Flip(at_byte=at_byte, at="fetch")
        await rig.fails(SourceUnreachable)

    await rig.recovers()


@pytest.mark.parametrize("at", ["ls-refs", "fetch"])
async def test_a_silent_server_ends_with_the_timeout_and_leaves_nothing_open(
    rigs: MakeRig, server: GitServer, tmp_path: Path, at: str
) -> None:
    rig = await rigs(server, tmp_path / "mirror", timeout=timedelta(seconds=3))  # the first fetch has to fit
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    threads = threading.active_count()
    for fault in (Stall(after=30, at=at), Stall(before_headers=True, at=at)):  # type: ignore[arg-type]
        server.fault = fault
        error = await rig.fails(SourceUnreachable)
        assert re.search(r"3000|3(\.0)? ?s", str(error))
        fault.released.set()

    await rig.recovers()
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208
    assert threading.active_count() <= threads + 2


async def test_a_cancelled_update_changes_nothing(rigs: MakeRig, server: GitServer, tmp_path: Path) -> None:
    rig = await rigs(server, tmp_path / "mirror")
    server.fault = stall = Stall(after=2000, at="fetch")
    task = asyncio.create_task(rig.mirror.update(["main"]))
    async with asyncio.timeout(10):
        while not any(request.kind == "fetch" for request in server.requests[3:]):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    stall.released.set()

    assert len((await rig.mirror.snapshot(rig.first, "")).files) == 100
    await rig.recovers()


async def test_a_redirect_to_another_server_is_refused_and_sees_no_credential(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("s3cret")
    with GitServer(tmp_path / "one", credentials=("git", "s3cret")) as server, GitServer(tmp_path / "two") as thief:
        thief.create("fleet").commit({"a.yaml": "a: 1"})
        for status in (301, 302, 307, 308):
            location = thief.url("fleet") + "/info/refs?service=git-upload-pack"
            server.fault = Answer(status=status, headers={"Location": location})
            auth = PasswordAuth(username="git", password_file=password)
            mirror = GitMirror(tmp_path / "mirror", Repository(url=server.url("fleet"), auth=auth), MINUTE, agent="a")
            with pytest.raises(SourceDenied) as caught:
                await mirror.update(["main"])
            await mirror.close()

            assert thief.url("fleet") in str(caught.value)
        assert thief.requests == []


async def test_a_redirect_on_the_same_server_is_followed(server: GitServer, tmp_path: Path) -> None:
    commit = server.create("fleet").commit({"a.yaml": "a: 1"})
    # Each request to the old name is answered by pointing at the new one; the backend would say 404.
    location = "/fleet.git/info/refs?service=git-upload-pack"
    server.redirects["/old.git/info/refs"] = location
    mirror = GitMirror(tmp_path / "mirror", Repository(url=server.url("old")), MINUTE, agent="a")

    heads = [await mirror.update(["main"]) for _ in range(2)]
    await mirror.close()

    assert heads == [{"main": commit}] * 2


async def test_a_redirect_to_a_login_page_says_so(server: GitServer, tmp_path: Path) -> None:
    server.fault = Answer(status=302, headers={"Location": "/login?next=x"})
    mirror = GitMirror(tmp_path / "mirror", Repository(url=server.url("fleet")), MINUTE, agent="a")

    with pytest.raises(SourceUnreachable, match="no Git repository"):
        await mirror.update(["main"])
    await mirror.close()


async def test_a_wrong_or_missing_password_names_the_file_and_never_the_password(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("wr0ng-s3cret")
    with GitServer(tmp_path / "srv", credentials=("git", "right")) as server:
        server.create("fleet").commit({"a.yaml": "a: 1"})
        auth = PasswordAuth(username="git", password_file=password)
        url = server.url("fleet").replace("://", "://someone:in-the-url@")
        mirror = GitMirror(tmp_path / "mirror", Repository(url=url, auth=auth), MINUTE, agent="a")

        with pytest.raises(SourceDenied) as wrong:
            await mirror.update(["main"])
        password.unlink()
        with pytest.raises(SourceDenied) as missing:
            await mirror.update(["main"])
        await mirror.close()

    for error in (wrong.value, missing.value):
        assert str(password) in f"{error} {error.hint}"
        assert "s3cret" not in f"{error} {error.hint}"
        assert "in-the-url" not in f"{error} {error.hint}"


async def test_an_untrusted_certificate_is_denied_with_the_key_to_set(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
    with GitServer(tmp_path / "srv", authority=authority) as server:
        server.create("fleet").commit({"a.yaml": "a: 1"})
        for ca_file in (None, other.ca_file):
            mirror = GitMirror(
                tmp_path / "mirror", Repository(url=server.url("fleet"), ca_file=ca_file), MINUTE, agent="a"
            )
            with pytest.raises(SourceDenied, match="certificate is not trusted") as caught:
                await mirror.update(["main"])
            await mirror.close()
            assert "tls.ca_file" in caught.value.hint
        assert server.requests == []


async def test_a_ca_file_is_read_again_when_it_was_replaced(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
    ca_file = tmp_path / "trusted.pem"
    ca_file.write_bytes(other.ca_file.read_bytes())
    with GitServer(tmp_path / "srv", authority=authority) as server:
        commit = server.create("fleet").commit({"a.yaml": "a: 1"})
        mirror = GitMirror(tmp_path / "mirror", Repository(url=server.url("fleet"), ca_file=ca_file), MINUTE, agent="a")
        with pytest.raises(SourceDenied):
            await mirror.update(["main"])
        ca_file.write_text("half a file")
        with pytest.raises(SourceDenied, match=r"trusted\.pem"):
            await mirror.update(["main"])
        ca_file.write_bytes(authority.ca_file.read_bytes())

        heads = await mirror.update(["main"])
        await mirror.close()

    assert heads == {"main": commit}


async def test_connections_that_cannot_be_made_say_why(tmp_path: Path) -> None:
    with GitServer(tmp_path / "srv") as server:
        port = server.port
    for url, words in (
        (f"http://127.0.0.1:{port}/x.git", "refused"),
        ("https://no-such-host.invalid/x.git", "cannot be resolved"),
    ):
        mirror = GitMirror(tmp_path / "mirror", Repository(url=url), MINUTE, agent="a")
        with pytest.raises(SourceUnreachable, match=words):
            await mirror.update(["main"])
        await mirror.close()


async def test_plain_http_behind_https_is_a_named_error(server: GitServer, tmp_path: Path) -> None:
    mirror = GitMirror(
        tmp_path / "mirror", Repository(url=server.url("fleet").replace("http:", "https:")), MINUTE, agent="a"
    )

    with pytest.raises(SourceUnreachable, match="TLS"):
        await mirror.update(["main"])
    await mirror.close()


@pytest.mark.parametrize(
    "url", ["ext::sh -c id", "ftp://host/x", "file://host/x", "https:///x", "ssh://git@host/x.git", "ssh://git@-o/x"]
)
def test_other_transports_are_refused_and_ssh_without_a_key(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError):
        GitMirror(tmp_path / "mirror", Repository(url=url), MINUTE, agent="a")


class Bomb:
    """A repository whose second commit holds a blob of zeros that a few hundred kilobytes expand to."""

    SIZE = 400 << 20

    def __init__(self, repo: Repo) -> None:
        self.repo = repo

    def light(self) -> str:
        """Written as a loose object piece by piece: git itself would take long."""
        digest, stream = hashlib.sha1(b"blob %d\0" % self.SIZE), zlib.compressobj(9)
        pieces = [stream.compress(b"blob %d\0" % self.SIZE)]
        zeros = bytes(1 << 20)
        for _ in range(self.SIZE >> 20):
            digest.update(zeros)
            pieces.append(stream.compress(zeros))
        pieces.append(stream.flush())
        name = digest.hexdigest()
        path = self.repo.path / "objects" / name[:2] / name[2:]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"".join(pieces))
        entries = f"100644 blob {name}\tbomb.bin\n"
        tree = self.repo.git("mktree", stdin=entries.encode())
        commit = self.repo.git("commit-tree", tree, "-p", str(self.repo.head()), "-m", "bomb")
        self.repo.set_head("main", commit)
        return name


@pytest.mark.slow
@pytest.mark.parametrize("way", ["http", "file"])
async def test_a_blob_of_400_mb_in_a_small_pack_is_refused_by_name_and_not_tried_again_at_once(
    rigs: MakeRig, server: GitServer, tmp_path: Path, way: str
) -> None:
    rig = await rigs(server, tmp_path / "mirror")
    await rig.mirror.update(["main"])
    if way == "file":
        await rig.reopen(rig.repo.url)
    name = Bomb(rig.repo).light()
    before = peak_memory()

    watching = asyncio.create_task(peak_of_fetch_child())
    error = await rig.fails(SourceTooLarge)
    watching.cancel()
    (peak,) = await asyncio.gather(watching)

    assert name in str(error)
    assert "400 MiB" in str(error)
    assert "64 MiB" in str(error)
    assert peak_memory() - before < 32 << 20
    assert 0 < peak < 100 << 20
    # Not again for the same head, until a while has passed: and then once.
    server.requests.clear()
    await rig.fails(SourceTooLarge)
    assert [request.kind for request in server.requests if request.kind == "fetch"] == []
    rig.now += 61
    await rig.fails(SourceTooLarge)
    rig.now += 61
    server.requests.clear()
    await rig.fails(SourceTooLarge)
    assert [request.kind for request in server.requests if request.kind == "fetch"] == []
    # A good head is served at once.
    rig.repo.set_head("main", rig.second)
    await rig.recovers()


async def peak_of_fetch_child() -> int:
    """Until cancelled: the most memory that a fetch child of this process was seen to have."""
    peak = 0
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            if child := fetch_child():
                with contextlib.suppress(OSError):
                    status = Path(f"/proc/{child}/status").read_text(encoding="ascii")
                    peak = max(
                        [
                            peak,
                            *(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM")),
                        ]
                    )
            await asyncio.sleep(0.01)
    return peak


def peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


async def test_one_branch_that_is_too_large_does_not_keep_the_others_from_being_fetched(
    rigs: MakeRig, server: GitServer, tmp_path: Path
) -> None:
    rig = await rigs(server, tmp_path / "mirror", caps=Caps(object_bytes=20_000))
    rig.repo.commit({"large.bin": os.urandom(30_000)}, branch="bad", parent=rig.first)
    with pytest.raises(SourceTooLarge, match=r"29\.3 KiB"):
        await rig.mirror.update(["main", "bad"])

    heads = await rig.mirror.update(["main"])

    assert heads == {"main": rig.second}


@pytest.mark.parametrize(
    ("caps", "words"),
    [
        (Caps(pack_bytes=2000), "more than 2 KiB for one fetch"),
        (Caps(objects=2), "2 are allowed"),
        (Caps(object_bytes=1000), "1000 bytes are allowed"),
        (Caps(commit_bytes=100), "100 bytes are allowed"),
        (Caps(inflated_bytes=10_000), "9.8 KiB of objects"),
    ],
)
async def test_each_cap_of_a_fetch_is_named(server: GitServer, tmp_path: Path, caps: Caps, words: str) -> None:
    repo = server.create("fleet")
    repo.commit({"a.yaml": os.urandom(8000).hex(), "b.yaml": os.urandom(400)})
    mirror = GitMirror(tmp_path / "mirror", Repository(url=server.url("fleet")), MINUTE, agent="a", caps=caps)

    with pytest.raises(SourceTooLarge) as caught:
        await mirror.update(["main"])
    await mirror.close()

    assert words.replace("2 KiB", "2.0 KiB").replace(".0", "") in str(caught.value).replace(".0", "")


async def test_a_disk_that_is_full_is_a_local_error_and_harms_nothing(
    rigs: MakeRig, server: GitServer, tmp_path: Path
) -> None:
    rig = await rigs(server, tmp_path / "mirror")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        error = await rig.fails(LocalError)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert str(rig.folder) in str(error)
    await rig.recovers()


async def test_a_server_that_sends_another_commit_than_it_named_is_caught(
    rigs: MakeRig, server: GitServer, tmp_path: Path
) -> None:
    rig = await rigs(server, tmp_path / "mirror")
    server.fault = Replace(old=rig.second.encode(), new=b"12345678" * 5, at="ls-refs")

    await rig.fails(SourceUnreachable)

    await rig.recovers()


async def test_a_repository_with_sha256_names_is_refused_in_words(server: GitServer, tmp_path: Path) -> None:
    path = server.folder / "new.git"
    Repo(server.folder / "other.git").git("init", "-q", "--bare", "--object-format=sha256", "-b", "main", str(path))
    mirror = GitMirror(tmp_path / "mirror", Repository(url=server.url("new")), MINUTE, agent="a")

    with pytest.raises(RevisionNotFound, match="sha256"):
        await mirror.update(["main"])
    await mirror.close()
