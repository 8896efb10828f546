"""Things to try, second part: what people change by hand is undone and named, what belongs to others stays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.demo.daemonlog import Line, short
from tests.demo.live import find, get, lifetime_ms, owns, path_of
from tests.demo.screen import expect
from tests.demo.stage import Stage
from tests.demo.watch import Event, Watch
from tests.demo.world import wait_until

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is changed."""

    kind: str
    name: str
    object: str
    """As the log names it."""


WORKER = Subject("Deployment", "worker", "Deployment.apps/shop/worker")
SETTINGS = Subject("ConfigMap", "settings", "ConfigMap/shop/settings")
SERVICE = Subject("Service", "front", "Service/shop/front")
SECRET = Subject("Secret", "database", "Secret/shop/database")


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One change by hand, and what the log has to say of its undoing."""

    subject: Subject
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    drifted: Callable[[Object], bool]
    """Whether the object is as the edit left it."""
    drift: str
    manager: str | None
    writer: str
    path: str = ""
    """Part of a field path that the log has to name."""


def by_hand(stage: Stage) -> None:
    screen = stage.screen
    screen.does("changes the cluster with kubectl, one way after the other; each time an independent watch looks on.")
    screen.expects(
        "each change to be undone at once, and the log to name object, fields, tool and kind of writer. A delete leaves no "
        "trace of who did it. The time is the API server's own: from receiving kubectl's request to having answered "
        "gitsyncd's."
    )
    mark = stage.log.mark()
    edits = _edits(stage)
    for edit in edits:
        undone(stage, edit)
    stage.world.run("gitsyncd", "sync", "shop", "--wait")
    reverts = stage.log.since(mark, "drift reverted")
    expect(len(reverts) == len(edits), f"the log has {len(reverts)} reverts of {len(edits)} changes: {reverts}")
    screen.ok(f"{len(edits)} changes, {len(reverts)} reverts: nothing was undone twice")


def undone(stage: Stage, edit: Edit) -> Line:
    """Make the edit, see it on the API server, see it undone there, and find the log line that names it."""
    world, what = stage.world, edit.subject.object
    mark, offset = stage.log.mark(), world.cluster.audit_log.stat().st_size
    with Watch(world.cluster, path_of(edit.subject.kind), name=edit.subject.name) as watch:
        stage.show(*edit.command, env=dict(edit.env))
        change = watch.wait(lambda event: _is_changed(event, edit))
        if change is None:
            expect(False, f"the API server never had the change to {what}")
        assert change is not None
        back = watch.wait(lambda event: event.type != "DELETED" and not edit.drifted(event.object), after=change.at)
        expect(back is not None, f"the change to {what} was not undone within 15 s")
        line = stage.log.wait(mark, "drift reverted", object=what)
    seen = {key: line.get(key) for key in ("kind", "manager", "writer")}
    wanted = {"kind": edit.drift, "manager": edit.manager, "writer": edit.writer}
    expect(seen == wanted, f"the log says {seen} of the change to {what}, not {wanted}")
    expect(
        not edit.path or any(edit.path in path for path in line["fields"]),
        f"the log names the fields {line['fields']}, not {edit.path}",
    )
    now = find(world.cluster, edit.subject.kind, edit.subject.name)
    expect(now is not None and not edit.drifted(now), f"{what} is not as Git says any more")
    path = path_of(edit.subject.kind, edit.subject.name)
    lived = wait_until(lambda: lifetime_ms(world.cluster, path, offset), f"the audit log has both writes to {what}")
    stage.screen.ok(f"undone, {lived:.0f} ms after it reached the API server", short(line))
    return line


def _is_changed(event: Event, edit: Edit) -> bool:
    if edit.drift == "deleted":
        return event.type == "DELETED"
    return event.type != "DELETED" and edit.drifted(event.object)


def _container(worker: Object) -> Object:
    container: Object = worker["spec"]["template"]["spec"]["containers"][0]
    return container


def _edits(stage: Stage) -> list[Edit]:
    replaced = str(stage.world.folder / "bin/replace")
    value = stage.another_secret()
    shop = ("-n", "shop")
    return [
        Edit(
            subject=WORKER,
            command=("kubectl", "edit", "deployment", "worker", *shop),
            env={"KUBE_EDITOR": f"{replaced} worker:1.1.0 worker:9.9.9"},
            drifted=lambda live: _container(live)["image"].endswith(":9.9.9"),
            drift="changed",
            manager="kubectl-edit",
            writer="person",
            path='.spec.template.spec.containers[name="worker"].image',
        ),
        Edit(
            subject=SERVICE,
            command=("kubectl", "delete", "service", "front", *shop),
            drifted=lambda _: False,
            drift="deleted",
            manager=None,
            writer="unknown",
        ),
        Edit(
            subject=WORKER,
            command=("kubectl", "set", "env", "deployment", "worker", "DEBUG=1", *shop),
            drifted=lambda live: any(variable["name"] == "DEBUG" for variable in _container(live)["env"]),
            drift="added",
            manager="kubectl-set",
            writer="person",
            path="DEBUG",
        ),
        Edit(
            subject=WORKER,
            command=("kubectl", "scale", "deployment", "worker", "--replicas=5", *shop),
            drifted=lambda live: bool(live["spec"]["replicas"] == 5),
            drift="changed",
            manager="kubectl",
            writer="controller",  # so counts whoever uses the subresource `scale`, which is made for autoscalers
            path=".spec.replicas",
        ),
        Edit(
            subject=SETTINGS,
            command=("kubectl", "label", "configmap", "settings", "team=mine", *shop),
            drifted=lambda live: "team" in live["metadata"].get("labels", {}),
            drift="added",
            manager="kubectl-label",
            writer="person",
            path=".metadata.labels.team",
        ),
        Edit(
            # Nothing of a removed field is left that could name who removed it.
            subject=WORKER,
            command=("kubectl", "label", "deployment", "worker", "gitsyncd.dev/agent-", *shop),
            drifted=lambda live: "gitsyncd.dev/agent" not in live["metadata"].get("labels", {}),
            drift="changed",
            manager=None,
            writer="unknown",
            path="gitsyncd.dev/agent",
        ),
        Edit(
            subject=SECRET,
            command=(
                "kubectl",
                "patch",
                "secret",
                "database",
                *shop,
                "-p",
                f'{{"stringData": {{"password": "{value}"}}}}',
            ),
            drifted=lambda live: live["data"]["password"] in stage.secrets()[-1:],
            drift="changed",
            manager="kubectl-patch",
            writer="person",
            path=".data.password",
        ),
    ]


def of_others(stage: Stage) -> None:
    screen, world = stage.screen, stage.world
    screen.does(
        "puts load on front, so that its autoscaler acts; and restarts worker, as people do to pick something up."
    )
    screen.expects("the autoscaler to be left alone, and the restart to be reported and left.")
    mark = stage.log.mark()
    world.measurements.millicores = 200
    wait_until(
        lambda: get(world.cluster, "Deployment", "front")["status"].get("readyReplicas") == 5,
        "the autoscaler has scaled front to 5 ready pods",
        within_s=30,
    )
    world.run("gitsyncd", "sync", "shop", "--wait", codes=(0,))
    front = get(world.cluster, "Deployment", "front")
    expect(front["spec"]["replicas"] == 5, f"front has {front['spec']['replicas']} replicas after a full look, not 5")
    expect(not owns(front, "f:replicas"), "gitsyncd claims spec.replicas of front")
    reverts = stage.log.since(mark, "drift reverted")
    expect(not reverts, f"something was reverted: {reverts}")
    screen.ok("front runs 5 pods, Git says 1, a full look later still 5: nothing of the autoscaler's was reverted")

    mark = stage.log.mark()
    stage.show("kubectl", "rollout", "restart", "deployment/worker", "-n", "shop")
    line = stage.log.wait(mark, "foreign field", object="Deployment.apps/shop/worker")
    world.run("gitsyncd", "sync", "shop", "--wait", codes=(0,))
    template = get(world.cluster, "Deployment", "worker")["spec"]["template"]
    kept = "kubectl.kubernetes.io/restartedAt" in template["metadata"].get("annotations", {})
    expect(kept, "the restart was undone")
    screen.ok("the restart goes through and is reported", short(line))
