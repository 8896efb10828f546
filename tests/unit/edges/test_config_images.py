"""The section `images` of the agent file: what it turns into, and what is said of each mistake."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from gitsyncd.edges.config.load import load
from gitsyncd.model.errors import ConfigError
from gitsyncd.model.image import (
    DockerConfigAuth,
    Filter,
    ImagePolicy,
    Order,
    PinDigest,
    RegistryAccess,
    Rule,
    Schedule,
    Select,
)
from gitsyncd.model.source import PasswordAuth, Repository
from gitsyncd.model.target import Images
from gitsyncd.model.update import Author, Forge, KeyKind, PullRequest, SigningKey, Update

HEAD = "version: 1\nagent: {name: edge}\n"
SOURCES = (
    "sources: [{name: fleet, url: 'https://git.example.com/fleet.git', ref: {branch: main}}, "
    "{name: again, url: 'https://git.example.com/fleet/', ref: {branch: main}}, "
    "{name: near, url: 'file:///srv/near.git', ref: {branch: main}}]\n"
)

Read = Callable[[str], Images]
Refused = Callable[[str], list[str]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    for name in ("password", "write", "sign", "token", "ca.pem", "cosign.pub", "docker.json"):
        (tmp_path / name).write_text("x")

    def images(text: str) -> Images:
        path = tmp_path / "gitsyncd.yaml"
        path.write_text(HEAD + SOURCES + text)
        return load(path, {}).images

    return images


@pytest.fixture
def refused(read: Read, tmp_path: Path) -> Refused:
    def mistakes(text: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            read(text)
        return [str(mistake).removeprefix(f"{tmp_path / 'gitsyncd.yaml'}:") for mistake in caught.value.mistakes]

    return mistakes


def test_everything_that_can_be_said(read: Read, tmp_path: Path) -> None:
    found = read(
        """
images:
  registries:
    - prefix: registry.example.com/team/
      auth: {username: robot, password_file: password}
      tls: {ca_file: ca.pem}
      proxy: http://proxy.example.com:3128
    - {prefix: ghcr.io, auth: {docker_config_file: docker.json}}
  policies:
    - name: front
      image: registry.example.com/team/front
      schedule: "*/10 8-18 * * 1-5"
      time_zone: Europe/Berlin
      select: {semver: ">=1.2 <2"}
      filter: {pattern: "^v(?P<version>.+)$", extract: "$version"}
      min_age: 1h
      pin_digest: always
      platforms: [linux/amd64]
      verify: {cosign_key_file: cosign.pub}
    - {name: back, image: back, select: {numerical: desc}, allow_backwards: true, interval: 1m}
  updates:
    - name: fleet
      source: fleet
      branch: staging
      paths: [clusters/, ./apps/front.yaml]
      policies: [front]
      auth: {username: writer, password_file: write}
      author: {name: Robot, email: robot@example.com}
      message: "{summary}\\n\\n{changes}"
      sign: {ssh_key_file: sign}
      push: {branch: image-updates}
      pull_request: {host: gitea, token_file: token, labels: [images]}
      max_commits_per_hour: 3
    - {name: near, source: near}
