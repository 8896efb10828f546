"""Git's framing (pkt-line) and the few messages of its protocol that are spoken here. Bytes in, values out: no I/O.

Every reader here takes packets one at a time and keeps what was asked for alone, so that an answer with a million refs
costs time but no memory. Anything unexpected raises `ProtocolViolation`; nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum

_ID = re.compile(rb"[0-9a-f]{40}\Z")
_LARGEST = 65520
"""Bytes of one packet with its length (gitprotocol-common)."""
_NO_COMMIT = b"0" * 40
_REMARKS_BYTES = 4096
"""Of what a server says to people while it takes a push."""


class ProtocolViolation(Exception):
    """The answer is not what Git's protocol allows here. The text may be shown."""


class Special(Enum):
    """Packets without content."""

    FLUSH = 0
    DELIMITER = 1
    END = 2


Packet = bytes | Special


def pkt(line: str) -> bytes:
    """One packet with this text and a line end."""
    data = line.encode() + b"\n"
    return b"%04x" % (len(data) + 4) + data


FLUSH = b"0000"
DELIMITER = b"0001"


class PacketReader:
    """Cuts a stream into packets, whatever pieces it arrives in."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[Packet]:
        """The packets completed by `data`. The iterator has to be exhausted before the next call."""
        self._rest += data
        start = 0
        rest = self._rest
        while len(rest) - start >= 4:
            length = _length(bytes(rest[start : start + 4]))
            if length < 4:
                start += 4
                yield _special(length)
                continue
            if len(rest) - start < length:
                break
            packet = bytes(rest[start + 4 : start + length])
            start += length
            yield packet
        del rest[:start]


def _length(text: bytes) -> int:
    if not re.fullmatch(rb"[0-9a-fA-F]{4}", text):
        raise ProtocolViolation(f"{printable(text)} is not the length of a packet")
    length = int(text, 16)
    if length > _LARGEST:
        raise ProtocolViolation(f"a packet of {length} bytes is too long")
    return length


def _special(length: int) -> Special:
    try:
        return Special(length)
    except ValueError:
        raise ProtocolViolation(f"a packet cannot have the length {length}") from None


def printable(text: bytes, limit: int = 80) -> str:
    """A quotation for messages: no control characters, not long."""
    shown = ascii(text[:limit].decode("utf-8", "replace"))
    return shown + ("…" if len(text) > limit else "")


def _refuse_error(line: bytes) -> None:
    if line.startswith(b"ERR "):
        raise ProtocolViolation(f"the server says {printable(line[4:].strip(), 200)}")


class Advertisement:
    """The answer to `GET info/refs`: version and capabilities; for protocols before 2 also the wanted heads."""

    def __init__(self, branches: Sequence[str], *, service: str = "git-upload-pack") -> None:
        self.version = 0
        self.capabilities: dict[str, str] = {}
        self.heads: dict[str, str] = {}
        self.complete = False
        self._wanted = {f"refs/heads/{branch}".encode(): branch for branch in branches}
        self._service = f"# service={service}\n".encode()
        self._state = self._first

    def take(self, packet: Packet) -> None:
        if self.complete:
            raise ProtocolViolation("packets after the end of the answer")
        if isinstance(packet, bytes):
            _refuse_error(packet)
        self._state(packet)

    def _first(self, packet: Packet) -> None:
        if packet == self._service:
            self._state = self._after_service
        else:
            self._begin(packet)

    def _after_service(self, packet: Packet) -> None:
        if packet is not Special.FLUSH:
            raise ProtocolViolation("no flush after the name of the service")
        self._state = self._begin

    def _begin(self, packet: Packet) -> None:
        match packet:
            case b"version 2\n":
                self.version = 2
                self._state = self._capability
            case b"version 1\n":
                self.version = 1
                self._state = self._first_ref
            case _:
                self._first_ref(packet)

    def _capability(self, packet: Packet) -> None:
        if packet is Special.FLUSH:
            self.complete = True
        elif isinstance(packet, bytes):
            self._add_capability(packet.rstrip(b"\n"))
        else:
            raise ProtocolViolation("an unexpected delimiter among capabilities")

    def _first_ref(self, packet: Packet) -> None:
        if packet is Special.FLUSH:  # what some servers send for an empty repository
            self.complete = True
            return
        if not isinstance(packet, bytes) or b"\0" not in packet:
            shown = printable(packet) if isinstance(packet, bytes) else str(packet)
            raise ProtocolViolation(f"{shown} in place of the first ref")
        ref, capabilities = packet.split(b"\0", 1)
        for capability in capabilities.split():
            self._add_capability(capability)
        self._state = self._ref
        self._ref(ref)

    def _ref(self, packet: Packet) -> None:
        if packet is Special.FLUSH:
            self.complete = True
            return
        if not isinstance(packet, bytes):
            raise ProtocolViolation("an unexpected delimiter among refs")
        commit, _, name = packet.rstrip(b"\n").partition(b" ")
        if commit == b"shallow":
            self.capabilities["is-shallow"] = ""
            return
        if not _ID.match(commit):
            raise ProtocolViolation(f"{printable(packet)} is not a ref")
        if commit != _NO_COMMIT and name in self._wanted:
            self.heads[self._wanted[name]] = commit.decode()

    def _add_capability(self, text: bytes) -> None:
        if len(self.capabilities) >= 200:
            raise ProtocolViolation("more than 200 capabilities")
        name, _, value = text.decode("utf-8", "replace").partition("=")
        self.capabilities[name] = value


class HeadList:
    """The answer to `ls-refs`: the wanted heads."""

    def __init__(self, branches: Sequence[str]) -> None:
        self.heads: dict[str, str] = {}
        self.complete = False
        self._wanted = {f"refs/heads/{branch}".encode(): branch for branch in branches}

    def take(self, packet: Packet) -> None:
        if packet is Special.FLUSH and not self.complete:
            self.complete = True
            return
        if not isinstance(packet, bytes) or self.complete:
            raise ProtocolViolation("packets after the end of the answer")
        _refuse_error(packet)
        commit, _, rest = packet.rstrip(b"\n").partition(b" ")
        if not _ID.match(commit):
            if commit == b"unborn":
                return
            raise ProtocolViolation(f"{printable(packet)} is not a ref")
        branch = self._wanted.get(rest.split(b" ")[0])
        if branch is not None and commit != _NO_COMMIT:
            self.heads[branch] = commit.decode()


class PackAnswer:
    """The answer to a fetch, of either protocol: the bytes of the pack out of the side band."""

    def __init__(self, version: int) -> None:
        self.complete = False
        self._version = version
        self._in_pack = False

    def take(self, packet: Packet) -> bytes:
        """Bytes of the pack in this packet, possibly none."""
        if self.complete:
            raise ProtocolViolation("packets after the end of the pack")
        if not isinstance(packet, bytes):
            if packet is not Special.FLUSH or not self._in_pack:
                raise ProtocolViolation("the answer ends before a pack begins")
            self.complete = True
            return b""
        if not self._in_pack:
            return self._before_pack(packet)
        return self._side_band(packet)

    def _before_pack(self, packet: bytes) -> bytes:
        _refuse_error(packet)
        if self._version == 2:
            if packet != b"packfile\n":
                raise ProtocolViolation(f"{printable(packet)} in place of a pack")
            self._in_pack = True
            return b""
        if packet.startswith((b"NAK", b"ACK ")):
            return b""
        self._in_pack = True
        return self._side_band(packet)

    @staticmethod
    def _side_band(packet: bytes) -> bytes:
        band, content = packet[:1], packet[1:]
        if band == b"\x01":
            return content
        if band == b"\x02":
            return b""
        if band == b"\x03":
            raise ProtocolViolation(f"the server says {printable(content.strip(), 200)}")
        raise ProtocolViolation(f"{printable(packet)} in place of a part of the pack")


class PushAnswer:
    """The report of a push, in the side band or not: whether the pack was taken, and the ref was moved."""

    def __init__(self, *, side_band: bool) -> None:
        self.complete = False
        self.unpacked = ""
        """`ok`, or what was wrong with the pack."""
        self.refused = ""
        """What the server says of the ref; empty when it was moved."""
        self.moved = False
        self.remarks = b""
        """What hooks and the server said to people; the first few lines."""
        self._side_band = side_band
        self._inner = PacketReader()

    def take(self, packet: Packet) -> None:
        if self.complete:
            raise ProtocolViolation("packets after the end of the report")
        if not self._side_band:
            self._line(packet)
        elif packet is Special.FLUSH:
            # Some servers leave out the flush inside the side band.
            self.complete = True
        elif not isinstance(packet, bytes):
            raise ProtocolViolation("an unexpected delimiter in a report")
        else:
            self._band(packet[:1], packet[1:])

    def _band(self, band: bytes, content: bytes) -> None:
        match band:
            case b"\x01":
                for line in self._inner.feed(content):
                    if line is not Special.FLUSH:
                        self._line(line)
            case b"\x02":
                self.remarks = (self.remarks + content)[:_REMARKS_BYTES]
            case b"\x03":
                raise ProtocolViolation(f"the server says {printable(content.strip(), 200)}")
            case _:
                raise ProtocolViolation(f"{printable(content)} in place of a part of the report")

    def _line(self, packet: Packet) -> None:
        if packet is Special.FLUSH:
            self.complete = True
            return
        if not isinstance(packet, bytes):
            raise ProtocolViolation("an unexpected delimiter in a report")
        _refuse_error(packet)
        kind, _, rest = packet.rstrip(b"\n").partition(b" ")
        match kind:
            case b"unpack":
                self.unpacked = rest.decode("utf-8", "replace")
            case b"ok":
                self.moved = True
            case b"ng":
                self.refused = printable(rest.partition(b" ")[2], 300).strip("'\"") or "no reason given"
            case b"option":
                pass
            case _:
                raise ProtocolViolation(f"{printable(packet)} in place of a line of the report")


def push_request(branch: str, old: str, new: str, *, capabilities: Mapping[str, str], agent: str) -> bytes:
    """One branch from `old` (empty: it is not there yet) to `new`. The pack follows."""
    offered = [name for name in ("report-status", "side-band-64k", "quiet") if name in capabilities]
    if "object-format" in capabilities:
        offered.append("object-format=sha1")
    if "agent" in capabilities:
        offered.append(f"agent={agent}")
    command = f"{old or _NO_COMMIT.decode()} {new} refs/heads/{branch}\0{' '.join(offered)}"
    return pkt(command) + FLUSH


def ls_refs_request(branches: Sequence[str], capabilities: dict[str, str], agent: str) -> bytes:
    """Protocol 2: the heads of these branches, and of what begins like them."""
    return (
        pkt("command=ls-refs")
        + _common(capabilities, agent)
        + DELIMITER
        + b"".join(pkt(f"ref-prefix refs/heads/{branch}") for branch in branches)
        + FLUSH
    )


def fetch_request(
    wants: Sequence[str], haves: Sequence[str], *, version: int, capabilities: dict[str, str], agent: str
) -> bytes:
    """One round: everything that `wants` need and `haves` do not. The pack is asked to stand alone (no `thin-pack`)."""
    wanted = [pkt(f"have {have}") for have in haves] + [pkt("done")]
    if version == 2:
        options = [pkt("ofs-delta"), pkt("no-progress")]
        lines = [pkt(f"want {want}") for want in wants]
        head = pkt("command=fetch") + _common(capabilities, agent) + DELIMITER
        return head + b"".join(options + lines + wanted) + FLUSH
    offered: list[str] = [name for name in ("side-band-64k", "ofs-delta", "no-progress") if name in capabilities]
    if "agent" in capabilities:
        offered.append(f"agent={agent}")
    first = pkt(f"want {wants[0]} {' '.join(offered)}")
    return first + b"".join(pkt(f"want {want}") for want in wants[1:]) + FLUSH + b"".join(wanted)


def _common(capabilities: dict[str, str], agent: str) -> bytes:
    lines = b""
    if "agent" in capabilities:
        lines += pkt(f"agent={agent}")
    if "object-format" in capabilities:
        lines += pkt("object-format=sha1")
    return lines
