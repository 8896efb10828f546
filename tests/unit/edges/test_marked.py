"""Marked scalars are found and written, and not a byte else changes."""

from itertools import product

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gitsyncd.edges.yaml import marked
from gitsyncd.edges.yaml.loader import YamlError
from gitsyncd.edges.yaml.marked import edited
from gitsyncd.model.image import Mark

OLD, NEW = "registry.example.com:5000/team/front:1.2.3", "registry.example.com:5000/team/front:1.10.0"
MARK = '# {"$imagepolicy": "front"}'

CONTEXTS = {
    "deployment": """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: front, labels: {app: front}}   # a comment
spec:
  template:
    spec:
      containers:
      - name: front
        image: @@ MARK
        args: ["--image", 'registry.example.com:5000/team/front:1.2.3']
""",
    "top": "image: @@ MARK\n",
    "no end of line": "image: @@ MARK",
    "one in a list": "- @@ MARK\n",
    "later documents": "# first\n---\na: 1\n--- # second\nb: [1, 2]\n...\n---\nimage: @@ MARK\n---\nc: 3\n",
    "directive": "%YAML 1.1\n---\nimage: @@ MARK\n",
    "anchor": "base: &image @@ MARK\nother: *image\n",
    "tag": "image: !!str @@ MARK\n",
    "tag and anchor": "image: !!str &x @@ MARK\nother: *x\n",
    "flow mapping": "spec: {replicas: 2, image: @@ } MARK\n",
    "flow list": "images: [other:1, @@] MARK\n",
    "flow of lines": "images: [\n  other:1,\n  @@, MARK\n  third:3 ]\n",
    "merge": "base: &b {a: 1}\nuse:\n  <<: *b\n  image: @@ MARK\n",
    "value on its own line": "image:\n  @@ MARK\n",
    "complex key": "? [a, b]\n: @@ MARK\n",
    "beside other text": 'note: "it was # {\\"$imagepolicy\\": \\"front\\"}"\nimage: @@ MARK\nmore: |\n  image: x:1 # {"$imagepolicy": "back"}\n',
    "beside a literal": "script: |\n  #!/bin/sh\n\n   echo 'a'  \n\nimage: @@ MARK\nlast: >+\n  a\n\n  b\n\n",
    "other alphabets": "# Größe\nnaïve: 日本語 𝄞\nimage: @@ MARK\n",
    "tabs": "a: b\t# tab\nimage:\t@@\tMARK\n",
    "blank lines": "\n\n  \nimage: @@   MARK   \n\n\n",
    "strange spaces": "a:   1\nb :  2\nimage   :    @@      MARK\n",
    "byte order mark": "\N{ZERO WIDTH NO-BREAK SPACE}image: @@ MARK\n",
    "Helm values": 'front:\n  image: @@ MARK\n  resources: {}\n  env: [{name: A, value: "1"}]\n',
    "long": "items:\n"
    + "".join(f"- {{name: n{n}, value: 'v: {n}'}}  # {n}\n" for n in range(200))
    + "image: @@ MARK\n",
    "sexagesimal and friends": "a: 1:30\nb: 0o17\nc: yes\nd: 2001-01-01\ne: ~\nf: .inf\nimage: @@ MARK\n",
}
QUOTES = ["@@", "'@@'", '"@@"']
ENDS = ["\n", "\r\n", "\r"]
SIGNS = [MARK, '#{"$imagepolicy":"front"}', '#\t{ "$imagepolicy" : "flux-system:front" }']


def marks(text: bytes) -> tuple[Mark, ...]:
    """Of a file in which all of them can be followed."""
    found, wrong = marked.marks(text)
    assert not wrong
    return tuple(found)


def whole(text: str, quote: str, end: str, sign: str) -> str:
    return text.replace("@@", quote).replace("MARK", sign).replace("\n", end)


CORPUS = [
    pytest.param(whole(text, quote, end, sign), id=f"{name}-{quote}-{end!r}-{number}")
    for (name, text), quote, end, (number, sign) in product(CONTEXTS.items(), QUOTES, ENDS, enumerate(SIGNS))
]


