from __future__ import annotations

import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from labelmend.losses import dice_ce
from labelmend.training.objective import Objective, Parcel, scales
from labelmend.training.places import PlaceTable
from labelmend.training.placing import Placing
from labelmend.types import Alignment, Batch


def batch(size: int = 5, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(size, 1, 8, 8, generator=generator, dtype=torch.float64)
    label = torch.randint(0, 2, (size, 8, 8), generator=generator)
    valid = torch.rand(size, 8, 8, generator=generator) > 0.2
    return Batch(image, label, valid, torch.arange(size))


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Conv2d(1, 2, 3, padding=1).double()


def part(whole: Batch, places: list[int]) -> Batch:
    return Batch(whole.image[places], whole.label[places], whole.valid[places], whole.index[places])


def gradient(net: nn.Module, parcels: list[Parcel]) -> torch.Tensor:
    net.zero_grad()
    for parcel in parcels:
        Objective(dice_ce)({"main": net}, parcel).total.backward()
    return torch.cat([p.grad.flatten() for p in net.parameters()])


STRONG = torch.tensor([True, False, True, False, False])
COUNTS = {"strong": 2, "weak": 3}
WEIGHT = torch.tensor([1.0, 0.5, 1.0, 0.0, 0.25], dtype=torch.float64)


def test_it_is_equation_2_written_out() -> None:
    whole, net = batch(), network()
    losses = dice_ce(net(whole.image), whole.label, whole.valid)
    expected = (losses[0] + losses[2]) / 2
    expected = expected + (0.5 * losses[1] + 0.0 * losses[3] + 0.25 * losses[4]) / 3
    parcel = Parcel(whole, WEIGHT, scales(STRONG, COUNTS), 0, STRONG)
    terms = Objective(dice_ce)({"main": net}, parcel)
    torch.testing.assert_close(terms.total, expected, rtol=1e-14, atol=0)
    torch.testing.assert_close(terms.losses, losses.detach(), rtol=0, atol=0)


@given(cuts=st.sets(st.integers(1, 4)))
def test_parts_of_a_batch_add_up_to_it(cuts: set[int]) -> None:
    whole, net = batch(), network()
    borders = [0, *sorted(cuts), 5]
    places = [list(range(a, b)) for a, b in itertools.pairwise(borders)]
    scale = scales(STRONG, COUNTS)
    parts = [Parcel(part(whole, p), WEIGHT[p], scale[p], 0, STRONG[p]) for p in places]
    once = gradient(net, [Parcel(whole, WEIGHT, scale, 0, STRONG)])
    torch.testing.assert_close(gradient(net, parts), once, rtol=1e-12, atol=1e-14)


def test_weight_0_is_a_sample_removed() -> None:
    whole, net = batch(), network()
    scale = scales(STRONG, COUNTS)
    kept = [0, 1, 2, 4]
    with_it = gradient(net, [Parcel(whole, WEIGHT, scale, 0, STRONG)])
    without = gradient(net, [Parcel(part(whole, kept), WEIGHT[kept], scale[kept], 0, STRONG[kept])])
    torch.testing.assert_close(with_it, without, rtol=1e-12, atol=1e-15)


def test_weight_2_is_a_sample_twice() -> None:
    whole, net = batch(), network()
    scale = scales(STRONG, COUNTS)
    doubled = WEIGHT.clone()
    doubled[1] *= 2
    twice = [0, 1, 1, 2, 3, 4]
    one = gradient(net, [Parcel(whole, doubled, scale, 0, STRONG)])
    two = gradient(net, [Parcel(part(whole, twice), WEIGHT[twice], scale[twice], 0, STRONG[twice])])
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-15)


def test_permuting_the_batch_changes_nothing_but_the_order() -> None:
    whole, net = batch(), network()
    scale, order = scales(STRONG, COUNTS), [3, 1, 4, 0, 2]
    straight = Objective(dice_ce)({"main": net}, Parcel(whole, WEIGHT, scale, 0, STRONG))
    shuffled = Parcel(part(whole, order), WEIGHT[order], scale[order], 0, STRONG[order])
    other = Objective(dice_ce)({"main": net}, shuffled)
    torch.testing.assert_close(straight.losses[order], other.losses, rtol=1e-13, atol=0)
    torch.testing.assert_close(straight.total, other.total, rtol=1e-13, atol=0)


def test_drawing_from_all_alike_averages_over_all_alike() -> None:
    torch.testing.assert_close(
        scales(STRONG, {"all": 5}), torch.full((5,), 0.2, dtype=torch.float64)
    )


def test_labels_are_judged_where_they_were_put() -> None:
    whole, net = batch(), network()

    def flipped(prediction, label, valid) -> Alignment:
        assert not prediction.requires_grad
        return Alignment(
            label.flip(-1), valid.flip(-1), torch.zeros(len(label), 2), torch.ones(len(label))
        )

    places = PlaceTable.fresh(len(whole), 2, 0.5)
    place = Placing(flipped, places, ~STRONG, start=3, centred=False)
    objective = Objective(dice_ce, place)
    at = {step: Parcel(whole, WEIGHT, scales(STRONG, COUNTS), step, STRONG) for step in (2, 3)}
    params = dict(net.named_parameters())
    still = dice_ce(net(whole.image), whole.label, whole.valid)
    moved = dice_ce(net(whole.image), whole.label.flip(-1), whole.valid.flip(-1))
    wanted = torch.where(STRONG, still, moved).detach()
    torch.testing.assert_close(objective({"main": net}, at[2]).losses, still.detach())
    terms = objective({"main": net}, at[3])
    torch.testing.assert_close(terms.losses, wanted)
    assert terms.found.index.tolist() == (~STRONG).nonzero().flatten().tolist()
    judged = objective.judged_of(net, whole, dice_ce)(params)
    torch.testing.assert_close(judged, torch.cat([wanted, wanted]))
    # What is trusted never moves, so it needs no prediction to know where it is.
    torch.testing.assert_close(objective.losses_of(net, whole)(params), still)
