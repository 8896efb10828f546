"""The mirror after the worst: processes killed at any moment, locks left behind, bytes flipped, folders gone."""

# These tests prepare and look at files and processes between their awaits, while nothing else runs.
# ruff: noqa: ASYNC220, ASYNC221, ASYNC240

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from gitsyncd.edges.git.caps import Caps
from gitsyncd.edges.git.mirror import GitMirror
from gitsyncd.model.errors import LocalError, MirrorDamaged, RevisionNotFound, SourceError, SourceUnreachable
from gitsyncd.model.source import Repository, Snapshot
from tests.gitserver.children import fetch_child
from tests.gitserver.repository import Repo
from tests.gitserver.server import GitServer

pytestmark = [pytest.mark.real, pytest.mark.slow]

MINUTE = timedelta(minutes=1)

UPDATING = """
import asyncio, sys
from datetime import timedelta
from pathlib import Path
from gitsyncd.edges.git.caps import Caps
from gitsyncd.edges.git.mirror import GitMirror
from gitsyncd.model.source import Repository

async def main():
    mirror = GitMirror(Path(sys.argv[1]), Repository(url=sys.argv[2]), timedelta(minutes=1), agent="a", caps=Caps(packs=2))
    print("begins", flush=True)
    await mirror.update(["main"])
    print("done", flush=True)
    await mirror.close()

asyncio.run(main())
"""


@asynccontextmanager
async def opened(folder: Path, url: str, *, caps: Caps | None = None) -> AsyncIterator[GitMirror]:
    mirror = GitMirror(folder, Repository(url=url), MINUTE, agent="gitsyncd/test", caps=caps)
    try:
        yield mirror
    finally:
        await mirror.close()


def fill(repo: Repo, seed: int) -> str:
    chance = random.Random(seed)
    return repo.commit({f"{number}.yaml": chance.randbytes(60).hex() for number in range(150)})