def test_the_corpus_is_large_enough_to_mean_something() -> None:
    assert len({param.values for param in CORPUS}) >= 500


@pytest.mark.parametrize("text", CORPUS)
def test_the_marked_scalar_changes_and_not_a_byte_else(text: str) -> None:
    before = text.replace("@@", OLD).encode()

    (mark,) = marks(before)

    assert (mark.policy, mark.part, mark.value) == ("front", "", OLD)
    assert edited(before, {mark: NEW}) == text.replace("@@", NEW).encode()


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    "text",
    [
        f"image: >- {MARK}\n  @@\nb: 1\n",
        f"image: > {MARK}\n\n    @@\n\n\nb: 1\n",
        f"image: |- {MARK}\n  @@",
        f"image: &x |2 {MARK}\n  @@\nb: *x\n",
        f"- - |+ {MARK}\n    @@\n\n- 1\n",
    ],
)
def test_a_block_of_one_line_is_marked_at_its_head(text: str, end: str) -> None:
    text = text.replace("\n", end)
    before = text.replace("@@", OLD).encode()

    (mark,) = marks(before)

    assert mark.value == OLD
    assert edited(before, {mark: NEW}) == text.replace("@@", NEW).encode()


@pytest.mark.parametrize(
    "text",
    [
        f"# image: x:1 {MARK}\nb: 1\n",
        f"a: 1\n  # image: x:1 {MARK}\nb: 1\n",
        f"a: 1 # was x:1 {MARK}\n",
        f"a: >- # was {MARK}\n  x:1\n",
        f"a: |\n  x\n# - image: x:1 {MARK}\n",
        f"a: |\n  image: x:1 {MARK}\n",
        f"a: 'x\n  {MARK}\n  y'\n",
    ],
)
def test_what_is_part_of_a_text_or_of_another_comment_is_no_mark(text: str) -> None:
    assert marks(text.encode()) == ()


@pytest.mark.parametrize(
    ("asked", "policy", "part"),
    [
        ("front", "front", ""),
        ("front:tag", "front", "tag"),
        ("front:name", "front", "name"),
        ("front:digest", "front", "digest"),
        ("flux-system:front", "front", ""),
        ("flux-system:front:tag", "front", "tag"),
        ("tag", "tag", ""),
    ],
)
def test_what_a_mark_asks_for(asked: str, policy: str, part: str) -> None:
    (mark,) = marks(f'a: b # {{"$imagepolicy": "{asked}"}}\n'.encode())

    assert (mark.policy, mark.part, mark.line) == (policy, part, 1)


