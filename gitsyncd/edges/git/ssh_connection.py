"""A connection over SSH to one server, made with asyncssh, which this module alone imports.

Everything is said to the library that it would otherwise look for itself: `~/.ssh`, configuration, an agent and the
environment are not looked at. Loaded when a source over SSH is first asked, because it is some 15 MB.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import logging
import os
import socket
from collections import deque
from collections.abc import Sequence

import asyncssh
from asyncssh.kex import get_kex_algs

from gitsyncd.edges.git.known_hosts import HostKey, KnownHost
from gitsyncd.model.address import SshAddress

_ADDRESS_SECONDS = 5.0
"""To connect to one of the addresses of a host; with several of them the others are tried as well."""
_HANDSHAKE_SECONDS = 20.0
_OPEN_SECONDS = 10.0
_SILENCE_SECONDS = 30.0
_LINGER_SECONDS = 5.0
_HELD_BYTES = 1 << 20
"""What has come and is not yet taken. Above, the server is kept waiting."""
_SAID_BYTES = 4096

_KEY_EXCHANGES = (
    "mlkem768x25519-sha256",
    "sntrup761x25519-sha512",
    "sntrup761x25519-sha512@openssh.com",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group14-sha256",
)
"""Best first. Those that the library lacks are left out: two of them need a library of their own."""
_CIPHERS = (
    "chacha20-poly1305@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-gcm@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
)
_MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")
_HOST_KEYS = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}
"""From the kind of a key to what it may sign with: nothing that hashes with SHA-1."""
_SIGNATURES = tuple(name for names in _HOST_KEYS.values() for name in names)

PrivateKey = asyncssh.SSHKey
NOT_PERMITTED = asyncssh.PermissionDenied
NO_COMMAND = asyncssh.ChannelOpenError
NO_ALGORITHM = (asyncssh.KeyExchangeFailed, asyncssh.ProtocolNotSupported)
"""What the library raises, by what it means to whoever asked."""

# What the library logs on its own would stand beside the daemon's log, and names hosts and users in words of its own.
logging.getLogger("asyncssh").setLevel(logging.CRITICAL + 1)


class UnusableKey(Exception):
    """The file of a private key cannot be used. The text says why and quotes nothing of it."""


class HostKeyRefused(Exception):
    """The server has another key than it should, or none that could be told apart."""

    def __init__(self, reason: str, offered: bytes | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.offered = offered
        """The key itself, or that of a certificate's signer; None where the library does not say."""


def private_key(content: bytes, passphrase: str | None) -> PrivateKey:
    """Deriving a key from a passphrase takes a while, on purpose: not for the event loop. Raises `UnusableKey`."""
    try:
        key = asyncssh.import_private_key(content, passphrase)
    except asyncssh.KeyEncryptionError:
        raise UnusableKey("its passphrase is another one") from None
    except asyncssh.KeyImportError as error:
        if passphrase is None and "assphrase" in str(error):
            raise UnusableKey("it has a passphrase and none is configured") from None
        raise UnusableKey("it holds no private key that is understood") from None
    except (ValueError, TypeError, ArithmeticError):
        raise UnusableKey("it holds no private key that is understood") from None
    if key.get_algorithm() not in _HOST_KEYS:
        raise UnusableKey(f"keys of the kind {key.get_algorithm()} are not used")
    return key


class _Client(asyncssh.SSHClient):
    """Remembers what the server showed. Everything that is not listed is refused here."""

    def __init__(self) -> None:
        self.offered: bytes | None = None

    def validate_host_public_key(self, _host: str, _addr: str, _port: int, key: asyncssh.SSHKey) -> bool:
        self.offered = key.public_data
        return False

    def validate_host_ca_key(self, _host: str, _addr: str, _port: int, key: asyncssh.SSHKey) -> bool:
        self.offered = key.public_data
        return False


