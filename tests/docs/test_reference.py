"""The reference says what the code says: printed tables, the log's events and keys, errors, commands."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from gitsyncd import cli
from gitsyncd.model.report import HealthStatus, TargetState
from tests.docs import generate

ROOT = Path(__file__).parents[2]
PAGES = generate.PAGES
LEVELS = {"debug", "info", "warning", "error"}
TREES = [ast.parse(file.read_text()) for file in sorted((ROOT / "gitsyncd").rglob("*.py"))]
FUNCTIONS = [
    node for tree in TREES for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
]


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def strings(node: ast.expr) -> list[str]:
    """The phrases that an expression may stand for."""
    return [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]


def keys_of(call: ast.Call) -> set[str]:
    """Keys of a log line: keyword arguments, and of `**` what the dict or the function named there gives."""
    keys: set[str] = set()
    for keyword in call.keywords:
        if keyword.arg is not None:
            keys.add(keyword.arg)
        elif isinstance(keyword.value, ast.Dict):
            keys.update(constant_keys(keyword.value))
        elif isinstance(keyword.value, ast.Call):
            keys |= keys_returned_by(ast.unparse(keyword.value.func).rpartition(".")[2])
    return keys


def constant_keys(value: ast.Dict) -> set[str]:
    return {key.value for key in value.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}


def keys_returned_by(name: str) -> set[str]:
    """Keys of the dicts that a function of the code returns as it builds them."""
    return {
        key
        for function in FUNCTIONS
        if function.name == name
        for node in ast.walk(function)
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Dict)
        for key in constant_keys(node.value)
    }


def logged() -> Iterator[tuple[str, set[str]]]:
    """Every event that the code may log, with its keys."""
    for function in FUNCTIONS:
        assigned = {
            ast.unparse(node.targets[0]): node.value for node in ast.walk(function) if isinstance(node, ast.Assign)
        }
        for call in ast.walk(function):
            if not (isinstance(call, ast.Call) and call.args and says(call.func, assigned)):
                continue
            event = assigned.get(ast.unparse(call.args[0]), call.args[0])
            for phrase in [event.body, event.orelse] if isinstance(event, ast.IfExp) else [event]:
                for text in strings(phrase):
                    yield text, keys_of(call)


def says(func: ast.expr, assigned: dict[str, ast.expr]) -> bool:
    """Whether a call writes to the log: `log.info(…)`, or a name that stands for such a method."""
    if isinstance(func, ast.Name) and func.id in assigned:
        meant = assigned[func.id]
        choices = [meant.body, meant.orelse] if isinstance(meant, ast.IfExp) else [meant]
        return all(isinstance(choice, ast.Attribute) and says(choice, {}) for choice in choices)
    return (
        isinstance(func, ast.Attribute)
        and func.attr in LEVELS
        and ast.unparse(func.value).rpartition(".")[2].strip("_") == "log"
    )


def documented() -> dict[str, set[str]]:
    rows = re.findall(r"^\| `([a-z ]+)` \| [^|]*\| ([^|]*)\| [^|]*\|$", page("reference/log.md"), flags=re.MULTILINE)
    return {event: set(re.findall(r"`(\w+)`", keys)) for event, keys in rows}


def test_every_event_of_the_code_is_on_the_page_and_no_other() -> None:
    in_code = {event for event, _ in logged()}

    assert set(documented()) == in_code


@pytest.mark.parametrize("event", sorted(documented()))
def test_an_event_has_the_keys_that_the_page_says(event: str) -> None:
    in_code = set().union(*(keys for name, keys in logged() if name == event))

    assert documented()[event] == in_code


@pytest.mark.parametrize("file", PAGES, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_a_page_prints_is_what_the_code_says(file: Path) -> None:
    assert generate.filled(file.read_text()) == file.read_text(), "python -m tests.docs.generate"


def test_everything_that_can_be_printed_stands_on_a_page() -> None:
    printed = {name for file in PAGES for name in re.findall(r"<!-- printed: ([a-z-]+) -->", file.read_text())}

    assert printed == set(generate.PRINTED)


def test_every_leaf_of_the_error_tree_has_a_section() -> None:
    sections = re.findall(r"^## (\w+)$", page("reference/errors.md"), flags=re.MULTILINE)

    assert sections == [error.__name__ for error in generate.leaves()]


def test_every_command_has_a_section_with_its_exit_codes() -> None:
    sections = re.findall(r"^## `(\w+)`$", page("reference/commands.md"), flags=re.MULTILINE)

    assert sections == list(generate.commands()) == list(generate.EXIT_CODES)


def test_the_keys_of_status_are_on_the_page() -> None:
    table = page("reference/json.md").partition("| Key of a target |")[2].partition("| State |")[0]
    documented_keys = set(re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE))

    assert documented_keys == keys_returned_by("_target_status")


def test_every_state_and_every_health_is_on_the_page() -> None:
    text = page("reference/json.md")

    assert [state for state in TargetState if f"| `{state}` |" not in text] == []
    assert [status for status in HealthStatus if f"`{status}`" not in text] == []


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["sync", "web"],
        ["approve", "web", "--plan", "0" * 32],
        ["suspend", "web", "--for", "1m", "--reason", "x"],
        ["resume", "web"],
        ["delete", "web", "--yes"],
    ],
    ids=lambda command: command[0],
)
def test_the_exit_code_without_a_daemon_is_the_one_on_the_page(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gitsyncd.yaml").write_text("version: 1\nagent: {name: docs, socket: agent.sock}\n")

    code = cli.main([*command, "--config", str(tmp_path / "gitsyncd.yaml")])

    assert "fix: " in capsys.readouterr().err
    assert [number for number, meaning in generate.EXIT_CODES[command[0]] if "no daemon answers" in meaning] == [
        str(code)
    ]


def test_the_keys_of_a_plan_are_on_the_page() -> None:
    example = page("reference/json.md").partition("```json\n")[2].partition("```")[0]
    target = orjson.loads(example)["targets"][0]

    assert set(target) == keys_returned_by("show") | {"held"}
    assert set(target["changes"][0]) == {"object", "operation", "reason", "path", "fields"}


def test_the_keys_of_rbac_are_on_the_page() -> None:
    table = page("reference/json.md").partition("| Key of a cluster |")[2].partition("\n\n")[0]
    documented_keys = set(re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE))

    given_by_others = {"targets", "recorded", "everything", "excess", "excess_complete"}
    assert documented_keys == keys_returned_by("report") | given_by_others
    assert given_by_others - {"targets", "recorded"} == keys_returned_by("_excess") - {"needed"}
