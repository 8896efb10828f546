"""From what an API server answered to the error tree. The only place where HTTP codes are given a meaning.

The server's words are quoted, except about Secrets: validation and admission quote values, so there only field paths
and reasons are passed on. What it means that no answer came at all is said in `network`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

import orjson

from gitsyncd.model.errors import (
    AdmissionUnavailable,
    Changed,
    ClusterDenied,
    ClusterError,
    ClusterUnreachable,
    Conflict,
    Expired,
    Immutable,
    KindUnknown,
    NotFound,
    Rejected,
    Throttled,
)
from gitsyncd.model.immutable import immutable

MAX_QUOTED = 1500
"""Characters of a server's message that are passed on. Admission policies have been seen to answer with pages."""

MAX_CAUSES = 1000
"""Of one refusal: the fields of a conflict may be many."""

# `User "x" cannot patch resource "deployments/scale" in API group "apps" in the namespace "web"`, the one wording of
# every authorizer (k8s.io/apiserver, endpoints/handlers/responsewriters/errors.go).
_FORBIDDEN = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]*)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]*)")?'
)
_FORBIDDEN_PATH = re.compile(r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) path "(?P<path>[^"]*)"')
_ESCALATION = re.compile(r"attempting to grant RBAC permissions not currently held|cannot set blockOwnerDeletion")
_NAMESPACE_MISSING = re.compile(r'^namespaces "(?P<name>[^"]*)" not found')
_WEBHOOK_DENIED = re.compile(r'^admission webhook "(?P<name>[^"]*)" denied the request')
_WEBHOOK_FAILED = re.compile(
    r'(?:failed calling webhook "(?P<name>[^"]*)"|conversion webhook for (?P<kind>.+?) failed)'
)
# Server-side apply answers 500 without a reason when a field is not in the schema, or of the wrong type; strict
# decoding of everything else answers 400.
_UNTYPED = re.compile(r"^failed to create typed patch object \([^)]*\): ")
# And 500 again when a value is of the right type and still cannot be read: a quantity, a time, base64, a fraction.
_UNREADABLE = re.compile(r"^failed to convert new object \([^)]*\) to proper version: (?:unable to convert [^:]*: )?")
_UNTYPED_FIELD = re.compile(r"^\s*(\.\S+?): ", re.MULTILINE)
_STRICT_FIELD = re.compile(r'(?:unknown|duplicate) field "([^"]+)"')
# The wordings of "this cannot change on a live object". A wording that is not here is an ordinary refusal: an object is
# recreated only for a reason that is sure. (Workloads and Pods name the fields that *may* change; CRDs write their own
# rules, nearly always with the word itself.)
_IMMUTABLE = re.compile(
    r"\bimmutable\b|may not change once set|may not change fields other than|cannot change roleRef"
    r"|updates to .{1,300} (?:for fields other than|are forbidden)"
    r"|(?:can ?not|may not|must not) be (?:changed|updated|modified)",
    re.IGNORECASE,
)
_MANAGER = re.compile(r'conflict with "(?P<manager>[^"]*)"')


_MAX_PAUSE_S = 3600.0


@immutable
class Answer:
    """An answer that is not a success, as far as its meaning depends on it."""

    code: int
    body: bytes = field(repr=False)
    subject: str = ""
    """The object that the request was about; empty for lists, watches and discovery."""
    cluster: str = ""
    secret: bool = False
    """Whether the body may quote values of a Secret."""
    retry_after: str = ""
    """The header as it came."""


@immutable
class Status:
    """A `Status` of the API, parsed without trusting any type in it."""

    code: int
    reason: str
    message: str
    kind: str
    """Of `details`: the plural of what it is about, as a rule."""
    name: str
    causes: tuple[tuple[str, str, str], ...]
    """Reason, field, message."""
    parsed: bool
    """False for an answer that is no Status: a proxy's page, or the plain text for a path that nothing serves."""


