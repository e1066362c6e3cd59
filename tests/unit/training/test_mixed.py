"""The objective of pairs beside its twin: its value, its gradients, its cost, its meters."""

from __future__ import annotations

import copy
import itertools
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from labelmend.losses import dice_ce, make_loss, make_soft_loss
from labelmend.mixing import mix
from labelmend.networks.build import build_network
from labelmend.training import mixed as module
from labelmend.training.dual import pseudo_label, without_traces
from labelmend.training.mixed import Cut, MixedObjective, Target
from labelmend.training.objective import Objective, Parcel, scales
from labelmend.training.placing import Placed
from labelmend.types import Batch

from . import oracle_mixed
from .oracle_mixed import Rules

PAIRS, CLASSES = 4, 3
SPACES = {1: (12,), 2: (6, 8), 3: (4, 4, 6)}
CUT = Cut(seed=5, classes=CLASSES)
COUNTS = {"strong": 3, "weak": 5}
LOSS = "dice_ce"
MODES = {
    "two apart": {"networks": 2},
    "two, both images": {"networks": 2, "both": True},
    "one on labels": {"networks": 1, "predicted": False},
    "one on predictions": {"networks": 1},
}
WAYS = {
    "plain": {},
    "by position": {"by_position": True},
    "gate": {"gate": 0.6},
    "trust": {"trust": True, "gate": 0.6},
    # Where a mask is full or empty, a network that teaches itself stands on the kink of |p - q|.
    "soft": {"soft": True, "edges": False},
    "averages": {"averages": True},
    "border": {"border": 0.8},
    "by class": {"by_class": True},
    "background": {"background": True},
    "rate": {"rate": 0.3},
    "all but soft": {
        "by_position": True,
        "gate": 0.6,
        "averages": True,
        "border": 0.8,
        "by_class": True,
        "background": True,
        "rate": 0.3,
    },
    "all": {
        "by_position": True,
        "trust": True,
        "gate": 0.6,
        "soft": True,
        "averages": True,
        "border": 0.8,
        "by_class": True,
        "background": True,
        "rate": 0.3,
    },
}
OF_PREDICTIONS = {"gate", "trust", "soft", "averages", "all", "all but soft"}


def parcel(
    pairs=PAIRS, dims=2, seed=0, *, by_class=False, edges=True, kind=torch.float64
) -> Parcel:
    """Among the firsts: an all-background label, and one that is nothing but an object."""
    generator = torch.Generator().manual_seed(seed)
    size, space = 2 * pairs, SPACES[dims]
    image = torch.randn(size, 1, *space, generator=generator, dtype=torch.float64).to(kind)
    label = torch.randint(0, CLASSES, (size, *space), generator=generator)
    valid = torch.rand(size, *space, generator=generator) > 0.2
    if pairs > 2 and edges:
        label[1], label[2], valid[2], valid[pairs] = 0, 2, True, False
    strong = torch.arange(size) % 3 == 0
    shape = (size, CLASSES) if by_class else (size,)
    weight = torch.rand(shape, generator=generator, dtype=torch.float64)
    weight[strong], weight[1] = 1.0, 0.0
    batch = Batch(image, label, valid, torch.arange(size) + 10)
    return Parcel(batch, weight, scales(strong, COUNTS), 7, strong)


def tiny(seed: int, dims: int = 2, *, dropout: float = 0.0) -> nn.Module:
    """Quick, and surer of itself than a network is at first, so that a gate parts positions."""
    if dims != 2:
        network = build_network("unet", dims, 1, CLASSES, width=4, depth=2, seed=seed)
    else:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            layers = [nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.SiLU()]
            network = nn.Sequential(*layers, nn.Dropout(dropout), nn.Conv2d(4, CLASSES, 3, 1, 1))
    with torch.no_grad():
        *_, weight, _ = network.parameters()
        weight *= 6
    return network.double().train()


def named(number: int, dims: int = 2, **more) -> dict[str, nn.Module]:
    return {name: tiny(n, dims, **more) for n, name in enumerate(("main", "auxiliary")[:number])}


