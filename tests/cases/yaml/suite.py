"""What YAML means to Kubernetes, as files: `accepted`, `refused`, and `stricter` than kubectl on purpose.

Each case is a file and, beside it, `.expected`: for accepted ones the objects as kubectl prints them, else the line and the
words of our error. Each object carries the label that the question to kubectl sets, so that its answer is the file's
meaning and nothing more. `python -m tests.cases.yaml.suite` writes all expectations afresh; look at the difference.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from gitsyncd.edges.yaml.loader import YamlError
from gitsyncd.edges.yaml.manifests import Reader
from tests.sandbox import binaries

FOLDER = Path(__file__).parent


def cases(kind: str) -> list[Path]:
    return sorted(path for path in (FOLDER / kind).iterdir() if path.suffix in {".yaml", ".json"})


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


ACCEPTED = cases("accepted")
REFUSED = cases("refused")
STRICTER = cases("stricter")


def meanings() -> list[tuple[Path, str]]:
    """Every accepted file, and every key of its first object's `data` as a case of its own; an empty key for the whole."""
    found = []
    for path in ACCEPTED:
        found.append((path, ""))
        expected = json.loads(expectation(path))
        if len(expected) == 1:
            found.extend((path, key) for key in expected[0].get("data") or {})
    return found


def expectation(path: Path) -> str:
    return path.with_name(f"{path.name}.expected").read_text(encoding="utf-8")


def expected_objects(path: Path) -> list[Any]:
    return [as_read(value) for value in json.loads(expectation(path))]


def our_objects(path: Path) -> list[Any]:
    """What our reader makes of the file. Raises `YamlError`."""
    return [as_read(json.loads(declared.body)) for declared in Reader().read(path.read_bytes())]


def our_error(path: Path) -> str:
    try:
        Reader().read(path.read_bytes())
    except YamlError as error:
        return f"{error.line}: {error.message}\n"
    return "none\n"


def kubectl_objects(path: Path) -> list[Any] | None:
    """What kubectl makes of it, without a server; None when it refuses."""
    question = [str(binaries.program("kubectl")), "label", "--local", "-f", str(path), "a=b", "--output", "json"]
    answer = subprocess.run(question, capture_output=True, text=True, env={"HOME": "/nonexistent"}, check=False)
    if answer.returncode != 0:
        return None
    objects, position, decoder = [], 0, json.JSONDecoder()
    while rest := answer.stdout[position:].lstrip():
        value, end = decoder.raw_decode(rest)
        position = len(answer.stdout) - len(rest) + end
        objects.append(value)
    return objects


def as_read(value: Any) -> Any:
    """Numbers as the API server reads them from JSON: beyond 64 bits they are floats, and 1 is not 1.0 nor true."""
    if isinstance(value, dict):
        return {key: as_read(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_read(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        value = float(value)
    return (type(value).__name__, value)


def main() -> None:
    for path in ACCEPTED:
        text = json.dumps(kubectl_objects(path), indent=1, ensure_ascii=False, sort_keys=True)
        path.with_name(f"{path.name}.expected").write_text(text + "\n", encoding="utf-8")
    for path in REFUSED + STRICTER:
        path.with_name(f"{path.name}.expected").write_text(our_error(path), encoding="utf-8")


if __name__ == "__main__":
    main()
