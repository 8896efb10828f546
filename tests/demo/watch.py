"""A witness on the API server: every change of a collection, with the moment at which it arrived here.

An ordinary watch with a connection of its own: that there was a change, and that it was undone, is seen without asking
whoever undid it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote

from tests.sandbox import Cluster


@dataclass(frozen=True, slots=True)
class Event:
    """`type` is ADDED, MODIFIED or DELETED; `at` is time.monotonic() of its arrival."""

    at: float
    type: str
    object: dict[str, Any]


class Watch:
    """Hears of everything that happens to a collection, or to one object of it, from `with` on."""

    def __init__(
        self, cluster: Cluster, path: str, *, name: str = "", on_event: Callable[[Event], None] | None = None
    ) -> None:
        """`path` is a collection's, such as `/api/v1/namespaces/shop/configmaps`; `on_event` is called in a thread."""
        self.events: list[Event] = []
        self._cluster = cluster
        self._path = path
        self._selector = f"&fieldSelector={quote(f'metadata.name={name}')}" if name else ""
        self._on_event = on_event
        self._news = threading.Condition()
        self._closed = False
        self._connection: http.client.HTTPSConnection | None = None
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name=f"watch {path}", daemon=True)

    def __enter__(self) -> Self:
        listed = self._cluster.request("GET", f"{self._path}?limit=1")
        version = listed["metadata"]["resourceVersion"]
        tls = ssl.create_default_context(cafile=str(self._cluster.ca_file))
        self._connection = http.client.HTTPSConnection("127.0.0.1", self._cluster.port, context=tls)
        self._connection.request(
            "GET",
            f"{self._path}?watch=1&resourceVersion={version}{self._selector}",
            headers={"Authorization": f"Bearer {self._cluster.admin_token}", "User-Agent": "demo-witness"},
        )
        self._socket = self._connection.sock
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def wait(self, fact: Callable[[Event], bool], *, after: float = 0, within_s: float = 15) -> Event | None:
        """The first event later than `after` of which the fact is true; None when there is none in time."""
        deadline = time.monotonic() + within_s
        with self._news:
            while True:
                for event in self.events:
                    if event.at > after and fact(event):
                        return event
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._news.wait(left)

    def _run(self) -> None:
        assert self._connection is not None
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            answer = self._connection.getresponse()
            for line in answer:
                record = json.loads(line)
                event = Event(time.monotonic(), record["type"], record["object"])
                if self._on_event is not None:
                    self._on_event(event)
                with self._news:
                    self.events.append(event)
                    self._news.notify_all()
        self._connection.close()
