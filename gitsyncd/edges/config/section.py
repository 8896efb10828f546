"""What every section of the agent file is, and the two that several others have: who asks, and whom to trust."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gitsyncd.edges.config.values import (
    FileName,
)


class Section(BaseModel):
    """A map of the agent file: strict types, no unknown keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    later: ClassVar[Mapping[str, Sequence[Any]]] = {}
    """Keys that a later version will know, with the values that ask for what is done anyhow: those are accepted."""
    example: ClassVar[dict[str, Any] | None] = None
    """The least that is useful, where that is more than the required keys."""

    @model_validator(mode="before")
    @classmethod
    def _without_what_is_so_anyhow(cls, value: Any) -> Any:
        if not cls.later or not isinstance(value, dict):
            return value
        return {key: item for key, item in value.items() if item not in cls.later.get(key, ())}


class Auth(Section):
    """Who asks: exactly one of a password, a token, a client certificate and, over SSH, a key. Every file is read again
    when it changes.
    """

    later = {"github_app": ()}
    example = {"username": "git", "password_file": "/etc/gitsyncd/fleet.token"}

    username: str | None = Field(
        None,
        description="With `password_file`: most servers accept any name beside a token. Over SSH, where the address "
        "names no user: `git` when left out.",
        examples=["git"],
    )
    password_file: FileName | None = Field(
        None,
        description="A file that holds the password or token and nothing else.",
        examples=["/etc/gitsyncd/fleet.token"],
    )
    bearer_file: FileName | None = Field(
        None, description="A file that holds a token that is sent as `Authorization: Bearer`, in place of a password."
    )
    client_cert_file: FileName | None = Field(
        None, description="A client certificate (PEM), in place of a password. Only for `https://`."
    )
    client_key_file: FileName | None = Field(None, description="With `client_cert_file`: its key, without passphrase.")
    ssh_key_file: FileName | None = Field(
        None,
        description="A private key (ed25519, ECDSA or RSA). Only over SSH.",
        examples=["/etc/gitsyncd/fleet.ssh"],
    )
    ssh_key_passphrase_file: FileName | None = Field(
        None, description="With `ssh_key_file`: a file that holds its passphrase, if it has one."
    )
    known_hosts_file: FileName | None = Field(
        None,
        description="With `ssh_key_file`, and required there: the keys that the server may have, as ssh has them in "
        "`known_hosts`. A server with another key is not asked.",
        examples=["/etc/gitsyncd/known_hosts"],
    )


class Tls(Section):
    """Whom to trust."""

    ca_file: FileName = Field(
        description="Certificates (PEM) that are trusted instead of the system's.", examples=["/etc/ssl/my-ca.pem"]
    )