def parse_status(code: int, body: bytes) -> Status:
    """Total: whatever the bytes, there is a Status."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict) or value.get("kind") != "Status":
        message = body[:MAX_QUOTED].decode("utf-8", "replace").strip()
        return Status(code=code, reason="", message=message, kind="", name="", causes=(), parsed=False)
    details = value.get("details")
    details = details if isinstance(details, dict) else {}
    causes = details.get("causes")
    # Capped like the message: admission writes them, and some rules take the square of the length that they search.
    rows = [row for row in causes[:MAX_CAUSES] if isinstance(row, dict)] if isinstance(causes, list) else []
    return Status(
        code=code,
        reason=_text(value, "reason"),
        message=_text(value, "message")[:MAX_QUOTED],
        kind=_text(details, "kind"),
        name=_text(details, "name"),
        causes=tuple(
            (_text(row, "reason")[:MAX_QUOTED], _text(row, "field")[:MAX_QUOTED], _text(row, "message")[:MAX_QUOTED])
            for row in rows
        ),
        parsed=True,
    )


def refusal(answer: Answer) -> ClusterError:
    """The error that an answer other than 2xx stands for."""
    status = parse_status(answer.code, answer.body)
    for rule in _BY_CONTENT:
        error = rule(status, answer)
        if error is not None:
            return error
    return _BY_CODE.get(answer.code, _other)(status, answer)


# --- Rules that look at what is said, whatever the code; the first that knows it wins --------------------------------


def _webhook_denied(status: Status, answer: Answer) -> ClusterError | None:
    match = _WEBHOOK_DENIED.match(status.message)
    if not match:
        return None
    said = f"admission webhook {match['name']!r} denied it" if answer.secret else status.message
    return Rejected(said, subject=_subject(answer), fields=_fields(status))


def _webhook_failed(status: Status, answer: Answer) -> ClusterError | None:
    match = _WEBHOOK_FAILED.search(status.message)
    if not match or answer.code < 500:
        return None
    what = f"admission webhook {match['name']!r}" if match["name"] else f"the conversion webhook of {match['kind']}"
    said = "" if answer.secret else f": {status.message}"
    return AdmissionUnavailable(
        f"{what} did not answer{said}",
        subject=_subject(answer),
        hint=f"Look after the service behind {what}. Its configuration decides whether requests pass without it.",
    )


def _field_not_declared(status: Status, answer: Answer) -> ClusterError | None:
    match = _UNTYPED.match(status.message)
    if not match:
        return None
    rest = status.message[match.end() :]
    fields = tuple(dict.fromkeys(_UNTYPED_FIELD.findall(rest)))
    said = "; ".join(line.strip() for line in rest.removeprefix("errors:").splitlines() if line.strip())
    if answer.secret:
        said = f"fields that its schema does not accept: {', '.join(fields) or 'not named'}"
    return Rejected(said, subject=_subject(answer), fields=fields, hint="Correct or remove these fields.")


def _value_not_readable(status: Status, answer: Answer) -> ClusterError | None:
    match = _UNREADABLE.match(status.message)
    if not match:
        return None
    said = status.message[match.end() :].removeprefix("error decoding from json: ")
    if answer.secret:
        said = "the words of the server are left out, as they may quote the Secret"
    return Rejected(
        f"a value cannot be read as what its field holds: {said}",
        subject=_subject(answer),
        hint="The server does not say which field: look at quantities, times, whole numbers, and at `data`, which is "
        "base64 (a Secret's `stringData` is plain text).",
    )


def _resource_version_too_large(status: Status, answer: Answer) -> ClusterError | None:
    """A version that the server has not reached yet: it was restored from a backup, or lags behind for long."""
    if not any(reason == "ResourceVersionTooLarge" for reason, _, _ in status.causes):
        return None
    return Expired("the server does not know this resourceVersion yet", subject=_subject(answer))


_BY_CONTENT: tuple[Callable[[Status, Answer], ClusterError | None], ...] = (
    _webhook_denied,
    _webhook_failed,
    _field_not_declared,
    _value_not_readable,
    _resource_version_too_large,
)


# --- Rules by code ---------------------------------------------------------------------------------------------------


def _bad_request(status: Status, answer: Answer) -> ClusterError:
    fields = _fields(status) or tuple(dict.fromkeys(_STRICT_FIELD.findall(status.message)))
    return Rejected(_quoted(status, answer, fields), subject=_subject(answer), fields=fields)


def _unauthorized(_status: Status, answer: Answer) -> ClusterError:
    return ClusterDenied(
        "the API server does not accept these credentials (401)",
        expired=True,
        subject=answer.cluster,
        hint="The token or client certificate is wrong, expired or revoked. Replace its file: it is read again.",
    )


def _forbidden(status: Status, answer: Answer) -> ClusterError:
    if any(reason == "NamespaceTerminating" for reason, _, _ in status.causes):
        return NotFound(
            "its namespace is being deleted",
            subject=_subject(answer),
            hint="Created again once the namespace is gone; if it stays, look for objects with finalizers in it.",
        )
    if match := _FORBIDDEN.search(status.message):
        return _rule_missing(match, answer)
    if match := _FORBIDDEN_PATH.search(status.message):
        rule = f'- {{nonResourceURLs: ["{match["path"]}"], verbs: ["{match["verb"]}"]}}'
        return ClusterDenied(
            f"{match['user']!r} may not {match['verb']} {match['path']}",
            subject=answer.subject or answer.cluster,
            hint=f"Add this rule to a ClusterRole bound to it: {rule}",
        )
    if _ESCALATION.search(status.message):
        return ClusterDenied(
            _quoted(status, answer, ()),
            subject=_subject(answer),
            hint="The agent can only grant what it holds itself: give it these permissions too.",
        )
    if not status.parsed:
        return ClusterDenied(
            "something in front of the API server forbids it (403)",
            subject=answer.cluster,
            hint="Check that the address is the API server's own and what proxy stands before it.",
        )
    return Rejected(_quoted(status, answer, _fields(status)), subject=_subject(answer), fields=_fields(status))


def _rule_missing(match: re.Match[str], answer: Answer) -> ClusterError:
    verb, resource, group, namespace = match["verb"], match["resource"], match["group"], match["namespace"]
    what = f"{resource}.{group}" if group else resource
    where = f" in namespace {namespace!r}" if namespace else " in the whole cluster"
    role = f"a Role in namespace {namespace!r} (or a ClusterRole)" if namespace else "a ClusterRole"
    rule = f'- {{apiGroups: ["{group}"], resources: ["{resource}"], verbs: ["{verb}"]}}'
    return ClusterDenied(
        f"{match['user']!r} may not {verb} {what}{where}",
        subject=answer.subject or answer.cluster,
        hint=f"Add this rule to {role} bound to it: {rule}",
    )


def _not_found(status: Status, answer: Answer) -> ClusterError:
    match = _NAMESPACE_MISSING.match(status.message)
    if match and answer.subject != f"Namespace/{match['name']}":
        return NotFound(
            f"namespace {match['name']!r} does not exist",
            subject=_subject(answer),
            hint="Declare the namespace in Git, or create it.",
        )
    if status.parsed and status.name:
        return NotFound("it does not exist on the cluster", subject=_subject(answer))
    return KindUnknown(
        "no API of this server serves that kind",
        subject=_subject(answer),
        hint="Check `apiVersion` and `kind`; for a custom resource, that its CustomResourceDefinition is installed.",
    )


def _conflict(status: Status, answer: Answer) -> ClusterError:
    owners: dict[str, list[str]] = {}
    for reason, path, message in status.causes:
        if reason == "FieldManagerConflict":
            match = _MANAGER.search(message)
            owners.setdefault(match["manager"] if match else "another manager", []).append(path)
    if owners:
        said = "; ".join(f"{manager!r} owns {', '.join(paths)}" for manager, paths in owners.items())
        return Conflict(
            said, subject=_subject(answer), hint="Remove these fields from Git, or let the agent take them over."
        )
    if status.reason == "AlreadyExists":
        return Changed("it exists already", subject=_subject(answer))
    return Changed("it was changed by somebody else in between", subject=_subject(answer))


def _gone(_status: Status, answer: Answer) -> ClusterError:
    return Expired("the server no longer has this resourceVersion", subject=_subject(answer))


def _too_large(_status: Status, answer: Answer) -> ClusterError:
    return Rejected(
        "it is larger than the API server accepts",
        subject=_subject(answer),
        hint="Split it, or move the data elsewhere.",
    )


def _invalid(status: Status, answer: Answer) -> ClusterError:
    fields = _fields(status)
    if any(path == "metadata.uid" for path in fields):
        return Changed("it was deleted and created again in between", subject=_subject(answer))
    said = _quoted(status, answer, fields)
    # Only when every cause is of this sort: an object that is also invalid otherwise could not be created again.
    messages = [message for _, _, message in status.causes] or [status.message]
    if all(_IMMUTABLE.search(message) for message in messages):
        return Immutable(said, subject=_subject(answer), fields=fields)
    return Rejected(said, subject=_subject(answer), fields=fields)


def _throttled(status: Status, answer: Answer) -> ClusterError:
    return Throttled(
        "the API server asks for a slower pace (429)",
        retry_after_s=retry_after(answer.retry_after) or 1.0,
        one_kind="storage is (re)initializing" in status.message,  # a CustomResourceDefinition that was just accepted
        subject=answer.cluster,
        hint="" if status.parsed else "Something in front of the API server limits requests.",
    )


def _unavailable(status: Status, answer: Answer) -> ClusterError:
    said = "" if answer.secret or not status.message else f": {_first_line(status.message)}"
    return ClusterUnreachable(f"the API server is not available ({answer.code}){said}", subject=_subject(answer))


def _other(status: Status, answer: Answer) -> ClusterError:
    if 300 <= answer.code < 400:
        return ClusterUnreachable(
            f"the address answers with a redirect ({answer.code}), which is not followed",
            subject=answer.cluster,
            hint="Check that the address is the API server's own.",
        )
    if 400 <= answer.code < 500 and status.parsed:
        return Rejected(_quoted(status, answer, _fields(status)), subject=_subject(answer), fields=_fields(status))
    return ClusterError(
        f"the API server failed ({answer.code}): {_quoted(status, answer, ())}",
        subject=_subject(answer),
        hint="Nothing to do if it passes; otherwise its own log says why.",
    )


_BY_CODE: Mapping[int, Callable[[Status, Answer], ClusterError]] = {
    400: _bad_request,
    401: _unauthorized,
    403: _forbidden,
    404: _not_found,
    409: _conflict,
    410: _gone,
    413: _too_large,
    422: _invalid,
    429: _throttled,
    502: _unavailable,
    503: _unavailable,
    504: _unavailable,
}


# --- Words -----------------------------------------------------------------------------------------------------------


def retry_after(header: str) -> float | None:
    """Seconds of a `Retry-After` header, an hour at most. API servers send numbers only; a date is no header here."""
    return min(float(header), _MAX_PAUSE_S) if header.isascii() and header.isdigit() else None


def _text(value: Mapping[str, Any], key: str) -> str:
    found = value.get(key)
    return found if isinstance(found, str) else ""


def _subject(answer: Answer) -> str:
    return answer.subject or answer.cluster


def _fields(status: Status) -> tuple[str, ...]:
    return tuple(dict.fromkeys(path for _, path, _ in status.causes if path))


def _quoted(status: Status, answer: Answer, fields: tuple[str, ...]) -> str:
    """What the server said; about a Secret only which fields and reasons."""
    if not answer.secret:
        return status.message or f"refused without a reason ({answer.code})"
    said = f"refused ({answer.code}{f' {status.reason}' if status.reason else ''})"
    reasons = [f"{path}: {reason}" for reason, path, _ in status.causes if path]
    named = "; ".join(reasons) or ", ".join(fields)
    return (
        f"{said}: {named}" if named else f"{said}; the words of the server are left out, as they may quote the Secret"
    )


def _first_line(text: str) -> str:
    return text.splitlines()[0][:200]
