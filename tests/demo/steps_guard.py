"""Things to try, third part: what waits for a person. A rewritten history, and commits that delete too much."""

from __future__ import annotations

import json
from typing import Any

from tests.demo.daemonlog import Line, short
from tests.demo.live import differing, find, get, managed
from tests.demo.screen import expect
from tests.demo.stage import Stage
from tests.demo.steps_drift import SERVICE, SETTINGS, Edit, undone
from tests.demo.world import wait_until


def rewritten_history(stage: Stage) -> None:
    screen, world = stage.screen, stage.world
    screen.does("rewrites the last commit, pushes it by force, and deletes a Service by hand while it is held.")
    screen.expects(
        "the revision to be held and nothing of it applied; drift to be undone all the same; approval to admit it."
    )
    before, mark = managed(world.cluster), stage.log.mark()
    old = world.git("rev-parse", "HEAD")
    world.replace("base/settings.yaml", "Welcome back", "Hello again")
    world.git("commit", "-q", "--amend", "-a", "-m", "another greeting")
    new = world.git("rev-parse", "HEAD")
    screen.command("git commit --amend -am 'another greeting' && git push --force")
    world.push("--force")
    line = stage.log.wait(mark, "revision held", source="shop", reason="rewound")
    expect(new in line["revision"], f"the log holds {line['revision']}, not {new}")
    screen.ok("held", short(line))

    undone(stage, _deleted_service())
    greeting = get(world.cluster, "ConfigMap", "settings")["data"]["greeting"]
    expect(greeting == "Welcome back", f"the held revision was applied: the greeting is {greeting!r}")
    changed = differing(before, managed(world.cluster), but=frozenset({"Service/shop/front"}))
    expect(not changed, f"these objects have changed while the revision was held: {changed}")
    status = wait_until(lambda: (s := stage.status())["state"] == "held" and s, "status says held")
    expect(old in status["admitted"] and new in status["head"], f"status has admitted and head wrong: {status}")
    screen.ok(f"nothing of it applied: {old[:8]} stays in force, status says held and head {new[:8]}")

    mark = stage.log.mark()
    stage.show("gitsyncd", "approve", "shop", "--revision", new, output=True)
    line = stage.in_sync(mark, new)
    greeting = get(world.cluster, "ConfigMap", "settings")["data"]["greeting"]
    expect(greeting == "Hello again", f"the approved revision is not applied: the greeting is {greeting!r}")
    screen.ok("approved, then applied", short(line))


def mass_deletion(stage: Stage) -> None:
    screen, world = stage.screen, stage.world
    screen.does(
        "deletes four of the five folders in one commit and changes a setting in the fifth; later reverts that commit."
    )
    screen.expects(
        "the plan to be refused, nothing to be deleted, the rest of the commit to be applied, and drift to be undone."
    )
    before, mark = managed(world.cluster), stage.log.mark()
    stage.remove("front", "worker", "offers", "reports")
    world.replace("base/settings.yaml", 'debug: "no"', 'debug: "yes"')
    commit = stage.commit_and_push("tidy up")
    line = stage.log.wait(mark, "plan refused", revision=f"main@sha1:{commit}")
    screen.ok("refused", short(line))
    _is_refused(stage, line)
    wait_until(
        lambda: get(world.cluster, "ConfigMap", "settings")["data"]["debug"] == "yes", "the changed setting is applied"
    )
    setting = _setting_by_hand()
    undone(stage, setting)
    changed = differing(before, managed(world.cluster), but=frozenset({"ConfigMap/shop/settings"}))
    expect(not changed, f"these objects have changed although the plan is refused: {changed}")
    expect(not stage.log.since(mark, "object pruned"), "something was pruned although the plan is refused")
    screen.ok(f"nothing is deleted: all {len(before)} objects are there; what the commit changes is applied")

    mark = stage.log.mark()
    world.git("revert", "--no-edit", "HEAD")
    commit = world.git("rev-parse", "HEAD")
    screen.command("git revert --no-edit HEAD && git push")
    world.push()
    line = stage.in_sync(mark, commit)
    changed = differing(before, managed(world.cluster), but=frozenset({"ConfigMap/shop/settings"}))
    expect(not changed, f"these objects have changed after the revert: {changed}")
    screen.ok("reverted: in sync again, and no other object was ever touched", short(line))


def approved_deletion(stage: Stage) -> None:
    screen, world = stage.screen, stage.world
    screen.does(
        "removes the reports: six objects, a Namespace and a CustomResourceDefinition among them. This time it is meant."
    )
    screen.expects(
        "refused again, because data go along that Git cannot bring back; after approval of this very plan, gone."
    )
    before, mark = managed(world.cluster), stage.log.mark()
    stage.remove("reports")
    commit = stage.commit_and_push("the reports have moved elsewhere")
    line = stage.log.wait(mark, "plan refused", revision=f"main@sha1:{commit}")
    screen.ok("refused", short(line))
    _is_refused(stage, line)
    expect(not differing(before, managed(world.cluster)), "something has changed although the plan is refused")

    mark = stage.log.mark()
    stage.show("gitsyncd", "approve", "shop", "--plan", line["plan"], output=True)
    done = stage.in_sync(mark, commit)
    gone = (("Namespace", "reports"), ("CustomResourceDefinition", "reports.shop.example.com"))
    for kind, name in gone:
        wait_until(lambda kind=kind, name=name: find(world.cluster, kind, name, "") is None, f"{kind} {name} is gone")
    pruned = wait_until(
        lambda: len(found := stage.log.since(mark, "object pruned")) == 6 and found,
        "the log has all six objects pruned",
    )
    left = {name for name in before if "report" not in name}
    changed = differing({name: before[name] for name in left}, managed(world.cluster))
    expect(not changed, f"these objects have changed although they are none of the reports': {changed}")
    screen.ok(f"{len(pruned)} objects deleted, Namespace and definition included, {len(left)} untouched", short(done))


def _is_refused(stage: Stage, line: Line) -> None:
    """`plan` and `status` agree with the log."""
    stage.show("gitsyncd", "plan", codes=(3,), output=True)
    answer: dict[str, Any] = json.loads(
        stage.world.run("gitsyncd", "plan", "--output", "json", codes=(3,)).out,
    )["targets"][0]
    expect(answer["plan"] == line["plan"], f"plan says digest {answer['plan']}, the log {line['plan']}")
    expect(
        answer["refused"]["prune"] == line["prune"], f"plan says {answer['refused']}, the log {line['prune']} deletes"
    )
    status = stage.status()
    expect(status["state"] == "refused", f"status says {status['state']}, not refused")
    stage.screen.ok(f"`plan` ends with exit code 3 and shows the digest to approve; status says {status['state']}")


def _deleted_service() -> Edit:
    return Edit(
        subject=SERVICE,
        command=("kubectl", "delete", "service", "front", "-n", "shop"),
        drifted=lambda _: False,
        drift="deleted",
        manager=None,
        writer="unknown",
    )


def _setting_by_hand() -> Edit:
    return Edit(
        subject=SETTINGS,
        command=("kubectl", "patch", "configmap", "settings", "-n", "shop", "-p", '{"data": {"currency": "USD"}}'),
        drifted=lambda live: bool(live["data"]["currency"] == "USD"),
        drift="changed",
        manager="kubectl-patch",
        writer="person",
        path=".data.currency",
    )
