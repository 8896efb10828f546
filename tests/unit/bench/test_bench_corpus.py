"""What the benchmarks work on: the corpus, and that the bare client sends just what gitsyncd sends."""

from collections import Counter

import yaml

from gitsyncd.core.desired import Place, desired
from gitsyncd.edges.yaml.manifests import Reader
from gitsyncd.model.ids import ObjectType, ResourceType
from gitsyncd.model.manifest import Document, Origin
from tests.bench.bodies import bodies
from tests.bench.corpus import KINDS, configmap, corpus


def resources() -> dict[ObjectType, ResourceType]:
    types = {
        kind: ObjectType(api_version=root.removeprefix("/apis/").removeprefix("/api/"), kind=kind)
        for kind, (root, _) in KINDS.items()
    }
    return {
        types[kind]: ResourceType(type=types[kind], plural=plural, namespaced=kind != "Namespace")
        for kind, (_, plural) in KINDS.items()
    }


def documents(files: dict[str, str]) -> list[Document]:
    reader = Reader()
    return [
        Document(
            origin=Origin(file=path, line=one.line),
            api_version=one.api_version,
            kind=one.kind,
            namespace=one.namespace,
            name=one.name,
            body=one.body,
        )
        for path, text in files.items()
        for one in reader.read(text.encode())
    ]


def test_the_corpus_has_2000_objects_of_ten_kinds() -> None:
    kinds = Counter(yaml.load(text, yaml.CSafeLoader)["kind"] for text in corpus().values())

    assert kinds == {kind: 20 if kind == "Namespace" else 220 for kind in KINDS}


def test_the_bare_client_sends_what_gitsyncd_sends() -> None:
    files = corpus(apps=3, namespaces=2)
    place = Place(
        agent="bench",
        target="web",
        cluster="c1",
        namespace="",
        resources=resources(),
        autoscaled={},
        ignore=(),
        key=b"",
    )

    wanted = desired(documents(files), place).manifests.values()
    sent = bodies(files, agent="bench", target="web")

    assert sorted(body.body for body in sent) == sorted(manifest.body for manifest in wanted)


def test_namespaces_are_sent_before_what_lives_in_them() -> None:
    sent = bodies(corpus(apps=3, namespaces=2), agent="bench", target="web")

    assert [body.path for body in sent[:2]] == ["/api/v1/namespaces/team-00", "/api/v1/namespaces/team-01"]
    assert sent[2].path.startswith("/apis/apps/v1/namespaces/team-00/deployments/app-0000")


def test_one_object_of_the_corpus_can_be_had_in_another_color() -> None:
    assert configmap(0, color="green") == corpus()["fleet/apps/app-0000/configmap.yaml"].replace("blue", "green")
