"""The agent file, read badly: every mistake is told at once, with file, line, key, what is wrong and what to write."""

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gitsyncd.edges.config.load import MAX_BYTES, load
from gitsyncd.model.errors import ConfigError, Remedy

Refused = Callable[[str], list[str]]


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    """The mistakes of a file, as printed, without its name."""
    path = tmp_path / "gitsyncd.yaml"

    def mistakes(text: str) -> list[str]:
        path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load(path, {})
        assert caught.value.message == "\n".join(map(str, caught.value.mistakes))
        return [str(mistake).removeprefix(f"{path}:") for mistake in caught.value.mistakes]

    return mistakes


HEAD = "version: 1\nagent: {name: edge}\n"
SOURCE = "sources: [{name: fleet, url: 'file:///srv/fleet', ref: {branch: main}}]\n"
CLUSTER = "clusters: [{name: eu-1, in_cluster: true, labels: {ring: canary}}, {name: us-1, in_cluster: true}]\n"
LEAST = HEAD + SOURCE + CLUSTER
DNS = "write at most 63 of a-z, 0-9 and -, beginning and ending with one of a-z, 0-9"
DURATION = "write it like 90s, 10m or 1h30m"
PLACEHOLDERS = "write {cluster} or {labels.NAME}"


def source(text: str) -> str:
    return HEAD + f"sources: [{{name: fleet, url: 'https://x/y', ref: {{branch: main}}, {text}}}]\n"


def ssh(auth: str) -> str:
    return HEAD + f"sources: [{{name: fleet, url: 'git@x:y', ref: {{branch: main}}, auth: {{{auth}}}}}]\n"


def url(text: str) -> str:
    return HEAD + f"sources: [{{name: fleet, url: {text}, ref: {{branch: main}}}}]\n"


def cluster(text: str) -> str:
    return HEAD + f"clusters: [{{name: eu-1, {text}}}]\n"


def target(text: str) -> str:
    return LEAST + f"targets: [{{name: web, source: fleet, {text}}}]\n"


