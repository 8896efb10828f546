"""Where cosign keeps the signatures of an image, and whether one of them is by the key that a policy names.

They lie in the image's own repository: behind the tag `sha256-<hex>.sig`, and since cosign 3 as referrers of the image
(distribution-spec, "Listing Referrers", with the tag `sha256-<hex>` where a registry has no such list). On any doubt
an image is unsigned, with the reason in words; a registry that does not answer is an error, and nothing moves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gitsyncd.core.reference import ImageName
from gitsyncd.edges.named_file import read_named
from gitsyncd.edges.registry import answers, signature
from gitsyncd.edges.registry.answers import Layer, Misspoken, Referrer
from gitsyncd.edges.registry.client import Document, Registry
from gitsyncd.edges.registry.recent import Recent
from gitsyncd.edges.registry.signature import NotSigned
from gitsyncd.model.errors import ConfigError

if TYPE_CHECKING:
    from gitsyncd.edges.registry.signature import Key

_MAX_SIGNED: Final = 10_000
_MAX_REFERRERS: Final = 50
_MAX_LAYERS: Final = 100
"""Of signatures that are tried. Who can push there can add as many as they like."""
_PAYLOAD_BYTES: Final = 64 << 10
_KEY_BYTES: Final = 64 << 10
"""RSA keys of 16,384 bits take 3."""


class Signatures:
    """What was found to be signed is not asked about again: no registry can take that back."""

    def __init__(self) -> None:
        self._signed: Recent[bool] = Recent(_MAX_SIGNED)
        """By repository, digest, and digest of the key file."""

    async def why_unsigned(self, registry: Registry, name: ImageName, digest: str, file: Path) -> str:
        """Why the image is not signed by the key of that file; empty when it is.

        The file is read each time. Raises `ConfigError` where it cannot be used, and `RegistryError`.
        """
        content, key = await asyncio.to_thread(_key, file)
        known = (str(name), digest, answers.digest_of(content))
        if self._signed.get(*known):
            return ""
        why = await _why_unsigned(registry, name, digest, key)
        if not why:
            self._signed.put(True, *known)
        return why


def _key(file: Path) -> tuple[bytes, Key]:
    """The content, and the key that it holds."""
    try:
        content = read_named(file, _KEY_BYTES)
        return content, signature.public_key(content)
    except OSError as error:
        why = error.strerror or "it cannot be read"
    except ValueError as error:
        why = str(error)
    raise ConfigError(
        f"the key file {file} cannot be used: {why}",
        hint="Name a public key as `cosign generate-key-pair` writes it (cosign.pub) in `verify.cosign_key_file`.",
    )


async def _why_unsigned(registry: Registry, name: ImageName, digest: str, key: Key) -> str:
    reasons: dict[str, None] = {}
    tried = 0
    async with aclosing(_candidates(registry, name, digest)) as manifests:
        async for manifest in manifests:
            for layer in _signatures(manifest):
                tried += 1
                if tried > _MAX_LAYERS:
                    return f"none of its first {_MAX_LAYERS} signatures counts"
                try:
                    await _check(registry, name, layer, digest, key)
                except NotSigned as error:
                    reasons[f"a signature {error}"] = None
                else:
                    return ""
    return "; ".join(reasons) or "no signature"


async def _candidates(registry: Registry, name: ImageName, digest: str) -> AsyncGenerator[Document]:
    """Manifests that may hold signatures of that digest."""
    tag = digest.replace(":", "-")
    if (old := await registry.manifest(name, f"{tag}.sig")) is not None:
        yield old
    listed = await registry.referrers(name, digest)
    if listed is None:
        listed = _listed(await registry.manifest(name, tag))
    # Who signs comes before who only attests, where the list tells them apart.
    listed = sorted(listed, key=lambda each: each.predicate != signature.SIGNING)
    for each in listed[:_MAX_REFERRERS]:
        if (found := await registry.manifest(name, each.digest)) is not None:
            yield found


def _listed(index: Document | None) -> list[Referrer]:
    """Anybody may have given that tag to something else."""
    try:
        return answers.referrers(index.body) if index is not None else []
    except Misspoken:
        return []


def _signatures(manifest: Document) -> list[Layer]:
    """What else an artifact may hold is passed over."""
    try:
        layers = answers.layers(manifest.body)
    except Misspoken:
        return []
    return [each for each in layers if each.type == signature.SIMPLE or each.type.startswith(signature.BUNDLE)]


async def _check(registry: Registry, name: ImageName, layer: Layer, digest: str, key: Key) -> None:
    """Raises `NotSigned`."""
    is_bundle = layer.type != signature.SIMPLE
    if layer.size > _PAYLOAD_BYTES:
        raise NotSigned("is larger than any")
    body = await registry.blob(name, layer.digest, _PAYLOAD_BYTES)
    if body is None:
        raise NotSigned("is named and not there")
    if is_bundle:
        signature.check_bundle(body, digest, key)
    else:
        signature.check_simple(body, layer.annotations.get(signature.ANNOTATION, ""), digest, key)
