"""The file that says what must not come back: what it may say, and that adding to it loses nothing."""

import re
from itertools import product
from pathlib import Path

import pytest

from gitsyncd.edges.yaml.images import Files
from gitsyncd.edges.yaml.loader import YamlError
from gitsyncd.edges.yaml.quarantine import HEADER, KEYS, MAX_BYTES, read, with_entries
from gitsyncd.engine.ports import FileEditor
from gitsyncd.model.errors import ManifestInvalid
from gitsyncd.model.image import Quarantine, Quarantined, QuarantinedCommit

COMMIT, DIGEST = "0123456789abcdef0123456789abcdef01234567", f"sha256:{'12' * 32}"
FRONT = Quarantined(image="registry.example.com/team/front", tag="1.2.4", reason="leaks", since="2026-03-31")
BACK = Quarantined(
    image="registry.example.com/team/back",
    tag="1.10",
    digest=DIGEST,
    reason='it "hangs": see #5\nand the log',
    since="2026-03-31T09:00:00Z",
    commit=COMMIT,
)
BAD = QuarantinedCommit(commit="12e03" + "0" * 35, reason="no", since="2026-03-31T09:00:00.5+02:00")


def test_what_people_write_is_read() -> None:
    text = f"""\
# after the incident of March
images:
  - image: registry.example.com/team/front
    tag: 1.10            # a tag, and no number
    reason: >-
      restarts
      every hour
  - {{image: nginx, digest: "{DIGEST}", since: 2026-03-31 09:00Z, commit: {COMMIT.upper()}}}
commits:
- commit: '{COMMIT}'
  reason: ~
"""

    assert read(text.encode()) == Quarantine(
        images=(
            Quarantined(image="registry.example.com/team/front", tag="1.10", reason="restarts every hour"),
            Quarantined(image="nginx", digest=DIGEST, since="2026-03-31 09:00Z", commit=COMMIT),
        ),
        commits=(QuarantinedCommit(commit=COMMIT),),
    )


@pytest.mark.parametrize(
    "text", ["", "\n", "# nothing\n", "---\n", "--- ~\n...\n", "{}", "images:\n", "images: []\ncommits: null\n", HEADER]
)
def test_a_file_may_quarantine_nothing(text: str) -> None:
    assert read(text.encode()) == Quarantine()


@pytest.mark.parametrize(
    ("text", "line", "what", "fix"),
    [
        ("a\n", 1, "the file is no map", "images:"),
        ("- image: a\n", 1, "the file is no map", "images:"),
        ("images: []\nimage: []\n", 2, "`image`, which means nothing", "images, commits"),
        ("images: []\nimages: []\n", 2, "`images` is written twice", "one of them"),
        ("images:\n  image: a\n", 2, "`images` is no list", "- image"),
        ("commits: a\n", 1, "`commits` is no list", "- commit"),
        ("images:\n- a:1\n", 2, "an entry of `images` is no map", "- image"),
        ("images:\n- tag: a\n", 2, "names no image", "- image"),
        ("images:\n- image: a\n  reason: b\n", 2, "neither `tag` nor `digest`", "digest: DIGEST"),
        ("images:\n- image: a\n  tga: b\n", 3, "`tga`, which means nothing", "image, tag, digest"),
        ("images:\n- tag: b\n  image: a:b\n", 3, "`image`: `library/a:b` is no name", "under `tag`"),
        ("images:\n- image: a\n  tag: b:c\n", 3, "`tag` is no tag", "behind the colon"),
        ("images:\n- image: a\n  digest: 12\n", 3, "`digest` is none", "sha256:"),
        ("images:\n- image: a\n  tag: [b]\n", 3, "`tag` is no text", "one word"),
        ("images:\n- image: a\n  tag: {b: [c]}\n", 3, "where text belongs", "- image"),
        ("images:\n- image: a\n  tag: b\n  since: yesterday\n", 4, "`since` is no date", "2026-03-31"),
        ("images:\n- image: a\n  tag: b\n  since: 2026-02-30\n", 4, "`since` is no date", "2026-03-31"),
        ("images:\n- image: a\n  tag: b\n  since: 2026-02-03T10:00:00\n", 4, "`since` is no date", "zone"),
        ("images:\n- image: a\n  tag: b\n  commit: 0123456\n", 4, "`commit` is no commit", "40 digits"),
        ("commits:\n- reason: a\n", 2, "names no commit", "- commit"),
        ("commits:\n- commit: main\n", 2, "`commit` is no commit", "40 digits"),
        ("commits:\n- commit: &a b\n", 2, "anchors, aliases and tags", "Write the value out"),
        ("images: !!seq []\n", 1, "anchors, aliases and tags", "Write the value out"),
        ("images: []\n---\ncommits: []\n", 2, "a second document", "Keep one"),
        ("images: [\n", 2, "expected", ""),
        ("images:\n\t- a\n", 2, "cannot start any token", ""),
        ("? [a]\n: b\n", 1, "means nothing", "images, commits"),
    ],
)
def test_what_means_nothing_is_told_with_its_line_and_what_to_write(text: str, line: int, what: str, fix: str) -> None:
    with pytest.raises(YamlError) as caught:
        read(text.encode())

    assert what in caught.value.message
    assert fix in caught.value.hint
    assert caught.value.line == line


