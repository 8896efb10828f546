"""Looking at registries: one loop per policy, one choice per look, kept until a better one is found.

Belongs here: when a registry is asked, what is remembered between looks, and what is told. Does not belong here: which
tag is wanted (`core.images`), how a registry is asked (an edge), and writing it into a repository (`update_loop`).
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from gitsyncd.core.backoff import next_delay
from gitsyncd.core.images import Past, TooManyTags, choose, created, present, ranked, same_image
from gitsyncd.core.tagging import standings
from gitsyncd.engine.trigger import Bell
from gitsyncd.model.errors import (
    GitsyncdError,
    ImageNotFound,
    LocalError,
    RegistryDenied,
    RegistryError,
    RegistryThrottled,
    RegistryUnreachable,
)
from gitsyncd.model.image import Choice, Found, Held, ImagePolicy, Origin, Reason, Rule
from gitsyncd.model.immutable import immutable
from gitsyncd.model.units import rfc3339

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Sequence

    from gitsyncd.core.reference import Reference
    from gitsyncd.engine.marked_branch import MarkedBranch
    from gitsyncd.engine.ports import Calendar, Clock, ImageRegistry, Log, Store

_RETRY = timedelta(seconds=15)
_ASKED_RETRY = timedelta(seconds=1)
"""Where the registry said when to come back."""
_CAP = timedelta(minutes=5)
_MOST_FIRST_SEEN = 1000
"""Twice what one look may ask about; those that were not met for the longest time make room."""
_LONG = 5000
"""Tags that are sorted in some hundredths of a second."""
_MOST_ORIGINS = 100
"""Twice what the history of a target has."""
_OF_THE_REGISTRY = (RegistryUnreachable, RegistryThrottled, RegistryDenied)
"""What a registry can fail with that says nothing of the one image that it was asked for."""
_FAR_S = 366 * 86_400.0
_LONGEST_LOOK_S = 900.0
"""From one that asks about 2,000 tags one after the other, half a second is taken for each."""


@immutable
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
        """What the last look chose, and what may be written: nothing while no look has come to a choice, nor once one
        has failed or chose nothing. Whoever writes asks `is_locked` and `is_in_doubt` too."""
        self.stands = False
        """Whether that is nothing because what stands in Git may stay there and be written nowhere else."""
        self.known: Found | None = None
        """What was chosen last, also before a restart. To be shown and compared with, never to be written."""
        self.since: datetime | None = None
        """When that was selected."""
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
        self._first_seen: dict[tuple[str, str], datetime] = {}
        """By tag and digest; those that were met last come last."""
        self._origins: dict[tuple[str, str], Origin] = {}
        """Of what was selected, by tag and digest, the latest last: what runs may have been selected long ago."""
        self._told: set[tuple[str, str]] = set()
        self._unkept = ""
        """Why what is known cannot be kept over a restart; empty nearly always."""
        self._remembered()

    # --- When ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """For ever."""
        while True:
            await self.look()
            pause_s = self._pause_s()
            if not self._failures and self.is_locked and self.lock and self.lock.until:  # what waited goes on then
                left_s = (self.lock.until - self._clock.now()).total_seconds()
                pause_s = min(pause_s, max(1.0, left_s))
            await self.bell.wait(pause_s)

    def _pause_s(self) -> float:
        """Until the next look. A schedule rings by itself; its pause only sees to it that a failure is tried again."""
        policy, now = self.policy, self._clock.now()
        if self._failures:
            asked = self.error.retry_after_s if isinstance(self.error, RegistryThrottled) else None
            jitter = self._clock.jitter()
            # Who says when to come back is asked then. One that says so again and again means longer than it says.
            base = _RETRY if asked is None else _ASKED_RETRY
            delay = next_delay(self._failures, base=base, cap=_CAP, jitter=jitter).total_seconds()
            return max(delay, (asked or 0.0) * (1 + 0.1 * jitter))
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
            except Exception:
                self.selected, self.looked_at = None, None
                raise
            finally:
                self.looks += 1
            self._keep()
        for bell in self.due:
            bell.ring()

    async def _look(self) -> None:
        past = await self._past()
        tags = await self._registry.tags(self.policy.image)
        # A list of 100,000 takes a second or two, in which the loop has other things to do.
        is_long = len(tags) > _LONG
        order = await asyncio.to_thread(ranked, self.policy, tags) if is_long else ranked(self.policy, tags)
        if not order:
            raise ImageNotFound(
                f"{self.policy.image}: none of {len(tags)} tags fits the policy",
                hint="Correct `select` or `filter` of the policy, or push an image that fits.",
            )
        now = self._clock.now()
        choice = await self._choose(order, past, now)
        if not (choice.selected or choice.stands) and all(held.reason is Reason.UNREADABLE for held in choice.held):
            first = next(iter(choice.held), None)
            why = f" ({first.tag}: {first.detail})" if first else " that says when it was made"
            raise ImageNotFound(
                f"{self.policy.image}: the registry lists tags that fit, and has no image for them{why}",
                hint="Push the image again, or check whether these credentials may read more than the list.",
            )
        self.looked_at = now
        self._recovered()
        if bool(self._locked()) != bool(past.locked):
            self.bell.ring()  # one that came has rung already, one whose time is over has not
            if self.is_locked:
                return  # the next look says what waits
        self._say_held(choice.held, set(tags))
        self._take(choice, past, now)

    async def _choose(self, order: Sequence[str], past: Past, now: datetime) -> Choice:
        conversation = choose(self.policy, order, past, now)
        try:
            tag = next(conversation)
            while True:
                tag = conversation.send(await self._found(tag, now))
        except StopIteration as end:
            choice: Choice = end.value
            return choice
        except TooManyTags as error:
            raise ImageNotFound(
                f"{self.policy.image}: {error}", hint="Narrow the policy's `filter`, or lower its `min_age`."
            ) from error

    async def _found(self, tag: str, now: datetime) -> Found | str:
        """The image behind a tag, or why there is none that can be used. One that is broken says nothing of others."""
        try:
            found = await self._registry.look(self.policy, tag)
        except _OF_THE_REGISTRY:
            raise
        except RegistryError as error:
            return str(error)
        if found is None:
            return "the registry lists the tag, and hands out no image for it"
        if created(found) is None and self.policy.select.rule is not Rule.NEWEST:
            met = (tag, found.digest)
            # A clock that was ahead is no reason to wait until it is right.
            self._first_seen[met] = min(self._first_seen.pop(met, now), now)
            while len(self._first_seen) > _MOST_FIRST_SEEN:
                del self._first_seen[next(iter(self._first_seen))]
        return found

    async def _past(self) -> Past:
        """What is known beside the registry: what stands in Git, what must not come back, what is locked."""
        sights = [await branch.sight() for branch in self.branches]
        standing = standings(
            ((number, file), mark)
            for number, sight in enumerate(sights)
            for file, mark in sight.marks.get(self.policy.name, ())
        )
        known = self.known
        return Past(
            standing=standing or ({known.tag: known.digest} if known else {}),
            made={known.tag: made} if known and (made := created(known)) else {},
            first_seen=dict(self._first_seen),
            quarantined=[entry for sight in sights for entry in sight.quarantined],
            locked=self._locked(),
        )

    def _locked(self) -> str:
        if self.lock and self.lock.until and self.lock.until <= self._clock.now():
            self.lock = None
        return self.lock.reason if self.lock else ""

    def _take(self, choice: Choice, past: Past, now: datetime) -> None:
        self.held = choice.held
        self.selected, self.stands = choice.selected, choice.stands is not None
        chosen = choice.selected or choice.stands
        if chosen is None:
            return
        before, self.known = self.known, chosen
        self._note_origin(chosen)
        if before and (before.tag, before.digest) == (chosen.tag, chosen.digest):
            return
        self.since = now
        self._log.info(
            "image selected",
            policy=self.policy.name,
            image=self.policy.image,
            tag=chosen.tag,
            digest=chosen.digest,
            made_from=str(chosen.made_from) if chosen.made_from else None,
            previous=(before.tag if before else present(self.policy, past.standing, past.made)) or None,
        )

    def _note_origin(self, chosen: Found) -> None:
        self._origins.pop((chosen.tag, chosen.digest), None)
        if chosen.made_from is not None:
            self._origins[chosen.tag, chosen.digest] = chosen.made_from
        while len(self._origins) > _MOST_ORIGINS:
            del self._origins[next(iter(self._origins))]

    # --- What is told --------------------------------------------------------------------------------------------

    def _say_held(self, held: Sequence[Held], listed: Collection[str]) -> None:
        """Once per tag and reason, for as long as there is that tag."""
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
        self._told = {(tag, reason) for tag, reason in self._told if tag in listed}
        self._told |= {(each.tag, str(each.reason)) for each in held}

    def _failed(self, error: GitsyncdError) -> None:
        self.selected = None
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

    def made_from(self, image: Reference) -> Origin | None:
        """What an image was made from, if this policy has ever selected it; of a tag alone, the last that it had."""
        if not same_image(image.name, self.policy.image):
            return None
        found: Origin | None = None
        for (tag, digest), origin in self._origins.items():
            if digest == image.digest or (tag == image.tag and not image.digest):
                found = origin
        return found

    def lock_for(self, reason: str, until: datetime | None) -> None:
        """Write nothing for this policy, from the next commit on. Raises `LocalError`; it is locked then, too."""
        self.lock = Lock(reason=reason, since=self._clock.now(), until=until)
        for bell in (self.bell, *self.due):  # a registry that is slow is no reason to propose it still
            bell.ring()
        self._remember_lock("is locked")

    def unlock(self) -> None:
        """Raises `LocalError`; it is unlocked then, too."""
        self.lock = None
        self.bell.ring()
        self._remember_lock("is unlocked")

    def _remember_lock(self, done: str) -> None:
        try:
            self._remember()
        except LocalError as error:
            raise LocalError(
                f"{self.policy.name} {done}, which is forgotten when the daemon ends: {error}", hint=error.hint
            ) from error

    def digest_of(self, image: Reference) -> str:
        """Of an image that this policy selected last, or selected once and knows what it was made from; else empty."""
        if not same_image(image.name, self.policy.image):
            return ""
        if self.known is not None and self.known.tag == image.tag:
            return self.known.digest
        return next((digest for tag, digest in reversed(self._origins) if tag == image.tag), "")

    @property
    def is_locked(self) -> bool:
        """Whether somebody wants nothing of it to be written, whatever it would choose."""
        return bool(self._locked())

    @property
    def is_in_doubt(self) -> bool:
        """Whether nobody knows what the policy wants now. Of one that is locked it is known: nothing."""
        return not self.is_locked and (self.error is not None or self.looked_at is None)

    # --- What is remembered --------------------------------------------------------------------------------------

    @property
    def _file(self) -> str:
        return f"image-{self.policy.name}"

    def _keep(self) -> None:
        """Nothing of it is needed, so that a full disk keeps nothing from being chosen. It is told once."""
        try:
            self._remember()
        except LocalError as error:
            if self._unkept != str(error):
                self._log.warning(
                    "image update failed",
                    policy=self.policy.name,
                    error=f"what is known of images is forgotten when the daemon ends: {error}",
                    remedy=error.remedy,
                    hint=error.hint,
                )
            self._unkept = str(error)
        else:
            self._unkept = ""

    def _remember(self) -> None:
        """Raises `LocalError`."""
        chosen, lock = self.known, self.lock
        value: dict[str, Any] = {
            "image": self.policy.image,
            "first_seen": [[*met, rfc3339(seen)] for met, seen in sorted(self._first_seen.items())],
        }
        if self._origins:
            value["made_from"] = [[*of, made.source, made.revision] for of, made in self._origins.items()]
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
            self._first_seen = {
                (str(tag), str(digest)): _required(seen) for tag, digest, seen in stored.get("first_seen", [])
            }
            self._origins = {
                (str(tag), str(digest)): Origin(source=str(source), revision=str(revision))
                for tag, digest, source, revision in stored.get("made_from", [])
            }
            if chosen := stored.get("selected"):
                tag, digest = str(chosen["tag"]), str(chosen["digest"])
                self.known = Found(
                    tag=tag,
                    digest=digest,
                    created=_moment(chosen.get("created")),
                    made_from=self._origins.get((tag, digest)),
                )
                self.since = _moment(chosen.get("since"))
        except (AttributeError, KeyError, TypeError, ValueError):
            self.known, self.since, self._first_seen, self._origins = None, None, {}, {}


def _required(text: Any) -> datetime:
    """Raises `ValueError` for a moment without a time zone: it could be compared with none."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment


def _moment(text: Any) -> datetime | None:
    return _required(text) if text else None