def objective(
    rate=1.0, *, both=False, by_class=False, soft=False, averages=None, cut=CUT, loss=LOSS, **target
) -> MixedObjective:
    plain = Objective(make_loss(loss, by_class=by_class))
    soft = make_soft_loss(loss, by_class=by_class) if soft is True else soft or None
    made = MixedObjective(plain, cut, Target(lambda _: rate, soft=soft, **target), both=both)
    return made if averages is None else made.taught_by(averages, nullcontext)


def pair_of(whole: Parcel) -> tuple[Parcel, Parcel]:
    half = len(whole.batch) // 2
    return whole.take(slice(half)), whole.take(slice(half, None))


def put_in_order(whole: Parcel, places: list[int]) -> Parcel:
    order = torch.tensor(places)
    return Parcel(
        whole.batch.take(order),
        whole.weight[order],
        whole.scale[order],
        whole.step,
        whole.strong[order],
    )


def some_pairs(whole: Parcel, places: list[int]) -> Parcel:
    """The parcel of these pairs: their firsts, then their seconds."""
    half = len(whole.batch) // 2
    return put_in_order(whole, places + [half + k for k in places])


def gradients(total: torch.Tensor, network: nn.Module) -> torch.Tensor:
    grads = torch.autograd.grad(
        total, list(network.parameters()), retain_graph=True, materialize_grads=True
    )
    return torch.cat([g.flatten() for g in grads])


class Given:
    """Cuts along masks that are handed in."""

    def __init__(self, mask: torch.Tensor) -> None:
        self.mask = mask

    def masks(self, first: Batch, second: Batch, step: int) -> torch.Tensor:
        return self.mask


# ---------------------------------------------------------------- beside the twin


def compare(networks: int, dims: int = 2, **ways) -> None:
    """Total, gradients of every network, and meters, beside those of the twin."""
    by_class, with_averages = ways.pop("by_class", False), ways.pop("averages", False)
    cut = Cut(5, CLASSES, ways.pop("background", False), ways.pop("border", 0.0))
    edges = ways.pop("edges", True)
    whole, nets = parcel(dims=dims, by_class=by_class, edges=edges), named(networks, dims)
    averages = {n: tiny(7 + k, dims).eval() for k, n in enumerate(nets)} if with_averages else None
    terms = objective(by_class=by_class, averages=averages, cut=cut, **ways)(nets, whole)
    rules = Rules(make_loss(LOSS, by_class=by_class), **ways)
    if rules.soft:
        rules.soft = make_soft_loss(LOSS, by_class=by_class)
    masks = cut.masks(*(part.batch for part in pair_of(whole)), whole.step)
    total, meters = oracle_mixed.objective(
        rules,
        list(nets.values()),
        oracle_mixed.samples_of(whole),
        masks,
        None if averages is None else list(averages.values()),
    )
    near = {"rtol": 1e-10, "atol": 1e-12}
    torch.testing.assert_close(terms.total, total, **near)
    for network in nets.values():
        torch.testing.assert_close(
            gradients(terms.total, network), gradients(total, network), **near
        )
    assert meters.keys() == terms.meters.keys()
    for name, wanted in meters.items():
        torch.testing.assert_close(
            terms.meters[name].double(), torch.tensor(wanted, dtype=torch.float64), **near
        )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", MODES)
def test_it_is_equations_10_to_13_written_out(mode: str, way: str) -> None:
    if "labels" in mode and way in OF_PREDICTIONS:
        return  # there are no pseudo-labels
    compare(**MODES[mode], **WAYS[way])


@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("way", ["plain", "border", "all"])
@pytest.mark.parametrize("mode", MODES)
def test_it_is_equations_10_to_13_in_one_and_three_dimensions(
    mode: str, way: str, dims: int
) -> None:
    if "labels" in mode and way in OF_PREDICTIONS:
        return  # there are no pseudo-labels
    compare(**MODES[mode], **WAYS[way], dims=dims)


def test_the_cases_have_everything_in_them() -> None:
    """A case without a gated position, or without a difference, would compare nothing."""
    whole, nets = parcel(), named(2)
    meters = objective(gate=0.6)(nets, whole).meters
    for name in ("gated", "gain", "disagreement"):
        _, of = meters[name].tolist()
        assert of > 0
    assert 0 < meters["gated"][0] < meters["gated"][1]
    assert 0 < meters["disagreement"][0] < meters["disagreement"][1]
    masks = CUT.masks(*(part.batch for part in pair_of(whole)), whole.step)
    assert 0 < masks[0].sum() < masks[0].numel() and not masks[1].any() and masks[2].all()
    one, other = (objective(by_position=p)(nets, whole).total.item() for p in (False, True))
    assert abs(one - other) > 1e-3