@pytest.mark.parametrize("text", [b"\xff\xfe", b"images: \x07", b"[" * MAX_BYTES, b"#" * (MAX_BYTES + 1), b"? " * 9999])
def test_what_is_no_such_file_at_all_is_refused(text: bytes) -> None:
    with pytest.raises(YamlError):
        read(text)


def test_a_file_that_is_made_says_what_it_is() -> None:
    made = with_entries(b"", images=[BACK], commits=[BAD])

    assert (
        made.decode()
        == f"""\
{HEADER}images:
  - image: registry.example.com/team/back
    tag: "1.10"
    digest: {DIGEST}
    reason: "it \\"hangs\\": see #5\\nand the log"
    since: 2026-03-31T09:00:00Z
    commit: {COMMIT}
commits:
  - commit: {BAD.commit}
    reason: "no"
    since: 2026-03-31T09:00:00.5+02:00
"""
    )
    assert read(made) == Quarantine(images=(BACK,), commits=(BAD,))


def test_an_entry_is_added_behind_the_others_and_what_belongs_to_them() -> None:
    text = """\
# kept by the platform team
images:   # newest last
- image: registry.example.com/team/front
  tag: 1.2.4
  reason: leaks   # slowly
  since: 2026-03-31
  # see the report

# commits that broke more than an image
commits:
    - {commit: 0123456789abcdef0123456789abcdef01234567}   # the first one
# vim: et
"""

    after = with_entries(text.encode(), images=[BACK], commits=[BAD]).decode()

    assert after == text.replace(
        "  # see the report\n",
        f"""\
  # see the report
- image: registry.example.com/team/back
  tag: "1.10"
  digest: {DIGEST}
  reason: "it \\"hangs\\": see #5\\nand the log"
  since: 2026-03-31T09:00:00Z
  commit: {COMMIT}
""",
    ).replace(
        "# the first one\n",
        f"""\
# the first one
    - commit: {BAD.commit}
      reason: "no"
      since: 2026-03-31T09:00:00.5+02:00
""",
    )
    assert read(after.encode()).images == (FRONT, BACK)


LAYOUTS = {
    "nothing": "",
    "comments": "# a\n\n# b",
    "document": "---\n# a\n...\n# b\n",
    "null": "--- ~ # a\n# b\n",
    "braces": "{} # a\n",
    "null in braces": "# a\n{images: , commits: ~}\n# b\n",
    "keys in braces": "{images}",
    "empty": "images:   []   # a\ncommits: [ ]\n# b",
    "empty of lines": "images: [ # a\n  # b\n  ]\ncommits: null\n",
    "no values": "commits: # a\nimages:\n  # b\n# c\n",
    "one line": "{images: [{image: a, tag: b}], commits: [{commit: COMMIT}]} # a\n",
    "lists of lines": "images: [ # a\n  {image: a, tag: b}, # b\n  # c\n]\n",
    "flow in block": "images:\n    - {image: a, tag: b} # a\n    # b\n  # c\n# d\ncommits: [{commit: COMMIT}]\n",
    "indented": "  images:\n   - image: a\n     tag: b\n  # a\n",
    "complex": "? images\n: - tag: b\n    image: a\n? commits\n: # a\n",
    "quoted": "'images':\n- 'image': \"a\"\n  \"tag\": 'b'\n\"commits\":\n",
    "compact": "images:\n-\n  image: a\n  tag:\n    b\n\n\n",
    "literal": "commits:\n- reason: |\n    a\n    # b\n\n  commit: COMMIT\nimages:\n- image: a\n  tag: b\n  reason: |\n    c\n\n    # d\n\n\n# a\n",
    "kept": "images:\n- image: a\n  tag: b\n  reason: |+\n    c\n\n\n",
    "kept at the end": "images:\n- image: a\n  tag: b\n  reason: |+\n    c",
    "folded": "images:\n- image: a\n  tag: b\n  reason: >\n    c\n\n     d\n # a\n",
    "quoted lines": "images:\n- image: a\n  tag: b\n  reason: 'c\n\n    # d\n    e' # a\n  # b",
    "byte order mark": "\N{ZERO WIDTH NO-BREAK SPACE}images:\n- image: a\n  tag: b\n",
    "only a byte order mark": "\N{ZERO WIDTH NO-BREAK SPACE}",
    "next line": "images:\n- image: a\n  tag: b # a\x85commits: []\n",
    "no end": "images:\n- image: a\n  tag: b",
    "no end of a comment": "images:\n- image: a\n  tag: b\n  # a",
}


