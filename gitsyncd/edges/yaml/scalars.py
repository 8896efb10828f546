"""What a plain scalar means to Kubernetes: go-yaml v2's rules, then JSON's numbers as the API server reads them.

Neither YAML 1.1 nor 1.2 but a mixture: `0644` is 420 and `0o644` too, `yes`, `on` and `y` are true, dates and base 60
stay text, `12e03` is 12000, `08` is 8. Sources: go.yaml.in/yaml/v2 (resolve.go), sigs.k8s.io/yaml (yaml.go) and
k8s.io/apimachinery/pkg/util/json, which turns every number into an int64 if its JSON text is one, and else a float64.
"""

from __future__ import annotations

import re
import struct
from decimal import Decimal
from typing import Final

Scalar = str | int | float | bool | None

_TRUE = ("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON")
_FALSE = ("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF")
_NULL = ("", "~", "null", "Null", "NULL")

WORDS: Final[dict[str, Scalar]] = {
    **dict.fromkeys(_TRUE, True),
    **dict.fromkeys(_FALSE, False),
    **dict.fromkeys(_NULL, None),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
}

_NUMBER_START = frozenset("0123456789+-.")
_INT64 = range(-(2**63), 2**63)
_UINT64_MAX = 2**64 - 1
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", re.ASCII)
_DOT_FLOAT = re.compile(r"\.[0-9]+(_[0-9]+)*([eE][-+]?[0-9]+(_[0-9]+)*)?", re.ASCII)
"""Text that begins with a dot goes to Go's `ParseFloat` as it is, which wants each underscore between digits."""
_DECIMAL = re.compile(r"[0-9]+", re.ASCII)
_PREFIXED = re.compile(r"0(?:[xX](?P<hex>[0-9a-fA-F]+)|[bB](?P<bin>[01]+)|[oO]?(?P<oct>[0-7]+))", re.ASCII)
_ODD_BINARY = re.compile(r"0b([-+][01]+)", re.ASCII)
"""`0b-1` is -1 for go-yaml, by accident; it is followed all the same."""


def plain(text: str) -> Scalar:
    """The value of a plain (unquoted) scalar without a tag. May be NaN or an infinity, which JSON does not have."""
    if text in WORDS:
        return WORDS[text]
    if text[0] not in _NUMBER_START:
        return text
    number = _number(text)
    return text if number is None else number


def integer(text: str) -> int | None:
    """What go-yaml takes for an integer of 64 bits, signed or not; None for any other text."""
    digits = text.replace("_", "")
    sign = digits[:1] if digits[:1] in {"+", "-"} else ""
    magnitude = _magnitude(digits[len(sign) :])
    if magnitude is not None:
        value = -magnitude if sign == "-" else magnitude
        return value if value in _INT64 or (not sign and value <= _UINT64_MAX) else None
    if odd := _ODD_BINARY.fullmatch(digits):
        value = int(odd[1], 2)
        return value if value in _INT64 else None
    return None


def as_json(number: float) -> int | float:
    """The number as the API server has it after a passage through JSON: an int64 wherever Go prints one.

    Go prints a float64 without exponent below 1e21, with the fewest digits that name it, and reads it back.
    """
    if isinstance(number, int):
        return number if number in _INT64 else as_json(float(number))
    if number.is_integer() and abs(number) < 1e21:
        value = int(Decimal(repr(number)))
        return value if value in _INT64 else number
    return number


def key(value: Scalar) -> str | None:
    """A mapping's key as text; None for what cannot be one (null, integers beyond 64 bits signed)."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if value in _INT64 else None
    if isinstance(value, float):
        return _float_key(value)
    return None


def _magnitude(digits: str) -> int | None:
    """Go's `ParseInt(digits, 0, …)` without sign: 0x, 0b, 0o and a leading 0 choose the base."""
    if digits[:1] == "0" and len(digits) > 1:
        if not (match := _PREFIXED.fullmatch(digits)):
            return None
        if match["hex"]:
            return int(match["hex"], 16)
        return int(match["bin"], 2) if match["bin"] else int(match["oct"], 8)
    # 20 digits hold any number of 64 bits; longer texts are floats, and int() of very long ones is slow.
    return int(digits) if _DECIMAL.fullmatch(digits) and len(digits) <= 20 else None


def _number(text: str) -> float | None:
    if text[0] == ".":
        return _float(text.replace("_", "")) if _DOT_FLOAT.fullmatch(text) else None
    value = integer(text)
    return value if value is not None else _float(text.replace("_", ""))


def _float(text: str) -> float | None:
    """None when it is no float, or one that float64 cannot hold (go-yaml then takes it for text)."""
    if not _FLOAT.fullmatch(text):
        return None
    value = float(text)
    return None if value in {float("inf"), float("-inf")} else value


def _float_key(value: float) -> str:
    """Go's `FormatFloat(value, 'g', -1, 32)`: the fewest digits of the float32, `1e+06` from there on."""
    if value != value:  # noqa: PLR0124 - NaN is the one value that differs from itself
        return ".nan"
    try:
        single: float = struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        single = float("inf") if value > 0 else float("-inf")
    if single in {float("inf"), float("-inf")}:
        return ".inf" if single > 0 else "-.inf"
    text = next(text for digits in range(1, 10) if _as_single(text := f"{single:.{digits - 1}e}") == single)
    return _general(text)


def _as_single(text: str) -> float:
    try:
        value: float = struct.unpack("f", struct.pack("f", float(text)))[0]
    except OverflowError:
        return float("inf")
    return value


def _general(scientific: str) -> str:
    """`1.5e+02` to `150`, `1e+21` kept: the shortest form of Go's verb `g`."""
    mantissa, _, exponent = scientific.partition("e")
    power = int(exponent)
    sign = "-" if mantissa[0] == "-" else ""
    digits = mantissa.lstrip("-").replace(".", "").rstrip("0") or "0"
    if power < -4 or power >= 6:
        tail = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{tail}e{'-' if power < 0 else '+'}{abs(power):02d}"
    if power < 0:
        return f"{sign}0.{'0' * (-power - 1)}{digits}"
    if len(digits) <= power + 1:
        return sign + digits.ljust(power + 1, "0")
    return f"{sign}{digits[: power + 1]}.{digits[power + 1 :]}"
