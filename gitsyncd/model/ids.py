"""Identity: which object, of which kind, on which cluster. Nothing here knows what an object contains.

An identity never carries the version: the same object is the same object whatever version of its group serves it.
What a server serves, versions included, is `ResourceType`.
"""

from __future__ import annotations

from dataclasses import dataclass

from gitsyncd.model.immutable import immutable


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ObjectId:
    """Group, kind, namespace and name. `namespace` is empty for cluster-scoped objects, `group` for the core group."""

    group: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """`Deployment.apps/web/front`, `ConfigMap/web/settings`, `Namespace/web`: empty parts are left out."""
        kind = f"{self.kind}.{self.group}" if self.group else self.kind
        return f"{kind}/{self.namespace}/{self.name}" if self.namespace else f"{kind}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> ObjectId:
        """The inverse of `str`. Raises `ValueError` on any other text."""
        parts = text.split("/")
        if len(parts) not in {2, 3} or not all(parts):
            raise ValueError(f"{text!r} is not Kind.group/namespace/name")
        kind, _, group = parts[0].partition(".")
        return cls(group=group, kind=kind, namespace=parts[1] if len(parts) == 3 else "", name=parts[-1])


def group_of(api_version: str) -> str:
    """`apps` of `apps/v1`; empty for `v1`."""
    group, slash, _ = api_version.rpartition("/")
    return group if slash else ""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ObjectType:
    """What a watch or a list is about: one kind at one version (`apps/v1`, `Deployment`)."""

    api_version: str
    kind: str

    @property
    def group(self) -> str:
        return group_of(self.api_version)

    def __str__(self) -> str:
        return f"{self.kind}.{self.api_version}"


@immutable
class ResourceType:
    """One line of a server's discovery: how a kind is addressed over REST."""

    type: ObjectType
    plural: str
    namespaced: bool
    verbs: frozenset[str] = frozenset()
    preferred: bool = True
    """Whether this is the version that the server prefers for its group."""
