"""What may be done to a cluster, in RBAC's own terms and its smallest parts: one verb on one resource in one place."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gitsyncd.model.immutable import immutable


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Right:
    """One thing that may be done. Of what a credential has, every part may be `*`; of what is needed, none is."""

    verb: str
    group: str = ""
    resource: str = ""
    """The plural, and after a slash the subresource."""
    namespace: str = ""
    """Empty: the whole cluster, cluster-scoped objects included."""
    name: str = ""
    """Empty: whatever it is called."""
    url: str = ""
    """A path that is no resource, such as `/metrics`; then nothing but the verb stands beside it."""


@immutable
class Held:
    """What a credential may do in one namespace, as the API server tells it."""

    rights: frozenset[Right]
    """Those that it has everywhere are among them, as if they were of this namespace."""
    complete: bool
    """False when an authorizer that cannot list its rules may allow more."""


class Scope(StrEnum):
    """Where lists and watches are allowed."""

    NAMESPACED = "namespaced"
    """In the namespaces of the target's objects: the least; one watch per kind and namespace."""
    CLUSTER = "cluster"
    """Over the whole cluster: one watch per kind, and namespaces that Git itself makes may come and go."""


@immutable
class Subject:
    """Whom the roles are bound to."""

    kind: str
    """`ServiceAccount` or `User`."""
    name: str
    namespace: str = ""
    """Of a service account."""
