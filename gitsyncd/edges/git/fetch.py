"""The fetch child: `main` is what runs in it. One line of JSON in, one line of JSON out, and then it ends.

What it does is dangerous only to itself: it has no network, no credentials, limits of memory, time and file size, and
writes in the mirror's `incoming` folder alone. Its answer is `{"checksum": …}` or `{"refused": KIND, "message": …}`.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dulwich.object_format import SHA1
from dulwich.pack import load_pack_index

from gitsyncd.edges.git.caps import Caps
from gitsyncd.edges.git.ingest import Refusal, ingest, join


def main(args: Sequence[str]) -> None:
    """Started by `gitsyncd.edges.child`, without arguments."""
    assert not args
    os.umask(0o077)
    request = json.loads(sys.stdin.buffer.read())
    try:
        answer: Mapping[str, Any] = {"checksum": _run(request)}
    except Refusal as refusal:
        answer = {"refused": refusal.kind, "message": refusal.message}
    except MemoryError:
        answer = {"refused": "large", "message": "resolving it needs more memory than a fetch may have"}
    except OSError as error:
        answer = {"refused": "disk", "message": error.strerror or type(error).__name__}
    sys.stdout.write(json.dumps(answer))


def _run(request: Mapping[str, Any]) -> str:
    caps = Caps(**request["caps"])
    pack, index = Path(request["pack"]), Path(request["index"])
    bases = [Path(base) for base in request["mirror"]]
    _limit_memory(caps, [Path(f"{base}.idx") for base in bases])
    if request["task"] == "join":
        return join(bases, pack, index)
    if request["source"]:
        from gitsyncd.edges.git.export import export  # more of dulwich, which a server's packs do not need

        _limit_memory(caps, [*Path(request["source"], "pack").glob("*"), *(Path(f"{base}.idx") for base in bases)])
        known = _Known(bases)
        export(Path(request["source"]), request["wants"], pack, known.has, caps)
    _limit_memory(caps, [pack, *(Path(f"{base}.idx") for base in bases)])
    return ingest(pack, index, bases, caps)


def _limit_memory(caps: Caps, mapped: Sequence[Path]) -> None:
    """So much of its own, on top of the files that it is about to map."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = caps.fetch_memory_bytes + sum(path.stat().st_size for path in mapped)
    resource.setrlimit(resource.RLIMIT_AS, (min(wanted, hard), hard))


class _Known:
    """Which objects the mirror has."""

    def __init__(self, bases: Sequence[Path]) -> None:
        try:
            self._indexes = [load_pack_index(f"{base}.idx", SHA1) for base in bases]
        except OSError:
            raise
        except Exception as error:
            raise Refusal("damaged", f"an index cannot be read ({type(error).__name__})") from error

    def has(self, name: str) -> bool:
        key = bytes.fromhex(name)
        for index in self._indexes:
            try:
                index.object_offset(key)  # type: ignore[arg-type]
                return True
            except KeyError:
                continue
        return False
