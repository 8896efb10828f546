"""Where one may not go back to, and what is kept from coming back."""

from typing import Any

import pytest

from gitsyncd.core.going_back import Barred, kept_out
from gitsyncd.model.image import ImagePolicy, PinDigest, QuarantinedCommit, Rule, Select

FRONT = "registry.example.com/team/front"
OLD, NEW = (f"sha256:{digit * 64}" for digit in "ab")
BAD = "c" * 40


def policy(rule: Rule = Rule.DIGEST, wanted: str = "stable", **facts: Any) -> ImagePolicy:
    return ImagePolicy(name="front", image=FRONT, select=Select(rule=rule, wanted=wanted), **facts)


def listed(before: list[str], after: list[str], *policies: ImagePolicy) -> list[tuple[str, str, str]]:
    return [(entry.image, entry.tag, entry.digest) for entry in kept_out(before, after, policies)]


@pytest.mark.parametrize(
    ("before", "after", "entries"),
    [
        ([f"{FRONT}:1.2"], [f"{FRONT}:1.1"], [(FRONT, "1.2", "")]),
        ([f"{FRONT}:1.2@{NEW}"], [f"{FRONT}:1.1@{OLD}"], [(FRONT, "1.2", NEW)]),
        ([f"{FRONT}@{NEW}"], [f"{FRONT}:1.1"], [(FRONT, "", NEW)]),
        # what stays in use is not listed, however it is written
        ([f"{FRONT}:1.1"], [f"{FRONT}:1.1"], []),
        ([f"{FRONT}:1.1"], [f"{FRONT}:1.1@{OLD}"], []),
        ([f"{FRONT}:1.2@{OLD}"], [f"{FRONT}:1.1@{OLD}"], [(FRONT, "1.2", "")]),
        (["docker.io/library/nginx:1"], ["nginx:1"], []),
        (["nginx:2", "docker.io/library/nginx:2"], ["nginx:1"], [("docker.io/library/nginx", "2", ""), ("nginx", "2", "")]),
        # a tag that moved: its digest alone
        ([f"{FRONT}:stable@{NEW}"], [f"{FRONT}:stable@{OLD}"], [(FRONT, "", NEW)]),
        # what names nothing that could be selected
        ([FRONT, "no image!", f"{FRONT}@sha256:1"], [], []),
        ([f"{FRONT}:1.2", f"{FRONT}:1.2"], [], [(FRONT, "1.2", "")]),
    ],
)  # fmt: skip
def test_what_the_end_has_not_is_listed(
    before: list[str], after: list[str], entries: list[tuple[str, str, str]]
) -> None:
    assert listed(before, after) == entries


def test_where_a_policy_follows_the_digest_of_a_tag_the_tag_stays_usable() -> None:
    before, after = [f"{FRONT}:stable@{NEW}"], [f"{FRONT}:1.0@{OLD}"]

    assert listed(before, after, policy()) == [(FRONT, "", NEW)]
    assert listed([f"{FRONT}:stable"], after, policy()) == []
    assert listed(before, after, policy(wanted="edge")) == [(FRONT, "stable", NEW)]
    assert listed(before, after, policy(Rule.SEMVER, ">=1", pin_digest=PinDigest.ALWAYS)) == [(FRONT, "stable", NEW)]


@pytest.mark.parametrize(
    ("commit", "content", "tree", "why"),
    [
        (BAD, "", "", "is quarantined (crashes)"),
        ("d" * 40, "x", "", "wants the same as a commit that is quarantined"),
        ("d" * 40, "", "t", "wants the same as a commit that is quarantined"),
        ("d" * 40, "y", "u", ""),
        ("d" * 40, "", "", ""),
    ],
)
def test_what_is_barred_is_the_commit_and_whatever_is_equal_to_it(
    commit: str, content: str, tree: str, why: str
) -> None:
    barred = Barred(commits={BAD: QuarantinedCommit(commit=BAD, reason="crashes")}, contents={"x"}, trees={"t"})

    assert barred.against(commit, content, tree, ["x.example/a:1"]) == why
