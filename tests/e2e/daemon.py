"""gitsyncd as a user has it: an agent file in a folder, commands that are run, a daemon whose log is read.

    agent = Agent(folder)
    agent.cluster("here", cluster.kubeconfig)
    agent.source("fleet", repo.url)
    agent.target("web", "fleet", path="web", namespace="web")
    with agent.start() as daemon:
        daemon.wait_for("target in sync", target="web@here")
    assert agent.run("check").code == 0

Everything is a process of its own and is judged by what it says and by its exit code; nothing of gitsyncd is imported.
Repositories come from `tests.gitserver`, clusters from `tests.sandbox`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

COMMAND = (sys.executable, "-m", "gitsyncd")
ROOT = Path(__file__).parents[2]
SAMPLE_S = 0.02
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command came to."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The one document of `--output json`."""
        return json.loads(self.stdout)

    @property
    def complaint(self) -> tuple[str, str]:
        """WHAT: WHY and the fix, of a command that failed as all of them should."""
        first, _, rest = self.stderr.rstrip("\n").rpartition("\nfix: ")
        assert first.startswith("gitsyncd: "), f"not worded as an error should be: {self.stderr!r}"
        assert "Traceback" not in self.stderr, self.stderr
        return first.removeprefix("gitsyncd: "), rest


class Agent:
    """One agent file, its state and its socket, all in one folder."""

    def __init__(self, folder: Path, *, name: str = "edge") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.folder = folder
        self.file = folder / "gitsyncd.yaml"
        self.state_dir = folder / "state"
        self.socket = folder / "agent.sock"
        self.document: Json = {
            "version": 1,
            "agent": {"name": name, "state_dir": str(self.state_dir), "socket": str(self.socket)},
            "sources": [],
            "clusters": [],
            "targets": [],
        }
        self.environment: dict[str, str] = {}
        """Further variables of its processes."""

    # --- the agent file ------------------------------------------------------------------------------------------

    def source(self, name: str, url: str, *, branch: str = "main", interval: str = "1s", **keys: Any) -> None:
        self._add("sources", {"name": name, "url": url, "ref": {"branch": branch}, "interval": interval, **keys})

    def cluster(self, name: str, kubeconfig: Path | None = None, *, context: str = "", **keys: Any) -> None:
        reached = {"kubeconfig": {"file": str(kubeconfig), "context": context}} if kubeconfig else {}
        self._add("clusters", {"name": name, **reached, **keys})

    def target(self, name: str, source: str = "fleet", *, retry_interval: str = "1s", **keys: Any) -> None:
        self._add("targets", {"name": name, "source": source, "retry_interval": retry_interval, **keys})

    def _add(self, section: str, item: Json) -> None:
        """In place of one of the same name."""
        items = self.document[section]
        items[:] = [other for other in items if other["name"] != item["name"]] + [item]

    def write(self) -> Path:
        """JSON is YAML, too."""
        self.file.write_text(json.dumps(self.document, indent=2))
        return self.file

    # --- processes -----------------------------------------------------------------------------------------------

    def run(self, *arguments: str, env: Mapping[str, str] | None = None, within_s: float = 60) -> Ran:
        """One command to its end, with the agent file as it stands now."""
        self.write()
        return run(*arguments, env={**self._env(), **(env or {})}, within_s=within_s)

    def start(self, *arguments: str) -> Daemon:
        """`gitsyncd run`, at once; end it by `with` or `stop`."""
        self.write()
        return Daemon((*COMMAND, "run", *arguments), self.folder / "daemon.err", self._env())

    def lose_state(self, part: str = "") -> None:
        """The state folder, or `part` of it, is gone from one instant to the next.

        A folder that is emptied file by file meets what a daemon, or the child that outlives it by a moment, does there.
        """
        with tempfile.TemporaryDirectory(dir=self.state_dir.parent, ignore_cleanup_errors=True) as grave:
            with contextlib.suppress(FileNotFoundError):
                (self.state_dir / part).rename(Path(grave, "lost"))

    def _env(self) -> dict[str, str]:
        return {"GITSYNCD_CONFIG": str(self.file), **self.environment}


def run(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    within_s: float = 60,
    command: tuple[str, ...] = COMMAND,
) -> Ran:
    """`gitsyncd ARGUMENTS`."""
    done = subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        env=_environment(env or {}),
        cwd=ROOT,
        timeout=within_s,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


