"""One line on standard error that says how far things are, while a command waits. It is gone when the command ends."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

from gitsyncd.model.errors import GitsyncdError
from gitsyncd.text.layout import bar, clean, clipped, flat

Item = Mapping[str, Any]
EVERY_S = 0.25
_BAR = 24


def progress_text(targets: Sequence[Item]) -> str:
    """`syncing web@eu-1 [====>   ] 120/300`; of several targets in one sum."""
    turning = [target for target in targets if target.get("progress") and target["state"] == "syncing"]
    synced = sum(target["state"] == "in-sync" for target in targets)
    count = "" if len(targets) == 1 else f", {synced} of {len(targets)} targets in sync"
    if turning:
        done = sum(target["progress"]["done"] for target in turning)
        total = sum(target["progress"]["total"] for target in turning)
        name = clean(turning[0]["target"]) if len(turning) == 1 else f"{len(turning)} targets"
        return f"syncing {name} {bar(done, total, _BAR)} {done}/{total}{count}"
    if synced == len(targets):
        sick = [target for target in targets if target["health"] not in {"current", "unknown"}]
        if sick:
            reason = flat(sick[0].get("health_message") or sick[0]["health"])
            return f"in sync, waiting for health: {clean(sick[0]['target'])}: {reason}"
    return f"looking{count}"


class Line:
    """One line of a terminal, drawn again and again. The cursor stands at its beginning, so that other lines of the
    same terminal begin there.
    """

    def __init__(self, out: IO[str]) -> None:
        self._out = out

    def show(self, text: str) -> None:
        width = os.get_terminal_size(self._out.fileno()).columns
        self._write(f"\r{clipped(text, width - 1)}\033[K\r")

    def clear(self) -> None:
        self._write("\r\033[K")

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


async def shown_during(work: Coroutine[Any, Any, int], look: Callable[[], Sequence[Item] | None], out: IO[str]) -> int:
    """Show how far the targets are while the work goes on, in its own event loop. What it came to."""
    line, task = Line(out), asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({task}, timeout=EVERY_S))[0]:
            if (targets := look()) is not None:
                line.show(progress_text(targets))
    finally:
        line.clear()
    return await task


@contextmanager
def shown_meanwhile(look: Callable[[], Sequence[Item]], out: IO[str]) -> Iterator[None]:
    """Show how far the targets are for as long as the context lasts, from a thread of its own."""
    line, over = Line(out), threading.Event()
    drawing = threading.Lock()

    def draw() -> None:
        while not over.wait(EVERY_S):
            try:
                text = progress_text(look())
            except GitsyncdError:
                continue  # whoever waits for the daemon will say it
            with drawing:
                if not over.is_set():
                    line.show(text)

    threading.Thread(target=draw, name="progress", daemon=True).start()
    try:
        yield
    finally:
        over.set()
        with drawing:
            line.clear()
