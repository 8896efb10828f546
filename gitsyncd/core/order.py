"""In which order objects are applied: waves, stages, and what one object has to wait for.

A wave comes before a stage. Within a stage no order is promised. Pruning goes through the same order backwards, after
everything was applied. Nothing here waits: this says what is to be waited for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import orjson

from gitsyncd.model.errors import ManifestInvalid
from gitsyncd.model.ids import ObjectId
from gitsyncd.model.manifest import Manifest

CRD = ("apiextensions.k8s.io", "CustomResourceDefinition")
NAMESPACE = ("", "Namespace")
RBAC = "rbac.authorization.k8s.io"
DEFINITIONS, CLASSES, SUPPORTS, WORKLOADS, GATES = range(1, 6)
"""1: what other objects are made of. 2: kinds ending in `Class`. 3: what workloads need. 4: everything else.
5: what stands between clients and the API server, and would refuse the rest while nobody serves it."""

_STAGES: Mapping[int, tuple[tuple[str, str], ...]] = {
    DEFINITIONS: (CRD, NAMESPACE, (RBAC, "ClusterRole")),
    SUPPORTS: (
        ("", "ServiceAccount"),
        (RBAC, "Role"),
        (RBAC, "RoleBinding"),
        (RBAC, "ClusterRoleBinding"),
        ("", "ConfigMap"),
        ("", "Secret"),
        ("", "ResourceQuota"),
        ("", "LimitRange"),
        ("", "Service"),
        ("", "PersistentVolume"),
        ("", "PersistentVolumeClaim"),
        ("networking.k8s.io", "NetworkPolicy"),
    ),
    GATES: (
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
        ("apiregistration.k8s.io", "APIService"),
    ),
}
_STAGE_OF = {kind: stage for stage, kinds in _STAGES.items() for kind in kinds}


def stage(object_id: ObjectId, wave: int) -> tuple[int, int]:
    """When an object is applied: wave, then stage 1 to 5. Ascending order is the order of applying."""
    by_kind = _STAGE_OF.get((object_id.group, object_id.kind))
    if by_kind is None:
        by_kind = CLASSES if object_id.kind.endswith("Class") else WORKLOADS
    return (wave, by_kind)


def waits_for(manifests: Mapping[ObjectId, Manifest]) -> dict[ObjectId, frozenset[ObjectId]]:
    """What each object must wait for, of the same set: its `depends-on`, its namespace, the CRD of its kind, and the
    role that it binds: a server does not let anybody but an administrator bind what is not there.

    Objects that wait for nothing are left out. Raises `ManifestInvalid`, with file and line, for a dependency that is
    not in the set and for a cycle, which is named in full.
    """
    crds = _crds(manifests)
    namespaces = {other.name: other for other in manifests if (other.group, other.kind) == NAMESPACE}
    waits: dict[ObjectId, frozenset[ObjectId]] = {}
    for object_id, manifest in manifests.items():
        needs = [_known(dependency, manifest, manifests) for dependency in manifest.controls.depends_on]
        if object_id.namespace in namespaces:
            needs.append(namespaces[object_id.namespace])
        if crds and (crd := crds.get((object_id.group, object_id.kind))):
            needs.append(crd)
        if object_id.group == RBAC and (role := bound_role(object_id, manifest)) and role in manifests:
            needs.append(role)
        if needs:
            waits[object_id] = frozenset(needs)
    if cycle := _cycle(waits):
        origin = manifests[cycle[0]].origin
        raise ManifestInvalid(
            f"these objects wait for each other: {' → '.join(map(str, cycle))}",
            file=origin.file,
            line=origin.line,
            hint="Take one of them out of the annotation depends-on.",
        )
    return waits


def stages(
    manifests: Mapping[ObjectId, Manifest], waits: Mapping[ObjectId, frozenset[ObjectId]]
) -> dict[ObjectId, tuple[int, int]]:
    """The wave and stage of every object, none before anything that it waits for. `waits` has no cycle."""
    result = {object_id: stage(object_id, manifest.controls.wave) for object_id, manifest in manifests.items()}
    chained = _chained(waits)
    for object_id in (*(waits.keys() - chained.keys()), *_dependencies_first(chained)):
        result[object_id] = max([result[object_id], *(result[need] for need in waits[object_id])])
    return result


def bound_role(binding: ObjectId, manifest: Manifest) -> ObjectId | None:
    """What a RoleBinding or ClusterRoleBinding refers to. None for anything else, and for odd shapes."""
    if not binding.kind.endswith("Binding"):
        return None
    reference = orjson.loads(manifest.body).get("roleRef")
    kind, name = (reference.get("kind"), reference.get("name")) if isinstance(reference, dict) else (None, None)
    if kind not in {"Role", "ClusterRole"} or not isinstance(name, str):
        return None
    return ObjectId(group=RBAC, kind=kind, namespace=binding.namespace if kind == "Role" else "", name=name)


def _known(dependency: ObjectId, manifest: Manifest, manifests: Mapping[ObjectId, Manifest]) -> ObjectId:
    if dependency in manifests:
        return dependency
    namespaces = [other for other in manifests if (other.kind, other.name) == (dependency.kind, dependency.name)]
    raise ManifestInvalid(
        f"{manifest.id} depends on {dependency}, which this target does not hold",
        file=manifest.origin.file,
        line=manifest.origin.line,
        hint=f"Did you mean {namespaces[0]}?" if namespaces else "Only objects of the same target can be waited for.",
    )


def _crds(manifests: Mapping[ObjectId, Manifest]) -> dict[tuple[str, str], ObjectId]:
    """The CRDs in the set by the group and kind that they define."""
    result: dict[tuple[str, str], ObjectId] = {}
    for object_id, manifest in manifests.items():
        if (object_id.group, object_id.kind) == CRD:
            spec = orjson.loads(manifest.body).get("spec")
            names = spec.get("names") if isinstance(spec, dict) else None
            # A CRD whose body is not one is refused by the server with better words than ours.
            if isinstance(names, dict):
                result[str(spec.get("group")), str(names.get("kind"))] = object_id
    return result


def _chained(waits: Mapping[ObjectId, frozenset[ObjectId]]) -> dict[ObjectId, frozenset[ObjectId]]:
    """Those of them that wait for something that waits itself. Nearly all wait for their namespace alone."""
    return {object_id: needs for object_id, needs in waits.items() if not waits.keys().isdisjoint(needs)}


def _dependencies_first(waits: Mapping[ObjectId, frozenset[ObjectId]]) -> Iterable[ObjectId]:
    """Everything that waits, each after what it waits for. Iterative: a chain may be as long as the set."""
    done: set[ObjectId] = set()
    for start in waits:
        stack = [start]
        while stack:
            missing = [need for need in waits.get(stack[-1], ()) if need not in done and need in waits]
            if missing:
                stack.append(missing[0])
                continue
            current = stack.pop()
            if current not in done:
                done.add(current)
                yield current


def _cycle(waits: Mapping[ObjectId, frozenset[ObjectId]]) -> tuple[ObjectId, ...]:
    """One cycle, its first object repeated at the end; empty when there is none. The same one for the same set."""
    clear: set[ObjectId] = set()
    for start in sorted(_chained(waits)):
        path: dict[ObjectId, None] = {}
        stack: list[tuple[ObjectId, bool]] = [(start, False)]
        while stack:
            current, left = stack.pop()
            if left:
                path.pop(current)
                clear.add(current)
            elif current in path:
                members = list(path)
                return (*members[members.index(current) :], current)
            elif current not in clear:
                path[current] = None
                stack.append((current, True))
                stack.extend((need, False) for need in sorted(waits.get(current, ()), reverse=True))
    return ()
