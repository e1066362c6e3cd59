"""Settings become the weight step: what it looks at, how often, and what that may cost."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from labelmend.config import Settings
from labelmend.config.sections import MOST_OVERHEAD
from labelmend.data.plan import Plan
from labelmend.data.sampling import ahead
from labelmend.errors import SettingsError
from labelmend.losses import make_loss
from labelmend.losses.units import in_deviations
from labelmend.training.assembly.begin import loss_name
from labelmend.training.assembly.costs import LEAST_EVERY, Prices, prices_of
from labelmend.training.bend import Bend
from labelmend.training.judge import Search
from labelmend.training.reweigh import Score
from labelmend.training.turns import Turns
from labelmend.types import DataSet, DataSpec, Loss
from labelmend.weighting.choice import check_uncoupled, choose
from labelmend.weighting.direction import FadingMean
from labelmend.weighting.evidence import WITHOUT_SIMILARITY, evidence
from labelmend.weighting.fit import disagreement, disagreement_by_class
from labelmend.weighting.rules import Limits, update_rule
from labelmend.weighting.weights import WeightTable, pool_by

WARMUP = 150
SHARED_BY = 4
"""Times the cost of a trusted direction that a weight step may cost: three go to looking."""

REACH = 3.0
"""How far all looks at a label together can move its weight: three times from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When weight steps are taken and how many weak samples each judges.

    Attributes:
        start: training steps before the first.
        every: training steps from one to the next.
        judged: weak samples of each.
        first: weak samples of the first: what was saved up until then pays for more.
        rate: step size of the weights.
        cost: of a weight step, as a share of the training steps from one to the next.
    """

    start: int
    every: int
    judged: int
    first: int
    rate: float
    cost: float

    def wait(self, weak: int) -> int:
        """Training steps from one look at a weak label to the next, at most."""
        return -(-weak // self.judged) * self.every


def schedule(settings: Settings, weak: int, steps: int) -> Schedule:
    """When weight steps are taken, and how many weak samples fit into the overhead.

    Counted in passes, which are the same on every machine and after every restart, and not in
    seconds, which are not. The overhead is kept to, unless ``every`` and ``weak_samples`` are
    both given.

    Raises:
        SettingsError: when overhead and longest wait, or overhead and curvature, exclude each
            other, saying which numbers would do.
    """
    chosen = settings.weighting
    start = min(WARMUP, steps // 4) if chosen.start is None else chosen.start
    prices = prices_of(settings)
    every, judged = _rhythm(settings, prices, weak)
    longest = chosen.longest_wait
    if longest is not None and -(-weak // judged) * every > longest:
        free = chosen.every is None and chosen.weak_samples is None
        quicker = prices.within(longest, weak, -(-weak // judged)) if free else None
        if quicker is None:
            raise _too_long(settings, prices, weak, every, judged)
        every, judged = quicker
    saved = judged if chosen.weak_samples else min(prices.judged(start), weak)
    looks = max((steps - start) / every * judged / weak, 1.0)
    rate = chosen.rate or min(max(REACH / looks, 0.05), 0.5)
    share = prices.share(judged, every)
    return Schedule(start, every, judged, max(judged, saved), rate, share)


def _rhythm(settings: Settings, prices: Prices, weak: int) -> tuple[int, int]:
    """Training steps from one weight step to the next, and weak samples of each."""
    chosen = settings.weighting
    wanted = None if chosen.weak_samples is None else min(chosen.weak_samples, weak)
    shared = min(max(SHARED_BY * prices.fixed, prices.of(1)), prices.of(weak))
    cost = shared if wanted is None else prices.of(wanted)
    every = chosen.every or max(LEAST_EVERY, prices.steps(cost))
    judged = wanted or min(prices.judged(every), weak)
    if judged < 1:
        raise SettingsError(
            f"weighting.overhead = {chosen.overhead:g} leaves no time to judge labels every "
            f"{every} steps: set weighting.every to {prices.steps(cost)} or more, the overhead "
            "higher, or take fewer weighting.strong_samples"
        )
    return every, judged


def _too_long(
    settings: Settings, prices: Prices, weak: int, every: int, judged: int
) -> SettingsError:
    chosen = settings.weighting
    wait = -(-weak // judged) * every
    ways = f"let it be {wait}"
    needed = prices.share(weak, chosen.longest_wait or wait)
    needed = max(math.ceil(needed * 100) / 100, chosen.overhead)
    if needed <= MOST_OVERHEAD:
        without = " without weighting.every and weighting.weak_samples"
        given = chosen.every is not None or chosen.weak_samples is not None
        ways += f", or take weighting.overhead = {needed:g}{without * given}"
    return SettingsError(
        f"{judged} of {weak} weak labels per weight step, every {every} steps, leave a label "
        f"unseen for {wait} steps, and weighting.longest_wait is {chosen.longest_wait}: {ways}"
    )


def refuse_far_draws(settings: Settings, schedule: Schedule) -> None:
    """Refuse loading so far ahead that two weight steps lie between a draw and its use.

    Raises:
        SettingsError: saying how many steps there must be between weight steps.
    """
    far = ahead(settings.input.workers, settings.batch.accumulate)
    if settings.weighting.use != "loss" and far > schedule.every:
        raise SettingsError(
            f"input.workers = {settings.input.workers} draw {far} steps ahead, which takes "
            f"weighting.every = {far} or more where weights decide what is drawn, not "
            f"{schedule.every}"
        )


# ---------------------------------------------------------------------- who takes part


def learned(settings: Settings, data: DataSet) -> bool:
    """Whether there are weights to be learned, and something to learn them from."""
    wanted = settings.weighting.method != "constant" and settings.batch.strong_share != 1
    return wanted and bool(indices(data, "weak")) and bool(indices(data, "strong"))


def trusted_and_trained(settings: Settings, data: DataSet) -> tuple[tuple[int, ...], ...]:
    """Places of the strong training samples that weight steps see, and that training sees.

    The same ones, unless a share of the groups is held out for the weight steps.

    Raises:
        SettingsError: when holding out would leave one side without samples.
    """
    strong = indices(data, "strong")
    share = settings.weighting.held_out
    if share == 0 or not learned(settings, data):
        return strong, strong
    groups = sorted({data.samples[i].group for i in strong})
    groups.sort(key=lambda group: hashlib.sha256(f"{settings.seed}/{group}".encode()).digest())
    held = set(groups[: max(1, round(share * len(groups)))])
    trusted = tuple(i for i in strong if data.samples[i].group in held)
    trained = tuple(i for i in strong if data.samples[i].group not in held)
    if not trained:
        raise SettingsError(
            f"weighting.held_out = {share:g} of {len(groups)} strong groups leaves none to train "
            "on; make it smaller or 0, or label more groups"
        )
    return trusted, trained


def indices(data: DataSet, quality: str) -> tuple[int, ...]:
    """Places of the training samples of one quality."""
    return tuple(
        i for i, s in enumerate(data.samples) if s.split == "train" and s.quality == quality
    )


def table(settings: Settings, data: DataSet, facts: Mapping[str, Any]) -> WeightTable:
    """Every sample's weight before training; only those of weak training samples learn."""
    chosen = settings.weighting
    learns = torch.tensor([s.quality == "weak" and s.split == "train" for s in data.samples])
    given: Mapping[str, float] = facts.get("given_weights") or {}
    initial = [given.get(s.id, chosen.initial) for s in data.samples]
    pool = None
    if chosen.per in ("annotator", "group"):
        pool = pool_by([getattr(s, chosen.per) for s in data.samples], learns)
    return WeightTable.start(
        ~learns,
        torch.tensor(initial, dtype=torch.float64),
        limits=Limits(chosen.highest, chosen.mean),
        classes=facts["out_channels"] if chosen.per == "class" else None,
        pool=pool,
        shuffled=derived(settings.seed, "shuffled") if chosen.shuffled else None,
    )


