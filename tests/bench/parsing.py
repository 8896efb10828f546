"""Reading manifests: documents a second of the whole corpus, against PyYAML's C loader and ruamel's round trip."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import yaml
from ruamel.yaml import YAML

from gitsyncd.edges.yaml.loader import Loader
from tests.bench.corpus import corpus
from tests.bench.stage import say
from tests.bench.table import Row, median

RUAMEL_DOCUMENTS = 200
"""It is so slow that a part of the corpus has to do."""


def measure(rounds: int) -> list[Row]:
    texts = [text.encode() for text in corpus().values()]
    few = texts[:: len(texts) // RUAMEL_DOCUMENTS]
    loader, ruamel = Loader(), YAML()
    ours: list[float] = []
    c_loader: list[float] = []
    round_trip: list[float] = []
    for number in range(rounds + 1):
        mine = _rate(loader.load, texts)
        pyyaml = _rate(lambda text: yaml.load(text, yaml.CSafeLoader), texts)
        slow = _rate(ruamel.load, few)
        if number:
            ours.append(mine)
            c_loader.append(pyyaml)
            round_trip.append(slow)
    say(f"yaml: {median(ours):,.0f} documents/s")
    return [
        Row(
            name=f"yaml-{name}",
            what="documents parsed a second",
            unit="/s",
            ours=median(ours),
            floor=median(floor),
            floor_is=floor_is,
            at_least=at_least,
            samples={"ours": ours, "floor": floor},
        )
        for name, floor, floor_is, at_least in (
            ("pyyaml", c_loader, "PyYAML CSafeLoader", 2.0),
            ("ruamel", round_trip, "ruamel.yaml round trip", 30.0),
        )
    ]


def _rate(load: Callable[[bytes], object], texts: Sequence[bytes]) -> float:
    begun = time.perf_counter()
    for text in texts:
        load(text)
    return len(texts) / (time.perf_counter() - begun)
