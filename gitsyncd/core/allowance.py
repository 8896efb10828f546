"""How often somebody unknown may ask: an allowance that is used up by asking and comes back with time.

Belongs here: who counts as one, and the arithmetic. Times are seconds on any clock that never goes back.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

from gitsyncd.model.immutable import immutable


@immutable
class Rate:
    """So many at once, and then so many per second."""

    at_once: int
    per_second: float


@immutable(kw_only=False)
class Allowance:
    """What was left of it at some moment."""

    left: float
    at: float


def spend(allowance: Allowance | None, now: float, rate: Rate) -> tuple[Allowance, bool]:
    """After one more request, and whether it is within the allowance. None: this is the first."""
    left = float(rate.at_once)
    if allowance is not None:
        left = min(left, allowance.left + max(0.0, now - allowance.at) * rate.per_second)
    return (Allowance(left - 1.0, now), True) if left >= 1.0 else (Allowance(left, now), False)


def peer(address: str) -> str:
    """Who counts as one: an IPv4 address, or the network of an IPv6 address that one customer is given (RFC 6177)."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or ip_network((parsed, 64), strict=False))
    return str(parsed)
