"""The webhook listener seen from a socket: who is believed, what is refused and how little is told, and its bounds."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import hmac
import json
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from aiohttp.http_exceptions import BadHttpMessage

from gitsyncd.core.allowance import Rate
from gitsyncd.core.hooks import moved_branches, pushed_images
from gitsyncd.edges.web import gate, hooks
from gitsyncd.edges.web.hooks import MAX_BODY, Door
from gitsyncd.model.errors import LocalError
from gitsyncd.model.hook import EVERYTHING, SOURCE_KINDS, Hook, HookKind, News
from gitsyncd.model.target import Listen
from tests.gitserver.certificates import Authority

LOOPBACK = Listen(host="127.0.0.1", port=0)
SECRET = b"knock-knock"
PUSH = json.dumps({"ref": "refs/heads/main"}).encode()
MAIN = News(frozenset({"main"}))
DEFECTS: list[Exception] = []


@pytest.fixture(autouse=True)
def no_defects() -> Iterator[None]:
    DEFECTS.clear()
    yield
    assert DEFECTS == []


@dataclass(slots=True)
class Listener:
    """Hooks by path, and what became of deliveries."""

    folder: Path
    doors: dict[str, list[Door]] = field(default_factory=dict)
    rung: list[News] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    port: int = 0
    bell: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, kind: HookKind, path: str = "/hooks/fleet", secret: bytes = SECRET + b"\n") -> Door:
        """In place of whoever was at this path."""
        file = self.folder / "hook.secret"
        file.write_bytes(secret)
        door = self.door(kind, path, file)
        self.doors[path] = [door]
        return door

    def door(self, kind: HookKind, name: str, file: Path) -> Door:
        read = moved_branches if kind in SOURCE_KINDS else pushed_images

        def ring(event: str, body: Any) -> None:
            self.rung.append(read(kind, event, body))
            self.bell.set()

        return Door(name=name, hook=Hook(kind=kind, secret_file=file), ring=ring, refused=self.refused.append)

    def find(self, path: str) -> list[Door]:
        return self.doors.get(path, [])

    async def ring(self, count: int = 1) -> list[News]:
        """Once it was rung so often."""
        async with asyncio.timeout(20):
            while len(self.rung) < count:
                self.bell.clear()
                await self.bell.wait()
        return self.rung

    async def talk(self, request: bytes, context: ssl.SSLContext | None = None) -> bytes:
        """All that is sent back until the connection ends."""
        name = "127.0.0.1" if context else None
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname=name)
        try:
            writer.write(request)
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async def post(self, body: bytes = PUSH, /, **keys: str) -> int:
        answer = await self.talk(post(body, **keys))
        return int(answer.split()[1]) if answer else 0


def post(body: bytes = PUSH, /, path: str = "/hooks/fleet", method: str = "POST", **headers: str) -> bytes:
    sent = {"Host": "hooks.example.com", "Content-Length": str(len(body)), "Content-Type": "application/json"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items() if value)]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body


def signature(body: bytes = PUSH, secret: bytes = SECRET) -> str:
    return hmac.new(secret, body, hashlib.sha256).hexdigest()


def github(body: bytes = PUSH, /, event: str = "push", **more: str) -> dict[str, str]:
    return {"X_Hub_Signature_256": f"sha256={signature(body)}", "X_GitHub_Event": event, **more}


@pytest.fixture
async def listener(tmp_path: Path) -> AsyncIterator[Listener]:
    found = Listener(tmp_path)
    async with hooks.serve(LOOPBACK, None, found.find, broken=DEFECTS.append) as address:
        found.port = int(address.rpartition(":")[2])
        yield found


# --- Who is believed -------------------------------------------------------------------------------------------------
def basic(secret: bytes) -> str:
    return "Basic " + b64encode(b"azure:" + secret).decode()


AZURE_PUSH = json.dumps({"eventType": "git.push", "resource": {"refUpdates": [{"name": "refs/heads/main"}]}}).encode()
BITBUCKET_PUSH = json.dumps({"push": {"changes": [{"new": {"type": "branch", "name": "main"}}]}}).encode()
QUAY_PUSH = json.dumps({"docker_url": "quay.io/team/front", "updated_tags": ["1"]}).encode()
HUB_PUSH = json.dumps({"repository": {"repo_name": "team/front"}}).encode()
HARBOR_PUSH = json.dumps(
    {"type": "PUSH_ARTIFACT", "event_data": {"resources": [{"resource_url": "h.example.com/a/b:1"}]}}
).encode()

# fmt: off
SENDERS: list[tuple[HookKind, bytes, dict[str, str], str, News]] = [
    (HookKind.GITHUB, PUSH, github(), "", MAIN),
    (HookKind.GITLAB, PUSH, {"X_Gitlab_Token": SECRET.decode(), "X_Gitlab_Event": "Push Hook"}, "", MAIN),
    (HookKind.GITEA, PUSH, {"X_Gitea_Signature": signature(), "X_Gitea_Event": "push"}, "", MAIN),
    (HookKind.BITBUCKET, BITBUCKET_PUSH, {"X_Hub_Signature": f"sha256={signature(BITBUCKET_PUSH)}", "X_Event_Key": "repo:push"}, "", MAIN),
    (HookKind.AZURE, AZURE_PUSH, {"Authorization": basic(SECRET)}, "", MAIN),
    (HookKind.GENERIC, b"", {"X_Gitsyncd_Signature": f"sha256={signature(b'')}"}, "", EVERYTHING),
    (HookKind.DOCKER_HUB, HUB_PUSH, {}, f"?token={quote(SECRET)}", News(frozenset({"docker.io/team/front"}))),
    (HookKind.GHCR, b"{}", github(b"{}", "registry_package"), "", EVERYTHING),
    (HookKind.HARBOR, HARBOR_PUSH, {"Authorization": SECRET.decode()}, "", News(frozenset({"h.example.com/a/b"}))),
    (HookKind.QUAY, QUAY_PUSH, {}, f"?token={quote(SECRET)}", News(frozenset({"quay.io/team/front"}))),
    (HookKind.GENERIC, b"", {"X_Gitsyncd_Signature": f"sha256={signature(b'')}"}, "", EVERYTHING),
]
# fmt: on


@pytest.mark.parametrize(("kind", "body", "headers", "query", "news"), SENDERS, ids=lambda value: str(value)[:20])
async def test_each_kind_of_sender_rings_and_is_told_nothing(
    listener: Listener, kind: HookKind, body: bytes, headers: dict[str, str], query: str, news: News
) -> None:
    listener.add(kind)

    answer = await listener.talk(post(body, path=f"/hooks/fleet{query}", **headers))

    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 202 ") and rest == b""
    assert b"aiohttp" not in head and b"Python" not in head
    assert await listener.ring() == [news]
    assert listener.refused == []


@pytest.mark.parametrize(("kind", "body", "headers", "query", "news"), SENDERS, ids=lambda value: str(value)[:20])
async def test_with_another_secret_nobody_rings(
    listener: Listener, kind: HookKind, body: bytes, headers: dict[str, str], query: str, news: News
) -> None:
    listener.add(kind, secret=b"changed")

    answer = await listener.talk(post(body, path=f"/hooks/fleet{query}", **headers))

    assert answer.startswith(b"HTTP/1.1 401 ") and answer.endswith(b"\r\n\r\n")
    assert listener.rung == []
    assert len(listener.refused) == 1 and SECRET.decode() not in listener.refused[0]


async def test_a_secret_that_was_replaced_counts_from_the_next_delivery_on(listener: Listener) -> None:
    listener.add(HookKind.GITHUB, secret=b"old")
    assert await listener.post(**github()) == 401

    (listener.folder / "hook.secret").write_bytes(SECRET)

    assert await listener.post(**github()) == 202


@pytest.mark.parametrize("secret", [b"", b"\n", b" \r\n", b"x" * (hooks.MAX_SECRET + 1), None])
async def test_without_a_secret_nobody_is_believed(listener: Listener, secret: bytes | None) -> None:
    listener.add(HookKind.GITHUB, secret=secret or b"")
    if secret is None:
        (listener.folder / "hook.secret").unlink()

    assert await listener.post(X_Hub_Signature_256=f"sha256={signature(secret=(secret or b'').strip())}") == 503
    assert listener.rung == [] and "hook.secret" in listener.refused[0]


async def test_several_may_ring_at_one_path_each_in_its_own_way(listener: Listener) -> None:
    for number, kind in enumerate([HookKind.GHCR, HookKind.HARBOR, HookKind.QUAY, HookKind.GENERIC, HookKind.GENERIC]):
        file = listener.folder / str(number)
        file.write_bytes(b"secret-%d" % number)
        listener.doors.setdefault("/image-hooks", []).append(listener.door(kind, str(number), file))
    image = News(frozenset({"quay.io/team/front"}))
    generic = {"X_Gitsyncd_Signature": f"sha256={signature(b'', b'secret-4')}"}

    assert await listener.post(HARBOR_PUSH, path="/image-hooks", Authorization="secret-1") == 202
    assert await listener.post(QUAY_PUSH, path="/image-hooks?token=secret-2") == 202
    assert await listener.post(b"", path="/image-hooks", **generic) == 202
    assert await listener.ring(3) == [News(frozenset({"h.example.com/a/b"})), image, EVERYTHING]
    assert listener.refused == []

    assert await listener.post(path="/image-hooks?token=secret-1", Authorization="secret-2") == 401
    assert len(listener.refused) == 2  # those whose kind of proof was shown

    (listener.folder / "3").unlink()
    assert await listener.post(b"", path="/image-hooks", **generic) == 202  # one secret that is gone is one sender


async def test_a_signature_is_over_the_bytes_as_they_came(listener: Listener) -> None:
    listener.add(HookKind.GITHUB)

    assert await listener.post(PUSH.replace(b" ", b""), **github()) == 401
    assert await listener.post(gzip.compress(PUSH), **github(), Content_Encoding="gzip") == 401
    packed = gzip.compress(PUSH)
    assert await listener.post(packed, **github(packed), Content_Encoding="gzip") == 202
    assert await listener.ring() == [EVERYTHING]  # what is packed is never unpacked


async def test_a_form_is_understood_as_github_sends_it(listener: Listener) -> None:
    listener.add(HookKind.GITHUB)
    body = urlencode({"payload": PUSH.decode()}).encode()

    assert await listener.post(body, **github(body), Content_Type="application/x-www-form-urlencoded") == 202
    assert await listener.ring() == [MAIN]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"payload=%7B&x", b"null", b'{"ref": 1e999}'])
@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded", "x" * 300])
async def test_a_body_that_means_nothing_rings_for_everything(
    listener: Listener, body: bytes, content_type: str
) -> None:
    listener.add(HookKind.GITHUB)

    assert await listener.post(body, **github(body), Content_Type=content_type) == 202
    assert await listener.ring() == [EVERYTHING]


async def test_a_delivery_of_something_else_rings_for_nothing(listener: Listener) -> None:
    listener.add(HookKind.GITHUB)

    assert await listener.post(**github(event="ping")) == 202
    assert not (await listener.ring())[0]


# --- What is refused -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["/", "/hooks/", "/hooks/other", "/hooks/fleet/", "/hooks//fleet", "/HOOKS/fleet",
                                  "/hooks/%66leet", "/metrics", "/hooks/../hooks/fleet"])  # fmt: skip
async def test_a_path_without_a_hook_is_not_found(listener: Listener, path: str) -> None:
    listener.add(HookKind.GITHUB)

    assert await listener.post(path=path, **github()) == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"])
async def test_only_post_is_taken(listener: Listener, method: str) -> None:
    listener.add(HookKind.GITHUB)

    assert await listener.post(method=method, **github()) == 404
    assert listener.rung == []


async def test_a_body_that_is_announced_too_large_is_refused_before_it_is_sent(listener: Listener) -> None:
    listener.add(HookKind.GITHUB)

    answer = await listener.talk(post(b"", **github(), Content_Length=str(MAX_BODY + 1)))

    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_what_nobody_can_have_signed_is_refused_before_it_is_sent(listener: Listener) -> None:
    listener.add(HookKind.GITHUB)
    assert (await listener.talk(post(b"", Content_Length="100"))).startswith(b"HTTP/1.1 401 ")

    listener.add(HookKind.GITLAB)
    wrong = post(b"", X_Gitlab_Token="wrong", Content_Length="100")
    assert (await listener.talk(wrong)).startswith(b"HTTP/1.1 401 ")


async def test_a_body_in_chunks_is_cut_off_at_the_cap(listener: Listener) -> None:
    listener.add(HookKind.GITHUB)
    head = post(b"", **github(), Content_Length="", Transfer_Encoding="chunked")
    chunk = b"%x\r\n" % 65536 + b"x" * 65536 + b"\r\n"

    assert (await listener.talk(head + chunk * 17)).startswith(b"HTTP/1.1 413 ")


async def test_a_body_in_chunks_and_one_of_exactly_the_cap_are_taken(listener: Listener) -> None:
    listener.add(HookKind.GITHUB)
    head = post(b"", **github(), Content_Length="", Transfer_Encoding="chunked")
    assert (await listener.talk(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(PUSH), PUSH))).startswith(b"HTTP/1.1 202 ")

    body = PUSH.ljust(MAX_BODY)
    assert await listener.post(body, **github(body)) == 202
    assert await listener.ring(2) == [MAIN, MAIN]


@pytest.mark.parametrize(
    "broken",
    [
        post(PUSH, **github(), Content_Length="", Transfer_Encoding="chunked"),
        post(PUSH, **github(), Transfer_Encoding="chunked"),
        post(PUSH, **github(), Content_Length="-1"),
        post(PUSH, **github(), Content_Length="x"),
        post(PUSH, **github(), X_Long="x" * (hooks.MAX_HEAD_BYTES + 1)),
        post(PUSH, **github(), **{f"X_{number}": "y" for number in range(hooks.MAX_HEADERS)}),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        post(
            PUSH, **{**github(), "X_Hub_Signature_256": f"{github()['X_Hub_Signature_256']}\r\nX-Hub-Signature-256: y"}
        ),
        post(PUSH, **{**github(), "X_Hub_Signature_256": "\udcff\udcfe"}),
    ],
    ids=["chunks", "two-lengths", "negative", "letters", "long", "many", "tls", "two-signatures", "bytes"],
)
async def test_what_is_no_proper_request_rings_nothing_and_tells_nothing(
    listener: Listener, broken: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    listener.add(HookKind.GITHUB)

    answer = await listener.talk(broken)

    assert answer.split()[1:2] in ([b"400"], [b"401"], [])
    assert b"Traceback" not in answer and b"/usr" not in answer and str(listener.folder).encode() not in answer
    assert listener.rung == []
    # What aiohttp says of such requests; the daemon's log does not take it (`edges.logs`).
    told = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert [error for error in told if not isinstance(error, BadHttpMessage)] == []


async def test_a_sender_that_goes_in_the_middle_of_a_body_rings_nothing(
    listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    listener.add(HookKind.GITHUB)
    _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(post(PUSH[:-1], **github(), Content_Length=str(len(PUSH))))
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    assert await listener.post(**github()) == 202
    assert await listener.ring() == [MAIN]
    assert [record for record in caplog.records if record.exc_info] == []


async def test_whoever_waits_to_be_asked_for_the_body_is_asked_once_it_may_be_signed(listener: Listener) -> None:
    listener.add(HookKind.GITHUB)
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(post(b"", **github(), Content_Length=str(len(PUSH)), Expect="100-continue"))

    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    writer.write(PUSH)
    assert (await reader.read()).startswith(b"HTTP/1.1 202 ")
    writer.close()


# --- Bounds ----------------------------------------------------------------------------------------------------------
async def test_a_delivery_that_is_repeated_rings_once(listener: Listener) -> None:
    listener.add(HookKind.GITHUB)
    listener.add(HookKind.GITHUB, "/hooks/other")
    once = github(X_GitHub_Delivery="72d3162e")

    assert [await listener.post(**once) for _ in range(3)] == [202, 202, 202]
    assert await listener.post(**github(X_GitHub_Delivery="another")) == 202
    assert await listener.post(path="/hooks/other", **once) == 202
    assert await listener.post(**github()) == 202  # says nothing of repetition
    assert await listener.post(**github()) == 202

    assert len(await listener.ring(5)) == 5


async def test_a_repetition_long_after_rings_again(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "REPEATED_WITHIN_S", 0.0)
    listener.add(HookKind.GITHUB)

    assert [await listener.post(**github(X_GitHub_Delivery="1")) for _ in range(2)] == [202, 202]
    assert len(await listener.ring(2)) == 2


async def test_what_is_remembered_is_bounded(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "MAX_REMEMBERED", 2)
    listener.add(HookKind.GITHUB)

    for delivery in ["1", "2", "3", "1"]:
        assert await listener.post(**github(X_GitHub_Delivery=delivery)) == 202

    assert len(await listener.ring(4)) == 4  # the first was forgotten for the third


async def test_a_peer_that_asks_too_often_is_told_so_whatever_it_asks(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "RATE", Rate(at_once=2, per_second=0.0))
    listener.add(HookKind.GITHUB)

    assert [await listener.post(path="/nowhere"), await listener.post(**github())] == [404, 202]
    assert [await listener.post(path="/nowhere"), await listener.post(**github())] == [429, 429]


async def test_what_does_not_fit_on_the_pile_is_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "MAX_QUEUED_BYTES", len(PUSH))
    found = Listener(tmp_path)
    door = found.add(HookKind.GITHUB)
    desk = hooks._Desk(found.find, DEFECTS.append)
    request = await _request(github())

    first = desk._take_up(request, door, PUSH)
    second = desk._take_up(request, door, PUSH)
    assert (first, second) == (202, 503)

    task = asyncio.create_task(desk.read())
    await found.ring()
    assert desk._take_up(request, door, PUSH) == 202
    await found.ring(2)
    task.cancel()


async def test_the_pile_has_a_number_too(tmp_path: Path) -> None:
    found = Listener(tmp_path)
    door = found.add(HookKind.GITHUB)
    desk = hooks._Desk(found.find, DEFECTS.append)
    request = await _request(github())

    statuses = {desk._take_up(request, door, b"") for _ in range(hooks.MAX_QUEUED)}

    assert statuses == {202}
    assert desk._take_up(request, door, b"") == 503


async def _request(headers: dict[str, str]) -> Any:
    from multidict import CIMultiDict

    @dataclass
    class Request:
        headers: CIMultiDict[str]
        content_type: str = "application/json"

    return Request(CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()}))


async def test_a_connection_that_says_nothing_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "LIMITS", replace(hooks.LIMITS, lifetime_s=0.05))
    found = Listener(tmp_path)
    found.add(HookKind.GITHUB)
    async with hooks.serve(LOOPBACK, None, found.find, broken=DEFECTS.append) as address:
        for said in [b"", b"POST /hooks/fl", post(b"", **github(), Content_Length="10")]:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
            writer.write(said)
            assert await _all(reader) == b""
            writer.close()


async def test_one_peer_has_so_many_connections_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "LIMITS", replace(hooks.LIMITS, per_peer=2))
    found = Listener(tmp_path)
    found.add(HookKind.GITHUB)
    async with hooks.serve(LOOPBACK, None, found.find, broken=DEFECTS.append) as address:
        found.port = int(address.rpartition(":")[2])
        held = [await asyncio.open_connection("127.0.0.1", found.port) for _ in range(2)]
        reader, writer = await asyncio.open_connection("127.0.0.1", found.port)
        assert await _all(reader) == b""
        writer.close()

        elsewhere = await asyncio.open_connection("127.0.0.1", found.port, local_addr=("127.0.0.2", 0))
        elsewhere[1].write(post(PUSH, **github()))
        assert (await elsewhere[0].read()).startswith(b"HTTP/1.1 202 ")

        for _, open_one in [*held, elsewhere]:
            open_one.close()
            await open_one.wait_closed()
        async with asyncio.timeout(20):
            while await found.post(**github()) != 202:
                pass


# --- TLS -------------------------------------------------------------------------------------------------------------
@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.ca_file))


def certified(authority: Authority) -> tuple[Path, Path]:
    return authority.server_certificate("127.0.0.1")


async def test_deliveries_come_over_tls_also_in_one_piece_with_the_handshake(
    tmp_path: Path, authority: Authority
) -> None:
    found = Listener(tmp_path)
    found.add(HookKind.GITHUB)
    async with hooks.serve(LOOPBACK, certified(authority), found.find, broken=DEFECTS.append) as address:
        found.port = int(address.rpartition(":")[2])
        for count in range(1, 21):
            answer = await found.talk(post(PUSH, **github()), trusting(authority))
            assert answer.startswith(b"HTTP/1.1 202 ")
            assert len(await found.ring(count)) == count

        large = PUSH.ljust(MAX_BODY)
        assert (await found.talk(post(large, **github(large)), trusting(authority))).startswith(b"HTTP/1.1 202 ")


async def test_whoever_speaks_no_tls_is_told_nothing(
    tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    found = Listener(tmp_path)
    found.add(HookKind.GITHUB)
    async with hooks.serve(LOOPBACK, certified(authority), found.find, broken=DEFECTS.append) as address:
        found.port = int(address.rpartition(":")[2])

        answer = await found.talk(post(PUSH, **github()))

        assert not answer.startswith(b"HTTP")
        assert found.rung == []
    assert caplog.records == []


async def test_a_handshake_that_does_not_go_on_ends_and_counts_as_a_connection(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "HANDSHAKE_S", 0.3)
    monkeypatch.setattr(hooks, "LIMITS", replace(hooks.LIMITS, connections=2))
    found = Listener(tmp_path)
    found.add(HookKind.GITHUB)
    async with hooks.serve(LOOPBACK, certified(authority), found.find, broken=DEFECTS.append) as address:
        found.port = int(address.rpartition(":")[2])
        silent = [await asyncio.open_connection("127.0.0.1", found.port) for _ in range(2)]
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", found.port, ssl=trusting(authority), server_hostname="127.0.0.1")

        for reader, writer in silent:
            assert await _all(reader) == b""
            writer.close()
        async with asyncio.timeout(20):
            while True:
                try:
                    answer = await found.talk(post(PUSH, **github()), trusting(authority))
                except OSError:
                    continue
                if answer.startswith(b"HTTP/1.1 202 "):
                    break


async def test_the_end_does_not_wait_for_a_handshake(tmp_path: Path, authority: Authority) -> None:
    found = Listener(tmp_path)
    async with hooks.serve(LOOPBACK, certified(authority), found.find, broken=DEFECTS.append) as address:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
        writer.write(b"\x16")

    assert await _all(reader) == b""
    writer.close()


async def test_a_certificate_that_was_replaced_is_shown_and_a_half_written_one_is_not(
    tmp_path: Path, authority: Authority
) -> None:
    found = Listener(tmp_path)
    found.add(HookKind.GITHUB)
    certificate = certified(authority)
    async with hooks.serve(LOOPBACK, certificate, found.find, broken=DEFECTS.append) as address:
        found.port = int(address.rpartition(":")[2])
        assert await found.talk(post(PUSH, **github()), trusting(authority))

        whole = certificate[0].read_bytes()
        certificate[0].write_bytes(whole[:100])
        assert await found.talk(post(PUSH, **github()), trusting(authority))

        other = Authority(tmp_path / "other")
        cert, key = other.server_certificate("127.0.0.1")
        certificate[1].write_bytes(key.read_bytes())
        certificate[0].write_bytes(cert.read_bytes())
        assert await found.talk(post(PUSH, **github()), trusting(other))
        with pytest.raises(ssl.SSLCertVerificationError):
            await found.talk(post(PUSH, **github()), trusting(authority))


@pytest.mark.parametrize("what", ["missing", "empty", "mismatch"])
async def test_a_certificate_that_cannot_be_used_is_said_with_what_to_write(
    tmp_path: Path, authority: Authority, what: str
) -> None:
    certificate = certified(authority)
    match what:
        case "missing":
            certificate[1].unlink()
        case "empty":
            certificate[0].write_bytes(b"")
        case "mismatch":
            certificate[1].write_bytes(Authority(tmp_path / "b").server_certificate("b")[1].read_bytes())

    with pytest.raises(LocalError, match=r"127\.0\.0\.1\.pem .* cannot be used: ") as caught:
        async with hooks.serve(LOOPBACK, certificate, _none, broken=DEFECTS.append):
            pass

    assert "PEM" in caught.value.hint


async def test_a_port_that_is_taken_is_said_with_what_to_write() -> None:
    async with hooks.serve(LOOPBACK, None, _none, broken=DEFECTS.append) as address:
        taken = Listen(host="127.0.0.1", port=int(address.rpartition(":")[2]))
        with pytest.raises(LocalError, match=r"cannot listen on 127\.0\.0\.1:\d+: ") as caught:
            async with hooks.serve(taken, None, _none, broken=DEFECTS.append):
                pass

    assert "webhook: {listen:" in caught.value.hint


def _none(_path: str) -> list[Door]:
    return []


async def test_a_defect_is_told_to_whoever_can_log_it_and_the_next_delivery_is_taken(tmp_path: Path) -> None:
    found, broken = Listener(tmp_path), list[Exception]()
    fine = found.add(HookKind.GITHUB)

    def defect(*_: Any) -> Any:
        raise RuntimeError

    found.doors |= {"/hooks/bell": [replace(fine, ring=defect)], "/hooks/refusal": [replace(fine, refused=defect)]}
    async with hooks.serve(LOOPBACK, None, found.find, broken=broken.append) as address:
        found.port = int(address.rpartition(":")[2])
        assert await found.post(**github(), path="/hooks/bell") == 202
        assert await found.post(**github()) == 202
        assert await found.ring() == [MAIN]
        assert await found.post(path="/hooks/refusal") == 503

    assert [type(error) for error in broken] == [RuntimeError, RuntimeError]


async def _all(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(20):
        try:
            return await reader.read()
        except ConnectionError:
            return b""
