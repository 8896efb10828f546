"""What can go wrong between a client and a server, and which requests it hits. Values only; `proxy` acts on them.

A fault of the first kind concerns connections as such; the others single requests.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.faults.wire import Request

Matcher = Callable[[Request], bool]


class Fault:
    """Anything that can be switched on."""


# --- connections -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Refuse(Fault):
    """Nobody listens; connections that stood are reset."""


@dataclass(frozen=True)
class Mute(Fault):
    """New connections are accepted and nothing is said on them, not even TLS. Those that stood go on."""


@dataclass(frozen=True)
class BlackHole(Fault):
    """Everything is swallowed: connections that stand stay open for good and carry nothing any more, in either
    direction, also when the fault is over, as where a firewall forgot them. New ones fare no better meanwhile.
    """


@dataclass(frozen=True)
class Babble(Fault):
    """New connections are answered with these bytes in place of TLS. Those that stood are reset."""

    said: bytes = b"SSH-2.0-OpenSSH_9.2\r\n"


@dataclass(frozen=True)
class Certificate(Fault):
    """New connections are shown what this context holds. Those that stood are reset."""

    shown: ssl.SSLContext


@dataclass(frozen=True)
class Slow(Fault):
    """Every answer comes this much later (seconds), and not faster than so many bytes a second."""

    latency_s: float = 0.0
    bytes_per_s: float | None = None


OF_CONNECTIONS = (Refuse, Mute, BlackHole, Babble, Certificate)


# --- requests ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CutRequest(Fault):
    """The server gets so many bytes of the request; then both connections end."""

    after: int = 0
    reset: bool = True
    """By RST; else by FIN."""


@dataclass(frozen=True)
class CutAnswer(Fault):
    """The server has done what was asked; the client gets so many bytes of the answer, head included, and then the end."""

    after: int = 0
    reset: bool = True


@dataclass(frozen=True)
class Swallow(Fault):
    """The request is never forwarded and never answered. The connection stays open."""


@dataclass(frozen=True)
class StallAnswer(Fault):
    """The server has done what was asked; after so many bytes of the answer nothing more comes, ever."""

    after: int = 0


@dataclass(frozen=True, kw_only=True)
class Answer(Fault):
    """This in place of the server's answer; the request is not forwarded."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Raw(Fault):
    """These bytes in place of an answer, and then the end."""

    said: bytes = b"\x00\x01\x02 this is no HTTP\r\n\r\n"


@dataclass(frozen=True)
class Made(Fault):
    """An answer that depends on the request; the request is not forwarded."""

    make: Callable[[Request], Answer]


@dataclass(frozen=True)
class Change(Fault):
    """The server has done what was asked; its body is changed on the way back, and `Content-Length` with it."""

    change: Callable[[bytes], bytes]
    length_is: int = 0
    """To be added to the true length in `Content-Length`."""


@dataclass(frozen=True)
class Strike(Fault):
    """Call this, and end the connection without a word: before the request is forwarded, or when the server has
    answered and the client does not know. For killing the client at a point that is exact.
    """

    hit: Callable[[Request], None]
    answered: bool = False


@dataclass(frozen=True)
class Trip(Fault):
    """From the request that is hit on, this one included, another fault is switched on."""

    fault: Fault
    when: Matcher = lambda _: True
    reset: bool = False
    """Reset the connections that stand, too."""


# --- ready-made --------------------------------------------------------------------------------------------------------


def status(
    code: int, reason: str = "", *, message: str = "made up", headers: Mapping[str, str] | None = None
) -> Answer:
    """An error as an API server words it."""
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    return Answer(
        status=code,
        headers={"Content-Type": "application/json", **(headers or {})},
        body=json.dumps(body).encode(),
    )  # fmt: skip


def too_many(retry_after_s: int = 1) -> Answer:
    return status(429, "TooManyRequests", headers={"Retry-After": str(retry_after_s)})


def gone() -> Answer:
    """410 as a status."""
    return status(410, "Expired", message="too old resource version")


def gone_in_a_watch() -> Answer:
    """410 as the first event of a watch that was accepted."""
    event = {"type": "ERROR", "object": json.loads(gone().body)}
    return Answer(headers={"Content-Type": "application/json"}, body=json.dumps(event).encode() + b"\n")


def forbidden() -> Made:
    """As the API server's authorizer words it."""

    def make(request: Request) -> Answer:
        group = request.path.split("/")[2] if request.path.startswith("/apis/") else ""
        said = f'{request.resource} is forbidden: User "admin" cannot {request.verb} resource "{request.resource}" in API group "{group}" at the cluster scope'
        return status(403, "Forbidden", message=said)

    return Made(make)


def web_page(code: int = 200) -> Answer:
    return Answer(status=code, headers={"Content-Type": "text/html"}, body=b"<html><body>Please log in</body></html>")


def half(body: bytes) -> bytes:
    return body[: len(body) // 2]


# --- which requests ----------------------------------------------------------------------------------------------------


def everything(_: Request) -> bool:
    return True


def asking(
    *verbs: str, resource: str = "", path: str = "", method: str = "", name: str = "", body: bytes = b""
) -> Matcher:
    """Requests of one of these verbs, if any are named; `path` and `name` are searched as regular expressions."""

    def matches(request: Request) -> bool:
        return (
            (not verbs or request.verb in verbs)
            and (not resource or request.resource == resource)
            and (not method or request.method == method)
            and re.search(path, request.target) is not None
            and re.search(name, request.name) is not None
            and body in request.body
        )

    return matches
