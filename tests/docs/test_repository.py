"""The repository's own promises: its commands, its pins, its decisions."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import gitsyncd

ROOT = Path(__file__).parents[2]
PINS = sorted((ROOT / "requirements").glob("*.txt"))
DECISIONS = sorted(path for path in (ROOT / "docs/decisions").glob("*.md") if path.name != "index.md")


def pinned(file: Path) -> dict[str, str]:
    """Package to version, for lines such as `name==1.2 \\` and `name==1.2 ; marker \\`."""
    lines = re.findall(r"^([a-zA-Z0-9._-]+)==([^ ;\\]+)", file.read_text(), flags=re.MULTILINE)
    return {canonicalize_name(name): version for name, version in lines}


@pytest.mark.parametrize("target", ["demo", "test", "check", "bench", "docs", "sandbox", "sandbox-stop"])
def test_make_help_lists_every_promised_command(target: str) -> None:
    listing = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout

    assert re.search(rf"^  make {target} +\S", listing, flags=re.MULTILINE)


def test_ci_runs_the_test_command_of_the_readme() -> None:
    commands = [line for line in (ROOT / ".ci/run").read_text().splitlines() if line.startswith("exec ")]

    assert commands == ["exec make test </dev/null"]
    assert "`make test`" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("file", PINS, ids=lambda file: file.name)
def test_every_pin_has_a_hash(file: Path) -> None:
    entries = re.split(r"^(?=[a-zA-Z0-9])", file.read_text(), flags=re.MULTILINE)[1:]

    assert [entry.split("==")[0] for entry in entries if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("file", PINS, ids=lambda file: file.name)
def test_pins_name_no_registry_and_no_folder_of_a_machine(file: Path) -> None:
    assert re.findall(r"^.*(?:://|--index-url|--extra-index-url|--find-links).*$", file.read_text(), re.MULTILINE) == []


@pytest.mark.parametrize("file", PINS, ids=lambda file: file.name)
def test_pins_satisfy_what_the_package_declares(file: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = pinned(file)

    for requirement in map(Requirement, project["dependencies"]):
        assert versions[canonicalize_name(requirement.name)] in requirement.specifier


def test_what_runs_is_what_was_tested() -> None:
    runtime, dev = (pinned(ROOT / "requirements" / name) for name in ("runtime.txt", "dev.txt"))

    assert runtime.items() <= dev.items()


def test_the_version_has_a_place_in_the_changelog() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)

    assert headings[0] == "Unreleased"
    assert len(headings) == 1 or headings[1] == gitsyncd.__version__


def test_decisions_are_numbered_without_gaps() -> None:
    assert [path.name[:4] for path in DECISIONS] == [f"{number:04}" for number in range(1, len(DECISIONS) + 1)]


@pytest.mark.parametrize("file", DECISIONS, ids=lambda file: file.stem)
def test_a_decision_has_its_parts_and_stands_in_the_list(file: Path) -> None:
    text = file.read_text()

    assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == [
        "Context",
        "Decision",
        "What else was weighed",
        "Consequences",
        "When to look again",
    ]
    assert len(text.split()) <= 600, "one page"
    assert f"({file.name})" in (ROOT / "docs/decisions/index.md").read_text()
