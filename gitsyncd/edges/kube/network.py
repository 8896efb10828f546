"""What it means that no answer came: exceptions of aiohttp, ssl and the socket, translated to the error tree.

Of a library's text only the reason of a TLS failure is passed on: the rest may quote a URL or a header. What an answer
means is said in `errors`.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Callable

import aiohttp

from gitsyncd.model.errors import ClusterDenied, ClusterError, ClusterUnreachable


def breakdown(error: BaseException, *, cluster: str, server: str) -> ClusterError:
    """The error that a failure to talk at all stands for. `server` is the address."""
    for kinds, meaning in _BY_EXCEPTION:
        if isinstance(error, kinds):
            return meaning(error, cluster, server)
    return ClusterUnreachable(f"talking to {server} failed: {type(error).__name__}", subject=cluster)


def _timed_out(_error: BaseException, cluster: str, server: str) -> ClusterError:
    return ClusterUnreachable(f"{server} gave no answer within the time limit", subject=cluster)


def _name_unknown(_error: BaseException, cluster: str, server: str) -> ClusterError:
    return ClusterUnreachable(f"the name in {server} cannot be resolved", subject=cluster)


def _proxy(_error: BaseException, cluster: str, server: str) -> ClusterError:
    return ClusterUnreachable(
        f"the proxy on the way to {server} cannot be used", subject=cluster, hint="Check `proxy-url` of the kubeconfig."
    )


def _certificate(error: BaseException, cluster: str, server: str) -> ClusterError:
    reason = getattr(error, "verify_message", "") or _reason_of_certificate(error)
    return ClusterDenied(
        f"the certificate of {server} is not trusted: {reason}",
        subject=cluster,
        hint="Check `ca_file` (or the kubeconfig's `certificate-authority`), and that the address is the server's own.",
    )


def _tls(error: BaseException, cluster: str, server: str) -> ClusterError:
    reason = str(getattr(error, "reason", "") or "")
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        return ClusterDenied(
            f"{server} does not accept the client certificate",
            expired=True,
            subject=cluster,
            hint="The client certificate is wrong or expired: replace its files, they are read again at once.",
        )
    detail = f": {reason.replace('_', ' ').lower()}" if reason else ""
    return ClusterUnreachable(
        f"no TLS connection with {server}{detail}",
        subject=cluster,
        hint="Check that the address speaks HTTPS (TLS 1.2 or newer).",
    )


def _not_connected(error: BaseException, cluster: str, server: str) -> ClusterError:
    number = getattr(error, "errno", None)
    reason = _REASONS.get(number, errno.errorcode.get(number, "failed")) if isinstance(number, int) else "failed"
    return ClusterUnreachable(f"no connection to {server}: {reason}", subject=cluster)


def _broken(_error: BaseException, cluster: str, server: str) -> ClusterError:
    return ClusterUnreachable(f"the connection to {server} broke", subject=cluster)


def _not_http(_error: BaseException, cluster: str, server: str) -> ClusterError:
    return ClusterUnreachable(
        f"{server} does not answer as an API server does",
        subject=cluster,
        hint="Check that the address is the API server's own.",
    )


_REASONS = {
    errno.ECONNREFUSED: "connection refused",
    errno.EHOSTUNREACH: "no route to host",
    errno.ENETUNREACH: "network is unreachable",
    errno.ETIMEDOUT: "timed out",
    errno.ECONNRESET: "connection reset",
}

_Meaning = Callable[[BaseException, str, str], ClusterError]

# Special before general: aiohttp's classes inherit from each other and from OSError.
_BY_EXCEPTION: tuple[tuple[tuple[type[BaseException], ...], _Meaning], ...] = (
    ((aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError, ssl.CertificateError), _certificate),
    ((aiohttp.ServerFingerprintMismatch,), _certificate),
    ((aiohttp.ClientHttpProxyError, aiohttp.ClientProxyConnectionError), _proxy),
    ((aiohttp.ClientConnectorDNSError,), _name_unknown),
    ((aiohttp.ClientSSLError, ssl.SSLError), _tls),
    ((TimeoutError, asyncio.TimeoutError), _timed_out),
    ((aiohttp.ClientConnectorError,), _not_connected),
    ((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError), _broken),
    ((aiohttp.ClientConnectionError,), _broken),
    ((aiohttp.ClientResponseError, aiohttp.InvalidURL, aiohttp.ClientError), _not_http),
    ((ConnectionError,), _broken),
    ((OSError,), _not_connected),
)


def _reason_of_certificate(error: BaseException) -> str:
    inner = getattr(error, "certificate_error", None)
    return str(getattr(inner, "verify_message", "")) or "verification failed"
