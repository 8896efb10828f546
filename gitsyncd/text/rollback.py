"""What a rollback does or did, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gitsyncd.text.layout import clean


def rollback_text(answer: Mapping[str, Any]) -> str:
    """Of a commit that was pushed, or (without `commit`) of one that would be."""
    commit, request = answer.get("commit"), answer.get("pull_request")
    path = clean(answer["path"] or "the whole repository")
    start, end, branch = answer["from"][:8], answer["to"][:8], clean(answer["branch"])
    if request:
        first = f"{clean(answer['target'])}: {path} would go from {start} back to {end}: {clean(request)}"
    elif commit:
        first = f"{clean(answer['target'])}: {path} goes from {start} back to {end} by commit {branch}@{commit[:8]}"
    else:
        first = f"{clean(answer['target'])}: a commit on {branch} would take {path} from {start} back to {end}"
    lists = {
        "quarantined": [_entry(entry) for entry in answer["quarantined"]],
        "taken back as well, without having been applied": [commit[:8] for commit in answer["reverted"]],
        "passed over, since they are quarantined": [commit[:8] for commit in answer["passed_over"]],
    }
    return "; ".join([first, *(f"{what}: {', '.join(found)}" for what, found in lists.items() if found)])


def _entry(entry: Mapping[str, Any]) -> str:
    tag, digest = entry["tag"], entry["digest"]
    return clean(entry["image"] + (f":{tag}" if tag else "") + (f"@{digest}" if digest else ""))
