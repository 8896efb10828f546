"""A Git server over SSH: git's own programs, run on the server, speak the same protocol as over HTTP.

One connection is kept between polls, and each question is a command of its own on it: a warm poll is no handshake.
The connection ends when a file that it was made with is replaced, and after a while without questions. How it is made,
and whom it trusts, is `ssh_connection` and `known_hosts`; here is what is asked, and what each failure means.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from importlib import import_module
from os import strerror
from typing import TYPE_CHECKING, Any

from gitsyncd.edges.git.caps import Caps
from gitsyncd.edges.git.credentials import FileState, file_state, read_file
from gitsyncd.edges.git.known_hosts import HostKey, KnownHost, UnreadableLine, fingerprint, known_host
from gitsyncd.edges.git.pktline import (
    FLUSH,
    Advertisement,
    HeadList,
    PackAnswer,
    ProtocolViolation,
    PushAnswer,
    fetch_request,
    ls_refs_request,
    printable,
)
from gitsyncd.edges.git.remote import RECEIVE, LostRace, Move, Remote, Write, judge
from gitsyncd.model.address import DEFAULT_USER, SshAddress
from gitsyncd.model.errors import ConfigError, SourceDenied, SourceError, SourceUnreachable
from gitsyncd.model.source import Repository, SshAuth

if TYPE_CHECKING:
    from gitsyncd.edges.git.ssh_connection import Connection, HostKeyRefused, PrivateKey, Session

_IDLE_SECONDS = 75.0
"""As long as a connection over HTTP is kept. Servers have better to do than to hold one for a source asked hourly."""
_KNOWN_HOSTS_BYTES = 4 << 20
_UPLOAD = "git-upload-pack"
_NO_SUCH_COMMAND = 127
_SHOWN_KEYS = 5


class SshRemote(Remote):
    """Over SSH, with a key and a known_hosts file that are named in the agent file."""

    def __init__(self, repository: Repository, *, agent: str, caps: Caps) -> None:
        """Raises `ConfigError` for an address or credentials that cannot be used."""
        super().__init__(repository, agent=agent, caps=caps)
        try:
            self._address = SshAddress.parse(repository.url)
        except ValueError as error:
            raise ConfigError(f"{self.shown} {error}", hint="Write ssh://git@host/path or git@host:path.") from None
        if not isinstance(repository.auth, SshAuth):
            raise ConfigError(f"{self.shown} is asked over SSH, and has no `auth.ssh_key_file`")
        self._auth = repository.auth
        self._user = self._address.user or self._auth.username or DEFAULT_USER
        self._path = _quoted(self._address.path)
        self._connection: Connection | None = None
        self._made_with: FileState = ()
        self._fingerprint = ""
        self._idle: asyncio.TimerHandle | None = None

    async def close(self) -> None:
        connection = self._forget()
        if connection is not None:
            await connection.close()

    async def heads(self, branches: Sequence[str]) -> dict[str, str]:
        async with self._asking() as session:
            advertisement = await self._greeted(session, branches)
            heads = advertisement.heads
            if advertisement.version == 2:
                listing = HeadList(branches)
                session.send(ls_refs_request(branches, advertisement.capabilities, self._product))
                await self._read(_pieces(session, listing), listing)
                heads = listing.heads
            session.send(FLUSH)  # in every version: nothing more is wanted
            return heads

    async def download(self, wants: Sequence[str], haves: Sequence[str], write: Write) -> None:
        async with self._asking() as session:
            spoken = await self._greeted(session, ())
            self._refuse_shallow(spoken)
            session.send(
                fetch_request(
                    wants, haves, version=spoken.version, capabilities=spoken.capabilities, agent=self._product
                )
            )
            answer = PackAnswer(spoken.version)
            await self._receive(_pieces(session, answer), answer, write)
            if spoken.version == 2:
                session.send(FLUSH)

    async def push(self, move: Move, pack: bytes) -> None:
        async with self._asking(RECEIVE) as session:
            advertisement = await self._greeted(session, [move.branch])
            try:
                request, answer = self._begun(advertisement, move)
            except LostRace:
                session.send(FLUSH)
                raise
            session.send(request + pack)
            await self._read(_pieces(session, answer), answer)
        judge(self.shown, answer, move)

    async def _greeted(self, session: Session, branches: Sequence[str]) -> Advertisement:
        advertisement = Advertisement(branches)
        await self._read(_pieces(session, advertisement), advertisement)
        self._refuse_format(advertisement)
        return advertisement

    @contextlib.asynccontextmanager
    async def _asking(self, service: str = _UPLOAD) -> AsyncIterator[Session]:
        """One command on the server. Every kind of failure comes out as a `SourceError`.

        After a failure, cancellation included, nobody knows what is still on its way: the connection goes as well.
        """
        session = await self._session(service)
        kept = False
        try:
            yield session
            session.end()
            kept = await session.closed()
        except (SourceError, ProtocolViolation) as error:
            if session.ended:
                # Its last words and its exit status, which say more than that it ended.
                await session.closed()
            raise self._reason(session, error) from error
        except TimeoutError as error:
            raise self._silent() from error
        finally:
            if kept:
                self._keep()
            else:
                self._abort()

    def _reason(self, session: Session, error: SourceError | ProtocolViolation) -> SourceError:
        said = session.said.strip()
        if session.exit_status == _NO_SUCH_COMMAND:
            return SourceUnreachable(
                f"{self.shown}: the server has no git program to answer with",
                hint="Install git on the server, where the user of `url` finds it without a login shell.",
            )
        if isinstance(error, ProtocolViolation):
            wrong = self._misspoken(error)
            wrong.hint = (
                "Check `url` of this source, and that the user's shell on the server prints nothing of its own."
            )
            return wrong
        if session.exit_status and said and isinstance(error, SourceUnreachable):
            return SourceDenied(
                f"{self.shown}: the server says {printable(said, 300)}",
                hint="Check the path in `url`, and whether this key may read the repository.",
            )
        return error

    async def _session(self, service: str) -> Session:
        """A command that was begun, on the kept connection when there is one that still answers."""
        self._stop_clock()
        state = await asyncio.to_thread(
            file_state, self._auth.key_file, self._auth.passphrase_file, self._auth.known_hosts_file
        )
        if self._connection is not None and state == self._made_with and self._connection.usable:
            # Whatever goes wrong with an old connection, a new one tells it better.
            with contextlib.suppress(SourceError):
                return await self._started(self._connection, service)
        self._abort()
        self._connection, self._made_with = await self._connect(), state
        return await self._started(self._connection, service)

    async def _started(self, connection: Connection, service: str) -> Session:
        try:
            return await connection.run(f"{service} {self._path}")
        except BaseException as error:
            self._abort()
            if isinstance(error, Exception):
                raise self._translated(error) from error
            raise

    async def _connect(self) -> Connection:
        # 15 MB and a quarter of a second, for sources over SSH alone. Not in the event loop.
        ssh = await asyncio.to_thread(import_module, "gitsyncd.edges.git.ssh_connection")
        host = await asyncio.to_thread(self._known_host)
        key = await asyncio.to_thread(self._private_key, ssh)
        self._fingerprint = fingerprint(key.public_data)
        try:
            made: Connection = await ssh.connect(self._address, self._user, key, host, self._product.replace("/", "_"))
        except ssh.HostKeyRefused as error:
            raise self._host_refused(error, host) from error
        except Exception as error:
            raise self._translated(error) from error
        return made

    def _known_host(self) -> KnownHost:
        """Raises `SourceDenied`."""
        path = self._auth.known_hosts_file
        content = read_file(
            path, what="known_hosts file", key="auth.known_hosts_file", shown=self.shown, limit=_KNOWN_HOSTS_BYTES
        )
        try:
            return known_host(content.decode("utf-8", "replace"), self._address.host, self._address.port)
        except UnreadableLine as error:
            raise SourceDenied(
                f"{self.shown}: the known_hosts file {path} cannot be used: {error}",
                hint="Correct that line: it may say that a key is not to be trusted.",
            ) from error

    def _private_key(self, ssh: Any) -> PrivateKey:
        """Raises `SourceDenied`."""
        path, phrase = self._auth.key_file, None
        content = read_file(path, what="private key", key="auth.ssh_key_file", shown=self.shown)
        if self._auth.passphrase_file is not None:
            phrase = read_file(
                self._auth.passphrase_file, what="passphrase file", key="auth.ssh_key_passphrase_file", shown=self.shown
            ).decode("utf-8", "replace")
        try:
            key: PrivateKey = ssh.private_key(content + b"\n", phrase)
        except ssh.UnusableKey as error:
            raise SourceDenied(
                f"{self.shown}: the private key {path} cannot be used: {error}",
                hint="Name an ed25519, ECDSA or RSA key in `auth.ssh_key_file`, and the file of its passphrase in "
                "`auth.ssh_key_passphrase_file` if it has one.",
            ) from error
        return key

    def _host_refused(self, error: HostKeyRefused, host: KnownHost) -> SourceDenied:
        """Both fingerprints, and what to do: never a way to go on without looking."""
        path, name = self._auth.known_hosts_file, self._address.known_as
        shown = f"the key {fingerprint(error.offered)}" if error.offered else "a key"
        look = (
            f"Compare it with the fingerprint that the server's owner publishes; if it is that, replace the lines of "
            f"{name} in {path}, which is read again at the next look."
        )
        if "revoked" in error.reason:
            return SourceDenied(
                f"{self.shown}: the server shows a key that {path} marks as @revoked: {_listed(host.revoked)}",
                hint="Find out who answers at that address. A revoked key is in the wrong hands.",
            )
        expected = host.trusted or host.authorities
        if not expected:
            return SourceDenied(
                f"{self.shown}: {path} has no key that can be used for {name}, and the server shows {shown}",
                hint="Compare it with the fingerprint that the server's owner publishes; if it is that, add what "
                f"`ssh-keyscan {_port_option(self._address)}{self._address.host}` prints of it to {path}, which is "
                "read again at the next look.",
            )
        if "trusted" not in error.reason:
            return SourceDenied(f"{self.shown}: what the server shows is not good: {error.reason}", hint=look)
        return SourceDenied(
            f"{self.shown}: the server's key has changed, or somebody else answers: it shows {shown}, and "
            f"{path} expects {_listed(expected)}",
            hint=look,
        )

    def _translated(self, error: Exception) -> SourceError:
        """Every failure of the connection, in our words: the library's may quote what somebody else has sent."""
        from gitsyncd.edges.git import ssh_connection as ssh  # loaded already

        if isinstance(error, ssh.NOT_PERMITTED):
            return SourceDenied(
                f"{self.shown} refuses the key {self._fingerprint} for user {self._user!r}",
                hint=f"Add the public half of {self._auth.key_file} to those that may read this repository "
                "(a deploy key), or name another file in `auth.ssh_key_file`. It is read again at each look.",
            )
        if isinstance(error, ssh.NO_ALGORITHM):
            return SourceDenied(
                f"{self.shown}: there is no algorithm that is strong enough and that the server has as well",
                hint="Update the SSH server, and give it an ed25519, ECDSA or RSA key: no SHA-1, CBC or DSA is used.",
            )
        if isinstance(error, ssh.NO_COMMAND):
            return SourceDenied(
                f"{self.shown}: the server lets this user run no command",
                hint="Check whether this key may read the repository.",
            )
        if isinstance(error, TimeoutError):
            return self._silent()
        if isinstance(error, socket.gaierror):
            return SourceUnreachable(f"{self.shown}: the host name cannot be resolved")
        if isinstance(error, OSError) and error.errno:
            return SourceUnreachable(f"{self.shown}: cannot connect: {strerror(error.errno)}")
        # A server may say what it likes, and the library raises what it likes of it.
        return SourceUnreachable(
            f"{self.shown}: the connection ended before there was an answer ({type(error).__name__})",
            hint="Check that `url` has the right port, and that an SSH server listens there.",
        )

    def _silent(self) -> SourceUnreachable:
        return SourceUnreachable(f"{self.shown} does not answer: nothing came in time")

    def _keep(self) -> None:
        self._stop_clock()
        self._idle = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._abort)

    def _abort(self) -> None:
        connection = self._forget()
        if connection is not None:
            connection.abort()

    def _forget(self) -> Connection | None:
        self._stop_clock()
        connection, self._connection = self._connection, None
        return connection

    def _stop_clock(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None


async def _pieces(session: Session, reader: Advertisement | HeadList | PackAnswer | PushAnswer) -> AsyncIterator[bytes]:
    """What the server writes until the answer is complete: then it waits for the next question."""
    while not reader.complete and (piece := await session.piece()) is not None:
        yield piece


def _quoted(path: str) -> str:
    """One word for the server's shell. In quotes always: some servers read the command themselves and want them.

    The address has none of the signs that would end the quotes; should it ever, they end nothing here.
    """
    return "'" + path.replace("'", "'\\''").replace("!", "'\\!'") + "'"


def _listed(keys: Sequence[HostKey]) -> str:
    shown = [f"{fingerprint(key.blob)} ({key.kind}, line {key.line})" for key in keys[:_SHOWN_KEYS]]
    return " or ".join(shown) + (" or others" if len(keys) > _SHOWN_KEYS else "")


def _port_option(address: SshAddress) -> str:
    return "" if address.known_as == address.host else f"-p {address.port} "
