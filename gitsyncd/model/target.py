"""Clusters and targets, and the settings of the agent: everything that the agent file says, resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from gitsyncd.model.ids import ObjectId
from gitsyncd.model.image import ImagePolicy, RegistryAccess
from gitsyncd.model.immutable import immutable
from gitsyncd.model.source import Source
from gitsyncd.model.update import Update


@immutable
class Kubeconfig:
    """Connect by a kubeconfig file. `context` empty means its current one."""

    file: Path
    context: str = ""


@immutable
class InCluster:
    """Connect with the service account of the pod that this runs in."""


@immutable
class Server:
    """Connect to an address, with a token or a client certificate. Files are read again when they change."""

    url: str
    ca_file: Path | None = None
    token_file: Path | None = None
    client_cert_file: Path | None = None
    client_key_file: Path | None = None


@immutable
class Cluster:
    """One API server and how much to ask of it at once."""

    name: str
    connection: Kubeconfig | InCluster | Server
    labels: Mapping[str, str] = field(default_factory=dict)
    parallel: int = 32
    """The most requests in flight; watches are not counted."""


class Adopt(StrEnum):
    """What to do with a live object that is in Git and that nobody recorded."""

    NEVER = "never"
    UNOWNED = "unowned"
    ALWAYS = "always"
    """Also from another agent. Between targets of one agent the first owner keeps an object until it lets go of it."""


class DriftAction(StrEnum):
    """What to do with changes made on the cluster."""

    REVERT = "revert"
    REPORT = "report"


class ForeignFields(StrEnum):
    """What to do with fields that somebody added and Git does not name: `docs/explanation/drift-and-writers.md`."""

    REVERT_INTERACTIVE = "revert-interactive"
    REVERT_ALL = "revert-all"
    REPORT = "report"
    IGNORE = "ignore"


@immutable
class IgnoreRule:
    """Fields that Git may name and others may own. Empty selectors match everything."""

    paths: tuple[str, ...]
    """JSON pointers (RFC 6901)."""
    group: str | None = None
    kind: str = ""
    namespace: str = ""
    name: str = ""

    def matches(self, object_id: ObjectId) -> bool:
        return (
            (self.group is None or self.group == object_id.group)
            and self.kind in {"", object_id.kind}
            and self.namespace in {"", object_id.namespace}
            and self.name in {"", object_id.name}
        )


@immutable
class PrunePolicy:
    """The budget for deletes of one turn; what exceeds it waits for an approval."""

    enabled: bool = True
    max_objects: int = 50
    max_percent: int = 50
    allow_empty: bool = False


@immutable
class Policy:
    """What one target may do to the objects it finds."""

    prune: PrunePolicy = PrunePolicy()
    drift: DriftAction = DriftAction.REVERT
    foreign_fields: ForeignFields = ForeignFields.REVERT_INTERACTIVE
    adopt: Adopt = Adopt.UNOWNED
    ignore: tuple[IgnoreRule, ...] = ()


@immutable
class Target:
    """One path of one source on one cluster: one inventory, one worker."""

    name: str
    cluster: str
    source: Source
    """With the target's own branch, where it names one."""
    path: str
    """From the root of the repository; empty for the whole of it."""
    namespace: str = "default"
    interval: timedelta = timedelta(minutes=10)
    timeout: timedelta = timedelta(minutes=5)
    retry_interval: timedelta = timedelta(seconds=30)
    policy: Policy = Policy()
    wait: bool = True
    wait_timeout: timedelta = timedelta(minutes=5)
    suspend: bool = False
    was: str = ""
    """The name that it had before: what is recorded and marked under that name is its own."""

    @property
    def id(self) -> str:
        """`web@eu-1`, as people and the log write it."""
        return f"{self.name}@{self.cluster}"


class LogFormat(StrEnum):
    AUTO = "auto"
    JSON = "json"
    CONSOLE = "console"


@immutable
class Listen:
    """An address of this machine, and a TCP port on it; 0 is any that is free."""

    host: str
    """An IP address without brackets, or `localhost`."""
    port: int
    asked: bool = True
    """Whether the agent file names it; False for a default."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@immutable
class Webhook:
    """Where deliveries are listened for."""

    listen: Listen
    certificate: tuple[Path, Path] | None = None
    """A chain and its key, PEM; None for plain HTTP, as behind a proxy."""


@immutable
class Agent:
    """The daemon itself."""

    name: str
    state_dir: Path
    cluster_namespace: str
    socket: Path
    http: Listen | None = None
    """None: nothing is shown over HTTP."""
    webhook: Webhook | None = None
    """None: no delivery is listened for."""
    log_level: str = "info"
    log_format: LogFormat = LogFormat.AUTO
    writers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Manager name patterns by class (`person`, `delivery`, `controller`), on top of the built-in table."""
    exec_plugins: tuple[Path, ...] = ()
    """Programs that a kubeconfig may name, by absolute name."""
    shares: bool = False
    """Several daemons of this name divide the clusters among themselves."""

    @property
    def field_manager(self) -> str:
        return f"gitsyncd/{self.name}"


@immutable
class Images:
    """From registry to commit."""

    registries: tuple[RegistryAccess, ...] = ()
    policies: tuple[ImagePolicy, ...] = ()
    updates: tuple[Update, ...] = ()


@immutable
class Configuration:
    """One agent file, read, validated and resolved as a whole."""

    file: Path
    agent: Agent
    sources: tuple[Source, ...]
    clusters: tuple[Cluster, ...]
    targets: tuple[Target, ...]
    images: Images = Images()
