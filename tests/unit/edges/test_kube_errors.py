"""What the API server and the network say, row by row, and what it means to whoever has to do something about it.

Answers are those of kube-apiserver 1.37, word for word.
"""

from __future__ import annotations

import errno
import inspect
import json
import socket
import ssl
import time
from typing import Any, NamedTuple

import aiohttp
import pytest

from gitsyncd.edges.kube.errors import Answer, refusal
from gitsyncd.edges.kube.network import breakdown
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
    Remedy,
    Throttled,
)

SUBJECT = "Deployment.apps/web/front"


def status(code: int, message: str, reason: str = "", *causes: tuple[str, str, str], **details: str) -> bytes:
    rows = [{"reason": r, "field": f, "message": m} for r, f, m in causes]
    return json.dumps(
        {
            "kind": "Status",
            "status": "Failure",
            "message": message,
            "reason": reason,
            "details": {**details, "causes": rows},
            "code": code,
        }
    ).encode()


class Row(NamedTuple):
    name: str
    code: int
    body: bytes
    error: type[ClusterError]
    says: str
    """Part of the message."""
    hint: str = ""
    """Part of the hint."""


TABLE = [
    Row("credentials", 401, status(401, "Unauthorized", "Unauthorized"), ClusterDenied, "does not accept these credentials", "Replace its file"),
    Row(
        "permission in a namespace",
        403,
        status(403, 'deployments.apps "d" is forbidden: User "limited" cannot patch resource "deployments" in API group "apps" in the namespace "web"', "Forbidden", name="d", kind="deployments"),
        ClusterDenied,
        "'limited' may not patch deployments.apps in namespace 'web'",
        '- {apiGroups: ["apps"], resources: ["deployments"], verbs: ["patch"]}',
    ),
    Row(
        "permission in the whole cluster",
        403,
        status(403, 'configmaps is forbidden: User "limited" cannot list resource "configmaps" in API group "" at the cluster scope', "Forbidden", kind="configmaps"),
        ClusterDenied,
        "'limited' may not list configmaps in the whole cluster",
        'Add this rule to a ClusterRole bound to it: - {apiGroups: [""], resources: ["configmaps"], verbs: ["list"]}',
    ),
    Row(
        "permission for a path",
        403,
        status(403, 'forbidden: User "limited" cannot get path "/apis"', "Forbidden"),
        ClusterDenied,
        "'limited' may not get /apis",
        '- {nonResourceURLs: ["/apis"], verbs: ["get"]}',
    ),
    Row(
        "rights that the agent does not hold",
        403,
        status(403, 'roles.rbac.authorization.k8s.io "r" is forbidden: user "limited" (groups=["people"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}', "Forbidden", name="r", kind="roles"),
        ClusterDenied,
        "not currently held",
        "The agent can only grant what it holds itself",
    ),
    Row(
        "a namespace being deleted",
        403,
        status(403, 'configmaps "a" is forbidden: unable to create new content in namespace web because it is being terminated', "Forbidden", ("NamespaceTerminating", "metadata.namespace", "namespace web is being terminated")),
        NotFound,
        "its namespace is being deleted",
    ),
    Row("a quota", 403, status(403, 'pods "a" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2', "Forbidden", name="a", kind="pods"), Rejected, "exceeded quota: q"),
    Row("a proxy's page", 403, b"<html>no</html>", ClusterDenied, "something in front of the API server"),
    Row("an object that is not there", 404, status(404, 'deployments.apps "front" not found', "NotFound", name="front", kind="deployments"), NotFound, "does not exist on the cluster"),
    Row("a namespace that is not there", 404, status(404, 'namespaces "web" not found', "NotFound", name="web", kind="namespaces"), NotFound, "namespace 'web' does not exist", "Declare the namespace"),
    Row("a path that nothing serves", 404, b"404 page not found\n", KindUnknown, "no API of this server serves that kind", "CustomResourceDefinition"),
    Row("a kind that nothing serves", 404, status(404, "the server could not find the requested resource", "NotFound"), KindUnknown, "no API of this server"),
    Row(
        "fields of other managers",
        409,
        status(
            409,
            'Apply failed with 2 conflicts: conflicts with "kubectl-edit" using apps/v1: ...',
            "Conflict",
            ("FieldManagerConflict", ".spec.replicas", 'conflict with "kubectl-edit" using apps/v1'),
            ("FieldManagerConflict", '.spec.template.spec.containers[name="c"].image', 'conflict with "helm" using apps/v1'),
        ),
        Conflict,
        "'kubectl-edit' owns .spec.replicas; 'helm' owns .spec.template.spec.containers[name=\"c\"].image",
    ),
    Row("a version that moved on", 409, status(409, 'Operation cannot be fulfilled on configmaps "c1": the object has been modified; please apply your changes to the latest version and try again', "Conflict", name="c1"), Changed, "changed by somebody else"),
    Row("an object that exists", 409, status(409, 'configmaps "a" already exists', "AlreadyExists", name="a"), Changed, "exists already"),
    Row("another object of that name", 422, status(422, 'ConfigMap "c1" is invalid: metadata.uid: Invalid value: "abc": field is immutable', "Invalid", ("FieldValueInvalid", "metadata.uid", 'Invalid value: "abc": field is immutable')), Changed, "deleted and created again"),
    Row("an old version", 410, status(410, "too old resource version: 1 (300)", "Expired"), Expired, "no longer has this resourceVersion"),
    Row("a version from before a restore", 504, status(504, "Too large resource version: 900, current: 300", "Timeout", ("ResourceVersionTooLarge", "", "Too large resource version")), Expired, "does not know this resourceVersion yet"),
    Row("too large", 413, status(413, "Request entity too large: limit is 3145728", "RequestEntityTooLarge"), Rejected, "larger than the API server accepts"),
    Row(
        "an immutable field",
        422,
        status(422, 'Deployment.apps "d" is invalid: spec.selector: Invalid value: {"matchLabels":{"a":"b"}}: field is immutable', "Invalid", ("FieldValueInvalid", "spec.selector", 'Invalid value: {"matchLabels":{"a":"b"}}: field is immutable')),
        Immutable,
        "field is immutable",
        "gitsyncd.dev/on-immutable: recreate",
    ),
    Row("a StatefulSet", 422, status(422, "x", "Invalid", ("FieldValueForbidden", "spec", "Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template' are forbidden")), Immutable, "x"),
    Row("a Pod", 422, status(422, "x", "Invalid", ("FieldValueForbidden", "spec", "Forbidden: pod updates may not change fields other than `spec.containers[*].image`")), Immutable, "x"),
    Row("a Service", 422, status(422, "x", "Invalid", ("FieldValueInvalid", "spec.clusterIPs[0]", 'Invalid value: ["10.0.0.9"]: may not change once set')), Immutable, "x"),
    Row("a binding", 422, status(422, "x", "Invalid", ("FieldValueInvalid", "roleRef", 'Invalid value: {"kind":"Role"}: cannot change roleRef')), Immutable, "x"),
    Row("a storage class", 422, status(422, "x", "Invalid", ("FieldValueForbidden", "parameters", "Forbidden: updates to parameters are forbidden.")), Immutable, "x"),
    Row("a value that is wrong", 422, status(422, 'Deployment.apps "d" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0', "Invalid", ("FieldValueInvalid", "spec.replicas", "Invalid value: -1: must be greater than or equal to 0")), Rejected, "must be greater than or equal to 0"),
    Row("a port that is taken", 422, status(422, "x", "Invalid", ("FieldValueInvalid", "spec.ports[0].nodePort", "Invalid value: 30000: provided port is already allocated")), Rejected, "x"),
    Row(
        "immutable and wrong besides",
        422,
        status(422, "x", "Invalid", ("FieldValueInvalid", "spec.selector", "field is immutable"), ("FieldValueInvalid", "spec.replicas", "must be greater than or equal to 0")),
        Rejected,
        "x",
    ),
    Row("a slower pace", 429, status(429, "too many requests", "TooManyRequests"), Throttled, "slower pace"),
    Row("a webhook that says no", 400, status(400, 'admission webhook "policy.example.com" denied the request: no latest tags'), Rejected, "no latest tags"),
    Row("a webhook that says forbidden", 403, status(403, 'admission webhook "policy.example.com" denied the request: not you', "Forbidden"), Rejected, "not you"),
    Row(
        "a webhook that is away",
        500,
        status(500, 'Internal error occurred: failed calling webhook "policy.example.com": failed to call webhook: Post "https://x.y.svc:443/?timeout=10s": service "x" not found', "InternalError"),
        AdmissionUnavailable,
        "admission webhook 'policy.example.com' did not answer",
        "Look after the service behind",
    ),
    Row("a conversion that is away", 500, status(500, 'conversion webhook for example.com/v1, Kind=Foo failed: Post "https://x.y.svc": no', ""), AdmissionUnavailable, "conversion webhook"),
    Row(
        "fields that a kind does not have",
        500,
        status(500, 'failed to create typed patch object (/d; apps/v1, Kind=Deployment): errors:\n  .spec.template.spec.containers[name="c"].foo: field not declared in schema\n  .spec.replica: field not declared in schema'),
        Rejected,
        ".spec.replica: field not declared in schema",
    ),
    Row("fields of a custom resource", 400, status(400, 'strict decoding error: unknown field "spec.foo", unknown field "spec.bar"', "BadRequest"), Rejected, 'unknown field "spec.foo"'),
    Row("a failure of its own", 500, status(500, "etcdserver: mvcc: database space exceeded"), ClusterError, "database space exceeded"),
    Row("a server that starts", 503, b"apiserver is shutting down", ClusterUnreachable, "not available (503): apiserver is shutting down"),
    Row("an aggregated API that is down", 503, status(503, "service unavailable", "ServiceUnavailable"), ClusterUnreachable, "not available (503)"),
    Row("a redirect", 302, b"", ClusterUnreachable, "redirect (302), which is not followed"),
    Row("a method that a kind does not have", 405, status(405, "the server does not allow this method on the requested resource", "MethodNotAllowed"), Rejected, "does not allow this method"),
    Row("nonsense in every place", 422, b'{"kind":"Status","message":5,"reason":[],"details":{"causes":[7,{"field":{}}]}}', Rejected, "refused without a reason (422)"),
    Row("nonsense instead of details", 409, b'{"kind":"Status","details":"x"}', Changed, "changed by somebody else"),
]  # fmt: skip


@pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])
def test_an_answer_means_one_error(row: Row) -> None:
    error = refusal(Answer(code=row.code, body=row.body, subject=SUBJECT, cluster="eu"))

    assert type(error) is row.error
    assert row.says in error.message
    assert row.hint in error.hint


def test_the_fields_that_the_server_named_can_be_read_one_by_one() -> None:
    rows = {row.name: row for row in TABLE}
    named = {}

    for name in ("fields that a kind does not have", "fields of a custom resource", "an immutable field"):
        error = refusal(Answer(code=rows[name].code, body=rows[name].body, subject=SUBJECT))
        assert isinstance(error, Rejected)
        named[name] = error.fields

    assert named == {
        "fields that a kind does not have": ('.spec.template.spec.containers[name="c"].foo', ".spec.replica"),
        "fields of a custom resource": ("spec.foo", "spec.bar"),
        "an immutable field": ("spec.selector",),
    }


def test_expired_credentials_are_told_from_missing_rights() -> None:
    unauthorized = refusal(Answer(code=401, body=TABLE[0].body, cluster="eu"))
    forbidden = refusal(Answer(code=403, body=TABLE[1].body, cluster="eu"))

    assert isinstance(unauthorized, ClusterDenied)
    assert isinstance(forbidden, ClusterDenied)
    assert (unauthorized.expired, forbidden.expired) == (True, False)


