"""What others wrote must not act on a terminal, and must not be what a log line fails of."""

import json

import orjson
import pytest

from gitsyncd.model.errors import SourceUnreachable
from gitsyncd.model.printable import masked, printable, safe_json, without_surrogates

OBEYED = ["\x00", "\x07", "\n", "\x1b", "\x7f", "\x9b", "\u2028", "\u202e", "\u2066", "\u200f", "\udcff"]


@pytest.mark.parametrize("character", OBEYED)
def test_nothing_is_left_that_a_terminal_obeys(character: str) -> None:
    assert printable(f"a{character}b").isprintable()
    assert masked(f"a{character}b") == "a\N{REPLACEMENT CHARACTER}b"


def test_text_for_people_of_every_language_stays() -> None:
    text = "größe 名前 שם ✓ e\u0301 \N{ZERO WIDTH JOINER}"

    assert (printable(text), masked(text), safe_json(text)) == (text, text, text)


def test_a_json_document_says_the_same_without_raw_control_characters() -> None:
    value = {"error": "a\x1b\x7f\x9b\u202e\u2028b", "ok": "größe"}

    document = safe_json(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())

    assert json.loads(document) == value
    assert all(character.isprintable() or character == "\n" for character in document)


def test_an_error_can_be_written_whatever_bytes_a_server_put_in_its_words() -> None:
    wild = b"https://x/\xff".decode("utf-8", "surrogateescape")

    error = SourceUnreachable(f"redirects to {wild}", subject=wild, hint=wild)

    assert orjson.dumps([str(error), error.hint]) is not None
    assert without_surrogates(wild) == "https://x/\\udcff"