"""
    )

    assert found.registries == (
        RegistryAccess(
            prefix="registry.example.com/team",
            auth=PasswordAuth(username="robot", password_file=tmp_path / "password"),
            ca_file=tmp_path / "ca.pem",
            proxy="http://proxy.example.com:3128",
        ),
        RegistryAccess(prefix="ghcr.io", auth=DockerConfigAuth(file=tmp_path / "docker.json")),
    )
    assert found.policies == (
        ImagePolicy(
            name="front",
            image="registry.example.com/team/front",
            select=Select(rule=Rule.SEMVER, wanted=">=1.2 <2"),
            filter=Filter(pattern="^v(?P<version>.+)$", extract="$version"),
            min_age=timedelta(hours=1),
            pin_digest=PinDigest.ALWAYS,
            platforms=("linux/amd64",),
            signing_key=tmp_path / "cosign.pub",
            schedule=Schedule(cron="*/10 8-18 * * 1-5", time_zone="Europe/Berlin"),
        ),
        ImagePolicy(
            name="back",
            image="back",
            select=Select(rule=Rule.NUMERICAL, order=Order.DESC),
            allow_backwards=True,
            interval=timedelta(minutes=1),
        ),
    )
    assert found.updates == (
        Update(
            name="fleet",
            source="fleet",
            repository=Repository(
                url="https://git.example.com/fleet.git",
                auth=PasswordAuth(username="writer", password_file=tmp_path / "write"),
            ),
            branch="staging",
            timeout=timedelta(seconds=60),
            author=Author(name="Robot", email="robot@example.com"),
            paths=("clusters", "apps/front.yaml"),
            policies=("front",),
            message="{summary}\n\n{changes}",
            signing=SigningKey(kind=KeyKind.SSH, file=tmp_path / "sign"),
            push_branch="image-updates",
            pull_request=PullRequest(forge=Forge.GITEA, token_file=tmp_path / "token", labels=("images",)),
            max_commits_per_hour=3,
        ),
        Update(
            name="near",
            source="near",
            repository=Repository(url="file:///srv/near.git"),
            branch="main",
            timeout=timedelta(seconds=60),
            author=Author(name="gitsyncd", email="gitsyncd@localhost"),
            policies=("front", "back"),
        ),
    )


def test_an_agent_without_the_section_has_none(read: Read) -> None:
    assert read("") == Images()


def policy(text: str) -> str:
    return f"images: {{policies: [{{name: front, image: x/front, {text}}}]}}\n"


def update(text: str) -> str:
    front = "{name: front, image: x/front, select: {semver: '*'}}"
    return f"images: {{policies: [{front}], updates: [{{name: up, source: fleet, {text}}}]}}\n"


def registry(text: str) -> str:
    return f"images: {{registries: [{{prefix: x.example.com, {text}}}]}}\n"


def image(text: str) -> str:
    return f"images: {{policies: [{{name: front, image: {text}, select: {{semver: '*'}}}}]}}\n"


AT_POLICY, AT_UPDATE, AT_REGISTRY = ("4: images.policies[0]", "4: images.updates[0]", "4: images.registries[0]")

MISTAKES = [
    (policy("select: {}"), f"{AT_POLICY}.select: names no rule; write one of semver, alphabetical, numerical, newest, digest"),
    (policy("select: {semver: '*', digest: latest}"), f"{AT_POLICY}.select.digest: excludes semver; keep one of them"),
    (policy("select: {semver: '>=foo'}"), f"{AT_POLICY}.select.semver: `>=foo` is no comparison of versions such as `>=1.2`, `~1.2.3`, `^1` or `1.x`; write it like \">=1.2 <2\", \"~1.4\" or \"1.x\""),
    (policy("select: {alphabetical: up}"), f"{AT_POLICY}.select.alphabetical: is none of its values; write asc or desc"),
    (policy("select: {newest: pushed}"), f"{AT_POLICY}.select.newest: is none of its values; write created"),
    (policy("select: {digest: 'a b'}"), f"{AT_POLICY}.select.digest: 'a b' is no tag; write the tag alone, such as latest"),
    (policy("select: {semver: '*'}, filter: {pattern: '(', extract: ''}"), f"{AT_POLICY}.filter.pattern: is no regular expression: missing ), unterminated subpattern at position 0; write it like ^v(?P<version>.+)$"),
    (policy("select: {semver: '*'}, filter: {pattern: '(?P<version>.+)', extract: '$versoin'}"), f"{AT_POLICY}.filter.extract: names the group versoin, which the pattern does not have; did you mean version?"),
    (policy("select: {semver: '*'}, schedule: '* * * *'"), f"{AT_POLICY}.schedule: a schedule has five fields: minute, hour, day, month, weekday; write it like \"*/10 8-18 * * 1-5\""),
    (policy("select: {semver: '*'}, schedule: '0 0 31 2 *'"), f"{AT_POLICY}.schedule: never comes; correct the day or the month"),
    (policy("select: {semver: '*'}, schedule: '@daily', interval: 5m"), f"{AT_POLICY}.schedule: excludes interval; keep one of them"),
    (policy("select: {semver: '*'}, time_zone: Europe/Berlin"), f"{AT_POLICY}.time_zone: means nothing without schedule; remove it, or write schedule"),
    (policy("select: {semver: '*'}, schedule: '@daily', time_zone: Mars"), f"{AT_POLICY}.time_zone: `Mars` is no time zone that this machine knows; write it like Europe/Berlin; the machine needs the package tzdata"),
    (policy("select: {semver: '*'}, platforms: [amd64]"), f"{AT_POLICY}.platforms[0]: 'amd64' is no platform; write os/architecture, such as linux/amd64"),
    (policy("select: {semver: '*'}, verify: {cosign_key_file: gone.pub}"), None),
    (image("x/front:1.2"), f"{AT_POLICY}.image: `x/front:1.2` is no name of a repository: small letters, digits, and . _ - / between them; write it without tag and digest, such as registry.example.com/team/front"),
    (update("policies: [font]"), f"{AT_UPDATE}.policies[0]: font is no policy; did you mean front?"),
    (update("policies: []"), f"{AT_UPDATE}.policies: selects nothing; leave it out for all policies"),
    (update("pull_request: {host: gitea, token_file: token}"), f"{AT_UPDATE}.pull_request: has no branch to merge from; write push: {{branch: image-updates}} beside it"),
    (update("push: {branch: main}"), f"{AT_UPDATE}.push.branch: is the branch that is followed; name another one, or leave push out"),
    ("images: {updates: [{name: a, source: fleet, push: {branch: up}}, {name: b, source: fleet, push: {branch: up}}]}\n", "4: images.updates[1].push.branch: up is written to by updates[0] too; give each a branch of its own"),
    ("images: {updates: [{name: a, source: fleet, push: {branch: up}}, {name: b, source: again, push: {branch: up}}]}\n", "4: images.updates[1].push.branch: up is written to by updates[0] too; give each a branch of its own"),
    ("images: {updates: [{name: a, source: fleet, push: {branch: up}}, {name: b, source: fleet, branch: up}]}\n", "4: images.updates[0].push.branch: up is written to by updates[1] too; give each a branch of its own"),
    (update("sign: {}"), f"{AT_UPDATE}.sign: names no key; write ssh_key_file or openpgp_key_file"),
    (update("message: '{what}'"), f"{AT_UPDATE}.message: '{{what}}' is no placeholder; known are {{agent}}, {{changes}}, {{files}}, {{policies}}, {{summary}}"),
    (update("paths: [../x]"), f"{AT_UPDATE}.paths[0]: '../x' leaves its folder; write the path from the root of the repository, without .."),
    (update("max_commits_per_hour: 0"), f"{AT_UPDATE}.max_commits_per_hour: is out of range; write at least 1"),
    (update("author: {name: 'Robot <robot@example.com>'}"), f"{AT_UPDATE}.author.name: holds < or >, between which a commit has the address; write the name alone"),
    (update("author: {email: nobody}"), f"{AT_UPDATE}.author.email: 'nobody' is no address; write it like gitsyncd@example.com"),
    (update("auth: {username: x}"), f"{AT_UPDATE}.auth.username: stands without password_file; write password_file too"),
    ("images: {updates: [{name: up, source: flet}]}\n", f"{AT_UPDATE}.source: flet is no source; did you mean fleet?"),
    ("images: {updates: [{name: up, source: near, auth: {bearer_file: token}}]}\n", f"{AT_UPDATE}.auth: means nothing for a file:// address; remove it"),
    ("images: {updates: [{name: up, source: near}, {name: up, source: fleet}]}\n", "4: images.updates[1].name: up is the name of updates[0] too; give each a name of its own"),
    (registry("auth: {}"), f"{AT_REGISTRY}.auth: names no credentials; write username and password_file, bearer_file, or docker_config_file"),
    (registry("auth: {password_file: password}"), f"{AT_REGISTRY}.auth.password_file: stands without username; write username too"),
    (registry("auth: {bearer_file: token, docker_config_file: docker.json}"), f"{AT_REGISTRY}.auth.docker_config_file: excludes bearer_file; keep one of them"),
    (registry("auth: {bearer_file: token, username: x}"), f"{AT_REGISTRY}.auth.username: means nothing beside bearer_file; remove it"),
    (registry("allow_plain_http: true, tls: {ca_file: ca.pem}"), f"{AT_REGISTRY}.tls: means nothing without TLS; remove it, or allow_plain_http"),
    (registry("proxy: 'http://me:secret@proxy:3128'"), f"{AT_REGISTRY}.proxy: holds a user name or a password, which a proxy cannot be given; write the address alone, such as http://proxy.example.com:3128"),
    (registry("proxy: 'socks5://proxy'"), f"{AT_REGISTRY}.proxy: is no address of a proxy; write it like http://proxy.example.com:3128"),
]  # fmt: skip


def test_updates_of_one_branch_are_no_mistake_where_neither_has_it_for_itself(read: Read) -> None:
    found = read(
        "images: {updates: [{name: a, source: fleet}, {name: b, source: fleet}, "
        "{name: c, source: fleet, push: {branch: up}}, {name: d, source: near, push: {branch: up}}]}\n"
    )

    assert [each.pushed for each in found.updates] == ["main", "main", "up", "up"]


@pytest.mark.parametrize(("text", "expected"), MISTAKES)
def test_a_mistake_is_told_with_its_fix(refused: Refused, tmp_path: Path, text: str, expected: str | None) -> None:
    if expected is None:
        gone = tmp_path / "gone.pub"
        expected = (
            f"{AT_POLICY}.verify.cosign_key_file: {gone} does not exist; "
            "correct the name, or write the file before the agent starts"
        )
    assert refused(text) == [expected]
