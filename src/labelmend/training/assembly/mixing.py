"""Settings become mixed images and two models: pairs, what they teach, and who learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from labelmend.config import Settings
from labelmend.data.pairs import PairPlan
from labelmend.data.plan import Plan
from labelmend.errors import SettingsError
from labelmend.losses import make_soft_loss
from labelmend.training.assembly.begin import loss_name
from labelmend.training.assembly.weighing import derived
from labelmend.training.averages import Averages
from labelmend.training.mixed import Cut, MixedObjective, Target
from labelmend.training.objective import Objective
from labelmend.types import DataSpec

AUXILIARY = "auxiliary"
"""The name of the second network, in checkpoints and on the command line."""


def networks(settings: Settings, make: Callable[[int], nn.Module]) -> dict[str, nn.Module]:
    """The networks to be trained by name, each with an initialisation of its own."""
    both = {"main": make(settings.seed)}
    if settings.dual.use:
        both[AUXILIARY] = make(derived(settings.seed, AUXILIARY))
    return both


def judging(settings: Settings, trained: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Those of the networks that say how much a label counts, main first."""
    chosen = trained if settings.dual.judges == "both" else {"main": trained["main"]}
    return dict(chosen)


def plan(settings: Settings, single: Plan) -> Plan | PairPlan:
    """The plan as it is, or pairs where images are mixed.

    Raises:
        SettingsError: where a batch cannot be made of pairs, or weights are to draw and cannot.
    """
    chosen = settings.mixing
    if not chosen.use:
        return single
    if chosen.pairs == "strong_first" and settings.weighting.use != "loss":
        raise SettingsError(
            f"weighting.use = {settings.weighting.use!r} draws the first image of a pair by "
            "weight, and with mixing.pairs = 'strong_first' that is always a strong one; take "
            "weighting.use = 'loss' or mixing.pairs = 'alike'"
        )
    return PairPlan.of(single, chosen.pairs)


def averages(settings: Settings, trained: Mapping[str, nn.Module]) -> Averages | None:
    """Averages of the networks where pseudo-labels come from them."""
    keep = settings.mixing.average
    return Averages(trained, keep) if predicts(settings) and keep else None


def objective(
    settings: Settings,
    spec: DataSpec,
    facts: Mapping[str, Any],
    steps: int,
    plain: Objective,
) -> Objective | MixedObjective:
    """What training descends: the plain objective, or that of pairs around it.

    Raises:
        SettingsError: for values to be predicted, which have no class to cut along.
    """
    chosen = settings.mixing
    if not chosen.use:
        return plain
    if spec.task != "segmentation":
        raise SettingsError(
            "mixing.use: images are cut along the classes of labels, and these are continuous "
            "values; leave out --mix and --dual"
        )
    soft = None
    if predicts(settings) and not chosen.hard:
        by_class = settings.weighting.per == "class"
        soft = make_soft_loss(loss_name(settings, spec), by_class=by_class)
    return MixedObjective(
        plain,
        Cut(
            derived(settings.seed, "cut"),
            facts["out_channels"],
            background=chosen.background,
            border=chosen.soften,
        ),
        Target(
            _ramped(chosen.rate, chosen.ramp * steps),
            predicted=predicts(settings),
            trust=chosen.target == "trusted",
            soft=soft,
            gate=chosen.gate,
            by_position=chosen.weigh == "position",
        ),
        both=settings.dual.both,
    )


def refuse_unplaced(settings: Settings) -> None:
    """Refuse to mix labels that are put in place by more than shifts.

    Labels are mixed before anything is predicted, where they were last found to belong, and what
    is remembered of that is a shift.

    Raises:
        SettingsError: with the ways out.
    """
    transform = settings.align.transform
    if settings.mixing.use and not predicts(settings) and transform not in ("none", "shift"):
        raise SettingsError(
            f"align.transform = {transform!r} puts labels in place, but of that only shifts are "
            "remembered, so labels that are mixed (--mix) would not be in place; take "
            "--align shift or mixing.target = 'predictions'"
        )


def predicts(settings: Settings) -> bool:
    """Whether mixed images learn from predictions, and not from the labels mixed alike."""
    chosen = settings.mixing
    asked = not chosen.hard or chosen.gate > 0 or chosen.average > 0
    by_default = settings.dual.use or asked
    return chosen.use and (by_default if chosen.target is None else chosen.target != "labels")


def _ramped(rate: float, length: float) -> Callable[[int], float]:
    """λ at a step: rises from 0 as a line over ``length`` steps."""
    return lambda step: rate if step >= length else rate * step / length
