"""What a known_hosts file says of a server; the lines are those that `ssh-keygen` and `ssh-keyscan` write."""

from __future__ import annotations

import hmac
from base64 import b64encode

import pytest

from gitsyncd.edges.git.known_hosts import UnreadableLine, fingerprint, known_host


def text(kind: str, *parts: bytes) -> str:
    """A public key as a line has it; the parts are whatever the kind has behind its name."""
    blob = b"".join(len(part).to_bytes(4) + part for part in (kind.encode(), *parts))
    return f"{kind} {b64encode(blob).decode()}"


ONE, TWO = text("ssh-ed25519", b"1" * 32), text("ssh-ed25519", b"2" * 32)
RSA_1024 = text("ssh-rsa", b"\1\0\1", b"\0" + b"\xff" * 128)
RSA_2048 = text("ssh-rsa", b"\1\0\1", b"\0" + b"\xff" * 256)
DSA = text("ssh-dss", b"\1" * 128)


def hashed(name: str, salt: bytes = b"s" * 20) -> str:
    digest = hmac.digest(salt, name.encode(), "sha1")
    return f"|1|{b64encode(salt).decode()}|{b64encode(digest).decode()}"


@pytest.mark.parametrize(
    ("names", "host", "port"),
    [
        ("git.example.com", "git.example.com", 22),
        ("git.example.com", "GIT.Example.COM", 22),
        ("Git.Example.Com", "git.example.com", 22),
        ("other,git.example.com,192.0.2.1", "git.example.com", 22),
        ("*.example.com", "git.example.com", 22),
        ("g?t.example.com", "git.example.com", 22),
        ("[git.example.com]:2222", "git.example.com", 2222),
        ("[*.example.com]:*", "git.example.com", 2222),
        ("git.example.com", "git.example.com", 2222),
        ("2001:db8::1", "2001:db8::1", 22),
        ("[2001:db8::1]:2222", "2001:db8::1", 2222),
        (hashed("git.example.com"), "git.example.com", 22),
        (hashed("[git.example.com]:2222"), "git.example.com", 2222),
    ],
)
def test_a_line_that_names_the_server_is_trusted(names: str, host: str, port: int) -> None:
    found = known_host(f"# comment\n\n{names} {ONE} somebody@example\n", host, port)

    assert [(key.text, key.line) for key in found.trusted] == [(ONE, 3)]
    assert (found.authorities, found.revoked) == ((), ())


@pytest.mark.parametrize(
    ("names", "host", "port"),
    [
        ("git.example.com", "git.example.com.evil.net", 22),
        ("git.example.com", "gitXexample.com", 22),
        ("example.com", "git.example.com", 22),
        ("*.example.com,!git.example.com", "git.example.com", 22),
        ("!git.example.com,*.example.com", "git.example.com", 22),
        ("!*", "git.example.com", 22),
        ("[git.example.com]:2222", "git.example.com", 22),
        ("[git.example.com]:2222", "git.example.com", 2223),
        (hashed("other.example.com"), "git.example.com", 22),
        ("|1|x|y", "git.example.com", 22),
        ("|2|" + hashed("git.example.com").removeprefix("|1|"), "git.example.com", 22),
    ],
)
def test_a_line_that_names_another_server_is_not(names: str, host: str, port: int) -> None:
    assert known_host(f"{names} {ONE}\n", host, port).trusted == ()


def test_a_port_of_its_own_counts_before_the_name_alone() -> None:
    found = known_host(f"host {ONE}\n[host]:2222 {TWO}\n", "host", 2222)

    assert [key.text for key in found.trusted] == [TWO]


def test_a_key_that_is_revoked_for_the_name_is_revoked_at_every_port() -> None:
    found = known_host(f"@revoked host {ONE}\n[host]:2222 {TWO}\n", "host", 2222)

    assert [key.text for key in found.revoked] == [ONE]


def test_markers_make_an_authority_and_a_revoked_key_and_no_trusted_one() -> None:
    found = known_host(f"@cert-authority *.example.com {ONE}\n@revoked * {TWO}\n", "git.example.com", 22)

    assert found.trusted == ()
    assert [key.text for key in found.authorities] == [ONE]
    assert [key.text for key in found.revoked] == [TWO]


@pytest.mark.parametrize("key", [RSA_1024, DSA, text("ssh-rsa", b"\1")])
def test_a_weak_key_is_not_trusted_and_may_be_revoked(key: str) -> None:
    found = known_host(f"host {key}\n@cert-authority host {key}\n@revoked host {key}\n", "host", 22)

    assert (found.trusted, found.authorities) == ((), ())
    assert [key.text for key in found.revoked] == [key]


def test_rsa_of_2048_bits_is_good_enough() -> None:
    assert [key.text for key in known_host(f"host {RSA_2048}", "host", 22).trusted] == [RSA_2048]


@pytest.mark.parametrize("line", ["host", "host ssh-ed25519", "host ssh-ed25519 ???", f"host ssh-rsa {ONE.split()[1]}"])
def test_a_line_that_trusts_and_cannot_be_read_trusts_nobody_and_spoils_nothing(line: str) -> None:
    found = known_host(f"{line}\nhost {ONE}\n", "host", 22)

    assert [key.line for key in found.trusted] == [2]


@pytest.mark.parametrize(
    "line", ["@revoked", "@revoked host", "@revoked host ssh-ed25519 AAAA", f"@Revoked host {ONE}", f"@x host {ONE}"]
)
def test_a_line_that_may_distrust_and_cannot_be_read_is_an_error(line: str) -> None:
    with pytest.raises(UnreadableLine, match="line 2"):
        known_host(f"host {ONE}\n{line}\n", "host", 22)


def test_a_fingerprint_is_the_one_that_ssh_keygen_shows() -> None:
    """github.com's ed25519 key, as GitHub publishes both."""
    key = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
    (found,) = known_host(f"github.com ssh-ed25519 {key}", "github.com", 22).trusted

    assert fingerprint(found.blob) == "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"