class Session(asyncssh.SSHClientSession[bytes]):
    """One command on the server. What it writes comes in pieces, and no faster than it is taken."""

    def __init__(self) -> None:
        self.said = b""
        """The end of what it wrote to standard error."""
        self.exit_status: int | None = None
        self.lost: Exception | None = None
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._paused = False
        self._ended = False
        self._arrived = asyncio.Event()
        self._closed = asyncio.Event()
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._channel = chan

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        if datatype == asyncssh.EXTENDED_DATA_STDERR:
            self.said = (self.said + data)[-_SAID_BYTES:]
            return
        self._pieces.append(data)
        self._held += len(data)
        self._arrived.set()
        if self._held > _HELD_BYTES and not self._paused and self._channel is not None:
            self._paused = True
            self._channel.pause_reading()

    def eof_received(self) -> bool:
        self._ended = True
        self._arrived.set()
        return True  # its exit status is yet to come

    def exit_status_received(self, status: int) -> None:
        self.exit_status = status

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = exc
        self._ended = True
        self._arrived.set()
        self._closed.set()

    def send(self, data: bytes) -> None:
        """Requests are small: there is nothing to wait for."""
        if self._channel is not None and not self._closed.is_set():
            self._channel.write(data)

    @property
    def ended(self) -> bool:
        """Whether the server has said that nothing more comes."""
        return self._ended

    async def piece(self) -> bytes | None:
        """The next of what it writes; None at its end. Raises `TimeoutError` after a silence."""
        while not self._pieces:
            if self._ended:
                return None
            self._arrived.clear()
            async with asyncio.timeout(_SILENCE_SECONDS):
                await self._arrived.wait()
        piece = self._pieces.popleft()
        self._held -= len(piece)
        if self._paused and self._held <= _HELD_BYTES // 2 and self._channel is not None:
            self._paused = False
            self._channel.resume_reading()
        return piece

    def end(self) -> None:
        """Nothing more is asked. The server closes its side."""
        if self._channel is not None and not self._closed.is_set():
            self._channel.write_eof()

    async def closed(self) -> bool:
        """Wait until its standard error and exit status are complete; whether they came to be within a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                await self._closed.wait()
        return self._closed.is_set()


class Connection:
    """An authenticated connection. Commands are run one after the other."""

    def __init__(self, connection: asyncssh.SSHClientConnection) -> None:
        self._connection = connection

    @property
    def usable(self) -> bool:
        return not self._connection.is_closed()

    async def run(self, command: str) -> Session:
        """Raises `TimeoutError` and what `asyncssh` raises."""
        session = Session()
        async with asyncio.timeout(_OPEN_SECONDS):
            await self._connection.create_session(
                lambda: session,
                command,
                env={"GIT_PROTOCOL": "version=2"},
                send_env=None,
                encoding=None,
                request_pty=False,
            )
        return session

    def abort(self) -> None:
        self._connection.abort()

    async def close(self) -> None:
        self._connection.abort()
        await self._connection.wait_closed()


async def connect(address: SshAddress, user: str, key: PrivateKey, host: KnownHost, client_version: str) -> Connection:
    """Raises `HostKeyRefused`, `TimeoutError`, `OSError` and what `asyncssh` raises."""
    _name_this_user()
    trusted = _imported(host.trusted)
    authorities = _imported(host.authorities)
    client = _Client()
    connecting = await _dial(address.host, address.port)
    try:
        async with asyncio.timeout(_HANDSHAKE_SECONDS):
            connection = await asyncssh.connect(
                address.host,
                address.port,
                sock=connecting,
                client_factory=lambda: client,
                client_version=client_version,
                config=None,
                username=user,
                client_keys=[key],
                # A tuple with three lists: were it empty, the library would look into ~/.ssh.
                known_hosts=(trusted, authorities, _imported(host.revoked)),
                server_host_key_algs=_host_key_algorithms(host.trusted, with_certificates=bool(authorities)),
                kex_algs=_key_exchanges(),
                encryption_algs=_CIPHERS,
                mac_algs=_MACS,
                compression_algs=None,
                signature_algs=_SIGNATURES,
                x509_trusted_certs=None,
                x509_trusted_cert_paths=[],
                agent_path=None,
                agent_forwarding=False,
                pkcs11_provider=None,
                preferred_auth="publickey",
                host_based_auth=False,
                kbdint_auth=False,
                password_auth=False,
                gss_host=None,
                gss_auth=False,
                gss_kex=False,
                tunnel=None,
                proxy_command=None,
                x11_forwarding=False,
                canonicalize_hostname=False,
            )
    except asyncssh.HostKeyNotVerifiable as error:
        raise HostKeyRefused(str(error.reason), client.offered) from error
    except BaseException:
        connecting.close()
        raise
    return Connection(connection)


async def _dial(host: str, port: int) -> socket.socket:
    """A socket that is connected to one of the host's addresses. Raises `OSError`, `TimeoutError`."""
    loop = asyncio.get_running_loop()
    failure: OSError = OSError("no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        made = socket.socket(family, kind, protocol)
        try:
            made.setblocking(False)
            async with asyncio.timeout(_ADDRESS_SECONDS):
                await loop.sock_connect(made, address)
            return made
        except OSError as error:  # TimeoutError among them
            made.close()
            failure = error
        except BaseException:
            made.close()
            raise
    raise failure


def _imported(keys: Sequence[HostKey]) -> list[asyncssh.SSHKey]:
    """Those that the library knows: the server cannot have another."""
    found = []
    for key in keys:
        with contextlib.suppress(asyncssh.KeyImportError):
            found.append(asyncssh.import_public_key(key.text))
    return found


def _host_key_algorithms(trusted: Sequence[HostKey], *, with_certificates: bool) -> list[str]:
    """Of the kinds that are listed first, so that a server with several keys shows one of those; then of the others,
    so that one that has none of them can be told by what it shows.
    """
    listed = {key.kind for key in trusted}
    kinds = sorted(_HOST_KEYS, key=lambda kind: kind not in listed)
    plain = [name for kind in kinds for name in _HOST_KEYS[kind]]
    return [*(f"{name}-cert-v01@openssh.com" for name in plain), *plain] if with_certificates else plain


def _key_exchanges() -> list[str]:
    known = {name.decode() for name in get_kex_algs()}
    return [name for name in _KEY_EXCHANGES if name in known]


def _name_this_user() -> None:
    """The library asks for the name of the user that runs it, does nothing with it here, and fails where a container
    runs as a number without a name.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = "gitsyncd"