WHOLE_FILE: list[tuple[str, str]] = [
    ("", "1: is empty; begin with version: 1"),
    ("# nothing\n", "1: is empty; begin with version: 1"),
    ("- a\n", "1: is not a map; begin with version: 1"),
    ("agent: {name: edge}\n", "1: version: is missing; write version: 1 at the top"),
    ("\nversion: 2\n", "2: version: is not one that this gitsyncd reads; write version: 1"),
    ("version: '1'\n", "1: version: is not one that this gitsyncd reads; write version: 1"),
    ("version: true\n", "1: version: is not one that this gitsyncd reads; write version: 1"),
    ("version: 1\n", "1: agent: is missing; write agent: {name: edge-eu}"),
    ("version: 1\nagent:\n", "2: agent: is empty; write agent: {name: edge-eu}"),
    (HEAD + "agent: {name: other}\n", "3: agent: is written twice, first in line 2; keep one of them"),
    (HEAD + "sources: {}\n", "3: sources: is not a list; write [one, two], or one item per line after a dash"),
    (HEAD + "tagets: []\n", "3: tagets: is unknown; did you mean targets?"),
    (HEAD + "include: [conf.d/*.yaml]\n", "3: include: is not supported yet; remove it"),
    (HEAD + "include: [x.yaml]\n", "3: include: is not supported yet; remove it"),
    (HEAD + "zzz: 1\n", "3: zzz: is unknown; known are agent, clusters, images, sources, targets, version"),
    (
        HEAD + "sources: !x []\n",
        "3: sources: has a tag, which means nothing here; remove the word that begins with !",
    ),
]
AGENT: list[tuple[str, str]] = [
    ("name: Edge_EU", f"2: agent.name: 'Edge_EU' is no DNS label; {DNS}"),
    (f"name: {'x' * 41}", "2: agent.name: is 41 characters long; write at most 40"),
    ("name: 5", "2: agent.name: is not text; put the value in quotes"),
    ("name: edge, http: null", "2: agent.http: is empty; write http: {}"),
    ("name: edge, http: {listen: 9480}", "2: agent.http.listen: is not text; put the value in quotes"),
    ("name: edge, http: {port: 9480}", "2: agent.http.port: is unknown; known are listen"),
    *(
        (
            f"name: edge, http: {{listen: '{text}'}}",
            (
                f"2: agent.http.listen: '{text}' is no address and port; "
                'write "127.0.0.1:9480", or "0.0.0.0:9480" for every address of this machine'
            ),
        )
        for text in (
            "",
            "9480",
            ":9480",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:65536",
            "127.0.0.1:-1",
            "::1:9480",
            "[127.0.0.1]:9480",
            "here.example.com:9480",
            "http://127.0.0.1:9480",
            "127.0.0.1:9480/",
            "*:9480",
        )
    ),
    ("name: edge, webhook: {}", "2: agent.webhook.listen: is missing; write listen: 0.0.0.0:9481"),
    (
        "name: edge, webhook: {listen: '127.0.0.1:9480'}, http: {listen: '127.0.0.1:9480'}",
        "2: agent.webhook.listen: is the address of http too; give it a port of its own",
    ),
    (
        "name: edge, webhook: {listen: x}",
        '2: agent.webhook.listen: \'x\' is no address and port; write "127.0.0.1:9480", or "0.0.0.0:9480" for every address of this machine',
    ),
    (
        "name: edge, exec_plugins: [bin/login]",
        "2: agent.exec_plugins[0]: bin/login is no absolute name; write it from the root, without . and ..",
    ),
    (
        "name: edge, exec_plugins: [/usr/bin/../bin/env]",
        "2: agent.exec_plugins[0]: /usr/bin/../bin/env is no absolute name; write it from the root, without . and ..",
    ),
    (
        "name: edge, exec_plugins: [/nowhere/login]",
        "2: agent.exec_plugins[0]: /nowhere/login does not exist, or cannot be reached; install it as root, mode 0755, where only root can write",
    ),
    (
        "name: edge, exec_plugins: [/etc/passwd]",
        "2: agent.exec_plugins[0]: /etc/passwd cannot be executed by the agent's user; install it as root, mode 0755, where only root can write",
    ),
    (
        "name: edge, exec_plugins: /bin/sh",
        "2: agent.exec_plugins: is not a list; write [one, two], or one item per line after a dash",
    ),
    ("name: edge, log: {format: xml}", "2: agent.log.format: is none of its values; write auto, json or console"),
    (
        "name: edge, log: {level: warn}",
        "2: agent.log.level: 'warn' is none of its values; did you mean warning? Allowed are debug, info, warning or error",
    ),
    (
        "name: edge, state_dir: ~/x",
        "2: agent.state_dir: is no file name; write the full name, such as /etc/gitsyncd/name; ~ is not followed",
    ),
    (
        "name: edge, state_dir: '{cluster}'",
        "2: agent.state_dir: has a placeholder that file names do not know; the only one is {credentials}",
    ),
    (
        "name: edge, state_dir: '{credentials}/x'",
        (
            "2: agent.state_dir: {credentials} stands for nothing, because $CREDENTIALS_DIRECTORY is not set; "
            "start it by systemd with LoadCredential=, or set $CREDENTIALS_DIRECTORY"
        ),
    ),
    (
        f"name: edge, socket: /{'x' * 107}",
        "2: agent.socket: is longer than 107 bytes with its folder; write a shorter name",
    ),
]
SOURCES: list[tuple[str, str]] = [
    (
        source("webhook: {kind: github, secret_file: /proc/version}"),
        '3: sources[0].webhook: is heard by nobody; write webhook: {listen: "0.0.0.0:9481"} in agent',
    ),
    (
        HEAD
        + "images: {registries: [{prefix: quay.io, webhook: {kind: quay, secret_file: /proc/version}}], policies: []}",
        '3: images.registries[0].webhook: is heard by nobody; write webhook: {listen: "0.0.0.0:9481"} in agent',
    ),
    (url("http://x/y"), "3: sources[0].url: is plain http, which is not supported yet; write https://"),
    (
        url("ssh://git@x/y"),
        (
            "3: sources[0].url: is an address over SSH, which takes a key and the keys that the server may have; "
            "write auth: {ssh_key_file: …, known_hosts_file: …}"
        ),
    ),
    (
        url("'git@x:a/b.git'"),
        (
            "3: sources[0].url: is an address over SSH, which takes a key and the keys that the server may have; "
            "write auth: {ssh_key_file: …, known_hosts_file: …}"
        ),
    ),
    (
        url("'ssh://git:hunter2@x/y'"),
        "3: sources[0].url: holds a password; write ssh://git@host/path or git@host:path",
    ),
    (url("git+ssh://git@x/y"), "3: sources[0].url: is an old way to write an address over SSH; write ssh://"),
    (
        ssh("known_hosts_file: /proc/version"),
        "3: sources[0].auth.known_hosts_file: stands without ssh_key_file; write ssh_key_file too",
    ),
    (
        ssh("ssh_key_file: /proc/version"),
        "3: sources[0].auth.ssh_key_file: stands without known_hosts_file; write known_hosts_file too",
    ),
    (
        ssh("username: me, ssh_key_file: /proc/version, known_hosts_file: /proc/version"),
        "3: sources[0].auth.username: is another user than that of url; keep one of them",
    ),
    (
        ssh("username: git"),
        "3: sources[0].auth: names no credentials; write ssh_key_file and known_hosts_file",
    ),
    (
        ssh("username: git, password_file: /proc/version"),
        "3: sources[0].auth.password_file: belongs to an https:// address; write ssh_key_file and known_hosts_file",
    ),
    (
        source("auth: {ssh_key_file: /proc/version, known_hosts_file: /proc/version}"),
        (
            "3: sources[0].auth.ssh_key_file: belongs to an address over SSH; "
            "write username and password_file, bearer_file, or client_cert_file and client_key_file"
        ),
    ),
    (
        source("auth: {bearer_file: /proc/version, username: git, password_file: /proc/version}"),
        "3: sources[0].auth.bearer_file: excludes password_file; keep one of them",
    ),
    (
        source("auth: {bearer_file: /proc/version, username: git}"),
        "3: sources[0].auth.username: means nothing beside bearer_file; remove it",
    ),
    (
        source("auth: {client_cert_file: /proc/version}"),
        "3: sources[0].auth.client_cert_file: stands without client_key_file; write client_key_file too",
    ),
    (
        url("/srv/x"),
        "3: sources[0].url: is no address of a repository; write https://host/path, ssh://git@host/path, or file:///path for local use",
    ),
    (
        url("https:///x"),
        "3: sources[0].url: is no address of a repository; write https://host/path, ssh://git@host/path, or file:///path for local use",
    ),
    (
        url("file://host/x"),
        "3: sources[0].url: is no address of a repository; write https://host/path, ssh://git@host/path, or file:///path for local use",
    ),
    (url("'https://x:y/z'"), "3: sources[0].url: is no address; write it like https://git.example.com/team/fleet.git"),
    (
        url("'https://x/y?token=hunter2'"),
        "3: sources[0].url: has a ? or a # in it; write the address that git clone takes, and credentials under auth",
    ),
    (source("allow_plain_http: true"), "3: sources[0].allow_plain_http: is not supported yet; remove it"),
    (source("verify: {mode: tip}"), "3: sources[0].verify: is not supported yet; remove it"),
    (
        source("interval: 30"),
        "3: sources[0].interval: is not text; write a number and a unit, such as 90s, 10m or 1h30m",
    ),
    (source("interval: 5 minutes"), f"3: sources[0].interval: '5 minutes' is not a duration; {DURATION}"),
    (source("interval: 0s"), "3: sources[0].interval: '0s' is out of range; write at least 100ms and at most a year"),
    (
        source("timeout: 99999999h"),
        "3: sources[0].timeout: '99999999h' is out of range; write at least 100ms and at most a year",
    ),
    (
        source("on_rewind: folow"),
        "3: sources[0].on_rewind: 'folow' is none of its values; did you mean follow? Allowed are hold or follow",
    ),
    (source("on_rewind: yes"), "3: sources[0].on_rewind: is none of its values; write hold or follow"),
    (
        source("auth: {username: git}"),
        "3: sources[0].auth.username: stands without password_file; write password_file too",
    ),
    (
        source("auth: [git]"),
        "3: sources[0].auth: is not a map; write auth: {username: git, password_file: /etc/gitsyncd/fleet.token}",
    ),
    (
        HEAD + "sources: [{name: x, url: 'https://x/y', ref: {tag: v1, branch: a}}]",
        "3: sources[0].ref.tag: is not supported yet; remove it",
    ),
    (
        HEAD + "sources: [{name: x, url: 'https://x/y', ref: {branch: refs/heads/a}}]",
        "3: sources[0].ref.branch: 'refs/heads/a' is a full ref; write the branch alone, such as main",
    ),
    (
        HEAD + "sources: [{name: x, url: 'https://x/y', ref: {branch: a b}}]",
        "3: sources[0].ref.branch: 'a b' is no name of a branch; write it as `git branch` shows it, such as main",
    ),
    (
        HEAD + "sources: [{name: x, url: 'https://x/y', ref: {branch: '{cluster}'}}]",
        "3: sources[0].ref.branch: has a placeholder, which only the ref of a target may have; write a branch, such as main",
    ),
    (
        HEAD
        + "sources:\n- {name: x, url: 'file:///y', ref: {branch: a}}\n- {name: x, url: 'file:///y', ref: {branch: a}}",
        "5: sources[1].name: x is the name of sources[0] too; give each a name of its own",
    ),
    (
        LEAST.replace("branch: main}}", "branch: main}, tls: {ca_file: /proc/version}}"),
        "3: sources[0].tls: means nothing for a file:// address; remove it",
    ),
]
CLUSTERS: list[tuple[str, str]] = [
    (cluster(""), "3: clusters[0]: eu-1 cannot be reached; write one of kubeconfig, in_cluster: true and server"),
    (
        cluster("in_cluster: false"),
        "3: clusters[0]: eu-1 cannot be reached; write one of kubeconfig, in_cluster: true and server",
    ),
    (
        cluster("kubeconfig: /etc/kube"),
        "3: clusters[0].kubeconfig: is not a map; write kubeconfig: {file: /etc/gitsyncd/eu-1.kubeconfig}",
    ),
    (
        cluster("kubeconfig: {file: /nope}"),
        "3: clusters[0].kubeconfig.file: /nope does not exist; correct the name, or write the file before the agent starts",
    ),
    (cluster("kubeconfig: {file: /etc}"), "3: clusters[0].kubeconfig.file: /etc is a folder; name a file"),
    (
        cluster("kubeconfig: {file: /dev/null}"),
        "3: clusters[0].kubeconfig.file: /dev/null is not a regular file; name a file",
    ),
    (
        cluster("in_cluster: true, server: 'https://x', token_file: /proc/version"),
        "3: clusters[0].server: excludes in_cluster; keep one of them",
    ),
    (
        cluster("in_cluster: true, ca_file: /proc/version"),
        "3: clusters[0].ca_file: belongs to server, which is not there; write server, or remove it",
    ),
    (
        cluster("server: 'https://x'"),
        "3: clusters[0].server: has no credentials; write token_file, or client_cert_file and client_key_file",
    ),
    (
        cluster("server: 'https://x', client_cert_file: /proc/version"),
        "3: clusters[0].client_cert_file: stands without client_key_file; write client_key_file too",
    ),
    (
        cluster("server: 'https://x', client_key_file: /proc/version"),
        "3: clusters[0].client_key_file: stands without client_cert_file; write client_cert_file too",
    ),
    (
        cluster("server: 'http://x', token_file: /proc/version"),
        "3: clusters[0].server: is no address of an API server; write it like https://10.0.0.1:6443",
    ),
    (
        cluster("in_cluster: true, labels: {ring: 1}"),
        "3: clusters[0].labels.ring: is not text; put the value in quotes",
    ),
    (
        cluster("in_cluster: true, labels: {ring: ../..}"),
        "3: clusters[0].labels.ring: '../..' is no label value; write at most 63 letters, digits, - _ and .",
    ),
    (
        cluster("in_cluster: true, limits: {parallel: 0}"),
        "3: clusters[0].limits.parallel: is out of range; write at least 1",
    ),
    (
        cluster("in_cluster: true, limits: {parallel: true}"),
        "3: clusters[0].limits.parallel: is not a whole number; write a number without quotes, such as 16",
    ),
    (
        HEAD + "clusters: [eu-1]\n",
        "3: clusters[0]: is not a map; write - {name: eu-1, kubeconfig: {file: /etc/gitsyncd/eu-1.kubeconfig}}",
    ),
]
TARGETS: list[tuple[str, str]] = [
    (LEAST + "targets: [{name: web, source: flet}]", "5: targets[0].source: flet is no source; did you mean fleet?"),
    (HEAD + CLUSTER + "targets: [{name: web, source: fleet}]", "4: targets[0].source: fleet is no source; none is defined"),
    (HEAD + SOURCE + "targets: [{name: web, source: fleet}]", "4: targets[0]: there is no cluster for web; define one under clusters"),
    (target("clusters: {names: [eu-2]}"), "5: targets[0].clusters.names[0]: eu-2 is no cluster; did you mean eu-1?"),
    (target("clusters: {names: [eu-1, eu-1]}"), "5: targets[0].clusters.names[1]: eu-1 is listed twice; keep one of them"),
    (target("clusters: {match: {ring: canry}}"), "5: targets[0].clusters.match: matches no cluster; correct it, or the labels of a cluster"),
    (target("clusters: {names: [eu-1], match: {ring: canary}}"), "5: targets[0].clusters: names and match exclude each other; keep one of them"),
    (target("clusters: {}"), "5: targets[0].clusters: selects nothing; write names: [NAME] or match: {LABEL: VALUE}, or leave clusters out for every cluster"),
    (target("path: '{labels.ring}'"), "5: targets[0].path: {labels.ring} has no value for target web on cluster us-1; give cluster us-1 the label ring, or leave it out here"),
    (target("ref: {branch: 'env/{labels.ring}'}"), "5: targets[0].ref.branch: {labels.ring} has no value for target web on cluster us-1; give cluster us-1 the label ring, or leave it out here"),
    (target("path: '{region}'"), f"5: targets[0].path: '{{region}}' is no placeholder; {PLACEHOLDERS}"),
    (target("path: 'a{cluster'"), f"5: targets[0].path: has a brace without its other half; {PLACEHOLDERS}"),
    (target("path: /abs"), "5: targets[0].path: '/abs' is no path inside a repository; write it from the root with /, such as clusters/eu-1"),
    (target("path: a/../../b"), "5: targets[0].path: 'a/../../b' leaves its folder; write the path from the root of the repository, without .."),
    (target("prune: {max_percent: 101}"), "5: targets[0].prune.max_percent: is out of range; write at most 100"),
    (target("prune: {enabled: 'yes'}"), "5: targets[0].prune.enabled: is not true or false; write true or false"),
    (target("prune: {max_object: 1}"), "5: targets[0].prune.max_object: is unknown; did you mean max_objects?"),
    (target("apply: atomic"), "5: targets[0].apply: is not supported yet; remove it"),
    (target("depends_on: [crds]"), "5: targets[0].depends_on: is not supported yet; remove it"),
    (target("render: {kind: helm}"), "5: targets[0].render: is not supported yet; remove it"),
    (target("namespace: Web"), f"5: targets[0].namespace: 'Web' is no DNS label; {DNS}"),
    (target("ignore_fields: [{kind: Deployment, paths: []}]"), "5: targets[0].ignore_fields[0].paths: is empty; write at least one item"),
    (target("ignore_fields: [{kind: Deployment, paths: [spec]}]"), "5: targets[0].ignore_fields[0].paths[0]: 'spec' is no JSON pointer; write it like /spec/replicas, with ~1 for a / inside a key"),
    (target("ignore_fields: [{paths: [/spec]}]"), "5: targets[0].ignore_fields[0].kind: is missing; write kind: Deployment"),
    (LEAST + "targets:\n- {name: web, source: fleet}\n- {name: web, source: fleet}\n", "7: targets[1].name: web is the name of targets[0] too; give each a name of its own"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), WHOLE_FILE)
