"""The plain renderer with its real child: what it reads, keeps, refuses and survives."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import os
import signal
import time
import tracemalloc
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from gitsyncd.edges.child import process
from gitsyncd.edges.render import plain
from gitsyncd.edges.render.plain import PlainRenderer, RenderLimits
from gitsyncd.model.errors import (
    LocalError,
    ManifestInvalid,
    RendererFailed,
    RenderError,
    RendererTimedOut,
    RevisionNotFound,
)
from gitsyncd.model.manifest import Document, Origin
from gitsyncd.model.source import File, Snapshot

SOME_MEMORY = 56 << 20
"""Enough for the child and ordinary files, too little for those made to be expensive."""

HUNGRY = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: [" + "{}," * 1_300_000 + "]\n"
"""A file of 3.7 MiB that takes some hundred MiB and about two seconds to read."""


def config_map(name: str, value: str = "1") -> str:
    return f'apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{v: "{value}"}}\n'


def snapshot(files: Mapping[str, str | bytes], *, path: str = "") -> Snapshot:
    content = {name: text if isinstance(text, bytes) else text.encode() for name, text in files.items()}
    blobs = {name: hashlib.sha1(text).hexdigest() for name, text in content.items()}
    tree = hashlib.sha1(json.dumps([path, blobs]).encode()).hexdigest()
    return Snapshot(
        path=path,
        tree=tree,
        files=tuple(File(path=name, blob=blobs[name], content=content[name]) for name in content),
    )


def names(documents: tuple[Document, ...]) -> list[str]:
    return [document.name for document in documents]


def tallied(monkeypatch: pytest.MonkeyPatch) -> list[list[bytes]]:
    """What the children that are started from here on were sent, one list of pieces each."""
    sent: list[list[bytes]] = []
    run_child = process.run_child

    async def counting(*args: object, stdin: object, **more: object) -> object:
        pieces = list(stdin)  # type: ignore[call-overload]
        sent.append(pieces)
        return await run_child(*args, stdin=pieces, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(plain, "run_child", counting)
    return sent


async def failure(renderer: PlainRenderer, files: Snapshot) -> RenderError:
    with pytest.raises(RenderError) as caught:
        await renderer.render(files)
    return caught.value


async def test_documents_come_in_the_order_of_the_files_names() -> None:
    files = snapshot({"b.yaml": config_map("b1") + "---\n" + config_map("b2"), "a.yml": config_map("a")})

    documents = await PlainRenderer().render(files)

    assert names(documents) == ["a", "b1", "b2"]
    assert documents[2].origin == Origin(file="b.yaml", line=6)
    assert json.loads(documents[0].body) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a"},
        "data": {"v": "1"},
    }


async def test_only_yaml_and_json_outside_of_hidden_places_counts() -> None:
    text = config_map
    files = snapshot(
        {
            "deploy/.hidden/a.yaml": text("hidden-folder"),
            "deploy/.hidden.yaml": text("hidden-file"),
            "deploy/README.md": "# no manifest",
            "deploy/a.yaml": text("a"),
            "deploy/sub/b.yml": text("b"),
            "deploy/sub/c.json": '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}',
            "deploy/yaml": text("no-suffix"),
        },
        path="deploy",
    )

    assert names(await PlainRenderer().render(files)) == ["a", "b", "c"]


async def test_a_target_may_lie_in_a_hidden_folder_itself() -> None:
    files = snapshot({".deploy/a.yaml": config_map("a")}, path=".deploy")

    assert names(await PlainRenderer().render(files)) == ["a"]


@pytest.mark.parametrize(
    ("path", "files", "found"),
    [
        ("", {"a.yaml": "a", ".b.yaml": "b", ".c/d.yaml": "d", "e/.f/g.yaml": "g"}, ["a"]),
        (".hidden", {".hidden/a.yaml": "a", ".hidden/.b.yaml": "b"}, ["a"]),
        (".hidden/.a.yaml", {".hidden/.a.yaml": "a"}, ["a"]),
        ("web", {"web/a.yaml": "a", "web/b.yml": "b", "web/c.txt": "c", "web/yaml": "d"}, ["a", "b"]),
    ],
)
async def test_hidden_files_below_the_path_do_not_count(path: str, files: dict[str, str], found: list[str]) -> None:
    maps = {name: config_map(text) for name, text in files.items()}

    assert names(await PlainRenderer().render(snapshot(maps, path=path))) == found


async def test_a_tree_without_manifests_is_empty_and_starts_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = tallied(monkeypatch)

    assert await PlainRenderer().render(snapshot({"README.md": "x"})) == ()
    assert sent == []


@pytest.mark.parametrize("name", ["kustomization.yaml", "base/kustomization.yml", "Kustomization", "chart/Chart.yaml"])
async def test_what_other_tools_have_to_render_first_is_refused_with_a_way_out(name: str) -> None:
    error = await failure(PlainRenderer(), snapshot({name: "resources: []", "a.yaml": config_map("a")}))

    assert isinstance(error, ManifestInvalid)
    assert (error.file, error.line) == (name, 1)
    assert "plain YAML" in error.hint


async def test_the_first_wrong_file_is_named_and_the_others_are_counted() -> None:
    files = snapshot({"a.yaml": config_map("a"), "b.yaml": "a: 1\na: 2\n", "c.yaml": "kind: X\n", "d.yaml": "[\n"})

    error = await failure(PlainRenderer(), files)

    assert isinstance(error, ManifestInvalid)
    assert (error.file, error.line) == ("b.yaml", 2)
    assert str(error) == "b.yaml:2: the key `a` stands twice in one mapping (and 2 more files)"


async def test_the_same_tree_is_the_same_tuple_and_starts_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = tallied(monkeypatch)
    renderer = PlainRenderer()

    first = await renderer.render(snapshot({"a.yaml": config_map("a")}))
    second = await renderer.render(snapshot({"a.yaml": config_map("a")}))

    assert second is first
    assert len(sent) == 1


async def test_a_commit_sends_only_the_files_that_it_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = tallied(monkeypatch)
    renderer = PlainRenderer()
    files = {f"{n}.yaml": config_map(f"n{n}") for n in range(5)}
    before = await renderer.render(snapshot(files))

    after = await renderer.render(snapshot({**files, "2.yaml": config_map("changed")}))

    assert [len(pieces) for pieces in sent] == [5, 1]
    assert names(after) == ["n0", "n1", "changed", "n3", "n4"]
    assert after[0] is before[0]


async def test_a_removed_file_takes_its_documents_away_without_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = tallied(monkeypatch)
    renderer = PlainRenderer()
    await renderer.render(snapshot({"a.yaml": config_map("a"), "b.yaml": config_map("b")}))

    assert names(await renderer.render(snapshot({"b.yaml": config_map("b")}))) == ["b"]
    assert len(sent) == 1


async def test_a_moved_file_is_read_again_because_its_origin_moved() -> None:
    renderer = PlainRenderer()
    await renderer.render(snapshot({"a.yaml": config_map("a")}))

    (moved,) = await renderer.render(snapshot({"b.yaml": config_map("a")}))

    assert moved.origin.file == "b.yaml"


async def test_one_wrong_file_does_not_make_the_others_be_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = tallied(monkeypatch)
    renderer = PlainRenderer()
    good = {f"{n}.yaml": config_map(f"n{n}") for n in range(5)}
    await failure(renderer, snapshot({**good, "x.yaml": "a: ["}))

    repaired = await renderer.render(snapshot({**good, "x.yaml": config_map("x")}))

    assert [len(pieces) for pieces in sent] == [6, 1]
    assert names(repaired) == ["n0", "n1", "n2", "n3", "n4", "x"]


async def test_targets_that_ask_at_once_for_one_tree_share_one_child(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = tallied(monkeypatch)
    renderer = PlainRenderer()
    files = snapshot({"a.yaml": config_map("a")})

    first, second = await asyncio.gather(renderer.render(files), renderer.render(files))

    assert first is second
    assert len(sent) == 1


def children() -> set[str]:
    """Direct children of this process, zombies included."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


