"""The receiving end of systemd's notify protocol: a socket of datagrams, as the manager of services has one.

A kernel keeps a few messages for who does not read (`net.unix.max_dgram_qlen`: 10 on many machines, 512 on others), so
a test in which more are sent before it looks has them taken in as they come: `listening`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Manager:
    """Keeps what it hears, in order."""

    def __init__(self, address: str) -> None:
        """`address` as in `$NOTIFY_SOCKET`: a path, or an abstract name that begins with `@`."""
        self.address = address
        self._messages: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take in every message as it comes, while the running event loop runs."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket, self._take_in)
        try:
            yield
        finally:
            loop.remove_reader(self._socket)

    def heard(self) -> list[str]:
        """Everything since the last time."""
        self._take_in()
        messages, self._messages = self._messages, []
        return messages

    def close(self) -> None:
        self._socket.close()

    def _take_in(self) -> None:
        with suppress(BlockingIOError):
            while True:
                self._messages.append(self._socket.recv(65536).decode())
