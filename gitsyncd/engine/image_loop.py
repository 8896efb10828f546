"""Looking at registries: one loop per policy, one choice per look, kept until a better one is found.

Belongs here: when a registry is asked, what is remembered between looks, and what is told. Does not belong here: which
tag is wanted (`core.images`), how a registry is asked (an edge), and writing it into a repository (`update_loop`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from gitsyncd.core.backoff import next_delay
from gitsyncd.core.images import Past, TooManyTags, choose, created, key_of, ranked
from gitsyncd.core.tagging import standing
from gitsyncd.engine.trigger import Bell
from gitsyncd.model.errors import GitsyncdError, ImageNotFound, RegistryError, RegistryThrottled
from gitsyncd.model.image import Choice, Found, Held, ImagePolicy, Rule
from gitsyncd.model.units import rfc3339

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from gitsyncd.engine.marked_branch import MarkedBranch
    from gitsyncd.engine.ports import Calendar, Clock, ImageRegistry, Log, Store

_RETRY = timedelta(seconds=15)
_CAP = timedelta(minutes=5)
_MOST_FIRST_SEEN = 1000
_FAR_S = 366 * 86_400.0
_LONGEST_LOOK_S = 900.0
"""From one that asks about 2,000 tags one after the other, half a second is taken for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """Nothing is written for a policy meanwhile. `until` None: until somebody unlocks it."""

    reason: str
    since: datetime
    until: datetime | None = None


