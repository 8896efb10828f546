"""What stands in the documentation to be copied is right: agent files, and command lines."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from gitsyncd.cli.parsing import make_parser
from gitsyncd.edges.config.load import load

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
SECTIONS = {"agent", "sources", "clusters", "targets", "images"}
BASE: dict[str, Any] = {
    "version": 1,
    "agent": {"name": "docs", "webhook": {"listen": "127.0.0.1:9499"}},
    "sources": [{"name": "fleet", "url": "https://git.example.com/platform/fleet.git", "ref": {"branch": "main"}}],
    "clusters": [{"name": "eu-1", "kubeconfig": {"file": "eu-1.kubeconfig"}}],
    "targets": [{"name": "web", "source": "fleet"}],
}
"""An agent file into which the fragments of pages fit."""


def fences(page: Path, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def agent_files() -> Iterator[tuple[str, dict[str, Any]]]:
    """Agent files of the documentation, and fragments of such, by page."""
    for page in PAGES:
        for number, text in enumerate(fences(page, "yaml")):
            value = next(yaml.safe_load_all(text))
            if isinstance(value, dict) and value.keys() <= SECTIONS | {"version"}:
                yield f"{page.stem}-{number}", value


def command_lines() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        text = page.read_text()
        inline = re.findall(
            r"`(gitsyncd [a-z][^`\n]*)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
        )
        fenced = [
            line.removeprefix("$ ")
            for kind in ("console", "sh")
            for block in fences(page, kind)
            for line in block.splitlines()
            if line.startswith("$ gitsyncd ")
        ]
        for line in dict.fromkeys(inline + fenced):
            yield page.stem, line


def named_files(value: Any) -> Iterator[str]:
    """Every file that an agent file names."""
    if isinstance(value, dict):
        for key, item in value.items():
            if (key == "file" or key.endswith("_file")) and isinstance(item, str):
                yield item
            yield from named_files(item)
    elif isinstance(value, list):
        for item in value:
            yield from named_files(item)


def program(folder: Path, named: list[str]) -> str:
    """One that is there, in place of those that are named."""
    assert all(name.startswith("/") for name in named), named
    file = folder / "program"
    file.touch()
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize(
    ("page", "value"), list(agent_files()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_an_agent_file_of_the_documentation_is_accepted(page: str, value: dict[str, Any], tmp_path: Path) -> None:
    whole = value if "version" in value else {**BASE, **value, "agent": {**BASE["agent"], **value.get("agent", {})}}
    for name in named_files(whole):
        file = tmp_path / name.replace("{credentials}", "credentials")
        assert file.is_relative_to(tmp_path), f"{page} names {name}: write it relative to the agent file"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("something")
    if "exec_plugins" in whole["agent"]:
        whole["agent"] = {**whole["agent"], "exec_plugins": [program(tmp_path, whole["agent"]["exec_plugins"])]}
    (tmp_path / "gitsyncd.yaml").write_bytes(orjson.dumps(whole))

    configuration = load(tmp_path / "gitsyncd.yaml", {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")})

    assert configuration.targets


def test_the_documentation_has_agent_files_to_check() -> None:
    assert len(list(agent_files())) > 5


@pytest.mark.parametrize(("page", "line"), list(command_lines()))
def test_a_command_line_of_the_documentation_can_be_parsed(page: str, line: str) -> None:
    words = shlex.split(re.split(r" (?:[|>&;#]|2>)", line)[0])

    options = make_parser().parse_args(words[1:])

    assert callable(options.run), page


def test_environment_variables_of_the_documentation_are_those_of_the_code() -> None:
    named = {name for page in PAGES for name in re.findall(r"\$(GITSYNCD_[A-Z_]+)", page.read_text())}
    code = "".join(file.read_text() for file in (ROOT / "gitsyncd").rglob("*.py"))

    assert [name for name in named if f'"{name}"' not in code] == []
    assert named
