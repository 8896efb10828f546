"""The facts of one turn, gathered before anything is decided: what Git wants, what is recorded, what is live.

Belongs here: rendering, listing and reading for one target, with every object that could not be looked at set apart
with its error. Does not belong here: what follows from the facts (`core.plan`), and writing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import asynccontextmanager, suppress
from dataclasses import field, replace
from typing import TYPE_CHECKING, TypeVar

from gitsyncd.core.desired import HPA, SCALABLE, SECRET, Place, desired, scaled_by
from gitsyncd.core.ledger import rebuilt
from gitsyncd.core.order import CRD
from gitsyncd.engine.cluster_view import Claims, identify
from gitsyncd.model.errors import (
    ClusterDenied,
    ClusterError,
    GitsyncdError,
    KindUnknown,
    RenderError,
    SourceError,
)
from gitsyncd.model.ids import ObjectId, ObjectType, ResourceType, group_of
from gitsyncd.model.immutable import immutable
from gitsyncd.model.inventory import Inventory
from gitsyncd.model.manifest import Desired

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping

    from gitsyncd.engine.cluster_view import ClusterView
    from gitsyncd.engine.ports import Json, Mirror, Renderer
    from gitsyncd.engine.watch_loop import Watches
    from gitsyncd.model.answers import Listing
    from gitsyncd.model.manifest import Document
    from gitsyncd.model.observed import Observed
    from gitsyncd.model.source import Revision, Snapshot
    from gitsyncd.model.target import Target

T = TypeVar("T")
FEW = 8
"""Up to so many objects of a kind are read one by one; beyond it, one list of the kind's names is cheaper."""
CLAIMS_WAIT_S = 20.0


@immutable
class Facts:
    """What one turn knows. Objects in `unseen` are in neither of the other three: nothing is decided about them."""

    revision: Revision
    desired: Desired
    inventory: Inventory
    observed: Mapping[ObjectId, Observed]
    unseen: Mapping[ObjectId, GitsyncdError] = field(default_factory=dict)
    claims: Mapping[ObjectId, str] = field(default_factory=dict)
    claims_complete: bool = True
    lost: str = ""
    """What was wrong with the inventory, when it had to be rebuilt from marks; empty nearly always."""


@immutable(kw_only=False)
class Rendered:
    """The last rendering, and what it was made from."""

    commit: str
    tree: str
    served: Mapping[ObjectType, ResourceType]
    wanted: Desired


