"""The recipes of the page on jq, run over a log with a line of each kind that they look for."""

import json
import re
from typing import Any

import jq
import pytest

from tests.docs.test_examples import ROOT, fences

PAGE = ROOT / "docs/how-to/read-the-log.md"
RECIPE = re.compile(r"^jq (?:-[rc] )?'([^']*)' gitsyncd\.log")
AT = "2026-03-01T12:00:00.000000Z"
REVISION = f"main@sha1:{'ab' * 20}"


def line(event: str, level: str = "info", **facts: Any) -> dict[str, Any]:
    return {"timestamp": AT, "level": level, "event": event, **facts}


FRONT = {"target": "web@eu-1", "object": "Deployment.apps/web/front"}
EDIT = {
    **FRONT,
    "kind": "changed",
    "fields": [".spec.replicas"],
    "manager": "kubectl-edit",
    "writer": "person",
    "at": AT,
}
LOG = [
    line("daemon started", version="0.1.0", agent="edge", sources=1, clusters=1, targets=1),
    line("target in sync", target="web@eu-1", revision=REVISION, objects=3, took_s=0.2),
    line("drift reverted", "warning", **EDIT, took_s=0.05),
    line("foreign field", "warning", **FRONT, fields=[".x"], manager="tool", writer="unknown", hint="agent: {writers: …}"),
    line("object pruned", target="web@eu-1", object="ConfigMap/web/old", reason="removed in revision"),
    line("object failed", "error", **FRONT, operation="create", error="denied", remedy="fix-repo", hint="Pin it."),
    line("revision held", "error", source="fleet", revision=REVISION, reason="rewound", remedy="approve", hint="Look."),
    line("fight detected", "error", **FRONT, manager="tool", reverts=6),
    line("cluster recovered", cluster="eu-1", since="2026-03-01T11:00:00Z", error="no answer"),
]  # fmt: skip

EXPECTED: list[list[Any]] = [
    [
        f"{AT} web@eu-1 object failed: denied\n  Pin it.",
        f"{AT} fleet revision held: rewound\n  Look.",
        f"{AT} web@eu-1 fight detected: \n  ",
    ],
    [f"{AT}\tDeployment.apps/web/front\tkubectl-edit\tperson\t.spec.replicas"],
    ["Deployment.apps/web/front"],
    [0.05],
    [f"{AT}\tweb@eu-1\t{REVISION}"],
    [f"{AT}\tweb@eu-1\tConfigMap/web/old\tremoved in revision"],
    [LOG[2], LOG[3], LOG[5], LOG[7]],
    [f"eu-1\t2026-03-01T11:00:00Z\t{AT}\tno answer"],
    ["agent: {writers: …}"],
]


def recipes() -> list[str]:
    found = [RECIPE.match(block) for block in fences(PAGE, "sh")]
    return [match[1] for match in found if match]


def test_every_block_of_the_page_is_a_recipe_that_is_run() -> None:
    assert len(recipes()) == len(fences(PAGE, "sh")) == len(EXPECTED)


@pytest.mark.parametrize(("recipe", "expected"), list(zip(recipes(), EXPECTED, strict=True)))
def test_a_recipe_finds_what_the_page_says(recipe: str, expected: list[Any]) -> None:
    text = "\n".join(map(json.dumps, LOG))

    assert jq.compile(recipe).input_text(text).all() == expected
