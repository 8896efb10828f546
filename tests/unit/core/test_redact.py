"""What must not be seen is not there any more."""

from typing import Any

import pytest

from gitsyncd.core.fields import FieldChange, path_text
from gitsyncd.core.redact import MARK, redact_value, redact_values

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
    assert (found.path, found.before, found.after) == (path_text(keys), shown, None)


def test_redaction_leaves_the_original_alone() -> None:
    body = {"data": {"a": "secret"}}

    redact_value("", "Secret", (), body)

    assert body == {"data": {"a": "secret"}}
