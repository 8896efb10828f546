"""What must not be seen is not there any more."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitsyncd.core.fields import FieldChange, path_text
from gitsyncd.core.redact import MARK, redact_url, redact_value, redact_values, scrub

LAST = "f:kubectl.kubernetes.io/last-applied-configuration"
ANNOTATION = ("f:metadata", "f:annotations", LAST)


def change(keys: tuple[str, ...], before: Any, after: Any) -> FieldChange:
    return FieldChange(path=path_text(keys), keys=keys, before=before, after=after)


@pytest.mark.parametrize(
    ("group", "kind", "keys", "before", "shown"),
    [
        ("", "Secret", ("f:data", "f:password"), "c2VjcmV0", MARK),
        ("", "Secret", ("f:data",), {"password": "c2VjcmV0"}, MARK),
        ("", "Secret", ("f:stringData", "f:password"), "secret", MARK),
        ("", "Secret", ("f:type",), "Opaque", "Opaque"),
        ("", "Secret", ("f:metadata", "f:labels", "f:data"), "x", "x"),
        ("", "Secret", (), {"data": {"a": "s"}, "type": "Opaque"}, {"data": MARK, "type": "Opaque"}),
        ("", "Secret", ("f:data",), None, None),
        ("", "ConfigMap", ("f:data", "f:a"), "open", "open"),
        ("vault.example.com", "Secret", ("f:data", "f:a"), "open", "open"),
        ("", "ConfigMap", ANNOTATION, "{}", MARK),
        ("apps", "Deployment", ("f:metadata", "f:annotations"), {LAST[2:]: "{}", "b": "1"}, {LAST[2:]: MARK, "b": "1"}),
        (
            "apps",
            "Deployment",
            ("f:metadata",),
            {"annotations": "odd", "name": "a"},
            {"annotations": "odd", "name": "a"},
        ),
        ("apps", "Deployment", ("f:metadata",), {"annotations": {LAST[2:]: None}}, {"annotations": {LAST[2:]: None}}),
    ],
)
def test_secret_values_are_hidden_and_nothing_else(group: str, kind: str, keys: Any, before: Any, shown: Any) -> None:
    assert redact_value(group, kind, keys, before) == shown

    (found,) = redact_values(group, kind, [change(keys, before, None)])
    assert (found.path, found.before, found.after, found.differs) == (path_text(keys), shown, None, True)


def test_redaction_leaves_the_original_alone() -> None:
    body = {"data": {"a": "secret"}}

    redact_value("", "Secret", (), body)

    assert body == {"data": {"a": "secret"}}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pass@git.example.com/a.git", "https://git.example.com/a.git"),
        ("https://token@git.example.com:8443/a", "https://git.example.com:8443/a"),
        ("https://user:p@ss@git.example.com/a", "https://git.example.com/a"),
        ("ssh://git@git.example.com/a@b", "ssh://git.example.com/a@b"),
        ("https://git.example.com/a@b?c=d@e", "https://git.example.com/a@b?c=d@e"),
        ("git@git.example.com:a/b.git", "git@git.example.com:a/b.git"),
        ("file:///srv/git/a", "file:///srv/git/a"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_user_and_password(url: str, shown: str) -> None:
    assert redact_url(url) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("401 for https://u:p%40ss@h/r: p@ss", "401 for https://h/r: ***"),
        ("sent cEBzcw== and p%40ss", "sent *** and ***"),
        ("Authorization: Bearer abcdefgh.ijkl", "Authorization: Bearer ***"),
        ("authorization: basic dTpwQHNz", "authorization: basic ***"),
        ("the basic idea", "the basic idea"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_known_secrets_are_hidden_in_every_form_in_which_they_travel(text: str, shown: str) -> None:
    assert scrub(text, ["p@ss\n", "", "  "]) == shown


@given(
    secret=st.text(st.characters(exclude_categories=["Cs", "Zs", "Cc"], exclude_characters="*"), min_size=4),
    before=st.text(),
    after=st.text(),
)
def test_no_text_holds_a_secret_after_scrubbing(secret: str, before: str, after: str) -> None:
    encoded = base64.b64encode(secret.encode()).decode()

    shown = scrub(f"{before}{secret}{after}{encoded}", [secret])

    assert secret not in shown
    assert encoded not in shown