def test_a_file_that_is_no_agent_file_says_so(refused: Refused, text: str, expected: str) -> None:
    assert refused(text) == [expected]


@pytest.mark.parametrize(("text", "expected"), AGENT)
def test_a_mistake_about_the_agent_is_told_with_its_fix(refused: Refused, text: str, expected: str) -> None:
    assert refused(f"version: 1\nagent: {{{text}}}\n") == [expected]


@pytest.mark.parametrize(("text", "expected"), [*SOURCES, *CLUSTERS, *TARGETS])
def test_a_mistake_in_a_list_is_told_with_its_fix(refused: Refused, text: str, expected: str) -> None:
    assert refused(text) == [expected]


def test_all_mistakes_come_at_once_in_the_order_of_the_file(refused: Refused) -> None:
    text = """version: 1
agent:
  name: Edge
  cluster_namspace: x
sources:
  - name: fleet
    url: ftp://x
    ref: {branch: main}
  - name: fleet
    url: https://x/y
clusters:
  - name: eu-1
  - name: us-1
    in_cluster: true
    limits: {parallel: many}
targets:
  - name: web
    source: flet
    interval: soon
    wiat: {}
    path: "{labels.ring}"
    clusters:
      names: [us-1, eu-7]
  - name: api
    source: fleet
    clusters: {names: [eu-1]}
"""

    assert [line.split(": ")[:2] for line in refused(text)] == [
        ["3", "agent.name"],
        ["4", "agent.cluster_namspace"],
        ["7", "sources[0].url"],
        ["9", "sources[1].ref"],
        ["12", "clusters[0]"],
        ["15", "clusters[1].limits.parallel"],
        ["18", "targets[0].source"],
        ["19", "targets[0].interval"],
        ["20", "targets[0].wiat"],
        ["21", "targets[0].path"],
        ["23", "targets[0].clusters.names[1]"],
    ]


