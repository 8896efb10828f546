"""How long to wait: between failed turns, between looks at a remote that does not answer, and between reverts of a fight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

MAX_EXPONENT = 30


def next_delay(failures: int, *, base: timedelta, cap: timedelta, jitter: float = 0.0) -> timedelta:
    """`base` after the first failure, doubled by each further one up to `cap`; `jitter` in [0, 1) adds up to a tenth."""
    grown = base * 2 ** min(max(failures - 1, 0), MAX_EXPONENT) if base else base
    return min(grown, max(cap, base)) * (1 + 0.1 * jitter)


FIGHT_REVERTS = 5
FIGHT_WINDOW_S = 60.0
FIGHT_BASE_S = 2.0
FIGHT_FACTOR = 3.0
FIGHT_CAP_S = 300.0


@dataclass(frozen=True, slots=True)
class Fight:
    """The reverts of one object. Times are seconds of a monotonic clock."""

    reverts: tuple[float, ...] = ()
    """Within the last minute, oldest first."""
    level: int = 0
    """0 while there is no fight; each further revert raises it."""
    until: float = 0.0
    """The next revert waits until then."""
    manager: str | None = None
    total: int = 0
    """Reverts since the fight began."""

    @property
    def fighting(self) -> bool:
        return self.level > 0


def reverted(fight: Fight, now: float, manager: str | None) -> Fight:
    """After one more revert: more than five in a minute are a fight, and then each waits three times as long as the last."""
    recent = (*(at for at in fight.reverts if now - at < FIGHT_WINDOW_S), now)
    if not fight.fighting and len(recent) <= FIGHT_REVERTS:
        return Fight(reverts=recent, manager=manager, total=len(recent))
    delay = min(FIGHT_BASE_S * FIGHT_FACTOR**fight.level, FIGHT_CAP_S)
    return Fight(
        reverts=recent,
        level=fight.level + 1,
        until=now + delay,
        manager=manager or fight.manager,
        total=fight.total + 1,
    )


def is_over(fight: Fight, now: float) -> bool:
    """A fight is over when nobody wrote for a minute after the wait had ended."""
    return fight.fighting and now > fight.until + FIGHT_WINDOW_S


@dataclass(slots=True)
class Fights:
    """All objects of one target that were reverted lately. The one mutable thing here; its owner is the target's worker."""

    by_object: dict[object, Fight] = field(default_factory=dict)

    def calm(self, now: float) -> Mapping[object, float]:
        """Objects whose drift waits, and until when."""
        return {key: fight.until for key, fight in self.by_object.items() if fight.fighting and now < fight.until}
