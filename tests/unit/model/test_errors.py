"""The tree of failures: each says what, on what, and who has to do something about it."""

from collections.abc import Iterator

import pytest

from gitsyncd.model import errors
from gitsyncd.model.errors import (
    AdmissionUnavailable,
    Changed,
    ClusterDenied,
    ClusterError,
    ClusterReplaced,
    ClusterRestored,
    ClusterUnreachable,
    ConfigError,
    Conflict,
    Expired,
    ForgeDenied,
    ForgeError,
    ForgeRefused,
    ForgeUnreachable,
    GitsyncdError,
    ImageNotFound,
    Immutable,
    KindUnknown,
    LeaseLost,
    LocalError,
    ManifestInvalid,
    MirrorDamaged,
    Mistake,
    NotFound,
    PlanRefused,
    PushContended,
    PushRefused,
    RegistryDenied,
    RegistryError,
    RegistryThrottled,
    RegistryUnreachable,
    Rejected,
    Remedy,
    RendererFailed,
    RenderError,
    RendererTimedOut,
    RevisionNotFound,
    RevisionNotTrusted,
    SourceDenied,
    SourceError,
    SourceTooLarge,
    SourceUnreachable,
    StandingBy,
    StateError,
    Throttled,
    TooManyCommits,
    UsageError,
)

REMEDIES: dict[type[GitsyncdError], Remedy] = {
    ConfigError: Remedy.FIX_CONFIG,
    SourceUnreachable: Remedy.WAIT,
    SourceDenied: Remedy.FIX_CONFIG,
    RevisionNotFound: Remedy.FIX_CONFIG,
    RevisionNotTrusted: Remedy.APPROVE,
    SourceTooLarge: Remedy.FIX_REPO,
    MirrorDamaged: Remedy.WAIT,
    PushRefused: Remedy.FIX_REPO,
    PushContended: Remedy.WAIT,
    TooManyCommits: Remedy.WAIT,
    RenderError: Remedy.FIX_REPO,
    ManifestInvalid: Remedy.FIX_REPO,
    RendererFailed: Remedy.FIX_REPO,
    RendererTimedOut: Remedy.WAIT,
    PlanRefused: Remedy.APPROVE,
    ClusterUnreachable: Remedy.WAIT,
    Throttled: Remedy.WAIT,
    ClusterDenied: Remedy.FIX_CLUSTER,
    ClusterReplaced: Remedy.APPROVE,
    KindUnknown: Remedy.FIX_REPO,
    NotFound: Remedy.WAIT,
    Rejected: Remedy.FIX_REPO,
    Immutable: Remedy.FIX_REPO,
    AdmissionUnavailable: Remedy.FIX_CLUSTER,
    Conflict: Remedy.APPROVE,
    Changed: Remedy.WAIT,
    LeaseLost: Remedy.WAIT,
    StandingBy: Remedy.WAIT,
    ClusterRestored: Remedy.WAIT,
    Expired: Remedy.WAIT,
    RegistryError: Remedy.WAIT,
    RegistryUnreachable: Remedy.WAIT,
    RegistryThrottled: Remedy.WAIT,
    ForgeUnreachable: Remedy.WAIT,
    ForgeDenied: Remedy.FIX_CONFIG,
    ForgeRefused: Remedy.FIX_CONFIG,
    RegistryDenied: Remedy.FIX_CONFIG,
    ImageNotFound: Remedy.FIX_CONFIG,
    StateError: Remedy.FIX_CLUSTER,
    LocalError: Remedy.FIX_CONFIG,
    UsageError: Remedy.FIX_CONFIG,
}
BRANCHES = {GitsyncdError, SourceError, ClusterError, ForgeError}


def below(kind: type[GitsyncdError]) -> Iterator[type[GitsyncdError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from below(child)


OURS = [kind for kind in below(GitsyncdError) if kind.__module__ == errors.__name__]


@pytest.mark.parametrize(("kind", "remedy"), REMEDIES.items())
def test_every_failure_says_who_has_to_do_something(kind: type[GitsyncdError], remedy: Remedy) -> None:
    assert kind("what happened").remedy is remedy


def test_every_failure_of_the_tree_is_listed_here() -> None:
    assert {*OURS} == {*REMEDIES} | BRANCHES


@pytest.mark.parametrize("kind", OURS)
def test_the_tree_in_the_docstring_names_every_failure(kind: type[GitsyncdError]) -> None:
    lines = [line.split() for line in (errors.__doc__ or "").splitlines()]

    described = [words for words in lines if words and words[0] == kind.__name__]

    assert len(described) == 1
    assert kind not in REMEDIES or described[0][1] == REMEDIES[kind]


def test_the_remedies_are_those_of_the_log() -> None:
    assert [remedy.value for remedy in Remedy] == ["wait", "fix-repo", "fix-config", "fix-cluster", "approve"]


def test_an_error_is_written_with_its_subject_first() -> None:
    assert str(Rejected("spec.x is unknown", subject="ConfigMap/web/a")) == "ConfigMap/web/a: spec.x is unknown"


def test_an_error_without_subject_is_its_message() -> None:
    assert str(Rejected("no")) == "no"


@pytest.mark.parametrize(("hint", "expected"), [("", Immutable.default_hint), ("Do this.", "Do this.")])
def test_a_hint_of_its_own_takes_the_place_of_the_general_one(hint: str, expected: str) -> None:
    assert Immutable("spec.selector is immutable", hint=hint).hint == expected


@pytest.mark.parametrize(
    ("error", "subject"),
    [
        (RenderError("no", file="a.yaml", line=3), "a.yaml:3"),
        (RenderError("no", file="a.yaml"), "a.yaml"),
        (RenderError("no", file="a.yaml", line=3, subject="web"), "web"),
        (RenderError("no"), ""),
    ],
)
def test_a_render_error_is_about_its_place_in_the_repository(error: RenderError, subject: str) -> None:
    assert error.subject == subject


@pytest.mark.parametrize(
    ("mistake", "text"),
    [
        (Mistake(file="a.yaml", line=4, path="agent.name", what="is missing", fix="add it"), "a.yaml:4: agent.name: is missing; add it"),
        (Mistake(file="a.yaml", line=0, path="", what="cannot be read"), "a.yaml: cannot be read"),
    ],
)  # fmt: skip
def test_a_mistake_is_written_with_its_place_and_what_to_write_instead(mistake: Mistake, text: str) -> None:
    assert str(mistake) == text


def test_errors_carry_what_their_reader_needs() -> None:
    mistake = Mistake(file="a.yaml", line=1, path="", what="x")

    carried = (
        ConfigError("no", mistakes=(mistake,)).mistakes,
        Throttled("slow", retry_after_s=7.0).retry_after_s,
        ClusterDenied("no", expired=True).expired,
        Rejected("no", fields=(".spec",)).fields,
    )

    assert carried == ((mistake,), 7.0, True, (".spec",))
