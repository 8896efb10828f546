"""`gitsyncd rollback`: which exit code means what, and what is sent to the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gitsyncd.cli import main
from gitsyncd.edges.web.local import serve
from gitsyncd.model.errors import GitsyncdError, PushRefused, UsageError

GOOD, BAD, CURE = ("abc"[number] * 40 for number in range(3))
ANSWER: dict[str, Any] = {
    "target": "web@here", "source": "fleet", "branch": "main", "path": "web", "from": BAD, "to": GOOD,
    "quarantined": [{"image": "nginx", "tag": "2", "digest": None}], "reverted": [], "passed_over": [],
}  # fmt: skip


class Rig:
    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.socket = folder / "agent.sock"
        self.file = folder / "gitsyncd.yaml"
        self.file.write_text(
            f"version: 1\nagent: {{name: edge, state_dir: {folder}/state, socket: {self.socket}}}\n"
            "sources: [{name: fleet, url: 'https://git.example.com/fleet.git', ref: {branch: main}}]\n"
            "clusters: [{name: here, in_cluster: true}]\n"
            "targets: [{name: web, source: fleet, path: web}]\n"
        )
        self.answer: dict[str, Any] | GitsyncdError = ANSWER
        self.asked: list[Mapping[str, Any]] = []
        self._capture = capture

    async def _rollback(self, request: Mapping[str, Any]) -> Any:
        self.asked.append(request)
        if isinstance(self.answer, GitsyncdError):
            raise self.answer
        return self.answer

    async def run(self, *arguments: str) -> tuple[int, str]:
        """The exit code, and what is said."""
        async with serve(self.socket, {"rollback": self._rollback}):
            code = await asyncio.to_thread(main, ["rollback", "web@here", "--config", str(self.file), *arguments])
        said = self._capture.readouterr()
        return code, said.out + said.err


@pytest.fixture
def rig(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Rig:
    return Rig(tmp_path, capsys)


async def test_without_yes_it_is_only_said(rig: Rig) -> None:
    code, said = await rig.run()

    assert code == 2
    assert "a commit on main would take web from bbbbbbbb back to aaaaaaaa; quarantined: nginx:2" in said
    assert f"fix: If that is meant: gitsyncd rollback web@here --to {GOOD} --yes" in said
    assert [asked["yes"] for asked in rig.asked] == [False]


async def test_with_yes_it_is_asked_for_once(rig: Rig) -> None:
    rig.answer = ANSWER | {"commit": CURE, "reverted": [CURE], "passed_over": [BAD]}
    code, said = await rig.run("--yes", "--reason", "it crashes")

    assert code == 0
    assert "taken back as well, without having been applied: cccccccc" in said
    assert "passed over, since they are quarantined: bbbbbbbb" in said
    [asked] = rig.asked
    assert (asked["yes"], asked["to"], asked["reason"]) == (True, None, "it crashes")


@pytest.mark.parametrize("arguments", [[], ["--yes"], ["--pull-request"]])
@pytest.mark.parametrize(
    ("error", "code"), [(UsageError("no such commit", hint="x"), 2), (PushRefused("protected", hint="x"), 1)]
)
async def test_wrong_use_and_what_is_not_pushed_are_told_apart(
    rig: Rig, error: GitsyncdError, code: int, arguments: list[str]
) -> None:
    rig.answer = error

    assert (await rig.run(*arguments))[0] == code


@pytest.mark.parametrize("arguments", [["--to", ""], ["--reason", " "], ["--reason", "a\n\nGitsyncd-Approve: web"]])
async def test_arguments_that_mean_nothing_are_wrong_use_and_reach_nobody(rig: Rig, arguments: list[str]) -> None:
    code, said = await rig.run(*arguments, "--yes")

    assert (code, "fix: " in said, rig.asked) == (2, True, [])


def test_without_a_daemon_nothing_is_pushed(rig: Rig) -> None:
    assert main(["rollback", "web@here", "--config", str(rig.file)]) == 1