def test_a_name_whose_owner_has_another_mistake_is_not_reported_as_missing(refused: Refused) -> None:
    text = HEAD + "sources: [{name: fleet, url: x}]\nclusters: [{name: a, in_cluster: 1}]\n"

    told = refused(text + "targets: [{name: web, source: fleet, clusters: {names: [a]}}]\n")

    assert [line for line in told if "targets" in line] == []


INLINE = "hunter2secret"
SECRETS = [
    source(f"auth: {{username: git, password: {INLINE}}}"),
    source(f"auth: {{username: git, password_file: {INLINE}}}"),
    source(f"auth: {INLINE}"),
    source(f"token: {INLINE}"),
    url(f"https://git:{INLINE}@x/y"),
    url(f"https://{INLINE}@x/y"),
    url(f"http://git:{INLINE}@x/y"),
    url(f"https://x/y?access_token={INLINE}"),
    url(f"'https://git:{INLINE}@x:port/y'"),
    url(f"'git:{INLINE}@x:y'"),
    cluster(f"server: 'https://x', token: {INLINE}"),
    cluster(f"server: 'https://x', token_file: {INLINE}"),
    cluster(f"server: 'https://admin:{INLINE}@x', token_file: /proc/version"),
    cluster(f"server: 'https://x', client_cert_file: /proc/version, client_key_file: {INLINE}"),
    source(f"auth: {{username: git, password: *{INLINE}}}"),
    source(f"auth: {{username: git, password: !{INLINE} x}}"),
    source(f"auth: {{username: git, password: '{INLINE}}}"),
    source(f"auth: {{username: git, password: \"\\q{INLINE}\"}}"),
    HEAD + f"password: {INLINE}: x\n",
    HEAD + f"a: &{INLINE} 1\nb: &{INLINE} 2\n",
]  # fmt: skip


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_that_stands_in_the_file_is_refused_and_not_repeated(refused: Refused, text: str) -> None:
    told = refused(text)

    assert [line for line in told if INLINE in line] == []


