"""The process under test: `gitsyncd run` with its log in a file, so that reading it costs nothing while it is timed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from tests.e2e.daemon import COMMAND, ROOT, Agent

Json = dict[str, Any]
LOOK_S = 0.02


class Run:
    """From `exec` to SIGTERM."""

    def __init__(self, agent: Agent) -> None:
        agent.write()
        self.log = agent.folder / "daemon.log"
        self._errors = agent.folder / "daemon.err"
        environment = {**os.environ, "GITSYNCD_CONFIG": str(agent.file)}
        with self.log.open("wb") as log, self._errors.open("wb") as errors:
            self.began = time.time()
            """Unix seconds right before `exec`, by the clock that the log and the audit log use too."""
            self.process = subprocess.Popen((*COMMAND, "run"), stdout=log, stderr=errors, env=environment, cwd=ROOT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_for(self, event: str, *, target: str = "", within_s: float = 120) -> None:
        """Until the log holds this event (of this target). Raises RuntimeError with what went wrong."""
        needle = b'"event":"' + event.encode() + b'"' + (b',"target":"' + target.encode() + b'"' if target else b"")
        deadline = time.monotonic() + within_s
        with self.log.open("rb") as stream:
            rest = b""
            while True:
                news = stream.read()
                if needle in rest + news:
                    return
                rest = (rest + news)[-len(needle) :]
                if self.process.poll() is not None or time.monotonic() > deadline:
                    tail = self.log.read_text()[-2000:] + self._errors.read_text()[-2000:]
                    raise RuntimeError(f"no {event!r} in the log of the daemon:\n{tail}")
                time.sleep(LOOK_S)

    def said(self, event: str, *, since: int = 0) -> Iterator[Json]:
        """The log lines of this event, from this byte of the log on."""
        with self.log.open() as lines:
            lines.seek(since)
            for line in lines:
                if line.endswith("\n") and f'"{event}"' in line:
                    yield json.loads(line)


def unix(timestamp: str) -> float:
    """Seconds, of an RFC 3339 time."""
    return datetime.fromisoformat(timestamp).timestamp()


def requests(audit_log: Path, *, agent: str = "gitsyncd/", since: int = 0) -> list[Json]:
    """The requests of gitsyncd in the API server's audit log from this byte on: one record each, the first of each.

    Those about its lease are left out: one every 5 s, whatever else happens.
    """
    found: dict[str, Json] = {}
    with audit_log.open("rb") as stream:
        stream.seek(since)
        for line in stream:
            if not line.endswith(b"\n"):
                break
            record = json.loads(line)
            ours = record.get("userAgent", "").startswith(agent)
            if ours and record.get("objectRef", {}).get("resource") != "leases":
                found.setdefault(record["auditID"], record)
    return list(found.values())
