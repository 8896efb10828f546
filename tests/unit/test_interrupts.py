"""Signals that come while the program is still being loaded."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

FILE = """
version: 1
agent: {{name: edge, state_dir: {0}/state, socket: {0}/s, http: {{listen: null}}}}
sources: [{{name: fleet, url: "file://{0}/fleet.git", ref: {{branch: main}}}}]
clusters: [{{name: here, in_cluster: true}}]
targets: [{{name: web, source: fleet}}]
"""
DELAYS_S = (0.0, 0.03, 0.1, 0.2, 0.4, 0.8)


@pytest.fixture
def agent_file(tmp_path: Path) -> Path:
    file = tmp_path / "gitsyncd.yaml"
    file.write_text(FILE.format(tmp_path))
    return file


def ended(agent_file: Path, *arguments: str, by: signal.Signals, after_s: float) -> tuple[int, str]:
    """Exit code and standard error of a command that got a signal, so long after it could do something about one."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gitsyncd", *arguments, "--config", str(agent_file)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if arguments[0] == "run":
        while not is_caught(process.pid, signal.SIGTERM):  # Python itself catches SIGINT before us
            assert process.poll() is None
            time.sleep(0.001)
    else:
        for is_so in (True, False):  # Python catches SIGINT, and then we let it end the process
            while process.poll() is None and is_caught(process.pid, signal.SIGINT) is not is_so:
                time.sleep(0.001)
    time.sleep(after_s)
    process.send_signal(by)
    _, errors = process.communicate(timeout=30)
    return process.returncode, errors


def is_caught(pid: int, number: signal.Signals) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = next(line for line in lines if line.startswith("SigCgt:")).split()[1]
    return bool(int(mask, 16) & 1 << (number - 1))


@pytest.mark.parametrize("after_s", DELAYS_S)
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_a_daemon_that_is_ended_while_it_starts_ends_well(agent_file: Path, by: signal.Signals, after_s: float) -> None:
    code, errors = ended(agent_file, "run", by=by, after_s=after_s)

    assert code == 0
    assert "Traceback" not in errors


@pytest.mark.parametrize("after_s", DELAYS_S[:4])
def test_a_pass_that_is_ended_has_not_shown_that_all_is_in_sync(agent_file: Path, after_s: float) -> None:
    code, errors = ended(agent_file, "run", "--once", by=signal.SIGTERM, after_s=after_s)

    assert code == 1
    assert "Traceback" not in errors


@pytest.mark.parametrize("after_s", DELAYS_S[:4])
@pytest.mark.parametrize("command", ["plan", "status", "check"])
def test_a_command_that_is_interrupted_says_nothing(agent_file: Path, command: str, after_s: float) -> None:
    code, errors = ended(agent_file, command, by=signal.SIGINT, after_s=after_s)

    assert code in {-signal.SIGINT, 130, 0, 2}, "interrupted, or over before"
    assert "Traceback" not in errors
