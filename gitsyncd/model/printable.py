"""Text of others made fit for terminals and logs: what a terminal obeys, or what changes the order of what is read.

Values come from repositories, clusters and servers. Belongs here: which characters these are, and how they are written
out. Does not belong here: what is secret (`core.redact`).
"""

from __future__ import annotations

import re

# C0 and C1 controls (a terminal obeys both), line and paragraph separators, the marks that turn the direction of text
# (CVE-2021-42574), and halves of surrogate pairs, which no UTF-8 can hold.
_OBEYED = r"\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_IN_TEXT = re.compile(rf"[\x00-\x1f{_OBEYED}]")
_IN_JSON = re.compile(f"[{_OBEYED}]")


def printable(text: str) -> str:
    r"""`text` on one line, with `\x1b` and the like in place of what a terminal would obey instead of show."""
    return _IN_TEXT.sub(_written_out, text)


def masked(text: str) -> str:
    """As `printable`, with one sign for each such character: for tables, where width matters."""
    return _IN_TEXT.sub("\N{REPLACEMENT CHARACTER}", text)


def safe_json(document: str) -> str:
    """The same JSON with these characters escaped; what stands between the strings is not changed."""
    return _IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


def without_surrogates(text: str) -> str:
    """Text that can be encoded. Names that are no UTF-8 come from file systems and HTTP headers with such halves."""
    return text.encode("utf-8", "backslashreplace").decode()


def _written_out(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]
