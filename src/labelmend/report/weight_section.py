"""The part of the page that shows how the weights lie, and how they got there."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from labelmend.report import weight_charts
from labelmend.report.document import chart, say, section
from labelmend.report.gather import Records, WeightRow
from labelmend.report.markup import Child, Html, element, table
from labelmend.report.phrases import count
from labelmend.report.story import Weighing
from labelmend.report.weight_words import near_ends, starting


def make_weights(records: Records) -> Html:
    """Charts and tables of the weights, or why there are none."""
    weighing = records.story.weighing
    if not records.rows or not weighing.used or not (weighing.rounds or weighing.method.given):
        text = "No weights were learned in this run; the first paragraph says why."
        return section("weights", "Weights", say(text))
    drawn = [_histogram(weighing)]
    if weighing.rounds:
        drawn.append(_paths(records))
        drawn += _classes(weighing)
    drawn += [*_parts(weighing), *_agreement(weighing)]
    charts = element("div", *drawn, class_="charts")
    return section("weights", "Weights", _warning(weighing), charts)


def _warning(weighing: Weighing) -> Html | None:
    """That these weights are not the ones that labels were trained with, where that is so."""
    if not weighing.method.shuffled:
        return None
    text = (
        "Shuffled: these weights stand beside the labels they are of; training used them for "
        "other labels, dealt out at random."
    )
    return element("p", text, class_="note warning spaced")


def _histogram(weighing: Weighing) -> Html:
    """The latest weights, or those that were given where none was learned."""
    drawing = weight_charts.draw_histogram(
        weighing.weights, weighing.began, weighing.method.highest
    )
    many = count(len(weighing.weights), "weak label")
    if not weighing.rounds:
        text = f"Weights given to {many}; they did not change."
    else:
        of = (
            "Mean over classes of the latest weights of"
            if weighing.by_class
            else "Latest weights of"
        )
        text = f"{of} {many}; at first {starting(weighing)}."
    return chart(drawing, f"{text} {_quartiles(weighing.weights)}".strip())


def _paths(records: Records) -> Html:
    weighing, paths = records.story.weighing, records.paths
    highest, over = weighing.method.highest, count(weighing.rounds, "weight step")
    if weighing.pooled and weighing.parts:
        first = _first_of(records.rows, weighing)
        drawing = weight_charts.draw_shared_paths(paths, first, weighing.by, highest)
        return chart(
            drawing, f"A line per {weighing.by}, whose labels share a weight, over {over}."
        )
    of = "label (mean over classes)" if weighing.by_class else "label"
    return chart(
        weight_charts.draw_paths(paths, highest),
        f"A thin line per {of}; the thick ones are the median and the 10 % and 90 % quantiles "
        f"over {over}.",
    )


def _first_of(rows: Sequence[WeightRow], weighing: Weighing) -> dict[str, int]:
    """The place of one label of every annotator, or group."""
    first: dict[str, int] = {}
    for place, row in enumerate(rows):
        first.setdefault(getattr(row.sample, weighing.by), place)
    return {name: first[name] for name in weighing.parts}


def _classes(weighing: Weighing) -> list[Html]:
    by_class, highest = weighing.by_class, weighing.method.highest
    if not by_class:
        return []
    shown = weight_charts.order_of(by_class, weight_charts.MOST_PANELS)
    text = "Weak labels by their latest weight in each class, the lowest mean first."
    return [
        chart(weight_charts.draw_classes(by_class, highest), text + _hidden(by_class, shown)),
        _table("class", by_class, highest),
    ]


def _agreement(weighing: Weighing) -> list[Html]:
    if not len(weighing.agreement):
        return []
    text = (
        "How far two halves of the strong labels want the same step: 1 fully, 0 not at all. As "
        "they are fitted it falls, and the similarity of a label to them says less."
    )
    return [chart(weight_charts.draw_agreement(weighing.agreement), text)]


def _parts(weighing: Weighing) -> list[Html]:
    """Weights by annotator or group, drawn and as a table; nothing where there is one only."""
    parts, by, highest = weighing.parts, weighing.by, weighing.method.highest
    if not parts:
        return []
    shown = weight_charts.order_of(parts)
    if weighing.pooled:
        text = f"The weight that all labels of each {by} share; in brackets, how many labels."
        drawing = weight_charts.draw_shared(parts, by, highest)
        return [chart(drawing, text + _hidden(parts, shown))]
    text = "A dot per label, a bar at the mean; in brackets, how many labels."
    return [
        chart(weight_charts.draw_parts(parts, by, highest), text + _hidden(parts, shown)),
        _table(by, parts, highest),
    ]


def _table(by: str, parts: Mapping[str, Sequence[float]], highest: float) -> Html:
    rows: list[list[Child]] = []
    for name in weight_charts.order_of(parts):
        weights = parts[name]
        low, high = near_ends(weights, highest)
        mean = f"{statistics.fmean(weights):.2f}"
        rows.append([name, str(len(weights)), mean, str(low), str(high)])
    head = [by, "labels", "mean weight", "near 0", f"near {highest:g}"]
    return element("div", table(head, rows, f"Weights by {by} in figures"), class_="chart")


def _hidden(parts: Mapping[str, Sequence[float]], shown: Sequence[str]) -> str:
    hidden = len(parts) - len(shown)
    return f" {hidden} between the lowest and highest are not shown." if hidden else ""


def _quartiles(weights: Sequence[float]) -> str:
    if len(weights) < 4:
        return ""
    low, middle, high = statistics.quantiles(weights, n=4)
    return f"Quartiles {low:.2f}, {middle:.2f}, {high:.2f}."
