"""Everything that the demo runs in, in one temporary folder: cluster, Git server, work tree, agent file, daemon.

    $DEMO/registry        a registry of images, and what was pushed to it
    $DEMO/shop            the work tree: edit, commit, push
    $DEMO/agent.yaml      the agent file; state, socket and log stand beside it
    $DEMO/cluster/c1      the control plane and its kubeconfig
    $DEMO/bin, $DEMO/env  kubectl and gitsyncd for a second terminal

Nothing outside the folder is read or written, and when the `with` block ends nothing of it is left, processes included.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.demo.addons import IngressController, Measurements
from tests.demo.screen import Unexpected
from tests.gitserver.certificates import Authority
from tests.gitserver.server import GitServer
from tests.registry.images import image
from tests.registry.server import Registry
from tests.sandbox import Cluster, Sandbox, binaries
from tests.sandbox.processes import TETHER

ROOT = Path(__file__).parents[2]
APP = Path(__file__).with_name("app")

_AGENT_FILE = """\
version: 1

agent:
  name: demo
  state_dir: state
  socket: agent.sock

sources:
  - name: shop
    url: {url}
    ref: {{branch: main}}
    interval: 1s
    auth: {{username: git, password_file: git.password}}
    tls: {{ca_file: pki/ca.pem}}

clusters:
  - name: c1
    kubeconfig: {{file: {kubeconfig}}}

targets:
  - name: shop
    source: shop
    path: deploy
    namespace: shop

images:
  registries:
    - prefix: {registry}
      auth: {{username: robot, password_file: registry.password}}
      tls: {{ca_file: registry/pki/ca.pem}}
  policies:
    - name: mail
      image: {registry}/shop/mail
      interval: 1s
      select: {{newest: created}}
  updates:
    - name: shop
      source: shop
      paths: [deploy]
