"""What is known of one cluster at this moment: the eyes of all targets on it.

Belongs here: which kinds are served, which of our objects are live (as small records), what is recorded and who wants
what. A watch event is only a hint: it updates a record and rings the bell of the target concerned; what follows is
planned from the record and written to the very object (its UID) that it describes. Does not belong here: deciding, and
writing.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import orjson

from gitsyncd.core.desired import SECRET
from gitsyncd.core.health import assess
from gitsyncd.core.marks import AGENT_LABEL
from gitsyncd.core.observe import observe
from gitsyncd.model.errors import (
    ClusterReplaced,
    ClusterRestored,
    ClusterUnreachable,
    GitsyncdError,
    KindUnknown,
    LocalError,
    StandingBy,
)
from gitsyncd.model.ids import ObjectId, ObjectType, ResourceType
from gitsyncd.model.immutable import immutable
from gitsyncd.model.units import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gitsyncd.core.writers import WriterTable
    from gitsyncd.engine.ports import Clock, ClusterApi, Json, Log, Store
    from gitsyncd.engine.trigger import Bell
    from gitsyncd.model.answers import ClusterIdentity, Discovery, WatchEvent
    from gitsyncd.model.inventory import Inventory
    from gitsyncd.model.observed import Observed
    from gitsyncd.model.target import Agent, Cluster, Target
DISCOVER_EVERY_S = 0.1


@immutable(kw_only=False)
class Feed:
    """One list and one watch: a kind, in one namespace or (empty) in all of them."""

    type: ObjectType
    namespace: str = ""


@immutable(kw_only=False)
class News:
    """A change that was heard of: when (monotonic seconds), and the raw object; empty when it left our view."""

    at: float
    body: bytes


@dataclass(slots=True)
class Claims:
    """What one target wants on this cluster, as of its last successful render."""

    ids: frozenset[ObjectId] = frozenset()
    commit: str = ""
    """Empty until its first render, and while its newest revision cannot be rendered."""
    tried: str = ""
    """The commit whose render failed: waiting for it gains nothing."""


class ClusterView:
    """One per cluster; owned by the event loop, changed by its watches and by the answers to our own writes."""

    def __init__(
        self,
        cluster: Cluster,
        api: ClusterApi,
        agent: Agent,
        *,
        writers: WriterTable,
        clock: Clock,
        log: Log,
        store: Store,
    ) -> None:
        self.cluster = cluster
        self.api = api
        self.agent = agent
        self.writers = writers
        self.resources: Mapping[ObjectType, ResourceType] = {}
        self.stale_groups: frozenset[str] = frozenset()
        """Groups with an API that does not answer: a kind of theirs that is not served may exist all the same."""
        self.inventories: dict[str, Inventory] = {}
        self.objects: dict[ObjectId, Observed] = {}
        """Live objects that carry our label, and those that carried it until a moment ago."""
        self._news: dict[ObjectId, News] = {}
        """Changes that nobody has looked at yet; empty nearly always."""
        self.unsure: set[ObjectId] = set()
        """Objects that left the label's selection: deleted, or only unlabelled. To be read before it is believed."""
        self.claims: dict[str, Claims] = defaultdict(Claims)
        self.bells: dict[str, Bell] = {}
        self.error: GitsyncdError | None = None
        self.since = clock.now()
        self.uid = ""
        self.version = ""
        self.writer = ""
        """The daemon that writes to this cluster, as far as that is known; this one or another of its name."""
        self.doubtful = False
        """Something broke since it was last known who answers: to be asked before the next turn."""
        self._newest = 0
        """The highest version of the store that was seen."""
        self.unfit: asyncio.Event | None = None
        """Set when what is known of this cluster cannot be gone on with."""
        self.key = b""
        self.selector = f"{AGENT_LABEL}={agent.name}"
        self._clock = clock
        self._up_at = -math.inf
        self._log = log
        self._store = store
        self._writing: dict[ObjectId, WatchEvent | None] = {}
        self.waiting: set[str] = set()
        """Targets that postponed deletes until the others have said what they want."""
        self._claimed = asyncio.Event()
        self._discovering = asyncio.Lock()
        self._discovered_at = 0.0
        self.read_only = False
        """For `plan` and `diff`: not even the agent's own Secret is made."""
        self.news: set[asyncio.Event] = set()
        """Set at every change of a record: for those who wait for health."""

    # --- the cluster as such -------------------------------------------------------------------------------------

    async def read(self) -> None:
        """Learn what the cluster serves and what we own there. Raises `ClusterError` or `StateError`."""
        found, inventories = await asyncio.gather(self.api.discover(), self.api.load_inventories())
        self._serves(found)
        self.inventories = dict(inventories)
        for target, inventory in self.inventories.items():
            if inventory.cluster_uid and inventory.cluster_uid != self.uid:
                raise self._replaced(f"the inventory of target {target} was written on another cluster")

    async def identify(self) -> ClusterIdentity:
        """Compare the cluster's identity, and how far its store has come, with what is known.

        Raises `ClusterReplaced` or `ClusterRestored` before anything is written.
        """
        newest = self._newest  # before it is asked: what is heard while the answer is on its way may be newer than it
        identity = await self.api.identity()
        name = f"cluster-{self.cluster.name}"
        known = self.uid or str(self._store.load(name).get("uid", ""))
        if known and known != identity.uid:
            self._give_up()
            raise self._replaced(f"kube-system has the UID {identity.uid}, and {known} is known")
        if not known:
            with suppress(LocalError):  # every inventory says it, too
                self._store.save(name, {"uid": identity.uid})
        self.uid, self.version = identity.uid, identity.version
        version = _number(identity.resource_version)
        if version:
            self._newest = version if version < newest else max(version, self._newest)
        if version and version < newest:
            self._give_up()
            raise ClusterRestored(
                f"an older state was put back: its version is {version}, and {newest} was seen",
                subject=f"cluster {self.cluster.name}",
            )
        self.doubtful = False
        return identity

    async def verify(self) -> None:
        """Before a turn: when something broke, make sure that the same cluster answers, in a state that goes on.

        Raises `ClusterError`.
        """
        self.require()
        if self.doubtful:
            await self.identify()

    def _give_up(self) -> None:
        if self.unfit is not None:
            self.unfit.set()

    def has_come_to(self, version: str) -> None:
        """A version of the store that was seen: that of an object of the core group, or of a list of them."""
        self._newest = max(self._newest, _number(version))

    def leave(self, why: GitsyncdError) -> None:
        """Forget what is live and recorded: another daemon may change both from now on. Targets hear why."""
        self.error = why
        self.inventories, self.objects, self.unsure = {}, {}, set()
        self._news, self._writing = {}, {}
        self._wake()
        for bell in self.bells.values():
            bell.ring()

    def stand_by(self, writer: str) -> None:
        """Another daemon of our name writes to this cluster."""
        if isinstance(self.error, StandingBy) and self.writer == writer:
            return
        self.writer = writer
        self.since = self._clock.now()
        self.leave(StandingBy(f"{writer} writes to this cluster", subject=f"cluster {self.cluster.name}"))

    def _replaced(self, why: str) -> ClusterReplaced:
        return ClusterReplaced(
            f"another cluster answers: {why}",
            subject=f"cluster {self.cluster.name}",
            hint=f"If this is meant, stop the daemon, delete `cluster-{self.cluster.name}.json` in its state directory "
            "and an inventory that came from elsewhere, and start it again.",
        )

    def down(self, error: GitsyncdError, *, asked_at: float = math.inf) -> None:
        """Say once that the cluster cannot be used; targets are told by their next turn.

        `asked_at`, in seconds of the monotonic clock: when what failed was asked. If the cluster has been found well
        since then it is old news. Watches ask each for themselves, and an answer may be overtaken by another's.
        """
        if asked_at < self._up_at:
            return
        changed = isinstance(error, ClusterReplaced | ClusterRestored)
        if self.error is None or (changed and type(self.error) is not type(error)):
            self.since = self._clock.now()
            event = "cluster changed" if changed else "cluster unreachable"
            level = self._log.error if changed else self._log.warning
            level(
                event,
                cluster=self.cluster.name,
                since=rfc3339(self.since),
                error=error.message,
                remedy=error.remedy,
                hint=error.hint,
            )
        self.error = error

    def up(self) -> None:
        """Say once that it can be used again, and have every target look at everything."""
        if self.error is None:
            return
        if not isinstance(self.error, StandingBy):
            self._log.info(
                "cluster recovered", cluster=self.cluster.name, since=rfc3339(self.since), error=self.error.message
            )
        self.error, self.since = None, self._clock.now()
        self._up_at = self._clock.monotonic()
        for bell in self.bells.values():
            bell.ring()

    @property
    def asked(self) -> bool:
        """Whether the cluster was asked at all: it has answered to the end, or failed to."""
        return bool(self.resources) or self.error is not None

    def require(self) -> None:
        """Raises the error for which this cluster cannot be used now."""
        if self.error is not None:
            raise self.error
        if not self.resources:
            raise ClusterUnreachable("not connected yet", subject=f"cluster {self.cluster.name}")

    async def rediscover(self) -> None:
        """Ask again what is served; concurrent callers share one question, and none is asked twice within a moment."""
        async with self._discovering:
            if self._clock.monotonic() - self._discovered_at < DISCOVER_EVERY_S:
                await asyncio.sleep(DISCOVER_EVERY_S)
            self._serves(await self.api.discover())
            self._discovered_at = self._clock.monotonic()

    def _serves(self, found: Discovery) -> None:
        self.stale_groups = found.stale
        if found.resources != self.resources:
            self.resources = found.resources

    async def digest_key(self) -> bytes:
        """The key for digests of Secrets, asked for once."""
        if not self.key:
            self.key = await self.api.digest_key(create=not self.read_only)
        return self.key

    def resource(self, object_id: ObjectId, api_version: str) -> ResourceType:
        """How to address an object: at the version named, else at any version that serves its kind.

        Raises `KindUnknown`.
        """
        exact = self.resources.get(ObjectType(api_version=api_version, kind=object_id.kind))
        if exact is not None:
            return exact
        served = [r for t, r in self.resources.items() if t.kind == object_id.kind and t.group == object_id.group]
        if not served:
            raise KindUnknown(
                f"this cluster serves no kind {object_id.kind} in {api_version}",
                subject=str(object_id),
                hint="Check `apiVersion` and `kind`, or add the CustomResourceDefinition to Git.",
            )
        return next((resource for resource in served if resource.preferred), served[0])

    # --- who wants what ------------------------------------------------------------------------------------------

    def claim(self, target: str, claims: Claims) -> None:
        """Publish what a target wants, and tell whoever waited to hear it."""
        self.claims[target] = claims
        for name in self.waiting - {target}:
            if name in self.bells:
                self.bells[name].ring()
        self.waiting.clear()
        self._claimed.set()
        self._claimed = asyncio.Event()

    async def claimed(self) -> None:
        """Until the next `claim` of any target."""
        await self._claimed.wait()

    # --- live objects --------------------------------------------------------------------------------------------

    def record(self, object_id: ObjectId, live: Json) -> Observed:
        """Reduce a live object and remember it."""
        observed = self.reduce(object_id, live)
        self.objects[object_id] = observed
        return observed

    def reduce(self, object_id: ObjectId, live: Json) -> Observed:
        """A live object as planning needs it, its health included."""
        key = self.key if (object_id.group, object_id.kind) == SECRET else b""
        observed = observe(live, manager=self.agent.field_manager, table=self.writers, key=key, object_id=object_id)
        return replace(observed, health=assess(live, self._clock.now()))

    def met(self, feed: Feed, item: Json) -> ObjectId:
        """One object of a list."""
        object_id = identify(feed.type, item)
        before = self.objects.get(object_id)
        if before is None or before.resource_version != item["metadata"]["resourceVersion"]:
            self._noticed(object_id, before, self.record(object_id, item))
        return object_id

    def listed(self, feed: Feed, ids: Iterable[ObjectId]) -> None:
        """A list of one feed is complete: what was not met in it is gone, or no longer labelled."""
        seen = frozenset(ids)
        for object_id in [known for known in self.objects if _within(known, feed) and known not in seen]:
            self.unsure.add(object_id)
            self._ring(object_id, self.objects[object_id])

    def heard(self, feed: Feed, event: WatchEvent) -> None:
        """One watch event. Our own writes come back here, too, and are known by their resourceVersion."""
        object_id = ObjectId(group=feed.type.group, kind=feed.type.kind, namespace=event.namespace, name=event.name)
        if feed.type.api_version == "v1":
            self.has_come_to(event.resource_version)  # also by our own writes: a restore may undo nothing else
        if object_id in self._writing:
            self._writing[object_id] = event
            return
        before = self.objects.get(object_id)
        if event.kind == "DELETED":
            if before is not None and before.uid == event.uid:
                if self.owner_of(object_id):
                    self.unsure.add(object_id)
                    self._tell(object_id, b"")
                else:
                    self.forget(object_id)  # nobody would ever ask for it
                self._ring(object_id, before)
            return
        if before is not None and _is_older(event.resource_version, before.resource_version):
            return
        after = self.record(object_id, orjson.loads(event.object))
        self.unsure.discard(object_id)
        if self._noticed(object_id, before, after):
            self._tell(object_id, event.object)

    def _noticed(self, object_id: ObjectId, before: Observed | None, after: Observed) -> bool:
        """Ring where a record differs in more than its version and health. Whether it did."""
        if before is not None and before.health != after.health:
            self._wake()
        if before is not None and _same(before, after):
            return False
        self._ring(object_id, after)
        if before is not None and before.mark != after.mark:
            self._ring(object_id, before)
        return True

    def _tell(self, object_id: ObjectId, body: bytes) -> None:
        """Keep what was heard for the turn that asks; of what is nobody's none will."""
        if not self.owner_of(object_id):
            return
        earlier = self._news.get(object_id)
        self._news[object_id] = News(earlier.at if earlier else self._clock.monotonic(), body)

    def take_news(self, ids: Iterable[ObjectId]) -> dict[ObjectId, News]:
        """What was heard of these objects since somebody last asked."""
        if not self._news:
            return {}
        return {object_id: self._news.pop(object_id) for object_id in list(ids) if object_id in self._news}

    def _ring(self, object_id: ObjectId, observed: Observed) -> None:
        for name in {observed.mark.target if observed.mark else "", self.owner_of(object_id)}:
            bell = self.bells.get(name)
            if bell is not None:
                bell.ring([object_id])
        self._wake()

    def ring(self, kind: ObjectType) -> None:
        """Have every target that wants or recorded objects of this kind look at everything."""
        for name, bell in self.bells.items():
            inventory = self.inventories.get(name)
            ids = (*self.claims[name].ids, *(inventory.entries if inventory else ()))
            if any((object_id.group, object_id.kind) == (kind.group, kind.kind) for object_id in ids):
                bell.ring()

    def _wake(self) -> None:
        for event in self.news:
            event.set()

    def owner_of(self, object_id: ObjectId) -> str:
        """The target that wants or recorded an object; empty when none does."""
        for name, claims in self.claims.items():
            if object_id in claims.ids:
                return name
        return next((name for name, inventory in self.inventories.items() if object_id in inventory.entries), "")

    def heritage(self, target: Target) -> Inventory | None:
        """The record of the name that a target had before, as long as it is there and nobody else's."""
        if not target.was or target.was in self.bells:
            return None
        old = self.inventories.get(target.was)
        return None if old is None or old.damage else old

    # --- our own writes ------------------------------------------------------------------------------------------

    def writing(self, object_id: ObjectId) -> None:
        """From now until `wrote`, events about this object wait: most of them are the echo of our own request."""
        self._writing.setdefault(object_id, None)

    def wrote(self, object_id: ObjectId, answer: Json | None, feed_type: ObjectType) -> Observed | None:
        """The answer to a write (None: it failed, or the object is gone).

        An event that came meanwhile is looked at now, unless it was the echo.
        """
        before = self.objects.get(object_id)
        observed = self.record(object_id, answer) if answer is not None else None
        if observed is not None and before is not None and before.mark and before.mark != observed.mark:
            # Handed over: the target that had it can let go of its record now.
            self._ring(object_id, before)
        event = self._writing.pop(object_id, None)
        if event is not None and not (observed is not None and event.resource_version == observed.resource_version):
            self.heard(Feed(feed_type), event)
        return observed

    def doubt(self, ids: Iterable[ObjectId]) -> None:
        """A write found these objects to be other than their records say: read them before they are believed again."""
        self.unsure.update(ids)

    def forget(self, object_id: ObjectId) -> None:
        """The server confirmed that the object is gone."""
        self.objects.pop(object_id, None)
        self.unsure.discard(object_id)

    def deleted(self, object_id: ObjectId) -> None:
        """We deleted it, and what was heard of that meanwhile is no news."""
        self.forget(object_id)
        self._news.pop(object_id, None)


def identify(kind: ObjectType, item: Json) -> ObjectId:
    metadata = item["metadata"]
    return ObjectId(group=kind.group, kind=kind.kind, namespace=metadata.get("namespace", ""), name=metadata["name"])


def _same(before: Observed, after: Observed) -> bool:
    """Whether two records of one object call for the same plan: version and health play no part in it."""
    return replace(before, resource_version=after.resource_version, health=after.health) == after


def _is_older(version: str, known: str) -> bool:
    """Whether an event tells of a state that is not newer than the one that is known.

    Answers to our own writes overtake the watch: what it then says of the time before them is no change. Versions of
    one object are ordered (KEP-5504). A store that was put back ends the watches, and lists are believed whatever they
    say.
    """
    if version.isdecimal() and known.isdecimal():
        return int(version) <= int(known)
    return version == known


def _number(version: str) -> int:
    """0 for a version that is no number: then nothing can be told from it."""
    return int(version) if version.isdecimal() else 0


def _within(object_id: ObjectId, feed: Feed) -> bool:
    return (object_id.group, object_id.kind) == (feed.type.group, feed.type.kind) and feed.namespace in {
        "",
        object_id.namespace,
    }
