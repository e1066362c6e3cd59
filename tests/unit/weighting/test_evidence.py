from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labelmend.weighting.evidence import SIGNALS, Findings, cosine, from_both, from_loss

losses = st.lists(st.floats(0, 100), min_size=3, max_size=30).map(
    lambda values: torch.tensor(values, dtype=torch.float64)
)


def found(loss: torch.Tensor, agreement: float = 0.5, seed: int = 0) -> Findings:
    generator = torch.Generator().manual_seed(seed)
    similarity = torch.randn(len(loss), generator=generator, dtype=torch.float64)
    return Findings(similarity, loss, agreement)


@given(loss=losses, agreement=st.floats(-1, 1))
def test_bounded_signals_stay_between_minus_1_and_1(loss, agreement) -> None:
    for name in ("loss", "both"):
        assert SIGNALS[name](found(loss, agreement)).abs().max() <= 1 + 1e-12


@given(loss=losses, seed=st.integers(0, 99), name=st.sampled_from(sorted(SIGNALS)))
def test_permuting_the_samples_permutes_the_evidence(loss, seed, name) -> None:
    whole = found(loss)
    order = torch.randperm(len(loss), generator=torch.Generator().manual_seed(seed))
    shuffled = Findings(whole.similarity[order], loss[order], whole.agreement)
    torch.testing.assert_close(SIGNALS[name](shuffled), SIGNALS[name](whole)[order])


@given(loss=losses, factor=st.floats(0.01, 100), shift=st.floats(-10, 10))
def test_the_evidence_of_a_loss_knows_neither_unit_nor_zero(loss, factor, shift) -> None:
    rounded = loss.round(decimals=3)  # a spread of rounding errors is no spread
    plain = from_loss(found(rounded))
    torch.testing.assert_close(from_loss(found(rounded * factor + shift)), plain, atol=1e-6, rtol=0)


@given(loss=losses)
def test_a_larger_loss_never_speaks_more_for_a_label(loss) -> None:
    ordered = from_loss(found(loss.sort().values))
    assert (ordered.diff() <= 1e-12).all()


def test_most_labels_are_usual_and_gross_errors_are_not() -> None:
    loss = torch.cat([torch.linspace(0.4, 0.6, 30), torch.full((10,), 5.0)])
    evidence = from_loss(found(loss))
    assert (evidence[:30] > 0).all()
    assert (evidence[30:] == -1).all()


@pytest.mark.parametrize("agreement", [-0.9, 0.0])
def test_a_direction_that_two_halves_do_not_share_counts_for_nothing(agreement) -> None:
    whole = found(torch.rand(9, dtype=torch.float64), agreement)
    assert torch.equal(from_both(whole), from_loss(whole))


def test_a_shared_direction_counts_half() -> None:
    whole = found(torch.ones(9, dtype=torch.float64), agreement=1.0)
    alike = (whole.similarity / whole.similarity.abs().mean()).clamp(-1, 1)
    torch.testing.assert_close(from_both(whole), (1 + alike) / 2)


def test_no_similarity_and_no_spread_are_no_division_by_zero() -> None:
    still = Findings(torch.zeros(4), torch.ones(4), 1.0)
    for name in SIGNALS:
        assert torch.isfinite(SIGNALS[name](still)).all()


def test_cosine_of_gradients() -> None:
    one = {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([1.0])}
    other = {"a": torch.tensor([0.0, 1.0]), "b": torch.tensor([1.0])}
    assert cosine(one, other) == pytest.approx(0.5)
    assert cosine(one, {name: -value for name, value in one.items()}) == pytest.approx(-1)
    assert cosine(one, {name: 0 * value for name, value in one.items()}) == 0
