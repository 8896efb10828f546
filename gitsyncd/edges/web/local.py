"""The local API: how commands talk to a running daemon, over a unix socket that only its user and group may open.

One connection carries one request and one answer, each a line of JSON: `{"call": NAME, ...}` and `{"result": ...}` or
`{"error": ..., "hint": ..., "wrong_use": ...}`. It is private to one version of gitsyncd: programs use
`--output json`. Does not belong here: what a call does (the engine's `Control`).
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from gitsyncd.model.errors import GitsyncdError, LocalError, UsageError

Call = Callable[[Mapping[str, Any]], Awaitable[Any]]
MAX_LINE = 16 << 20
REQUEST_WITHIN_S = 10.0
_MAX_PATH = 107  # bytes of a unix socket's name, on Linux


@asynccontextmanager
async def serve(path: Path, calls: Mapping[str, Call]) -> AsyncIterator[None]:
    """Answer calls for as long as the context lasts.

    Raises `LocalError` when the socket cannot be made, or is in use.
    """
    if len(os.fsencode(path)) > _MAX_PATH:
        raise LocalError(
            f"{path} is too long for a unix socket", hint=f"Set `agent.socket` to a path of at most {_MAX_PATH} bytes."
        )
    try:
        await asyncio.to_thread(_make_room, path)
        mask = os.umask(0o117)
        try:
            server = await asyncio.start_unix_server(lambda r, w: _converse(r, w, calls), str(path), limit=MAX_LINE)
        finally:
            os.umask(mask)
    except OSError as error:
        raise LocalError(
            f"cannot listen on {path}: {error.strerror or error}",
            hint="Set `agent.socket` to a path in a folder that the agent's user may write.",
        ) from error
    made = _inode(path)
    try:
        yield
    finally:
        server.close()
        if _inode(path) == made:
            os.unlink(path)  # noqa: PTH108 - one system call at the very end


def ask(path: Path, call: str, *, within_s: float | None = None, **arguments: Any) -> Any:
    """Call a running daemon and wait for its answer, with `within_s` for so many seconds at most.

    Raises `UsageError` for a question that cannot be meant, `NotDone` for what the daemon did not do, `NoDaemon` when
    none is there, `LocalError` when it ends meanwhile or does not answer in time.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(within_s)
        try:
            connection.connect(str(path))
        except OSError as error:
            raise NoDaemon(path, error) from error
        try:
            connection.sendall(orjson.dumps({"call": call, **arguments}) + b"\n")
            with connection.makefile("rb") as stream:
                line = stream.readline(MAX_LINE)
        except TimeoutError as error:
            raise LocalError(
                f"{path}: the daemon did not answer within {within_s:.0f} s",
                hint="See whether its process is stopped or short of CPU, and restart it if it is neither.",
            ) from error
        except ConnectionError:
            line = b""
    if not line.endswith(b"\n"):
        raise LocalError(
            f"{path}: the daemon ended before it answered",
            hint="See its log for why; start it again with `gitsyncd run` or `systemctl start gitsyncd`.",
        )
    answer = orjson.loads(line)
    if "error" in answer:
        kind = UsageError if answer.get("wrong_use", True) else NotDone
        raise kind(str(answer["error"]), hint=str(answer.get("hint", "")))
    return answer["result"]


class NotDone(GitsyncdError):
    """The daemon understood what was asked of it, and could not do it."""


class NoDaemon(LocalError):
    """Nobody answers on the local socket."""

    def __init__(self, path: Path, error: OSError) -> None:
        denied = error.errno in {errno.EACCES, errno.EPERM}
        why = "this user may not open it" if denied else "no daemon answers there"
        fix = (
            "Run this as the agent's user or in its group."
            if denied
            else "Start one with `gitsyncd run` or `systemctl start gitsyncd`."
        )
        super().__init__(f"{path}: {why}", hint=fix)


def _make_room(path: Path) -> None:
    """Remove what a daemon that was killed left behind. Raises `LocalError` when one is alive."""
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    if _answers(path):
        raise LocalError(
            f"a daemon already listens on {path}",
            hint="Stop the other daemon, or give this one its own `agent.socket` and `agent.state_dir`.",
        )
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise LocalError(
                f"{path} is there and is no socket",
                hint="Set `agent.socket` to a name of its own: it is removed and made again at each start.",
            )
    except FileNotFoundError:
        return
    path.unlink(missing_ok=True)


def _inode(path: Path) -> int | None:
    try:
        return os.stat(path).st_ino  # noqa: PTH116 - one system call at start and end
    except OSError:
        return None


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        try:
            connection.connect(str(path))
        except OSError:
            return False
        return True


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, calls: Mapping[str, Call]) -> None:
    try:
        async with asyncio.timeout(REQUEST_WITHIN_S):
            line = await reader.readline()
        if line:
            writer.write(orjson.dumps(await _answer(line, calls), default=str) + b"\n")
            await writer.drain()
    except (TimeoutError, ConnectionError, ValueError):
        pass  # whoever asked has gone, or never spoke our language
    finally:
        writer.close()


async def _answer(line: bytes, calls: Mapping[str, Call]) -> dict[str, Any]:
    try:
        request = orjson.loads(line)
        call = calls[request.pop("call")]
    except (orjson.JSONDecodeError, KeyError, AttributeError, TypeError):
        return {"error": "the request is not understood", "hint": "Use the same version of gitsyncd as the daemon's."}
    try:
        return {"result": await call(request)}
    except GitsyncdError as error:
        return {"error": str(error), "hint": error.hint, "wrong_use": isinstance(error, UsageError)}