@pytest.mark.parametrize(
    "text",
    [pytest.param(text.replace("COMMIT", COMMIT).replace("\n", end), id=f"{name}-{end!r}")
     for (name, text), end in product(LAYOUTS.items(), ["\n", "\r\n", "\r"])],
)  # fmt: skip
def test_whatever_the_layout_everything_in_it_stays(text: str) -> None:
    before = read(text.encode())

    after = with_entries(text.encode(), images=[BACK, FRONT], commits=[BAD])

    assert read(after) == Quarantine(images=(*before.images, BACK, FRONT), commits=(*before.commits, BAD))
    content = after.decode()
    assert all(f"# {letter}" in content for letter in "abcd" if f"# {letter}" in text)
    if "\r" in text and "\n" not in text.replace("\r\n", ""):
        assert "\n" not in content.replace("\r\n", "")


def test_what_is_in_the_file_already_is_not_added_again() -> None:
    text = with_entries(b"", images=[FRONT], commits=[BAD])
    again = Quarantined(image=FRONT.image, tag=FRONT.tag, reason="another")

    assert with_entries(text, images=[again], commits=[QuarantinedCommit(commit=BAD.commit.upper())]) == text
    assert read(with_entries(text, images=[again, BACK, BACK])).images == (FRONT, BACK)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (Quarantined(image="a"), "neither"),
        (Quarantined(image="A B", tag="c"), "no name"),
        (Quarantined(image="a", tag="b c"), "no tag"),
    ],
)
def test_an_entry_that_could_not_be_read_is_not_written(entry: Quarantined, words: str) -> None:
    with pytest.raises(YamlError, match=f"new entry cannot be written: .*{words}"):
        with_entries(b"", images=[entry])


def test_nothing_is_added_to_a_file_that_cannot_be_read() -> None:
    with pytest.raises(YamlError, match="means nothing") as caught:
        with_entries(b"images: []\nmore: 1\n", images=[FRONT])

    assert caught.value.line == 2


def test_errors_name_the_file() -> None:
    files: FileEditor = Files()

    with pytest.raises(ManifestInvalid) as caught:
        files.quarantined(".gitsyncd/quarantine.yaml", b"images:\n- image: a\n")

    assert caught.value.subject == ".gitsyncd/quarantine.yaml:2"
    assert "tag: TAG" in caught.value.hint


def test_marks_of_a_file_are_found_and_written_by_its_name() -> None:
    files = Files()
    text = b'a: b # {"$imagepolicy": "front"}\n'

    (mark,), _ = files.marks("a.yaml", text)

    assert files.edited("a.yaml", text, {mark: "c"}) == b'a: c # {"$imagepolicy": "front"}\n'
    with pytest.raises(ManifestInvalid, match="none of this file") as caught:
        files.edited("a.yaml", text.replace(b"b", b"d"), {mark: "c"})
    assert caught.value.subject == "a.yaml:1"
    assert files.with_quarantined("q.yaml", b"", images=[FRONT]) == with_entries(b"", images=[FRONT])


def test_the_reference_shows_a_file_and_names_every_key() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/quarantine.md").read_text()
    example = page.partition("```yaml\n")[2].partition("```")[0]
    _, of_images, of_commits = page.split("\n## ")[:3]

    assert [len(found) for found in (read(example.encode()).images, read(example.encode()).commits)] == [2, 1]
    for key, section in (("images", of_images), ("commits", of_commits)):
        assert tuple(re.findall(r"^\| `(\w+)`", section, flags=re.MULTILINE)) == KEYS[key]


def test_a_layout_to_which_nothing_can_be_added_is_told() -> None:
    with pytest.raises(YamlError, match="no entry can be added to a file of this layout") as caught:
        with_entries(b"? images\n", images=[FRONT])

    assert caught.value.hint == "Write `images:` in a line of its own."
