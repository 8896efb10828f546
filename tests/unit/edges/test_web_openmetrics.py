"""Metrics as text, read back by the parsers of Prometheus' own Python client."""

from collections.abc import Callable, Iterable

import pytest
from prometheus_client.metrics_core import Metric as Parsed
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_classic

from gitsyncd.edges.web.openmetrics import END, render, wants_classic
from gitsyncd.model.metric import DRIFT_REVERTED, METRICS, PREFIX, REVERTS, SOURCE_AGE, Family, Histogram, MetricType

FORMATS: dict[str, Callable[[Family], Iterable[Parsed]]] = {
    "openmetrics": lambda family: read_openmetrics(render(family) + END),
    "classic": lambda family: read_classic(render(family, classic=True)),
}
by_format = pytest.mark.parametrize("read", FORMATS.values(), ids=FORMATS)


@by_format
@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_is_read_back_as_what_it_is(read: Callable[[Family], Iterable[Parsed]], metric: object) -> None:
    known = next(each for each in METRICS if each is metric)
    value = Histogram(known.buckets) if known.type is MetricType.HISTOGRAM else 1
    labels = tuple(f"value of {name}" for name in known.labels)

    (family,) = read(Family(known, {labels: value}))

    assert (family.name, family.type, family.documentation) == (
        PREFIX + known.name.removesuffix("_total"),
        known.type,
        known.help,
    )
    assert {name for name, *_ in family.samples} >= (
        {f"{PREFIX}{known.name}_count", f"{PREFIX}{known.name}_sum"} if known.buckets else {PREFIX + known.name}
    )
    assert all(
        {k: v for k, v in sample.labels.items() if k != "le"} == dict(zip(known.labels, labels, strict=True))
        for sample in family.samples
    )


@by_format
def test_durations_are_counted_up_to_each_bound(read: Callable[[Family], Iterable[Parsed]]) -> None:
    histogram = Histogram(REVERTS.buckets)
    for seconds in (0.001, 0.005, 0.3, 100.0):
        histogram.observe(seconds)

    (family,) = read(Family(REVERTS, {("web@eu",): histogram}))

    values = {(s.name.rpartition("_")[2], s.labels.get("le")): s.value for s in family.samples}
    assert values["bucket", "0.005"] == 2
    assert values["bucket", "0.25"] == 2
    assert values["bucket", "0.5"] == 3
    assert values["bucket", "30.0"] == 3
    assert values["bucket", "+Inf"] == values["count", None] == 4
    assert values["sum", None] == pytest.approx(100.306)


@by_format
def test_signs_that_mean_something_to_the_format_come_back_as_they_were(
    read: Callable[[Family], Iterable[Parsed]],
) -> None:
    odd = 'a"b\\c\nd,}{= é'

    (family,) = read(Family(SOURCE_AGE, {(odd,): 0.00001, ("plain",): 1e21}))

    assert [(sample.labels["source"], sample.value) for sample in family.samples] == [(odd, 0.00001), ("plain", 1e21)]


def test_a_metric_without_values_is_announced_all_the_same() -> None:
    (family,) = read_openmetrics(render(Family(DRIFT_REVERTED, {})) + END)

    assert (family.name, family.samples) == ("gitsyncd_drift_reverted", [])


PROMETHEUS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"


@pytest.mark.parametrize(
    ("accept", "classic"),
    [
        ("", False),
        ("*/*", False),
        (PROMETHEUS, False),
        ("text/plain", True),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", True),
    ],
)
def test_the_older_format_is_for_whoever_knows_no_other(accept: str, classic: bool) -> None:
    assert wants_classic(accept) is classic


def test_names_are_told_apart_in_both_formats_and_say_their_unit() -> None:
    names = [metric.name for metric in METRICS]

    assert len(set(names)) == len(names)
    assert [m.name for m in METRICS if m.name.endswith("_total") is not (m.type is MetricType.COUNTER)] == []
    assert [m.name for m in METRICS if bool(m.buckets) is not (m.type is MetricType.HISTOGRAM)] == []
    assert [m.name for m in METRICS if m.buckets and list(m.buckets) != sorted(set(m.buckets))] == []
