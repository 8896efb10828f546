"""What people, logs and reports must not see: values of Secrets, credentials in URLs, and what is known to be secret.

Redaction happens where facts are turned into something to show; whoever decides works with the values themselves.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

from gitsyncd.core.fields import FieldChange, FieldPath
from gitsyncd.core.ownership import LAST_APPLIED

MARK: Final = "***"

# kubectl's annotation holds the whole object as somebody once sent it, the data of a Secret included.
_ALWAYS: Final[tuple[FieldPath, ...]] = (("f:metadata", "f:annotations", f"f:{LAST_APPLIED}"),)
_IN_SECRETS: Final[tuple[FieldPath, ...]] = (("f:data",), ("f:stringData",), *_ALWAYS)

_USERINFO: Final = re.compile(r"(\b[a-zA-Z][a-zA-Z0-9+.-]*://)[^\s/?#@]*(?:@[^\s/?#@]*)*@")
_AUTHORIZATION: Final = re.compile(r"(?i)\b(bearer|basic)(\s+)[a-z0-9._~+/=-]{8,}")


def redact_values(group: str, kind: str, changes: Iterable[FieldChange]) -> tuple[FieldChange, ...]:
    """The same changes with `***` for every secret value. A missing side stays None, and `differs` keeps the truth."""
    secret = secret_paths(group, kind)
    return tuple(
        replace(
            change,
            before=_without(change.before, change.keys, secret),
            after=_without(change.after, change.keys, secret),
        )
        for change in changes
    )


def redact_value(group: str, kind: str, keys: FieldPath, value: Any) -> Any:
    """One value that stands at `keys` of an object, with `***` for what of it is secret. None stays None."""
    return _without(value, keys, secret_paths(group, kind))


def secret_paths(group: str, kind: str) -> tuple[FieldPath, ...]:
    """Below which paths everything is secret."""
    return _IN_SECRETS if kind == "Secret" and not group else _ALWAYS


def _without(value: Any, keys: FieldPath, secret: Sequence[FieldPath]) -> Any:
    if value is None:
        return None
    for path in secret:
        if keys[: len(path)] == path:
            return MARK
        if path[: len(keys)] == keys:
            value = _masked(value, path[len(keys) :])
    return value


def _masked(value: Any, path: FieldPath) -> Any:
    """A copy of `value` with what lies at `path` replaced; the value itself when nothing lies there."""
    if not path:
        return MARK
    name = path[0].removeprefix("f:")
    if not isinstance(value, Mapping) or value.get(name) is None:
        return value
    return {**value, name: _masked(value[name], path[1:])}


def redact_url(url: str) -> str:
    """The URL without user and password. Other text comes back as it is; `git@host:path` too, which holds no secret."""
    return _USERINFO.sub(r"\1", url)


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without the secrets: as they are, percent-encoded and in base64; without userinfo in URLs; without the
    credentials of `Authorization` headers. Blank secrets hide nothing.
    """
    forms = {form for secret in secrets if secret.strip() for form in _forms(secret)}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, MARK)
    return _AUTHORIZATION.sub(rf"\1\2{MARK}", redact_url(text))


def _forms(secret: str) -> Iterable[str]:
    for form in (secret, secret.strip()):
        raw = form.encode("utf-8", "surrogatepass")
        yield form
        yield quote(raw, safe="")
        yield base64.b64encode(raw).decode()
        yield base64.urlsafe_b64encode(raw).decode()