def kill_while_updating(folder: Path, url: str, seconds: float) -> bool:
    """Start a process that updates, kill it -9 that long after it began. Whether it was done before."""
    command = [sys.executable, "-c", UPDATING, str(folder), url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begins\n"
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        return process.stdout.read() == b"done\n"


async def test_a_process_killed_at_any_moment_of_an_update_needs_no_repair(tmp_path: Path) -> None:
    with GitServer(tmp_path / "srv") as server:
        repo = server.create("fleet")
        finished = []
        for step in range(24):
            commit = fill(repo, step)

            finished.append(
                await asyncio.to_thread(kill_while_updating, tmp_path / "mirror", server.url("fleet"), 0.012 * step)
            )

            async with opened(tmp_path / "mirror", server.url("fleet"), caps=Caps(packs=2)) as mirror:
                assert await mirror.update(["main"]) == {"main": commit}
                assert len((await mirror.snapshot(commit, "")).files) == 150
                assert list((tmp_path / "mirror/incoming").iterdir()) == []
    assert False in finished
    done = subprocess.run(["git", "-C", str(tmp_path / "mirror"), "fsck", "--full"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(tmp_path.glob("mirror.damaged-*"))


async def test_a_fetch_child_that_is_killed_is_an_error_and_the_next_update_succeeds(tmp_path: Path) -> None:
    with GitServer(tmp_path / "srv") as server:
        repo = server.create("fleet")
        commit = repo.commit({f"{number}.yaml": os.urandom(3000).hex() for number in range(300)})
        async with opened(tmp_path / "mirror", server.url("fleet")) as mirror:
            update = asyncio.create_task(mirror.update(["main"]))
            async with asyncio.timeout(20):
                while not update.done():  # one that is killed while it waits for the pack is followed by another
                    if child := fetch_child():
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(child, signal.SIGKILL)
                    await asyncio.sleep(0.001)
            with pytest.raises(SourceUnreachable, match="SIGKILL"):
                await update

            assert await mirror.update(["main"]) == {"main": commit}


async def test_stale_locks_and_halves_of_packs_do_not_stop_the_next_update(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "fleet.git")
    fill(repo, 1)
    async with opened(tmp_path / "mirror", repo.url) as mirror:
        await mirror.update(["main"])
        folder = tmp_path / "mirror"
        litter = [
            folder / "packed-refs.lock",
            folder / "shallow.lock",
            folder / "packed-refs.tmp",
            folder / "objects/pack/pack-1.pack",
            folder / "objects/pack/pack-2.idx",
            folder / "objects/pack/tmp_pack_x",
            folder / "objects/pack/x.idx.lock",
            folder / "incoming/a.pack",
        ]
        for path in litter:
            path.write_bytes(b"left behind")
        commit = fill(repo, 2)

        assert await mirror.update(["main"]) == {"main": commit}

    assert [path for path in litter if path.exists()] == []


async def test_a_lock_of_a_process_that_is_gone_holds_nobody_up(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "fleet.git")
    commit = fill(repo, 1)
    (tmp_path / "mirror.lock").touch()
    async with opened(tmp_path / "mirror", repo.url) as mirror:
        assert await mirror.update(["main"]) == {"main": commit}


async def test_a_mirror_that_another_process_holds_is_waited_for_until_the_timeout(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "fleet.git")
    commit = fill(repo, 1)
    code = f"import fcntl,sys; f=open({str(tmp_path / 'mirror.lock')!r},'w'); fcntl.flock(f,2); print('held',flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        mirror = GitMirror(tmp_path / "mirror", Repository(url=repo.url), timedelta(seconds=0.3), agent="a")
        with pytest.raises(SourceError, match="within"):
            await mirror.update(["main"])
        waiting = asyncio.create_task(
            GitMirror(tmp_path / "mirror", Repository(url=repo.url), MINUTE, agent="a").update(["main"])
        )
        await asyncio.sleep(0)
        assert holder.stdin is not None
        holder.stdin.close()

        assert await waiting == {"main": commit}


async def whole(mirror: GitMirror, commits: list[str]) -> list[Snapshot]:
    return [await mirror.snapshot(commit, "") for commit in commits]


async def test_a_flipped_byte_anywhere_in_the_mirror_never_shows_in_what_is_read(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "fleet.git")
    commits = [repo.commit({"a.yaml": f"a: {number}\n" * 40, "b/c.yaml": f"c: {number}\n" * 9}) for number in range(3)]
    folder = tmp_path / "mirror"
    async with opened(folder, repo.url) as mirror:
        await mirror.update(["main"])
        right = await whole(mirror, commits)
    pristine = tmp_path / "pristine"
    shutil.copytree(folder, pristine)
    chance = random.Random(7)
    damaged = 0
    for path in sorted(path.relative_to(pristine) for path in pristine.rglob("*") if path.is_file()):
        size = (pristine / path).stat().st_size
        for position in sorted({0, size - 1, *(chance.randrange(size) for _ in range(40))}):
            shutil.rmtree(folder)
            shutil.copytree(pristine, folder)
            flip(folder / path, position, chance)
            async with opened(folder, repo.url) as mirror:
                try:
                    assert await whole(mirror, commits) == right
                    assert await mirror.descends(commits[2], commits[0])
                except MirrorDamaged:
                    damaged += 1
                    assert (tmp_path / "mirror.damaged-1").exists() or list(tmp_path.glob("mirror.damaged-*"))
                assert await mirror.update(["main"]) == {"main": commits[2]}
                assert await whole(mirror, commits) == right
                assert len(list(tmp_path.glob("mirror.damaged-*"))) <= 1
    assert damaged > 60


def flip(path: Path, position: int, chance: random.Random) -> None:
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


async def test_an_index_that_is_damaged_after_it_was_checked_does_not_hide_a_commit(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "fleet.git")
    first, second = fill(repo, 1), fill(repo, 2)
    async with opened(tmp_path / "mirror", repo.url) as mirror:
        await mirror.update(["main"])
        assert await mirror.descends(second, first)
        (index,) = (tmp_path / "mirror/objects/pack").glob("*.idx")
        content = bytearray(index.read_bytes())
        at = content.index(bytes.fromhex(first))
        content[at + 5] ^= 1
        times = index.stat()
        with index.open("r+b") as file:  # in place, and the clock set back: nothing but the bytes tells
            file.write(content)
        os.utime(index, ns=(times.st_atime_ns, times.st_mtime_ns))

        with pytest.raises(MirrorDamaged):
            await mirror.descends(second, first)

        assert await mirror.update(["main"]) == {"main": second}
        assert await mirror.descends(second, first)


@pytest.mark.parametrize("victim", ["*.pack", "*.idx"])
@pytest.mark.parametrize("how", ["truncated", "emptied", "removed", "garbage"])
async def test_a_pack_that_is_not_whole_is_replaced_by_the_next_update(tmp_path: Path, victim: str, how: str) -> None:
    repo = Repo(tmp_path / "fleet.git")
    commit = fill(repo, 1)
    async with opened(tmp_path / "mirror", repo.url) as mirror:
        await mirror.update(["main"])
        (path,) = (tmp_path / "mirror/objects/pack").glob(victim)
        content = path.read_bytes()
        path.unlink()
        if how != "removed":
            path.write_bytes(
                {"truncated": content[: len(content) // 2], "emptied": b"", "garbage": b"garbage" * 99}[how]
            )

        with pytest.raises((MirrorDamaged, RevisionNotFound)):
            await mirror.snapshot(commit, "")

        assert await mirror.update(["main"]) == {"main": commit}
        assert len((await mirror.snapshot(commit, "")).files) == 150


async def test_a_mirror_deleted_while_running_is_made_again_by_the_next_update(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "fleet.git")
    commit = fill(repo, 1)
    async with opened(tmp_path / "mirror", repo.url) as mirror:
        await mirror.update(["main"])
        shutil.rmtree(tmp_path / "mirror")
        with pytest.raises(MirrorDamaged, match="missing"):
            await mirror.revision("fleet", "main", commit)

        assert await mirror.update(["main"]) == {"main": commit}
        assert len((await mirror.snapshot(commit, "")).files) == 150


async def test_a_hundred_failing_updates_leave_no_descriptor_behind(tmp_path: Path) -> None:
    with GitServer(tmp_path / "srv") as server:
        repo = server.create("fleet")
        fill(repo, 1)
        async with opened(tmp_path / "mirror", server.url("missing")) as mirror:
            for _ in range(3):
                with pytest.raises(SourceError):
                    await mirror.update(["main"])
            before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
            for _ in range(100):
                with pytest.raises(SourceError):
                    await mirror.update(["main"])

            assert len(os.listdir("/proc/self/fd")) <= before + 2  # noqa: PTH208


async def test_a_directory_that_cannot_be_made_is_a_local_error(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "fleet.git")
    fill(repo, 1)
    (tmp_path / "file").touch()
    async with opened(tmp_path / "file/mirror", repo.url) as mirror:
        with pytest.raises(LocalError, match="file/mirror"):
            await mirror.update(["main"])


async def test_a_local_repository_that_is_damaged_is_named_and_harms_nothing(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "fleet.git")
    first = fill(repo, 1)
    async with opened(tmp_path / "mirror", repo.url) as mirror:
        await mirror.update(["main"])
        second = repo.commit({"new.yaml": "a: 1"})
        blob = repo.git("rev-parse", f"{second}:new.yaml")
        repo.git("repack", "-q", "-a", "-d")
        (pack,) = (repo.path / "objects/pack").glob("*.pack")
        content = bytearray(pack.read_bytes())
        pack.chmod(0o600)
        for position in range(100, len(content) - 20, 50):
            content[position] ^= 0x55
        pack.write_bytes(content)

        with pytest.raises(SourceUnreachable) as caught:
            await mirror.update(["main"])

        assert "cannot be read" in str(caught.value) or blob in str(caught.value)
        assert len((await mirror.snapshot(first, "")).files) == 150
