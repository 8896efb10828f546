"""The parts of the benchmarks that measure, and their command line."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bench.__main__ import MEASUREMENTS, main, parse
from tests.bench.daemon import requests
from tests.bench.eye import Eye
from tests.bench.proc import cpu_seconds, resident, sampled, status_bytes, tree


def test_work_shows_in_the_cpu_time_of_a_process() -> None:
    before, deadline = cpu_seconds(os.getpid()), time.process_time() + 0.1
    while time.process_time() < deadline:
        pass

    assert 0.05 <= cpu_seconds(os.getpid()) - before <= 5


def test_memory_is_that_of_a_process_and_its_children() -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'], stdin=0)"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as parent:
        deadline = time.monotonic() + 10
        while len(processes := list(tree(parent.pid))) < 2:
            assert time.monotonic() < deadline
        with sampled(parent.pid) as peak:
            while not peak.bytes:
                assert time.monotonic() < deadline
        own, whole = status_bytes(parent.pid, "VmRSS"), resident(parent.pid)
        parent.communicate(b"\n")

    assert processes[0] == parent.pid
    assert whole > own > 0
    assert peak.bytes >= own
    assert resident(parent.pid) == 0


def test_requests_are_counted_once_and_by_user_agent(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    records = [
        {"auditID": "old", "userAgent": "gitsyncd/1 (bench)"},
        {"auditID": "a", "userAgent": "gitsyncd/1 (bench)", "stage": "ResponseStarted"},
        {"auditID": "b", "userAgent": "kubectl/1"},
        {"auditID": "a", "userAgent": "gitsyncd/1 (bench)", "stage": "ResponseComplete"},
    ]
    lines = [json.dumps(record) + "\n" for record in records]
    log.write_text("".join(lines) + '{"auditID": "half')

    assert [record["stage"] for record in requests(log, since=len(lines[0]))] == ["ResponseStarted"]


async def test_an_object_counts_as_restored_after_it_was_seen_damaged() -> None:
    eye = Eye()
    seen = eye.expect("configmaps", "app-1", b'"color":"blue"', wait_for_damage=True)

    def look(name: str, color: str, now: float) -> None:
        eye._look("configmaps", f'{{"metadata":{{"name":"{name}"}},"data":{{"color":"{color}"}}}}'.encode(), now)

    look("app-1", "blue", 1)
    look("app-2", "red", 2)
    look("app-1", "red", 3)
    look("app-2", "blue", 4)
    assert not seen.done()
    look("app-1", "blue", 5)

    assert await asyncio.wait_for(seen, 1) == 5


def test_the_list_names_everything_that_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0

    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(MEASUREMENTS)


def test_what_cannot_be_measured_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--only", "nothing"], ["--rounds", "0"]):
        with pytest.raises(SystemExit) as ended:
            parse(wrong)
        assert ended.value.code == 2
    assert "at least 1" in capsys.readouterr().err
