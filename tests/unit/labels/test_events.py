from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelmend.errors import DataError
from labelmend.labels.events import Event, find_events, nearest_edge, rasterise, seconds

CLASSES = ("background", "a", "b")


@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=60),
    st.sampled_from([1 / 32000, 1 / 500, 0.1, 1 / 3, 1.0]),
)
def test_events_of_a_grid_make_the_grid_again(values: list[int], spacing: float) -> None:
    grid = np.array(values)
    events = find_events(grid, CLASSES, spacing)
    index, known = rasterise(events, CLASSES, len(grid), spacing)
    np.testing.assert_array_equal(index, grid)
    assert known.all()


@given(st.integers(0, 10**9), st.sampled_from([100, 250, 360, 500, 2000, 8000, 44100, 192000]))
def test_times_are_as_short_as_they_can_be_and_of_the_same_sample(place: int, rate: int) -> None:
    found = seconds(place, 1 / rate)
    assert nearest_edge(found * rate) == place
    exact = Fraction(place, rate)
    if exact < 10**5 and (exact * 10**6).denominator == 1:  # microseconds are written whole
        assert Fraction(repr(found)) == exact


@given(
    st.integers(0, 200),
    st.integers(1, 50),
    st.floats(0, 1),
    st.sampled_from([1 / 44100, 1 / 32000, 1 / 500, 0.1, 1 / 3, 1.0, 7.3]),
)
def test_an_event_of_n_samples_has_n_wherever_it_begins(
    before: int, count: int, share: float, spacing: float
) -> None:
    for begin in (before + 0.5, before + round(share, 3)):
        event = Event(begin * spacing, (begin + count) * spacing, "a")
        index, _ = rasterise([event], CLASSES, 260, spacing)
        assert index.sum() == count
        assert index.argmax() == np.floor(begin + 0.5)


def test_order_does_not_matter() -> None:
    events = [Event(0.5, 0.7, "a"), Event(0.1, 0.3, "b")]
    one, _ = rasterise(events, CLASSES, 10, 0.1)
    two, _ = rasterise(events[::-1], CLASSES, 10, 0.1)
    assert one.tolist() == two.tolist() == [0, 2, 2, 0, 0, 1, 1, 0, 0, 0]


def test_touching_events_are_kept_apart_by_class() -> None:
    index, _ = rasterise([Event(0.0, 0.2, "a"), Event(0.2, 0.4, "b")], CLASSES, 4, 0.1)
    assert index.tolist() == [1, 1, 2, 2]


def test_offset_one_sample_beyond_the_end_is_cut() -> None:
    index, _ = rasterise([Event(0.2, 0.5, "a")], CLASSES, 4, 0.1)
    assert index.tolist() == [0, 0, 1, 1]
    with pytest.raises(DataError, match="after the recording, which lasts 0.4 s"):
        rasterise([Event(0.2, 0.6, "a")], CLASSES, 4, 0.1)


def test_an_event_called_ignore_is_unknown() -> None:
    index, known = rasterise([Event(0.1, 0.3, "ignore")], CLASSES, 4, 0.1)
    assert known.tolist() == [True, False, False, True] and not index.any()
    index, known = rasterise([Event(0.1, 0.3, "ignore")], ("none", "ignore"), 4, 0.1)
    assert known.all() and index.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ([Event(0.1, 0.2, "c")], "no class of its name"),
        ([Event(0.2, 0.1, "a")], "does not begin"),
        ([Event(-0.1, 0.1, "a")], "does not begin"),
        ([Event(float("nan"), 0.1, "a")], "does not begin"),
        ([Event(0.1, float("inf"), "a")], "does not begin"),
        ([Event(0.101, 0.104, "a")], "between two samples"),
        ([Event(0.0, 0.3, "a"), Event(0.2, 0.4, "a")], "overlap"),
    ],
)
def test_wrong_events_are_refused(events: list[Event], text: str) -> None:
    with pytest.raises(DataError, match=text):
        rasterise(events, CLASSES, 10, 0.1)


def test_nothing_makes_no_events() -> None:
    assert find_events(np.zeros(5, int), CLASSES, 1.0) == []
    assert find_events(np.zeros(0, int), CLASSES, 1.0) == []
