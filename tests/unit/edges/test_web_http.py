"""HTTP seen from a socket: what is answered, what is refused, and that nobody holds on to the daemon."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from gitsyncd.edges.web import http
from gitsyncd.edges.web.http import Answer
from gitsyncd.model.errors import LocalError
from gitsyncd.model.target import Listen

Address = tuple[str, int]
SECURITY = {"content-security-policy", "x-content-type-options", "cross-origin-resource-policy", "referrer-policy"}


async def _fine(accept: str) -> Answer:
    return Answer(200, f"fine for {accept or 'anybody'}\n".encode())


@pytest.fixture
async def address() -> AsyncIterator[Address]:
    async with http.serve(Listen(host="127.0.0.1", port=0), {"/fine": _fine}) as shown:
        host, _, port = shown.rpartition(":")
        yield host, int(port)


async def talk(address: Address, request: str) -> str:
    """All that is sent back until the connection ends."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(request.replace("\n", "\r\n").encode("latin-1"))
        answer = await reader.read()
    finally:
        writer.close()
    return answer.decode()


async def status(address: Address, request: str) -> int:
    return int((await talk(address, request)).split()[1])


def ask(method: str = "GET", path: str = "/fine", host: str = "localhost", *more: str) -> str:
    return "\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *more, "", ""])


async def test_a_known_path_is_answered_and_the_connection_ends(address: Address) -> None:
    head, _, body = (await talk(address, ask())).partition("\r\n\r\n")

    lines = head.lower().split("\r\n")
    assert lines[0] == "http/1.1 200 ok"
    assert body == "fine for anybody\n"
    assert "connection: close" in lines
    assert f"content-length: {len(body)}" in lines
    assert "cache-control: no-store" in lines
    assert "server: gitsyncd" in lines
    assert {line.partition(":")[0] for line in lines} >= SECURITY


async def test_head_is_told_the_same_without_the_body(address: Address) -> None:
    get = (await talk(address, ask())).partition("\r\n\r\n")[0]
    head, _, body = (await talk(address, ask("HEAD"))).partition("\r\n\r\n")

    assert body == ""
    assert [line for line in head.split("\r\n") if not line.startswith("Date")] == [
        line for line in get.split("\r\n") if not line.startswith("Date")
    ]


async def test_the_header_accept_reaches_the_route(address: Address) -> None:
    assert (await talk(address, ask("GET", "/fine", "localhost", "Accept: a", "Accept: b"))).endswith("fine for a, b\n")


@pytest.mark.parametrize("path", ["/", "/fine/", "//fine", "/./fine", "/x/../fine", "/%66ine", "/fine%00", "/FINE"])
async def test_every_other_path_is_not_found(address: Address, path: str) -> None:
    assert await status(address, ask(path=path)) == 404


async def test_a_query_is_passed_by(address: Address) -> None:
    assert await status(address, ask(path="/fine?verbose=1")) == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_other_methods_are_not_allowed_whatever_they_send(address: Address, method: str) -> None:
    body = "x" * 5000

    answer = await talk(address, ask(method, "/fine", "localhost", f"Content-Length: {len(body)}") + body)

    assert answer.startswith("HTTP/1.1 405 ")
    assert "Allow: GET, HEAD\r\n" in answer


@pytest.mark.parametrize("host", ["localhost", "localhost:9480", "127.0.0.1", "127.0.0.1:1", "127.8.8.8", "[::1]:9480"])
async def test_names_of_this_machine_are_answered(address: Address, host: str) -> None:
    assert await status(address, ask(host=host)) == 200


@pytest.mark.parametrize(
    "host", ["evil.example.com", "evil.example.com:9480", "localhost.evil.example.com", "10.0.0.1", "", "[::1", "a@b"]
)
async def test_a_name_that_only_resolves_to_this_machine_is_not_answered(address: Address, host: str) -> None:
    assert await status(address, ask(host=host)) in {400, 421}


async def test_a_host_is_named_once_and_only_old_clients_may_leave_it_out(address: Address) -> None:
    assert await status(address, ask("GET", "/fine", "localhost", "Host: evil.example.com")) in {400, 421}
    assert await status(address, "GET /fine HTTP/1.1\n\n") in {400, 421}
    assert await status(address, "GET /fine HTTP/1.0\n\n") == 200
    assert await status(address, "GET /fine\n\n") == 421


