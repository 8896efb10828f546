"""When to stop asking a server that does not answer, and when to ask it again. All times are seconds.

A circuit is closed while requests pass. After some failures in a row it opens: requests fail at once with the error of
the last, but for one probe at a time. Any answer closes it.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum

from gitsyncd.model.immutable import immutable


@immutable(kw_only=False)
class Rule:
    """What a sort of failure does to a circuit."""

    in_a_row: int
    """It opens at that many, of whatever sort they were."""
    lasting_s: float
    """And not before they have gone on for so long."""
    doubted: bool
    """Whether it may be the request and not the server: then it opens with a probe that is due at once."""
    cap_s: float
    """The longest pause between two probes."""


class Failure(Enum):
    """What went wrong, by what it says of the server."""

    UNCONNECTED = Rule(in_a_row=3, lasting_s=0.0, doubted=False, cap_s=4.0)
    """No connection, or no TLS: refused, no route, no such name, nothing at all. A probe is one attempt to connect,
    which costs nobody anything: so a server that comes back is noticed within seconds."""
    UNANSWERED = Rule(in_a_row=3, lasting_s=0.0, doubted=True, cap_s=4.0)
    """Connected, and no answer in time. It may be that request alone: a slow admission webhook."""
    HICCUP = Rule(in_a_row=5, lasting_s=3.0, doubted=True, cap_s=30.0)
    """502, 503, 504, or a connection that was dropped: each may be gone at the next try, and 503 may be one API among
    many. A server that stays like that is overloaded, and not asked often."""


_FIRST_PAUSE_S = 1.0
_JITTER = 0.5


@immutable
class Circuit:
    """Closed as it is made."""

    failures: int = 0
    """In a row."""
    since: float = 0.0
    """When the first of them was."""
    open: bool = False
    probe_at: float = 0.0
    """While open, when the next probe is due."""
    probes: int = 0
    """That failed since it opened."""

    def due(self, now: float) -> bool:
        """Whether a probe may be sent."""
        return self.open and now >= self.probe_at


CLOSED = Circuit()


def failed(circuit: Circuit, failure: Failure, *, now: float, jitter: float) -> Circuit:
    """After a request that failed. `jitter` is in [0, 1)."""
    if circuit.open:
        return circuit  # it was on its way before
    rule = failure.value
    failures, since = circuit.failures + 1, circuit.since if circuit.failures else now
    if failures < rule.in_a_row or now - since < rule.lasting_s:
        return replace(circuit, failures=failures, since=since)
    pause = 0.0 if rule.doubted else _FIRST_PAUSE_S * (1.0 + _JITTER * jitter)
    return Circuit(failures=failures, since=since, open=True, probe_at=now + pause)


def probe_failed(circuit: Circuit, failure: Failure, *, now: float, jitter: float) -> Circuit:
    """After a probe that failed: the next one is due after twice the time, up to the longest pause of its sort.

    `jitter` in [0, 1) makes it up to half as long again.
    """
    pause = min(_FIRST_PAUSE_S * 2.0 ** min(circuit.probes, 10), failure.value.cap_s)
    return replace(circuit, open=True, probe_at=now + pause * (1.0 + _JITTER * jitter), probes=circuit.probes + 1)
