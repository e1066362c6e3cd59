"""The weight step as one call, for other people's loops."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from labelmend.errors import NonFiniteError, SettingsError, ShapeError
from labelmend.losses import cross_entropy, dice_ce
from labelmend.types import Batch
from labelmend.weighting.alike import appearances, likeness
from labelmend.weighting.calls import gauss_newton_of, losses_of
from labelmend.weighting.choice import choose
from labelmend.weighting.curvature import conjugate_gradients
from labelmend.weighting.evidence import Findings, agreement, from_alike, from_both
from labelmend.weighting.fit import disagreement
from labelmend.weighting.gradients import gradient_similarity, mean_gradient
from labelmend.weighting.rules import normalised
from labelmend.weighting.step import weight_step
from labelmend.weighting.weights import WeightTable

from .similarity_cases import Case

STRONG, ALL = 5, 24


class Loop:
    """A network with dropout and running averages, strong samples first, somewhere in training."""

    def __init__(self, dims=2, **more):
        self.case = Case("unet", dims, batch=ALL, dtype=torch.float32, **more)
        middle = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(1)) if dims == 2 else nn.Identity()
        self.network = nn.Sequential(middle, self.case.network).train()
        of = (self.case.image, self.case.label, self.case.valid)
        self.samples = Batch(*of, torch.arange(ALL))
        self.strong, self.weak = (
            self.samples.take(slice(STRONG)),
            self.samples.take(slice(STRONG, ALL)),
        )
        self.table = WeightTable.start(torch.arange(ALL) < STRONG, initial=0.5)

    def step(self, **options) -> Findings:
        table = options.pop("table", self.table)
        strong, weak = options.pop("strong", self.strong), options.pop("weak", self.weak)
        return weight_step(table, self.network, dice_ce, strong, weak, **options)


def by_hand(loop: Loop, rate=0.2, judge=from_both) -> tuple[Findings, torch.Tensor]:
    """The same from its parts, every batch in one piece."""
    network = copy.deepcopy(loop.network).eval()
    params = choose(network, "last", loop.strong.image)
    of_strong, of_weak = (losses_of(network, dice_ce, b) for b in (loop.strong, loop.weak))
    halves = [
        mean_gradient(losses_of(network, dice_ce, loop.strong.take(slice(k, None, 2))), params)
        for k in (0, 1)
    ]
    few = loop.samples.take(torch.tensor([0, 1, 2, 3, STRONG, STRONG + 1, STRONG + 2, STRONG + 3]))
    curvature = conjugate_gradients(gauss_newton_of(network, params, few))
    direction = curvature(mean_gradient(of_strong, params))
    with torch.no_grad():
        apart = disagreement(network(loop.weak.image), loop.weak.label, loop.weak.valid)
        loss = of_weak(params)
    images = likeness(appearances(loop.weak.image), appearances(loop.strong.image))
    similar = gradient_similarity(of_weak, params, direction)
    found = Findings(similar, loss, apart, agreement(*halves, STRONG), likeness=images)
    weight = torch.full((ALL - STRONG,), 0.5) + rate * judge(found)
    return found, weight.clamp(0, 1).double()


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(("signal", "judge"), [("both", from_both), ("alike", from_alike)])
def test_it_is_what_its_parts_make(dims, signal, judge) -> None:
    loop = Loop(dims)
    wanted, weight = by_hand(loop, judge=judge)
    found = loop.step(signal=signal)
    for name in ("similarity", "loss", "disagreement"):
        one, other = getattr(found, name), getattr(wanted, name).double()
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4 * other.abs().max().item()), name
    assert found.agreement == pytest.approx(wanted.agreement, rel=1e-3)
    assert torch.allclose(loop.table.weight[STRONG:], weight, atol=1e-3)
    assert torch.equal(loop.table.weight[:STRONG], torch.ones(STRONG, dtype=torch.float64))


def test_the_network_stays_as_it_was() -> None:
    loop = Loop()
    cross_entropy(
        loop.network(loop.samples.image), loop.samples.label, loop.samples.valid
    ).sum().backward()
    state = copy.deepcopy(loop.network.state_dict())
    gradients = [p.grad.clone() for p in loop.network.parameters()]
    loop.network[1].eval()  # a part that its owner keeps in evaluation mode
    modes = [module.training for module in loop.network.modules()]
    loop.step()
    assert [module.training for module in loop.network.modules()] == modes
    assert all(torch.equal(v, loop.network.state_dict()[n]) for n, v in state.items())
    assert all(
        torch.equal(g, p.grad) for g, p in zip(gradients, loop.network.parameters(), strict=True)
    )


def test_the_order_of_weak_samples_does_not_matter() -> None:
    one, other = Loop(), Loop()
    order = torch.randperm(ALL - STRONG, generator=torch.Generator().manual_seed(0))
    first = other.weak.take(slice(4))
    rest = other.weak.take(order[order > 3])
    one.step()
    other.step(weak=first.join(rest))  # the first ones also stand for the curvature
    assert torch.allclose(one.table.weight, other.table.weight, atol=1e-3)


def test_under_no_grad_and_autocast_it_finds_the_same() -> None:
    plain, other = Loop(), Loop()
    plain.step()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        other.step()
    assert torch.allclose(plain.table.weight, other.table.weight, atol=1e-6)


def test_options_reach_their_parts() -> None:
    loop = Loop()
    found = loop.step(signal="similarity", rule=normalised, rate=0.01, parameters="all")
    moved = loop.table.weight[STRONG:] - 0.5
    assert torch.allclose(moved, 0.01 * found.similarity / found.similarity.abs().mean())


def test_only_what_was_judged_moves() -> None:
    loop = Loop()
    loop.step(weak=loop.weak.take(slice(3, 9)))
    moved = torch.nonzero(loop.table.weight[STRONG:] != 0.5).flatten().tolist()
    assert set(moved) <= set(range(3, 9))
    assert moved


@pytest.mark.parametrize("side", ["strong", "weak"])
def test_without_samples_it_is_refused(side) -> None:
    loop = Loop()
    with pytest.raises(ShapeError, match=f"no {side} samples"):
        loop.step(**{side: loop.samples.take(slice(0))})


def test_bad_numbers_move_nothing() -> None:
    loop = Loop()
    loop.weak.image[7] = torch.nan
    with pytest.raises(NonFiniteError, match=rf"\[{STRONG + 7}\]"):
        loop.step()
    assert (loop.table.weight[STRONG:] == 0.5).all()
    assert loop.network.training


@pytest.mark.parametrize("signal", ["both", "alike", "fit", "loss", "similarity"])
def test_bad_losses_move_nothing_whatever_is_asked(signal) -> None:
    loop = Loop()

    def bad(logits, label, valid):
        return torch.where(torch.arange(len(logits)) == 2, torch.inf, dice_ce(logits, label, valid))

    with pytest.raises(NonFiniteError, match="NaN or infinite"):
        weight_step(loop.table, loop.network, bad, loop.strong, loop.weak, signal=signal)
    assert (loop.table.weight[STRONG:] == 0.5).all()


@pytest.mark.parametrize("signal", ["both", "alike", "fit", "loss", "similarity"])
def test_labels_of_which_nothing_is_known_stay_and_change_nothing_for_others(signal) -> None:
    loop, fewer = Loop(), Loop()
    known = torch.ones(ALL - STRONG, dtype=torch.bool)
    known[[1, 4]] = False
    # Of so few samples the curvature takes the first: those stay.
    known = known.roll(6)
    loop.weak.valid[~known] = False
    found = loop.step(signal=signal)
    assert len(found.loss) == ALL - STRONG
    fewer.step(signal=signal, weak=fewer.weak.take(known))
    index = loop.weak.index[known]
    torch.testing.assert_close(loop.table.weight[index], fewer.table.weight[index])
    assert (loop.table.weight[loop.weak.index[~known]] == 0.5).all()
    assert (loop.table.looks[loop.weak.index[~known]] == 0).all()


def test_a_step_in_which_nothing_is_known_moves_nothing() -> None:
    loop = Loop()
    loop.weak.valid[:] = False
    loop.step(signal="fit")
    assert (loop.table.weight[STRONG:] == 0.5).all()


def test_a_network_that_couples_samples_in_every_mode_is_refused_and_left_in_its_mode() -> None:
    loop = Loop()
    loop.network[0][1] = nn.BatchNorm2d(1, track_running_stats=False)
    with pytest.raises(SettingsError, match="mixes the samples of a batch"):
        loop.step()
    assert loop.network.training


def resized(batch: Batch, name: str) -> Batch:
    values = {n: getattr(batch, n) for n in ("image", "label", "valid", "index")}
    return Batch(**values | {name: values[name][..., 1:]})


@pytest.mark.parametrize("name", ["image", "label", "valid"])
def test_samples_of_another_size_are_refused(name) -> None:
    loop = Loop()
    with pytest.raises(ShapeError, match=f"strong and weak {name}s must be of one size"):
        loop.step(weak=resized(loop.weak, name))


def test_batches_handed_over_the_wrong_way_round_are_refused() -> None:
    loop = Loop()
    with pytest.raises(ShapeError, match="wrong way round"):
        loop.step(strong=loop.weak, weak=loop.strong)


def test_a_table_that_is_too_short_is_refused() -> None:
    loop = Loop()
    table = WeightTable.start(torch.arange(ALL - 2) < STRONG, initial=0.5)
    with pytest.raises(ShapeError, match=rf"not \[{ALL - 2}, {ALL - 1}\]"):
        loop.step(table=table)
    assert (table.weight[STRONG:] == 0.5).all()
