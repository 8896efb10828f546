"""What image automation reads and writes in files of a repository, with errors that name the file.

Satisfies the port `FileEditor`. Here: names of files, and whose error it is. Not here: YAML (`marked`, `quarantine`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gitsyncd.model.errors import ManifestInvalid
from gitsyncd.model.image import Mark, Quarantine, Quarantined, QuarantinedCommit

if TYPE_CHECKING:
    from gitsyncd.edges.yaml.loader import YamlError

_HINT = "Correct the file and push it; until then no image is written to it."


class Files:
    """Marked images, and what must not come back. Keeps nothing; files are bytes, and their names are for messages."""

    def marks(self, file: str, content: bytes) -> tuple[Sequence[Mark], Sequence[ManifestInvalid]]:
        """All marks that can be followed, in the order of the file, and what is wrong with the others.

        Raises `ManifestInvalid` for a file that cannot be read.
        """
        from gitsyncd.edges.yaml import marked  # the parser is 4 MB that an agent without images does not need

        with _named(file):
            found, wrong = marked.marks(content)
        return found, [_invalid(file, error) for error in wrong]

    def edited(self, file: str, content: bytes, values: Mapping[Mark, str]) -> bytes:
        """The content with these values at these marks, and every other byte as it was. Raises `ManifestInvalid`."""
        from gitsyncd.edges.yaml import marked  # see `marks`

        with _named(file):
            return marked.edited(content, values)

    def quarantined(self, file: str, content: bytes) -> Quarantine:
        """Raises `ManifestInvalid`."""
        from gitsyncd.edges.yaml import quarantine  # see `marks`

        with _named(file):
            return quarantine.read(content)

    def with_quarantined(
        self,
        file: str,
        content: bytes,
        *,
        images: Sequence[Quarantined] = (),
        commits: Sequence[QuarantinedCommit] = (),
    ) -> bytes:
        """The content with these entries, its comments kept; no content for no file. Raises `ManifestInvalid`."""
        from gitsyncd.edges.yaml import quarantine  # see `marks`

        with _named(file):
            return quarantine.with_entries(content, images=images, commits=commits)


@contextmanager
def _named(file: str) -> Iterator[None]:
    from gitsyncd.edges.yaml.loader import YamlError  # see `marks`

    try:
        yield
    except YamlError as error:
        raise _invalid(file, error) from error


def _invalid(file: str, error: YamlError) -> ManifestInvalid:
    return ManifestInvalid(error.message, file=file, line=error.line, hint=error.hint or _HINT)
