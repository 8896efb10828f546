"""What every step of the script works with: the world, its screen, the daemon's log, and a few things said often."""

from __future__ import annotations

import json
import secrets
import shlex
import signal
from base64 import b64encode
from pathlib import Path
from typing import Any

from tests.demo.daemonlog import Line, Log
from tests.demo.screen import Screen
from tests.demo.world import Result, World


class Stage:
    """One run of the script."""

    def __init__(self, world: World, screen: Screen) -> None:
        self.world = world
        self.screen = screen
        self.log = Log(world.folder / "daemon.log")
        self._secrets = screen.hidden
        self._secrets.append(world.secret)

    # --- the daemon ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the daemon; its log goes on in the same file."""
        self.screen.command("gitsyncd run")
        self.world.start_daemon(self.log.path)

    def end(self, number: signal.Signals) -> int:
        """Send it a signal and wait for its end; the exit code."""
        assert self.world.daemon is not None
        self.screen.command(f"kill -{number.name.removeprefix('SIG')} {self.world.daemon.pid}")
        return self.world.end_daemon(number)

    def status(self) -> dict[str, Any]:
        """The target's part of `gitsyncd status`."""
        answer = json.loads(self.world.run("gitsyncd", "status", "--output", "json", codes=(0, 1)).out)
        target: dict[str, Any] = answer["targets"][0]
        return target

    def in_sync(self, mark: int, commit: str, *, within_s: float = 30) -> Line:
        """The log line that says that this commit is in force."""
        return self.log.wait(mark, "target in sync", within_s=within_s, revision=f"main@sha1:{commit}")

    # --- commands that are shown ---------------------------------------------------------------------------------

    def show(
        self, *command: str, codes: tuple[int, ...] = (0,), output: bool = False, env: dict[str, str] | None = None
    ) -> Result:
        """Run a command and show it, on demand with what it prints."""
        words = [f"{key}={shlex.quote(value)}" for key, value in (env or {}).items()]
        self.screen.command(" ".join([*words, *map(self._word, command)]))
        result = self.world.run(*command, codes=codes, env=env)
        if output:
            for text in result.out.rstrip().splitlines():
                self.screen.write(f"     {self.screen.tidy(text)}")
        return result

    def commit_and_push(self, message: str) -> str:
        """The commit's id."""
        commit = self.world.commit(message)
        self.screen.command(f"git add -A && git commit -m {shlex.quote(message)} && git push")
        self.world.push()
        return commit

    def remove(self, *paths: str) -> None:
        """Files or folders below `deploy`, from the work tree and the next commit."""
        names = [f"deploy/{path}" for path in paths]
        self.screen.command(" ".join(["git rm -r", *names]))
        self.world.git("rm", "-rq", *names)

    def _word(self, word: str) -> str:
        return word if Path(word).is_absolute() else shlex.quote(word)

    # --- the canary ----------------------------------------------------------------------------------------------

    def change_secret(self) -> None:
        """Another value for the application's Secret, which must not be told either."""
        value = f"canary-{secrets.token_hex(12)}"
        self.world.replace("base/database.yaml", self._secrets[-1], value)
        self._secrets.append(value)

    def another_secret(self) -> str:
        """A value that somebody writes into the Secret by hand."""
        self._secrets.append(f"canary-{secrets.token_hex(12)}")
        return self._secrets[-1]

    def secrets(self) -> list[str]:
        """Every value that the Secret ever had, as it is and as Kubernetes stores it."""
        return [form for value in self._secrets for form in (value, b64encode(value.encode()).decode())]