def test_a_password_in_its_place_is_answered_with_the_key_for_a_file(refused: Refused) -> None:
    told = refused(source("auth: {username: git, password_file: /proc/version, password: x}"))

    expected = "is unknown, and secrets never stand in this file; name a file that holds it: password_file"
    assert told == [f"3: sources[0].auth.password: {expected}"]


SYNTAX = [
    ("version: 1\nagent: {name: x\n", "3: is not YAML"),
    ("version: 1\nagent: [\n" + "[" * 50_000, "is nested too deeply"),
    ("version: 1\nagent: {cluster}/x\n", "2: is not YAML"),
    ("version: 1\n\tagent: x\n", "2: is not YAML"),
    ("version: 1\n---\nversion: 1\n", "2: is not YAML"),
    ("version: 1\na: \x07\n", "is not text that YAML allows"),
    (HEAD + "a: &a [*a]\n", "3: a[0]: refers to itself"),
    (HEAD + "? [a]\n: b\n", "3: a key is a map or a list"),
    ("version: 1\na: &a " + "[1,1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{n}: &{n} [{','.join(['*' + p] * 10)}]\n" for p, n in itertools.pairwise("abcdef")
    ), "holds more than 200,000 values"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), SYNTAX)
def test_what_is_not_yaml_is_told_with_its_line(refused: Refused, text: str, expected: str) -> None:
    assert [line for line in refused(text) if expected in line] != []