class Gatherer:
    """One per target. Remembers the last rendering, so that an unchanged tree costs nothing."""

    def __init__(self, target: Target, view: ClusterView, watches: Watches, mirror: Mirror, renderer: Renderer) -> None:
        self._target = target
        self._view = view
        self._watches = watches
        self._mirror = mirror
        self._renderer = renderer
        self._rendered: Rendered | None = None
        self._ahead: tuple[str, asyncio.Task[tuple[Document, ...]]] | None = None
        """A commit, and the rendering of it that was begun before its turn."""
        self._files_read = asyncio.Event()
        """Once: what the first rendering is made from was read, or could not be."""
        self._pinned: Desired | None = None
        self._autoscaled: Mapping[ObjectId, str] = {}
        self.autoscalers_stale = True
        """Somebody scaled a workload: look for autoscalers again before the next rendering is used."""

    @property
    def rendered(self) -> Rendered | None:
        """The last one."""
        return self._rendered

    def render_ahead(self, revision: Revision) -> None:
        """Begin to render this while the cluster has not answered yet: after a start nothing else takes a turn as long.

        What goes wrong is told by the turn.
        """
        if self._rendered is not None or (self._ahead is not None and self._ahead[0] == revision.commit):
            return
        self._drop_ahead()
        task = asyncio.create_task(self._render(revision.commit))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # it is nobody's fault if never asked
        self._ahead = (revision.commit, task)

    def _drop_ahead(self) -> None:
        if self._ahead is not None:
            self._ahead[1].cancel()
            self._ahead = None

    async def gather(self, revision: Revision, scope: Collection[ObjectId] | None, siblings: Siblings) -> Facts:
        """Everything that a turn has to know; with `scope`, of these objects only, at a cost that follows their number.

        Raises `RenderError` or `SourceError` when Git's side cannot be told, `ClusterError` when the cluster's cannot.
        """
        async with self._looking_ahead():
            wanted = await self._desired(revision, whole=scope is None)
        if wanted.unknown and scope is None:
            wanted = await self._look_for_kinds(wanted, revision)
        inventory = self.inventory()
        if scope is not None:
            observed = await self._observe(scope, wanted, inventory)
            claims, complete = siblings.claims(scope)
            return Facts(
                revision=revision,
                desired=wanted,
                inventory=inventory,
                observed=observed,
                claims=claims,
                claims_complete=complete,
            )
        if inventory.entries.keys() - wanted.manifests.keys() or self._contested(wanted):
            await siblings.settle(CLAIMS_WAIT_S)
        claims, complete = siblings.claims()
        blind = await self._see(wanted, inventory)
        lost = self._loss(inventory)
        if lost:
            inventory = await self._rebuild(inventory)
            blind |= await self._see(wanted, inventory)
        unseen = await self._unseen(wanted, inventory, blind)
        ids = (wanted.manifests.keys() | inventory.entries.keys()) - unseen.keys()
        observed = await self._observe(ids, wanted, inventory)
        shown = replace(wanted, manifests=_without(wanted.manifests, unseen)) if unseen else wanted
        recorded = replace(inventory, entries=_without(inventory.entries, unseen)) if unseen else inventory
        return Facts(
            revision=revision,
            desired=shown,
            inventory=recorded,
            observed=observed,
            unseen=unseen,
            claims=claims,
            claims_complete=complete,
            lost=lost,
        )

    @asynccontextmanager
    async def _looking_ahead(self) -> AsyncIterator[None]:
        """While a child makes the first rendering, list what is recorded: after a restart that is all there is.

        What goes wrong here goes wrong again, and is told, when everything is looked at.
        """
        recorded = self.inventory()
        if self._rendered is not None or not recorded.entries or not self._watches.lasting:
            yield
            return

        async def look() -> None:
            # Threads take turns on one processor: the child would wait for its files until the lists are through.
            await self._files_read.wait()
            with suppress(ClusterError):
                await self._see(Desired(manifests={}), recorded)

        ahead = asyncio.create_task(look())
        try:
            yield
        except BaseException:
            ahead.cancel()
            raise
        finally:
            self._files_read.set()  # by now, or they will not be
            await asyncio.wait({ahead})
        ahead.result()

    async def _look_for_kinds(self, wanted: Desired, revision: Revision) -> Desired:
        """Somebody may have defined by now what was unknown before."""
        served = self._view.resources
        await self._view.rediscover()
        return wanted if self._view.resources is served else await self.desire(revision)

    def inventory(self) -> Inventory:
        """What is recorded now, whole."""
        return self._view.inventories.get(self._target.name) or Inventory(target=self._target.id)

    def _loss(self, inventory: Inventory) -> str:
        """What is wrong with the record; empty nearly always. At a first sync there is neither record nor object."""
        if inventory.damage:
            return inventory.damage
        if inventory.serial or inventory.entries or not any(map(self._marked, self._view.objects.items())):
            return ""
        return "the inventory is missing, and objects of this target are there"

    def _marked(self, known: tuple[ObjectId, Observed]) -> bool:
        """Marks are easily copied: what no apply of ours left its entry on is not believed to be ours."""
        mark = known[1].mark
        ours = mark is not None and mark.describes_itself and mark.target == self._target.name
        return ours and bool(known[1].entry_hash)

    async def _rebuild(self, left: Inventory) -> Inventory:
        """An inventory that was lost, from what is left of it and the marks on live objects of every kind."""
        marked: dict[ObjectId, tuple[str, Observed]] = {}

        async def look(resource: ResourceType) -> None:
            with suppress(ClusterDenied, KindUnknown):
                listing = await self._view.api.list(resource, selector=self._view.selector, each=note)
                version = resource.type.api_version
                marked.update({known[0]: (version, known[1]) for known in listing.items if self._marked(known)})

        def note(item: Json) -> tuple[ObjectId, Observed]:
            kind = ObjectType(api_version=item["apiVersion"], kind=item["kind"])
            object_id = identify(kind, item)
            return object_id, self._view.reduce(object_id, item)

        # What nobody can apply is not ours; some of it cannot be listed as other kinds can: componentstatuses, metrics.
        kinds = [kind for kind in self._view.resources.values() if kind.preferred and "patch" in kind.verbs]
        await asyncio.gather(*(look(kind) for kind in kinds))
        fresh = rebuilt(self._target.id, marked, cluster_uid=self._view.uid)
        inventory = replace(fresh, entries={**fresh.entries, **left.entries}, serial=left.serial, commit=left.commit)
        self._view.inventories[self._target.name] = inventory
        return inventory

    async def _desired(self, revision: Revision, *, whole: bool) -> Desired:
        """What Git wants; for drift alone, what it wanted last, while the newest commit cannot be rendered."""
        try:
            return await self.desire(revision)
        except RenderError:
            if whole or self._rendered is None:
                raise
            return self._rendered.wanted

    async def desire(self, revision: Revision) -> Desired:
        """What Git wants at this revision, settled for this cluster; published for the other targets of the cluster."""
        claims = self._view.claims[self._target.name]
        known = self._rendered
        if known is not None and claims.commit == revision.commit and self._still(known, revision.commit):
            return known.wanted
        try:
            wanted = await self._desire(revision)
        except (RenderError, SourceError):
            if claims.tried != revision.commit:
                self._view.claim(self._target.name, Claims(ids=claims.ids, tried=revision.commit))
            raise
        ids = frozenset(wanted.manifests.keys() | wanted.unknown.keys())
        if claims.commit != revision.commit or claims.ids != ids:
            self._view.claim(self._target.name, Claims(ids=ids, commit=revision.commit))
        return wanted

    async def _desire(self, revision: Revision) -> Desired:
        if self._pinned is not None:
            return self._pinned
        tree = await self._mirror.tree_id(revision.commit, self._target.path)
        known = self._rendered
        if known is not None and known.tree == tree and self._still(known, known.commit):
            self._rendered = replace(known, commit=revision.commit)
            return known.wanted
        wanted = await self._settle(await self._documents(revision.commit, tree))
        self._rendered = Rendered(commit=revision.commit, tree=tree, served=self._view.resources, wanted=wanted)
        return wanted

    async def _documents(self, commit: str, tree: str) -> tuple[Document, ...]:
        if self._ahead is not None and self._ahead[0] == commit:
            (_, task), self._ahead = self._ahead, None
            return await task
        self._drop_ahead()
        return await self._render(commit, tree)

    async def _render(self, commit: str, tree: str = "") -> tuple[Document, ...]:
        return await self._renderer.render(self._snapshot(commit), tree=tree)

    async def _snapshot(self, commit: str) -> Snapshot:
        try:
            return await self._mirror.snapshot(commit, self._target.path)
        finally:
            self._files_read.set()

    def _still(self, known: Rendered, commit: str) -> bool:
        return known.commit == commit and known.served is self._view.resources and not self.autoscalers_stale

    async def at(self, commit: str) -> Desired:
        """What another commit wants. Raises as `gather` does."""
        return await self._settle(await self._render(commit))

    def follow(self) -> None:
        """Watch what was only listed so far."""
        self._watches.follow()

    def pin(self, wanted: Desired) -> None:
        """Look at this in place of what the repository holds, whatever the revision."""
        self._pinned = wanted

    async def settle(self, snapshot: Snapshot) -> Desired:
        """Render a snapshot and settle it for this cluster."""
        return await self._settle(await self._renderer.render(snapshot))

    async def _settle(self, documents: tuple[Document, ...]) -> Desired:
        if any((group_of(d.api_version), d.kind) == SECRET for d in documents):
            await self._view.digest_key()
        if self.autoscalers_stale:
            self._autoscaled = await self._live_autoscalers(documents)
            self.autoscalers_stale = False
        return desired(documents, self._place())

    def _place(self) -> Place:
        return Place(
            agent=self._view.agent.name,
            target=self._target.name,
            cluster=self._view.cluster.name,
            namespace=self._target.namespace,
            resources=self._view.resources,
            autoscaled=self._autoscaled,
            ignore=self._target.policy.ignore,
            key=self._view.key,
        )

    async def _live_autoscalers(self, documents: Iterable[Document]) -> dict[ObjectId, str]:
        """Workloads scaled by autoscalers on the cluster. Asked only where Git names replicas of something scalable."""
        scalable = [d for d in documents if (group_of(d.api_version), d.kind) in SCALABLE and b'"replicas"' in d.body]
        resource = next((r for t, r in self._view.resources.items() if (t.group, t.kind) == HPA and r.preferred), None)
        if not scalable or resource is None:
            return {}
        try:
            listings = [await self._view.api.list(resource)]
        except ClusterDenied:
            listings = await self._allowed_lists(resource, {d.namespace or self._target.namespace for d in scalable})
        found: dict[ObjectId, str] = {}
        for item in (item for listing in listings for item in listing.items):
            found.update(scaled_by(item, str(item["metadata"].get("namespace", ""))))
        return found

    async def _allowed_lists(self, resource: ResourceType, namespaces: Iterable[str]) -> list[Listing]:
        """Lists of a kind that may not be listed over the whole cluster, where it may be."""
        listings = []
        for namespace in sorted(namespaces):
            with suppress(ClusterDenied):
                listings.append(await self._view.api.list(resource, namespace=namespace))
        return listings

    def _contested(self, wanted: Desired) -> bool:
        return any(
            observed.mark is not None and observed.mark.target != self._target.name
            for object_id in wanted.manifests
            if (observed := self._view.objects.get(object_id)) is not None
        )

    async def _see(self, wanted: Desired, inventory: Inventory) -> dict[ObjectType, ClusterError]:
        needs: dict[ObjectType, set[str]] = defaultdict(set)
        for object_id, manifest in wanted.manifests.items():
            needs[manifest.type].add(object_id.namespace)
        for object_id, entry in inventory.entries.items():
            if object_id not in wanted.manifests:
                kind = ObjectType(api_version=entry.api_version, kind=object_id.kind)
                served = kind if kind in self._view.resources else self._other_version(object_id)
                needs[served or kind].add(object_id.namespace)
        if any((kind.group, kind.kind) == SECRET for kind in needs):
            await self._view.digest_key()
        return await self._watches.see(self._target.name, needs)

    def _other_version(self, object_id: ObjectId) -> ObjectType | None:
        served = (t for t in self._view.resources if (t.group, t.kind) == (object_id.group, object_id.kind))
        return next(served, None)

    async def _unseen(
        self, wanted: Desired, inventory: Inventory, blind: Mapping[ObjectType, ClusterError]
    ) -> dict[ObjectId, GitsyncdError]:
        """Objects that could not be looked at.

        A kind that is not served says nothing about its objects: they may be there, unless it is known to be gone.
        """
        blind_kinds = {(kind.group, kind.kind): error for kind, error in blind.items()}
        served = {(kind.group, kind.kind) for kind in self._view.resources}
        left = {(i.group, i.kind) for i in inventory.entries.keys() - wanted.manifests.keys() - wanted.unknown.keys()}
        if missing := left - served - blind_kinds.keys():
            served |= await self._gone_kinds(missing)
        unseen: dict[ObjectId, GitsyncdError] = {}
        for object_id in wanted.manifests.keys() | inventory.entries.keys():
            kind = (object_id.group, object_id.kind)
            if kind in blind_kinds:
                unseen[object_id] = blind_kinds[kind]
            elif kind not in served and object_id not in wanted.manifests and object_id not in wanted.unknown:
                unseen[object_id] = KindUnknown(
                    f"the kind {object_id.kind} is not served now, so nothing can be said of this object",
                    subject=str(object_id),
                    hint="It is looked at again when its API answers.",
                )
        return unseen

    async def _gone_kinds(self, kinds: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Those of these unserved kinds that no longer exist, and with them none of their objects.

        A fresh discovery must not name them, all of their group must have answered, and no definition may announce
        them: a server that has just started serves its definitions a moment later.
        """
        await self._view.rediscover()
        served = {(kind.group, kind.kind) for kind in self._view.resources}
        candidates = {kind for kind in kinds if kind not in served and kind[0] not in self._view.stale_groups}
        definitions = next(
            (r for t, r in self._view.resources.items() if (t.group, t.kind) == CRD and r.preferred), None
        )
        if not candidates or definitions is None:
            return set()
        try:
            defined = await self._view.api.list(definitions, each=_defined_kind)
        except ClusterDenied as error:
            if error.expired:
                raise
            return set()
        return candidates - set(defined.items)

    async def _observe(
        self, ids: Collection[ObjectId], wanted: Desired, inventory: Inventory
    ) -> dict[ObjectId, Observed]:
        """Records of live objects. What is not in view by its label is asked for by name before it is called absent."""
        view = self._view
        observed: dict[ObjectId, Observed] = {}
        missing: dict[ResourceType, list[ObjectId]] = defaultdict(list)
        for object_id in ids:
            known = view.objects.get(object_id)
            if known is not None and known.mark is not None and object_id not in view.unsure:
                observed[object_id] = known
                continue
            manifest, entry = wanted.manifests.get(object_id), inventory.entries.get(object_id)
            version = manifest.api_version if manifest else entry.api_version if entry else ""
            try:
                missing[view.resource(object_id, version)].append(object_id)
            except KindUnknown:
                continue  # its CustomResourceDefinition is in the same set, and not there yet: no object can be
        for found in await asyncio.gather(*(self._find(resource, few) for resource, few in missing.items())):
            observed.update(found)
        return observed

    async def _find(self, resource: ResourceType, ids: list[ObjectId]) -> dict[ObjectId, Observed]:
        """Those of `ids` that exist, whoever owns them."""
        if len(ids) > FEW:
            try:
                listing = await self._view.api.list_metadata(resource)
            except ClusterDenied as error:
                if error.expired:
                    raise
            else:
                there = {identify(resource.type, item) for item in listing.items}
                for object_id in ids:
                    if object_id not in there:
                        self._view.forget(object_id)
                ids = [object_id for object_id in ids if object_id in there]
        read = await asyncio.gather(*(self._read(resource, object_id) for object_id in ids))
        return {object_id: observed for object_id, observed in read if observed is not None}

    async def _read(self, resource: ResourceType, object_id: ObjectId) -> tuple[ObjectId, Observed | None]:
        live = await self._view.api.read(resource, object_id)
        if live is None:
            self._view.forget(object_id)
            return object_id, None
        observed = self._view.reduce(object_id, live)
        if observed.mark is not None or object_id in self._view.objects:
            self._view.objects[object_id] = observed
        self._view.unsure.discard(object_id)
        return object_id, observed


class Siblings:
    """The other targets of the same cluster, as far as one target has to know them: what they want."""

    def __init__(self, view: ClusterView, own: str, wanted_commits: Callable[[], Mapping[str, str]]) -> None:
        self._view = view
        self._own = own
        self._wanted_commits = wanted_commits
        """Commit that each target of this cluster should be at; an empty one when none is admitted yet."""

    def claims(self, among: Collection[ObjectId] | None = None) -> tuple[dict[ObjectId, str], bool]:
        """Objects that others want (all, or those `among` a few) with the target's name, and whether all of them have
        said so at their newest commit.
        """
        claimed: dict[ObjectId, str] = {}
        for name in self._wanted_commits():
            if name != self._own:
                ids = self._view.claims[name].ids
                claimed.update(dict.fromkeys(ids if among is None else ids.intersection(among), name))
        return claimed, not self.silent()

    def silent(self) -> list[str]:
        """The others that have not said what they want at their newest commit."""
        return [
            name
            for name, commit in self._wanted_commits().items()
            if name != self._own and (not commit or self._view.claims[name].commit != commit)
        ]

    async def settle(self, seconds: float) -> None:
        """Wait until all have said what they want, but not for ever, and not for one whose render has failed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._undecided():
                    await self._view.claimed()
        if self.silent():
            self._view.waiting.add(self._own)

    def _undecided(self) -> bool:
        commits = self._wanted_commits()
        return any(not commits[name] or self._view.claims[name].tried != commits[name] for name in self.silent())


def _defined_kind(definition: Json) -> tuple[str, str]:
    """Group and kind that a CustomResourceDefinition announces; empty for odd shapes."""
    spec = definition.get("spec")
    names = spec.get("names") if isinstance(spec, dict) else None
    if not isinstance(spec, dict) or not isinstance(names, dict):
        return "", ""
    return str(spec.get("group", "")), str(names.get("kind", ""))


def _without(mapping: Mapping[ObjectId, T], left_out: Collection[ObjectId]) -> dict[ObjectId, T]:
    return {object_id: value for object_id, value in mapping.items() if object_id not in left_out}
