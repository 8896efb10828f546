"""Repositories that are made to cost time: whoever may push stops the own target at most, and no thread for long."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import pytest

from gitsyncd.edges.git.caps import Caps
from gitsyncd.edges.git.mirror import GitMirror
from gitsyncd.model.errors import SourceTooLarge
from gitsyncd.model.source import Repository
from tests.gitserver.repository import Repo

pytestmark = pytest.mark.real


async def test_tens_of_thousands_of_links_cost_no_more_than_as_many_files(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "fleet.git")
    links = {f"web/link-{number:05}-{'x' * 40}": "a.yaml" for number in range(20_000)}
    commit = repo.commit({"web/a.yaml": "a: 1"}, links=links)
    repo.set_head("main", commit)
    mirror = GitMirror(tmp_path / "mirror", Repository(url=repo.url), timedelta(minutes=1), agent="gitsyncd/test")
    await mirror.update(["main"])
    begin = time.process_time()

    snapshot = await mirror.snapshot(commit, "web")

    assert [file.path for file in snapshot.files] == ["web/a.yaml"]
    assert time.process_time() - begin < 15
    await mirror.close()


async def test_reading_that_takes_too_long_is_given_up_by_name(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "fleet.git")
    commit = repo.commit({"web/a.yaml": "a: 1", "web/b/c.yaml": "b: 1"})
    repo.set_head("main", commit)
    caps = Caps(read_seconds=0)
    mirror = GitMirror(
        tmp_path / "mirror", Repository(url=repo.url), timedelta(minutes=1), agent="gitsyncd/test", caps=caps
    )
    await mirror.update(["main"])

    with pytest.raises(SourceTooLarge) as caught:
        await mirror.snapshot(commit, "web")

    assert "web takes longer than 0 s" in caught.value.message
    await mirror.close()
