"""Metrics as text: OpenMetrics 1.0, and the older text format of Prometheus for scrapers that ask for that one.

What is measured is said elsewhere: `model.metric`. https://prometheus.io/docs/specs/om/open_metrics_spec/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from gitsyncd.model.metric import PREFIX, Family, Histogram, Metric, MetricType

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
CLASSIC = "text/plain; version=0.0.4; charset=utf-8"
END = "# EOF\n"
"""The last line of OpenMetrics: an answer without it was cut short."""


def wants_classic(accept: str) -> bool:
    """Whether a header `Accept` asks for the older format, and not for OpenMetrics as well."""
    return "text/plain" in accept and "openmetrics" not in accept


def render(family: Family, *, classic: bool = False) -> str:
    """One metric with all its values, as whole lines."""
    return "\n".join(_lines(family, classic=classic)) + "\n"


def _lines(family: Family, *, classic: bool) -> Iterator[str]:
    metric = family.metric
    name = PREFIX + metric.name
    # The older format gives the type of a counter under the name of its samples, the newer one under the family's.
    described = name if classic else name.removesuffix("_total")
    yield f"# TYPE {described} {metric.type}"
    yield f"# HELP {described} {_escaped(metric.help)}"
    for values, value in family.values.items():
        labels = dict(zip(metric.labels, values, strict=True))
        if isinstance(value, Histogram):
            assert metric.type is MetricType.HISTOGRAM
            yield from _buckets(name, metric, labels, value)
        else:
            yield f"{name}{_labels(labels)} {value}"


def _buckets(name: str, metric: Metric, labels: Mapping[str, str], histogram: Histogram) -> Iterator[str]:
    bounds: Iterable[str] = (*map(str, metric.buckets), "+Inf")
    for bound, count in zip(bounds, accumulate(histogram.counts), strict=True):
        yield f"{name}_bucket{_labels({**labels, 'le': bound})} {count}"
    yield f"{name}_count{_labels(labels)} {sum(histogram.counts)}"
    yield f"{name}_sum{_labels(labels)} {histogram.total}"


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}" if labels else ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
