"""What edges that speak HTTP have in common: whom to trust, where an address leads, and how a connection failed.

Failures become words and a kind here, and errors of our own in the edge, which knows what was asked for and which key
of the agent file to look at. No text of the library is passed on: it may quote an address or a header.
"""

from __future__ import annotations

import os
import ssl
from enum import Enum, auto
from pathlib import Path
from urllib.parse import urlsplit

from gitsyncd.model.immutable import immutable


class Trouble(Enum):
    """Where a connection failed."""

    SILENCE = auto()
    CERTIFICATE = auto()
    NAME = auto()
    TLS = auto()
    CONNECT = auto()
    CUT = auto()
    PROXY = auto()
    OTHER = auto()


@immutable
class Failure:
    """`words` go after the server's name and a colon."""

    kind: Trouble
    words: str
    status: int = 0
    """What a proxy answered."""


def failure(error: Exception) -> Failure:
    """Of whatever aiohttp raises while it asks: its own errors, `TimeoutError`, `OSError`."""
    import aiohttp  # 26 MB that not every agent needs

    match error:
        case TimeoutError():  # first: aiohttp's are its ClientErrors, too
            return Failure(kind=Trouble.SILENCE, words="does not answer: nothing came in time")
        case aiohttp.ClientConnectorCertificateError():
            reason = getattr(error.certificate_error, "verify_message", "") or "verification failed"
            return Failure(kind=Trouble.CERTIFICATE, words=f"the server's certificate is not trusted: {reason}")
        case aiohttp.ClientConnectorDNSError():
            return Failure(kind=Trouble.NAME, words="the host name cannot be resolved")
        case aiohttp.ClientSSLError():
            reason = getattr(error.os_error, "reason", None) or "handshake failed"
            return Failure(kind=Trouble.TLS, words=f"no TLS connection: {reason}")
        case aiohttp.ClientConnectorError():
            reason = os.strerror(error.errno) if error.errno else "no connection"
            return Failure(kind=Trouble.CONNECT, words=f"cannot connect: {reason}")
        case aiohttp.ClientHttpProxyError():
            return Failure(kind=Trouble.PROXY, words=f"no tunnel ({error.status})", status=error.status)
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError() | OSError():
            return Failure(kind=Trouble.CUT, words="ended the connection in the middle")
    return Failure(kind=Trouble.OTHER, words=type(error).__name__)


def trusting(ca_file: Path | None) -> ssl.SSLContext:
    """Trusts what that file has, or the system. Raises `ValueError` with what is wrong with the file."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        said = "" if isinstance(error, ssl.SSLError) else error.strerror
        raise ValueError(said or "no certificates in it") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.keylog_filename = None  # type: ignore[assignment] # whatever $SSLKEYLOGFILE says
    return context


def origin(address: str) -> tuple[str, str, int]:
    """Scheme, host and port: whether two addresses are of one server."""
    parts = urlsplit(address)
    return parts.scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