# ---------------------------------------------------------------- laws


@settings(max_examples=20)
@given(cuts=st.sets(st.integers(1, PAIRS - 1)), mode=st.sampled_from(list(MODES)))
def test_pieces_of_whole_pairs_add_up_to_the_batch(cuts: set[int], mode: str) -> None:
    number, rest = MODES[mode]["networks"], MODES[mode].copy()
    del rest["networks"]
    whole, nets, goal = parcel(), named(number), objective(0.7, **rest)
    edges = [0, *sorted(cuts), PAIRS]
    parts = [some_pairs(whole, list(range(a, b))) for a, b in itertools.pairwise(edges)]
    once, many = goal(nets, whole), [goal(nets, part) for part in parts]
    near = {"rtol": 1e-12, "atol": 1e-14}
    torch.testing.assert_close(torch.stack([t.total for t in many]).sum(), once.total, **near)
    for network in nets.values():
        added = torch.stack([gradients(t.total, network) for t in many]).sum(0)
        torch.testing.assert_close(added, gradients(once.total, network), **near)
    for name, figures in once.meters.items():
        added = torch.stack([t.meters[name] for t in many]).sum(0)
        torch.testing.assert_close(added, figures, **near)


@settings(max_examples=20)
@given(order=st.permutations(range(PAIRS)), mode=st.sampled_from(list(MODES)))
def test_the_order_of_the_pairs_changes_nothing(order: list[int], mode: str) -> None:
    number, rest = MODES[mode]["networks"], MODES[mode].copy()
    del rest["networks"]
    whole, nets, goal = parcel(), named(number), objective(0.7, **rest)
    one, other = goal(nets, whole), goal(nets, some_pairs(whole, list(order)))
    torch.testing.assert_close(other.total, one.total, rtol=1e-12, atol=0)
    places = list(order) + [PAIRS + k for k in order]
    torch.testing.assert_close(other.losses, one.losses[places], rtol=1e-12, atol=0)


@settings(max_examples=20)
@given(rate=st.floats(0.01, 5), mode=st.sampled_from(list(MODES)))
def test_the_third_term_grows_as_a_line_with_its_rate(rate: float, mode: str) -> None:
    number, rest = MODES[mode]["networks"], MODES[mode].copy()
    del rest["networks"]
    whole, nets = parcel(), named(number)
    none, one, some = (objective(r, **rest)(nets, whole).total for r in (0.0, 1.0, rate))
    torch.testing.assert_close(some - none, rate * (one - none), rtol=1e-9, atol=1e-11)
    assert one > none


@settings(max_examples=20)
@given(
    seed=st.integers(0, 1000),
    both=st.booleans(),
    number=st.sampled_from([1, 2]),
    by_position=st.booleans(),
)
def test_first_and_second_may_change_places(
    seed: int, both: bool, number: int, by_position: bool
) -> None:
    """The mixed images are the same; where networks see one half each, they change places too."""
    whole, nets = parcel(seed=seed), named(number)
    mask = torch.rand(PAIRS, *SPACES[2], generator=torch.Generator().manual_seed(seed)) < 0.5
    swapped = put_in_order(whole, [*range(PAIRS, 2 * PAIRS), *range(PAIRS)])
    others = nets if both else dict(reversed(nets.items()))
    ways = {"both": both, "by_position": by_position, "gate": 0.5}
    one = objective(cut=Given(mask), **ways)(nets, whole)
    other = objective(cut=Given(~mask), **ways)(others, swapped)
    torch.testing.assert_close(other.total, one.total, rtol=1e-12, atol=0)
    for name, figures in one.meters.items():
        torch.testing.assert_close(other.meters[name], figures, rtol=1e-12, atol=0)
    for network in nets.values():
        torch.testing.assert_close(
            gradients(other.total, network), gradients(one.total, network), rtol=1e-9, atol=1e-12
        )


