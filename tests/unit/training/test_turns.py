from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelmend.errors import SettingsError
from labelmend.training.turns import Turns


@st.composite
def some_turns(draw) -> Turns:
    samples = draw(st.lists(st.integers(0, 500), min_size=1, max_size=30, unique=True))
    size = draw(st.integers(1, len(samples)))
    first = draw(st.none() | st.integers(size, len(samples)))
    return Turns(tuple(samples), size, draw(st.integers(0, 2**31)), first)


def judged(turns: Turns, number: int) -> list[int]:
    return [draw.index for draw in turns.draws(number)]


@given(turns=some_turns(), number=st.integers(0, 1000))
def test_a_weight_step_judges_so_many_and_none_twice(turns, number) -> None:
    found = judged(turns, number)
    wanted = turns.first if number == 0 and turns.first else turns.size
    assert len(set(found)) == len(found) == wanted
    assert set(found) <= set(turns.samples)
    assert not any(draw.augment for draw in turns.draws(number))


@given(turns=some_turns(), first=st.integers(0, 1000))
def test_nobody_waits_longer_than_is_said(turns, first) -> None:
    steps = range(first, first + turns.longest_wait)
    assert {index for n in steps for index in judged(turns, n)} == set(turns.samples)


@given(turns=some_turns(), first=st.integers(1, 1000))
def test_somebody_waits_as_long_as_is_said(turns, first) -> None:
    steps = range(first, first + turns.longest_wait - 1)
    assert {index for n in steps for index in judged(turns, n)} < set(turns.samples)


@given(turns=some_turns(), rounds=st.integers(1, 3), start=st.integers(1, 100))
def test_after_whole_rounds_all_were_judged_equally_often(turns, rounds, start) -> None:
    steps = range(start, start + rounds * len(turns.samples))
    every = [i for n in steps for i in judged(turns, n)]
    assert {every.count(sample) for sample in turns.samples} == {rounds * turns.size}


@given(turns=some_turns(), number=st.integers(0, 99))
def test_only_the_number_of_the_step_decides(turns, number) -> None:
    same = Turns(turns.samples, turns.size, turns.seed, turns.first)
    for other in (0, number + 1):
        same.draws(other)
    assert same.draws(number) == turns.draws(number) == turns.draws(number)


@given(turns=some_turns(), steps=st.integers(1, 20))
def test_no_two_draws_have_one_key(turns, steps) -> None:
    keys = [draw.key for n in range(steps) for draw in turns.draws(n)]
    assert len(set(keys)) == len(keys)


def test_the_seed_decides_the_order_and_neighbours_are_parted() -> None:
    orders = [judged(Turns(tuple(range(50)), 50, seed), 0) for seed in range(20)]
    assert len({tuple(order) for order in orders}) == 20
    beside = [abs(a - b) == 1 for order in orders for a, b in itertools.pairwise(order)]
    assert sum(beside) / len(beside) < 0.1


def test_the_order_is_the_same_on_every_machine() -> None:
    assert judged(Turns(tuple(range(8)), 8, seed=3), 0) == [0, 4, 7, 1, 5, 6, 3, 2]


@pytest.mark.parametrize(("samples", "size"), [((), 0), ((), 1), ((4, 5), 0), ((4, 5), 3)])
def test_a_step_that_would_judge_nobody_or_somebody_twice_is_refused(samples, size) -> None:
    with pytest.raises(SettingsError, match=f"from 1 to all {len(samples)} weak samples"):
        Turns(samples, size, seed=0)


@pytest.mark.parametrize("first", [1, 4])
def test_a_first_step_smaller_than_the_others_or_with_somebody_twice_is_refused(first) -> None:
    with pytest.raises(SettingsError, match="the first weight step wants from 2 to all 3"):
        Turns((4, 5, 6), 2, seed=0, first=first)
