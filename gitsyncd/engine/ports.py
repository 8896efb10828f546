"""What the loops need from the outside world, as protocols. Edges satisfy them by shape and never import this module.

Every method either answers within a deadline of its own or raises a `GitsyncdError`; none retries for longer than
some seconds, since patience between turns is the engine's. All of them may be cancelled at any await.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

# Named here too, because whoever uses a port needs them.
from gitsyncd.model.answers import ApplyOptions, ClusterIdentity, Discovery, Listing, WatchEvent
from gitsyncd.model.errors import ManifestInvalid
from gitsyncd.model.ids import ObjectId, ResourceType
from gitsyncd.model.image import Found, ImagePolicy, Mark, Quarantine, Quarantined, QuarantinedCommit
from gitsyncd.model.inventory import Inventory
from gitsyncd.model.lease import Candidate, Lease
from gitsyncd.model.manifest import Document
from gitsyncd.model.rights import Held, Right
from gitsyncd.model.source import Revision, Snapshot
from gitsyncd.model.update import MergeRequest, Proposal, Tip, Written

Json = Mapping[str, Any]


class Clock(Protocol):
    """Time, and the only randomness that the engine uses."""

    def now(self) -> datetime:
        """Aware, in UTC. For records only: waits use the monotonic clock."""

    def monotonic(self) -> float:
        """Seconds."""

    def jitter(self) -> float:
        """In [0, 1)."""


class Calendar(Protocol):
    """Appointments on the wall clock."""

    def at(self, name: str, moment: datetime, ring: Callable[[], None]) -> None:
        """Ring once at `moment` (aware), or at once when it is past. A later call with the same name replaces this."""

    def following(self, expression: str, time_zone: str, after: datetime) -> datetime | None:
        """The first moment after that one which a cron expression means, in UTC; None when there is none."""


class Log(Protocol):
    """A structured log: a constant phrase and facts as keys."""

    def debug(self, event: str, **facts: Any) -> None: ...
    def info(self, event: str, **facts: Any) -> None: ...
    def warning(self, event: str, **facts: Any) -> None: ...
    def error(self, event: str, **facts: Any) -> None: ...


class Store(Protocol):
    """A few facts on local disk. All of them can be lost: then the cluster's own record decides."""

    def load(self, name: str) -> Json:
        """Empty when nothing usable is stored under that name."""

    def save(self, name: str, value: Json) -> None:
        """Atomic and durable. Raises `LocalError`."""


class Mirror(Protocol):
    """The local mirror of one repository: a bare object store that only ever grows, or is thrown away and cloned
    afresh.
    """

    async def update(self, branches: Sequence[str]) -> Mapping[str, str | None]:
        """Ask the remote once for these branches and fetch what is missing.

        Branch to commit; None for a branch that is gone.

        An empty repository answers None for every branch. Raises `SourceError`. A call that raises changes nothing.
        """

    async def revision(self, source: str, branch: str, commit: str) -> Revision:
        """The facts of a commit that the mirror holds; the first seven digits of its id, or more, are enough where no
        other has them. Raises `RevisionNotFound`.
        """

    async def descends(self, commit: str, ancestor: str) -> bool:
        """Whether `ancestor` is reachable from `commit` (or is it). False when the mirror does not know `ancestor`."""

    async def tree_id(self, commit: str, path: str) -> str:
        """Identity of the files below `path`: equal ids, equal files. Raises `RevisionNotFound` for a missing path."""

    async def touching(self, path: str, commit: str, *, since: str | None = None) -> Sequence[str]:
        """Commits that `commit` has and `since` has not, and that changed what is below `path`; the newest first, and
        of many only those.

        Without `since` it is about that one commit alone. Raises `RevisionNotFound` for an unknown `commit`.
        """

    async def snapshot(self, commit: str, path: str) -> Snapshot:
        """All regular files below `path`, read and verified.

        Raises `RevisionNotFound`, `SourceTooLarge`, `MirrorDamaged`, `ManifestInvalid`.
        """

    async def close(self) -> None: ...


