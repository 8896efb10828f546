"""Answers of `status`, as a daemon gives them, in every state."""

from datetime import UTC, datetime, timedelta
from typing import Any

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OLD = "0" * 8 + "a" * 32
NEW = "1" * 8 + "b" * 32


def ago(**time: float) -> str:
    return (NOW - timedelta(**time)).isoformat().replace("+00:00", "Z")


def revision(commit: str = OLD, branch: str = "main") -> str:
    return f"{branch}@sha1:{commit}"


def problem(error: str, hint: str = "", object_: str = "", remedy: str = "fix-repo") -> dict[str, Any]:
    return {"object": object_, "error": error, "remedy": remedy, "hint": hint}


def target(name: str = "web@eu-1", state: str = "in-sync", **keys: Any) -> dict[str, Any]:
    return {
        "target": name,
        "source": "fleet",
        "state": state,
        "revision": revision(),
        "admitted": revision(),
        "head": revision(),
        "since": ago(hours=2, minutes=10),
        "objects": 12,
        "health": "current",
        "health_message": "",
        "last_turn": ago(minutes=3),
        "progress": None,
        "problems": [],
        "plan": None,
        "suspended": None,
        **keys,
    }


def source(name: str = "fleet", state: str = "ready", **keys: Any) -> dict[str, Any]:
    return {
        "source": name,
        "branch": "main",
        "state": state,
        "revision": revision(),
        "since": ago(days=3),
        "answered": ago(seconds=12),
        "error": None,
        "remedy": None,
        "hint": None,
        **keys,
    }


def cluster(name: str = "eu-1", state: str = "ready", **keys: Any) -> dict[str, Any]:
    return {
        "cluster": name,
        "state": state,
        "since": ago(days=3),
        "error": None,
        "remedy": None,
        "hint": None,
        "writer": "node-7/4711/88231/5c1f-4026531836",
        "server_version": "v1.37.2",
        **keys,
    }


IMAGE = "registry.example.com/team/front"


def policy(**facts: Any) -> dict[str, Any]:
    return {
        "policy": "front",
        "image": IMAGE,
        "state": "selected",
        "tag": "1.2.0",
        "digest": None,
        "made_from": None,
        "since": None,
        "looked": None,
        "held": [],
        "written": [],
        "locked": None,
        "error": None,
        "hint": None,
        **facts,
    }


def answer(targets: list[dict[str, Any]], **keys: Any) -> dict[str, Any]:
    return {
        "agent": "edge-eu",
        "version": "0.1.0",
        "configuration": {"file": "/etc/gitsyncd/gitsyncd.yaml", "error": None, "hint": None},
        "targets": targets,
        "sources": [source()],
        "clusters": [cluster()],
        **keys,
    }


REFUSED = problem(
    "60 objects would be deleted, and 50 are allowed",
    "If it is meant: gitsyncd approve db@eu-1 --plan 44f4d1a8cfbce9642d1c7d5f410d7b81",
    remedy="approve",
)
HELD = problem(
    f"the head {NEW} is held: rewound",
    f"If it is meant: gitsyncd approve fleet --revision {NEW}",
    remedy="approve",
)
OUT = "cluster us-1: no answer from https://10.0.0.1:6443 within 10 s: connection refused"
OUT_HINT = "Nothing to do if the cluster comes back by itself; otherwise check its address and the network."
DENIED = 'admission webhook "policy.example.com" denied the request: image registry.example.com/team/front:latest is not pinned'


def every_state() -> dict[str, Any]:
    """One target in each state that a person has to read."""
    return answer(
        [
            target(),
            target("api@eu-1", health="in-progress", health_message="Deployment/web/front: 1 of 3 replicas are ready"),
            target("db@eu-1", "refused", objects=50, problems=[REFUSED], since=ago(minutes=3)),
            target("cache@eu-1", "held", head=revision(NEW), problems=[HELD]),
            target(
                "shop@eu-1",
                "failed",
                since=ago(seconds=42),
                problems=[
                    problem(DENIED, "Pin it by digest.", "Deployment.apps/shop/front"),
                    *[problem("namespaces \"shop\" not found", "Add it to Git.", f"ConfigMap/shop/c{n}", "wait") for n in range(5)],
                    problem("spec.replicas: Invalid value: -1", "Correct the field.", "Deployment.apps/shop/worker"),
                    problem("spec.clusterIP: field is immutable", "Rename it.", "Service/shop/front"),
                    problem("quota exceeded", "Raise it.", "Pod/shop/one"),
                ],
            ),
            target("web@us-1", "unknown", problems=[problem(OUT, OUT_HINT, remedy="wait")], since=ago(minutes=7)),
            target("big@eu-1", "syncing", objects=300, progress={"done": 120, "total": 300}, admitted=revision(NEW), since=ago(seconds=9)),
            target("old@eu-1", "unmanaged", revision=None, admitted=None, since=None, last_turn=None, health="unknown",
                   problems=[problem("this target is not in the agent file any more; its objects stay as they are",
                                     "Add it again, or delete them: gitsyncd delete old@eu-1 --yes", remedy="fix-config")]),
            target("move@eu-1", "suspended", suspended={"until": ago(minutes=-25), "reason": "database move"}, since=ago(minutes=5)),
        ],
        sources=[source(), source("apps", "held")],
        clusters=[
            cluster(),
            cluster("us-1", "unreachable", error=OUT, remedy="wait", hint=OUT_HINT, since=ago(minutes=7), writer=None, server_version=None),
        ],
    )  # fmt: skip


def fleet(total: int = 300) -> dict[str, Any]:
    """Many targets, one of them failed and one refused."""
    names = [f"web@eu-{number}" for number in range(1, total + 1)]
    targets = [target(name) for name in names]
    targets[16] = target(
        names[16], "failed", problems=[problem(DENIED, "Pin it by digest.", "Deployment.apps/web/front")]
    )
    targets[41] = target(names[41], "refused", problems=[REFUSED])
    return answer(targets, clusters=[cluster(name.partition("@")[2]) for name in names])


def standing_by(total: int = 2) -> dict[str, Any]:
    """A daemon that writes to one cluster, leaves the others to a daemon of its name, and got a bad agent file."""
    there = [cluster(f"us-{number}", "standby", server_version=None) for number in range(1, total + 1)]
    waits = problem(
        "cluster us-1: node-7/4711/88231/5c1f-4026531836 writes to this cluster", "Nothing to do.", remedy="wait"
    )
    return answer(
        [target(), *(target(f"web@{item['cluster']}", "waiting", revision=None, problems=[waits], health="unknown") for item in there)],
        clusters=[cluster(writer="node-3/212/1200/77aa-4026531836"), *there],
        configuration={
            "file": "/etc/gitsyncd/gitsyncd.yaml",
            "error": "2 mistakes:\n/etc/gitsyncd/gitsyncd.yaml:12: targets.0.path: is missing\n/etc/gitsyncd/gitsyncd.yaml:15: sources.0.ref: unknown key",
            "hint": "See the reference of the agent file, or `gitsyncd schema`.",
        },
    )  # fmt: skip