async def test_where_everybody_may_ask_every_name_is_answered() -> None:
    async with http.serve(Listen(host="0.0.0.0", port=0), {"/fine": _fine}) as shown:
        assert await status(("127.0.0.1", int(shown.rpartition(":")[2])), ask(host="node-1.example.com")) == 200


@pytest.mark.parametrize(
    "request_text",
    [
        "GET /fine HTTP/1.1\nHost: localhost\nX: \x00\n\n",
        "GET /fine HTTP/1.1\nHost: localhost\nno colon\n\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n",
        ask(path="/" + "x" * (http.MAX_HEAD_BYTES + 1)),
        ask("GET", "/fine", "localhost", "X: " + "x" * (http.MAX_HEAD_BYTES + 1)),
        ask("GET", "/fine", "localhost", *(f"X-{n}: y" for n in range(http.MAX_HEADERS + 1))),
        ask("GET", "/fine", "localhost", "Content-Length: 1", "Transfer-Encoding: chunked"),
    ],
    ids=["nul", "header", "tls", "long-path", "long-header", "many-headers", "two-lengths"],
)
async def test_what_is_no_request_is_refused_without_a_word_of_the_machine(address: Address, request_text: str) -> None:
    answer = await talk(address, request_text)

    assert answer.startswith("HTTP/1.") and answer.split()[1] == "400"
    assert "Traceback" not in answer and "/" + "usr" not in answer


async def test_a_connection_that_says_nothing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LIFETIME_S", 0.05)
    async with http.serve(Listen(host="127.0.0.1", port=0), {}) as shown:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(shown.rpartition(":")[2]))
        writer.write(b"GET /fi")

        assert await _ended(reader)
        writer.close()


async def test_an_answer_that_nobody_reads_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LIFETIME_S", 0.05)
    asked = asyncio.Event()

    async def long(_accept: str) -> Answer:
        asked.set()
        return Answer(200, b"x" * (64 << 20))

    monkeypatch.setattr(http, "MAX_CONNECTIONS", 1)
    async with http.serve(Listen(host="127.0.0.1", port=0), {"/long": long, "/fine": _fine}) as shown:
        place = ("127.0.0.1", int(shown.rpartition(":")[2]))
        with socket.create_connection(place) as connection:
            connection.sendall(ask(path="/long").replace("\n", "\r\n").encode())
            await asked.wait()

            async with asyncio.timeout(20):
                while not await _is_answered(place):
                    pass


async def test_one_connection_too_many_is_turned_away_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 2)
    async with http.serve(Listen(host="127.0.0.1", port=0), {"/fine": _fine}) as shown:
        place = ("127.0.0.1", int(shown.rpartition(":")[2]))
        held = [await asyncio.open_connection(*place) for _ in range(2)]
        reader, writer = await asyncio.open_connection(*place)

        assert await _ended(reader)
        writer.close()
        held[0][1].write(ask().replace("\n", "\r\n").encode())
        assert (await held[0][0].read()).startswith(b"HTTP/1.1 200 ")
        held[0][1].close()
        held[1][1].close()


async def test_the_end_does_not_wait_for_whoever_is_connected() -> None:
    async with http.serve(Listen(host="127.0.0.1", port=0), {"/fine": _fine}) as shown:
        place = ("127.0.0.1", int(shown.rpartition(":")[2]))
        reader, writer = await asyncio.open_connection(*place)

    assert await _ended(reader)
    writer.close()
    with pytest.raises(OSError):
        await asyncio.open_connection(*place)


async def test_a_port_that_is_taken_is_said_with_what_to_write() -> None:
    async with http.serve(Listen(host="127.0.0.1", port=0), {}) as shown:
        taken = Listen(host="127.0.0.1", port=int(shown.rpartition(":")[2]))

        with pytest.raises(LocalError, match=r"cannot listen on 127\.0\.0\.1:\d+: ") as caught:
            async with http.serve(taken, {}):
                pass

    assert "listen: null" in caught.value.hint


async def test_an_address_of_version_six_is_shown_in_brackets() -> None:
    async with http.serve(Listen(host="::1", port=0), {"/fine": _fine}) as shown:
        assert shown.startswith("[::1]:")
        assert await status(("::1", int(shown.rpartition(":")[2])), ask(host=shown)) == 200


async def _is_answered(place: Address) -> bool:
    try:
        return (await talk(place, ask())).startswith("HTTP/1.1 200 ")
    except ConnectionError:
        return False  # turned away


async def _ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True