def loss(settings: Settings, spec: DataSpec, facts: Mapping[str, Any]) -> Loss:
    """The training loss, split by class where classes have weights of their own."""
    by_class = settings.weighting.per == "class"
    found = make_loss(loss_name(settings, spec), spec.task, by_class=by_class)
    width = deviations(facts)
    return found if width is None else in_deviations(found, width)


def deviations(facts: Mapping[str, Any]) -> tuple[float, ...] | None:
    """Of each channel of continuous labels, where a run scales these."""
    scale = facts.get("label_scale")
    return None if scale is None else tuple(scale["deviation"])


# ---------------------------------------------------------------------- how they are judged


def fit(settings: Settings) -> Loss:
    """How badly a label fits a prediction, by class where classes have weights of their own."""
    return disagreement_by_class if settings.weighting.per == "class" else disagreement


def score(settings: Settings, rate: float) -> Score:
    """How findings become moves."""
    chosen = settings.weighting
    default = "normalised" if chosen.signal == "similarity" else "plain"
    rule = chosen.update or default
    # The cosine is a measure of likeness; what it finds moves weights as it is.
    rule = "plain" if rule == "cosine" else rule
    return Score(evidence(chosen.signal), update_rule(rule), rate)


def search(settings: Settings, network: nn.Module, facts: Mapping[str, Any]) -> Search | None:
    """How similarities are found by one network; None where the signal asks for none.

    Raises:
        SettingsError: for a network whose samples have no gradients of their own, or a choice of
            parameters that it has not.
    """
    chosen = settings.weighting
    if chosen.signal in WITHOUT_SIMILARITY:
        return None
    training = network.training
    try:
        check_uncoupled(network.eval())
        image = torch.zeros(1, facts["in_channels"], *facts["patch"])
        which = chosen.parameters if isinstance(chosen.parameters, str) else list(chosen.parameters)
        names = tuple(choose(network, which, image))
    finally:
        network.train(training)
    return Search(
        "cosine" if chosen.update == "cosine" else chosen.mode,
        Bend(chosen.curvature, chosen.iterations, chosen.damping, deviations(facts)),
        names,
        FadingMean(chosen.average),
    )


def trusted_plan(settings: Settings, strong: tuple[int, ...]) -> Plan:
    """The strong samples of every weight step."""
    many = settings.weighting.strong_samples
    return Plan(strong, (), many, 1.0, derived(settings.seed, "trusted"))


def turns(settings: Settings, weak: tuple[int, ...], schedule: Schedule) -> Turns:
    """The weak samples of every weight step."""
    return Turns(weak, schedule.judged, derived(settings.seed, "judged"), schedule.first)


def derived(seed: int, purpose: str) -> int:
    """Another seed, so that the weight step's draws are not the training's."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:4], "little") // 2
