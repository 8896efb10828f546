"""systemd's notify protocol: what a service tells the manager that started it (sd_notify(3), sd_watchdog_enabled(3)).

Belongs here: the messages, and when they are due. Does not belong here: whether the daemon is well (`alive` is asked),
and what the line for people says. Without systemd everything here is silent, and nothing here ever raises: a manager
that cannot be told is no reason to stop keeping clusters. A few lines of our own, because libsystemd would be a library
of C more for sending one datagram.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, MutableMapping

from gitsyncd.model.printable import masked

_TICK_S = 5.0
"""How old the status line may get. A look at each target's state costs microseconds."""
_PATIENCE_S = 60.0
"""While starting: how long after the last sign of life systemd waits on."""
STOPPING = "stopping"
"""The last status."""
_BACKLOG = 16
"""Messages that are kept for a manager that is not reading just now."""


class Notifier:
    """The way to the manager. All methods are silent where there is none."""

    def __init__(self, address: str = "", *, watchdog_s: float | None = None) -> None:
        """`address` as in `$NOTIFY_SOCKET`; `watchdog_s`: after so many seconds without a sign the manager acts."""
        self.watchdog_s = watchdog_s
        self.is_ready = False
        self._address = _address(address)
        self._is_reloading = False
        self._unsent: list[str] = []
        self._shown = ""

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Notifier:
        """As the manager asks for. The variables are taken out: no child may speak in the daemon's name."""
        address = environ.pop("NOTIFY_SOCKET", "")
        micros, process = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        ours = process in {"", str(os.getpid())}
        watchdog_s = int(micros) / 1e6 if ours and micros.isdecimal() and int(micros) > 0 else None
        return cls(address, watchdog_s=watchdog_s)

    @property
    def listens(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._address)

    def ready(self, status: str) -> None:
        """Start-up is over."""
        self.is_ready = True
        self._shown = _one_line(status)
        self._send(f"READY=1\nSTATUS={self._shown}")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; told only when it has changed."""
        if (line := _one_line(text)) != self._shown:
            self._shown = line
            self._send(f"STATUS={line}")

    def reloading(self) -> None:
        """The configuration is being read again; `reloaded` says that it is over. Silent while starting, since the end
        of a reload is told by the same word as the end of a start.

        The time lets `Type=notify-reload` tell this answer from one to an earlier signal; `Type=notify` ignores it.
        """
        self._is_reloading = self.is_ready
        if self._is_reloading:
            self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self, status: str) -> None:
        """It is over, well or badly."""
        if self._is_reloading:
            self._is_reloading = False
            self.ready(status)

    def stopping(self) -> None:
        self._is_reloading = False  # nothing is ready any more
        self._shown = STOPPING
        self._send(f"STOPPING=1\nSTATUS={STOPPING}")

    def watchdog(self) -> None:
        """A sign of life. While starting it asks for more time instead: the watchdog watches from `ready` on only."""
        self._send("WATCHDOG=1" if self.is_ready else f"EXTEND_TIMEOUT_USEC={int(_PATIENCE_S * 1e6)}")

    def _send(self, message: str) -> None:
        """In order, and without ever waiting: what a busy manager does not take goes out before the next message."""
        if not self._address:
            return
        self._unsent.append(message)
        try:
            # A socket for each message, as libsystemd does: a manager that is upgraded in place makes a new one.
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as out:
                while self._unsent:
                    out.sendto(self._unsent[0].encode(), self._address)
                    del self._unsent[0]
        except (OSError, ValueError):  # full, gone, or a name that cannot be one
            del self._unsent[:-_BACKLOG]


async def report(notifier: Notifier, *, alive: Callable[[], bool], status: Callable[[], str]) -> None:
    """Keep the manager informed until cancelled: signs of life only while `alive` says so, `status` when it changes.

    Ends at once where nobody listens.
    """
    loop = asyncio.get_running_loop()
    half = (notifier.watchdog_s or 2 * _TICK_S) / 2
    due = loop.time()
    while notifier.listens:
        notifier.status(status())
        if loop.time() >= due and alive():
            notifier.watchdog()
            due = loop.time() + (half if notifier.is_ready else min(half, _PATIENCE_S / 2))
        await asyncio.sleep(min(_TICK_S, half))


def _address(text: str) -> str:
    """A path, or an abstract name (`@…`). Empty for what is neither, such as the `vsock:` of whole virtual machines."""
    if text.startswith("@"):
        return "\0" + text[1:]
    return text if text.startswith("/") else ""


def _one_line(text: str) -> str:
    """A line break would begin another assignment."""
    return masked(text)