"""

_EDITOR = """\
#!/bin/sh
# An editor for `kubectl edit` that needs no hands: replaces $1 by $2 in the file $3.
exec "{python}" -c 'import pathlib, sys
old, new, name = sys.argv[1:]
file = pathlib.Path(name)
text = file.read_text()
assert old in text, f"{{old!r}} is not in it"
file.write_text(text.replace(old, new))' "$@"
"""

_ENV = """\
# For a second terminal: . {folder}/env
export DEMO="{folder}"
export KUBECONFIG="{kubeconfig}"
export GITSYNCD_CONFIG="{folder}/agent.yaml"
export PATH="{folder}/bin:$PATH"
"""


@dataclass(frozen=True, slots=True)
class Result:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str


class World:
    """Starts everything but the daemon; ends everything."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gitsyncd-demo-")).resolve()
        self.folder.chmod(0o700)
        self.secret = f"canary-{secrets.token_hex(12)}"
        """The value of the application's Secret, which must not be told anywhere."""
        self.said: list[str] = []
        """Everything that commands printed."""
        self.daemon: subprocess.Popen[bytes] | None = None
        self.work = self.folder / "shop"
        self._stack = ExitStack()
        self.cluster: Cluster
        self.git_server: GitServer
        self.registry: Registry
        self.measurements: Measurements

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what runs and remove the folder."""
        if self.daemon is not None and self.daemon.poll() is None:
            self.daemon.terminate()
            try:
                self.daemon.wait(10)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait(10)
        self._stack.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        box = Sandbox(nodes=2, audit=True, directory=self.folder / "cluster")
        self.cluster = self._stack.enter_context(box).clusters[0]
        authority = Authority(self.folder / "pki", "demo CA")
        self.measurements = self._stack.enter_context(Measurements(self.cluster, authority))
        self._stack.enter_context(IngressController(self.cluster))
        password = secrets.token_hex(16)
        _private(self.folder / "git.password", password)
        self.git_server = self._stack.enter_context(
            GitServer(self.folder / "git", authority=authority, credentials=("git", password))
        )
        self.registry = self._stack.enter_context(Registry(self.folder / "registry"))
        self.registry.push("shop/mail", "1.0.0", image("mail 1.0.0", created="2026-01-02T03:04:05Z"))
        _private(self.folder / "registry.password", self.registry.password)
        self._prepare_tools()
        self._prepare_repository()
        kubeconfig = self.cluster.kubeconfig.relative_to(self.folder)
        agent_file = _AGENT_FILE.format(
            url=self.git_server.url("shop"), kubeconfig=kubeconfig, registry=self.registry.server
        )
        (self.folder / "agent.yaml").write_text(agent_file)

    def _prepare_tools(self) -> None:
        tools = self.folder / "bin"
        tools.mkdir()
        (tools / "kubectl").symlink_to(binaries.program("kubectl"))
        _script(tools / "gitsyncd", f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m gitsyncd "$@"\n')
        _script(tools / "replace", _EDITOR.format(python=sys.executable))
        (self.folder / "env").write_text(_ENV.format(folder=self.folder, kubeconfig=self.cluster.kubeconfig))

    def _prepare_repository(self) -> None:
        bare = self.git_server.create("shop").path
        self.git("clone", "-q", str(bare), str(self.work), cwd=self.folder)
        self.git("config", "user.name", "Demo")
        self.git("config", "user.email", "demo@example.com")
        self.git("checkout", "-q", "-B", "main")
        shutil.copytree(APP, self.work / "deploy")
        manifest = self.work / "deploy/base/database.yaml"
        text = manifest.read_text().replace("@PASSWORD@", self.secret)
        manifest.write_text("".join(line for line in text.splitlines(keepends=True) if not line.startswith("#")))
        self.commit("the shop, as it is")
        self.push("-u", "origin", "main")

    # --- commands ------------------------------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        """Of every command: nothing of the person's own configuration."""
        return {
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "KUBECONFIG": str(self.cluster.kubeconfig),
            "GITSYNCD_CONFIG": str(self.folder / "agent.yaml"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "NO_COLOR": "1",
        }

    def run(
        self,
        *command: str,
        codes: tuple[int, ...] = (0,),
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Result:
        """Run a command. Raises `Unexpected` when it ends with another exit code than these, or takes a minute."""
        done = subprocess.run(
            command,
            cwd=cwd or self.folder,
            env={**self.environment, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.said += [done.stdout, done.stderr]
        if done.returncode not in codes:
            said = (done.stderr.strip() or done.stdout.strip())[-800:]
            raise Unexpected(f"`{' '.join(command)}` ended with {done.returncode}, not {codes[0]}: {said}")
        return Result(done.returncode, done.stdout, done.stderr)

    def kubectl(self, *arguments: str, env: Mapping[str, str] | None = None) -> Result:
        return self.run("kubectl", *arguments, env=env)

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        return self.run("git", *arguments, cwd=cwd or self.work).out.strip()

    def commit(self, message: str) -> str:
        """Everything in the work tree; returns the commit's id."""
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def push(self, *arguments: str) -> None:
        self.git("push", "-q", *arguments)

    def write(self, name: str, text: str) -> None:
        """A file below `deploy`."""
        path = self.work / "deploy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def replace(self, name: str, old: str, new: str) -> None:
        """Edit a file below `deploy`."""
        path = self.work / "deploy" / name
        text = path.read_text()
        if old not in text:
            raise Unexpected(f"{old!r} is not in deploy/{name}")
        path.write_text(text.replace(old, new))

    # --- the daemon ----------------------------------------------------------------------------------------------

    def start_daemon(self, log: Path | None = None) -> subprocess.Popen[bytes]:
        """`gitsyncd run` as a process of its own session; its output goes to the file, or else to where ours goes.

        If this program is killed outright, the daemon ends too.
        """
        command = [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), str(self.folder / "bin/gitsyncd"), "run"]
        environment = self.environment
        if log is None and "NO_COLOR" not in os.environ:
            del environment["NO_COLOR"]
        if "TERM" in os.environ:
            environment["TERM"] = os.environ["TERM"]
        with (log or Path(os.devnull)).open("ab") as file:
            self.daemon = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=None if log is None else file,
                stderr=None if log is None else subprocess.STDOUT,
                start_new_session=True,
            )
        return self.daemon

    def end_daemon(self, number: signal.Signals, *, within_s: float = 20) -> int:
        """Send the signal and wait; the exit code. Raises `Unexpected` when the daemon does not end in time."""
        assert self.daemon is not None
        self.daemon.send_signal(number)
        try:
            return self.daemon.wait(within_s)
        except subprocess.TimeoutExpired:
            raise Unexpected(f"the daemon still runs {within_s:g} s after {number.name}") from None


def processes_of(folder: Path, *, but: Collection[int] = ()) -> list[str]:
    """Command lines of processes that were started from or for a folder, this one and those excluded.

    Asks /proc, so it finds nothing where there is none.
    """
    found = []
    marker = str(folder).encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (
                int(entry.name) in {os.getpid(), *but}
                or (entry / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
            ):
                continue
            command = (entry / "cmdline").read_bytes()
            if marker in command or marker in (entry / "environ").read_bytes():
                found.append(command.replace(b"\0", b" ").decode(errors="replace").strip())
        except OSError:
            continue  # gone, or somebody else's
    return found


def wait_until(fact: Any, what: str, *, within_s: float = 20) -> Any:
    """Ask until the answer is true, and return it. Raises `Unexpected` with `what` when it is not in time."""
    deadline = time.monotonic() + within_s
    while True:
        answer = fact()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise Unexpected(f"after {within_s:g} s still not so: {what}")
        time.sleep(0.02)


def _private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
