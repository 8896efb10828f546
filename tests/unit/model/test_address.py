"""Addresses over SSH: what Git takes for one, and what must not pass."""

from __future__ import annotations

import pytest

from gitsyncd.model.address import SshAddress, is_ssh, redacted


@pytest.mark.parametrize(
    ("url", "user", "host", "port", "path"),
    [
        ("ssh://git@git.example.com/team/fleet.git", "git", "git.example.com", 22, "/team/fleet.git"),
        ("ssh://git@git.example.com:2222/fleet.git", "git", "git.example.com", 2222, "/fleet.git"),
        ("ssh://GIT.example.com/fleet", "", "git.example.com", 22, "/fleet"),
        ("ssh://git@[2001:db8::1]:2222/fleet", "git", "2001:db8::1", 2222, "/fleet"),
        ("ssh://git@host/~me/fleet", "git", "host", 22, "~me/fleet"),
        ("ssh://git@host/a%2Bb", "git", "host", 22, "/a+b"),
        ("git@git.example.com:team/fleet.git", "git", "git.example.com", 22, "team/fleet.git"),
        ("git@git.example.com:/srv/fleet.git", "git", "git.example.com", 22, "/srv/fleet.git"),
        ("git@[2001:db8::1]:fleet", "git", "2001:db8::1", 22, "fleet"),
    ],
)
def test_both_ways_to_write_an_address_are_understood(url: str, user: str, host: str, port: int, path: str) -> None:
    assert is_ssh(url)
    assert SshAddress.parse(url) == SshAddress(user=user, host=host, port=port, path=path)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ssh://git:hunter2@host/x", "password"),
        ("ssh://-oProxyCommand=id@host/x", "user"),
        ("ssh://@host/x", "user"),
        ("ssh://git@-oProxyCommand=id/x", "host"),
        ("-oProxyCommand=id@host:x", "user"),
        ("git@-oProxyCommand=id:x", "host"),
        ("ssh:///x", "host"),
        ("ssh://git@host", "path"),
        ("ssh://git@host/", "path"),
        ("git@host:", "path"),
        ("git@host:-x", "path"),
        ("git@host:a b", "path"),
        ("git@host:a'b", "path"),
        ("git@host:$(id)", "path"),
        ("git@host:a\nb", "path"),
        ("ssh://git@host/a%00b", "path"),
        ("ssh://git@host/a%27b", "path"),
        ("ssh://git@host/%ff", "text"),
        ("ssh://git@host:0/x", "port"),
        ("ssh://git@host:99999/x", "port"),
        ("ssh://git@host/x?token=hunter2", r"\?"),
        ("ssh://git@host/x#y", "#"),
    ],
)
def test_what_could_mean_something_else_is_refused_and_not_quoted(url: str, words: str) -> None:
    assert is_ssh(url)
    with pytest.raises(ValueError, match=words) as caught:
        SshAddress.parse(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["https://git@host/x:y", "file:///a@b:c", "/a@b:c", "host:path", "./git@host:x"])
def test_other_addresses_are_not_taken_for_one(url: str) -> None:
    assert not is_ssh(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("ssh://git@host:2222/x.git", "ssh://host:2222/x.git"),
        ("git@host:x.git", "host:x.git"),
        ("https://me:hunter2@host/x?token=hunter2#y", "https://host/x"),
    ],
)
def test_an_address_is_shown_without_whatever_may_be_a_secret(url: str, shown: str) -> None:
    assert redacted(url) == shown


def test_a_server_at_a_port_of_its_own_is_known_by_both() -> None:
    assert SshAddress.parse("git@host:x").known_as == "host"
    assert SshAddress.parse("ssh://git@host:2222/x").known_as == "[host]:2222"
