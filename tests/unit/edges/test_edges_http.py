"""What edges that speak HTTP share: failures in words, whom to trust, which server an address means."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from gitsyncd.edges.http import Failure, Trouble, failure, origin, trusting
from gitsyncd.edges.named_file import read_named
from tests.gitserver.certificates import Authority


async def failed(address: str, tls: ssl.SSLContext | None = None, proxy: str | None = None) -> Failure:
    """How asking there fails in truth."""
    timeout = aiohttp.ClientTimeout(total=10, sock_read=0.3)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(ssl=tls or True)) as session:
        with pytest.raises((aiohttp.ClientError, OSError)) as caught:
            async with session.get(address, proxy=proxy) as answer:
                await answer.read()
    return failure(caught.value)


@pytest.fixture
def unused() -> Iterator[int]:
    """A port where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
async def server() -> AsyncIterator[str]:
    """Ends in the middle, speaks no TLS, and is no proxy."""

    async def middle(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "10"})
        await answer.prepare(request)
        await answer.write(b"x")
        assert request.transport is not None
        request.transport.close()
        return answer

    app = web.Application()
    app.router.add_get("/middle", middle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_nobody_listens(unused: int) -> None:
    assert await failed(f"http://127.0.0.1:{unused}/") == Failure(
        kind=Trouble.CONNECT, words="cannot connect: Connection refused"
    )


async def test_a_name_that_is_none() -> None:
    assert await failed("http://nowhere.invalid/") == Failure(
        kind=Trouble.NAME, words="the host name cannot be resolved"
    )


async def test_a_server_without_tls(server: str) -> None:
    found = await failed(f"https://{server}/middle")

    assert found.kind is Trouble.TLS
    assert found.words.startswith("no TLS connection: ")


async def test_an_answer_that_ends_in_the_middle(server: str) -> None:
    assert await failed(f"http://{server}/middle") == Failure(
        kind=Trouble.CUT, words="ended the connection in the middle"
    )


async def test_a_server_that_says_nothing() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        found = await failed(f"http://127.0.0.1:{listening.getsockname()[1]}/")

    assert found == Failure(kind=Trouble.SILENCE, words="does not answer: nothing came in time")


async def test_a_proxy_that_lets_nobody_through(server: str) -> None:
    found = await failed("https://registry.example.com/", proxy=f"http://{server}")

    assert (found.kind, found.words) == (Trouble.PROXY, f"no tunnel ({found.status})")


async def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "pki"), Authority(tmp_path / "other")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*authority.server_certificate("127.0.0.1"))
    runner = web.AppRunner(web.Application())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()

    found = await failed(f"https://127.0.0.1:{runner.addresses[0][1]}/", trusting(other.ca_file))
    await runner.cleanup()

    assert found.kind is Trouble.CERTIFICATE
    assert "not trusted: " in found.words


def test_no_text_of_the_library_is_passed_on() -> None:
    error = aiohttp.InvalidURL("https://user:secret@host/", "secret")

    assert failure(error) == Failure(kind=Trouble.OTHER, words="InvalidURL")


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file or directory"), (b"", "no certificates in it"), (b"nonsense", "no certificates in it")],
)
def test_a_ca_file_that_cannot_be_used_is_told_in_words(tmp_path: Path, content: bytes | None, words: str) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(ValueError, match=words):
        trusting(file)


def test_keys_of_connections_are_logged_for_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))

    context = trusting(None)

    assert context.keylog_filename is None
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("https://a/x", "https://a:443/y?z", True),
        ("http://a/", "http://a:80/", True),
        ("https://a/", "http://a/", False),
        ("https://a/", "https://a:8443/", False),
        ("https://a/", "https://a.b/", False),
        ("https://user:password@a/", "https://a/", True),
    ],
)
def test_of_one_server(one: str, other: str, is_same: bool) -> None:
    assert (origin(one) == origin(other)) == is_same


def test_a_named_file_is_read_up_to_a_size_and_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    file, pipe = tmp_path / "file", tmp_path / "pipe"
    file.write_bytes(b"x" * 2048)
    os.mkfifo(pipe)

    assert read_named(file, 2048) == b"x" * 2048
    assert read_named(pipe, 2048) == b""
    with pytest.raises(OSError, match="larger than 1 KiB"):
        read_named(file, 1024)
    with pytest.raises(FileNotFoundError):
        read_named(tmp_path / "none", 1024)
