"""Facts on disk: for the agent alone, whole or not at all, and never through somebody's link."""

import os
import stat
from pathlib import Path

import pytest

from gitsyncd.edges.store import FileStore
from gitsyncd.model.errors import LocalError


def test_folder_and_files_are_for_the_agent_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        FileStore(tmp_path / "state").save("fact", {"a": 1})
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "state" / "fact.json").stat().st_mode) == 0o600
    assert FileStore(tmp_path / "state").load("fact") == {"a": 1}


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("precious")
    (tmp_path / ".fact.json.new").symlink_to(other)

    with pytest.raises(LocalError):
        FileStore(tmp_path).save("fact", {"a": 1})

    assert other.read_text() == "precious"


def test_nothing_is_read_through_a_link(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text('{"admitted": "somebody else\'s"}')
    (tmp_path / "fact.json").symlink_to(other)

    assert FileStore(tmp_path).load("fact") == {}


@pytest.mark.parametrize("kind", ["pipe", "folder", "text", "list", "deep"])
def test_what_cannot_be_a_fact_is_none_and_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "fact.json"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case _:
            path.write_text({"text": "{", "list": "[]", "deep": "[" * 100_000}[kind])

    assert FileStore(tmp_path).load("fact") == {}
