"""The local API's socket: who may open it, and what is never removed to make room for it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gitsyncd.edges.web.local import NoDaemon, ask, serve
from gitsyncd.model.errors import LocalError, UsageError


async def echo(request: Mapping[str, Any]) -> Any:
    return dict(request)


async def test_the_socket_is_for_its_user_and_group_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with serve(tmp_path / "run" / "agent.sock", {"echo": echo}):
            mode = (tmp_path / "run" / "agent.sock").stat().st_mode & 0o777
            folder = (tmp_path / "run").stat().st_mode & 0o777
    finally:
        os.umask(before)

    assert (mode, folder) == (0o660, 0o750)


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
async def test_what_is_no_socket_is_not_removed(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "agent.sock", tmp_path / "other"
    other.write_text("precious")
    match kind:
        case "file":
            path.write_text("precious")
        case "folder":
            path.mkdir()
        case _:
            path.symlink_to(other)

    with pytest.raises(LocalError) as caught:
        async with serve(path, {"echo": echo}):
            raise AssertionError

    assert "no socket" in caught.value.message
    assert path.name in {entry.name for entry in os.scandir(tmp_path)}
    assert other.read_text() == "precious"


async def test_what_a_daemon_that_was_killed_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))

    async with serve(path, {"echo": echo}):
        answer = await asyncio.to_thread(ask, path, "echo", word="x")

    assert answer == {"word": "x"}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"{",
        b"[]",
        b"5",
        b"null",
        b'{"call":[]}',
        b'{"call":"nothing"}',
        b'{"call":null}',
        b"\xff",
        b"[" * 5000,
    ],
    ids=repr,
)
async def test_whatever_is_said_to_it_the_next_caller_is_served(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "agent.sock"
    async with serve(path, {"echo": echo}):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(line + b"\n")
        writer.write_eof()
        said = await reader.read()
        writer.close()

        assert b"result" not in said
        assert await asyncio.to_thread(ask, path, "echo") == {}


async def test_an_unknown_call_and_a_missing_daemon_are_told(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    async with serve(path, {}):
        with pytest.raises(UsageError):
            await asyncio.to_thread(ask, path, "echo")

    with pytest.raises(NoDaemon):
        ask(path, "echo")


async def test_a_daemon_that_ends_before_it_answers_is_not_said_to_be_missing(tmp_path: Path) -> None:
    async def end(_: Mapping[str, Any]) -> Any:
        raise ConnectionError

    path = tmp_path / "agent.sock"
    async with serve(path, {"end": end}):
        with pytest.raises(LocalError, match="ended before it answered") as raised:
            await asyncio.to_thread(ask, path, "end")

    assert not isinstance(raised.value, NoDaemon)
