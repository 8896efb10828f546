"""What the targets of one cluster need there, beside what the present credential has: the value that `rbac` prints.

Belongs here: the questions to the cluster, none of which writes anything. What follows from the answers: `core.rbac`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from gitsyncd.core.order import NAMESPACE
from gitsyncd.core.rbac import Needs, Untold, excess, held_rights, is_wild, needs, own_needs, referred, survey
from gitsyncd.core.roles import binding, role_name, roles, rules
from gitsyncd.model.errors import ClusterDenied, KindUnknown
from gitsyncd.model.ids import ObjectId
from gitsyncd.model.rights import Right

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from gitsyncd.core.rbac import Excess, Wants
    from gitsyncd.engine.cluster_view import ClusterView
    from gitsyncd.engine.ports import Json
    from gitsyncd.model.rights import Scope, Subject

NOWHERE = "-"
"""No namespace can have this name: what a credential may do there it may do everywhere."""


class Rights:
    """Of one cluster, with all of its targets that could be rendered."""

    def __init__(self, view: ClusterView, wants: Sequence[Wants], *, scope: Scope) -> None:
        self._view = view
        self._wants = wants
        self._scope = scope

    async def report(self, chosen: Collection[str], *, whole: bool, subject: Subject | None) -> dict[str, Any]:
        """The JSON of one cluster in `rbac`.

        `chosen` are the names of the targets to be told of. Not `whole`: what other targets of the cluster need is not
        known, so nothing can be called too much. Raises `ClusterError`.
        """
        agent = self._view.agent
        world = survey(self._wants, self._view.resources, await self._live_roles())
        own = own_needs(agent)
        all_needs = [own, *(needs(wants, agent, world, self._scope) for wants in self._wants)]
        told = [need for need in all_needs if need is own or need.target in chosen]
        printed = [role for need in told for role in roles(role_name(agent.name, need.target), need.rights)]
        absent = await self._absent(role["metadata"].get("namespace", "") for role in printed)
        missing = [row for need in told for row in await self._missing(need)]
        held = await self._excess(all_needs) if whole else {"everything": False, "excess": None}
        return {
            "cluster": self._view.cluster.name,
            "user": await self._view.api.user(),
            "objects": _objects(printed, absent, subject),
            "missing": missing,
            **held,
            "grants": [name for need in told for name in need.grants],
            "withheld": [row for need in told for row in await self._withheld(need)],
            "absent_namespaces": absent,
            "untold": [_untold(item) for need in told for item in need.untold],
        }

    async def _live_roles(self) -> dict[ObjectId, Json]:
        found: dict[ObjectId, Json] = {}

        async def look(role: ObjectId) -> None:
            with suppress(ClusterDenied, KindUnknown):
                live = await self._view.api.read(self._view.resource(role, f"{role.group}/v1"), role)
                if live is not None:
                    found[role] = live

        await asyncio.gather(*(look(role) for role in referred(self._wants)))
        return found

    async def _absent(self, namespaces: Iterable[str]) -> list[str]:
        """Namespaces of printed roles that are not there yet; one that may not be looked at is believed to be."""

        async def is_absent(name: str) -> bool:
            look = Right(verb="get", resource="namespaces", namespace=name, name=name)
            if not await self._view.api.may(look):
                return False
            namespace = ObjectId(group=NAMESPACE[0], kind=NAMESPACE[1], namespace="", name=name)
            return await self._view.api.read(self._view.resource(namespace, "v1"), namespace) is None

        names = sorted({name for name in namespaces if name})
        answers = await asyncio.gather(*(is_absent(name) for name in names))
        return [name for name, absent in zip(names, answers, strict=True) if absent]

    async def _missing(self, need: Needs) -> list[dict[str, Any]]:
        """What is needed and not allowed."""
        return [{"target": need.target, **row} for row in _rows(await self._denied(need.rights))]

    async def _withheld(self, need: Needs) -> list[dict[str, Any]]:
        """RBAC objects in Git that need what is never printed, and whether the present credential has it."""
        return [
            {
                "object": name,
                "allowed": not await self._denied(rights),
                "error": f"it grants {_what(rights)}, which whoever applies it needs, and which is never printed",
                "hint": "Name in Git what it shall grant, or have it applied by somebody else.",
            }
            for name, rights in need.never.items()
        ]

    async def _denied(self, rights: Iterable[Right]) -> list[Right]:
        asked = sorted(rights)
        answers = await asyncio.gather(*(self._view.api.may(right) for right in asked))
        return [right for right, allowed in zip(asked, answers, strict=True) if not allowed]

    async def _excess(self, all_needs: Iterable[Needs]) -> dict[str, Any]:
        needed = frozenset(right for need in all_needs for right in need.rights)
        namespaces = sorted({right.namespace for right in needed} - {""})
        everywhere, *inside = await asyncio.gather(*(self._view.api.held(name) for name in (NOWHERE, *namespaces)))
        held = held_rights(everywhere, dict(zip(namespaces, inside, strict=True)))
        everything = any(
            right.verb == right.group == right.resource == "*" and not right.namespace and not right.name
            for right in held
        )
        return {
            "everything": everything,
            "excess": _excess_rows(excess(held, needed)),
            "excess_complete": all(told.complete for told in (everywhere, *inside)),
        }


def _objects(printed: list[dict[str, Any]], absent: Iterable[str], subject: Subject | None) -> list[dict[str, Any]]:
    if subject is None:
        return printed
    spaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in absent]
    return [*spaces, *(item for role in printed for item in (role, binding(role, subject)))]


def _rows(rights: Iterable[Right]) -> list[dict[str, Any]]:
    places: dict[str, list[Right]] = defaultdict(list)
    for right in rights:
        places[right.namespace].append(right)
    return [{"namespace": place, "rule": rule} for place in sorted(places) for rule in rules(places[place])]


def _excess_rows(found: Iterable[Excess]) -> list[dict[str, Any]]:
    """Rules that are too much, with the places in which a part of each is needed; an empty one is everywhere."""
    shared: dict[tuple[str, ...], list[Right]] = defaultdict(list)
    for item in found:
        shared[tuple(sorted({_place(need) for need in item.needed}))].append(item.right)
    rows = [
        {**row, "needed": list(places), "wildcard": any("*" in values for values in row["rule"].values())}
        for places, rights in shared.items()
        for row in _rows(rights)
    ]
    return sorted(rows, key=lambda row: (row["namespace"], str(row["rule"])))


def _place(needed: Right) -> str:
    """Where the part of a right is that is needed: a namespace, an object, or both."""
    return "/".join(part for part in (needed.namespace, needed.name) if part)


def _what(rights: Iterable[Right]) -> str:
    return "a wildcard" if any(map(is_wild, rights)) else "the verb bind or escalate"


def _untold(item: Untold) -> Mapping[str, str]:
    return {"object": item.subject, "error": item.error, "hint": item.hint}
