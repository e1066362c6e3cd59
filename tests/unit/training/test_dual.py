"""What two models tell each other, beside counting position by position."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from labelmend.errors import ShapeError
from labelmend.training.dual import (
    TRACE,
    advantage,
    confident,
    disagreement,
    pseudo_label,
    without_traces,
)

seeds = st.integers(0, 2**31)
spaces = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)
classes = st.integers(2, 5)


def probabilities(batch: int, many: int, space: tuple[int, ...], seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, many, *space, generator=generator, dtype=torch.float64)
    return (4 * logits).softmax(1)


def indices(batch: int, many: int, space: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randint(0, many, (batch, *space), generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------- pseudo-labels


@given(classes, spaces, seeds, st.booleans())
def test_a_pseudo_label_is_of_either_prediction_and_of_probabilities(
    many: int, space: tuple[int, ...], seed: int, soft: bool
) -> None:
    one, other = (probabilities(3, many, space, seed + n).requires_grad_() for n in (0, 1))
    share = torch.rand(3, *space, generator=torch.Generator().manual_seed(seed)).double()
    mask = share if soft else share < 0.5
    found = pseudo_label(one, other, mask)
    assert not found.requires_grad
    torch.testing.assert_close(found.sum(1), torch.ones_like(share), rtol=0, atol=1e-12)
    over = mask.double().unsqueeze(1)
    torch.testing.assert_close(found, (over * one + (1 - over) * other).detach())


def test_a_pseudo_label_of_other_shapes_is_refused() -> None:
    one = probabilities(2, 3, (4,), 0)
    with pytest.raises(ShapeError, match="alike"):
        pseudo_label(one, one[:, :2], torch.ones(2, 4) > 0)
    with pytest.raises(ShapeError, match="mask"):
        pseudo_label(one, one, torch.ones(2, 5) > 0)


@given(classes, spaces, seeds)
def test_without_traces_it_still_is_of_probabilities(
    many: int, space: tuple[int, ...], seed: int
) -> None:
    full = probabilities(3, many, space, seed)
    found = without_traces(full)
    torch.testing.assert_close(found.sum(1), torch.ones_like(found.sum(1)), rtol=0, atol=1e-12)
    assert torch.equal(found > 0, full >= TRACE)
    assert torch.equal(found.argmax(1), full.argmax(1))
    # What is left keeps its proportions: everything there was raised by one and the same factor.
    factor = (found / full).amax(1, keepdim=True)
    wanted = torch.where(full >= TRACE, full * factor, 0)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)


def test_of_many_classes_something_is_left() -> None:
    """An untrained network with 150 classes is nowhere as sure as a hundredth."""
    even = torch.full((1, 150, 2), 1 / 150, dtype=torch.float64)
    found = without_traces(even)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.sum(1), torch.ones(1, 2, dtype=torch.float64))


@given(classes, spaces, seeds, st.sampled_from([0.0, 0.5, 0.9, 0.99]))
def test_confident_is_where_some_class_reaches_the_gate(
    many: int, space: tuple[int, ...], seed: int, gate: float
) -> None:
    full = probabilities(3, many, space, seed)
    found = confident(full, gate)
    assert found.dtype == torch.bool and torch.equal(found, (full >= gate).any(1))
    assert found.all() or gate > 0


def test_a_probability_at_the_gate_passes_it() -> None:
    even = torch.tensor([[[0.5, 0.49], [0.5, 0.51]]])
    assert confident(even, 0.5).tolist() == [[True, True]]
    assert confident(even, 0.505).tolist() == [[False, True]]


# ---------------------------------------------------------------- disagreement and advantage


def flat(*tensors: torch.Tensor) -> list[tuple]:
    return list(zip(*(tensor.flatten().tolist() for tensor in tensors), strict=True))


@given(classes, spaces, seeds)
def test_disagreement_counts_positions(many: int, space: tuple[int, ...], seed: int) -> None:
    one, other = indices(3, many, space, seed), indices(3, many, space, seed + 1)
    pairs = flat(one, other)
    wanted = [sum(a != b for a, b in pairs), sum(a > 0 or b > 0 for a, b in pairs)]
    assert disagreement(one, other).tolist() == wanted
    assert torch.equal(disagreement(one, other), disagreement(other, one))
    assert disagreement(one, one).tolist() == [0, int((one > 0).sum())]


def test_objects_apart_disagree_wholly_however_much_background_there_is() -> None:
    one, other = torch.zeros(2, 1, 1000, dtype=torch.int64)
    one[0, :3], other[0, 3:5] = 1, 2
    assert disagreement(one, other).tolist() == [5, 5]
    assert disagreement(torch.zeros_like(one), torch.zeros_like(one)).tolist() == [0, 0]


@given(classes, spaces, seeds)
def test_advantage_counts_who_alone_is_right(many: int, space: tuple[int, ...], seed: int) -> None:
    teacher, pupil, label = (indices(3, many, space, seed + n) for n in range(3))
    known = torch.rand(3, *space, generator=torch.Generator().manual_seed(seed)) < 0.7
    apart = [(t, p, y) for t, p, y, said in flat(teacher, pupil, label, known) if said and t != p]
    wanted = [sum((t == y) - (p == y) for t, p, y in apart), len(apart)]
    assert advantage(teacher, pupil, label, known).tolist() == wanted
    gained, of = advantage(pupil, teacher, label, known).tolist()
    assert [-gained, of] == wanted and abs(gained) <= of
    unknown = torch.where(known, label, -5)
    assert advantage(teacher, pupil, unknown, known).tolist() == wanted
