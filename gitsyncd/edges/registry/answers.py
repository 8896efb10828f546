"""What registries answer: lists of tags, manifests, indexes and configurations, in OCI's and in Docker's words.

Sources: opencontainers/distribution-spec (spec.md), opencontainers/image-spec (manifest.md, image-index.md, config.md),
distribution/distribution (docs/spec/manifest-v2-2.md). Bytes to facts; nothing is asked here. Whatever is not of the
right shape raises `Misspoken`, and what is merely unknown (an attestation in an index) is passed over.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import orjson

from gitsyncd.core.reference import is_digest, is_tag
from gitsyncd.model.image import Origin
from gitsyncd.model.immutable import immutable

MANIFESTS: Final = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
INDEXES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
ACCEPTED: Final = ", ".join((*INDEXES, *MANIFESTS))
_NEXT: Final = re.compile(r'<([^<>"\s]+)>\s*;[^,]*\brel="?next"?')
_CHALLENGE: Final = re.compile(r"\s*([A-Za-z]+)(?:\s+|$)(.*)", re.DOTALL)
_PARAMETER: Final = re.compile(r'([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_OURS: Final = "org.opencontainers.image."
_ORIGIN_CHARS: Final = 300
_LOGIN: Final = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*://)[^/?#]*@")
_FRACTION: Final = re.compile(r"(\.\d{6})\d+")


class Misspoken(ValueError):
    """Not what a registry may answer."""


@immutable
class Manifest:
    """One image for one platform."""

    config: str
    """Digest of its configuration."""
    annotations: Mapping[str, str]


@immutable
class Index:
    """One image for several platforms: the digest of the manifest for each."""

    platforms: Mapping[str, str]
    annotations: Mapping[str, str]


@immutable
class Config:
    """What an image says of itself. `created` is in UTC."""

    platform: str
    created: datetime | None
    labels: Mapping[str, str]


@immutable
class Layer:
    """One blob of an artifact that is no image."""

    type: str
    digest: str
    size: int
    annotations: Mapping[str, str]


@immutable
class Referrer:
    """A manifest that says of itself that it belongs to another. `predicate` is what a Sigstore bundle in it claims."""

    digest: str
    predicate: str


@immutable
class Challenge:
    """How a registry wants to be asked (RFC 9110, section 11.6.1)."""

    scheme: str
    parameters: Mapping[str, str]


# --- Bodies ----------------------------------------------------------------------------------------------------------
def tags(body: bytes) -> list[str]:
    """Of one page. Texts that cannot be tags are left out: nobody could write them."""
    found = _object(body).get("tags")
    if found is None:  # a repository without tags, to Harbor and to distribution
        return []
    if not isinstance(found, list):
        raise Misspoken("its list of tags is none")
    return [tag for tag in found if isinstance(tag, str) and is_tag(tag)]


def proven(body: bytes, digest: str) -> bytes:
    """The body, if it is the one with that digest. Raises `Misspoken`."""
    if digest_of(body, digest.partition(":")[0]) != digest:
        raise Misspoken("what it sent has another digest than what was asked for")
    return body


def digest_of(body: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, body).hexdigest()}" if algorithm in {"sha256", "sha512"} else ""


def image(body: bytes, content_type: str) -> Manifest | Index:
    """A manifest or an index, by the type that it names itself by, else by the one that the server said."""
    found = _object(body)
    kind = found.get("mediaType") or content_type
    if kind in INDEXES or (kind not in MANIFESTS and "manifests" in found):
        return Index(platforms=_platforms(found.get("manifests")), annotations=_annotations(found))
    config = found.get("config")
    digest = config.get("digest") if isinstance(config, dict) else None
    if not isinstance(digest, str) or not is_digest(digest):
        raise Misspoken(f"its manifest is of a kind that is not known, {str(kind)[:80]!r}")
    return Manifest(config=digest, annotations=_annotations(found))


def _platforms(listed: Any) -> dict[str, str]:
    if not isinstance(listed, list):
        raise Misspoken("its index lists nothing")
    found: dict[str, str] = {}
    for entry in listed:
        digest = entry.get("digest") if isinstance(entry, dict) else None
        platform = entry.get("platform") if isinstance(entry, dict) else None
        name = _platform(platform) if isinstance(platform, dict) else ""
        if isinstance(digest, str) and is_digest(digest) and name and not name.startswith("unknown/"):
            found.setdefault(name, digest)
    return found


def _platform(found: Mapping[str, Any]) -> str:
    system, architecture, variant = (found.get(key) for key in ("os", "architecture", "variant"))
    if not isinstance(system, str) or not isinstance(architecture, str) or not system or not architecture:
        return ""
    # `arm64/v8` is the only arm64 that there is, and named either way.
    exact = isinstance(variant, str) and variant and (architecture, variant) != ("arm64", "v8")
    return f"{system}/{architecture}/{variant}" if exact else f"{system}/{architecture}"


def config(body: bytes) -> Config:
    found = _object(body)
    inner = found.get("config")
    labels = inner.get("Labels") if isinstance(inner, dict) else None
    texts = {key: value for key, value in labels.items() if isinstance(value, str)} if isinstance(labels, dict) else {}
    return Config(platform=_platform(found), created=_time(found.get("created")), labels=texts)


def origin(labels: Mapping[str, str], annotations: Mapping[str, str]) -> Origin | None:
    """What an image says to be made from (image-spec, annotations.md): its labels, else its manifest's annotations."""
    source, revision = (
        text if len(text) <= _ORIGIN_CHARS and text.isprintable() else ""
        for name in ("source", "revision")
        for text in [(labels.get(f"{_OURS}{name}") or annotations.get(f"{_OURS}{name}") or "").strip()]
    )
    # A build that names its repository as it was cloned gives away what it was cloned with.
    source = _LOGIN.sub(r"\1", source)
    return Origin(source=source, revision=revision) if source or revision else None


