"""Registries whose credentials a helper prints: logged in with, renewed when they are refused, and never told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gitsyncd.edges.registry import helper as helper_module
from gitsyncd.edges.registry.registries import Registries
from gitsyncd.model.errors import RegistryDenied
from gitsyncd.model.image import DockerConfigAuth, RegistryAccess
from tests.registry import server
from tests.registry.images import image
from tests.registry.peculiar import Answer, Peculiar, listing


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[server.Registry]:
    with server.Registry(tmp_path_factory.mktemp("registry") / "debian") as registry:
        yield registry


@pytest.fixture
def printing(tmp_path: Path) -> Callable[[str], Path]:
    """Makes the helper print this password, and tells where it is."""
    file = tmp_path / "docker-credential-test"

    def prints(password: str) -> Path:
        file.write_text(f'#!/bin/sh\necho \'{{"ServerURL": "x", "Username": "robot", "Secret": "{password}"}}\'\n')
        file.chmod(0o755)
        return file

    return prints


def registries(host: str, helper: Path, folder: Path, ca_file: Path | None = None) -> Registries:
    config = folder / "config.json"
    config.write_text(json.dumps({"credHelpers": {host: "test"}}))
    access = RegistryAccess(
        prefix=host,
        auth=DockerConfigAuth(file=config),
        ca_file=ca_file,
        allow_plain_http=ca_file is None,
        credential_helpers=(helper,),
    )
    return Registries([access], agent="gitsyncd/test (edge)", home=folder / "home")


@pytest.mark.real
async def test_a_registry_is_logged_in_to_with_what_a_helper_prints(
    debian: server.Registry, printing: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper_module, "_RETRY_S", 0.0)
    debian.push("team/front", "1.0.0", image())
    asked = registries(debian.server, printing("wrong-secret"), tmp_path, debian.ca_file)
    try:
        with pytest.raises(RegistryDenied, match="refuses the credentials of user 'robot'") as caught:
            await asked.tags(f"{debian.server}/team/front")
        printing(debian.password)
        found = await asked.tags(f"{debian.server}/team/front")
    finally:
        await asked.close()

    assert list(found) == ["1.0.0"]
    assert "wrong-secret" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("has_tokens", [True, False], ids=["tokens", "basic"])
async def test_credentials_that_have_expired_are_renewed_within_the_same_look(
    printing: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, has_tokens: bool
) -> None:
    """ECR answers 403 to a password that has expired, others 401."""
    monkeypatch.setattr(helper_module, "_RETRY_S", 0.0)
    good = ""

    def answer(path: str, authorization: str) -> Answer:
        challenge = f'Bearer realm="http://{peculiar.host}/token"' if has_tokens else 'Basic realm="x"'
        scheme, _, secret = authorization.partition(" ")
        if path.startswith("/token"):
            return (200, {}, json.dumps({"token": secret}).encode()) if secret == good else (status, {}, b"")
        if secret and secret == good:
            return 200, {}, listing("1.0.0")
        return status if scheme else 401, {"WWW-Authenticate": challenge}, b""

    with Peculiar(answer) as peculiar:
        asked = registries(peculiar.host, printing("one"), tmp_path)
        try:
            good = "cm9ib3Q6b25l"  # robot:one
            first = await asked.tags(f"{peculiar.host}/team/front")
            good = "cm9ib3Q6dHdv"  # robot:two
            printing("two")
            second = await asked.tags(f"{peculiar.host}/team/front")
        finally:
            await asked.close()

    assert (list(first), list(second)) == (["1.0.0"], ["1.0.0"])
