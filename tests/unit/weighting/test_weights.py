from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labelmend.errors import NonFiniteError
from labelmend.weighting.weights import RULES, WeightTable, normalised, plain

numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20)


@given(similarity=numbers, rate=st.floats(1e-6, 1e3), name=st.sampled_from(sorted(RULES)))
def test_weights_stay_between_0_and_1(similarity, rate, name) -> None:
    moved = RULES[name](torch.full((len(similarity),), 0.5), torch.tensor(similarity), rate)
    assert ((moved >= 0) & (moved <= 1)).all()


@given(similarity=numbers, seed=st.integers(0, 99), name=st.sampled_from(sorted(RULES)))
def test_permuting_the_samples_permutes_their_weights(similarity, seed, name) -> None:
    values = torch.tensor(similarity, dtype=torch.float64)
    weight = torch.linspace(0, 1, len(values), dtype=torch.float64)
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))
    moved = RULES[name](weight, values, 0.1)[order]
    torch.testing.assert_close(RULES[name](weight[order], values[order], 0.1), moved)


@given(similarity=numbers, factor=st.floats(1e-3, 1e3))
def test_normalised_does_not_depend_on_the_scale_of_the_loss(similarity, factor) -> None:
    values = torch.tensor(similarity, dtype=torch.float64)
    weight = torch.full_like(values, 0.5)
    torch.testing.assert_close(
        normalised(weight, values, 0.1), normalised(weight, values * factor, 0.1)
    )


def test_plain_is_equation_9() -> None:
    moved = plain(torch.tensor([0.5]), torch.tensor([0.3]), 0.1)
    torch.testing.assert_close(moved, torch.tensor([0.53]))


def test_no_similarity_at_all_moves_nothing() -> None:
    weight = torch.tensor([0.2, 0.8])
    assert torch.equal(normalised(weight, torch.zeros(2), 0.1), weight)


def _table() -> WeightTable:
    return WeightTable.start(torch.tensor([True, False, False]), initial=0.5)


def test_strong_samples_stay_at_1() -> None:
    table = _table()
    both = torch.tensor([0, 1])
    table.update(both, torch.tensor([-5.0, -5.0]), plain, 1.0)
    table.note(both, torch.tensor([-5.0, -5.0]), torch.zeros(2), step=3)
    assert table.weight.tolist() == [1.0, 0.0, 0.5]
    assert table.updated.tolist() == [3, 3, -1]


def test_a_bad_number_changes_nothing() -> None:
    table = _table()
    with pytest.raises(NonFiniteError, match=r"samples \[2\]"):
        table.update(torch.tensor([1, 2]), torch.tensor([1.0, torch.nan]), plain, 1.0)
    assert table.weight.tolist() == [1.0, 0.5, 0.5]


def test_state_comes_back_to_the_bit() -> None:
    table = _table()
    table.update(torch.tensor([1]), torch.tensor([0.1234567]), plain, 0.3)
    table.note(torch.tensor([1]), torch.tensor([0.1234567]), torch.ones(1), step=1)
    other = _table()
    other.restore(table.state())
    for name, value in table.state().items():
        assert torch.equal(value.nan_to_num(-1), other.state()[name].nan_to_num(-1))
