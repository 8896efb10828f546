"""Names of files in the agent file: where they lead, and whether what is there can be read."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from gitsyncd.edges.child.program import why_unsafe
from gitsyncd.edges.config.mistakes import Mistakes
from gitsyncd.edges.yaml.agentfile import KeyPath

CREDENTIALS = "{credentials}"
VARIABLE = "CREDENTIALS_DIRECTORY"


class Files:
    """Relative names start at the folder of the agent file, `{credentials}` stands for systemd's directory."""

    def __init__(self, folder: Path, environ: Mapping[str, str], mistakes: Mistakes, *, opened: bool = True) -> None:
        """Without `opened` nothing is looked at, and credentials need not be at hand."""
        self._folder = folder
        self._environ = environ
        self._mistakes = mistakes
        self._opened = opened

    def named(self, name: str, at: KeyPath) -> Path:
        """The full path. Says so when `{credentials}` stands for nothing."""
        if CREDENTIALS in name:
            directory = self._environ.get(VARIABLE, "")
            if not directory and self._opened:
                fix = f"start it by systemd with LoadCredential=, or set ${VARIABLE}"
                self._mistakes.add(at, f"{CREDENTIALS} stands for nothing, because ${VARIABLE} is not set", fix)
            name = name.replace(CREDENTIALS, directory)
        return self._folder / name

    def program(self, name: str, at: KeyPath) -> Path:
        """The full path of a program that may be run."""
        path = Path(name)
        if not path.is_absolute() or path != Path(os.path.normpath(name)):
            self._mistakes.add(at, f"{name} is no absolute name", "write it from the root, without . and ..")
        elif self._opened and (why := why_unsafe(path)):
            self._mistakes.add(at, f"{path} {why}", "install it as root, mode 0755, where only root can write")
        return path

    def readable(self, name: str | None, at: KeyPath, *, secret: bool = False) -> Path | None:
        """The full path of a file that can be read now; None for a key that was left out.

        A `secret` file is only quoted when it is plainly a name: the secret itself may stand there by mistake.
        """
        if name is None:
            return None
        path = self.named(name, at)
        if self._mistakes.spoilt(*at) or not self._opened:
            return path
        shown = (
            str(path)
            if not secret or name.startswith(("/", "./", "../", CREDENTIALS + "/"))
            else "the file that it names"
        )
        try:
            mode = path.stat().st_mode
            if not stat.S_ISREG(mode):
                what = "is a folder" if stat.S_ISDIR(mode) else "is not a regular file"
                self._mistakes.add(at, f"{shown} {what}", "name a file")
                return path
            with path.open("rb") as file:
                if not file.read(1):
                    self._mistakes.add(at, f"{shown} is empty", "write it before the agent starts")
        except FileNotFoundError:
            self._mistakes.add(
                at, f"{shown} does not exist", "correct the name, or write the file before the agent starts"
            )
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "no such name"
            self._mistakes.add(at, f"{shown} cannot be read: {why}", "check its owner and mode")
        return path
