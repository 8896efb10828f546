"""The manifest loader: what YAML means, what is refused and where, what counts as an object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gitsyncd.edges.yaml import loader, manifests, scalars
from gitsyncd.edges.yaml.loader import YamlError
from gitsyncd.edges.yaml.manifests import Declared, Reader
from tests.cases.yaml import suite

HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"


def read(text: str | bytes) -> tuple[Declared, ...]:
    return Reader().read(text.encode() if isinstance(text, str) else text)


def data(text: str) -> Any:
    (declared,) = read(f"{HEAD}data: {text}")
    return json.loads(declared.body)["data"]


def error(text: str | bytes) -> YamlError:
    with pytest.raises(YamlError) as caught:
        read(text)
    return caught.value


@pytest.mark.parametrize(("path", "key"), suite.meanings(), ids=lambda value: getattr(value, "name", value) or "whole")
def test_yaml_means_what_kubernetes_says_it_means(path: Path, key: str) -> None:
    expected, actual = suite.expected_objects(path), suite.our_objects(path)

    if key:
        expected, actual = expected[0]["data"][key], actual[0]["data"][key]

    assert actual == expected


@pytest.mark.parametrize("path", suite.REFUSED + suite.STRICTER, ids=lambda path: path.name)
def test_what_is_refused_names_its_line_and_reason(path: Path) -> None:
    assert suite.our_error(path) == suite.expectation(path)


def test_a_document_knows_the_line_of_its_first_key() -> None:
    found = read(f"# about\n\n{HEAD}---\n# more\n\n{HEAD}---\n{HEAD}")

    assert [declared.line for declared in found] == [3, 9, 13]


def test_an_error_in_a_later_document_names_the_line_of_the_file() -> None:
    assert error(f"{HEAD}---\n{HEAD}data:\n  a: 1\n  a: 2\n").line == 10


def test_identity_is_read_and_the_body_is_left_alone() -> None:
    text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nstatus: {replicas: 3}\n"

    (declared,) = read(text)

    assert (declared.api_version, declared.kind, declared.namespace, declared.name) == (
        "apps/v1",
        "Deployment",
        "shop",
        "web",
    )
    assert json.loads(declared.body)["status"] == {"replicas": 3}


def test_lists_within_lists_are_unfolded_in_order() -> None:
    def members(*items: dict[str, Any]) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "List", "items": list(items)}

    def one(name: str) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}

    found = read(json.dumps(members(one("a"), members(one("b"), members(), one("c")), one("d"))))

    assert [declared.name for declared in found] == ["a", "b", "c", "d"]


def test_a_kind_that_only_ends_like_a_list_is_an_object() -> None:
    (declared,) = read("apiVersion: example.com/v1\nkind: AllowList\nmetadata: {name: x}\nspec: {}\n")

    assert declared.kind == "AllowList"


def test_a_member_of_a_list_that_is_no_object_is_refused() -> None:
    assert "mapping" in error("apiVersion: v1\nkind: List\nitems: [1]\n").message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: 12}\n", "not text"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: 0644}\n", "`metadata.namespace`"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ''}\n", "no `metadata.name`"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: [x]\n", "no `metadata` mapping"),
        ("apiVersion: 1\nkind: ConfigMap\nmetadata: {name: x}\n", "`apiVersion`"),
        ("apiVersion: v1\nkind: Job\nmetadata: {generateName: x-}\n", "`generateName`"),
    ],
)
def test_an_object_without_a_usable_identity_is_refused(text: str, words: str) -> None:
    assert words in error(text).message


def test_no_error_quotes_a_value() -> None:
    texts = [
        "password: !!int hunter2",
        "password: !Secret hunter2",
        "password: [hunter2",
        'password: "hunter2',
        "password: hunter2: x",
        "password: !!binary hunter2",
        "'hunter2-key': 1\n  password: *x",
        "password: 'hunter2\x01'",
    ]

    messages = [str(error(f"{HEAD}data:\n  {text}\n")) for text in texts]

    assert not [message for message in messages if "hunter2" in message]


def test_nesting_is_read_up_to_the_limit_and_no_further() -> None:
    # The document's own mapping and `data` are a level each.
    depth = loader.MAX_DEPTH - 1

    assert data("[" * depth + "]" * depth)
    assert "deep" in error(f"{HEAD}data: {'[' * (depth + 1)}{']' * (depth + 1)}").message
    assert "deep" in error(json.dumps({"a": 1})[:-1] + ', "b": ' + "[" * 500 + "]" * 500 + "}").message


@pytest.mark.parametrize("opening", ["[", "{", "{a: ", "- ", "? ", "[{", "&a [", "!!seq ["])
def test_brackets_by_the_ten_thousand_are_an_error_and_no_crash(opening: str) -> None:
    text = opening * (60_000 // len(opening))

    assert error(text).line >= 1


def test_aliases_that_grow_without_end_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]

    assert "expand" in error(HEAD + "\n".join(lines) + "\n").message


def test_aliases_of_one_long_text_are_refused_by_what_they_add_up_to() -> None:
    text = f"{HEAD}data:\n  a: &a {'x' * 100_000}\n  b: [{', '.join(['*a'] * 1000)}]\n"

    assert "expand" in error(text).message


def test_merges_that_grow_without_end_are_refused() -> None:
    keys = ", ".join(f"k{n}: {'x' * 100}" for n in range(100))
    text = f"{HEAD}base: &a {{{keys}}}\nall:\n" + "- <<: *a\n" * 2000

    assert "expand" in error(text).message


def test_ordinary_aliases_are_no_concern() -> None:
    text = "{a: &a {cpu: 100m}, " + ", ".join(f"k{n}: *a" for n in range(500)) + "}"

    assert data(text)["k499"] == {"cpu": "100m"}


def test_a_file_that_is_too_large_is_refused_before_it_is_read() -> None:
    assert "bytes" in error(b"x" * (manifests.MAX_FILE_BYTES + 1)).message


def test_more_documents_than_the_limit_are_refused() -> None:
    assert "objects in one file" in error(f"{HEAD}---\n" * (manifests.MAX_DOCUMENTS + 1)).message


def test_a_text_of_four_mebibytes_is_read() -> None:
    text = "x" * (manifests.MAX_FILE_BYTES - 100)

    assert len(data(text)) == len(text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.0, 1),
        (1e20, 10**20 * 1.0),
        (9.223372036854775e18, 9223372036854775000),
        (0.5, 0.5),
        (-0.0, 0),
        (2**64, 2.0**64),
    ],
)
def test_numbers_are_those_that_a_server_reads_from_json(value: float, expected: float) -> None:
    actual = scalars.as_json(value)

    assert (type(actual), actual) == (type(expected), expected)
