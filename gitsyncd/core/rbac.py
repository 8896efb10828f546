"""The least that targets need on a cluster, and how what a credential has compares with it.

Belongs here: from what Git wants and what is recorded to rights, and what of a credential's rights is too little or too
much. How rights are written as Roles: `roles`. Which requests the agent makes is known from the code that makes them
(`engine.watch_loop`, `engine.facts`, `engine.apply`; `edges.kube.ledger`), and tried on a real API server with nothing
but these rights.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import field
from typing import Any

import orjson

from gitsyncd.core.compare import left_alone
from gitsyncd.core.desired import HPA, SCALABLE, SECRET
from gitsyncd.core.guard import NEEDS_APPROVAL
from gitsyncd.core.order import CRD, NAMESPACE, RBAC, bound_role
from gitsyncd.model.ids import ObjectId, ObjectType, ResourceType
from gitsyncd.model.immutable import immutable
from gitsyncd.model.inventory import Entry, Inventory
from gitsyncd.model.manifest import Desired, Manifest
from gitsyncd.model.rights import Held, Right, Scope
from gitsyncd.model.target import Agent, Target

Json = Mapping[str, Any]
Kind = tuple[str, str]
"""Group and kind."""

NEVER_PRINTED = frozenset({"bind", "escalate"})
"""Whoever has one of these verbs has everything."""

_SEE = ("list", "watch")
_LEASE_VERBS = ("get", "watch", "patch")
_ENTRIES_PER_RECORD = 300
"""Fewer than the inventory puts into one ConfigMap of 400 KiB, so that there is room for more."""
_BUILT_IN = frozenset({"", "apps", "autoscaling", "batch", "policy"})
_BUILT_IN_SUFFIX = ".k8s.io"
_OWN = frozenset({"authentication.k8s.io", "authorization.k8s.io"})
"""Groups of reviews: what everybody may ask about themselves."""
_EVERYBODY = frozenset({("certificates.k8s.io", "clustertrustbundles")})
"""What Kubernetes lets every service account read."""
_OPEN = ("/api", "/openapi", "/openid/", "/version", "/healthz", "/livez", "/readyz", "/.well-known/")
"""Beginnings of the paths that it lets every user read."""


@immutable
class Wants:
    """What one target wants of a cluster, and has recorded there."""

    target: Target
    desired: Desired
    inventory: Inventory
    heritage: Inventory | None = None
    """The record under the name that the target had before: it is taken over, and then deleted."""

    @property
    def recorded(self) -> Mapping[ObjectId, Entry]:
        """What will be recorded of it, and is already."""
        return {**(self.heritage.entries if self.heritage else {}), **self.inventory.entries}


@immutable
class Untold:
    """What could not be found out, and what to do about it."""

    subject: str
    error: str
    hint: str


@immutable
class Needs:
    """The rights that one target needs, or (target empty) the agent itself."""

    target: str = ""
    rights: frozenset[Right] = frozenset()
    grants: Mapping[str, frozenset[Right]] = field(default_factory=dict)
    """RBAC objects in Git, and what they grant: nobody may grant what they do not have, so it is among `rights`."""
    never: Mapping[str, frozenset[Right]] = field(default_factory=dict)
    """The same where what is granted has a wildcard or a verb that is as good as one: it is not among `rights`."""
    untold: tuple[Untold, ...] = ()


@immutable
class World:
    """What all targets of one cluster say together, and what the cluster serves."""

    kinds: Mapping[Kind, ResourceType]
    """Those that are served, and those that CustomResourceDefinitions in Git will make served."""
    made: frozenset[str]
    """Namespaces that stand in Git."""
    roles: Mapping[ObjectId, Json]
    """Roles and ClusterRoles by identity: those in Git, and live ones that bindings in Git refer to."""


@immutable
class Excess:
    """A right of the present credential that is more than what is needed."""

    right: Right
    needed: frozenset[Right] = frozenset()
    """The part of it that is needed; empty when none is."""


# --- what the targets need --------------------------------------------------------------------------------------------


def survey(wants: Iterable[Wants], served: Mapping[ObjectType, ResourceType], live: Mapping[ObjectId, Json]) -> World:
    """What has to be known of a cluster before any one target can be told."""
    kinds: dict[Kind, ResourceType] = {}
    for served_type, resource in served.items():
        if resource.preferred or (served_type.group, served_type.kind) not in kinds:
            kinds[served_type.group, served_type.kind] = resource
    roles, made = dict(live), set()
    for want in wants:
        for object_id, manifest in want.desired.manifests.items():
            if (object_id.group, object_id.kind) == CRD:
                for kind, resource in _defined(orjson.loads(manifest.body)):
                    kinds.setdefault(kind, resource)
            elif (object_id.group, object_id.kind) == NAMESPACE:
                made.add(object_id.name)
            elif object_id.group == RBAC and object_id.kind in {"Role", "ClusterRole"}:
                roles[object_id] = orjson.loads(manifest.body)
    return World(kinds=kinds, made=frozenset(made), roles=roles)


def _defined(definition: Json) -> Iterator[tuple[Kind, ResourceType]]:
    spec = definition.get("spec")
    names = spec.get("names") if isinstance(spec, dict) else None
    if isinstance(spec, dict) and isinstance(names, dict):
        group, kind, plural = spec.get("group"), names.get("kind"), names.get("plural")
        if isinstance(group, str) and isinstance(kind, str) and isinstance(plural, str):
            # The version does not matter here: RBAC knows none.
            found = ObjectType(api_version=f"{group}/v1", kind=kind)
            yield (group, kind), ResourceType(type=found, plural=plural, namespaced=spec.get("scope") == "Namespaced")


def referred(wants: Iterable[Wants]) -> set[ObjectId]:
    """Roles that bindings in Git refer to and that do not stand in Git themselves."""
    wanted: set[ObjectId] = set()
    there: set[ObjectId] = set()
    for want in wants:
        there |= want.desired.manifests.keys()
        for object_id, manifest in want.desired.manifests.items():
            if object_id.group == RBAC and (role := bound_role(object_id, manifest)):
                wanted.add(role)
    return wanted - there


def own_needs(agent: Agent) -> Needs:
    """What the agent does for itself whatever the targets: to know the cluster, to keep records, to hold the lease."""
    space = agent.cluster_namespace
    # A POST has its name in the body, where no authorizer looks: creating cannot be bound to a name.
    lease = dict.fromkeys(_LEASE_VERBS, f"gitsyncd.{agent.name}") | {"create": ""}
    rights = {
        Right(verb="get", resource="namespaces", namespace="kube-system", name="kube-system"),
        *(Right(verb=verb, resource="configmaps", namespace=space) for verb in ("list", "create")),
        *(
            Right(verb=verb, group="coordination.k8s.io", resource="leases", namespace=space, name=name)
            for verb, name in lease.items()
        ),
    }
    return Needs(rights=frozenset(rights))


def needs(wants: Wants, agent: Agent, world: World, scope: Scope) -> Needs:
    """What one target needs beyond that."""
    rights: set[Right] = set()
    untold: list[Untold] = []
    deletes = False
    for object_id, verbs in _actions(wants):
        resource = world.kinds.get((object_id.group, object_id.kind))
        if resource is None:
            untold.append(_unserved(object_id))
            continue
        deletes |= "delete" in verbs
        rights |= _on(object_id, resource, verbs, wants.target, scope, world)
    rights |= _records(agent, wants, deletes=deletes) | _autoscalers(wants, world, scope)
    kinds = {(object_id.group, object_id.kind) for object_id, _ in _actions(wants)}
    if SECRET in kinds:
        rights.add(_key(agent, "get", name=f"gitsyncd.{agent.name}.key"))
        rights.add(_key(agent, "create"))
    if not all(group in _BUILT_IN or group.endswith(_BUILT_IN_SUFFIX) for group, _ in kinds) and CRD in world.kinds:
        rights.add(Right(verb="list", group=CRD[0], resource=world.kinds[CRD].plural))
    grants, never, unknown = _granted(wants, world, scope)
    for granted in grants.values():
        rights |= granted
    untold += unknown
    return Needs(target=wants.target.name, rights=frozenset(rights), grants=grants, never=never, untold=tuple(untold))


def _actions(wants: Wants) -> Iterator[tuple[ObjectId, tuple[str, ...]]]:
    """Every object that the target looks at, and what it does there besides looking."""
    desired, prune = wants.desired, wants.target.policy.prune.enabled
    for object_id, manifest in {**desired.manifests, **desired.unknown}.items():
        yield object_id, _verbs(manifest, prune=prune)
    for object_id, entry in wants.recorded.items():
        if object_id not in desired.manifests and object_id not in desired.unknown:
            yield object_id, ("get", "delete") if prune and entry.prune else ("get",)


def _verbs(manifest: Manifest, *, prune: bool) -> tuple[str, ...]:
    """Server-side apply is a patch, and needs to be allowed to create what is not there."""
    if left_alone(manifest):
        return ("get",)
    asked, kind = manifest.controls, (manifest.id.group, manifest.id.kind)
    recreated = asked.recreate and kind not in NEEDS_APPROVAL
    return ("get", "create", "patch", "delete") if (prune and asked.prune) or recreated else ("get", "create", "patch")


def _on(
    object_id: ObjectId, resource: ResourceType, verbs: Iterable[str], target: Target, scope: Scope, world: World
) -> set[Right]:
    """What is done by name is bound to the name where the object is cluster-scoped: there a kind is the whole cluster.

    In a namespace it is not: a further object of the kind in Git should need no further right.
    """
    group, plural = resource.type.group, resource.plural
    if not resource.namespaced:
        seen = {Right(verb=verb, group=group, resource=plural) for verb in _SEE}
        return seen | {Right(verb=verb, group=group, resource=plural, name=object_id.name) for verb in verbs}
    namespace = object_id.namespace or target.namespace
    where = _place(namespace, scope, world)
    view = "" if scope is Scope.CLUSTER else where
    seen = {Right(verb=verb, group=group, resource=plural, namespace=view) for verb in _SEE}
    return seen | {Right(verb=verb, group=group, resource=plural, namespace=where) for verb in verbs}


def _place(namespace: str, scope: Scope, world: World) -> str:
    """A Role goes with its namespace: for one that Git makes, and makes again when it is lost, none can be there."""
    return "" if scope is Scope.CLUSTER and namespace in world.made else namespace


def _records(agent: Agent, wants: Wants, *, deletes: bool) -> set[Right]:
    """The ConfigMaps of the inventory and of the history by name.

    They are only deleted by `gitsyncd delete`, with everything else, and under the old name of a target.
    """
    objects = len(wants.desired.manifests.keys() | wants.desired.unknown.keys() | wants.recorded.keys())
    rights = {
        Right(verb=verb, resource="configmaps", namespace=agent.cluster_namespace, name=name)
        for verb in (("update", "delete") if deletes else ("update",))
        for name in (*_record_names(agent, wants.target.name, objects), _history_name(agent, wants.target.name))
    }
    if wants.heritage is not None:
        rights |= {
            Right(verb="delete", resource="configmaps", namespace=agent.cluster_namespace, name=name)
            for name in (
                *_record_names(agent, wants.target.was, len(wants.heritage.entries)),
                _history_name(agent, wants.target.was),
            )
        }
    return rights


def _history_name(agent: Agent, target: str) -> str:
    return f"gitsyncd.{agent.name}.{target}.history"


def _record_names(agent: Agent, target: str, objects: int) -> Iterator[str]:
    return (f"gitsyncd.{agent.name}.{target}.{number}" for number in range(1 + objects // _ENTRIES_PER_RECORD))


def _autoscalers(wants: Wants, world: World, scope: Scope) -> set[Right]:
    """Whether a HorizontalPodAutoscaler that is not in Git scales what Git gives replicas."""
    scaled = {
        object_id.namespace
        for object_id, manifest in wants.desired.manifests.items()
        if (object_id.group, object_id.kind) in SCALABLE and (manifest.left_out or b'"replicas"' in manifest.body)
    }
    if not scaled or HPA not in world.kinds:
        return set()
    places = {""} if scope is Scope.CLUSTER else scaled
    return {
        Right(verb="list", group=HPA[0], resource=world.kinds[HPA].plural, namespace=namespace) for namespace in places
    }


def _key(agent: Agent, verb: str, *, name: str = "") -> Right:
    return Right(verb=verb, resource="secrets", namespace=agent.cluster_namespace, name=name)


def _unserved(object_id: ObjectId) -> Untold:
    return Untold(
        subject=str(object_id),
        error=f"the kind {object_id.kind} is not served, so its resource is not known",
        hint="Apply its CustomResourceDefinition, or add it to Git, and ask again.",
    )


# --- what RBAC objects in Git grant -----------------------------------------------------------------------------------


def _granted(
    wants: Wants, world: World, scope: Scope
) -> tuple[dict[str, frozenset[Right]], dict[str, frozenset[Right]], list[Untold]]:
    """What the RBAC objects of a target grant: what can be held, what should not be, and what is not known."""
    grants: dict[str, frozenset[Right]] = {}
    never: dict[str, frozenset[Right]] = {}
    untold: list[Untold] = []
    for object_id, manifest in wants.desired.manifests.items():
        if object_id.group != RBAC or left_alone(manifest):
            continue
        bound = object_id.kind.endswith("Binding")
        role = bound_role(object_id, manifest) if bound else object_id
        found = world.roles.get(role) if role else None
        if found is None:
            untold.append(_unknown_role(object_id, role))
            continue
        rights = frozenset(_of_role(found, _place(object_id.namespace, scope, world), bound=bound))
        refused = frozenset(right for right in rights if is_wild(right) or right.verb in NEVER_PRINTED)
        if refused:
            never[str(object_id)] = refused
        elif rights:
            grants[str(object_id)] = rights
    return grants, never, untold


def _unknown_role(binding: ObjectId, role: ObjectId | None) -> Untold:
    return Untold(
        subject=str(binding),
        error=f"what {role or 'its roleRef'} grants is not known: it is neither in Git nor can it be read",
        hint="Ask with a credential that may read it: whoever binds a role needs everything that it grants.",
    )


def _of_role(role: Json, namespace: str, *, bound: bool) -> Iterator[Right]:
    if role.get("aggregationRule") and not bound:
        # It may gather anything, so the server asks for everything.
        yield Right(verb="*", group="*", resource="*")
    rules = role.get("rules")
    for rule in rules if isinstance(rules, list) else ():
        if isinstance(rule, dict):
            yield from expand(rule, namespace)


def expand(rule: Json, namespace: str = "") -> Iterator[Right]:
    """The rights of one rule as RBAC writes it. Odd shapes are passed over."""
    verbs = _texts(rule, "verbs")
    for verb in verbs:
        yield from (Right(verb=verb, url=url) for url in _texts(rule, "nonResourceURLs"))
        for group in _texts(rule, "apiGroups"):
            for resource in _texts(rule, "resources"):
                for name in _texts(rule, "resourceNames") or [""]:
                    yield Right(verb=verb, group=group, resource=resource, namespace=namespace, name=name)


def _texts(rule: Json, key: str) -> list[str]:
    value = rule.get(key)
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


# --- how a credential compares with it --------------------------------------------------------------------------------


def is_wild(right: Right) -> bool:
    """Whether it stands for more than it names."""
    return "*" in {right.verb, right.group} or "*" in right.resource or "*" in right.url


def covers(held: Right, needed: Right) -> bool:
    """Whether who has the one may do the other."""
    if needed.url or held.url:
        there = held.url == needed.url or (held.url.endswith("*") and needed.url.startswith(held.url[:-1]))
        return bool(needed.url) and there and held.verb in {"*", needed.verb}
    _, slash, subresource = needed.resource.partition("/")
    return (
        held.verb in {"*", needed.verb}
        and held.group in {"*", needed.group}
        and held.resource in {"*", needed.resource, *([f"*/{subresource}"] if slash else [])}
        and held.namespace in {"", needed.namespace}
        and held.name in {"", needed.name}
    )


def held_rights(everywhere: Held, inside: Mapping[str, Held]) -> frozenset[Right]:
    """All rights of a credential, each where it was given.

    `everywhere` is what it has in a namespace that cannot be: what was given to it for the whole cluster.
    """
    wide = frozenset(_moved(right, "") for right in everywhere.rights)
    narrow = {
        _moved(right, namespace)
        for namespace, held in inside.items()
        for right in held.rights
        if _moved(right, "") not in wide
    }
    return wide | narrow


def _moved(right: Right, namespace: str) -> Right:
    if right.url:
        return right
    return Right(verb=right.verb, group=right.group, resource=right.resource, namespace=namespace, name=right.name)


def excess(held: Iterable[Right], needed: Collection[Right]) -> list[Excess]:
    """What a credential has and nothing needs, or needs in part only; sorted.

    Requests about oneself and discovery, which are open to everybody, are no excess.
    """
    exact = frozenset(needed)
    found = []
    for right in sorted(frozenset(held) - exact):
        if _is_everybodys(right) or any(covers(need, right) for need in exact):
            continue  # or it is a part of what is needed
        found.append(Excess(right=right, needed=frozenset(need for need in exact if covers(right, need))))
    return found


def _is_everybodys(right: Right) -> bool:
    if right.url:
        return right.verb == "get" and right.url.startswith(_OPEN)
    return right.group in _OWN or (right.group, right.resource) in _EVERYBODY