class Elsewhere:
    """Labels were last found one position further on; nobody looks for them now."""

    def recalled(self, batch: Batch) -> Batch:
        return replace(batch, label=batch.label.roll(1, -1), valid=batch.valid.roll(1, -1))

    def predictor_learns(self, step: int) -> bool:
        return True

    def __call__(self, logits: torch.Tensor, batch: Batch, *rest: object) -> Placed:
        return Placed(batch.label, batch.valid, None, {})


@pytest.mark.parametrize("mode", MODES)
def test_labels_are_cut_and_mixed_where_they_were_last_found(mode: str) -> None:
    ways = {"trust": True, **MODES[mode]}
    ways, number = {n: v for n, v in ways.items() if n != "networks"}, ways["networks"]
    whole, nets = parcel(), named(number)
    placed = objective(**ways)
    placed = replace(placed, plain=replace(placed.plain, place=Elsewhere()))
    moved = replace(whole, batch=Elsewhere().recalled(whole.batch))
    third = placed(nets, whole).total - objective(0.0, **ways)(nets, whole).total
    wanted = objective(**ways)(nets, moved).total - objective(0.0, **ways)(nets, moved).total
    torch.testing.assert_close(third, wanted, rtol=1e-12, atol=1e-14)


def test_a_pair_of_no_weight_teaches_nothing() -> None:
    whole, nets = parcel(), named(2)
    weight = whole.weight.clone()
    weight[[3, PAIRS + 3]] = 0.0
    without = Parcel(whole.batch, weight, whole.scale, whole.step, whole.strong)
    for goal in (objective(), objective(both=True), objective(by_position=True)):
        one = goal(nets, without).total
        other = goal(nets, some_pairs(without, [0, 1, 2])).total
        torch.testing.assert_close(one, other, rtol=1e-12, atol=0)


def test_a_mask_that_is_full_or_empty_leaves_one_of_the_two() -> None:
    whole, nets = parcel(), named(1)
    first, second = pair_of(whole)
    for mask, part in ((torch.ones, first), (torch.zeros, second)):
        cut = Given(mask(PAIRS, *SPACES[2]) > 0)
        totals = [objective(r, cut=cut, predicted=False)(nets, whole).total for r in (1.0, 0.0)]
        losses = dice_ce(nets["main"](part.batch.image), part.batch.label, part.batch.valid)
        weight, scale = (first.weight + second.weight) / 2, (first.scale + second.scale) / 2
        torch.testing.assert_close(
            totals[0] - totals[1], (scale * weight * losses).sum(), rtol=1e-12, atol=1e-14
        )


def test_where_both_have_half_label_and_weight_are_of_the_first() -> None:
    whole, nets = parcel(), named(1)
    first, second = pair_of(whole)
    mask = torch.full((PAIRS, *SPACES[2]), 0.5)
    ways = {"cut": Given(mask), "predicted": False, "by_position": True}
    third = objective(**ways)(nets, whole).total - objective(0.0, **ways)(nets, whole).total
    image = (first.batch.image + second.batch.image) / 2
    losses = dice_ce(nets["main"](image), first.batch.label, first.batch.valid)
    scale = (first.scale + second.scale) / 2
    torch.testing.assert_close(third, (scale * first.weight * losses).sum(), rtol=1e-12, atol=1e-14)


# ---------------------------------------------------------------- without a third term


def test_no_rate_is_the_plain_objective_to_the_bit() -> None:
    whole, nets = parcel(), named(1)
    plain = Objective(dice_ce)(nets, whole)
    for target in ({}, {"predicted": False}, {"by_position": True}):
        terms = objective(0.0, **target)(nets, whole)
        assert torch.equal(terms.total, plain.total) and torch.equal(terms.losses, plain.losses)
        assert torch.equal(
            gradients(terms.total, nets["main"]), gradients(plain.total, nets["main"])
        )
        assert not terms.meters


