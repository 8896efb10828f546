"""Things to try, first part: the first sync, an empty plan, and a commit that changes, adds and removes."""

from __future__ import annotations

import json

from tests.demo.daemonlog import short
from tests.demo.live import differing, find, get, managed, owns, written
from tests.demo.screen import expect
from tests.demo.stage import Stage
from tests.demo.world import wait_until

OBJECTS = 23
"""Documents in the example application."""


def first_sync(stage: Stage) -> None:
    screen, world = stage.screen, stage.world
    screen.does(
        f"starts `gitsyncd run` with an empty cluster and a repository of {OBJECTS} objects: two Namespaces, "
        "Deployments, Service, Ingress, autoscaler, ConfigMaps, Secret, ServiceAccounts, roles and bindings, CronJob, and "
        "two CustomResourceDefinitions with custom resources in the same commit."
    )
    screen.expects("everything there after one turn, in an order that works, and all of it healthy.")
    stage.start()
    line = stage.log.wait(0, "target in sync", within_s=60)
    expect(line["objects"] == OBJECTS, f"the log says {line['objects']} objects, not {OBJECTS}")
    created = stage.log.since(0, "object applied", operation="created")
    expect(len(created) == OBJECTS, f"the log has {len(created)} objects created, not {OBJECTS}")
    there = managed(world.cluster)
    expect(len(there) == OBJECTS, f"{len(there)} objects are on the API server, not {OBJECTS}: {sorted(there)}")
    screen.ok(f"{OBJECTS} objects on the API server", short(line))
    expect(not stage.log.since(0, "object failed"), "an object failed on the way")
    screen.ok(
        "no object failed or was tried twice: custom resources waited for their definition, the rest for Namespaces"
    )

    world.run("gitsyncd", "sync", "shop", "--wait", codes=(0,))
    wait_until(lambda: _measured(stage), "the autoscaler has measurements")
    status = stage.status()
    expect((status["state"], status["health"]) == ("in-sync", "current"), f"status is {status}")
    for name in ("front", "worker"):
        deployment = get(world.cluster, "Deployment", name)
        ready, wanted = deployment["status"].get("readyReplicas", 0), deployment["spec"]["replicas"]
        expect(ready == wanted == 2, f"{name} has {ready} ready pods of {wanted}")
    screen.command("gitsyncd status")
    for text in world.run("gitsyncd", "status").out.splitlines():
        screen.write(f"     {text}")
    screen.ok("in sync and healthy: every pod runs, the Ingress has its address, the autoscaler its measurements")
    front = get(world.cluster, "Deployment", "front")
    expect(not owns(front, "f:replicas"), "gitsyncd claims spec.replicas of front although an autoscaler targets it")
    screen.ok(
        "Git says `replicas: 1` for front, its autoscaler 2: the field is left to the autoscaler, and 2 are running"
    )


def _measured(stage: Stage) -> bool:
    status = get(stage.world.cluster, "HorizontalPodAutoscaler", "front").get("status", {})
    return any(c["type"] == "ScalingActive" and c["status"] == "True" for c in status.get("conditions") or ())


def nothing_to_do(stage: Stage) -> None:
    screen, world = stage.screen, stage.world
    screen.does("asks for the plan, and has the daemon take another full look.")
    screen.expects("nothing to do, exit code 0, and no write at all.")
    before, records, mark = managed(world.cluster), len(world.cluster.audit()), stage.log.mark()
    said = stage.show("gitsyncd", "plan").out
    screen.ok(f"exit code 0: {said.strip().splitlines()[-1].strip()}")
    world.run("gitsyncd", "sync", "shop", "--wait")
    writes = written(world.cluster, records)
    expect(not writes, f"gitsyncd wrote although there was nothing to do: {writes}")
    changed = differing(before, managed(world.cluster))
    expect(not changed, f"these objects have changed: {changed}")
    expect(not stage.log.since(mark, "drift reverted"), "something was reverted although nobody changed anything")
    screen.ok("the API server's audit log has no write by gitsyncd, every resourceVersion is the same")


def change_add_remove(stage: Stage) -> None:
    screen, world = stage.screen, stage.world
    screen.does(
        "edits the work tree: a new image of worker, another greeting, another database password, a further ConfigMap; and "
        "removes the PodDisruptionBudget. Asks for the plan of the work tree, then commits and pushes."
    )
    screen.expects("the plan to name exactly this, then exactly this to happen and nothing else to be touched.")
    before = managed(world.cluster)
    world.replace("worker/deployment.yaml", "worker:1.0.0", "worker:1.1.0")
    world.replace("base/settings.yaml", "Welcome to the shop", "Welcome back")
    stage.change_secret()
    world.write("base/banner.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: banner}\ndata: {text: Sale}\n")
    scaling = (world.work / "deploy/front/scaling.yaml").read_text()
    world.write("front/scaling.yaml", scaling.split("---\n")[0])

    work = str(world.work)
    stage.show("gitsyncd", "plan", "--dir", work, codes=(1,), output=True)
    answer = json.loads(world.run("gitsyncd", "plan", "--dir", work, "--output", "json", codes=(1,)).out)
    planned = {(change["object"], change["operation"]) for change in answer["targets"][0]["changes"]}
    wanted = {
        ("Deployment.apps/shop/worker", "update"),
        ("ConfigMap/shop/settings", "update"),
        ("Secret/shop/database", "update"),
        ("ConfigMap/shop/banner", "create"),
        ("PodDisruptionBudget.policy/shop/front", "prune"),
    }
    expect(planned == wanted, f"the plan is {sorted(planned)}")
    screen.ok("exit code 1; the plan names the five changes and no other")
    shown = stage.show("gitsyncd", "diff", "--dir", work, codes=(1,)).out
    expect("worker:1.1.0" in shown and "worker:1.0.0" in shown, "the diff does not show both images")
    expect("***" in shown and not any(value in shown for value in stage.secrets()), "the diff does not hide the Secret")
    screen.ok("`gitsyncd diff` shows the fields, old and new; those of the Secret as ***")
    changed = differing(before, managed(world.cluster))
    expect(not changed, f"plan or diff changed these objects: {changed}")

    mark = stage.log.mark()
    commit = stage.commit_and_push("a new worker, another greeting")
    line = stage.in_sync(mark, commit)
    worker = get(world.cluster, "Deployment", "worker")
    image = worker["spec"]["template"]["spec"]["containers"][0]["image"]
    expect(image.endswith("worker:1.1.0"), f"worker runs {image}")
    greeting = get(world.cluster, "ConfigMap", "settings")["data"]["greeting"]
    expect(greeting == "Welcome back", f"the greeting is {greeting!r}")
    expect(find(world.cluster, "ConfigMap", "banner") is not None, "the ConfigMap banner is not there")
    wait_until(lambda: find(world.cluster, "PodDisruptionBudget", "front") is None, "the PodDisruptionBudget is gone")
    screen.ok("changed, added and removed on the API server", short(line))
    screen.ok("pruned because Git no longer says it", short(stage.log.wait(mark, "object pruned")))
    touched = frozenset({"Deployment/shop/worker", "ConfigMap/shop/settings", "Secret/shop/database"})
    touched |= {"ConfigMap/shop/banner", "PodDisruptionBudget/shop/front"}
    changed = differing(before, managed(world.cluster), but=touched)
    expect(not changed, f"these objects have another resourceVersion although the commit leaves them alone: {changed}")
    screen.ok(f"the other {len(before) - 4} objects still have the resourceVersion that they had")
