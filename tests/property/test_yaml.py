"""Properties of the manifest loader: what is written is what is read, and any text is read or refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from gitsyncd.edges.yaml import scalars
from gitsyncd.edges.yaml.loader import YamlError
from gitsyncd.edges.yaml.manifests import Reader

# What YAML can hold at all: no control characters but line ends and tabs, no surrogates.
TEXT = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n\t", exclude_characters="\ufeff\ufffe\uffff"),
    max_size=30,
)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
STYLES = st.fixed_dictionaries(
    {
        "default_flow_style": st.sampled_from([None, True, False]),
        "default_style": st.sampled_from([None, '"', "'", "|", ">"]),
        "allow_unicode": st.booleans(),
        "width": st.sampled_from([20, 80, 100_000]),
        "indent": st.sampled_from([2, 4]),
    }
)
PIECES = st.sampled_from(
    [
        "a",
        "0644",
        "~",
        ": ",
        "- ",
        "? ",
        ", ",
        "[",
        "]",
        "{",
        "}",
        "'",
        '"',
        "\\",
        "#",
        "%",
        "&a ",
        "*a",
        "<<: ",
        "!!int ",
    ]
) | st.sampled_from(
    ["!x ", "|\n", ">\n", "\n", "\n  ", "\r\n", "\t", "---\n", "...\n", "\ufeff", "\0", "kind: List\nitems:\n"]
)


class Quoting(yaml.SafeDumper):
    """Quotes all text, because PyYAML's idea of what needs quotes is not Kubernetes' (`y`, `0o7`, `12e03`)."""


Quoting.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style=dumper.default_style or '"')
)
Quoting.add_representer(float, lambda dumper, number: dumper.represent_scalar("tag:yaml.org,2002:float", repr(number)))


def as_json(value: Any) -> Any:
    """Numbers as a server reads them."""
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_json(item) for item in value]
    return scalars.as_json(value) if isinstance(value, float) else value


def spelled(value: Any) -> str:
    """JSON text, because 1 and 1.0 and true are equal to Python."""
    return json.dumps(value, sort_keys=True)


def manifest(value: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": value}


def leaves(value: Any) -> Iterator[Any]:
    """Keys and scalars, in the order in which they are written."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def is_true_to(text: str, value: Any) -> bool:
    """Whether PyYAML reads the text of it as it was. Deep in a narrow page its emitter folds a line in the midst of an
    escape, and what it has written then means something else to every reader.
    """
    read = yaml.load(text, Loader=yaml.BaseLoader)
    return all(then == now for then, now in zip(leaves(value), leaves(read), strict=True) if isinstance(then, str))


@given(VALUES, STYLES)
def test_what_is_written_as_yaml_is_read_back(value: Any, style: dict[str, Any]) -> None:
    text = yaml.dump(manifest(value), Dumper=Quoting, sort_keys=False, **style)
    assume(is_true_to(text, manifest(value)))

    (declared,) = Reader().read(text.encode())

    assert spelled(json.loads(declared.body)["data"]) == spelled(as_json(value))


@given(VALUES, st.sampled_from([None, 2]), st.booleans())
def test_what_is_written_as_json_is_read_back(value: Any, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(manifest(value), indent=indent, ensure_ascii=ascii_only).encode()

    (declared,) = Reader().read(text)

    assert spelled(json.loads(declared.body)["data"]) == spelled(as_json(value))


@given(st.lists(PIECES, max_size=60).map("".join) | st.text(max_size=200))
def test_any_text_is_read_or_refused_with_a_line_of_it(text: str) -> None:
    encoded = text.encode(errors="surrogatepass")

    try:
        Reader().read(encoded)
    except YamlError as error:
        line = error.line
    else:
        line = 1

    # libyaml breaks lines at more characters than \n.
    assert 1 <= line <= len(text.splitlines()) + 1


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        found = Reader().read(content)
    except YamlError:
        return

    assert all(declared.name for declared in found)


@given(st.text("0123456789abefoxBOX+-._eE", min_size=1, max_size=12))
def test_a_plain_scalar_is_text_or_a_number_that_json_can_hold(text: str) -> None:
    value = scalars.plain(text)

    if isinstance(value, float):
        assert json.loads(json.dumps(scalars.as_json(value), allow_nan=False)) == value
    elif isinstance(value, int):
        assert -(2**63) <= value < 2**64
    else:
        assert value == text
