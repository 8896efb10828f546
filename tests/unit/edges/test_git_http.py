"""Every way in which aiohttp fails is a `SourceError` in our own words."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from gitsyncd.edges.git.caps import Caps
from gitsyncd.edges.git.http import HttpRemote
from gitsyncd.model.address import redacted
from gitsyncd.model.errors import ConfigError, SourceDenied, SourceError
from gitsyncd.model.source import PasswordAuth, Repository

URL = "https://git.example.com/fleet.git"
SECRET = "t0ken"


def all_below(kind: type[aiohttp.ClientError]) -> Iterator[type[aiohttp.ClientError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from all_below(child)


def made(kind: type[aiohttp.ClientError]) -> aiohttp.ClientError:
    """One of these, holding a secret wherever a text goes."""
    connection: Any = SimpleNamespace(host="git.example.com", port=443, ssl=True, is_ssl=True)
    attempts: list[tuple[Any, ...]] = [
        (connection, ssl.SSLCertVerificationError(1, SECRET))
        if "Certificate" in kind.__name__
        else (connection, OSError(111, SECRET)),
        (b"", b"", connection, OSError(111, SECRET)),
        (SECRET, connection, OSError(111, SECRET)),
        (SimpleNamespace(real_url=SECRET), ()),
        (SECRET,),
    ]
    for arguments in attempts:
        try:
            return kind(*arguments)
        except (TypeError, AttributeError):
            continue
    raise AssertionError(f"no way known to make a {kind.__name__}")


@pytest.mark.parametrize("kind", sorted(set(all_below(aiohttp.ClientError)), key=str))
def test_every_error_of_aiohttp_is_translated_without_its_text(kind: type[aiohttp.ClientError]) -> None:
    remote = HttpRemote(Repository(url=URL), agent="a", caps=Caps())

    error = remote._translated(made(kind))

    assert isinstance(error, SourceError)
    assert str(error).startswith(URL)
    assert SECRET not in f"{error} {error.hint}"
    assert isinstance(error, SourceDenied) == ("Certificate" in kind.__name__)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:secret@host/x.git", "https://host/x.git"),
        ("https://user@host:8443/x.git?token=secret#secret", "https://host:8443/x.git"),
        ("file:///srv/x.git", "file:///srv/x.git"),
    ],
)
def test_urls_are_shown_without_user_password_and_query(url: str, shown: str) -> None:
    assert redacted(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "ssh://git@host/x",
        "git@host:x",
        "host/x.git",
        "https://",
        "-oProxyCommand=x",
        "",
        "https://[bad",
        "https://host:port/x",
    ],
)
def test_urls_that_cannot_be_asked_are_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        HttpRemote(Repository(url=url), agent="a", caps=Caps())


def test_the_keys_of_tls_sessions_are_never_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))

    context = HttpRemote(Repository(url=URL), agent="a", caps=Caps())._tls_context()

    assert context.keylog_filename is None
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize("kind", ["pipe", "empty", "folder"])
def test_a_password_file_that_holds_none_is_refused_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "password"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "empty":
            path.write_text("\n")
        case _:
            path.mkdir()
    auth = PasswordAuth(username="git", password_file=path)

    with pytest.raises(SourceDenied) as caught:
        HttpRemote(Repository(url=URL, auth=auth), agent="a", caps=Caps())._headers(
            "advertisement", None, "git-upload-pack"
        )

    assert f"the password file {path} cannot be read" in caught.value.message
