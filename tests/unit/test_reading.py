"""The agent file and the first kubeconfigs, read by a child: what comes of it is what is read in place."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from gitsyncd.edges.child import process
from gitsyncd.edges.child.process import ChildResult, Ending, run_child
from gitsyncd.edges.config.load import load
from gitsyncd.edges.kube.connect import Access, AccessSource
from gitsyncd.edges.kube.files import stamp
from gitsyncd.model.errors import ConfigError, LocalError
from gitsyncd.model.target import Cluster, Kubeconfig
from gitsyncd.reading import begin, read

KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{{name: a, cluster: {{server: "https://127.0.0.1:6443"}}}}]
users: [{{name: u, user: {{token: {token}}}}}]
contexts: [{{name: c, context: {{cluster: a, user: u}}}}]
current-context: c
"""
FILE = """
version: 1
agent: {{name: edge, state_dir: {0}/state, socket: {0}/s, http: {{listen: null}}}}
sources: [{{name: fleet, url: "file://{0}/fleet.git", ref: {{branch: main}}}}]
clusters:
- {{name: inside, in_cluster: true}}
- {{name: eu, kubeconfig: {{file: {0}/eu}}}}
- {{name: us, kubeconfig: {{file: {0}/us}}}}
targets: [{{name: web, source: fleet, clusters: {{names: [eu]}}}}]
images:
  registries: [{{prefix: r.example.com, allow_plain_http: true}}]
  policies: [{{name: front, image: r.example.com/front, select: {{semver: ">=1 <2"}}, filter: {{pattern: "^v(.+)$"}}}}]
  updates: [{{name: fleet, source: fleet, push: {{branch: images}}}}]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    for name in ("eu", "us"):
        (tmp_path / name).write_text(KUBECONFIG.format(token=f"token-of-{name}"))
    written = tmp_path / "gitsyncd.yaml"
    written.write_text(FILE.format(tmp_path))
    return written


def rewritten(file: Path, old: str, new: str) -> None:
    file.write_text(file.read_text().replace(old, new))


async def test_a_child_reads_what_would_be_read_here(file: Path) -> None:
    found = await read(file, {})

    assert found.configuration == load(file, {})
    assert found.told == {}


async def test_one_that_was_begun_before_the_file_was_known_reads_the_same(file: Path) -> None:
    begun = begin({})
    assert begun is not None

    found = await read(file, {}, clusters=2, begun=begun)

    assert found.configuration == load(file, {})
    assert list(found.told) == ["eu"]


async def test_credentials_of_systemd_are_found_by_one_that_was_begun(file: Path, tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "eu").write_text(KUBECONFIG.format(token="given"))
    rewritten(file, f"{tmp_path}/eu", '"{credentials}/eu"')
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path / "given")}

    found = await read(file, environ, begun=begin(environ))

    assert found.configuration.clusters[1].connection == Kubeconfig(file=tmp_path / "given" / "eu", context="")


def test_without_a_process_nothing_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", none)

    assert begin({}) is None


@pytest.mark.parametrize("arguments", [["run", "--help"], ["run", "--oops"], ["run", "--config"]])
def test_a_command_line_that_asks_for_no_daemon_ends_as_ever(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "gitsyncd", *arguments], capture_output=True, text=True)

    assert done.returncode == (0 if "--help" in arguments else 2)
    assert "Warning" not in done.stderr
    assert "Traceback" not in done.stderr


async def test_mistakes_are_told_as_they_would_be_here(file: Path) -> None:
    rewritten(file, "targets:", "oops: 1\ntarget:")
    with pytest.raises(ConfigError) as here:
        load(file, {})
    with pytest.raises(ConfigError) as apart:
        await read(file, {})

    assert len(apart.value.mistakes) == 2
    assert (apart.value.mistakes, str(apart.value), apart.value.hint) == (
        here.value.mistakes,
        str(here.value),
        here.value.hint,
    )


async def test_names_without_a_slash_are_looked_for_where_this_process_is(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)

    assert (await read(Path(file.name), {})).configuration.file == file


async def test_credentials_of_systemd_are_found(file: Path, tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "eu").write_text(KUBECONFIG.format(token="given"))
    rewritten(file, f"{tmp_path}/eu", '"{credentials}/eu"')

    found = await read(file, {"CREDENTIALS_DIRECTORY": str(tmp_path / "given"), "OTHER": "x"})

    assert found.configuration.clusters[1].connection == Kubeconfig(file=tmp_path / "given" / "eu", context="")


async def test_kubeconfigs_of_the_first_clusters_come_with_it_and_only_those_that_can_be_read(file: Path) -> None:
    found = await read(file, {}, clusters=2)

    assert list(found.told) == ["eu"]
    at, answer = found.told["eu"]
    assert at == stamp(file.parent / "eu")
    assert orjson.loads(answer)["facts"] == {"server": "https://127.0.0.1:6443", "token": "token-of-eu"}
    assert "token-of-eu" not in repr(found)


async def test_what_was_told_of_a_kubeconfig_counts_once_and_for_that_file_alone(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await read(file, {}, clusters=3)
    cluster = found.configuration.clusters[1]
    children = _counted(monkeypatch)

    source = AccessSource(cluster, told=found.told["eu"])
    assert (await source.load()).authorization == "Bearer token-of-eu"
    assert children == []
    assert (await source.load()).authorization == "Bearer token-of-eu"
    assert len(children) == 1

    (file.parent / "eu").write_text(KUBECONFIG.format(token="another-token"))
    assert (await _access(cluster, found.told["eu"])).authorization == "Bearer another-token"
    assert len(children) == 2


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    children: list[object] = []

    async def counted(argv: object, **how: object) -> ChildResult:
        children.append(argv)
        return await run_child(argv, **how)  # type: ignore[arg-type]

    monkeypatch.setattr("gitsyncd.edges.kube.connect.run_child", counted)
    return children


async def _access(cluster: Cluster, told: tuple[tuple[int, int, int], bytes]) -> Access:
    return await AccessSource(cluster, told=told).load()


@pytest.mark.parametrize("ending", [Ending.TIMED_OUT, Ending.OUT_OF_MEMORY, Ending.SIGNALLED])
async def test_a_child_that_comes_to_no_end_says_nothing_of_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch, ending: Ending
) -> None:
    async def ended(*_: object, **__: object) -> ChildResult:
        return ChildResult(ending=ending, code=9, stdout=b"\x80\x05", stderr_tail=b"")

    monkeypatch.setattr(process, "run_child", ended)
    with pytest.raises(LocalError, match=f"{file} cannot be read: what reads it came to its end by") as told:
        await read(file, {})
    assert "memory" in told.value.hint


@pytest.mark.parametrize(
    "kubeconfig",
    [
        KUBECONFIG.format(token='"\\ud800"'),
        KUBECONFIG.format(token="t").replace(
            "token: t",
            "exec: {apiVersion: client.authentication.k8s.io/v1, command: x, interactiveMode: Never, args: [1]}",
        ),
        "no YAML: [",
    ],
)
async def test_a_kubeconfig_that_cannot_be_used_concerns_its_own_cluster_alone(file: Path, kubeconfig: str) -> None:
    (file.parent / "eu").write_text(kubeconfig)
    found = await read(file, {}, clusters=3)

    assert found.configuration == load(file, {})
    assert "us" in found.told


async def test_a_kubeconfig_as_large_as_memory_is_left_out(file: Path) -> None:
    with (file.parent / "eu").open("wb") as sparse:
        sparse.truncate(2**30)
    found = await read(file, {}, clusters=3)

    assert list(found.told) == ["us"]


async def test_what_was_read_before_a_child_ended_counts(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def half(argv: Sequence[str], **how: Any) -> ChildResult:
        whole = await run_child(argv, **how)
        return ChildResult(ending=Ending.OUT_OF_MEMORY, code=0, stdout=whole.stdout[:-5], stderr_tail=b"")

    monkeypatch.setattr(process, "run_child", half)
    found = await read(file, {}, clusters=2)

    assert (found.configuration, found.told) == (load(file, {}), {})


async def test_a_folder_that_may_not_be_entered_by_others_is_no_reason_not_to_start(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()

    assert (await read(file, {})).configuration == load(file, {})
    with pytest.raises(ConfigError, match="is looked for in a folder that is gone"):
        await read(Path("gitsyncd.yaml"), {})


NO_CHILD = """
import gitsyncd.edges.child.process
from gitsyncd.model.errors import LocalError

async def none(*_, **__):
    raise LocalError("no child process can be started: Resource temporarily unavailable", hint="Check the limits.")

gitsyncd.edges.child.process.run_child = none
"""


@pytest.mark.parametrize(("before", "code"), [(NO_CHILD, 1), ("", 2)])
def test_a_start_that_fails_says_so_in_the_log_as_well_and_only_the_file_is_to_blame_for_2(
    file: Path, before: str, code: int
) -> None:
    if not before:
        rewritten(file, "targets:", "target:")
    program = f"{before}\nimport sys\nfrom gitsyncd.cli import main\nsys.exit(main(['run', '--config', {str(file)!r}]))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.returncode == code
    assert orjson.loads(done.stdout)["event"] == "configuration refused"
    assert "Traceback" not in done.stderr
    assert ("no child process can be started" in done.stderr) is bool(before)


def test_a_daemon_does_not_import_what_reads_an_agent_file() -> None:
    heavy = {"pydantic", "ruamel.yaml", "kubernetes", "yaml"}
    program = (
        "import sys, asyncio, gitsyncd.cli.running as running, gitsyncd.reading, gitsyncd.edges.kube.connect;"
        f"running._import(); print(sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