async def test_a_snapshot_that_is_still_made_has_its_child_started_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    sent, before = tallied(monkeypatch), children()
    started: list[set[str]] = []

    async def made() -> Snapshot:
        await asyncio.sleep(0.2)
        started.append(children() - before)
        return snapshot({"a.yaml": config_map("a")})

    renderer = PlainRenderer()

    assert names(await renderer.render(made())) == ["a"]
    assert names(await renderer.render(made())) == ["a"]

    assert [len(found) for found in started] == [1, 1]
    assert sent == [], "no other child was needed"
    assert children() <= before


async def test_a_tree_that_was_rendered_starts_no_child_ahead() -> None:
    before = children()
    started: list[set[str]] = []
    files = snapshot({"a.yaml": config_map("a")})

    async def made() -> Snapshot:
        await asyncio.sleep(0.1)
        started.append(children() - before)
        return files

    renderer = PlainRenderer()
    first = await renderer.render(made(), tree=files.tree)
    second = await renderer.render(made(), tree=files.tree)

    assert second is first
    assert [len(found) for found in started] == [1, 0]


async def test_a_child_that_is_killed_while_it_waits_is_followed_by_another() -> None:
    before = children()

    async def made() -> Snapshot:
        await asyncio.sleep(0.2)
        (pid,) = children() - before
        os.kill(int(pid), signal.SIGKILL)
        for _ in range(1_000):
            if pid not in children():
                break
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # until the loop has told whoever holds it
        return snapshot({"a.yaml": config_map("a")})

    assert names(await PlainRenderer().render(made())) == ["a"]
    assert children() <= before


