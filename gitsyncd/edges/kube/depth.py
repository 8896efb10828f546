"""Answers that are nested deeper than the JSON reader goes: anybody who may create a custom resource can make one.

One such object must not hide the list that it stands in, nor take the watch of its kind for a broken connection. What
lies too deep is read as null; nothing of ours lies there, since manifests end at 200 levels.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

DEEPEST = 1024
"""What orjson reads. API servers take ten thousand levels (Go's encoding/json)."""

KEPT = 240
"""Levels that are left of what is deeper: what orjson can write again."""

# A string that never ends is one, too: looking for its end from every quote in it would take the square of its length.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)


def loads(body: bytes) -> Any:
    """The value, without what lies too deep. Raises `orjson.JSONDecodeError`."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        cut = shallow(body)
        if cut is body:
            raise
        return orjson.loads(cut)


def shallow(body: bytes) -> bytes:
    """The same JSON with null for what lies deeper than `KEPT` levels; `body` itself when nothing does.

    One pass, whatever the bytes are; of what is no JSON it makes none.
    """
    if body.count(b"[") + body.count(b"{") <= DEEPEST:
        return body
    pieces: list[bytes] = []
    depth = kept_to = 0
    for token in _TOKEN.finditer(body):
        sign = body[token.start()]
        if sign in b"[{":
            depth += 1
            if depth == KEPT + 1:
                pieces += [body[kept_to : token.start()], b"null"]
        elif sign in b"]}":
            if depth == KEPT + 1:
                kept_to = token.end()
            depth -= 1
    if not pieces or depth != 0:
        return body
    return b"".join([*pieces, body[kept_to:]])