@pytest.mark.parametrize(
    ("header", "expected"), [("7", 7.0), ("", 1.0), ("Mon, 01 Jan 2029", 1.0), ("-3", 1.0), ("٣", 1.0)]
)
def test_the_pause_that_the_server_asks_for_is_carried(header: str, expected: float) -> None:
    error = refusal(Answer(code=429, body=b"", cluster="eu", retry_after=header))

    assert isinstance(error, Throttled)
    assert error.retry_after_s == expected


SECRET = "hunter2-is-my-password"


@pytest.mark.parametrize(
    "body",
    [
        status(
            422,
            f'Secret "a" is invalid: data[k]: Invalid value: "{SECRET}": too bad',
            "Invalid",
            ("FieldValueInvalid", "data[k]", f'Invalid value: "{SECRET}": too bad'),
        ),
        status(400, f'admission webhook "w" denied the request: value {SECRET} is weak'),
        status(500, f'failed calling webhook "w": {SECRET}'),
        status(
            500,
            f"failed to create typed patch object (web/a; /v1, Kind=Secret): .data.k: expected string, got &value.{SECRET}",
        ),
        status(400, f"json: cannot unmarshal {SECRET} into Go value", "BadRequest"),
        status(403, f"secrets is forbidden: policy says {SECRET}", "Forbidden"),
        status(503, f"{SECRET}"),
        status(500, f"{SECRET}"),
        status(405, f"{SECRET}"),
        SECRET.encode(),
    ],
)
@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 409, 410, 413, 422, 429, 500, 503])
def test_no_word_of_the_server_about_a_secret_is_passed_on(body: bytes, code: int) -> None:
    error = refusal(Answer(code=code, body=body, subject="Secret/web/a", cluster="eu", secret=True))

    assert SECRET not in f"{error} {error.hint}"


