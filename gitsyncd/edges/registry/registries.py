"""All registries of an agent, as the engine sees them (`gitsyncd.engine.ports.ImageRegistry`).

Which entry of the agent file an image belongs to is decided here: by the longest prefix that fits, in whole components.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gitsyncd.core.reference import ImageName, beginning, image_name
from gitsyncd.edges.registry.client import Registry
from gitsyncd.edges.registry.connection import Pause, Reach
from gitsyncd.edges.registry.cosign import Signatures
from gitsyncd.edges.registry.credentials import Bearer, Credentials, DockerConfig, Password
from gitsyncd.model.image import DockerConfigAuth, Found, ImagePolicy, RegistryAccess
from gitsyncd.model.source import BearerAuth, PasswordAuth

_NOBODY = RegistryAccess(prefix="")


class Registries:
    """One connection pool for each server and way to reach it. Several tasks may ask at a time."""

    def __init__(self, configured: Sequence[RegistryAccess], *, agent: str, home: Path = Path("/")) -> None:
        """`home` is a folder for credential helpers, made when one is run: settings of clouds, and what they keep."""
        self._home = home
        self._configured = configured
        self._agent = agent
        self._clients: dict[tuple[str, RegistryAccess], Registry] = {}
        self._signatures = Signatures()
        self._pauses: dict[str, Pause] = {}
        """By server, whatever way it is reached: it counts requests by address."""

    async def tags(self, image: str) -> Sequence[str]:
        """Raises `RegistryError`."""
        name = image_name(image)
        return await self._client(name).tags(name)

    async def look(self, policy: ImagePolicy, tag: str) -> Found | None:
        """Raises `RegistryError`, and `ConfigError` for a key file that cannot be used."""
        name = image_name(policy.image)
        client = self._client(name)
        found = await client.look(name, tag, prefer=policy.platforms)
        if found is None or policy.signing_key is None:
            return found
        why = await self._signatures.why_unsigned(client, name, found.digest, policy.signing_key)
        return replace(found, is_signed=not why, unsigned=why)

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()
        self._clients.clear()

    def access(self, name: ImageName) -> RegistryAccess:
        """How this image's registry is reached."""
        fitting = [(len(start), each) for each in self._configured if (start := beginning(each.prefix, name))]
        return max(fitting, key=lambda pair: pair[0], default=(0, _NOBODY))[1]

    def _client(self, name: ImageName) -> Registry:
        access = self.access(name)
        key = (name.server, access)
        if key not in self._clients:
            reach = Reach(
                credentials=credentials_of(access),
                ca_file=access.ca_file,
                allow_plain_http=access.allow_plain_http,
                proxy=access.proxy,
                helpers=access.credential_helpers,
                helpers_home=self._home,
            )
            pause = self._pauses.setdefault(name.server, Pause())
            self._clients[key] = Registry(name.server, reach, agent=self._agent, pause=pause)
        return self._clients[key]


def credentials_of(access: RegistryAccess) -> Credentials | None:
    match access.auth:
        case PasswordAuth(username=username, password_file=file):
            return Password(username=username, file=file)
        case BearerAuth(token_file=file):
            return Bearer(file=file)
        case DockerConfigAuth(file=file):
            return DockerConfig(file=file)
    return None
