"""Whether a plan may delete what it wants to delete. Evaluated on the final list of deletes, after every filter.

A guard never stops creates and updates: the rest of the plan goes on, and drift is still reverted.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace

from gitsyncd.core.order import CRD, NAMESPACE
from gitsyncd.model.inventory import Inventory
from gitsyncd.model.manifest import Desired
from gitsyncd.model.plan import Change, Guarded, Operation, Plan, Refusal
from gitsyncd.model.target import PrunePolicy

NEVER_TOO_MANY = 5
NEEDS_APPROVAL = frozenset(
    {
        NAMESPACE,
        ("", "PersistentVolume"),
        ("", "PersistentVolumeClaim"),
        CRD,
    }
)
"""Kinds whose deletion takes data along that Git cannot bring back."""

_TRAILER = re.compile(r"(?P<target>\S+)\s+prune=(?P<count>[0-9]{1,9})")


def guard(
    plan: Plan,
    *,
    desired: Desired,
    inventory: Inventory,
    policy: PrunePolicy,
    approved: Collection[str] = (),
    trailers: Collection[str] = (),
) -> Plan:
    """The plan as it may be carried out: whole, or with `refused` set and its deletes moved to `withheld`.

    `approved` are digests that a person let through; `trailers` the values of the commit's `Gitsyncd-Approve` lines.
    """
    prunes = tuple(change for change in plan.changes if change.operation is Operation.PRUNE)
    if not prunes or plan.digest in approved or _approved_in_commit(plan.target, len(prunes), trailers):
        return plan
    refusal = _refusal(prunes, desired, inventory, policy)
    if refusal is None:
        return plan
    allowed = tuple(change for change in plan.changes if change.operation is not Operation.PRUNE)
    return replace(plan, changes=allowed, withheld=prunes, refused=refusal)


def budget(policy: PrunePolicy, recorded: int) -> int:
    """Deletes that pass without approval, of an inventory of `recorded` objects."""
    return max(NEVER_TOO_MANY, min(policy.max_objects, recorded * policy.max_percent // 100))


def _refusal(prunes: tuple[Change, ...], desired: Desired, inventory: Inventory, policy: PrunePolicy) -> Refusal | None:
    if not desired.manifests and not desired.unknown and not policy.allow_empty:
        reason = "the revision has no object at all for this target"
        return Refusal(guarded=Guarded.EMPTY, reason=reason, prune=len(prunes), limit=0)
    limit = budget(policy, len(inventory.entries))
    if len(prunes) > limit:
        reason = f"{len(prunes)} of {len(inventory.entries)} objects would be deleted, at most {limit} may be"
        return Refusal(guarded=Guarded.BUDGET, reason=reason, prune=len(prunes), limit=limit)
    grave = [str(change.id) for change in prunes if _needs_approval(change)]
    if grave:
        more = f" and {len(grave) - 1} more" if len(grave) > 1 else ""
        reason = f"deleting {grave[0]}{more} needs approval"
        return Refusal(guarded=Guarded.APPROVAL_NEEDED, reason=reason, prune=len(prunes), limit=0)
    return None


def _needs_approval(change: Change) -> bool:
    asked = change.observed is not None and change.observed.prune_needs_approval
    return asked or (change.id.group, change.id.kind) in NEEDS_APPROVAL


def _approved_in_commit(target: str, count: int, trailers: Collection[str]) -> bool:
    """`<target> prune=<count>`, the target with or without its cluster, the count exact."""
    names = {target, target.partition("@")[0]}
    matches = (_TRAILER.fullmatch(trailer.strip()) for trailer in trailers)
    return any(match and match["target"] in names and int(match["count"]) == count for match in matches)
