"""The demo does what it says: played by itself, and on a terminal until Ctrl-C."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.demo.world import processes_of

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
DEMO = [sys.executable, "-m", "tests.demo"]


def environment(script: str, folder: Path) -> dict[str, str]:
    return {**os.environ, "DEMO_SCRIPT": script, "TMPDIR": str(folder), "TERM": "dumb"}


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short name: a socket's may not be long."""
    return tmp_path_factory.mktemp("d")


def test_everything_the_demo_announces_is_so(folder: Path) -> None:
    done = subprocess.run(DEMO, cwd=ROOT, env=environment("1", folder), capture_output=True, text=True, timeout=280)

    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-4000:]
    assert "everything as announced" in done.stdout
    assert "✗" not in done.stdout
    assert str(folder) not in done.stdout
    assert processes_of(folder) == []
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_on_a_terminal_the_demo_shows_what_to_try_then_the_log_and_ends_cleanly(ending: int, folder: Path) -> None:
    # given
    ours, theirs = pty.openpty()
    demo = subprocess.Popen(DEMO, cwd=ROOT, env=environment("", folder), stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = read_until(ours, "daemon ready", within_s=90)

    # when: as a terminal does at Ctrl-C
    demo.send_signal(ending)
    shown += read_until(ours, "nothing is left", within_s=30)

    # then
    assert demo.wait(30) == 0
    os.close(ours)
    assert shown.index("kubectl edit deployment worker") < shown.index("daemon started") < shown.index("daemon ready")
    assert re.search(r"target in sync\s+target=shop@c1 revision=main@sha1:[0-9a-f]{10} objects=23", shown), shown
    assert processes_of(folder) == []
    assert list(folder.iterdir()) == []


def read_until(terminal: int, text: str, *, within_s: float) -> str:
    """What is shown up to a text, and a little more."""
    shown = b""
    deadline = time.monotonic() + within_s
    while text.encode() not in shown:
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"{text!r} is not shown within {within_s:g} s: {shown.decode()[-2000:]}"
        try:
            data = os.read(terminal, 65536)
        except OSError:
            data = b""  # how Linux says that nobody has the other end open any more
        assert data, f"ended before {text!r}: {shown.decode()[-2000:]}"
        shown += data
    return shown.decode()
