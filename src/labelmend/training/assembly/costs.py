"""What training steps and weight steps cost, counted in passes over samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

from labelmend.config import Settings
from labelmend.weighting.evidence import WITHOUT_SIMILARITY

LEAST_EVERY = 25
"""Training steps from one weight step to the next, where nothing asks for fewer."""


@dataclass(frozen=True, slots=True)
class _Costs:
    """What things cost, in training steps on one sample (``benchmarks/bench_similarity.py``).

    Attributes:
        gradient: of a strong sample.
        product: an iteration of Gauss–Newton, per sample of its batch.
        judged: a weak sample in exact mode.
    """

    gradient: float
    product: float
    judged: float


_COSTS = {
    "all": _Costs(1.0, 2.2, 1.25),
    "decoder": _Costs(0.75, 1.5, 1.05),
    "last": _Costs(0.5, 0.35, 0.75),
}
_FORWARD, _CENTRAL, _ONE_BY_ONE = 0.35, 0.75, 2.0
_FISHER, _HESSIAN, _SCALE_SEEKING = 1.4, 2.6, 5

_TRAINED = 3.0
"""Passes of a training step over an image: one forward, and one back that costs two."""

_MIXED = 0.5
"""Mixed images beside every image of a batch: a pair gives one."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What a weight step costs, and a training step, in plain training steps on one sample.

    Attributes:
        fixed: of a weight step, whatever the number of weak samples.
        each: of every weak sample.
        step: of a training step.
        overhead: share of it that may go into weight steps.
    """

    fixed: float
    each: float
    step: float
    overhead: float

    @property
    def pay(self) -> float:
        """What each training step pays for weight steps."""
        return self.overhead * self.step

    def share(self, judged: int, every: int) -> float:
        """A weight step every so many training steps, as a share of these."""
        return self.of(judged) / every / self.step

    def of(self, judged: int) -> float:
        """A weight step."""
        return self.fixed + self.each * judged

    def steps(self, cost: float) -> int:
        """Training steps that pay for it."""
        return max(1, math.ceil(cost / self.pay - _ROUNDING))

    def judged(self, every: int) -> int:
        """Weak samples that can be judged every so many training steps; below 1 where none."""
        return math.floor((self.pay * every - self.fixed) / self.each + _ROUNDING)

    def within(self, longest: int, weak: int, rounds: int) -> tuple[int, int] | None:
        """The most weight steps, up to ``rounds``, that together look at all in so many steps.

        The more samples share a trusted gradient, the cheaper each of them.
        """
        for number in range(rounds, 0, -1):
            judged = -(-weak // number)
            every = max(self.steps(self.of(judged)), min(LEAST_EVERY, longest // number))
            if every * number <= longest:
                return every, judged
        return None


_ROUNDING = 1e-9


def prices_of(settings: Settings) -> Prices:
    """What settings make weight steps and training steps cost."""
    judges = 2 if settings.dual.use and settings.dual.judges == "both" else 1
    fixed, each = _fixed_cost(settings), _cost_of_one(settings)
    step = settings.batch.size * step_cost(settings)
    return Prices(judges * fixed, judges * each, step, settings.weighting.overhead)


def step_cost(settings: Settings) -> float:
    """A training step, in plain ones on a batch of the same size.

    A pass forward counts 1 per image, the one back 2. The pairs of a batch make half as many
    mixed images again. Of two models each is trained on its half of the batch, or on all of it
    where either sees both images of a pair. Pseudo-labels cost nothing where a model saw the
    image anyway, one pass forward where it did not, and one for every image where they come from
    an average.

    >>> step_cost(Settings())
    1.0
    >>> step_cost(Settings.make({"mixing": {"use": True}}))
    1.5
    """
    mixing, dual = settings.mixing, settings.dual
    if not mixing.use:
        return 1.0
    seen = 0.5 if dual.use and not dual.both else 1.0
    predicted = 1.0 if mixing.average > 0 else 1.0 - seen
    models = 2 if dual.use else 1
    return models * (_TRAINED * (seen + _MIXED) + predicted) / _TRAINED


def _cost_of_one(settings: Settings) -> float:
    # Before a label is judged, it is put where the network says it belongs.
    return _judged(settings) + (_FORWARD if settings.align.transform != "none" else 0.0)


def _judged(settings: Settings) -> float:
    chosen = settings.weighting
    if chosen.signal in WITHOUT_SIMILARITY:
        return _FORWARD
    if chosen.update == "cosine":
        return _ONE_BY_ONE
    return _CENTRAL if chosen.mode == "central" else _costs(settings).judged


def _fixed_cost(settings: Settings) -> float:
    """Of a weight step, whatever the number of weak samples."""
    chosen, costs = settings.weighting, _costs(settings)
    if chosen.signal in WITHOUT_SIMILARITY:
        return 0.0
    strong = chosen.strong_samples
    per_sample = {
        "fisher": _FISHER,
        "gauss_newton": costs.product * chosen.iterations,
        "hessian": _HESSIAN * chosen.iterations,
        "neumann": _HESSIAN * (chosen.iterations + _SCALE_SEEKING),
    }.get(chosen.curvature, 0.0)
    check = 2 * _FORWARD * strong if chosen.mode == "central" else 0.0
    return costs.gradient * strong + per_sample * settings.batch.size + check


def _costs(settings: Settings) -> _Costs:
    which = settings.weighting.parameters
    return _COSTS.get(which if isinstance(which, str) else "all", _COSTS["all"])
