"""A real systemd, as process 1 of namespaces of its own: units are started as on a machine, and all of it ends with it.

    with Machine(folder) as machine:
        machine.run("systemctl", "start", "gitsyncd")
        assert machine.show("gitsyncd")["ActiveState"] == "active"

Needs root, and systemd on the machine; `unavailable` says what is missing. Nothing outside `folder` is written: /etc,
/opt, /var/lib and /run are the machine's own. Loopback is shared, so a service reaches servers of the tests.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Self

from tests.e2e.daemon import until

SYSTEMD = Path("/usr/lib/systemd/systemd")
CGROUPS = Path("/sys/fs/cgroup")
_STUBS = (
    "tests.target", "sysinit.target", "basic.target", "shutdown.target", "multi-user.target", "network-online.target",
    "nss-lookup.target",
)  # fmt: skip
_SEEN = ("/usr/local/bin", "/usr/bin")
_PATH = ":".join([*_SEEN, "/usr/local/sbin", "/usr/sbin", "/sbin", "/bin"])


def unavailable() -> str:
    """Why no systemd can be started here; empty when one can."""
    if os.geteuid() != 0:
        return "a systemd of its own takes root"
    missing = [name for name in ("unshare", "nsenter", "systemctl", "systemd-sysusers") if not shutil.which(name)]
    if missing or not SYSTEMD.exists():
        return f"this machine has no {', '.join(missing) or 'systemd'}"
    if not _path():
        return "no Python 3.11 or newer with venv is where a service sees it"
    probe = ["unshare", "--fork", "--pid", "--mount-proc", "--mount", "--ipc", "--uts", "--cgroup", "true"]
    return "" if subprocess.run(probe, capture_output=True).returncode == 0 else "no namespaces may be made here"


def _path() -> str:
    """With a `python3` in it that is new enough, and in no folder that `ProtectHome` hides; empty when there is none."""
    own = Path(sys.base_prefix, "bin")
    for folder in [str(own), *_SEEN]:
        python = Path(folder, "python3")
        usable = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"
        if folder.startswith(("/root", "/home", "/run")) or not python.exists():
            continue
        if subprocess.run([python, "-c", usable], capture_output=True).returncode == 0:
            return f"{folder}:{_PATH}"
    return ""


class Machine:
    """Starts with its context and ends with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._name = f"gitsyncd-tests-{os.getpid()}"
        self._path = _path()

    def __enter__(self) -> Self:
        units = self.folder / "units"
        units.mkdir(parents=True)
        for name in _STUBS:
            (units / name).write_text("[Unit]\nDefaultDependencies=no\n")
        for group in self._groups():
            group.mkdir()
        namespaces = ["--fork", "--kill-child", "--pid", "--mount-proc", "--mount", "--ipc", "--uts", "--cgroup"]
        boot = ["sh", str(Path(__file__).with_name("boot.sh")), str(self.folder)]
        enter = "".join(f"echo $$ > {group}/cgroup.procs; " for group in self._groups())
        with (self.folder / "console").open("wb") as console:
            self._process = subprocess.Popen(
                ["sh", "-c", f'set -e; {enter}exec unshare "$@"', "sh", *namespaces, *boot],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, env={**os.environ, "PATH": self._path},
            )  # fmt: skip
        try:
            self._first = int(until(self._children, "its first process"))
            until(lambda: self.try_run("systemctl", "list-units").returncode == 0, "systemd to answer")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        self._process.kill()  # and with it, by the kernel, every process of its namespace
        self._process.wait()
        for group in self._groups():
            until(partial(_removed, group), f"{group} to be empty")

    def _groups(self) -> list[Path]:
        """Control groups that its processes are in, one for each hierarchy that systemd looks at."""
        hierarchies = [CGROUPS / name for name in ("systemd", "unified") if (CGROUPS / name).is_dir()] or [CGROUPS]
        return [hierarchy / self._name for hierarchy in hierarchies]

    def _children(self) -> str:
        assert self._process.poll() is None, self.console
        process = self._process.pid
        with contextlib.suppress(OSError):
            return Path(f"/proc/{process}/task/{process}/children").read_text().strip()
        return ""

    @property
    def console(self) -> str:
        """What systemd had to say."""
        return (self.folder / "console").read_text(errors="replace")

    # --- on the machine ------------------------------------------------------------------------------------------

    def try_run(self, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """A command as root on the machine, to its end."""
        enter = ["nsenter", f"--target={self._first}", "--mount", "--pid", "--ipc", "--uts", "--cgroup"]
        there = ["sh", "-c", 'cd "$0" && exec "$@"', str(cwd or "/")]
        env = {key: value for key, value in os.environ.items() if not key.startswith(("GITSYNCD_", "NOTIFY_"))}
        return subprocess.run(
            [*enter, "--", *there, *command],
            capture_output=True,
            text=True,
            env={**env, "PATH": self._path},
            timeout=500,
        )

    def run(self, *command: str, cwd: Path | None = None) -> str:
        """The same for one that has to succeed. Its output."""
        done = self.try_run(*command, cwd=cwd)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}\n{self.console[-2000:]}"
        return done.stdout

    def show(self, unit: str) -> dict[str, str]:
        """Every property of a unit."""
        lines = self.run("systemctl", "show", unit).splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def file(self, path: str) -> Path:
        """A file of the machine, from outside."""
        return Path(f"/proc/{self._first}/root{path}")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        file = self.file(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def facts(self, unit: str) -> dict[str, str]:
        """/proc/PID/status of a unit's main process."""
        process = self.show(unit)["MainPID"]
        text = self.file(f"/proc/{process}/status").read_text()
        return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def _removed(group: Path) -> bool:
    for path in sorted([*(p for p in group.rglob("*") if p.is_dir()), group], reverse=True):
        with contextlib.suppress(OSError):
            path.rmdir()
    return not group.exists()
