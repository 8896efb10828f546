"""Which entry of the agent file an image's registry is asked by, and what that makes of its credentials."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

import pytest

from gitsyncd.core.reference import image_name
from gitsyncd.edges.registry.credentials import Bearer, DockerConfig, Login, Password
from gitsyncd.edges.registry.registries import Registries, credentials_of
from gitsyncd.engine.ports import ImageRegistry
from gitsyncd.model.image import DockerConfigAuth, RegistryAccess
from gitsyncd.model.source import BearerAuth, PasswordAuth


def registries(*prefixes: str) -> Registries:
    return Registries([RegistryAccess(prefix=prefix) for prefix in prefixes], agent="gitsyncd/test (edge)")


def test_it_is_what_the_engine_asks_for() -> None:
    asked: ImageRegistry = registries()

    assert asked is not None


@pytest.mark.parametrize(
    ("image", "prefixes", "chosen"),
    [
        ("registry.example.com/team/front", ["registry.example.com"], "registry.example.com"),
        ("registry.example.com/team/front", ["registry.example.com/team"], "registry.example.com/team"),
        ("registry.example.com/team/front", ["registry.example.com/team/front"], "registry.example.com/team/front"),
        # the longest, wherever it stands
        ("r.example/team/front", ["r.example", "r.example/team", "r.example/other"], "r.example/team"),
        ("r.example/team/front", ["r.example/team", "r.example"], "r.example/team"),
        # whole components only
        ("registry.example.com/teams/front", ["registry.example.com/team"], ""),
        ("registry.example.com/team/frontend", ["registry.example.com/team/front"], ""),
        ("registry.example.community/front", ["registry.example.com"], ""),
        # a port is part of the host
        ("registry.example.com:5000/front", ["registry.example.com"], ""),
        ("registry.example.com:5000/front", ["registry.example.com:5000"], "registry.example.com:5000"),
        # a slash at the end is how people write folders
        ("registry.example.com/team/front", ["registry.example.com/team/"], "registry.example.com/team/"),
        # Docker Hub, however it is written on either side
        ("nginx", ["docker.io"], "docker.io"),
        ("nginx", ["docker.io/library"], "docker.io/library"),
        ("library/nginx", ["docker.io/library"], "docker.io/library"),
        ("docker.io/nginx", ["index.docker.io"], "index.docker.io"),
        ("grafana/grafana", ["docker.io"], "docker.io"),
        ("grafana/grafana", ["index.docker.io"], "index.docker.io"),
        ("grafana/grafana", ["docker.io/library"], ""),
        ("grafana/grafana", ["docker.io/grafana", "docker.io"], "docker.io/grafana"),
        ("grafana/grafana", ["grafana"], "grafana"),
        ("grafana/grafana", ["grafan"], ""),
        ("ghcr.io/grafana/grafana", ["grafana"], ""),
        # what can be no prefix fits nothing
        ("registry.example.com/team/front", ["https://registry.example.com", "REGISTRY/team", ""], ""),
    ],
)
def test_the_longest_prefix_of_whole_components_decides(image: str, prefixes: list[str], chosen: str) -> None:
    assert registries(*prefixes).access(image_name(image)).prefix == chosen


def test_of_two_ways_to_write_one_prefix_the_longer_name_is_meant_and_not_the_longer_text() -> None:
    asked = registries("index.docker.io", "grafana")

    assert asked.access(image_name("grafana/grafana")).prefix == "grafana"


def test_credentials_are_made_of_what_the_agent_file_says(tmp_path: Path) -> None:
    file = tmp_path / "secret"

    password = credentials_of(RegistryAccess(prefix="r", auth=PasswordAuth(username="robot", password_file=file)))
    bearer = credentials_of(RegistryAccess(prefix="r", auth=BearerAuth(token_file=file)))
    docker = credentials_of(RegistryAccess(prefix="r", auth=DockerConfigAuth(file=file)))

    assert password == Password(username="robot", file=file)
    assert bearer == Bearer(file=file)
    assert docker == DockerConfig(file=file)
    assert credentials_of(RegistryAccess(prefix="r")) is None


def test_credentials_are_read_at_each_use(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    password = Password(username="robot", file=file)
    file.write_text("one\n")
    first = password.login("registry.example.com")
    file.write_text("two\n")

    second = password.login("registry.example.com")

    assert [each.password for each in (first, second) if each] == ["one", "two"]


@pytest.mark.parametrize(
    ("server", "key"),
    [
        ("registry.example.com", "registry.example.com"),
        ("registry.example.com:5000", "registry.example.com:5000"),
        ("registry.example.com", "https://registry.example.com"),
        ("registry.example.com", "https://registry.example.com/v1/"),
        ("registry.example.com", "https://registry.example.com/v2/"),
        ("registry-1.docker.io", "https://index.docker.io/v1/"),
        ("registry-1.docker.io", "docker.io"),
    ],
)
def test_a_docker_configuration_is_searched_by_every_name_of_the_server(tmp_path: Path, server: str, key: str) -> None:
    file = tmp_path / "config.json"
    packed = b64encode(b"robot:pass:word").decode()
    file.write_text(json.dumps({"auths": {"other.example.com": {"auth": "x"}, key: {"auth": packed}}}))

    found = DockerConfig(file=file).login(server)

    assert found == Login(username="robot", password="pass:word", shown="user 'robot'", file=file)
    assert "pass:word" not in repr(found)


def test_a_docker_configuration_without_the_server_asks_withoutcredentials_of(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"auths": {"other.example.com": {"auth": "cm9ib3Q6eA=="}}}')

    assert DockerConfig(file=file).login("registry.example.com") is None


async def test_one_client_serves_all_images_of_a_server_that_are_reached_alike() -> None:
    asked = registries("r.example/team", "r.example")
    names = [image_name(f"r.example/{path}") for path in ("team/a", "team/b", "other/c")]

    clients = [asked._client(name) for name in names]

    assert clients[0] is clients[1]
    assert clients[0] is not clients[2]
    await asked.close()
    assert asked._client(names[0]) is not clients[0]
