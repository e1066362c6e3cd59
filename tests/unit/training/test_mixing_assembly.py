"""Settings become the parts that mix: who predicts, how fast λ rises, who is asked."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from labelmend.config import Settings
from labelmend.data.pairs import PairPlan
from labelmend.data.plan import Plan
from labelmend.errors import SettingsError
from labelmend.losses import cross_entropy, dice_ce, make_soft_loss
from labelmend.training.assembly import mixing
from labelmend.training.assembly.costs import step_cost
from labelmend.training.mixed import MixedObjective
from labelmend.training.objective import Objective
from labelmend.types import DataSpec

SPEC = DataSpec("segmentation", ("a", "b", "c"), (0, 1, 2), None, 2, 1, "none", ".npy")
CONTINUOUS = DataSpec("regression", ("a",), (), None, 2, 1, "none", ".npy")
FACTS = {"out_channels": 3}
PLAIN = Objective(dice_ce)
MIX, DUAL = {"mixing": {"use": True}}, {"mixing": {"use": True}, "dual": {"use": True}}


def made(*layers: dict, steps: int = 100) -> MixedObjective:
    found = mixing.objective(Settings.make(MIX, *layers), SPEC, FACTS, steps, PLAIN)
    assert isinstance(found, MixedObjective)
    return found


def named(*names: str) -> dict[str, nn.Module]:
    return {name: nn.Linear(1, 1) for name in names}


# ---------------------------------------------------------------- who predicts


OF_PREDICTIONS = [{}, {"hard": False}, {"gate": 0.5}, {"average": 0.9}]


@pytest.mark.parametrize("target", [None, "labels", "predictions"])
@pytest.mark.parametrize("asked", OF_PREDICTIONS, ids=str)
@pytest.mark.parametrize(("use", "dual"), [(False, False), (True, False), (True, True)])
def test_who_predicts_is_said_or_follows_from_what_else_was_said(
    use: bool, dual: bool, asked: dict, target: str | None
) -> None:
    layers = {"mixing": {"use": use, "target": target, **asked}, "dual": {"use": dual}}
    if target == "labels" and (asked or dual):
        with pytest.raises(SettingsError, match="mixing.target = 'labels'"):
            Settings.make(layers)
        return
    wanted = use and (target == "predictions" or (target is None and (dual or bool(asked))))
    assert mixing.predicts(Settings.make(layers)) is wanted


@pytest.mark.parametrize("asked", OF_PREDICTIONS, ids=str)
@pytest.mark.parametrize("dual", [{}, {"use": True}, {"use": True, "both": False}], ids=str)
def test_a_step_costs_what_is_passed_through(asked: dict, dual: dict) -> None:
    """In images of a pair: forward with gradients 1 + 2, and forward alone 1; plain is 2 · 3."""
    settings = Settings.make({"mixing": {"use": True, **asked}, "dual": dual})
    networks = 2 if dual else 1
    own = 1 if dual and not dual.get("both", True) else 2
    unseen = 0
    if mixing.predicts(settings):
        unseen = 2 if asked.get("average") else 2 - own
    assert step_cost(settings) == pytest.approx(networks * (3 * (own + 1) + unseen) / 6)


# ---------------------------------------------------------------- the objective


def test_without_mixing_it_is_the_plain_one() -> None:
    assert mixing.objective(Settings(), SPEC, FACTS, 100, PLAIN) is PLAIN
    assert mixing.objective(Settings(), CONTINUOUS, FACTS, 100, PLAIN) is PLAIN


@pytest.mark.parametrize("layers", [MIX, DUAL])
def test_continuous_values_have_no_class_to_cut_along(layers: dict) -> None:
    with pytest.raises(SettingsError, match="leave out --mix and --dual") as caught:
        mixing.objective(Settings.make(layers), CONTINUOUS, FACTS, 100, PLAIN)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("transform", ["rigid", "similarity", "affine", "warp"])
def test_labels_that_more_than_shifts_put_in_place_are_not_mixed(transform: str) -> None:
    align = {"align": {"transform": transform}}
    with pytest.raises(SettingsError, match=f"'{transform}' .*--align shift or mixing.target"):
        mixing.refuse_unplaced(Settings.make(MIX, align))
    mixing.refuse_unplaced(Settings.make(align))
    # What is predicted for an image is in place, and so are strong labels, which do not move.
    for target in ("predictions", "trusted"):
        mixing.refuse_unplaced(Settings.make(MIX, align, {"mixing": {"target": target}}))
    for few in ("none", "shift"):
        mixing.refuse_unplaced(Settings.make(MIX, {"align": {"transform": few}}))


@pytest.mark.parametrize(
    ("rate", "ramp", "steps", "wanted"),
    [
        (2.0, 0.5, 100, {0: 0.0, 1: 0.04, 25: 1.0, 49: 1.96, 50: 2.0, 51: 2.0, 99: 2.0}),
        (1.5, 0.0, 100, {0: 1.5, 1: 1.5, 99: 1.5}),
        (1.0, 1.0, 4, {0: 0.0, 1: 0.25, 2: 0.5, 3: 0.75, 4: 1.0}),
        (1.0, 0.1, 3, {0: 0.0, 1: 1.0, 2: 1.0}),  # over less than a step
        (0.0, 0.5, 100, {0: 0.0, 10: 0.0, 99: 0.0}),
    ],
)
def test_the_rate_rises_as_a_line_and_stays(
    rate: float, ramp: float, steps: int, wanted: dict[int, float]
) -> None:
    found = made({"mixing": {"rate": rate, "ramp": ramp}}, steps=steps).target.rate
    assert {step: found(step) for step in wanted} == pytest.approx(wanted)


def test_settings_reach_the_objective() -> None:
    usual = made()
    assert (usual.cut.classes, usual.cut.background, usual.cut.border) == (3, False, 0.0)
    assert (usual.target.predicted, usual.target.soft, usual.target.gate) == (False, None, 0.0)
    assert not usual.target.by_position and usual.both and usual.plain is PLAIN
    layer = {"background": True, "soften": 1.5, "weigh": "position", "gate": 0.7}
    other = made({"mixing": layer, "dual": {"use": True, "both": False}})
    assert (other.cut.background, other.cut.border) == (True, 1.5)
    assert (other.target.predicted, other.target.gate, other.target.by_position) == (
        True,
        0.7,
        True,
    )
    assert not other.both and other.target.soft is None
    assert made({"seed": 1}).cut.seed != usual.cut.seed == made({"seed": 0}).cut.seed


def test_a_soft_target_has_the_training_loss_for_probabilities() -> None:
    soft = {"mixing": {"hard": False}}
    assert made(soft).target.soft is make_soft_loss("dice_ce")
    assert made(soft, {"loss": "l2"}).target.soft is make_soft_loss("l2")
    by_class = made(soft, {"weighting": {"per": "class"}}).target.soft
    logits = torch.zeros(2, 3, 4)
    assert by_class(logits, logits.softmax(1), torch.ones(2, 4) > 0).shape == (2, 3)
    with pytest.raises(SettingsError, match="'focal' has no form for probabilities"):
        made(soft, {"loss": "focal"})
    assert made({"loss": "focal"}).target.soft is None


def test_a_plain_objective_is_kept_whatever_its_loss() -> None:
    plain = Objective(cross_entropy)
    assert mixing.objective(Settings.make(MIX), SPEC, FACTS, 1, plain).plain is plain


# ---------------------------------------------------------------- networks, averages, judges, plan


def test_two_networks_begin_differently_and_main_as_it_would_alone() -> None:
    asked: list[int] = []

    def make(seed: int) -> nn.Module:
        asked.append(seed)
        return nn.Linear(1, 1)

    assert list(mixing.networks(Settings.make({"seed": 4}), make)) == ["main"]
    for seed in (4, 4, 5):
        both = mixing.networks(Settings.make(DUAL, {"seed": seed}), make)
        assert list(both) == ["main", mixing.AUXILIARY]
    assert asked[0] == asked[1] == asked[3] == 4 and asked[5] == 5
    assert asked[2] == asked[4] and len({asked[2], asked[6], 4, 5}) == 4


def test_averages_are_of_those_that_predict() -> None:
    asked = {"mixing": {"use": True, "average": 0.99}}
    nets = named("main", "auxiliary")
    found = mixing.averages(Settings.make(asked, {"dual": {"use": True}}), nets)
    assert found.keep == 0.99 and found.networks.keys() == nets.keys()
    assert mixing.averages(Settings.make(asked), named("main")).networks.keys() == {"main"}
    assert mixing.averages(Settings.make(DUAL), nets) is None
    assert mixing.averages(Settings.make({"mixing": {"average": 0.99}}), named("main")) is None


@pytest.mark.parametrize(
    ("dual", "judges", "wanted"),
    [
        (False, "main", ["main"]),
        (False, "both", ["main"]),
        (True, "main", ["main"]),
        (True, "both", ["main", "auxiliary"]),
    ],
)
def test_judges_are_main_or_all_that_there_are(dual: bool, judges: str, wanted: list[str]) -> None:
    settings = Settings.make(MIX, {"dual": {"use": dual, "judges": judges}})
    nets = named(*(["main", "auxiliary"] if dual else ["main"]))
    found = mixing.judging(settings, nets)
    assert list(found) == wanted and all(found[name] is nets[name] for name in wanted)


def test_the_plan_is_of_pairs_where_images_are_mixed() -> None:
    single = Plan((0, 1), (2, 3, 4), 4, 0.5, 3)
    assert mixing.plan(Settings(), single) is single
    assert mixing.plan(Settings.make(MIX), single) == PairPlan.of(single, "alike")
    first = {"mixing": {"pairs": "strong_first"}}
    assert mixing.plan(Settings.make(MIX, first), single) == PairPlan.of(single, "strong_first")
    assert mixing.plan(Settings.make(first), single) is single
    with pytest.raises(SettingsError, match="batch.size wants an even number from 4 on, got 3"):
        mixing.plan(Settings.make(MIX), Plan((0, 1), (2, 3, 4), 3, 0.5, 3))


@pytest.mark.parametrize("use", ["sampler", "both"])
def test_weights_that_would_draw_nothing_are_refused(use: str) -> None:
    single = Plan((0, 1), tuple(range(2, 12)), 4, 0.5, 3)
    first = {"mixing": {"pairs": "strong_first"}, "weighting": {"use": use}}
    with pytest.raises(SettingsError, match=rf"weighting.use = '{use}'.*always a strong one"):
        mixing.plan(Settings.make(MIX, first), single)
    assert mixing.plan(Settings.make(first), single) is single
    plan = mixing.plan(Settings.make(MIX, {"weighting": {"use": use}}), single)
    gamma = [1.0] * 2 + [0.0] * 9 + [1.0]
    assert any(plan.batch(step, gamma) != plan.batch(step) for step in range(20))


def test_every_combination_of_settings_that_is_allowed_can_be_made() -> None:
    ways = itertools.product(
        [False, True], ["pair", "position"], [False, True], [0.0, 1.0], [0.0, 0.5], [0.0, 0.9]
    )
    for dual, weigh, hard, border, gate, average in ways:
        layer = {"weigh": weigh, "hard": hard, "soften": border, "gate": gate, "average": average}
        found = made({"mixing": layer, "dual": {"use": dual}})
        assert found.target.predicted == (dual or not hard or gate > 0 or average > 0)
        assert (found.target.soft is None) == hard