class Writer(Protocol):
    """Commits on branches of one repository, one author, known again by a trailer of their own.

    Never forces, and never leaves anything half written.
    """

    async def write(
        self,
        propose: Callable[[Tip], Proposal | None],
        *,
        branch: str,
        onto: str = "",
        paths: Sequence[str] = (),
        unless: str = "",
        ready: Callable[[], bool] = lambda: True,
    ) -> Written | None:
        """Ask the remote for the tip of `branch`, let `propose` say what to change, commit that and push it.

        When somebody else was faster, everything is done again on the new tip, with `propose` asked anew; it runs in a
        thread. `ready` does not, and has the last word before each push. None when nothing was proposed, or what would
        change nothing, or it was not to be pushed. With `onto`, that branch is pushed instead (created where it is
        missing), so that `branch` can be asked to take it; it is made anew from `branch` as long as all that it has
        more is this writer's own, and else goes on from where others left it (`Tip.others`). `paths` are the files and
        folders that `Tip.files` holds; a path that is not there is left out. On the tip `unless` nothing is asked.

        What an earlier call pushed without hearing of it, and what has arrived, is returned in place of anything else
        (`Written.late`): the call is to be made again.
        Raises `SourceError`, among them `PushRefused` and `PushContended`, and what `propose` and `ready` raise.
        """

    async def close(self) -> None: ...


class MergeRequests(Protocol):
    """Requests to merge, in one repository of a forge. Never more than one from a branch to another."""

    async def ensure(self, request: MergeRequest) -> str:
        """Open it, or bring the open one up to date; its address. Raises `ForgeError`."""

    async def withdraw(self, head: str, base: str, reason: str) -> bool:
        """Close the open one with this comment; whether there was one. Raises `ForgeError`."""


class ImageRegistry(Protocol):
    """All registries that policies name; which one an image lies in, its name says."""

    async def tags(self, image: str) -> Sequence[str]:
        """All tags. Raises `RegistryError`."""

    async def look(self, policy: ImagePolicy, tag: str) -> Found | None:
        """What stands behind one tag of the policy's image, its signature checked where the policy asks for one.

        None when there is no such tag. Raises `RegistryError`, and `ConfigError` for a key that cannot be used.
        """

    async def close(self) -> None: ...


class FileEditor(Protocol):
    """Marked scalars of YAML files, and the file that says what must not come back. `file` is for messages."""

    def marks(self, file: str, content: bytes) -> tuple[Sequence[Mark], Sequence[ManifestInvalid]]:
        """All marks that can be followed, in the order of the file, and what is wrong with the others.

        Raises `ManifestInvalid` for a file that cannot be read.
        """

    def edited(self, file: str, content: bytes, values: Mapping[Mark, str]) -> bytes:
        """The content with these values at these marks, and every other byte as it was. Raises `ManifestInvalid`."""

    def quarantined(self, file: str, content: bytes) -> Quarantine:
        """Raises `ManifestInvalid`."""

    def with_quarantined(
        self,
        file: str,
        content: bytes,
        *,
        images: Sequence[Quarantined] = (),
        commits: Sequence[QuarantinedCommit] = (),
    ) -> bytes:
        """The content with these entries, its comments kept; no content for no file. Raises `ManifestInvalid`."""


class Renderer(Protocol):
    """Files to documents. Works in a child process that may die of what it reads."""

    async def render(self, snapshot: Snapshot | Awaitable[Snapshot], *, tree: str = "") -> tuple[Document, ...]:
        """In the order of the files' names. Raises `RenderError`, whole: never a part of a tree.

        What is needed to read them may be made ready while a snapshot is awaited, which raises what it raises; `tree`
        is the tree that it will have, where that is known.
        """


