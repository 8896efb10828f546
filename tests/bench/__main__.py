"""`python -m tests.bench`, which is `make bench`."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gitsyncd
from tests.bench import first, isolation, many, marking, parsing, polite, polling, restart, steady
from tests.bench.stage import say, stage
from tests.bench.table import Row, save, text
from tests.sandbox import KUBERNETES, BuildFailed, NotReady, ProcessEnded, binaries

MEASUREMENTS = {
    "yaml": "documents parsed a second, against PyYAML's C loader and ruamel's round trip",
    "marks": "files with marked images found, edited and proven a second, against ruamel's round trip",
    "poll": "a warm poll of the remote, against git ls-remote",
    "first": "first sync of 2,000 objects, against a bare client; time to the first request; memory at rest and peak",
    "no-change": "requests and CPU of a turn with nothing changed",
    "revert": "a foreign edit to the restored event, against one serial apply",
    "storm": "200 edits at once, against the time that the edits took",
    "restart": "a restart on an unchanged cluster of 2,000 objects: time to in sync, and writes",
    "many": "four clusters: memory of each, CPU at rest, objects applied a second against four bare clients at once",
    "isolation": "turns of two clusters while a third one is dead, a black hole or throttling, against the same undisturbed",
    "polite": "a bystander's GETs during a first sync, against the same at rest, as an ordinary service account",
    "commit": "10 changed objects live in a repository of 5,000 files, against git fetch and kubectl apply",
}
STEADY = frozenset({"no-change", "revert", "storm", "commit"})
ROUNDS = 5

EPILOG = """\
examples:
  python -m tests.bench                           everything; about 7 minutes on 2 quiet cores
  python -m tests.bench --only first --rounds 1   one quick look at the first sync
  python -m tests.bench --only revert --only storm
  make bench ARGS="--only yaml"

Exit code 1 when a bound is broken, 2 when something could not be measured. Other work on the machine disturbs the
figures; ratios suffer less than seconds.
"""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="What gitsyncd costs, each figure beside a floor measured in the same run.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", action="append", choices=list(MEASUREMENTS), metavar="NAME", help="this one; may be given repeatedly"
    )
    parser.add_argument("--rounds", type=_positive, default=ROUNDS, help=f"after one warm-up; default {ROUNDS}")
    parser.add_argument(
        "--out", type=Path, default=Path("bench-results"), help="folder for results; default %(default)s"
    )
    parser.add_argument("--list", action="store_true", help="what there is to measure")
    return parser.parse_args(arguments)


def _positive(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def measure(names: frozenset[str], rounds: int) -> list[Row]:
    """The rows of everything that is named, in the order of the list."""
    rows: list[Row] = []
    if "yaml" in names:
        rows += parsing.measure(rounds)
    if "marks" in names:
        rows += marking.measure(rounds)
    if names <= {"yaml", "marks"}:
        return rows
    with stage(rounds) as where:
        if "poll" in names:
            rows += polling.measure(where)
        if "first" in names:
            rows += first.measure(where)
        for name, work in (("restart", restart), ("many", many), ("isolation", isolation), ("polite", polite)):
            if name in names:
                rows += work.measure(where)
        if names & STEADY:
            rows += steady.measure(where, names)
    return rows


def facts() -> dict[str, Any]:
    """What a reader of the figures has to know of the machine and the versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "gitsyncd": gitsyncd.__version__,
        "Python": platform.python_version(),
        "Kubernetes": KUBERNETES,
        "aiohttp": version("aiohttp"),
        "orjson": version("orjson"),
        "git": subprocess.run(["git", "--version"], capture_output=True, text=True).stdout.strip().split()[-1],
        "machine": f"{os.cpu_count()} cores, {memory / 2**30:.0f} GiB, {platform.system()} {platform.machine()}",
        "load before": f"{os.getloadavg()[0]:.1f}",
        "at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if options.list:
        print("\n".join(f"{name:10} {what}" for name, what in MEASUREMENTS.items()))
        return 0
    # As Ctrl-C does: everything that was started is ended.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    begun, about = time.monotonic(), facts()
    if os.getloadavg()[0] > 1:
        say(f"other work is going on (load {os.getloadavg()[0]:.1f}): the figures will be worse than they are")
    try:
        binaries.build_all()
        rows = measure(frozenset(options.only or MEASUREMENTS), options.rounds)
    except KeyboardInterrupt:
        say("interrupted; what was started has been ended")
        return 130
    except (BuildFailed, NotReady, ProcessEnded, RuntimeError, TimeoutError, OSError) as error:
        say(f"not measured: {error}")
        return 2
    about["took"] = f"{time.monotonic() - begun:.0f} s, {options.rounds} rounds"
    with contextlib.suppress(BrokenPipeError):
        print(text(rows))
    save(rows, about, options.out)
    say(f"written to {options.out / 'results.md'} and {options.out / 'results.json'}")
    broken = [row.name for row in rows if not row.ok]
    if broken:
        say(f"bounds broken: {', '.join(broken)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