def layers(body: bytes) -> list[Layer]:
    """Of a manifest, without those that are none."""
    listed = _object(body).get("layers")
    if not isinstance(listed, list):
        raise Misspoken("its manifest has no layers")
    return [
        Layer(type=_text(entry, "mediaType"), digest=digest, size=_size(entry), annotations=_annotations(entry))
        for entry in listed
        if isinstance(entry, dict) and is_digest(digest := _text(entry, "digest"))
    ]


def referrers(body: bytes) -> list[Referrer]:
    """Of one page, or of the index that stands in for the list."""
    listed = _object(body).get("manifests")
    if not isinstance(listed, list):
        raise Misspoken("its list of referrers is none")
    return [
        Referrer(digest=digest, predicate=_annotations(entry).get("dev.sigstore.bundle.predicateType", ""))
        for entry in listed
        if isinstance(entry, dict) and is_digest(digest := _text(entry, "digest"))
    ]


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    return value if isinstance(value, str) else ""


def _size(entry: Mapping[str, Any]) -> int:
    value = entry.get("size")
    return value if isinstance(value, int) else 0


def _annotations(entry: Mapping[str, Any]) -> dict[str, str]:
    found = entry.get("annotations")
    return {key: value for key, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}


def _time(text: Any) -> datetime | None:
    """RFC 3339, with as many digits of a second as Go writes."""
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(_FRACTION.sub(r"\1", text))
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def token(body: bytes) -> tuple[str, float]:
    """The token and for how many seconds it holds (distribution/distribution, docs/spec/auth/token.md)."""
    found = _object(body)
    text = found.get("token") or found.get("access_token")
    if not isinstance(text, str) or not text.isascii() or not text.isprintable() or " " in text:
        raise Misspoken("its token server sent no token")
    seconds = found.get("expires_in")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or seconds <= 0:
        seconds = 60.0
    return text, float(seconds)


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Misspoken("its answer is not JSON") from None
    if not isinstance(found, dict):
        raise Misspoken("its answer is JSON of another shape")
    return found


# --- Headers ---------------------------------------------------------------------------------------------------------
def next_page(links: Sequence[str]) -> str:
    """The address of the next page as the `Link` headers have it (RFC 8288); empty on the last."""
    return next((match[1] for link in links if (match := _NEXT.search(link))), "")


def pause_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """How many seconds `Retry-After` asks for, in either form (RFC 9110, section 10.2.3); None for none."""
    said = headers.get("Retry-After", "").strip()
    if said.isascii() and said.isdecimal():
        return float(said)
    until = _date(said)
    # By the server's own clock, where it tells: ours may be wrong.
    return max(0.0, (until - (_date(headers.get("Date", "")) or now)).total_seconds()) if until else None


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def challenge(headers: Sequence[str]) -> Challenge | None:
    """The first way of asking that is known: a token's, else Basic. One per header, as registries send them."""
    found = []
    for header in headers:
        match = _CHALLENGE.match(header)
        if match and match[1].lower() in {"bearer", "basic"}:
            parameters = {
                name.lower(): re.sub(r"\\(.)", r"\1", quoted) if quoted else plain
                for name, quoted, plain in _PARAMETER.findall(match[2])
            }
            found.append(Challenge(scheme=match[1].lower(), parameters=parameters))
    return min(found, key=lambda each: each.scheme != "bearer", default=None)