class ClusterApi(Protocol):
    """One API server. Requests share one limiter; watches have connections of their own.

    Until `allow_writes` was called, and after the moment that it names, whatever writes raises `LeaseLost`; the methods
    about the lease itself do not.
    """

    def allow_writes(self, until: float) -> None:
        """Let writes pass until then, on the engine's monotonic clock."""

    async def read_lease(self) -> Lease | None:
        """None when there is none yet."""

    async def take_lease(self, before: Lease | None, *, holder: str, duration_s: float) -> Lease:
        """Make it ours. Raises `Changed` when it is no longer `before`."""

    async def renew_lease(self, *, holder: str) -> Lease:
        """Raises `Changed` when it is not `holder`'s."""

    async def pass_lease_on(self, *, holder: str, heir: str) -> None:
        """Give it up to `heir`, or (empty) to whoever comes first. Raises `Changed` when it is not `holder`'s."""

    async def stand_by(self, holder: str, candidate: Candidate | None) -> Lease:
        """Tell the daemon that holds the lease that `holder` would take a share, or (None) would not."""

    def lease_changes(self, lease: Lease) -> AsyncGenerator[Lease, None]:
        """Each new state since this reading, until the stream ends. Raises `ClusterError`."""

    @property
    def requests(self) -> Mapping[tuple[str, str], int]:
        """So far, watches included, by verb and code; the code is `error` where no answer came."""

    @property
    def watching(self) -> int:
        """Watches that are open."""

    async def identity(self) -> ClusterIdentity: ...

    async def discover(self) -> Discovery:
        """Aggregated discovery. Kinds whose API is down are absent, and their group is named."""

    async def read(self, resource: ResourceType, object_id: ObjectId) -> Json | None:
        """None only when the server said 404."""

    async def list(
        self,
        resource: ResourceType,
        *,
        selector: str = "",
        namespace: str = "",
        each: Callable[[Json], Any] | None = None,
    ) -> Listing:
        """Whole or not at all: a page that fails fails the list, and one that expired begins it again.

        With `each`, items are what it returns for the objects, page by page, so that a whole list never lies in memory.
        """

    async def list_metadata(self, resource: ResourceType, *, namespace: str = "") -> Listing:
        """As `list`, with `apiVersion`, `kind` and `metadata` only (PartialObjectMetadata), managedFields left out."""

    def watch(
        self, resource: ResourceType, *, selector: str, resource_version: str, namespace: str = ""
    ) -> AsyncIterator[WatchEvent]:
        """Until the server ends it (returns).

        Raises `Expired` on 410, `ClusterUnreachable` when nothing was heard for 60 s.
        """

    async def apply(self, resource: ResourceType, object_id: ObjectId, body: bytes, options: ApplyOptions) -> Json:
        """Server-side apply with `fieldValidation=Strict`; the server's answer, whole."""

    async def patch_managed_fields(
        self,
        resource: ResourceType,
        object_id: ObjectId,
        managed_fields: Sequence[Json],
        resource_version: str,
        annotations: Mapping[str, None],
    ) -> Json:
        """A merge patch of `metadata.managedFields` bound to `resource_version`, and of annotations to remove.

        Raises `Changed`.
        """

    async def delete(
        self, resource: ResourceType, object_id: ObjectId, *, uid: str, resource_version: str = ""
    ) -> bool:
        """Background propagation, bound to `uid`.

        True when the object is gone, False when finalizers still hold it. Raises `Changed` on another UID.
        """

    async def load_inventories(self) -> Mapping[str, Inventory]:
        """Every inventory of this agent, by target name (without cluster).

        One that cannot be read whole says so in `damage`, is not trusted, and holds what could be read.
        """

    async def save_inventory(self, target: str, inventory: Inventory) -> Inventory:
        """Write what differs from the last load or save, shard by shard with compare-and-swap; the inventory with its
        new serial.

        Raises `Changed` when somebody else wrote, and then nothing more may be written before a fresh load.
        """

    async def drop_inventory(self, target: str) -> None:
        """Remove all shards of a target that owns nothing any more."""

    async def load_histories(self) -> Mapping[str, str]:
        """The text that was kept last, by target name (without cluster)."""

    async def save_history(self, target: str, text: str) -> None:
        """Raises `Changed` when somebody else wrote: nothing more is written before a fresh load."""

    async def drop_history(self, target: str) -> None:
        """Forget it. Nothing where there is none."""

    async def digest_key(self, *, create: bool) -> bytes:
        """The key for digests of Secrets, from the Secret `gitsyncd.<agent>.key`.

        Created when missing; without `create`, a key for this once takes its place.
        """

    async def user(self) -> str:
        """As whom the credential is known."""

    async def held(self, namespace: str) -> Held:
        """What the credential may do in a namespace, which need not exist."""

    async def may(self, right: Right) -> bool:
        """Whether the credential may do this, as all authorizers together say. Nothing is done."""

    async def pause(self, at_most: timedelta) -> bool:
        """That long, or until a server that did not answer does so again; whether it came to that.

        However many wait, the server is probed for all of them at once.
        """

    async def close(self) -> None: ...