class Daemon:
    """A running `gitsyncd run` and everything it has said so far."""

    def __init__(self, command: tuple[str, ...], stderr: Path, env: Mapping[str, str]) -> None:
        self._stderr = stderr
        with stderr.open("wb") as errors:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, env=_environment(env), cwd=ROOT
            )
        self.lines: list[Json] = []
        self._garbage: list[str] = []
        self._news = threading.Condition()
        self._over = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                try:
                    self.lines.append(json.loads(line))
                except ValueError:
                    self._garbage.append(line)
                self._news.notify_all()
        with self._news:
            self._over = True
            self._news.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.stop()
        if kind is None:
            self.check()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stderr(self) -> str:
        return self._stderr.read_text(errors="replace")

    def check(self) -> None:
        """It said nothing but log lines, and met no defect of its own."""
        assert not self._garbage, self._garbage
        assert "Traceback" not in self.stderr, self.stderr
        bugs = [line for line in self.lines if "internal error" in json.dumps(line)]
        assert bugs == []

    # --- its log -------------------------------------------------------------------------------------------------

    @property
    def now(self) -> int:
        """A position in the log, for `since`."""
        return len(self.lines)

    def said(self, event: str, *, since: int = 0, **facts: Any) -> list[Json]:
        """The lines of this event that have these keys; a function as a value is asked."""
        return [line for line in self.lines[since:] if line.get("event") == event and _matches(line, facts)]

    def wait_for(self, event: str, *, since: int = 0, within_s: float = 30, **facts: Any) -> Json:
        """The first such line, which may have been said already. Fails when the daemon ends or the time is up."""
        deadline = time.monotonic() + within_s
        with self._news:
            while not (found := self.said(event, since=since, **facts)):
                left = deadline - time.monotonic()
                if left <= 0 or self._over:
                    raise AssertionError(self._not_said(event, facts, since))
                self._news.wait(left)
        return found[0]

    def _not_said(self, event: str, facts: Mapping[str, Any], since: int) -> str:
        why = "the daemon ended" if self._over else "the time is up"
        lines = "\n".join(json.dumps(line) for line in self.lines[since:][-25:])
        return f"{event!r} with {facts} was not said and {why}:\n{lines}\n{self.stderr[-2000:]}"

    # --- its end -------------------------------------------------------------------------------------------------

    def stop(self, number: int = signal.SIGTERM, *, within_s: float = 20) -> int:
        """Send the signal, unless it has ended, and wait for the exit code."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self.wait(within_s=within_s)

    def kill(self) -> None:
        """As a crash would."""
        self.stop(signal.SIGKILL)

    def wait(self, *, within_s: float = 20) -> int:
        """The exit code of one that ends by itself."""
        try:
            code = self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"it did not end within {within_s} s") from None
        finally:
            self._reader.join(5)
            if self._process.stdout is not None:
                self._process.stdout.close()
        return code

    # --- its memory ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def measured(self) -> Iterator[Peak]:
        """Samples the memory of the daemon and its children for as long as the context lasts."""
        peak, over = Peak(), threading.Event()
        sampler = threading.Thread(target=_sample, args=(self.pid, peak, over), daemon=True)
        sampler.start()
        try:
            yield peak
        finally:
            over.set()
            sampler.join()


@dataclass(slots=True)
class Peak:
    """The most memory that a process and its descendants held at one time, as the sum of their own peaks."""

    bytes: int = 0


def _sample(pid: int, peak: Peak, over: threading.Event) -> None:
    while not over.wait(SAMPLE_S):
        peak.bytes = max(peak.bytes, sum(_high_water(process) for process in _tree(pid)))


def _tree(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _tree(int(child))


def _high_water(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def until(fact: Callable[[], Any], what: str, *, within_s: float = 30) -> Any:
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + within_s
    while not (answer := fact()):
        assert time.monotonic() < deadline, f"after {within_s} s still waiting for {what}"
        time.sleep(0.03)
    return answer


def _matches(line: Json, facts: Mapping[str, Any]) -> bool:
    return all(wanted(line.get(key)) if callable(wanted) else line.get(key) == wanted for key, wanted in facts.items())


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GITSYNCD_", "NO_COLOR"))}
    return {**kept, **more}
