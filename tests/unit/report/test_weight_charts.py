"""Charts of weights show every weight that there can be, and where it began."""

from __future__ import annotations

import re

import numpy as np
import pytest

from labelmend.report import weight_charts
from labelmend.report.gather import Paths
from labelmend.report.story import Curve


def texts(drawing: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", drawing)


def bars(drawing: str) -> list[float]:
    """Heights of the filled rectangles of the weights' colour."""
    found = re.findall(r'<path d="([^"]*)"[^>]*style="fill: var\(--weak\)', drawing)
    points = [np.array(re.findall(r"[-\d.]+", path), float).reshape(-1, 2) for path in found]
    return [float(np.ptp(each[:, 1])) for each in points]


@pytest.mark.parametrize("highest", [1.0, 2.0])
def test_every_weight_is_in_the_histogram(highest: float) -> None:
    weights = [0.0, 0.5 * highest, highest, highest]
    heights = [h for h in bars(weight_charts.draw_histogram(weights, [0.5] * 4, highest)) if h]
    assert np.allclose(np.sort(heights) / min(heights), [1, 1, 2])


def test_weights_that_began_alike_have_one_start_and_others_an_outline() -> None:
    alike = texts(weight_charts.draw_histogram([0.1, 0.9], [0.5, 0.5], 1.0))
    given = texts(weight_charts.draw_histogram([0.1, 0.9], [0.2, 0.8], 1.0))
    still = texts(weight_charts.draw_histogram([0.2, 0.8], [0.2, 0.8], 1.0))
    assert "start" in alike
    assert "at first" not in alike
    assert "at first" in given
    assert "start" not in given
    assert not {"at first", "start"} & set(still)


def test_every_class_has_a_histogram_and_of_many_the_extremes() -> None:
    by_class = {f"c{i:02}": [i / 20, i / 20] for i in range(20)}
    named = [t for t in texts(weight_charts.draw_classes(by_class, 1.0)) if t.startswith("c")]
    assert named == [f"c{i:02}" for i in (*range(6), *range(14, 20))]
    two = weight_charts.draw_classes({"a": [0.1, 1.9], "b": [2.0, 2.0]}, 2.0)
    assert sorted(t for t in texts(two) if t in "ab") == ["a", "b"]
    heights = [h for h in bars(two) if h]
    assert np.allclose(np.sort(heights) / min(heights), [1, 1, 2])


def test_paths_reach_the_highest_weight() -> None:
    steps = Paths((0, 10), ((0.5, 0.5), (0.5, 2.0)))
    assert "2.0" in texts(weight_charts.draw_paths(steps, 2.0))
    assert "2.0" not in texts(weight_charts.draw_paths(steps, 1.0))


def test_those_who_share_a_weight_have_one_line_with_their_name() -> None:
    paths = Paths((0, 10), ((0.5, 0.5, 0.5), (0.1, 0.1, 0.9)))
    drawing = weight_charts.draw_shared_paths(paths, {"ann": 0, "bob": 2}, "annotator", 1.0)
    assert {"ann", "bob", "weight of every annotator"} <= set(texts(drawing))
    many = {f"a{i}": 0 for i in range(weight_charts.MOST_NAMED + 1)}
    crowd = texts(weight_charts.draw_shared_paths(paths, many, "annotator", 1.0))
    assert not any(name in crowd for name in many)


def test_shared_weights_are_written_beside_their_bars() -> None:
    drawing = weight_charts.draw_shared({"ann": (1.5, 1.5), "bob": (0.25,)}, "annotator", 2.0)
    shown = texts(drawing)
    assert {"1.50", "0.25"} <= set(shown)
    names = [each for each in shown if each.startswith(("ann", "bob"))]
    assert names == ["bob  (1)", "ann  (2)"]


def test_agreement_is_drawn_from_its_first_record_on() -> None:
    assert "<svg" in weight_charts.draw_agreement(Curve((10,), (0.5,)))
    long = Curve(tuple(range(1, 101)), tuple(i / 100 for i in range(100)))
    assert "<svg" in weight_charts.draw_agreement(long)


def test_of_many_parts_the_extremes_are_shown() -> None:
    parts = {f"g{i:03}": [i / 100] for i in range(100)}
    order = weight_charts.order_of(parts)
    assert len(order) == weight_charts.MOST_ROWS
    assert (order[0], order[-1]) == ("g000", "g099")
    assert weight_charts.order_of({"b": [0.2], "a": [0.1]}) == ["a", "b"]


def test_names_move_apart_and_stay_inside() -> None:
    moved = weight_charts.moved_apart([0.0, 0.0, 0.5, 2.0, 2.0], 0.1, 2.0)
    assert np.allclose(moved, [0.0, 0.1, 0.5, 1.9, 2.0])
