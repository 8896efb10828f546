"""The tutorial, played as it is written: every command, every file, and what each command is said to answer."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/tutorials/first-sync.md").read_text()
FOLDER = "/tmp/first-sync"  # where the page has it
EDIT = "sed -i 's/greeting: hello/greeting: good morning/' fleet/app/shop.yaml"
"""What the page asks for in words."""
IDENTITY = {
    f"GIT_{role}_{key}": f"you{at}" for role in ("AUTHOR", "COMMITTER") for key, at in (("NAME", ""), ("EMAIL", "@x"))
}

pytestmark = [pytest.mark.real, pytest.mark.slow]


def script(folder: Path) -> tuple[str, list[tuple[str, str]]]:
    """One bash script of all that the page does, and its commands with what the page says that they answer."""
    lines, said = ["set -m"], []
    parts = re.split(r"^```(\w*)\n(.*?)^```\n", TEXT, flags=re.MULTILINE | re.DOTALL)
    for prose, kind, body in zip(parts[::3], parts[1::3], parts[2::3], strict=False):
        if "good morning` in place of" in prose:
            lines.append(EDIT)
        if kind == "yaml":
            file = re.findall(r"`([\w/.-]+\.yaml)`", prose)[-1]
            lines.append(f"cat > {file} <<'END'\n{body}END")
        for command, answer in (
            re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", body, flags=re.MULTILINE) if kind == "console" else ()
        ):
            said.append((command, answer))
            lines += [f"echo '@@@ {len(said) - 1}'", *at_its_place(command), command]
    return "\n".join(lines).replace(FOLDER, str(folder)) + "\n", said


def at_its_place(command: str) -> list[str]:
    """The page changes folders in words, and a person takes longer than a script."""
    if command.startswith("python -m tests"):
        return [f"cd {ROOT}"]
    if command.startswith("gitsyncd sync app --wait"):
        return ["for try in $(seq 100); do [ -S agent.sock ] && break; sleep 0.1; done"]
    if command.startswith(("grep", "tail")):
        pattern = "stopped" if command.startswith("tail") else command.split()[1]
        count = 3 if pattern == "reverted" else 1
        return [f'for try in $(seq 100); do [ "$(grep -c {pattern} run.log)" -ge {count} ] && break; sleep 0.1; done']
    return []


def shape(text: str, folder: Path | None = None) -> list[str]:
    """An answer without what differs from one day to the next."""
    text = text.replace(str(folder), FOLDER) if folder else text
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z?", "TIME", text)
    text = re.sub(r"\b[0-9a-f]{8,}\b", "HEX", text)
    return [
        re.sub(r"\d+(\.\d+)?", "N", re.sub(r"\s+", " ", line)).strip() for line in text.splitlines() if line.strip()
    ]


def test_the_tutorial_works_as_it_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    commands, said = script(folder)
    commands = commands.replace("make env\n", "").replace('export PATH="$PWD/.venv/bin:$PATH"\n', "")
    environment = {**os.environ, **IDENTITY, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    try:
        done = subprocess.run(
            ["bash"], input=commands, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
        )
    finally:
        end = [sys.executable, "-m", "tests.sandbox", "down", "--dir", str(folder / "sandbox")]
        subprocess.run(end, cwd=ROOT, check=True, capture_output=True)

    answers = dict(re.findall(r"@@@ (\d+)\n(.*?)(?=^@@@ |\Z)", done.stdout, flags=re.MULTILINE | re.DOTALL))
    for number, (command, answer) in enumerate(said):
        if answer:
            assert shape(answers[str(number)], folder) == shape(answer), (command, done.stderr)