def test_several_marks_of_one_file_are_written_at_once() -> None:
    text = b"""images:
- name: front   # {"$imagepolicy": "front:name"}
  newTag: 1.9   # {"$imagepolicy": "front:tag"}
- {newTag: '2'} # {"$imagepolicy": "back:tag"}
"""
    first, second, third = marks(text)

    assert (
        edited(text, {third: "3", first: "r.io/front", second: "1.10"})
        == b"""images:
- name: r.io/front   # {"$imagepolicy": "front:name"}
  newTag: "1.10"   # {"$imagepolicy": "front:tag"}
- {newTag: '3'} # {"$imagepolicy": "back:tag"}
"""
    )


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("1.10", '"1.10"'),
        ("1", '"1"'),
        ("1e3", '"1e3"'),
        ("yes", '"yes"'),
        ("n", '"n"'),
        ("1.2.3", "1.2.3"),
        ("main-1", "main-1"),
    ],
)
def test_a_plain_scalar_is_quoted_where_it_would_be_no_text(value: str, written: str) -> None:
    text = b'tag: v1 # {"$imagepolicy": "front:tag"}\n'
    (mark,) = marks(text)

    after = edited(text, {mark: value})

    assert after == f'tag: {written} # {{"$imagepolicy": "front:tag"}}\n'.encode()
    assert yaml.safe_load(after) == {"tag": value}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (f"a: &x b\nc: *x {MARK}\n", 2, "alias"),
        (f"a:\n  {MARK}\n  b: 1\n", 2, "no scalar"),
        (f"{MARK}\n", 1, "no scalar"),
        (f"a: {MARK}\nb: 1\n", 1, "empty"),
        (f"a: {MARK}\n  b: 1\n", 1, "no scalar"),
        (f"a: !t &x {MARK}\n", 1, "empty"),
        (f"a:\n  b\n  c {MARK}\n", 3, "more than one line"),
        (f'a: "b\n  c" {MARK}\n', 2, "more than one line"),
        ('a: b # {"$imagepolicy": 1}\n', 1, "cannot be read"),
        ('a: b # {"$imagepolicy": ""}\n', 1, "cannot be read"),
        ('a: b # {"$imagepolicy": "a:b:c:tag"}\n', 1, "cannot be read"),
        ('a: b # {"$imagepolicy": "a:b:c"}\n', 1, "cannot be read"),
        ('a: b # {"$imagepolicy" "a"}\n', 1, "cannot be read"),
        (f"image: >- {MARK}\n  a\n  b\n", 1, "more than one line"),
        (f"image: | {MARK}\n  a\n\n  b\n", 1, "more than one line"),
        (f"image: | {MARK}\n", 1, "empty"),
        (f"image: | {MARK}\n\n  \n", 1, "empty"),
    ],
)
@pytest.mark.parametrize("end", ENDS)
def test_a_mark_that_cannot_be_followed_is_named_with_its_line_and_others_are(
    text: str, line: int, words: str, end: str
) -> None:
    good = f"---\nfirst: x:1 {MARK}\n---\n"
    content = f"{good}{text}{good}".replace("\n", end).encode()

    found, (wrong,) = marked.marks(content)

    assert (wrong.line, bool(wrong.hint)) == (line + 3, True)
    assert words in wrong.message
    assert [mark.value for mark in found] == ["x:1", "x:1"]
    assert edited(content, {found[1]: "x:2"}).endswith(good.replace("x:1", "x:2").replace("\n", end).encode())


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (f"a: [b {MARK}\n", 2, "expected"),
        (f"a: b {MARK}\n\tc: d\n", 2, "cannot start any token"),
        (f"a: \x07 {MARK}\n", 1, "not allowed"),
    ],
)
def test_a_file_that_cannot_be_parsed_is_named_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(YamlError, match=words) as caught:
        marks(text.encode())

    assert caught.value.line == line


def test_of_very_many_marks_that_cannot_be_followed_the_first_are_named() -> None:
    text = f"a: &x b\n{''.join(f'c{number}: *x {MARK}' + chr(10) for number in range(5000))}".encode()

    _, wrong = marked.marks(text)

    assert [each.line for each in wrong] == list(range(2, 22))


@pytest.mark.parametrize("end", ENDS)
def test_lines_are_counted_whatever_ends_them(end: str) -> None:
    text = f"a: 1\nb: c {MARK}\n# more\n\nd: e {MARK}\nf: |\n  g\nh: 'i' {MARK}".replace("\n", end)

    assert [mark.line for mark in marks(text.encode())] == [2, 5, 8]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000 + f"{MARK}\n", "deep"),
        (f"a: {MARK}\n" + "b: {a: [" * 100_000, "deep|expected"),
        (f"a: b {MARK}\n" + "# x\n" * 1_100_000, "bytes"),
    ],
    ids=["brackets", "mappings", "large"],
)
def test_files_that_are_made_to_keep_us_busy_are_refused(text: str, words: str) -> None:
    """Found out by the suite's own deadline: the parser would take minutes."""
    with pytest.raises(YamlError, match=words):
        marks(text.encode())


