"""Two networks judge the same labels: what they find is averaged, and nothing else is shared."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import nn

from labelmend.data.dataset import Item
from labelmend.data.plan import Plan
from labelmend.errors import NonFiniteError, Stopped
from labelmend.losses import make_loss
from labelmend.training.bend import Bend
from labelmend.training.judge import Case, Judge, Search
from labelmend.training.objective import Objective
from labelmend.training.processes import Processes
from labelmend.training.reweigh import Reweigher, Score, Weighing, _rank_correlation
from labelmend.training.turns import Turns
from labelmend.weighting.direction import FadingMean
from labelmend.weighting.evidence import evidence
from labelmend.weighting.fit import disagreement, disagreement_by_class
from labelmend.weighting.rules import plain
from labelmend.weighting.weights import WeightTable

STRONG, WEAK = 5, 9
ALL = STRONG + WEAK
RATE = 0.1


class Samples:
    """Noisy squares, every fourth weak label elsewhere; sample 7 has one bright position."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.label = torch.zeros(ALL, 8, 8, dtype=torch.int64)
        for place in range(ALL):
            self.label[place, place % 4 : place % 4 + 4, 2:6] = 1
        self.image = self.label[:, None] + 0.3 * torch.randn(ALL, 1, 8, 8, generator=generator)
        self.label[STRONG::4] = self.label[STRONG::4].roll(4, 1)
        self.image[7, 0, 0, 0] = 9.0
        self.valid = torch.ones(ALL, 8, 8, dtype=torch.bool)
        self.loaded: list[int] = []

    def __getitem__(self, draw) -> Item:
        assert not draw.augment
        self.loaded.append(draw.index)
        one = self.image[draw.index], self.label[draw.index], self.valid[draw.index]
        return Item(*one, draw.index)

    def name(self, index: int) -> str:
        return f"sample {index}"


