"""Things to try, last part: a daemon that is killed, what must not be told, and a proper end."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

from tests.demo.daemonlog import short
from tests.demo.live import differing, find, managed, path_of, written
from tests.demo.screen import expect
from tests.demo.stage import Stage
from tests.demo.watch import Event, Watch
from tests.demo.world import processes_of, wait_until

MANY = 300
_KILL_AT = 60
"""ConfigMaps of the large commit that are there when the daemon is killed."""


def killed(stage: Stage) -> None:
    screen, world = stage.screen, stage.world
    screen.does(
        f"pushes {MANY} ConfigMaps and kills the daemon outright when the API server has {_KILL_AT} of them; removes one of "
        "those from Git, then starts the daemon again, and once more."
    )
    screen.expects("the rest to be made, the removed one to be deleted, nothing to be forgotten; then no write at all.")
    kept = managed(world.cluster)
    mark = stage.log.mark()
    created = _killed_in_the_middle(stage)
    line = stage.log.since(mark, "plan made")[-1]
    expect(_KILL_AT <= len(created) < MANY, f"{len(created)} of {MANY} were there: the kill came at the wrong moment")
    screen.ok(f"killed with {len(created)} of {MANY} ConfigMaps on the API server", short(line))

    removed = created[0]
    stage.remove(f"many/{removed}.yaml")
    commit = stage.commit_and_push(f"no {removed} any more")
    expect(find(world.cluster, "ConfigMap", removed) is not None, f"{removed} is gone although no daemon runs")
    mark = stage.log.mark()
    stage.start()
    line = stage.in_sync(mark, commit, within_s=60)
    wait_until(lambda: find(world.cluster, "ConfigMap", removed) is None, f"{removed} is deleted")
    there = managed(world.cluster)
    wanted = {f"ConfigMap/shop/{name}" for name in _names()} - {f"ConfigMap/shop/{removed}"} | set(kept)
    expect(set(there) == wanted, f"these are missing or orphaned: {sorted(set(there) ^ wanted)}")
    screen.ok(f"all {len(wanted)} objects of Git are there and no other", short(line))
    screen.ok("made before the kill, removed from Git before the restart", short(stage.log.wait(mark, "object pruned")))
    changed = differing(kept, there, but=wanted - set(kept))
    expect(not changed, f"these objects have changed: {changed}")

    code = stage.end(signal.SIGTERM)
    expect(code == 0, f"the exit code after SIGTERM is {code}")
    before, records, mark = managed(world.cluster), len(world.cluster.audit()), stage.log.mark()
    stage.start()
    line = stage.log.wait(mark, "target in sync")
    stage.log.wait(mark, "daemon ready")
    writes = written(world.cluster, records)
    expect(not writes, f"gitsyncd wrote although all was well: {writes[:5]}")
    changed = differing(before, managed(world.cluster))
    expect(not changed, f"these objects have changed: {changed}")
    screen.ok("another start: no write by gitsyncd in the audit log, every resourceVersion the same", short(line))


def _names() -> list[str]:
    return [f"many-{number:03}" for number in range(MANY)]


def _killed_in_the_middle(stage: Stage) -> list[str]:
    """Push many ConfigMaps and kill the daemon at the sixtieth; the names of those that are there."""
    world = stage.world
    assert world.daemon is not None
    pid = world.daemon.pid
    made: set[str] = set()
    dead = threading.Event()

    def on_event(event: Event) -> None:
        name = event.object["metadata"]["name"]
        if event.type == "ADDED" and name.startswith("many-"):
            made.add(name)
            if len(made) >= _KILL_AT and not dead.is_set():
                os.kill(pid, signal.SIGKILL)
                dead.set()

    for name in _names():
        data = "\n".join(f"  line-{number}: text of {name}" for number in range(5))
        manifest = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata:\n{data}\n"
        world.write(f"many/{name}.yaml", manifest)
    with Watch(world.cluster, path_of("ConfigMap"), on_event=on_event):
        stage.commit_and_push(f"{MANY} ConfigMaps")
        expect(dead.wait(30), f"after 30 s fewer than {_KILL_AT} ConfigMaps are there")
        code = world.daemon.wait(10)
    expect(code == -signal.SIGKILL, f"the daemon ended with {code}, not by SIGKILL")
    stage.screen.command(f"kill -9 {pid}")
    items = world.cluster.request("GET", path_of("ConfigMap"))["items"]
    return sorted(item["metadata"]["name"] for item in items if item["metadata"]["name"].startswith("many-"))


def canary(stage: Stage) -> None:
    screen, world = stage.screen, stage.world
    values = stage.secrets()
    screen.does(
        "looks for every value that the Secret had, plain and as base64: in the whole log, in everything that the "
        "commands above and now printed, in the state directory, in the inventory on the cluster and in the audit log."
    )
    screen.expects("nothing. (The mirror is left out: it is the repository, and the repository holds the Secret.)")
    for command in (("status",), ("plan",), ("diff",)):
        world.run("gitsyncd", *command)
        world.run("gitsyncd", *command, "--output", "json")
    stored = world.cluster.request("GET", path_of("Secret", "database"))
    expect(stored["data"]["password"] in values, "the Secret on the API server has another value")

    places = {"the log": stage.log.path.read_text(), "commands": "\n".join(world.said)}
    state = world.folder / "state"
    files = [file for file in state.rglob("*") if file.is_file() and state / "mirrors" not in file.parents]
    for file in files:
        places[str(file.relative_to(world.folder))] = file.read_text(errors="replace")
    inventories = world.cluster.request("GET", path_of("ConfigMap", namespace="gitsyncd"))["items"]
    for item in inventories:
        places[f"ConfigMap {item['metadata']['name']}"] = str(item)
    places["the audit log"] = world.cluster.audit_log.read_text()
    expect(bool(files) and bool(inventories), "there is no state or no inventory to look at")
    found = [place for place, text in places.items() for value in values if value in text]
    expect(not found, f"the Secret's value is told in: {found}")
    # The same search does find what is there: in the Secret itself.
    expect(any(value in str(stored) for value in values), "the search finds nothing even where the value is")
    sizes = sum(len(text) for text in places.values())
    screen.ok(
        f"none of {len(values)} forms in {sizes // 1024} KiB: log, {len(world.said)} outputs, {len(files)} state files, "
        f"{len(inventories)} ConfigMaps of inventory"
    )


def terminated(stage: Stage) -> None:
    screen, world = stage.screen, stage.world
    screen.does("ends the daemon as systemd or Kubernetes would.")
    screen.expects("exit code 0, and no process of it left.")
    mark = stage.log.mark()
    code = stage.end(signal.SIGTERM)
    expect(code == 0, f"the exit code is {code}")
    line = stage.log.wait(mark, "daemon stopped", signal="SIGTERM", within_s=1)
    left = processes_of(world.folder, but=[*world.cluster.pids.values(), world.registry.pid])
    expect(not left, f"these processes are left: {left}")
    expect(not Path(world.folder / "agent.sock").exists(), "the socket is left")
    screen.ok("exit code 0, no process and no socket left", short(line))