@pytest.mark.parametrize(
    "line", ['#{"$imagepolicy"', '"$imagepolicy"', "#{", '# {"$imagepolicy": "a"} ', "} ", '{"$imagepolicy"}']
)
def test_long_lines_of_what_looks_like_marks_keep_nobody_busy(line: str) -> None:
    text = f"a: |\n  {line * 50_000}\nb: c {MARK}\n"

    assert [mark.value for mark in marks(text.encode())] == ["c"]


@pytest.mark.parametrize("rest", ["  x\n  y\n", "  x\n", ""])
@pytest.mark.parametrize("blank", ["  \n", "\n", "  \r\n", " \t\n"])
def test_blank_lines_before_the_text_of_a_marked_block_keep_nobody_busy(blank: str, rest: str) -> None:
    text = f"a: |- {MARK}\n{blank * 100_000}{rest}b: c {MARK}\n"

    try:
        found, _ = marked.marks(text.encode())
    except YamlError:
        return  # a tab where there is no text yet

    assert found[-1].value == "c"


def test_many_marks_that_are_none_keep_nobody_busy() -> None:
    text = "a: |\n" + f"  b: c {MARK}\n" * 50_000 + f"d: e {MARK}\n" + f"# f: g {MARK}\n" * 40_000

    assert [mark.value for mark in marks(text.encode())] == ["e"]


def test_a_file_that_is_not_utf_8_is_named() -> None:
    with pytest.raises(YamlError, match="UTF-8") as caught:
        marks(f"a: 1\nb: \xe4 {MARK}\n".encode("latin-1"))

    assert caught.value.line == 2


@pytest.mark.parametrize(
    "value", ["", "a b", "a: b", "a #b", "x\ny", "'", "*a", "-1", "{{ .x }}", "a\N{NO-BREAK SPACE}b"]
)
def test_only_what_references_consist_of_is_written(value: str) -> None:
    text = f"image: a {MARK}\n".encode()

    with pytest.raises(YamlError, match="no part of a reference"):
        edited(text, {marks(text)[0]: value})


def test_a_mark_of_another_file_or_of_what_the_file_was_before_is_refused() -> None:
    text = f"a: 1\nimage: x:1 {MARK}\n".encode()
    (mark,) = marks(text)

    with pytest.raises(YamlError, match="none of this file"):
        edited(text.replace(b"x:1", b"x:2"), {mark: "b"})


# --- whatever people write -------------------------------------------------------------------------------------------

WORDS = st.text(alphabet="abc xyz:#-'\"\\{}[],&*!|>%@\t\n0123456789é𝄞", max_size=12)
VALUES = st.recursive(
    WORDS | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=12,
)


@given(
    before=st.dictionaries(WORDS, VALUES, max_size=3),
    after=st.dictionaries(WORDS, VALUES, max_size=3),
    quote=st.sampled_from(QUOTES),
    flow=st.sampled_from([None, True, False]),
    width=st.sampled_from([20, 80, 1000]),
    end=st.sampled_from(ENDS),
)
def test_whatever_stands_around_it_stays(
    before: dict[str, object], after: dict[str, object], quote: str, flow: bool | None, width: int, end: str
) -> None:
    around = [
        yaml.safe_dump(part, default_flow_style=flow, width=width, allow_unicode=True) for part in (before, after)
    ]

    def text(image: str) -> bytes:
        kept = f"kept: {{image: {quote.replace('@@', image)} }} {MARK}"
        return f"---\n{around[0]}---\n{kept}\n---\n{around[1]}".replace("\n", end).encode()

    (mark,) = (mark for mark in marks(text(OLD)) if mark.value == OLD)

    assert edited(text(OLD), {mark: NEW}) == text(NEW)


@pytest.mark.parametrize("value", ["'x#{y}'", '"a # {b}"', "x#{y}"])
def test_what_looks_like_a_comment_in_the_marked_scalar_hides_no_mark(value: str) -> None:
    text = f"a: {value} {MARK}\n".encode()

    (mark,) = marks(text)

    assert mark.value == value.strip("'\"")
    assert edited(text, {mark: "b"}) == text.replace(mark.value.encode(), b"b")
