"""docs/grafana/trainserve.json shows the figures that /metrics has: all of them, and no others."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from serving import metrics

DASHBOARD = json.loads((Path(__file__).parents[2] / "docs/grafana/trainserve.json").read_text())
PANELS = DASHBOARD["panels"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel.get("targets", [])]
SAMPLE = re.compile(r"(trainserve_\w+?)(_total|_bucket|_sum|_count)?\b(?:\{(.*?)\})?")


def families() -> dict[str, tuple[str, set[str]]]:
    """Name -> kind and labels of every metric, without the suffixes of its samples."""
    return {
        metric._name: (metric._type, set(metric._labelnames))
        for metric in vars(metrics).values()
        if hasattr(metric, "_labelnames")
    }


def test_every_metric_that_it_names_is_in_metrics(client):
    types = re.findall(r"^# TYPE (\w+?)(?:_total)? ", client.get("/metrics").text, re.M)
    there = {name for name in types if not name.endswith("_created")}  # when each began, which the library adds
    assert there == set(families())
    named = {match[1] for expression in EXPRESSIONS for match in SAMPLE.finditer(expression)}
    assert named == there


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_its_expressions_suit_the_kinds_and_labels(expression: str):
    suffixes = {"counter": {"_total"}, "gauge": {None}, "histogram": {"_bucket", "_sum", "_count"}}
    labels = {"le"}
    for match in SAMPLE.finditer(expression):
        kind, has = families()[match[1]]
        assert match[2] in suffixes[kind]
        assert set(re.findall(r"(\w+)=", match[3] or "")) <= has
        labels |= has
    for grouped in re.findall(r" by \((.*?)\)", expression):
        assert set(grouped.split(", ")) <= labels
    assert expression.count("(") == expression.count(")")
    assert ("rate(" in expression or "increase(" in expression) == ("[$__rate_interval]" in expression)


def test_its_legends_name_labels_of_their_expressions():
    for panel in PANELS:
        for target in panel.get("targets", []):
            grouped = set(", ".join(re.findall(r" by \((.*?)\)", target["expr"])).split(", "))
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= grouped


def test_its_panels_have_ids_of_their_own_and_do_not_overlap():
    assert [count for count in Counter(panel["id"] for panel in PANELS).values() if count > 1] == []
    cells = Counter(
        (x, y)
        for panel in PANELS
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    )
    assert max(cells.values()) == 1
    assert max(x for x, _ in cells) < 24