def test_no_rate_leaves_two_networks_what_each_learns_alone() -> None:
    whole, nets = parcel(), named(2)
    halves = pair_of(whole)
    for both in (False, True):
        terms = objective(0.0, both=both)(nets, whole)
        alone = [
            Objective(dice_ce)({"main": network}, whole if both else halves[place])
            for place, network in enumerate(nets.values())
        ]
        times = 1 if both else 2
        assert torch.equal(terms.total, times * (alone[0].total + alone[1].total))
        for network, own in zip(nets.values(), alone, strict=True):
            assert torch.equal(
                gradients(terms.total, network), times * gradients(own.total, network)
            )
        losses = alone[0].losses if both else torch.cat([own.losses for own in alone])
        assert torch.equal(terms.losses, losses)


def test_the_rate_is_that_of_the_step_the_parcel_says() -> None:
    asked = []

    def rate(step: int) -> float:
        asked.append(step)
        return 0.0

    MixedObjective(Objective(dice_ce), CUT, Target(rate))(named(1), parcel())
    assert asked == [7]


def test_losses_are_of_un_mixed_samples_in_their_order() -> None:
    whole, nets = parcel(), named(2)
    seen = [
        dice_ce(network(whole.batch.image), whole.batch.label, whole.batch.valid)
        for network in nets.values()
    ]
    near = {"rtol": 1e-12, "atol": 1e-14}
    apart = torch.cat([seen[0][:PAIRS], seen[1][PAIRS:]]).detach()
    torch.testing.assert_close(objective()(nets, whole).losses, apart, **near)
    of_main = objective(both=True)(nets, whole).losses
    torch.testing.assert_close(of_main, seen[0].detach(), **near)
    assert not of_main.requires_grad


# ---------------------------------------------------------------- who learns from whom