class PolicyLoop:
    """One policy: what it has chosen, what it holds back, and what is wrong."""

    def __init__(
        self, policy: ImagePolicy, registry: ImageRegistry, *, clock: Clock, calendar: Calendar, log: Log, store: Store
    ) -> None:
        self.policy = policy
        self.branches: list[MarkedBranch] = []
        """Where what stands now is read."""
        self.due: list[Bell] = []
        """Rung after each look: of those who write its choices."""
        self.bell = Bell()
        self.selected: Found | None = None
        self.since: datetime | None = None
        """When it was selected."""
        self.held: tuple[Held, ...] = ()
        self.error: GitsyncdError | None = None
        self.failing_since: datetime | None = None
        self.looked_at: datetime | None = None
        """The last look that came to a choice."""
        self.looks = 0
        """That are over, good or bad."""
        self.lock: Lock | None = None
        self._registry = registry
        self._clock = clock
        self._calendar = calendar
        self._log = log
        self._store = store
        self._looking = asyncio.Lock()
        self._failures = 0
        self._first_seen: dict[str, datetime] = {}
        self._told: set[tuple[str, str]] = set()
        self._remembered()

    # --- When ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """For ever."""
        while True:
            await self.look()
            await self.bell.wait(self._pause_s())

    def _pause_s(self) -> float:
        """Until the next look. A schedule rings by itself; its pause only sees to it that a failure is tried again."""
        policy, now = self.policy, self._clock.now()
        if self._failures:
            asked = self.error.retry_after_s if isinstance(self.error, RegistryThrottled) else None
            delay = next_delay(self._failures, base=_RETRY, cap=_CAP, jitter=self._clock.jitter())
            return max(delay.total_seconds(), asked or 0.0)
        if policy.schedule is None:
            # A tenth of jitter, so that a hundred policies do not ask in the same second for ever.
            return policy.interval.total_seconds() * (0.95 + 0.1 * self._clock.jitter())
        following = self._calendar.following(policy.schedule.cron, policy.schedule.time_zone, now)
        if following is not None:
            self._calendar.at(f"images {policy.name}", following, self.bell.ring)
        return _FAR_S

    async def settled(self) -> None:
        """Until no look is going on."""
        async with self._looking:
            pass

    async def _within_deadline(self, look: Awaitable[None]) -> None:
        """A look of ever so many short waits ends some time, too. Raises `RegistryError`."""
        try:
            async with asyncio.timeout(_LONGEST_LOOK_S):
                await look
        except TimeoutError:
            raise RegistryError(
                f"{self.policy.image}: the look was not over within {_LONGEST_LOOK_S // 60:.0f} minutes",
                hint="Narrow the policy's `filter`, or see what makes the registry, or the repository, so slow.",
            ) from None

    # --- One look ------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Ask the registry, choose, and ring where the choice is to be written."""
        async with self._looking:
            self.bell.take()
            try:
                await self._within_deadline(self._look())
            except GitsyncdError as error:
                self._failed(error)
            finally:
                self.looks += 1
        for bell in self.due:
            bell.ring()

    async def _look(self) -> None:
        past = await self._past()
        tags = await self._registry.tags(self.policy.image)
        now = self._clock.now()
        choice = await self._choose(tags, past, now)
        self.looked_at = now
        self._recovered()
        self._say_held(choice.held)
        self._take(choice, past, now)
        self._first_seen = {tag: seen for tag, seen in self._first_seen.items() if tag in tags}
        self._remember()
        if not ranked(self.policy, tags):
            raise ImageNotFound(
                f"{self.policy.image}: none of {len(tags)} tags fits the policy",
                hint="Correct `select` or `filter` of the policy, or push an image that fits.",
            )
        if choice.selected is None and not choice.held:
            raise ImageNotFound(
                f"{self.policy.image}: the registry lists tags that fit, and has no image for them",
                hint="Push the image again, or check whether these credentials may read more than the list.",
            )

    async def _choose(self, tags: Sequence[str], past: Past, now: datetime) -> Choice:
        conversation = choose(self.policy, tags, past, now)
        try:
            tag = next(conversation)
            while True:
                found = await self._registry.look(self.policy, tag)
                if found is not None and created(found) is None and len(self._first_seen) < _MOST_FIRST_SEEN:
                    self._first_seen.setdefault(tag, now)
                tag = conversation.send(found)
        except StopIteration as end:
            choice: Choice = end.value
            return choice
        except TooManyTags as error:
            raise ImageNotFound(f"{self.policy.image}: {error}", hint="Narrow the policy's `filter`.") from error

    async def _past(self) -> Past:
        """What is known beside the registry: what stands in Git, what must not come back, what is locked."""
        policy = self.policy
        sights = [await branch.sight() for branch in self.branches]
        marked = [standing(mark) for sight in sights for _, mark in sight.marks.get(policy.name, ())]
        tags = {found.tag for found in marked} - {""}
        known = self.selected
        best = self._best(tags) or (known.tag if known else "")
        digests = {found.digest for found in marked if found.tag == best} - {""}
        digest = digests.pop() if len(digests) == 1 else ""
        is_known = known is not None and known.tag == best
        return Past(
            current=best,
            current_digest=digest or (known.digest if known and is_known and not tags else ""),
            current_created=known.created if known and is_known else None,
            first_seen=dict(self._first_seen),
            quarantined=[entry for sight in sights for entry in sight.quarantined],
            locked=self._locked(),
        )

    def _best(self, tags: set[str]) -> str:
        """Of those that stand in Git, the one that nothing may fall behind."""
        if self.policy.select.rule is Rule.NEWEST and self.selected and self.selected.tag in tags:
            return self.selected.tag
        ranked = sorted((key, tag) for tag in tags if (key := key_of(tag, self.policy)) is not None)
        if not ranked:
            return min(tags, default="")
        return ranked[-1][1] if self.policy.select.order == "asc" else ranked[0][1]

    def _locked(self) -> str:
        if self.lock and self.lock.until and self.lock.until <= self._clock.now():
            self.lock = None
        return self.lock.reason if self.lock else ""

    def _take(self, choice: Choice, past: Past, now: datetime) -> None:
        self.held = choice.held
        chosen, before = choice.selected, self.selected
        if chosen is None or (before and (before.tag, before.digest) == (chosen.tag, chosen.digest)):
            return
        self.selected, self.since = chosen, now
        self._log.info(
            "image selected",
            policy=self.policy.name,
            image=self.policy.image,
            tag=chosen.tag,
            digest=chosen.digest,
            previous=(before.tag if before else past.current) or None,
        )

    # --- What is told --------------------------------------------------------------------------------------------

    def _say_held(self, held: Sequence[Held]) -> None:
        for each in held:
            if (each.tag, each.reason) not in self._told:
                self._log.info(
                    "image held",
                    policy=self.policy.name,
                    image=self.policy.image,
                    tag=each.tag,
                    reason=each.reason,
                    detail=each.detail or None,
                )
        self._told = {(each.tag, str(each.reason)) for each in held}

    def _failed(self, error: GitsyncdError) -> None:
        self._failures += 1
        if self.error is None or str(self.error) != str(error):
            self.failing_since = self.failing_since or self._clock.now()
            event = "registry unreachable" if isinstance(error, RegistryError) else "image update failed"
            self._log.warning(
                event,
                policy=self.policy.name,
                since=rfc3339(self.failing_since),
                error=str(error),
                remedy=error.remedy,
                hint=error.hint,
            )
        self.error = error

    def _recovered(self) -> None:
        if isinstance(self.error, RegistryError):
            self._log.info(
                "registry recovered",
                policy=self.policy.name,
                since=rfc3339(self.failing_since) if self.failing_since else None,
                error=str(self.error),
            )
        self.error, self.failing_since, self._failures = None, None, 0

    # --- What people ask -----------------------------------------------------------------------------------------

    def lock_for(self, reason: str, until: datetime | None) -> None:
        """Write nothing for this policy, from the next commit on."""
        self.lock = Lock(reason=reason, since=self._clock.now(), until=until)
        self._remember()
        self.bell.ring()

    def unlock(self) -> None:
        self.lock = None
        self._remember()
        self.bell.ring()

    @property
    def may_write(self) -> bool:
        return not self._locked()

    # --- What is remembered --------------------------------------------------------------------------------------

    @property
    def _file(self) -> str:
        return f"image-{self.policy.name}"

    def _remember(self) -> None:
        chosen, lock = self.selected, self.lock
        value: dict[str, Any] = {
            "image": self.policy.image,
            "first_seen": {tag: rfc3339(seen) for tag, seen in sorted(self._first_seen.items())},
        }
        if chosen is not None:
            value["selected"] = {
                "tag": chosen.tag,
                "digest": chosen.digest,
                "created": rfc3339(chosen.created) if chosen.created else None,
                "since": rfc3339(self.since) if self.since else None,
            }
        if lock is not None:
            value["lock"] = {
                "reason": lock.reason,
                "since": rfc3339(lock.since),
                "until": rfc3339(lock.until) if lock.until else None,
            }
        if value != self._store.load(self._file):
            self._store.save(self._file, value)

    def _remembered(self) -> None:
        """What was known before a restart. Nothing of it is needed: it can be lost, or be of another version."""
        stored = self._store.load(self._file)
        try:
            if lock := stored.get("lock"):
                self.lock = Lock(
                    reason=str(lock["reason"]), since=_required(lock["since"]), until=_moment(lock.get("until"))
                )
            if stored.get("image") != self.policy.image:
                return
            self._first_seen = {str(tag): _required(seen) for tag, seen in stored.get("first_seen", {}).items()}
            if chosen := stored.get("selected"):
                self.selected = Found(
                    tag=str(chosen["tag"]), digest=str(chosen["digest"]), created=_moment(chosen.get("created"))
                )
                self.since = _moment(chosen.get("since"))
        except (AttributeError, KeyError, TypeError, ValueError):
            self.selected, self.since, self._first_seen = None, None, {}


def _required(text: Any) -> datetime:
    return datetime.fromisoformat(text)


def _moment(text: Any) -> datetime | None:
    return _required(text) if text else None
