"""References to images, taken apart and put together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitsyncd.core.reference import ImageName, Reference, image_name, is_digest, is_tag, reference

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "host", "repository", "server"),
    [
        ("registry.example.com/team/front", "registry.example.com", "team/front", "registry.example.com"),
        ("registry.example.com:5000/front", "registry.example.com:5000", "front", "registry.example.com:5000"),
        ("localhost/front", "localhost", "front", "localhost"),
        ("localhost:5000/a/b/c", "localhost:5000", "a/b/c", "localhost:5000"),
        ("127.0.0.1:5000/front", "127.0.0.1:5000", "front", "127.0.0.1:5000"),
        ("[::1]:5000/front", "[::1]:5000", "front", "[::1]:5000"),
        ("ghcr.io/a/b-c__d.e", "ghcr.io", "a/b-c__d.e", "ghcr.io"),
        ("nginx", "docker.io", "library/nginx", "registry-1.docker.io"),
        ("docker.io/nginx", "docker.io", "library/nginx", "registry-1.docker.io"),
        ("index.docker.io/library/nginx", "docker.io", "library/nginx", "registry-1.docker.io"),
        ("grafana/grafana", "docker.io", "grafana/grafana", "registry-1.docker.io"),
    ],
)
def test_where_an_image_is(text: str, host: str, repository: str, server: str) -> None:
    found = image_name(text)

    assert found == ImageName(host=host, repository=repository)
    assert found.server == server
    assert image_name(str(found)) == found


@pytest.mark.parametrize(
    "text",
    ["", "/", "a//b", "registry.example.com/Team", "registry.example.com/", "a/../b", "a b", "-a", "a-",
     "re_gistry.example.com/a", "registry.example.com:123456/a", "https://registry.example.com/a", "a/" * 130 + "a"],
)  # fmt: skip
def test_what_names_no_image_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="is no name of a"):
        image_name(text)


@pytest.mark.parametrize(
    ("text", "name", "tag", "digest"),
    [
        ("nginx", "nginx", "", ""),
        ("nginx:1.27", "nginx", "1.27", ""),
        ("localhost:5000/front", "localhost:5000/front", "", ""),
        ("localhost:5000/front:v1", "localhost:5000/front", "v1", ""),
        (f"ghcr.io/a/b:v1@{DIGEST}", "ghcr.io/a/b", "v1", DIGEST),
        (f"ghcr.io/a/b@{DIGEST}", "ghcr.io/a/b", "", DIGEST),
    ],
)
def test_a_reference_is_taken_apart_and_put_together(text: str, name: str, tag: str, digest: str) -> None:
    found = reference(text)

    assert found == Reference(name=name, tag=tag, digest=digest)
    assert str(found) == text


@pytest.mark.parametrize(
    "text", ["", "nginx:", "nginx@", "nginx:a b", "nginx@sha256:12", ":1", f"@{DIGEST}", "{{ .image }}"]
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no "):
        reference(text)


@given(st.text(alphabet="aA0.:/@-_[]% \n", max_size=30))
def test_no_text_breaks_the_reader_and_what_is_read_is_written_as_it_was(text: str) -> None:
    try:
        found = reference(text)
    except ValueError:
        return
    assert str(found) == text
    assert not found.tag or is_tag(found.tag)
    assert not found.digest or is_digest(found.digest)
