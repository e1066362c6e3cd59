from __future__ import annotations

import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st

from labelmend.errors import SettingsError
from labelmend.weighting.rules import FADING, RULES, Limits, adam, centred, normalised, update_rule
from labelmend.weighting.rules import plain as plain_rule

from . import oracle_rules as oracle

names = st.sampled_from(sorted(RULES))
seeds = st.integers(0, 2**31)
numbers = st.lists(st.floats(-1e6, 1e6).map(lambda x: round(x, 3)), min_size=1, max_size=20)
shapes = st.sampled_from([(1,), (7,), (5, 3)])
boxes = st.sampled_from([1.0, 2.0])


def some(shape, seed) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def tensor(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def remembered(shape, seed) -> dict[str, torch.Tensor]:
    """What adam keeps after some updates."""
    memory: dict[str, torch.Tensor] = {}
    for number in range(3):
        memory = adam(some(shape, seed + number), memory)[1]
    return memory


# ---------------------------------------------------------------------- how far


def test_plain_is_equation_9() -> None:
    strong, weak = tensor([1.0, 2.0]), tensor([[3.0, -1.0], [0.5, 0.5], [-4.0, 0.0]])
    upper = -(weak @ strong)  # ∂L_S/∂γ_k with H⁻¹ = I
    gamma, rate = tensor([0.5, 0.5, 0.5]), 0.01
    move, memory = plain_rule(weak @ strong, {})
    torch.testing.assert_close(gamma + rate * move, gamma - rate * upper, rtol=0, atol=0)
    assert memory == {}


@given(values=numbers, factor=st.floats(1e-6, 1e6), name=st.sampled_from(["normalised", "centred"]))
def test_the_scale_of_the_loss_does_not_matter(values, factor, name) -> None:
    one, other = (RULES[name](tensor(values) * scale, {})[0] for scale in (1, factor))
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@given(values=numbers)
def test_a_sample_of_average_evidence_moves_by_the_rate(values) -> None:
    assume(any(values))
    move = normalised(tensor(values), {})[0]
    assert move.abs().mean().item() == pytest.approx(1, rel=1e-12)
    assert torch.equal(move.sign(), tensor(values).sign())


@given(values=numbers)
def test_what_one_label_gains_others_lose(values) -> None:
    move = centred(tensor(values), {})[0]
    assert move.sum().item() == pytest.approx(0, abs=1e-7)
    assert move.abs().mean() == 0 or move.abs().mean().item() == pytest.approx(1)


@given(value=st.floats(-1e6, 1e6), samples=st.integers(1, 40))
@example(value=0.1, samples=3)  # whose mean is not 0.1
def test_equal_evidence_is_centred_to_nothing(value, samples) -> None:
    assert not centred(torch.full((samples,), value, dtype=torch.float64), {})[0].any()


@pytest.mark.parametrize("name", sorted(RULES))
@pytest.mark.parametrize("shape", [(0,), (1,), (4,), (4, 2)])
def test_no_evidence_at_all_moves_nothing(name, shape) -> None:
    move, _ = RULES[name](torch.zeros(shape), {})
    assert move.shape == shape and not move.any() and not move.isnan().any()


@given(name=names, shape=shapes, seed=seeds)
def test_permuting_the_samples_permutes_moves_and_memory(name, shape, seed) -> None:
    evidence, memory = some(shape, seed), remembered(shape, seed)
    order = torch.randperm(shape[0], generator=torch.Generator().manual_seed(seed))
    move, kept = RULES[name](evidence, memory)
    shuffled = {n: v[order] for n, v in memory.items()}
    other, other_kept = RULES[name](evidence[order], shuffled)
    torch.testing.assert_close(other, move[order], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(other_kept, {n: v[order] for n, v in kept.items()})


@given(name=names, shape=shapes, seed=seeds)
def test_nothing_that_is_passed_in_changes(name, shape, seed) -> None:
    evidence, memory = some(shape, seed), remembered(shape, seed)
    before = evidence.clone(), {n: v.clone() for n, v in memory.items()}
    move, kept = RULES[name](evidence, memory)
    assert move.shape == evidence.shape and all(v.shape == shape for v in kept.values())
    torch.testing.assert_close((evidence, memory), before, rtol=0, atol=0)


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_adam_is_torchs_adam_of_every_sample_by_itself(share) -> None:
    generator = torch.Generator().manual_seed(3)
    gammas = [torch.tensor(0.5, dtype=torch.float64, requires_grad=True) for _ in range(6)]
    right = torch.optim.Adam(gammas, lr=0.1, betas=FADING, eps=0)
    weight, memory = torch.full((6,), 0.5, dtype=torch.float64), {}
    for _ in range(40):
        judged = torch.rand(6, generator=generator) < share
        evidence = torch.randn(6, generator=generator, dtype=torch.float64)
        for gamma, e, one in zip(gammas, evidence, judged.tolist(), strict=True):
            gamma.grad = -e if one else None
        right.step()
        rows = {n: v[judged] for n, v in memory.items()}
        move, rows = adam(evidence[judged], rows)
        weight[judged] += 0.1 * move
        for name, values in rows.items():
            memory.setdefault(name, torch.zeros_like(weight))[judged] = values
    torch.testing.assert_close(weight, torch.stack(gammas).detach(), rtol=1e-12, atol=1e-13)


def test_adam_stands_still_on_evidence_of_0_and_goes_on_after_it() -> None:
    memory: dict[str, torch.Tensor] = {}
    for evidence in (0.0, 0.0, 2.0):
        move, memory = adam(tensor([evidence]), memory)
        assert (move == 0) == (evidence == 0)


def test_a_rule_that_does_not_exist_is_offered_the_nearest() -> None:
    assert {name: update_rule(name) for name in RULES} == RULES
    with pytest.raises(SettingsError, match="did you mean 'centred'"):
        update_rule("centered")


# ---------------------------------------------------------------------- how far at most

weights = st.lists(st.floats(-3, 5), min_size=1, max_size=5)
ends = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)
bands = st.none() | ends | ends.map(lambda band: [band[0], band[0]])


def limits(highest, band) -> Limits:
    return Limits(highest, None if band is None else (band[0] * highest, band[1] * highest))


@given(values=weights, highest=boxes, band=bands)
@example(values=[0.3, 1 / 3], highest=1.0, band=[1.0, 1.0])
@example(values=[0.3, 1 / 3], highest=2.0, band=[0.0, 0.0])
def test_it_is_the_nearest_of_all_that_keep_the_limits(values, highest, band) -> None:
    kept = limits(highest, band)
    found = kept.project(tensor(values))
    right = oracle.nearest(values, highest, kept.mean)
    # Squared distances in doubles tell points apart down to about 1e-8.
    torch.testing.assert_close(found, torch.from_numpy(right), rtol=0, atol=1e-7)


@given(values=weights, highest=boxes, band=bands)
def test_what_was_projected_is_inside_and_stays(values, highest, band) -> None:
    kept = limits(highest, band)
    found = kept.project(tensor(values))
    assert (found >= 0).all() and (found <= highest).all()
    # No sum of doubles may hit a single number; a wider band is hit exactly.
    rounding = 0.0 if band is None or band[1] - band[0] > 1e-12 else 1e-14
    if band is not None:
        assert kept.mean[0] - rounding <= found.mean() <= kept.mean[1] + rounding
    torch.testing.assert_close(kept.project(found), found, rtol=0, atol=rounding)


@given(values=weights, highest=boxes, band=bands, seed=seeds)
def test_permuting_weights_permutes_the_nearest(values, highest, band, seed) -> None:
    weight, kept = tensor(values), limits(highest, band)
    order = torch.randperm(len(weight), generator=torch.Generator().manual_seed(seed))
    nearest = kept.project(weight)[order]
    torch.testing.assert_close(kept.project(weight[order]), nearest, rtol=0, atol=1e-12)


@given(values=weights, highest=boxes)
@example(values=[-2 / 7], highest=1.0)  # x + (1 - x) is not 1
def test_a_mean_at_a_limit_puts_all_weights_there(values, highest) -> None:
    for mean in (0.0, highest):
        found = Limits(highest, (mean, mean)).project(tensor(values))
        assert found.mean() == mean
        torch.testing.assert_close(found, torch.full_like(found, mean), rtol=1e-15, atol=1e-15)


@given(scale=st.floats(1, 1e12), share=st.floats(0.01, 0.99))
def test_a_far_outlier_does_not_blur_the_mean(scale, share) -> None:
    found = Limits(1.0, (share, share)).project(tensor([-scale, 0.1, 0.2, scale]))
    assert found.mean().item() == pytest.approx(share, abs=1e-3 if scale > 1e9 else 1e-6)


def test_limits_move_nothing_that_keeps_them_nor_what_is_passed_in() -> None:
    weight, inside = tensor([0.25, -1.0, 0.5]), tensor([0.25, 0.0, 0.5])
    for band in (None, (0.1, 0.5), (0.25, 0.25)):
        assert torch.equal(Limits(1.0, band).project(weight), inside)
        assert torch.equal(Limits(1.0, band).project(inside), inside)
    assert not torch.equal(Limits(1.0, (0.5, 0.6)).project(weight), inside)
    assert torch.equal(weight, tensor([0.25, -1.0, 0.5]))
    assert Limits(1.0, (0.5, 0.6)).project(torch.zeros(0)).shape == (0,)


@pytest.mark.parametrize("highest", [0.0, -1.0, float("inf"), float("nan")])
def test_a_highest_weight_that_cannot_be_is_refused(highest) -> None:
    with pytest.raises(SettingsError, match="highest weight must be above 0"):
        Limits(highest)


@pytest.mark.parametrize("band", [(0.6, 0.5), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 0.5)])
def test_a_band_that_no_weights_can_be_in_is_refused(band) -> None:
    with pytest.raises(SettingsError, match="band of the mean weight"):
        Limits(1.0, band)
