"""Git's framing and messages: what is understood, and that nothing else is."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitsyncd.edges.git.pktline import (
    Advertisement,
    HeadList,
    PackAnswer,
    Packet,
    PacketReader,
    ProtocolViolation,
    Special,
    fetch_request,
    ls_refs_request,
    pkt,
)

A, B = "a" * 40, "b" * 40


def line(content: bytes) -> bytes:
    return b"%04x" % (len(content) + 4) + content


def packets(data: bytes) -> list[Packet]:
    return list(PacketReader().feed(data))


@given(st.lists(st.binary(max_size=300)), st.integers(1, 7))
def test_packets_are_the_same_in_whatever_pieces_they_arrive(contents: list[bytes], size: int) -> None:
    stream = b"".join(line(content) for content in contents) + b"0000"

    reader = PacketReader()
    found: list[Packet] = []
    for start in range(0, len(stream), size):
        found.extend(reader.feed(stream[start : start + size]))

    assert found == [*contents, Special.FLUSH]


def test_a_packet_that_has_not_come_to_its_end_is_not_given_out() -> None:
    reader = PacketReader()

    assert list(reader.feed(b"0009abc")) == []
    assert list(reader.feed(b"de")) == [b"abcde"]


@given(
    st.binary(max_size=400),
    st.sampled_from(
        [b"", b"0000", line(b"# service=git-upload-pack\n") + b"0000", line(b"version 2\n"), line(b"packfile\n")]
    ),
)
def test_any_bytes_are_understood_or_refused_and_nothing_else(noise: bytes, start: bytes) -> None:
    for reader in (Advertisement(["main"]), HeadList(["main"]), PackAnswer(2), PackAnswer(0)):
        with contextlib.suppress(ProtocolViolation):
            for packet in PacketReader().feed(start + noise):
                reader.take(packet)


def test_protocol_2_says_its_capabilities() -> None:
    advertisement = Advertisement(["main"])
    for packet in packets(line(b"version 2\n") + line(b"agent=git/2.39\n") + line(b"fetch=shallow filter\n") + b"0000"):
        advertisement.take(packet)

    assert advertisement.complete
    assert advertisement.version == 2
    assert advertisement.capabilities == {"agent": "git/2.39", "fetch": "shallow filter"}


@pytest.mark.parametrize("service", [b"", line(b"# service=git-upload-pack\n") + b"0000"])
@pytest.mark.parametrize("version", [b"", line(b"version 1\n")])
def test_older_protocols_say_their_refs_and_only_the_wanted_are_kept(service: bytes, version: bytes) -> None:
    refs = [
        (A, "HEAD\0side-band-64k symref=HEAD:refs/heads/main"),
        (A, "refs/heads/main"),
        (B, "refs/heads/main2"),
        (B, "refs/tags/main"),
    ]
    stream = service + version + b"".join(line(f"{commit} {name}\n".encode()) for commit, name in refs) + b"0000"

    advertisement = Advertisement(["main", "gone"])
    for packet in packets(stream):
        advertisement.take(packet)

    assert advertisement.complete
    assert advertisement.heads == {"main": A}
    assert "side-band-64k" in advertisement.capabilities


@pytest.mark.parametrize("stream", [b"0000", line(b"0" * 40 + b" capabilities^{}\0side-band-64k\n") + b"0000"])
def test_an_empty_repository_has_no_heads(stream: bytes) -> None:
    advertisement = Advertisement(["main"])
    for packet in packets(line(b"# service=git-upload-pack\n") + b"0000" + stream):
        advertisement.take(packet)

    assert (advertisement.complete, advertisement.heads) == (True, {})


def test_heads_that_only_begin_like_a_wanted_one_are_left_out() -> None:
    listing = HeadList(["main"])
    for packet in packets(
        line(f"{A} refs/heads/main\n".encode()) + line(f"{B} refs/heads/main-old symref-target:x\n".encode()) + b"0000"
    ):
        listing.take(packet)

    assert (listing.complete, listing.heads) == (True, {"main": A})


@pytest.mark.parametrize(
    ("version", "before"),
    [
        (2, line(b"packfile\n")),
        (0, line(b"NAK\n")),
        (0, line(f"ACK {A}\n".encode())),
        (0, line(f"ACK {A} common\n".encode()) + line(b"NAK\n")),
    ],
)
def test_a_pack_is_taken_out_of_the_side_band(version: int, before: bytes) -> None:
    answer = PackAnswer(version)
    stream = before + line(b"\x01PA") + line(b"\x02counting\n") + line(b"\x01CK") + b"0000"

    pack = b"".join(answer.take(packet) for packet in packets(stream))

    assert (pack, answer.complete) == (b"PACK", True)


def test_what_the_server_says_in_anger_is_quoted_without_its_control_characters() -> None:
    answer = PackAnswer(2)
    answer.take(b"packfile\n")

    with pytest.raises(ProtocolViolation) as caught:
        answer.take(b"\x03\x1b[2Jno\n")

    assert "no" in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", [b"fff1", b"g000", b"-001", b" 123", b"0x1f", b"0003"])
def test_lengths_that_git_does_not_know(text: bytes) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        list(PacketReader().feed(text))

    assert str(caught.value).isprintable()


def test_requests_are_what_git_itself_sends() -> None:
    heads = ls_refs_request(["main", "env/eu"], {"agent": "git/2", "object-format": "sha1"}, "me/1")
    fetch = fetch_request([A], [B], version=2, capabilities={}, agent="me/1")
    old = fetch_request([A, B], [B], version=0, capabilities={"side-band-64k": "", "ofs-delta": ""}, agent="me/1")

    assert heads == (
        pkt("command=ls-refs")
        + pkt("agent=me/1")
        + pkt("object-format=sha1")
        + b"0001"
        + pkt("ref-prefix refs/heads/main")
        + pkt("ref-prefix refs/heads/env/eu")
        + b"0000"
    )
    assert (
        fetch
        == pkt("command=fetch")
        + b"0001"
        + pkt("ofs-delta")
        + pkt("no-progress")
        + pkt(f"want {A}")
        + pkt(f"have {B}")
        + pkt("done")
        + b"0000"
    )
    assert old == pkt(f"want {A} side-band-64k ofs-delta") + pkt(f"want {B}") + b"0000" + pkt(f"have {B}") + pkt("done")
