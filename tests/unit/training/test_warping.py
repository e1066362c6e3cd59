"""Two networks in turn: each learns as if the other were frozen, and what is told of both."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from labelmend.alignment.aligner import ShiftAligner
from labelmend.alignment.fields import warp_field
from labelmend.alignment.warp import WarpAligner
from labelmend.losses import dice_ce
from labelmend.training.mixed import Cut, MixedObjective, Target
from labelmend.training.objective import Objective, Parcel, scales
from labelmend.training.places import PlaceTable
from labelmend.training.placing import Placing
from labelmend.training.warping import MOST, TURNS, WARP, WINDOW, ExplainedAway, Turn, Warping
from labelmend.types import Batch

from ..alignment import oracle_warp as oracle
from ..alignment.warp_scenes import Says, bent_scene, field_network, stirred

SIZE = 6
STRONG = torch.tensor([True, False, False, True, False, False])
WEIGHT = torch.tensor([1.0, 0.5, 0.0, 1.0, 0.25, 1.0], dtype=torch.float64)
SCALE = scales(STRONG, {"strong": 2, "weak": 4})


def whole(seed: int = 0) -> Batch:
    """Images that show the truth, strong labels that are it, weak ones that are bent."""
    scene = bent_scene((24, 24), SIZE, seed)
    over = STRONG.view(-1, 1, 1)
    generator = torch.Generator().manual_seed(seed)
    image = 2.0 * scene.truth.unsqueeze(1) + torch.randn(SIZE, 1, 24, 24, generator=generator)
    label = torch.where(over, scene.truth, scene.label)
    return Batch(image.double(), label, scene.valid | over, torch.arange(SIZE))


def parcel(step: int, batch: Batch | None = None) -> Parcel:
    batch = whole() if batch is None else batch
    return Parcel(batch, WEIGHT, SCALE, step, STRONG)


def predictor(seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    net = nn.Conv2d(1, 2, 3, padding=1).double()
    with torch.no_grad():  # one that has learned something
        net.weight[:, :, 1, 1] += torch.tensor([[-2.0], [2.0]])
    return net


def bender(seed: int = 0) -> nn.Module:
    return stirred(field_network(2, seed=seed), 0.1).double()


def placing(network: nn.Module, turns: str = "together", start: int = 0, **more) -> Placing:
    options = {"first": ShiftAligner(window=2), "grid": 2, "margin": 0.0, **more}
    aligner = WarpAligner(network, **options)
    table = PlaceTable.fresh(SIZE, 2, keep=0.0)
    warping = Warping(aligner, start, turns, epoch=3)
    return Placing(aligner.first, table, ~STRONG, 0, centred=False, warping=warping)


def gradients(*networks: nn.Module) -> list[torch.Tensor | None]:
    return [p.grad for network in networks for p in network.parameters()]


def descend(goal, networks, at: Parcel):
    for network in networks.values():
        network.zero_grad()
    terms = goal(networks, at)
    terms.total.backward()
    return terms


# ---------------------------------------------------------------- whose turn it is


@pytest.mark.parametrize(
    ("turns", "expected"),
    [("together", "bbbbbbbbb"), ("step", "pwpwpwpwp"), ("epoch", "pppwwwppp")],
)
def test_who_learns_when(turns, expected) -> None:
    warping = placing(bender(), turns, start=4).warping
    names = {Turn(True, False): "p", Turn(False, True): "w", Turn(True, True): "b"}
    said = "".join(names[warping.turn(step)] for step in range(13))
    assert said == "pppp" + expected
    assert turns in TURNS


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("mixed", [False, True])
def test_gradients_reach_those_whose_turn_it_is_and_nobody_else(turns, mixed) -> None:
    main, other, warp = predictor(), predictor(2), bender()
    place = placing(warp, turns, start=2)
    goal = Objective(dice_ce, place)
    networks = {"main": main, WARP: warp}
    if mixed:
        goal = MixedObjective(goal, Cut(0, 2), Target(lambda step: 1.0))
        networks = {"main": main, "auxiliary": other, WARP: warp}
    for step in range(10):
        terms = descend(goal, networks, parcel(step))
        turn = place.warping.turn(step)
        for name, network in networks.items():
            learns = turn.warp if name == WARP else turn.predictor
            some = [g for g in gradients(network) if g is not None]
            assert any(g.any() for g in some) == bool(some) == learns, (step, name)
        assert ("removed" in terms.meters) == (step >= 2)


def test_before_the_start_nothing_is_bent() -> None:
    warp, at = bender(), whole()
    place = placing(warp, start=5)
    logits = predictor()(at.image).detach()
    searched = replace(place, warping=None)
    for step in (0, 4):
        early, plain = place(logits, at, step, warp), searched(logits, at, step)
        assert torch.equal(early.label, plain.label) and torch.equal(early.valid, plain.valid)
        assert early.cost is None and early.carry is None and "bent" not in early.meters
    late = place(logits, at, 5, warp)
    assert late.cost is not None and not torch.equal(late.label, early.label)
    # Who asks outside of the steps, sees labels as they are bent, but teaches nobody.
    judged = place(logits, at)
    assert judged.cost is None and torch.equal(judged.label, late.label)


# ---------------------------------------------------------------- as if the other were frozen


@pytest.mark.parametrize("moves", ["label", "prediction"])
@pytest.mark.parametrize("turns", TURNS)
def test_the_predictor_learns_as_from_labels_moved_by_a_frozen_copy(moves, turns) -> None:
    main, warp = predictor(), bender()
    descend(Objective(dice_ce, placing(warp, turns, moves=moves)), {"main": main, WARP: warp},
            parcel(0))  # fmt: skip
    twin, frozen = copy.deepcopy(main), copy.deepcopy(warp).requires_grad_(False)
    twin.zero_grad()
    at = whole()
    logits = twin(at.image)
    with torch.no_grad():
        aligner = WarpAligner(frozen, ShiftAligner(window=2), grid=2, margin=0.0, moves=moves)
        found = aligner(logits, at.label, at.valid)
    over = STRONG.view(-1, 1, 1)
    label = torch.where(over, at.label, found.label)
    valid = torch.where(over, at.valid, found.valid)
    if moves == "prediction":
        assert found.carry[~STRONG].any()
        carry = torch.where(over.unsqueeze(1), 0, found.carry)
        logits, known = warp_field(logits, torch.ones_like(valid), carry, mode="linear")
        valid = valid & known
    else:
        assert not torch.equal(label, at.label)
    (SCALE * WEIGHT * dice_ce(logits, label, valid)).sum().backward()
    for ours, theirs in zip(gradients(main), gradients(twin), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("moves", ["label", "prediction"])
@pytest.mark.parametrize(("turns", "step"), [("together", 0), ("step", 1), ("epoch", 3)])
def test_the_other_learns_as_from_predictions_of_a_frozen_copy(moves, turns, step) -> None:
    main, warp = predictor(), bender()
    terms = descend(
        Objective(dice_ce, placing(warp, turns, moves=moves)),
        {"main": main, WARP: warp},
        parcel(step),
    )
    twin, frozen = copy.deepcopy(warp), copy.deepcopy(main).requires_grad_(False)
    twin.zero_grad()
    at = whole()
    aligner = WarpAligner(twin, ShiftAligner(window=2), grid=2, moves=moves)
    logits = frozen(at.image)
    cost = aligner.cost(logits, at.label, at.valid)
    # Strong labels lie where they are, and are to stay there.
    stay = replace(aligner, first=None)
    still = stay.cost(logits, at.label, at.valid, strong=torch.ones(SIZE).bool())
    (SCALE * WEIGHT * torch.where(STRONG, still, cost)).sum().backward()
    assert any(g.any() for g in gradients(warp))
    for ours, theirs in zip(gradients(warp), gradients(twin), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
    assert not terms.losses.requires_grad


def test_parts_of_a_batch_add_up_for_both_networks() -> None:
    main, warp = predictor(), bender()
    goal, networks = Objective(dice_ce, placing(warp)), {"main": main, WARP: warp}
    terms = descend(goal, networks, parcel(3))
    once, total = [g.clone() for g in gradients(main, warp)], terms.total.item()
    meters = {name: value.clone() for name, value in terms.meters.items()}
    for network in networks.values():
        network.zero_grad()
    parts = [goal(networks, parcel(3).take(slice(a, a + 2))) for a in range(0, SIZE, 2)]
    for part in parts:
        part.total.backward()
    assert sum(part.total.item() for part in parts) == pytest.approx(total, rel=1e-12)
    for ours, theirs in zip(gradients(main, warp), once, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    for name, value in meters.items():
        added = torch.stack([part.meters[name] for part in parts]).sum(0)
        torch.testing.assert_close(added, value, equal_nan=True)


def test_a_weight_says_how_much_a_label_teaches_both() -> None:
    warp, networks = bender(), {}
    goal, networks = Objective(dice_ce, placing(warp)), {"main": predictor(), WARP: warp}
    at = parcel(0)
    descend(goal, networks, at)
    first = [g.clone() for g in gradients(warp)]
    kept = torch.tensor([0, 1, 3, 4, 5])  # the third has a weight of 0
    less = Parcel(at.batch.take(kept), WEIGHT[kept], SCALE[kept], 0, STRONG[kept])
    descend(goal, networks, less)
    for ours, theirs in zip(gradients(warp), first, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    by_class = replace(at, weight=torch.stack([WEIGHT - 0.1, WEIGHT + 0.1], 1))
    split = Objective(lambda *given: dice_ce(*given)[:, None].expand(-1, 2) / 2, placing(warp))
    descend(split, networks, by_class)
    for ours, theirs in zip(gradients(warp), first, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------- who is bent


@pytest.mark.parametrize("moves", ["label", "prediction"])
def test_strong_labels_are_never_bent(moves) -> None:
    warp, at = Says(torch.full((1, 2, 1, 1), 1.5).double()), whole()
    weak = ~STRONG
    at.label[STRONG] = at.label[STRONG].roll(-2, 1)  # so that bending would gain much
    placed = placing(warp, moves=moves, first=None)
    place = replace(placed, search=ShiftAligner(window=0))
    logits = 6 * (whole().image * torch.tensor([[-1.0], [1.0]]).view(1, 2, 1, 1)).double()
    found = place(logits, at, 0, warp)
    assert torch.equal(found.label[STRONG], at.label[STRONG])
    assert torch.equal(found.valid[STRONG], at.valid[STRONG])
    size = torch.tensor([2 * (8 * math.tanh(1.5 / 8)) ** 2 / 2] * 2).double()
    torch.testing.assert_close(found.cost[STRONG], size, rtol=1e-6, atol=0)
    compared = found.compared(logits)
    assert torch.equal(compared[0][STRONG], logits[STRONG])
    if moves == "prediction":
        assert not found.carry[STRONG].any()
    assert not torch.allclose(found.cost[weak], size[0])


def test_labels_below_the_margin_are_where_the_search_left_them() -> None:
    warp, at = bender(), whole()
    logits = predictor()(at.image).detach()
    searched = replace(placing(warp), warping=None)(logits, at, 0)
    for moves in ("label", "prediction"):
        placed = placing(warp, margin=1e9, moves=moves)(logits, at, 0, warp)
        assert torch.equal(placed.label, searched.label)
        assert torch.equal(placed.valid, searched.valid)
        assert placed.carry is None or not placed.carry.any()
        assert torch.equal(placed.compared(logits)[0], logits)
        assert placed.meters["bent"].tolist() == [0.0, 4.0]
    assert placed.found.displacement.tolist() == searched.found.displacement.tolist()


@pytest.mark.parametrize("moves", ["label", "prediction"])
def test_where_there_is_nothing_to_go_by_no_number_breaks(moves) -> None:
    at, warp = whole(), bender()
    at.label[1], at.label[2], at.valid[4] = 0, 1, False
    at.image[5] = 0.5
    main = predictor()
    goal, networks = Objective(dice_ce, placing(warp, moves=moves)), {"main": main, WARP: warp}
    terms = descend(goal, networks, parcel(0, at))
    assert terms.total.isfinite() and terms.losses.isfinite().all()
    assert all(g.isfinite().all() for g in gradients(main, warp))
    assert all(meter.isfinite().all() for meter in terms.meters.values())


@pytest.mark.parametrize("moves", ["label", "prediction"])
def test_the_weight_step_asks_of_labels_as_they_are_bent(moves) -> None:
    main, warp, at = predictor(), bender(), whole()
    objective = Objective(dice_ce, placing(warp, moves=moves))
    params = dict(main.named_parameters())
    judged = objective.judged_of(main, at, dice_ce)
    logits = main(at.image)
    wanted = dice_ce(*objective.place(logits, at, 0, warp).compared(logits))
    torch.testing.assert_close(judged(params), torch.cat([wanted, wanted]))
    # Along a direction in the predictor's parameters, by the forward rule.
    along = {name: torch.ones_like(value) for name, value in params.items()}
    _, slope = torch.func.jvp(judged, (params,), (along,))
    step = 1e-6
    ahead, behind = (
        judged({name: value + sign * step for name, value in params.items()}) for sign in (1, -1)
    )
    torch.testing.assert_close(slope, (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-7)


# ---------------------------------------------------------------- what is told


@pytest.mark.parametrize("moves", ["label", "prediction"])
def test_meters_are_those_of_a_slow_loop(moves) -> None:
    warp, at = bender(), whole()
    place = placing(warp, margin=0.0, moves=moves)
    logits = predictor()(at.image).detach()
    searched = replace(place, warping=None)(logits, at, 0)
    with torch.no_grad():
        aligner = place.warping.aligner
        proposal = aligner.propose(logits, searched.label, searched.valid)
    # A margin that parts them, if any of them gains.
    gains = proposal.gain[~STRONG].sort().values
    margin = max(0.0, (gains[-1] + gains[-2]).item() / 2)
    place = placing(warp, margin=margin, moves=moves)
    placed = place(logits, at, 0, warp)
    before, after, gain = (getattr(proposal, name).tolist() for name in ("before", "after", "gain"))
    expected = oracle.meters(before, after, gain, proposal.field, (~STRONG).tolist(), margin)
    for name, (total, of) in expected.items():
        assert placed.meters[name].tolist() == pytest.approx([total, of], rel=1e-9, abs=1e-12)
    assert expected["bent"] == (1, 4) and expected["removed_strong"][1] > 0
    assert {"moved", "unclear"} <= placed.meters.keys()


def test_a_network_that_bends_nothing_yet_has_bent_nothing() -> None:
    at, warp = whole(), field_network(2).double()
    placed = placing(warp)(predictor()(at.image).detach(), at, 0, warp)
    told = {name: placed.meters[name][0].item() for name in ("bent", "bent_by", "removed")}
    assert told == {"bent": 0.0, "bent_by": 0.0, "removed": 0.0}


def spoken(figures) -> list[int]:
    watch = ExplainedAway()
    said = [watch(step, each) for step, each in enumerate(figures, 1)]
    texts = [text for text in said if text]
    assert all("\n" not in text and "align.warp.smooth" in text for text in texts)
    return [step for step, text in enumerate(said, 1) if text]


@pytest.mark.parametrize(("name", "whose"), [("removed", "weak labels"), ("removed_strong", "str")])
def test_it_speaks_once_when_everything_is_explained_away(name, whose) -> None:
    most = MOST[name]
    assert spoken([{name: most + 0.01}] * 3 * WINDOW) == [WINDOW]
    assert spoken([{name: most - 0.01}] * 3 * WINDOW) == []
    # Before the network begins there is no such figure, and the window is of those there are.
    assert spoken([{}] * 50 + [{name: most + 0.01}] * WINDOW) == [50 + WINDOW]
    assert spoken([{name: most + 0.01}, {}] * WINDOW) == [2 * WINDOW - 1]
    # The mean counts: from the step on at which the latest hundred reach it.
    late = [{name: 0.0}] * WINDOW + [{name: 1.0}] * WINDOW
    assert spoken(late) == [WINDOW + round(most * WINDOW)]
    watch = ExplainedAway()
    said = [watch(step, {name: 0.97}) for step in range(1, WINDOW + 1)][-1]
    assert f"by step {WINDOW} it removes 97% of what {whose}" in said


def test_it_speaks_of_one_of_both_only() -> None:
    assert spoken([{"removed": 0.99, "removed_strong": 0.99}] * 3 * WINDOW) == [WINDOW]
    early = [{"removed": 0.2, "removed_strong": 0.2}] * 2 * WINDOW
    assert spoken(early + [{"removed": 0.2, "removed_strong": 0.9}] * 2 * WINDOW) == [243]