class Net(nn.Module):
    """Two layers and dropout; images with a bright position come out ``bright`` times larger."""

    def __init__(self, seed: int, bright: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Conv2d(1, 3, 3, padding=1)
        self.dropout = nn.Dropout(0.5)
        self.last = nn.Conv2d(3, 2, 1)
        self.bright = bright

    def forward(self, image):
        logits = self.last(self.dropout(self.first(image).tanh()))
        scale = torch.where(image.flatten(1).amax(1) > 5, self.bright, 1.0)
        return logits * scale.reshape(-1, 1, 1, 1)


def case(by_class: bool = False, alike: bool = False) -> Case:
    return Case(
        Objective(make_loss("dice_ce", by_class=by_class)),
        Samples(),
        strong=Plan(tuple(range(STRONG)), (), 4, 1.0, seed=1),
        weak=Turns(tuple(range(STRONG, ALL)), 6, seed=2),
        chunk=4,
        fit=disagreement_by_class if by_class else disagreement,
        by_class=by_class,
        processes=Processes(SimpleNamespace(global_rank=0, world_size=1)),
        move=lambda batch: batch,
        alike=alike,
    )


class Step:
    """A table, judges over named networks, an optimiser over all of their parameters."""

    def __init__(self, networks: dict[str, nn.Module], **options) -> None:
        self.networks = {name: network.train() for name, network in networks.items()}
        signal = options.pop("signal", "both")
        by_class = options.pop("by_class", False)
        self.case = case(by_class, signal == "alike")
        judges = tuple(
            Judge(name, network, search(signal, **options), self.case)
            for name, network in networks.items()
        )
        self.reweigher = Reweigher(judges, Score(evidence(signal), plain, RATE))
        strong = torch.arange(ALL) < STRONG
        self.table = WeightTable.start(strong, 0.5, classes=2 if by_class else None)
        parameters = [p for network in networks.values() for p in network.parameters()]
        self.optimiser = torch.optim.Adam(parameters)
        for parameter in parameters:
            parameter.grad = parameter.detach().clone()
        self.optimiser.step()

    def __call__(self, number: int = 0, check=lambda: None) -> Weighing:
        return self.reweigher(self.table, number, 10 * number, self.optimiser, check)

    @property
    def moved(self) -> torch.Tensor:
        return (self.table.weight[STRONG:] - 0.5) / RATE


def search(signal: str, mode="exact", curvature="gauss_newton", average=0.0) -> Search | None:
    if signal in ("fit", "loss"):
        return None
    return Search(mode, Bend(curvature), ("last.weight", "last.bias"), FadingMean(average))


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


WAYS = {
    "exact": {},
    "central": {"mode": "central"},
    "cosine": {"mode": "cosine", "curvature": "identity"},
    "adam": {"curvature": "adam"},
    "class": {"by_class": True},
    "average": {"average": 0.5},
    "alike": {"signal": "alike"},
    "fit": {"signal": "fit"},
    "loss by class": {"signal": "loss", "by_class": True},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_weight_moves_by_the_mean_of_both_judges_evidence(way) -> None:
    both = Step({"main": Net(1), "auxiliary": Net(2)}, **WAYS[way])
    main, other = Step({"main": Net(1)}, **WAYS[way]), Step({"auxiliary": Net(2)}, **WAYS[way])
    together, alone, _ = both(), main(), other()
    assert torch.allclose(both.moved, (main.moved + other.moved) / 2, rtol=0, atol=1e-12)
    assert both.moved.abs().max() <= 1
    assert not torch.allclose(main.moved, other.moved)
    judged = both.table.updated == 0
    rank = spearmanr(*(step.table.weight[judged].flatten() for step in (main, other))).statistic
    assert together.figures["judges_agree"] == pytest.approx(rank)
    # Figures and what the table notes are of the main judge; the weights are not.
    for name in alone.figures.keys() & {"mean_similarity", "agreement"}:
        assert together.figures[name] == alone.figures[name]
    assert together.figures.keys() - alone.figures.keys() == {"judges_agree"}
    for name in ("similarity", "loss"):
        one, noted = getattr(main.table, name), getattr(both.table, name)
        assert torch.equal(one.nan_to_num(-9), noted.nan_to_num(-9))
    assert all(network.training for network in both.networks.values())


@pytest.mark.parametrize("way", WAYS)
def test_two_equal_networks_find_what_one_finds(way) -> None:
    one = Step({"main": Net(1)}, **WAYS[way])
    two = Step({"main": Net(1), "auxiliary": Net(1)}, **WAYS[way])
    for number in range(3):
        alone, together = one(number), two(number)
        assert torch.equal(one.table.weight, two.table.weight)
        assert together.figures.pop("judges_agree") == pytest.approx(1)
        assert together == alone


def test_the_order_of_judges_decides_whose_figures_are_shown_and_no_more() -> None:
    networks = {"main": 1, "auxiliary": 2}
    one = Step({name: Net(seed) for name, seed in networks.items()})
    other = Step({name: Net(seed) for name, seed in reversed(networks.items())})
    shown, swapped = one().figures, other().figures
    assert torch.equal(one.table.weight, other.table.weight)
    assert shown["judges_agree"] == pytest.approx(swapped["judges_agree"])
    assert shown["mean_weight"] == swapped["mean_weight"]
    assert shown["mean_similarity"] != swapped["mean_similarity"]
    assert not torch.equal(one.table.loss[STRONG:], other.table.loss[STRONG:])


# ------------------------------------------------------------------ what says nothing


@pytest.mark.parametrize("way", WAYS)
def test_a_label_of_which_nothing_is_known_stays_as_it_is(way) -> None:
    unknown = (STRONG + 1, STRONG + 4)
    step = Step({"main": Net(1)}, **WAYS[way])
    step.case.samples.valid[list(unknown)] = False
    for number in range(3):
        step(number)
    for place in unknown:
        assert (step.table.weight[place] == 0.5).all() and step.table.looks[place] == 0
    others = [p for p in range(STRONG, ALL) if p not in unknown]
    assert (step.table.looks[others] > 0).all()
    assert (step.table.weight[others] != 0.5).any()


@pytest.mark.parametrize("way", ["exact", "class", "fit", "loss by class"])
def test_a_step_in_which_nothing_is_known_is_a_step(way) -> None:
    step = Step({"main": Net(1), "auxiliary": Net(2)}, **WAYS[way])
    step.case.samples.valid[STRONG:] = False
    figures = step().figures
    assert not step.moved.any() and step.table.rounds == 1
    assert all(math.isfinite(figure) for figure in figures.values())


# ------------------------------------------------------------------ what is remembered


def averaging() -> Step:
    return Step({"main": Net(1), "auxiliary": Net(2)}, average=0.7)


def test_two_judges_go_on_from_a_checkpoint_to_the_bit() -> None:
    whole, begun, resumed = averaging(), averaging(), averaging()
    for number in range(4):
        whole(number)
    assert begun.reweigher.state() == {}
    for number in range(2):
        begun(number)
    resumed.reweigher.restore(begun.reweigher.state())
    resumed.table.restore(begun.table.state())
    for number in range(2, 4):
        resumed(number)
    assert torch.equal(resumed.table.weight, whole.table.weight)
    assert same(resumed.reweigher.state(), whole.reweigher.state())
    forgetful = averaging()
    forgetful.table.restore(begun.table.state())
    forgetful(2)
    resumed.reweigher.restore({})
    assert resumed.reweigher.state() == {}
    assert not torch.equal(forgetful.table.weight, whole.table.weight)


def test_the_main_judges_average_has_the_names_it_has_alone() -> None:
    both, main, other = averaging(), *(Step({"net": Net(n)}, average=0.7) for n in (1, 2))
    for step in (both, main, other):
        step()
    alone, state = main.reweigher.state(), both.reweigher.state()
    assert alone.keys() == {"mean/last.weight", "mean/last.bias", "share"}
    prefixed = {f"auxiliary/{key}": value for key, value in other.reweigher.state().items()}
    assert same(state, alone | prefixed)


def counting(stop_at: int | None) -> tuple[list[int], object]:
    calls: list[int] = []

    def check() -> None:
        calls.append(len(calls))
        if len(calls) == stop_at:
            raise Stopped("enough", 1)

    return calls, check


def test_given_up_anywhere_table_and_both_averages_are_as_before() -> None:
    calls, check = counting(None)
    averaging()(0, check)
    assert len(calls) > 10
    step = averaging()
    step(0)
    table, state = step.table.state(), step.reweigher.state()
    for stop_at in range(1, len(calls) + 1):
        with pytest.raises(Stopped):
            step(1, counting(stop_at)[1])
        assert torch.equal(step.table.weight, table["weight"])
        assert same(step.reweigher.state(), state)
    step(1)
    assert not same(step.reweigher.state(), state)


# ------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("signal", ["both", "fit"])
@pytest.mark.parametrize("bad", ["main", "auxiliary"])
def test_a_bad_number_of_either_judge_moves_nothing_and_names_the_sample(
    bad, signal, value
) -> None:
    networks = {name: Net(n) for n, name in enumerate(("main", "auxiliary"))}
    # A curvature takes in weak samples too, and would be the first to complain.
    options = {} if signal == "fit" else {"curvature": "identity", "average": 0.5}
    step = Step(networks, signal=signal, **options)
    first, *rest = (n for n in range(5) if 7 in places(step, n))
    step(first)
    table, state = step.table.state(), step.reweigher.state()
    networks[bad].bright = value
    with pytest.raises(NonFiniteError, match=rf"step at step {10 * rest[0]} .*: sample 7;"):
        step(rest[0])
    for name, before in table.items():
        assert torch.equal(step.table.state()[name].nan_to_num(-9), before.nan_to_num(-9)), name
    assert same(step.reweigher.state(), state)
    assert all(network.training for network in networks.values())


def places(step: Step, number: int) -> list[int]:
    return [draw.index for draw in step.case.weak.draws(number)]


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, slope):
        return slope * 2


class NoRule(Net):
    """A network with an operation that forward mode cannot pass."""

    def forward(self, image):
        return Doubled.apply(super().forward(image))


def test_what_both_judges_say_is_said_once() -> None:
    alone = Step({"main": NoRule(1)}, curvature="identity")().notes
    assert len(alone) == 1
    assert "forward-mode" in alone[0]
    assert Step({"main": Net(1), "other": NoRule(2)}, curvature="identity")().notes == alone
    assert Step({"main": NoRule(1), "other": NoRule(2)}, curvature="identity")().notes == alone


# ------------------------------------------------------------------ how far judges agree

values = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=12)


@given(values)
def test_agreement_of_judges_is_spearmans_with_ties(pairs) -> None:
    one, other = (torch.tensor(side, dtype=torch.float64) for side in zip(*pairs, strict=True))
    found = _rank_correlation(one, other)
    if len(one.unique()) == 1 or len(other.unique()) == 1:
        assert found == 0
    else:
        assert found == pytest.approx(spearmanr(one, other).statistic, abs=1e-12)
    assert _rank_correlation(other, one) == pytest.approx(found)


def test_one_label_has_no_order() -> None:
    assert _rank_correlation(torch.ones(1), torch.zeros(1)) == 0