def test_what_is_wrong_with_a_secret_is_still_said_by_field_and_reason() -> None:
    body = status(422, "…", "Invalid", ("FieldValueInvalid", "data[k]", f'Invalid value: "{SECRET}"'))

    error = refusal(Answer(code=422, body=body, subject="Secret/web/a", secret=True))

    assert str(error) == "Secret/web/a: refused (422 Invalid): data[k]: FieldValueInvalid"


def network_errors() -> list[BaseException]:
    """One instance of every error class that aiohttp has, and of what ssl and the socket raise."""
    made: list[BaseException] = []
    for _, kind in inspect.getmembers(aiohttp, inspect.isclass):
        if issubclass(kind, aiohttp.ClientError | TimeoutError):
            error = kind.__new__(kind)
            OSError.__init__(error, errno.EIO, "x") if isinstance(error, OSError) else None
            made.append(error)
    return [
        *made,
        TimeoutError(),
        ConnectionResetError(),
        BrokenPipeError(),
        OSError(errno.ENETUNREACH, "x"),
        socket.gaierror(socket.EAI_NONAME, "x"),
        ssl.SSLError(1, "x"),
        ssl.SSLCertVerificationError(1, "x"),
        ssl.SSLEOFError(8, "x"),
    ]


@pytest.mark.parametrize("error", network_errors(), ids=lambda error: type(error).__name__)
def test_every_error_of_the_layers_below_is_mapped(error: BaseException) -> None:
    mapped = breakdown(error, cluster="eu", server="https://10.0.0.1:6443")

    assert isinstance(mapped, ClusterUnreachable | ClusterDenied)
    assert "10.0.0.1:6443" in mapped.message
    # No class is left to the catch-all, which can only name it.
    assert type(error).__name__ not in mapped.message


def connector_error(kind: type[Any], inner: OSError) -> Any:
    key = aiohttp.client_reqrep.ConnectionKey("10.0.0.1", 6443, True, True, None, None, None)
    return kind(key, inner)


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (connector_error(aiohttp.ClientConnectorError, OSError(errno.ECONNREFUSED, "x")), ClusterUnreachable, "connection refused"),
        (connector_error(aiohttp.ClientConnectorError, OSError(errno.EHOSTUNREACH, "x")), ClusterUnreachable, "no route to host"),
        (connector_error(aiohttp.ClientConnectorDNSError, OSError(errno.EIO, "x")), ClusterUnreachable, "cannot be resolved"),
        (aiohttp.ServerDisconnectedError(), ClusterUnreachable, "broke"),
        (aiohttp.ServerTimeoutError(), ClusterUnreachable, "time limit"),
        (aiohttp.ConnectionTimeoutError(), ClusterUnreachable, "time limit"),
    ],
)  # fmt: skip
def test_the_message_says_what_kept_us_from_talking(error: BaseException, kind: type[ClusterError], says: str) -> None:
    mapped = breakdown(error, cluster="eu", server="https://10.0.0.1:6443")

    assert type(mapped) is kind
    assert says in mapped.message


def test_a_client_certificate_that_the_server_refuses_counts_as_expired_credentials() -> None:
    alert = ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required")
    alert.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"

    mapped = breakdown(alert, cluster="eu", server="https://10.0.0.1:6443")

    assert isinstance(mapped, ClusterDenied)
    assert mapped.expired is True
    assert mapped.remedy is Remedy.FIX_CLUSTER


@pytest.mark.parametrize(
    "text",
    [
        "updates to " * 60_000,
        'conversion webhook for "' * 30_000,
        "failed to convert new object (" * 30_000,
        "(" * 500_000,
    ],
    ids=["immutable", "webhook", "unreadable", "brackets"],
)
def test_a_refusal_of_any_length_is_understood_at_once(text: str) -> None:
    body = status(422, text, "Invalid", *[("FieldValueInvalid", ".spec.a" * 50_000, f"{text} immutable")] * 3)
    begin = time.process_time()

    error = refusal(Answer(code=422, body=body, subject=SUBJECT))

    assert time.process_time() - begin < 1.0
    assert len(error.message) <= 1500 + 100


def test_more_causes_than_anybody_reads_are_left_out() -> None:
    body = status(422, "x", "Invalid", *[("FieldValueInvalid", f".spec.f{n}", "immutable") for n in range(20_000)])

    error = refusal(Answer(code=422, body=body, subject=SUBJECT))

    assert isinstance(error, Immutable)
    assert len(error.fields) == 1000


@pytest.mark.parametrize("header", ["9" * 400, "99999999"])
def test_no_server_can_ask_for_a_pause_without_end(header: str) -> None:
    error = refusal(Answer(code=429, body=b"", cluster="eu", retry_after=header))

    assert isinstance(error, Throttled)
    assert error.retry_after_s == 3600.0
