"""What goes wrong between a registry and a commit: a line with the fix for each, nothing half written, and an end."""

from __future__ import annotations

import itertools
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.daemon import Agent, Daemon, until
from tests.gitserver.certificates import Authority
from tests.gitserver.repository import BARE_ENVIRONMENT, Repo
from tests.gitserver.server import GitServer
from tests.registry.images import DOCKER, OCI, image
from tests.registry.peculiar import Answer, Peculiar
from tests.registry.server import Registry
from tests.sandbox import Cluster

pytestmark = pytest.mark.real

WRITE_PASSWORD = "wr1te-it"
_NUMBERS = itertools.count()
SETTINGS = """\
apiVersion: v1
kind: ConfigMap
metadata: {{name: settings}}
data:
  image: {image}:{tag}  # {{"$imagepolicy": "front"}}
"""
Fault = Callable[[str], Answer]


class Front:
    """Stands before a real registry, hands everything on, and answers by itself while it has a fault."""

    def __init__(self, registry: Registry) -> None:
        self.fault: Fault | None = None
        self._registry = registry

    def answer(self, path: str, authorization: str, method: str = "GET") -> Answer:
        if self.fault is not None:
            return self.fault(path)
        trust = ssl.create_default_context(cafile=self._registry.ca_file)
        connection = HTTPSConnection("127.0.0.1", self._registry.port, context=trust, timeout=20)
        try:
            headers = {
                "Accept": ", ".join(("*/*", *OCI.values(), *DOCKER.values())),
                **({"Authorization": authorization} if authorization else {}),
            }
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            kept = ("Content-Type", "Docker-Content-Digest", "Link", "WWW-Authenticate")
            return answer.status, {key: answer.headers[key] for key in kept if key in answer.headers}, answer.read()
        finally:
            connection.close()

    def head(self, path: str, authorization: str) -> Answer:
        return self.answer(path, authorization, "HEAD")


@dataclass(frozen=True, slots=True)
class World:
    """One policy, one update, and a target that shows what arrives."""

    daemon: Daemon
    agent: Agent
    registry: Registry
    front: Front
    git: GitServer
    repo: Repo
    write_file: Path
    registry_file: Path
    image: str
    tags: Iterator[str] = field(default_factory=lambda: (f"1.{minor}.0" for minor in range(1, 1000)))

    def push(self) -> str:
        tag = next(self.tags)
        self.registry.push("team/front", tag, image(f"front {tag}"))
        return tag

    def written(self) -> str:
        done = subprocess.run(
            ["git", "cat-file", "blob", "main:web/settings.yaml"],
            cwd=self.repo.path,
            env=BARE_ENVIRONMENT,
            capture_output=True,
            check=True,
        )
        return done.stdout.decode()

    def looks_now(self) -> None:
        """As a person has it look who has mended something. It looks by itself as well, later."""
        assert self.agent.run("images", "unlock", "front").code == 0

    def recovers(self, since: int) -> None:
        """The pause that a registry asks for is kept, whoever rings."""

        def recovered() -> bool:
            self.looks_now()
            return bool(self.daemon.said("registry recovered", since=since, policy="front"))

        until(recovered, "it recovers")

    def arrives(self, tag: str) -> None:
        until(lambda: self.written() == SETTINGS.format(image=self.image, tag=tag), f"{tag} is written")


@pytest.fixture
def world(bare_cluster: Cluster, tmp_path: Path) -> Iterator[World]:
    space = f"imaging-faults-{next(_NUMBERS)}"
    bare_cluster.create_namespace(space)
    agent = Agent(tmp_path / "agent", name=space)
    agent.cluster("here", bare_cluster.kubeconfig)
    authority = Authority(tmp_path / "ca")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.server_certificate("127.0.0.1"))
    registry_file, write_file = tmp_path / "registry-password", tmp_path / "write"
    registry_file.write_text(Registry.password)
    write_file.write_text(WRITE_PASSWORD)
    with (
        Registry(tmp_path / "registry") as registry,
        GitServer(tmp_path / "repos", authority=authority, credentials=("writer", WRITE_PASSWORD)) as server,
    ):
        front = Front(registry)
        with Peculiar(front.answer, context, front.head) as listener:
            repo = server.create("fleet")
            name = f"{listener.host}/team/front"
            registry.push("team/front", "1.0.0", image("front 1.0.0"))
            repo.commit({"web/settings.yaml": SETTINGS.format(image=name, tag="1.0.0")})
            login = {"username": "writer", "password_file": str(write_file)}
            trusted = {"ca_file": str(authority.ca_file)}
            agent.source("fleet", server.url("fleet"), auth=login, tls=trusted, interval="1s")
            agent.target("web", path="web", namespace=space)
            agent.document["images"] = {
                "registries": [
                    {
                        "prefix": listener.host,
                        "auth": {"username": registry.username, "password_file": str(registry_file)},
                        "tls": trusted,
                    }
                ],
                "policies": [{"name": "front", "image": name, "interval": "500ms", "select": {"semver": ">=1.0 <2"}}],
                "updates": [
                    {"name": "fleet", "source": "fleet", "paths": ["web"], "author": {"email": "robot@example.com"}}
                ],
            }
            with agent.start() as daemon:
                daemon.wait_for("target in sync", target="web@here")
                yield World(daemon, agent, registry, front, server, repo, write_file, registry_file, name)


