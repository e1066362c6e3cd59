"""A second network that adds nothing is said so: once, and not too early."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from labelmend.training.idle import LEAST, WINDOW, IdleWatch


def said(figures: list[float | None]) -> list[int]:
    """The steps at which a new watch speaks."""
    watch = IdleWatch()
    return [
        step
        for step, value in enumerate(figures, 1)
        if watch(step, {} if value is None else {"disagreement": value}) is not None
    ]


def test_it_speaks_once() -> None:
    assert said([0.0] * 4 * WINDOW) == [WINDOW]


def test_it_is_silent_while_they_differ() -> None:
    assert said([LEAST] * 3 * WINDOW) == [] == said([1.0] * 3 * WINDOW)


def test_it_is_silent_about_what_is_not_metered() -> None:
    assert said([None] * 3 * WINDOW) == []
    assert IdleWatch()(1, {"loss": 0.0, "gain": 0.0}) is None
    # steps without a figure neither count nor begin anew
    assert said([0.0, None] * WINDOW) == [2 * WINDOW - 1]


def test_what_was_long_ago_is_forgotten() -> None:
    assert said([1.0] * WINDOW + [0.0] * 2 * WINDOW) == [2 * WINDOW]


def test_one_step_that_differs_a_lot_keeps_it_silent() -> None:
    large = LEAST * WINDOW
    assert said([0.0] * (WINDOW - 1) + [large] + [0.0] * WINDOW) == [2 * WINDOW]


def test_it_says_since_when_and_how_much() -> None:
    watch = IdleWatch()
    texts = [watch(step, {"disagreement": 0.004, "loss": 1.0}) for step in range(7, 7 + WINDOW)]
    assert texts[:-1] == [None] * (WINDOW - 1)
    text = texts[-1]
    assert f"by step {6 + WINDOW}" in text and "0.4%" in text and "dual.use" in text
    assert "\n" not in text


def test_watches_know_nothing_of_each_other() -> None:
    assert said([0.0] * WINDOW) == said([0.0] * WINDOW) == [WINDOW]


@given(
    st.lists(
        st.none() | st.sampled_from([0.0, 0.3, LEAST * 25]) | st.floats(0, 3 * LEAST),
        max_size=4 * WINDOW,
    ),
    st.lists(st.floats(0, LEAST / 2), min_size=WINDOW, max_size=WINDOW),
)
def test_it_speaks_where_the_mean_of_a_whole_window_is_too_small(start, end) -> None:
    figures = [*start, *end]
    steps = [step for step, value in enumerate(figures, 1) if value is not None]
    wanted = []
    for place in range(WINDOW, len(steps) + 1):
        window = [figures[step - 1] for step in steps[place - WINDOW : place]]
        if sum(window) / WINDOW < LEAST:
            wanted = [steps[place - 1]]
            break
    assert said(figures) == wanted != []
