from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelmend.training.schedule import Timetable, learning_rate_factor


@given(
    total=st.integers(1, 500),
    warmup=st.integers(0, 50),
    shape=st.sampled_from(["cosine", "poly", "constant"]),
)
def test_the_rate_rises_then_falls_and_never_leaves_0_to_1(total, warmup, shape) -> None:
    warmup = min(warmup, total)
    rates = [learning_rate_factor(step, total, warmup, shape) for step in range(total)]
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)


@given(total=st.integers(1, 300), warmup=st.integers(0, 50))
def test_the_rate_falls_as_its_shape_says(total, warmup) -> None:
    """Half a cosine is as far above its middle as below it; a power of what is left to go."""
    warmup = min(warmup, total - 1)

    def rate(step: int, shape: str) -> float:
        return learning_rate_factor(step, total, warmup, shape)

    for shape in ("cosine", "poly", "constant"):
        assert rate(warmup, shape) == 1
        assert [rate(s, shape) for s in range(warmup)] == [(s + 1) / warmup for s in range(warmup)]
    for s in range(warmup + 1, total):
        assert rate(s, "constant") == 1
        assert rate(s, "cosine") + rate(total + warmup - s, "cosine") == pytest.approx(1)
        left = (total - s) / (total - warmup)
        assert rate(s, "poly") == pytest.approx(left**0.9)


def table(**over) -> Timetable:
    values = {
        "steps": 20, "validate_every": 6, "save_every": 4, "weigh_start": 5, "weigh_every": 3,
        "patience": None, "keep": 2, "learning_rate": lambda step: 1e-3, "clip": None, "seed": 0,
    }  # fmt: skip
    return Timetable(**(values | over))


def due(step: int, **over) -> list[str]:
    return table(**over).due(step, weigh=True, validate=True)


def test_weights_move_every_tau_steps_from_the_first_update_on() -> None:
    assert [s for s in range(1, 20) if "weigh" in due(s)] == [5, 8, 11, 14, 17]


@given(start=st.integers(0, 12), every=st.integers(1, 7), step=st.integers(0, 40))
def test_weight_steps_are_counted_as_they_fall_due(start, every, step) -> None:
    chosen = {"steps": 60, "weigh_start": start, "weigh_every": every}
    count = sum("weigh" in due(s, **chosen) for s in range(step + 1))
    assert table(**chosen).weighings_by(step) == count


def test_the_last_step_is_always_validated_and_saved() -> None:
    assert due(20) == ["weigh", "validate", "save"]
    assert due(20, weigh_start=6) == ["validate", "save"]


@pytest.mark.parametrize(("step", "tasks"), [(1, []), (4, ["save"]), (6, ["validate"])])
def test_tasks_come_when_they_are_due(step, tasks) -> None:
    assert due(step) == tasks


def test_what_is_switched_off_is_never_due() -> None:
    assert table().due(20, weigh=False, validate=False) == ["save"]
