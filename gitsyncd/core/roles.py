"""Rights written as Roles and bindings: few rules, always in the same order, so that two outputs can be compared.

One set of roles for each target and one for the agent itself, by name: what is printed for one target alone is a part
of what is printed for all, and applying it takes nothing from the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gitsyncd.core.order import RBAC
from gitsyncd.model.rights import Right, Subject

Json = Mapping[str, Any]

_VERBS = ("get", "list", "watch", "create", "update", "patch", "delete")
_API = f"{RBAC}/v1"


def role_name(agent: str, target: str = "") -> str:
    """`gitsyncd.<agent>.<target>`, as the other things of an agent in a cluster are called."""
    return f"gitsyncd.{agent}.{target}" if target else f"gitsyncd.{agent}"


def roles(name: str, rights: Iterable[Right]) -> list[dict[str, Any]]:
    """A ClusterRole where something is needed everywhere, then a Role for each namespace."""
    places: dict[str, list[Right]] = defaultdict(list)
    for right in rights:
        places[right.namespace].append(right)
    return [
        {
            "apiVersion": _API,
            "kind": "Role" if namespace else "ClusterRole",
            "metadata": {"name": name, **({"namespace": namespace} if namespace else {})},
            "rules": rules(places[namespace]),
        }
        for namespace in sorted(places)
    ]


def binding(role: Json, subject: Subject) -> dict[str, Any]:
    """What gives a printed role to a subject."""
    metadata = role["metadata"]
    whom = {"kind": subject.kind, "name": subject.name}
    whom |= {"namespace": subject.namespace} if subject.namespace else {"apiGroup": RBAC}
    return {
        "apiVersion": _API,
        "kind": f"{role['kind']}Binding",
        "metadata": dict(metadata),
        "roleRef": {"apiGroup": RBAC, "kind": role["kind"], "name": metadata["name"]},
        "subjects": [whom],
    }


def rules(rights: Iterable[Right]) -> list[dict[str, Any]]:
    """The rules of one role. Resources of one group with the same verbs share a rule, unless names are named."""
    names: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    urls: dict[str, set[str]] = defaultdict(set)
    for right in rights:
        if right.url:
            urls[right.url].add(right.verb)
        else:
            names[right.group, right.resource, right.verb].add(right.name)
    verbs: dict[tuple[str, str, tuple[str, ...]], list[str]] = defaultdict(list)
    for (group, resource, verb), named in names.items():
        verbs[group, resource, () if "" in named else tuple(sorted(named))].append(verb)
    resources: dict[tuple[str, tuple[str, ...], tuple[str, ...], str], list[str]] = defaultdict(list)
    for (group, resource, only), allowed in verbs.items():
        resources[group, in_order(allowed), only, resource if only else ""].append(resource)
    found = [
        {"apiGroups": [group], "resources": sorted(shared)}
        | ({"resourceNames": list(only)} if only else {})
        | {"verbs": list(shared_verbs)}
        for (group, shared_verbs, only, _), shared in resources.items()
    ]
    return [
        *sorted(found, key=_order),
        *({"nonResourceURLs": [url], "verbs": list(in_order(allowed))} for url, allowed in sorted(urls.items())),
    ]


def in_order(verbs: Iterable[str]) -> tuple[str, ...]:
    """Reading first, deleting last, whatever else there is after that."""
    return tuple(sorted(set(verbs), key=lambda verb: (_VERBS.index(verb) if verb in _VERBS else len(_VERBS), verb)))


def _order(rule: Mapping[str, Sequence[str]]) -> tuple[Any, ...]:
    return rule["apiGroups"], rule["resources"], rule.get("resourceNames", []), rule["verbs"]