def test_a_file_that_is_not_there_says_how_to_name_one(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"

    with pytest.raises(ConfigError) as caught:
        load(path, {})

    assert str(caught.value) == f"{path}: does not exist; name the agent file with --config or $GITSYNCD_CONFIG"
    assert caught.value.remedy is Remedy.FIX_CONFIG


def test_a_folder_a_pipe_and_a_file_of_ten_megabytes_are_refused(tmp_path: Path) -> None:
    pipe, large = tmp_path / "pipe", tmp_path / "large"
    os.mkfifo(pipe)
    large.write_bytes(b"version: 1\n" + b"#" * (10 * MAX_BYTES))

    told = []
    for path in (tmp_path, pipe, large):
        with pytest.raises(ConfigError) as caught:
            load(path, {})
        told.append(caught.value.mistakes[0].what)

    assert told == ["is a folder", "is not a regular file", "is larger than 1,048,576 bytes"]


def test_a_file_that_is_not_text_is_refused_with_the_line_where_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "binary"
    path.write_bytes(b"version: 1\nagent: \xff\xfe\n")

    with pytest.raises(ConfigError) as caught:
        load(path, {})

    assert str(caught.value) == f"{path}:2: is not UTF-8 text; save it as UTF-8"


def test_an_empty_file_for_a_token_is_a_mistake(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("")

    told = refused(source("auth: {username: git, password_file: ./token}"))

    expected = f"{tmp_path}/token is empty; write it before the agent starts"
    assert told == [f"3: sources[0].auth.password_file: {expected}"]


words = st.sampled_from(
    [
        "version: 1",
        "agent: {name: x}",
        "sources:",
        "clusters:",
        "targets:",
        "  - name: a",
        "    source: a",
        "- ",
        "{",
        "]",
    ]
)
lines = st.lists(words | st.text(max_size=12), max_size=12).map("\n".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=lines, valid_start=st.booleans())
def test_any_text_is_a_configuration_or_a_list_of_mistakes(tmp_path: Path, text: str, valid_start: bool) -> None:
    path = tmp_path / "any.yaml"
    path.write_text(("version: 1\n" if valid_start else "") + text, encoding="utf-8", errors="surrogateescape")

    try:
        outcome = load(path, {}).file
    except ConfigError as error:
        outcome = Path(error.mistakes[0].file)

    assert outcome == path


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("ab{}/.:- ", max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "url", "ref", "branch", "clusters", "names", "match", "path", "labels", "source", "zz"]
            ),
            inner,
        )
    ),
    max_leaves=8,
)
sections = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("agent", "sources", "clusters", "targets"), json_values | st.lists(json_values, max_size=3)
    ),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sections=sections)
def test_values_of_any_shape_are_told_and_never_trip_the_checks(tmp_path: Path, sections: dict[str, object]) -> None:
    path = tmp_path / "any.yaml"
    path.write_text("version: 1\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in sections.items()))

    with pytest.raises(ConfigError) as caught:
        load(path, {})

    assert caught.value.mistakes != ()