def attached(logits: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """A loss through whose target a gradient would pass if there were one."""
    apart = (logits.softmax(1) - target).square().mean(1)
    return torch.where(valid, apart, 0).flatten(1).sum(1) / valid[0].numel()


@pytest.mark.parametrize("mode", ["two apart", "two, both images", "one on predictions"])
def test_the_pupil_learns_from_the_third_term_and_the_teacher_does_not(mode: str) -> None:
    number, both = MODES[mode]["networks"], MODES[mode].get("both", False)
    whole, nets = parcel(), named(number)
    first, second = pair_of(whole)
    totals = [objective(r, both=both, soft=attached)(nets, whole).total for r in (1.0, 0.0)]
    third = totals[0] - totals[1]
    mask = CUT.masks(first.batch, second.batch, whole.step)
    image = mix(first.batch.image, second.batch.image, mask)
    factor = 2.0 if number == 2 and not both else 1.0
    scale, weight = (first.scale + second.scale) / 2, (first.weight + second.weight) / 2
    everywhere = torch.ones_like(mask)
    for pupil, teacher in zip(nets.values(), reversed(nets.values()), strict=True):
        with torch.no_grad():
            seen = [teacher(part.batch.image).softmax(1) for part in (first, second)]
            target = without_traces(pseudo_label(*seen, mask))
        alone = (factor * scale * weight * attached(pupil(image), target, everywhere)).sum()
        torch.testing.assert_close(
            gradients(third, pupil), gradients(alone, pupil), rtol=1e-9, atol=1e-12
        )
        assert gradients(alone, pupil).abs().max() > 1e-3


def test_a_teacher_that_sees_itself_in_the_mirror_teaches_no_gradient() -> None:
    """By averages: no parameter of theirs has a gradient, and the pupil's is of itself alone."""
    whole, nets = parcel(), named(2)
    averages = {name: tiny(8 + n).eval() for n, name in enumerate(nets)}
    terms = objective(averages=averages, soft=attached)(nets, whole)
    terms.total.backward()
    assert all(p.grad is None for net in averages.values() for p in net.parameters())
    assert all(p.grad is not None for net in nets.values() for p in net.parameters())


def test_each_of_two_learns_what_the_other_makes_of_it() -> None:
    """Were the teacher the pupil itself, another auxiliary network would not change main's r."""
    whole, nets = parcel(), named(2)
    totals = {}
    for seed in (1, 2):
        pair = {"main": nets["main"], "auxiliary": tiny(seed)}
        third = objective()(pair, whole).total - objective(0.0)(pair, whole).total
        totals[seed] = gradients(third, nets["main"])
    assert (totals[1] - totals[2]).abs().max() > 1e-3


# ---------------------------------------------------------------- what it costs


class Counting(nn.Module):
    """Writes down the images of every call, and whether there will be gradients."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.calls: list[tuple[int, bool]] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.calls.append((len(image), torch.is_grad_enabled()))
        return self.network(image)


N = PAIRS


@pytest.mark.parametrize(
    ("mode", "rate", "with_averages", "calls", "by_averages"),
    [
        ("two apart", 1.0, False, [(N, False), (2 * N, True)], []),
        ("two, both images", 1.0, False, [(3 * N, True)], []),
        ("one on predictions", 1.0, False, [(3 * N, True)], []),
        ("one on labels", 1.0, False, [(3 * N, True)], []),
        ("two apart", 1.0, True, [(2 * N, True)], [(2 * N, False)]),
        ("two, both images", 1.0, True, [(3 * N, True)], [(2 * N, False)]),
        ("one on predictions", 1.0, True, [(3 * N, True)], [(2 * N, False)]),
        ("two apart", 0.0, True, [(N, True)], []),
        ("two, both images", 0.0, True, [(2 * N, True)], []),
        ("one on predictions", 0.0, False, [(2 * N, True)], []),
    ],
)
def test_no_image_passes_more_often_than_the_equations_ask(
    mode: str, rate: float, with_averages: bool, calls: list, by_averages: list
) -> None:
    ways = MODES[mode].copy()
    nets = {name: Counting(net) for name, net in named(ways.pop("networks")).items()}
    averages = {name: Counting(tiny(9)) for name in nets} if with_averages else None
    objective(rate, averages=averages, **ways)(nets, parcel())
    for network in nets.values():
        assert network.calls == calls
    for network in (averages or {}).values():
        assert network.calls == by_averages


def test_the_same_pass_gives_the_pseudo_label_and_the_loss() -> None:
    """With dropout another pass would see another network."""
    whole, nets = parcel(), named(1, dropout=0.5)
    seen = []

    class Seen(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            seen.append(self.network(image))
            return seen[-1]

    targets = []

    def soft(logits: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        targets.append(target)
        return attached(logits, target, valid)

    objective(soft=soft)({"main": Seen(nets["main"])}, whole)
    first, second = pair_of(whole)
    mask = CUT.masks(first.batch, second.batch, whole.step)
    probabilities = seen[0][: 2 * PAIRS].detach().softmax(1)
    wanted = without_traces(mix(probabilities[:PAIRS], probabilities[PAIRS:], mask))
    torch.testing.assert_close(targets[0], wanted, rtol=0, atol=1e-12)


# ---------------------------------------------------------------- networks with a memory or chance


@pytest.mark.parametrize("mode", MODES)
def test_dropout_breaks_nothing(mode: str) -> None:
    ways = MODES[mode].copy()
    nets = named(ways.pop("networks"), dropout=0.5)
    for target in ({}, {"by_position": True}):
        terms = objective(**ways, **target)(nets, parcel())
        terms.total.backward()
        assert torch.isfinite(terms.total) and torch.isfinite(terms.losses).all()
        for network in nets.values():
            assert network.training
            assert all(torch.isfinite(p.grad).all() for p in network.parameters())
            network.zero_grad()


def with_statistics(seed: int) -> nn.Module:
    network = tiny(seed)
    network[1] = nn.BatchNorm2d(4).double()
    return network.train()


def test_averages_predict_as_in_use_and_stay_as_they_are() -> None:
    whole, nets = parcel(), {"main": with_statistics(0), "auxiliary": with_statistics(1)}
    averages = {name: copy.deepcopy(net).eval() for name, net in nets.items()}
    before = {n: copy.deepcopy(net.state_dict()) for n, net in averages.items()}
    terms = objective(averages=averages)(nets, whole)
    terms.total.backward()
    for name, network in averages.items():
        assert not network.training
        assert all(torch.equal(v, before[name][k]) for k, v in network.state_dict().items())
    # The networks themselves go on learning statistics, from the one pass they make.
    assert [net[1].num_batches_tracked.item() for net in nets.values()] == [1, 1]
    seen = [
        torch.cat([net(part.batch.image) for part in pair_of(whole)]) for net in averages.values()
    ]
    differing = (seen[0].argmax(1) != seen[1].argmax(1)).sum()
    assert terms.meters["disagreement"][0] == differing


def test_the_number_type_is_handed_on_to_averages_alone() -> None:
    inside = []

    class Noting(nn.Module):
        def __init__(self, network: nn.Module, name: str) -> None:
            super().__init__()
            self.network, self.name = network, name

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            inside.append((self.name, open_now[0]))
            return self.network(image)

    open_now = [False]

    @contextmanager
    def precision():
        open_now[0] = True
        yield
        open_now[0] = False

    nets = {name: Noting(net, "network") for name, net in named(2).items()}
    averages = {name: Noting(tiny(9), "average") for name in nets}
    goal = objective()
    taught = goal.taught_by(averages, precision)
    assert not goal.averages and taught.cut is goal.cut and taught.target is goal.target
    taught(nets, parcel())
    assert set(inside) == {("network", False), ("average", True)}


def test_float32_and_half_logits_are_fine() -> None:
    whole = parcel(kind=torch.float32)
    nets = {name: net.float() for name, net in named(2).items()}
    exact = objective()(named(2), parcel()).total.item()
    assert objective()(nets, whole).total.item() == pytest.approx(exact, rel=1e-4)

    class Halved(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.network(image).bfloat16()

    halved = {name: Halved(net) for name, net in nets.items()}
    for ways in ({}, {"soft": True}, {"by_position": True, "gate": 0.3}):
        total = objective(**ways)(halved, whole).total
        assert total.item() == pytest.approx(objective(**ways)(nets, whole).total.item(), rel=0.05)


# ---------------------------------------------------------------- meters, by hand


def constant(logits: list[list[float]]) -> nn.Module:
    """A network that says the same of every image: classes by positions."""

    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logits = nn.Parameter(torch.tensor(logits, dtype=torch.float64))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.logits.expand(len(image), -1, -1)

    return Constant()


def test_meters_are_what_one_counts_by_hand() -> None:
    low, high = 0.0, 9.0
    # main sees 1 1 0 0 and is unsure of the last position, auxiliary sees 0 1 1 0
    nets = {
        "main": constant([[low, low, high, 0.1], [high, high, low, low]]),
        "auxiliary": constant([[high, low, low, high], [low, high, high, low]]),
    }
    label = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 1]])  # of one pair
    valid = torch.tensor([[True, True, True, True], [True, True, False, True]])
    batch = Batch(torch.zeros(2, 1, 4).double(), label, valid, torch.tensor([0, 1]))
    ones = torch.ones(2, dtype=torch.float64)
    for strong, gained in (
        # differing: positions 0 and 2; of the first sample: label 1 at 0, so main is right there
        ([True, False], [[1 - 1, 1 + 1]]),
        ([True, True], [[0, 2]]),
        ([False, False], [[0, 0]]),
        ([False, True], [[0, 0]]),
    ):
        whole = Parcel(batch, ones, ones, 0, torch.tensor(strong))
        goal = objective(gate=0.9, cut=Given(torch.tensor([[True, True, False, False]])))
        meters = goal(nets, whole).meters
        # two networks, four positions each; only main's pseudo-label has an unsure one
        assert meters["gated"].tolist() == [1, 8]
        # both samples: positions 0 and 2 differ; 0, 1 and 2 are of an object to either
        assert meters["disagreement"].tolist() == [4, 6]
        assert [meters["gain"].tolist()] == gained
        assert meters["mixed_loss"][1] == 2


def test_the_gain_is_the_teachers_where_it_alone_is_right() -> None:
    sure = [[0.0, 0.0, 9.0, 9.0], [9.0, 9.0, 0.0, 0.0]]
    wrong = [[9.0, 0.0, 9.0, 9.0], [0.0, 9.0, 0.0, 0.0]]
    label = torch.tensor([[1, 1, 0, 0]] * 2)
    batch = Batch(torch.zeros(2, 1, 4).double(), label, label < 9, torch.tensor([0, 1]))
    ones = torch.ones(2, dtype=torch.float64)
    whole = Parcel(batch, ones, ones, 0, ones > 0)
    averages = {"main": constant(sure)}
    for pupil, gained in ((wrong, [1, 1]), (sure, [0, 0])):
        goal = objective(averages=averages)
        assert goal({"main": constant(pupil)}, whole).meters["gain"].tolist() == gained
    averages = {"main": constant(wrong)}
    terms = objective(averages=averages)({"main": constant(sure)}, whole)
    assert terms.meters["gain"].tolist() == [-1, 1]


def test_labels_have_no_meters_of_predictions() -> None:
    terms = objective(predicted=False)(named(1), parcel())
    assert set(terms.meters) == {"mixed_loss"}
    # Settings refuse two networks on labels; who makes such an objective meters no predictions.
    terms = objective(predicted=False)(named(2), parcel())
    assert set(terms.meters) == {"mixed_loss"}
    objective(predicted=False)(named(2), parcel(pairs=1))


# ---------------------------------------------------------------- how images are cut


def test_masks_are_of_one_class_that_is_there() -> None:
    first, second = (part.batch for part in pair_of(parcel()))
    for step in range(20):
        masks = CUT.masks(first, second, step)
        assert masks.dtype == torch.bool and masks.shape == first.label.shape
        for mask, label, valid in zip(masks, first.label, first.valid, strict=True):
            classes = [c for c in (1, 2) if torch.equal(mask, valid & (label == c))]
            assert classes if (valid & (label > 0)).any() else not mask.any()


@given(cuts=st.sets(st.integers(1, PAIRS - 1)), step=st.integers(0, 10**6))
def test_masks_are_the_same_however_a_batch_is_divided(cuts: set[int], step: int) -> None:
    first, second = (part.batch for part in pair_of(parcel()))
    whole = CUT.masks(first, second, step)
    edges = [0, *sorted(cuts), PAIRS]
    parts = [
        CUT.masks(first.take(slice(a, b)), second.take(slice(a, b)), step)
        for a, b in itertools.pairwise(edges)
    ]
    assert torch.equal(torch.cat(parts), whole)


def classes_cut(cut: Cut, first: Batch, second: Batch, steps: range) -> list[int]:
    """Of the first pair, the class that every step cuts out."""
    return [int(first.label[0][cut.masks(first, second, step)[0]][0]) for step in steps]


def test_steps_seeds_and_samples_each_draw_anew() -> None:
    first, second = (part.batch for part in pair_of(parcel()))
    drawn = classes_cut(CUT, first, second, range(60))
    assert drawn == classes_cut(Cut(5, CLASSES), first, second, range(60))
    assert 15 < drawn.count(1) < 45  # of two classes, 60 fair draws
    assert drawn != classes_cut(Cut(6, CLASSES), first, second, range(60))
    other = Batch(second.image, second.label, second.valid, second.index + 1)
    assert drawn != classes_cut(CUT, first, other, range(60))
    other = Batch(first.image, first.label, first.valid, first.index + 1)
    assert drawn != classes_cut(CUT, other, second, range(60))
    with_background = classes_cut(Cut(5, CLASSES, background=True), first, second, range(60))
    assert set(with_background) == {0, 1, 2}


def test_a_softened_border_is_a_share() -> None:
    first, second = (part.batch for part in pair_of(parcel()))
    masks = Cut(5, CLASSES, border=1.0).masks(first, second, 3)
    assert masks.is_floating_point() and ((masks > 0) & (masks < 1)).any()
    sharp = CUT.masks(first, second, 3)
    assert torch.equal(masks[1], sharp[1].float()) and torch.equal(masks[2], sharp[2].float())


@pytest.mark.parametrize("number", [0.0, 0.5, 1 - 2**-24])
def test_every_number_that_can_come_draws(monkeypatch: pytest.MonkeyPatch, number: float) -> None:
    monkeypatch.setattr(module, "uniform_of", lambda *_: number)
    first, second = (part.batch for part in pair_of(parcel()))
    assert classes_cut(CUT, first, second, range(1)) == [1 if number < 0.5 else 2]


@given(st.lists(st.integers(0, 2**63), min_size=4, max_size=4))
def test_no_number_that_comes_is_rounded_up_to_1(seed: list[int]) -> None:
    number = module.uniform_of(*seed)
    assert 0 <= number < 1 and (number * 2**24).is_integer()  # exact in float32
    assert number != module.uniform_of(*seed[:3], seed[3] + 1)
