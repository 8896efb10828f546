"""Registries behind a proxy: everything goes through it, and what it refuses is told as its doing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitsyncd.edges.registry.registries import Registries
from gitsyncd.model.errors import RegistryDenied, RegistryError, RegistryUnreachable
from gitsyncd.model.image import ImagePolicy, RegistryAccess, Rule, Select
from gitsyncd.model.source import PasswordAuth
from tests.registry import server
from tests.registry.images import image
from tests.registry.peculiar import Answer, Peculiar, always, listing
from tests.registry.proxy import Proxy

SECRET = server.Registry.password


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[server.Registry]:
    with server.Registry(tmp_path_factory.mktemp("registry") / "debian") as registry:
        yield registry


@pytest.mark.real
async def test_a_registry_with_tls_is_asked_through_a_tunnel_that_sees_no_secret(
    debian: server.Registry, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text(SECRET)
    pushed = debian.push("team/front", "1.0.0", image())
    async with Proxy() as proxy:
        auth = PasswordAuth(username=debian.username, password_file=tmp_path / "password")
        access = RegistryAccess(prefix=debian.server, auth=auth, ca_file=debian.ca_file, proxy=proxy.url)
        registries = Registries([access], agent="gitsyncd/test (edge)")
        try:
            tags = await registries.tags(f"{debian.server}/team/front")
            policy = ImagePolicy(name="front", image=f"{debian.server}/team/front", select=Select(rule=Rule.SEMVER))
            found = await registries.look(policy, "1.0.0")
        finally:
            await registries.close()

    assert tags == ["1.0.0"]
    assert found is not None
    assert found.digest == pushed
    assert set(proxy.asked) == {f"CONNECT {debian.server}"}
    assert not [head for head in proxy.told if b"uthorization" in head]


async def tags_through(proxy: str, host: str) -> list[str]:
    registries = Registries(
        [RegistryAccess(prefix=host, allow_plain_http=True, proxy=proxy)], agent="gitsyncd/test (edge)"
    )
    try:
        return list(await registries.tags(f"{host}/team/front"))
    finally:
        await registries.close()


async def test_a_registry_without_tls_and_its_token_server_are_asked_through_it() -> None:
    def answer(path: str, authorization: str) -> Answer:
        if path.startswith("/token"):
            return 200, {}, b'{"token": "t"}'
        if not authorization:
            return 401, {"WWW-Authenticate": f'Bearer realm="http://{tokens.host}/token"'}, b""
        return 200, {}, listing("1.0.0")

    with Peculiar(answer) as peculiar, Peculiar(answer) as tokens:
        async with Proxy() as proxy:
            assert await tags_through(proxy.url, peculiar.host) == ["1.0.0"]

    assert [line.partition("?")[0] for line in proxy.asked] == [
        f"GET http://{peculiar.host}/v2/team/front/tags/list",
        f"GET http://{tokens.host}/token",
        f"GET http://{peculiar.host}/v2/team/front/tags/list",
    ]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(407, RegistryDenied), (403, RegistryDenied), (502, RegistryUnreachable), (503, RegistryUnreachable)],
)
async def test_what_the_proxy_refuses_is_told_as_its_doing(status: int, kind: type[RegistryError]) -> None:
    async with Proxy(status) as proxy:
        registries = Registries([RegistryAccess(prefix="r.example", proxy=proxy.url)], agent="gitsyncd/test (edge)")
        with pytest.raises(kind, match="does not let the agent through") as caught:
            await registries.tags("r.example/team/front")
        await registries.close()

    assert proxy.url in str(caught.value)
    assert str(status) in str(caught.value)
    assert proxy.asked == ["CONNECT r.example:443"]


async def test_a_proxy_that_is_down_is_named() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with Peculiar(always(body=listing("1.0.0"))) as peculiar:
            with pytest.raises(RegistryUnreachable, match=f"the proxy {proxy} for .*cannot connect"):
                await tags_through(proxy, peculiar.host)

    assert peculiar.heard == []


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Proxy(403) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        with Peculiar(always(body=listing("1.0.0"))) as peculiar:
            assert await tags_through("", peculiar.host) == ["1.0.0"]

    assert proxy.asked == []