async def test_a_snapshot_that_cannot_be_made_leaves_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    before = children()
    gone = asyncio.Event()

    async def fails() -> Snapshot:
        raise RevisionNotFound("there is no path 'web'")

    async def never() -> Snapshot:
        await gone.wait()
        raise AssertionError

    renderer = PlainRenderer()

    with pytest.raises(RevisionNotFound):
        await renderer.render(fails())
    waiting = asyncio.create_task(renderer.render(never()))
    await asyncio.sleep(0.1)
    assert len(children() - before) == 1
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert children() <= before


async def test_renderings_of_one_path_that_wait_for_their_files_do_not_wait_for_each_other() -> None:
    before = children()
    renderer = PlainRenderer(RenderLimits(children=1))

    async def made(text: str) -> Snapshot:
        await asyncio.sleep(0.05)
        return snapshot({"a.yaml": config_map(text)})

    async with asyncio.timeout(30):
        all_of_them = await asyncio.gather(*(renderer.render(made(f"n{number % 3}")) for number in range(12)))

    assert [names(documents) for documents in all_of_them] == [[f"n{number % 3}"] for number in range(12)]
    assert children() <= before


async def test_no_process_for_a_child_that_is_started_ahead_is_the_error_of_any_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def none(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    async def made() -> Snapshot:
        return snapshot({"a.yaml": config_map("a")})

    monkeypatch.setattr(asyncio.get_running_loop(), "subprocess_exec", none)

    with pytest.raises(LocalError, match="no child process can be started"):
        await PlainRenderer().render(made())


async def test_a_child_that_runs_out_of_memory_is_an_error_that_names_the_file() -> None:
    renderer = PlainRenderer(RenderLimits(memory_bytes=SOME_MEMORY))

    error = await failure(renderer, snapshot({"a.yaml": config_map("a"), "b.yaml": HUNGRY, "c.yaml": config_map("c")}))

    assert isinstance(error, RendererFailed)
    assert (error.file, error.message) == ("b.yaml", "reading the manifests needs more than 56 MiB of memory")


async def test_a_child_that_takes_too_long_is_an_error_that_names_the_file() -> None:
    renderer = PlainRenderer(RenderLimits(deadline=timedelta(seconds=1)))
    files = snapshot({"a.yaml": config_map("a"), **{f"b{n}.yaml": HUNGRY + f"# {n}" for n in range(8)}})

    error = await failure(renderer, files)

    assert isinstance(error, RendererTimedOut)
    assert error.file.startswith("b")


async def test_what_killed_the_child_is_not_tried_again_at_once_but_after_some_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent = tallied(monkeypatch)
    now = [0.0]
    limits = RenderLimits(memory_bytes=SOME_MEMORY, poison=timedelta(minutes=10))
    renderer = PlainRenderer(limits, clock=lambda: now[0])
    files = snapshot({"b.yaml": HUNGRY})

    first = await failure(renderer, files)
    again = await failure(renderer, files)
    tries_at_once = len(sent)
    now[0] = 601
    later = await failure(renderer, files)

    assert str(first) == str(again) == str(later)
    assert (tries_at_once, len(sent)) == (1, 2)


async def test_the_tree_after_a_poisoned_one_is_rendered() -> None:
    renderer = PlainRenderer(RenderLimits(memory_bytes=SOME_MEMORY))
    await failure(renderer, snapshot({"a.yaml": config_map("a"), "b.yaml": HUNGRY}))

    assert names(await renderer.render(snapshot({"a.yaml": config_map("a")}))) == ["a"]


async def test_files_and_trees_that_are_too_large_are_refused_before_a_child_is_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent = tallied(monkeypatch)
    renderer = PlainRenderer(RenderLimits(file_bytes=1000, total_bytes=1500))

    of_file = await failure(renderer, snapshot({"a.yaml": "x" * 1001}))
    of_tree = await failure(renderer, snapshot({"a.yaml": "x" * 800, "b.yaml": "x" * 800}))

    assert (of_file.file, isinstance(of_tree, ManifestInvalid)) == ("a.yaml", True)
    assert sent == []


async def test_more_objects_than_one_target_may_have_are_refused() -> None:
    renderer = PlainRenderer(RenderLimits(objects=3))

    error = await failure(renderer, snapshot({"a.yaml": "---\n".join(config_map(f"n{n}") for n in range(4))}))

    assert isinstance(error, ManifestInvalid)
    assert "at most 3" in error.message


async def test_no_error_and_no_document_shows_what_a_secret_holds() -> None:
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: hunter2"
    renderer = PlainRenderer()

    error = await failure(renderer, snapshot({"s.yaml": secret}))
    documents = await renderer.render(snapshot({"s.yaml": secret + "}"}))

    assert "hunter2" not in f"{error} {error.hint}"
    assert "hunter2" not in repr(documents)


async def test_the_child_sees_no_environment_and_keeps_no_descriptor_of_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOKEN", "hunter2")
    seen: dict[str, object] = {}
    run_child = process.run_child

    def watched(pieces: list[bytes]) -> object:
        yield pieces[0]
        deadline = time.monotonic() + 30
        while not seen and time.monotonic() < deadline:  # it may still be on its way to what it runs
            for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
                process = Path("/proc", pid)
                if b"gitsyncd.edges.render.worker" in (process / "cmdline").read_bytes():
                    seen["environment"] = (process / "environ").read_bytes()
                    seen["open"] = {str(entry.resolve()) for entry in (process / "fd").iterdir()}

    async def watching(*args: object, stdin: object, **more: object) -> object:
        return await run_child(*args, stdin=watched(list(stdin)), **more)  # type: ignore[arg-type, call-overload]

    monkeypatch.setattr(plain, "run_child", watching)
    ours = tmp_path / "ours"
    with ours.open("w") as file:
        # Inheritable, as a careless library would leave it.
        os.set_inheritable(file.fileno(), True)
        await PlainRenderer().render(snapshot({"a.yaml": config_map("a")}))

    assert b"hunter2" not in seen["environment"]  # type: ignore[operator]
    assert str(ours) not in seen["open"]  # type: ignore[operator]


async def test_two_thousand_objects_cost_little_memory() -> None:
    files = snapshot({f"{n}.yaml": config_map(f"name-{n}", "x" * 300) for n in range(2000)})
    renderer = PlainRenderer()
    await renderer.render(snapshot({"a.yaml": config_map("a")}))  # what the first render imports is not its own
    tracemalloc.start()
    try:
        documents = await renderer.render(files)
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(documents) == 2000
    assert kept < 4 << 20


HOSTILE = {
    "nested brackets": b"[" * 60_000,
    "nested braces": b"{a: " * 20_000,
    "closed brackets": b"[" * 30_000 + b"]" * 30_000,
    "dashes": b"- " * 30_000,
    "deep JSON": b'{"a":' * 20_000,
    "alias bomb": b"a0: &a0 [x, x]\n"
    + b"".join(b"a%d: &a%d [*a%d, *a%d]\n" % (n, n, n - 1, n - 1) for n in range(1, 60)),
    "self": b"a: &a [*a]",
    "NUL": b"a: \0\n" * 1000,
    "no UTF-8": bytes(range(128, 256)) * 100,
    "no UTF-16": b"\xff\xfe\x00\xd8",
    "100,000 documents": b"a: 1\n---\n" * 100_000,
    "100,000 JSON documents": b"{}" * 100_000,
    "long anchor": b"a: &" + b"a" * 1_000_000 + b" [",
    "long tag": b"a: !" + b"a" * 1_000_000 + b" 1",
    "lines": b"\n \n" * 1_000_000 + b"x",
    "a long text and no more": b"a: '" + b"x" * 4_000_000 + b"'",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
async def test_a_hostile_file_is_an_error_and_the_files_beside_it_are_read_afterwards(text: bytes) -> None:
    renderer = PlainRenderer(RenderLimits(deadline=timedelta(seconds=30)))
    good = {"a.yaml": config_map("a"), "z.yaml": config_map("z")}

    error = await failure(renderer, snapshot({**good, "m.yaml": text}))
    after = await renderer.render(snapshot(good))

    assert error.file == "m.yaml"
    assert names(after) == ["a", "z"]
