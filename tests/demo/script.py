"""Plays the things to try, in order, and says at the end whether all of them were as announced."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.demo import steps_drift, steps_end, steps_guard, steps_images, steps_sync
from tests.demo.screen import Screen, Unexpected
from tests.demo.stage import Stage
from tests.demo.world import World, processes_of
from tests.sandbox import KUBERNETES, ApiError, NotReady, ProcessEnded

Step = Callable[[Stage], None]

STEPS: tuple[tuple[str, Step], ...] = (
    ("The first sync of an application", steps_sync.first_sync),
    ("A plan when there is nothing to do", steps_sync.nothing_to_do),
    ("A commit that changes, adds and removes", steps_sync.change_add_remove),
    ("Changes by hand are undone, and named", steps_drift.by_hand),
    ("What belongs to others is left to them", steps_drift.of_others),
    ("A rewritten history is held", steps_guard.rewritten_history),
    ("A commit that deletes nearly everything is refused, and reverted", steps_guard.mass_deletion),
    ("A commit that deletes a Namespace and a definition is refused, and approved", steps_guard.approved_deletion),
    ("kill -9 in the middle of a large commit", steps_end.killed),
    ("A new image reaches Git by policy, and the cluster by Git", steps_images.new_image),
    ("A bad image, and the way back by a commit", steps_images.way_back),
    ("The Secret's value is told nowhere", steps_end.canary),
    ("SIGTERM", steps_end.terminated),
)


def play() -> int:
    """The whole script. 0 when everything was as announced, else 1."""
    begun = time.monotonic()
    world = World()
    screen = Screen(world.folder)
    log = world.folder / "daemon.log"
    screen.write(
        f"gitsyncd demo: a control plane (Kubernetes {KUBERNETES}) with two simulated nodes, a Git server and a registry,"
    )
    screen.write(
        "both with TLS and password, and the daemon, on this machine. $DEMO is their temporary folder; times are measured."
    )
    problem = ""
    try:
        with world:
            screen.write(f"ready after {time.monotonic() - begun:.1f} s")
            stage = Stage(world, screen)
            for title, step in STEPS:
                try:
                    with screen.step(title):
                        step(stage)
                except (Unexpected, ApiError, NotReady, ProcessEnded, OSError) as error:
                    problem = title
                    screen.failed(str(error))
                    _keep(screen, log)
                    break
    finally:
        world.close()
    left = processes_of(world.folder)
    if not problem and (left or world.folder.exists()):
        problem = "something is left"
        screen.failed(f"{problem}: {left or world.folder}")
    screen.write()
    took = f"{screen.passed} facts checked in {len(STEPS)} steps, {time.monotonic() - begun:.1f} s in all"
    if problem:
        print(f"demo: not as announced: {problem}", file=sys.stderr)
        return 1
    screen.write(f"✓ everything as announced: {took}; no process and no file left")
    return 0


def _keep(screen: Screen, log: Path) -> None:
    """Show the end of the daemon's log, and keep the whole."""
    if not log.exists():
        return
    kept = Path(tempfile.mkdtemp(prefix="gitsyncd-demo-failed-")) / log.name
    shutil.copy(log, kept)
    screen.write("   the daemon's last lines:")
    for line in log.read_text(errors="replace").splitlines()[-15:]:
        screen.write(f"     {screen.tidy(line)}")
    screen.write(f"   the whole log: {kept}")
