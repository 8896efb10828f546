"""Things to try, fifth part: a new image reaches Git by policy and the cluster by Git, and a bad one goes back by a commit."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from tests.demo.daemonlog import short
from tests.demo.live import get
from tests.demo.screen import expect
from tests.demo.stage import Stage
from tests.demo.world import wait_until
from tests.registry.images import image

_DEPLOYMENT = """\
# Letters to customers.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: mail
spec:
  progressDeadlineSeconds: 3   # nobody waits longer for a letter
  selector: {{matchLabels: {{app: mail}}}}
  template:
    metadata: {{labels: {{app: mail}}}}
    spec:
      containers:
        - name: mail
          image: {image}  # {{"$imagepolicy": "mail"}}
"""


def new_image(stage: Stage) -> None:
    screen, world = stage.screen, stage.world
    screen.does(
        "adds a Deployment whose image is marked for a policy (`newest: created`), pushes it, then pushes a newer image to "
        "the registry: docker's own, with TLS and a password. The agent alone may write to both the repository and the "
        "cluster."
    )
    screen.expects("a commit that changes this one line, by gitsyncd, and the new image on the cluster.")
    world.write("mail/deployment.yaml", _DEPLOYMENT.format(image=_reference(stage, "1.0.0")))
    mark = stage.log.mark()
    commit = stage.commit_and_push("letters to customers")
    stage.in_sync(mark, commit)
    before = (world.work / "deploy/mail/deployment.yaml").read_text()

    mark = stage.log.mark()
    _push(stage, "1.1.0")
    line = stage.log.wait(mark, "images committed", update="shop")
    stage.in_sync(mark, line["commit"])
    expect(_live(stage) == _reference(stage, "1.1.0"), f"{_live(stage)} runs")
    screen.ok("pushed, committed, live", short(line))
    world.git("pull", "-q", "--ff-only")
    after = (world.work / "deploy/mail/deployment.yaml").read_text()
    expect(after == before.replace(":1.0.0", ":1.1.0"), "more than the tag has changed in the file")
    stage.show("git", "-C", str(world.work), "log", "-1", "--format=%an: %s%n%(trailers)", output=True)
    screen.ok("one line of the file is another, comments and all the rest are as they were")
    stage.show("gitsyncd", "images", output=True)


def way_back(stage: Stage) -> None:
    screen, world = stage.screen, stage.world
    screen.does("pushes an image that cannot run, waits until its workload has failed, and rolls back.")
    screen.expects(
        "a commit that takes the folder back and lists the image among what must not come back; that image to stay out "
        "although it is the newest, and a newer one to pass."
    )
    good = wait_until(lambda: _latest(stage, "healthy"), "the present revision is healthy")["commit"]
    mark = stage.log.mark()
    _push(stage, "broken")
    bad = stage.log.wait(mark, "images committed", update="shop")["commit"]
    failed = wait_until(lambda: _latest(stage, "failed"), "the workload has failed", within_s=60)
    expect(failed["commit"] == bad, f"it is {failed['commit']} that failed")
    screen.ok(f"the image is live and its workload fails: {failed['error']}")
    stage.show("gitsyncd", "history", "shop", "--limit", "2", output=True)

    mark = stage.log.mark()
    stage.show("gitsyncd", "rollback", "shop", "--reason", "it cannot run", "--yes", output=True)
    line = stage.log.wait(mark, "rollback committed", target="shop@c1")
    expect((line["from"], line["to"]) == (bad, good), f"it went from {line['from']} to {line['to']}")
    stage.in_sync(mark, line["commit"])
    expect(_live(stage) == _reference(stage, "1.1.0"), f"{_live(stage)} runs")
    wait_until(lambda: _latest(stage, "healthy"), "it is healthy again")
    screen.ok("the good image is back, by a commit, and healthy", short(line))
    held = stage.log.wait(mark, "image held", policy="mail", tag="broken", reason="quarantined")
    screen.ok("the bad one stays out", short(held))

    mark = stage.log.mark()
    _push(stage, "1.2.0")
    line = stage.log.wait(mark, "images committed", update="shop")
    stage.in_sync(mark, line["commit"])
    expect(_live(stage) == _reference(stage, "1.2.0"), f"{_live(stage)} runs")
    screen.ok("a newer one passes", short(line))
    world.git("pull", "-q", "--ff-only")


def _reference(stage: Stage, tag: str) -> str:
    return f"{stage.world.registry.server}/shop/mail:{tag}"


def _push(stage: Stage, tag: str) -> None:
    stage.screen.command(f"docker push {_reference(stage, tag)}")
    stage.world.registry.push("shop/mail", tag, image(f"mail {tag}", created=datetime.now(UTC).isoformat()))


def _live(stage: Stage) -> str:
    deployment = get(stage.world.cluster, "Deployment", "mail")
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])


def _latest(stage: Stage, moment: str) -> Any:
    """The newest revision, if it has had this moment."""
    answer = json.loads(stage.world.run("gitsyncd", "history", "shop", "--limit", "1", "--output", "json").out)
    revision = answer["targets"][0]["revisions"][0]
    return revision if revision[moment] else None
