"""Which held-out samples a report shows."""

from __future__ import annotations

import random

from labelmend.report.predictions import MOST_SHOWN, select, spread, value_of
from labelmend.types import Sample


def rated(*values: float | None) -> list[tuple[Sample, float | None]]:
    return [(Sample(f"i{n}", f"l{n}", "strong", "test", f"g{n}"), v) for n, v in enumerate(values)]


def test_worst_middle_and_best_are_shown_worst_first() -> None:
    pairs = rated(*[n / 100 for n in range(100)])
    random.Random(0).shuffle(pairs)
    shown = select(pairs)
    assert [s.value for s in shown] == [0.0, 0.01, 0.02, 0.49, 0.5, 0.97, 0.98, 0.99]
    assert [s.place for s in shown] == ["worst"] * 3 + ["median"] * 2 + ["best"] * 3


def test_nine_samples_show_eight_different_ones() -> None:
    shown = select(rated(*[n / 10 for n in range(9)]))
    assert len({s.sample.id for s in shown}) == MOST_SHOWN


def test_few_are_all_shown() -> None:
    shown = select(rated(0.5, None, 0.2))
    assert [(s.value, s.place) for s in shown] == [(0.2, "worst"), (0.5, "best"), (None, "")]
    assert [s.place for s in select(rated(0.5))] == [""]


def test_samples_without_a_figure_never_crowd_out_those_with_one() -> None:
    shown = select(rated(*[None] * 20, 0.1, 0.2))
    assert len(shown) == MOST_SHOWN
    assert [s.value for s in shown[:2]] == [0.1, 0.2]


def test_a_spread_takes_both_ends() -> None:
    assert spread(list(range(100)), 3) == [0, 50, 99]
    assert spread([1, 2], 3) == [1, 2]


def test_a_class_without_a_figure_is_left_out_of_the_mean() -> None:
    nan = float("nan")
    assert value_of({"a": {"dice": 0.5}, "b": {"dice": nan}, "c": {"dice": 0.7}}, "dice") == 0.6
    assert value_of({"a": {"dice": nan}}, "dice") is None
    assert value_of({}, "dice") is None
