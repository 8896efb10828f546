"""What `rbac` prints: roles as YAML that can be applied, and beside it what a credential has too little or too much of.

Only the wording and the layout stand here; the facts are those of `--output json`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from gitsyncd.model.printable import safe_json
from gitsyncd.text.layout import Paint, clean

Json = Mapping[str, Any]

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9._/-]*")
"""Scalars that need no quotes in YAML, unless they are one of these words."""
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "null"})
_SHOWN = 5
"""Places that are named in one line."""


def rbac_yaml(answer: Json) -> str:
    """One document per object; a comment says for which clusters. Clusters with the same needs are printed once."""
    parts: dict[str, list[Json]] = {}
    for cluster in answer["clusters"]:
        text = "".join(f"---\n{_document(item)}" for item in cluster["objects"])
        parts.setdefault(text, []).append(cluster)
    return "".join(f"# {_head(clusters, answer['scope'])}\n{text}" for text, clusters in parts.items()).rstrip("\n")


def _head(clusters: Sequence[Json], scope: str) -> str:
    names = [clean(cluster["cluster"]) for cluster in clusters]
    targets = sorted({clean(target) for cluster in clusters for target in cluster["targets"]})
    who = ", ".join(targets) or "the agent itself"
    return f"cluster{'s' * (len(names) > 1)} {', '.join(names)}: what {who} needs ({scope})"


def _document(item: Json) -> str:
    metadata = ", ".join(f"{key}: {_scalar(value)}" for key, value in item["metadata"].items())
    lines = [f"apiVersion: {item['apiVersion']}", f"kind: {item['kind']}", f"metadata: {{{metadata}}}"]
    if "rules" in item:
        lines += ["rules:", *(line for rule in item["rules"] for line in _rule_lines(rule))]
    if "roleRef" in item:
        lines += [f"roleRef: {_flow(item['roleRef'])}", "subjects:", *(f"  - {_flow(one)}" for one in item["subjects"])]
    return "\n".join(lines) + "\n"


def _rule_lines(rule: Json) -> Iterable[str]:
    for index, (key, values) in enumerate(rule.items()):
        yield f"  {' ' if index else '-'} {key}: {_list(values)}"


def rule_text(rule: Json) -> str:
    """One rule on one line, as it can be pasted into a Role."""
    return "{" + ", ".join(f"{key}: {_list(values)}" for key, values in rule.items()) + "}"


def _flow(value: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{key}: {_scalar(text)}" for key, text in value.items()) + "}"


def _list(values: Iterable[str]) -> str:
    return f"[{', '.join(map(_scalar, values))}]"


def _scalar(text: str) -> str:
    plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
    return text if plain else safe_json(orjson.dumps(text).decode())


# --- beside it ------------------------------------------------------------------------------------------------------


def rbac_remarks(answer: Json, *, colours: bool) -> str:
    """Too little, too much, and what has to be known before the roles are applied."""
    paint = Paint(on=colours)
    lines = [line for cluster in answer["clusters"] for line in _remarks(cluster, paint)]
    if len(answer["clusters"]) > 1:
        lines.append("Each part is for the clusters that its comment names: TARGET@CLUSTER prints one alone.")
    return "\n".join(lines)


def _remarks(cluster: Json, paint: Paint) -> Iterable[str]:
    yield paint(f"cluster {clean(cluster['cluster'])}, as {clean(cluster['user'])}", "bold")
    too_much = cluster["everything"] or cluster["excess"]
    if not lacks(cluster) and not too_much:
        yield f"  {paint('the credential has what is needed', 'green')}"
    for row in cluster["missing"]:
        who = clean(row["target"]) or "the agent itself"
        yield f"  {paint('too little', 'red')}  {_where(row['namespace'])}: {clean(rule_text(row['rule']))} for {who}"
    for item in (*cluster["untold"], *cluster["withheld"]):
        yield f"  {paint('left out', 'red')}  {clean(item['object'])}: {clean(item['error'])}"
        yield f"    fix: {clean(item['hint'])}"
    if cluster["everything"]:
        yield f"  {paint('TOO MUCH', 'red')}  it may do everything, as system:masters and cluster-admin may"
        yield "    fix: Give the agent a credential of its own, with the roles printed here and nothing else."
    else:
        yield from (_excess(row, paint) for row in cluster["excess"] or ())
    yield from _hints(cluster)


def lacks(cluster: Json) -> bool:
    """Whether the credential of a cluster lacks something, or may do so for all that is known."""
    return bool(cluster["missing"] or cluster["untold"]) or not all(item["allowed"] for item in cluster["withheld"])


def _excess(row: Json, paint: Paint) -> str:
    what = paint("TOO MUCH" if row["wildcard"] else "too much", "red" if row["wildcard"] else "yellow")
    needed = [clean(place) or "the whole cluster" for place in row["needed"]]
    some = ", ".join(needed[:_SHOWN]) + (f" and {len(needed) - _SHOWN} more" if len(needed) > _SHOWN else "")
    part = f", needed only for {some}" if needed else ", not needed"
    return f"  {what}  {_where(row['namespace'])}: {clean(rule_text(row['rule']))}{part}"


def _where(namespace: str) -> str:
    return f"in namespace {clean(namespace)}" if namespace else "everywhere"


def _hints(cluster: Json) -> Iterable[str]:
    if cluster["missing"]:
        yield "  fix: Apply what is printed on standard output, bound to that user: --user or --service-account."
    if cluster["absent_namespaces"]:
        yield f"  note: these namespaces are not there yet: {', '.join(map(clean, cluster['absent_namespaces']))}"
    if not cluster["recorded"]:
        yield "  note: what is recorded may not be read, so kinds that have left Git are not among the rules"
    if cluster["grants"]:
        names = ", ".join(map(clean, cluster["grants"][:_SHOWN]))
        more = len(cluster["grants"]) - _SHOWN
        yield f"  note: what {names}{f' and {more} more' if more > 0 else ''} in Git grants had to be added"
    if cluster["excess"] is None:
        yield "  note: what is too much cannot be told, since not every target of the cluster could be rendered"
    elif not cluster["excess_complete"]:
        yield "  note: there may be more that is too much: an authorizer of this cluster does not list its rules"
