"""What people type and write into the agent file: refused with what, where, why and what to do, and exit code 2."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
from pathlib import Path
from textwrap import dedent

import pytest

from tests.e2e.daemon import COMMAND, ROOT, Agent, run

pytestmark = pytest.mark.real

READS_THE_FILE = ("check", "run", "plan", "status")
COMMANDS = (
    "run", "check", "schema", "plan", "diff", "status", "sync", "approve", "suspend", "resume", "delete",
)  # fmt: skip
WRONG = """\
    version: 1
    agent: {name: edge, colour: blue}
    sources:
      - {name: fleet, url: "https://git.example.com/fleet.git", ref: {branch: main}, verify: {mode: tip}}
    clusters: [{name: here, server: "https://127.0.0.1:1", token_file: token}]
    targets: [{name: web, source: flet}]
"""


@pytest.fixture
def ready(agent: Agent, tmp_path: Path) -> Agent:
    """An agent file without a mistake, whose cluster and repository nobody asks."""
    (tmp_path / "admin.kubeconfig").write_text("{}")
    agent.cluster("here", tmp_path / "admin.kubeconfig")
    agent.source("fleet", f"file://{tmp_path}/fleet.git")
    agent.target("web")
    return agent


# --- the agent file ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", READS_THE_FILE)
def test_an_agent_file_that_is_not_there_is_named_with_how_to_name_another(command: str, tmp_path: Path) -> None:
    ran = run(command, "--config", str(tmp_path / "none.yaml"))

    assert ran.code == 2
    assert ran.complaint[0].startswith(f"{tmp_path}/none.yaml: does not exist")
    assert "--config" in ran.stderr
    assert ran.stdout == "" or command == "run", "a daemon says it in its log, too"


@pytest.mark.parametrize("command", READS_THE_FILE)
def test_an_agent_file_that_cannot_be_read_says_why(command: str, tmp_path: Path) -> None:
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)

    ran = run(command, env={"GITSYNCD_CONFIG": str(loop)})

    assert ran.code == 2
    what, fix = ran.complaint
    assert "cannot be read: Too many levels of symbolic links" in what
    assert fix


@pytest.mark.parametrize("command", READS_THE_FILE)
def test_every_mistake_of_an_agent_file_is_told_at_once_with_its_line_and_key(command: str, tmp_path: Path) -> None:
    file = tmp_path / "gitsyncd.yaml"
    file.write_text(dedent(WRONG))
    (tmp_path / "token").write_text("s3cret")

    ran = run(command, "--config", str(file))

    assert ran.code == 2
    what, fix = ran.complaint
    assert [line.split(": ")[:2] for line in what.splitlines()] == [
        [f"{file}:2", "agent.colour"],
        [f"{file}:4", "sources[0].verify"],
        [f"{file}:6", "targets[0].source"],
    ]
    assert "not supported" in what.splitlines()[1]
    assert "fleet" in what.splitlines()[2], "the name that was meant is offered"
    assert "gitsyncd check" in fix


def test_a_tab_in_the_agent_file_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "gitsyncd.yaml"
    file.write_text("version: 1\nagent:\n\tname: edge\n")

    ran = run("check", "--config", str(file))

    assert ran.code == 2
    assert ran.complaint[0].startswith(f"{file}:3")


@pytest.mark.parametrize("content", ["version: 1\nagnet: {}\n", None], ids=["wrong", "not there"])
def test_a_daemon_that_refuses_its_agent_file_says_so_in_the_log_too(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "gitsyncd.yaml"
    if content is not None:
        file.write_text(content)

    ran = run("run", "--config", str(file))

    (line,) = map(json.loads, ran.stdout.splitlines())
    assert (ran.code, line["level"], line["event"]) == (2, "error", "configuration refused")
    assert (line["file"], line["remedy"]) == (str(file), "fix-config")
    assert f"gitsyncd: {line['error']}\nfix: {line['hint']}\n" == ran.stderr


def test_a_pass_that_a_signal_cuts_short_is_no_success(ready: Agent) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ready.source("fleet", f"https://127.0.0.1:{silent.getsockname()[1]}/fleet.git")
        with ready.start("--once") as daemon:
            daemon.wait_for("daemon started")

            code = daemon.stop(signal.SIGTERM)

    assert code == 1


# --- commands without a daemon -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("sync", "web"),
        ("approve", "web", "--plan", "0123456789abcdef"),
        ("suspend", "web", "--for", "30m", "--reason", "a test"),
        ("resume", "web"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_command_that_needs_the_daemon_says_how_to_start_one(ready: Agent, arguments: tuple[str, ...]) -> None:
    ran = ready.run(*arguments)

    assert ran.code == 2
    what, fix = ran.complaint
    assert what == f"{ready.socket}: no daemon answers there"
    assert "gitsyncd run" in fix


def test_delete_without_a_daemon_fails_and_says_how_to_start_one(ready: Agent) -> None:
    ran = ready.run("delete", "web", "--yes")

    assert ran.code == 1
    assert "gitsyncd run" in ran.complaint[1]


def test_a_socket_that_a_dead_daemon_left_is_no_daemon(ready: Agent) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(ready.socket))

    ran = ready.run("status")

    assert ran.code == 2
    assert "gitsyncd run" in ran.complaint[1]


# --- arguments ---------------------------------------------------------------------------------------------------------


def test_a_pause_of_no_real_length_is_refused_with_an_example(ready: Agent) -> None:
    ran = ready.run("suspend", "web", "--for", "a while", "--reason", "a test")

    assert ran.code == 2
    what, fix = ran.complaint
    assert "--for" in what
    assert "a while" in what
    assert "30m" in fix


def test_delete_asks_for_a_yes_before_anything_is_asked_of_a_daemon(ready: Agent) -> None:
    ran = ready.run("delete", "web")

    assert ran.code == 1
    what, fix = ran.complaint
    assert "deletes everything" in what
    assert "gitsyncd delete web --yes" in fix


@pytest.mark.parametrize("command", ["plan", "diff"])
def test_a_plan_of_a_target_that_the_agent_file_does_not_have_names_those_it_has(ready: Agent, command: str) -> None:
    ran = ready.run(command, "wev")

    assert ran.code == 2
    what, fix = ran.complaint
    assert "'wev'" in what
    assert "web@here" in fix


@pytest.mark.parametrize(
    "arguments",
    [(), ("frobnicate",), ("plan", "--frobnicate"), ("approve", "web"), ("status", "--output", "xml"), ("sync",)],
    ids=" ".join,
)
def test_a_wrong_command_line_says_what_is_wrong_and_where_help_is(arguments: tuple[str, ...]) -> None:
    ran = run(*arguments)

    assert ran.code == 2
    assert ran.stdout == ""
    assert "--help" in ran.complaint[1]


# --- what people read --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_shows_examples_that_begin_with_it(command: str) -> None:
    ran = run(command, "--help")

    assert ran.code == 0
    assert f"examples:\n  gitsyncd {command}" in ran.stdout


def test_help_lists_every_command() -> None:
    ran = run("--help")

    listed = [line.split()[0] for line in ran.stdout.splitlines() if line.startswith("    ") and line.strip()]
    assert [command for command in COMMANDS if command not in listed] == []
    assert "examples:" in ran.stdout


def test_a_reader_that_goes_away_ends_a_command_without_a_word() -> None:
    writer = subprocess.Popen([*COMMAND, "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    assert writer.stdout is not None and writer.stderr is not None

    assert writer.stdout.readline() == b"{\n"
    writer.stdout.close()
    said = writer.stderr.read()

    writer.stderr.close()
    assert writer.wait(30) in {0, 141, -signal.SIGPIPE}
    assert said == b""


def test_a_full_disk_under_the_output_of_a_command_is_said() -> None:
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [*COMMAND, "schema"], stdout=full, stderr=subprocess.PIPE, cwd=ROOT, text=True, check=False
        )

    assert ran.returncode == 2
    assert ran.stderr.splitlines() == [
        "gitsyncd: cannot write the answer to standard output: No space left on device",
        "fix: Free some space there, or send the output elsewhere.",
    ]


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
    ids=["plain", "NO_COLOR", "dumb"],
)
def test_colours_are_for_terminals_that_want_them(ready: Agent, environment: dict[str, str], coloured: bool) -> None:
    """On a terminal; the log of a daemon that ends at once is the output."""
    ready.document["agent"]["state_dir"] = "/proc/nowhere"
    ready.write()

    said = _on_a_terminal("run", "--once", "--config", str(ready.file), env=environment)

    assert "configuration loaded" in said
    assert ("\033[" in said) is coloured


def _on_a_terminal(*arguments: str, env: dict[str, str]) -> str:
    ours, theirs = pty.openpty()
    kept = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=theirs, stderr=subprocess.DEVNULL, cwd=ROOT, env={**kept, **env}
    )
    os.close(theirs)
    said = b""
    try:
        while piece := os.read(ours, 65536):
            said += piece
    except OSError:
        pass  # how a terminal says that its other end is closed
    finally:
        os.close(ours)
        process.wait(30)
    return said.decode()
