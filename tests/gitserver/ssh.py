"""A Git server over SSH on loopback, in a thread of its own: asyncssh answers, the real `git upload-pack` does the work.

    with SshGitServer(folder) as server:
        repo = server.create("fleet")
        key_file = server.client_key(folder / "key")
        known_hosts.write_text(server.known_hosts)
        server.fault = Cut(after=1000, at="fetch")
        ... server.url("fleet") ...

Faults are those of `tests.gitserver.server` that concern what comes back: `Cut`, `Stall` and `Answer`'s body.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import asyncssh

from tests.gitserver.repository import BARE_ENVIRONMENT, Repo
from tests.gitserver.server import Answer, Cut, Fault, Kind, Stall


def new_key(algorithm: str = "ssh-ed25519") -> asyncssh.SSHKey:
    return asyncssh.generate_private_key(algorithm)


def public_text(key: asyncssh.SSHKey) -> str:
    """Kind and base64, as a line of a known_hosts file ends."""
    return " ".join(key.export_public_key().decode().split()[:2])


class SshGitServer:
    """All repositories of one folder, at `ssh://git@127.0.0.1:PORT/NAME.git`."""

    def __init__(self, folder: Path, *, protocol: Literal[0, 2] = 2) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.protocol = protocol
        self.host_key = new_key()
        self.authority: asyncssh.SSHKey | None = None
        """Signs the host key, when there is one."""
        self.principal = "127.0.0.1"
        self.authorized: set[bytes] = set()
        self.fault: Fault | None = None
        self.greeting = b""
        """What the user's shell prints before anything else."""
        self.connections = 0
        self.open = 0
        self.commands: list[str] = []
        self.environments: list[dict[str, str]] = []
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._listener: asyncssh.SSHAcceptor | None = None
        self._live: set[asyncssh.SSHServerConnection] = set()
        self._conversations: set[asyncio.Task[None]] = set()

    # --- what a test prepares ------------------------------------------------------------------------------------

    def create(self, name: str) -> Repo:
        return Repo(self.folder / f"{name}.git")

    def url(self, name: str) -> str:
        return f"ssh://git@127.0.0.1:{self.port}/{name}.git"

    def client_key(self, file: Path, algorithm: str = "ssh-ed25519", passphrase: str | None = None) -> Path:
        """A new private key that may come in, written to `file`."""
        key = new_key(algorithm)
        file.write_bytes(key.export_private_key("openssh", passphrase))
        file.chmod(0o600)
        self.authorized.add(key.public_data)
        return file

    @property
    def name(self) -> str:
        """As a known_hosts file calls this server."""
        return f"[127.0.0.1]:{self.port}"

    @property
    def known_hosts(self) -> str:
        return f"{self.name} {public_text(self.host_key)}\n"

    # --- while it runs -------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(self.fault, Stall):
            self.fault.released.set()
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def restart(self) -> None:
        """At the same port, with the host key and the authority that are set now."""
        self._call(self._stop())
        self._call(self._listen())

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        shown: Any = self.host_key
        if self.authority is not None:
            certificate = self.authority.generate_host_certificate(
                self.host_key.convert_to_public(), "host", principals=[self.principal]
            )
            shown = (self.host_key, certificate)
        self._listener = await asyncssh.listen(
            "127.0.0.1",
            self.port,
            config=None,
            server_factory=lambda: _Server(self),
            server_host_keys=[shown],
            process_factory=self._serve,
            encoding=None,
            reuse_address=True,
        )
        self.port = self._listener.get_port()

    async def _stop(self) -> None:
        assert self._listener is not None
        self._listener.close()
        live = list(self._live)
        for connection in live:
            connection.abort()
        await self._listener.wait_closed()
        for connection in live:
            await connection.wait_closed()
        if self._conversations:
            await asyncio.wait(self._conversations)

    def joined(self, connection: asyncssh.SSHServerConnection) -> None:
        self.connections += 1
        self.open += 1
        self._live.add(connection)

    def left(self, connection: asyncssh.SSHServerConnection) -> None:
        self.open -= 1
        self._live.discard(connection)

    def _serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        conversation = self._loop.create_task(self._conversation(process))
        self._conversations.add(conversation)
        conversation.add_done_callback(self._conversations.discard)

    async def _conversation(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        command = process.command or ""
        self.commands.append(command)
        self.environments.append(dict(process.env))
        program, path = shlex.split(command)
        assert program in {"git-upload-pack", "git-receive-pack"}
        environment = dict(BARE_ENVIRONMENT)
        if self.protocol == 2:
            environment["GIT_PROTOCOL"] = process.env.get("GIT_PROTOCOL", "")
        child = await asyncio.create_subprocess_exec(
            "git",
            program.removeprefix("git-"),
            str(self.folder / path.lstrip("/")),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
        try:
            await _Conversation(self, process, child).run()
        finally:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
            await child.communicate()  # to the end, or its pipes stay open


class _Server(asyncssh.SSHServer):
    def __init__(self, owner: SshGitServer) -> None:
        self._owner = owner
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._owner.joined(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._connection is not None:
            self._owner.left(self._connection)

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == "git" and key.public_data in self._owner.authorized


class _Conversation:
    """Between one client and one `git upload-pack`, with the fault of the moment."""

    def __init__(
        self,
        owner: SshGitServer,
        process: asyncssh.SSHServerProcess[bytes],
        child: asyncio.subprocess.Process,
    ) -> None:
        self._owner = owner
        self._process = process
        self._child = child
        self._kind: Kind = "discovery"
        self._sent = 0
        """Bytes, since the last question."""

    async def run(self) -> None:
        asked = asyncio.create_task(self._ask())
        try:
            if self._owner.greeting:
                self._process.stdout.write(self._owner.greeting)
            await self._answer()
            assert self._child.stderr is not None
            said = await self._child.stderr.read()
            self._process.stderr.write(said)
            self._process.exit(await self._child.wait())
        except (asyncssh.Error, OSError):
            """The client has gone."""
        finally:
            asked.cancel()
            await asyncio.wait({asked})

    async def _ask(self) -> None:
        assert self._child.stdin is not None
        with contextlib.suppress(asyncssh.Error, OSError):
            while data := await self._process.stdin.read(1 << 16):
                kind: Kind | None = "ls-refs" if b"command=ls-refs" in data else "fetch" if b"want " in data else None
                if b"report-status" in data:
                    kind = "push"
                if kind is not None:
                    self._kind, self._sent = kind, 0
                self._child.stdin.write(data)
                await self._child.stdin.drain()
        self._child.stdin.close()

    async def _answer(self) -> None:
        assert self._child.stdout is not None
        while data := await self._child.stdout.read(1 << 15):
            fault = self._owner.fault
            if fault is not None and fault.at in {"", self._kind}:
                data = await self._spoilt(fault, data)
            self._sent += len(data)
            self._process.stdout.write(data)
            await self._process.stdout.drain()

    async def _spoilt(self, fault: Fault, data: bytes) -> bytes:
        match fault:
            case Answer(body=body):
                return body if self._sent == 0 else b""
            case Cut(after=after) if self._sent + len(data) > after:
                self._process.stdout.write(data[: after - self._sent])
                self._process.channel.get_connection().abort()
                raise ConnectionAbortedError
            case Stall(after=after) if self._sent + len(data) > after:
                self._process.stdout.write(data[: after - self._sent])
                await asyncio.to_thread(fault.released.wait)
                raise ConnectionAbortedError
            case _:
                return data