def answers(status: int, body: bytes = b"{}", **headers: str) -> Fault:
    return lambda _path: (status, {key.replace("_", "-"): value for key, value in headers.items()}, body)


def endless(path: str) -> Answer:
    return 200, {"Link": f'<{path.split("?", maxsplit=1)[0]}?last=x&n=1000>; rel="next"'}, b'{"tags": ["1.999.0"]}'


def silent(_path: str) -> Answer:
    time.sleep(25)  # longer than it is listened to
    return 200, {}, b"{}"


TROUBLES: list[tuple[str, Fault, str, str]] = [
    ("broken", answers(503), "wait", "503"),
    ("denied", answers(401), "fix-config", "401"),
    ("gone", answers(404, b'{"errors": [{"code": "NAME_UNKNOWN"}]}'), "fix-config", "image"),
    ("throttling", answers(429, Retry_After="1"), "wait", "asked again"),
    ("malformed", answers(200, b'{"tags": ["1.999.0", '), "wait", ""),
    ("a page of its own", answers(200, b"<html>Please log in</html>", Content_Type="text/html"), "wait", ""),
    ("endless", endless, "wait", ""),
    ("elsewhere", answers(307, Location="https://127.0.0.2:1/v2/"), "wait", ""),
    ("silent", silent, "wait", ""),
]


def test_of_a_registry_in_trouble_nothing_is_believed_and_what_it_has_arrives_when_it_is_well(world: World) -> None:
    for name, fault, remedy, word in TROUBLES:
        head, since = world.repo.head(), world.daemon.now
        world.front.fault = fault
        tag = world.push()
        told = world.daemon.wait_for("registry unreachable", since=since, policy="front")
        assert told["remedy"] == remedy, (name, told)
        assert word in told["error"] + told["hint"], (name, told)
        assert told["hint"], (name, told)
        shown = world.agent.run("images")
        assert (shown.code, "fix: " in shown.stdout) == (1, True), (name, shown)
        assert world.repo.head() == head, name

        world.front.fault = None
        world.recovers(since)
        world.arrives(tag)
    assert world.repo.git("rev-list", "--count", "main") == str(len(TROUBLES) + 1), "one commit each, and no more"
    assert not [line for line in world.daemon.lines if line["event"] == "bug"]


def test_an_expired_password_of_the_registry_counts_from_the_next_look_on_when_it_is_replaced(world: World) -> None:
    world.registry_file.write_text("exp1red")
    tag = world.push()
    told = world.daemon.wait_for("registry unreachable", policy="front")
    assert told["remedy"] == "fix-config"
    assert "exp1red" not in str(world.daemon.lines)

    world.registry_file.write_text(Registry.password)

    world.arrives(tag)  # by itself
    world.daemon.wait_for("registry recovered", policy="front")


def test_a_tag_that_is_deleted_while_it_is_chosen_is_not_written(world: World) -> None:
    head = world.repo.head()
    refusing = world.repo.path / "hooks" / "pre-receive"
    refusing.parent.mkdir(exist_ok=True)
    refusing.write_text("#!/bin/sh\necho main is protected >&2\nexit 1\n")
    refusing.chmod(0o755)
    tag = next(world.tags)
    digest = world.registry.push("team/front", tag, image(f"front {tag}"))
    refused = world.daemon.wait_for("image update failed", update="fleet")
    assert ("main is protected" in refused["error"], refused["remedy"]) == (True, "fix-repo")
    world.registry.delete("team/front", digest)
    world.looks_now()
    until(lambda: shown(world)["tag"] != tag, "it is not chosen any more")
    refusing.unlink()

    since = world.daemon.now
    later = world.push()
    world.arrives(later)

    assert world.repo.git("log", "--format=%P", "-1", "main") == head, "nothing stands between"
    told = world.daemon.wait_for("images committed", since=since)
    assert told["changes"][0]["old"].endswith(":1.0.0")


def test_a_repository_that_moved_or_takes_another_password_is_written_to_when_that_is_mended(world: World) -> None:
    hidden = world.repo.path.with_name("hidden.git")
    world.repo.path.rename(hidden)
    tag = world.push()
    told = world.daemon.wait_for("image update failed")
    assert "not found" in told["error"]
    assert told["remedy"] == "fix-config"
    hidden.rename(world.repo.path)
    world.looks_now()
    world.arrives(tag)

    since = world.daemon.now
    world.git.credentials = ("writer", "another-0ne")
    tag = world.push()
    told = world.daemon.wait_for("image update failed", since=since)
    assert (told["remedy"], bool(told["hint"])) == ("fix-config", True)
    world.write_file.write_text("another-0ne")
    world.looks_now()
    world.arrives(tag)
    assert not [line for line in world.daemon.lines if "another-0ne" in str(line)]


def shown(world: World) -> Any:
    return world.agent.run("images", "--output", "json").json["policies"][0]
