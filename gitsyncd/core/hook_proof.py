"""Whether a delivery of a webhook comes from somebody who knows the secret.

Every comparison takes the same time whatever is right or wrong of what was shown, and signatures are over the bytes as
they came. Does not belong here: what the delivery means (`hooks`).
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Final

from gitsyncd.model.hook import HookKind
from gitsyncd.model.immutable import immutable


class Way(Enum):
    """How it is shown that one knows the secret."""

    SIGNATURE = auto()
    """HMAC-SHA-256 of the body, in hexadecimal digits."""
    HEADER = auto()
    """The secret is the header."""
    PASSWORD = auto()
    """The secret is the password of basic authentication, whatever the user."""
    QUERY = auto()
    """The secret stands in the address: for senders that can neither sign nor send a header."""


@immutable
class Proof:
    """Where one kind of sender shows it."""

    way: Way
    place: str
    """A header; for `QUERY` a parameter of the address."""
    prefix: str = ""
    """Before the digits of a signature."""


PROOFS: Final[Mapping[HookKind, Proof]] = {
    # docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries
    HookKind.GITHUB: Proof(way=Way.SIGNATURE, place="X-Hub-Signature-256", prefix="sha256="),
    # The secret token of docs.gitlab.com/user/project/integrations/webhooks
    HookKind.GITLAB: Proof(way=Way.HEADER, place="X-Gitlab-Token"),
    # docs.gitea.com/usage/webhooks
    HookKind.GITEA: Proof(way=Way.SIGNATURE, place="X-Gitea-Signature"),
    # support.atlassian.com/bitbucket-cloud/docs/manage-webhooks; Data Center has the same header.
    HookKind.BITBUCKET: Proof(way=Way.SIGNATURE, place="X-Hub-Signature", prefix="sha256="),
    # learn.microsoft.com/azure/devops/service-hooks/services/webhooks
    HookKind.AZURE: Proof(way=Way.PASSWORD, place="Authorization"),
    # Ours, for repositories and registries alike.
    HookKind.GENERIC: Proof(way=Way.SIGNATURE, place="X-Gitsyncd-Signature", prefix="sha256="),
    HookKind.GHCR: Proof(way=Way.SIGNATURE, place="X-Hub-Signature-256", prefix="sha256="),
    # The auth header of goharbor.io/docs/working-with-projects/project-configuration/configure-webhooks
    HookKind.HARBOR: Proof(way=Way.HEADER, place="Authorization"),
    # Neither of the two signs, nor sends a header of one's choice.
    HookKind.DOCKER_HUB: Proof(way=Way.QUERY, place="token"),
    HookKind.QUAY: Proof(way=Way.QUERY, place="token"),
}

_DIGITS: Final = re.compile("[0-9a-fA-F]{64}")


def shown(kind: HookKind, headers: Sequence[str], query: Sequence[str]) -> str | None:
    """What may be a proof, given the values of its header and of its parameter; None when nothing can be.

    Known before the body: what nobody could have signed is not read.
    """
    proof = PROOFS[kind]
    values = query if proof.way is Way.QUERY else headers
    if len(values) != 1 or not values[0]:
        return None  # of two, one could be checked and the other believed
    text = values[0]
    if proof.way is not Way.SIGNATURE:
        return text
    digits = text.removeprefix(proof.prefix)
    return digits.lower() if text.startswith(proof.prefix) and _DIGITS.fullmatch(digits) else None


def needs_body(kind: HookKind) -> bool:
    return PROOFS[kind].way is Way.SIGNATURE


def proves(kind: HookKind, text: str, secret: bytes, body: bytes = b"") -> bool:
    """Whether `text`, from `shown`, was made by somebody who knows the secret. Never for an empty secret."""
    if not secret:
        return False
    match PROOFS[kind].way:
        case Way.SIGNATURE:
            return hmac.compare_digest(hmac.new(secret, body, hashlib.sha256).hexdigest().encode(), _bytes(text))
        case Way.PASSWORD:
            password = _password(text)
            return password is not None and _equal(password, secret)
        case Way.HEADER | Way.QUERY:
            return _equal(_bytes(text), secret)


def _password(authorization: str) -> bytes | None:
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        _user, colon, password = b64decode(_bytes(credentials.strip()), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return password if colon else None


def _equal(given: bytes, wanted: bytes) -> bool:
    # Of digests: the comparison itself tells the length.
    return hmac.compare_digest(hashlib.sha256(given).digest(), hashlib.sha256(wanted).digest())


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
