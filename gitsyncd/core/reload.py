"""What a changed agent file changes: told in words, and whether a running daemon can take it up at all."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

from gitsyncd.model.target import Agent, Configuration

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")

_FIXED = {
    "name": "name",
    "state_dir": "state_dir",
    "cluster_namespace": "cluster_namespace",
    "socket": "socket",
    "log_level": "log.level",
    "log_format": "log.format",
    "shares": "shard",
    "http": "http.listen",
    "webhook": "webhook",
}
"""What a process is from its start to its end, by field of `Agent`: the key under `agent`."""


def unchangeable(before: Agent, after: Agent) -> list[str]:
    """Keys of the file that differ and that only a new start takes up."""
    return [f"agent.{key}" for field, key in _FIXED.items() if getattr(before, field) != getattr(after, field)]


def changes(before: Configuration, after: Configuration) -> list[str]:
    """A few words for each thing that is not as it was: `target web@eu-1 added`. Empty when nothing differs."""
    found = ["agent changed"] if before.agent != after.agent else []
    found += _differences("source", {s.name: s for s in before.sources}, {s.name: s for s in after.sources})
    found += _differences("cluster", {c.name: c for c in before.clusters}, {c.name: c for c in after.clusters})
    found += _differences("target", {t.id: t for t in before.targets}, {t.id: t for t in after.targets})
    images = (before.images, after.images)
    found += _differences("registry", *({r.prefix: r for r in each.registries} for each in images))
    found += _differences("policy", *({p.name: p for p in each.policies} for each in images))
    found += _differences("update", *({u.name: u for u in each.updates} for each in images))
    return found


def _differences(what: str, before: Mapping[_K, _V], after: Mapping[_K, _V]) -> Iterable[str]:
    for name in sorted(before.keys() | after.keys(), key=str):
        if name not in after:
            yield f"{what} {name} removed"
        elif name not in before:
            yield f"{what} {name} added"
        elif before[name] != after[name]:
            yield f"{what} {name} changed"
