"""The container image as its file describes it. That what it describes runs is shown in tests/e2e/test_image.py."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Containerfile").read_text()
LINES = [line.strip() for line in TEXT.splitlines() if line.strip() and not line.startswith("#")]
FINAL = LINES[LINES.index("FROM scratch") :]


def of(instruction: str, lines: list[str] = LINES) -> list[str]:
    return [line.removeprefix(instruction + " ") for line in lines if line.startswith(instruction + " ")]


def test_the_image_begins_with_nothing_and_gets_what_was_put_together() -> None:
    assert of("FROM") == ["${BASE} AS build", "scratch"]
    assert of("COPY", FINAL) == ["--from=build /image /"]
    assert of("RUN", FINAL) == of("ADD") == []


def test_it_runs_as_a_user_by_number() -> None:
    assert re.fullmatch(r"[1-9]\d{4,}:[1-9]\d{4,}", of("USER", FINAL)[0])


def test_it_is_the_daemon_and_takes_other_commands() -> None:
    assert json.loads(of("ENTRYPOINT")[0]) == ["/usr/local/bin/gitsyncd"]
    assert json.loads(of("CMD")[0]) == ["run"]


def test_nothing_is_run_by_a_shell() -> None:
    assert all(command.startswith("[") for command in [*of("RUN"), *of("ENTRYPOINT"), *of("CMD")])


def test_every_package_is_checked_by_hash() -> None:
    installs = [command for command in of("RUN") if "pip" in command]

    assert installs
    assert all("--require-hashes" in command for command in installs)


def test_the_base_is_an_argument_and_how_to_pin_it_is_told() -> None:
    assert of("ARG") == ["BASE=python:3.13-slim", "SOURCE_DATE_EPOCH=0"]
    assert "BASE=python@sha256:" in TEXT
    assert "BASE=python@sha256:" in (ROOT / "docs/how-to/run-in-a-container.md").read_text()


def test_what_is_copied_into_the_build_exists() -> None:
    sources = [name for line in of("COPY") if not line.startswith("--from") for name in line.split()[:-1]]

    assert [name for name in sources if not (ROOT / name).exists()] == []
