"""Mixed images as a run's next training steps would make them, for people to look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from labelmend.data.dataset import SampleDataset
from labelmend.data.pairs import PairPlan
from labelmend.data.workers import load_piece
from labelmend.errors import RunError
from labelmend.mixing import mix
from labelmend.networks.trust import check_named
from labelmend.runs import Checkpoint, Run
from labelmend.training.assembly import mixing, weighing
from labelmend.training.assembly.parts import network_maker, plan_of, samples_of
from labelmend.training.dual import classes_of, disagreement
from labelmend.training.mixed import MixedObjective
from labelmend.training.objective import Objective
from labelmend.training.state import restore_network
from labelmend.types import Batch, Draw
from labelmend.weighting.weights import WeightTable

LOOKED = 16
"""So many steps are gone through for pairs of which there is something to cut out."""


@dataclass(frozen=True, slots=True, eq=False)
class MixedExample:
    """One pair of samples, its mixed image, and what is made of it.

    Everything is of a patch, changed at random as in training.

    Attributes:
        step: training steps taken before it.
        samples: ids of the two samples; the first is the one that something is cut out of.
        cut: the class that is cut out.
        weights: γ of the two labels as training uses it; of one by class the mean.
        images: of the two samples, ``(channels, *patch)`` float32 each.
        mask: ``(*patch)`` bool, where the first label has the class; a soft border is around it.
        mixed: the mixed image, shaped as the others.
        target: ``(*patch)`` int64, the classes that it is to teach the main network.
        teaches: ``(*patch)`` bool, where it does: neither gated out nor left open by a label.
        predicted: ``(*patch)`` int64 by name, what each network says of the mixed image.
        differ: share of objects over which two networks differ there; None of one network, and
            where neither sees any object.
        spacing: distance between positions of the first sample, None where nobody says.
        affine: that of the first sample's file, if it has one.
    """

    step: int
    samples: tuple[str, str]
    cut: int
    weights: tuple[float, float]
    images: tuple[np.ndarray, np.ndarray]
    mask: np.ndarray
    mixed: np.ndarray
    target: np.ndarray
    teaches: np.ndarray
    predicted: Mapping[str, np.ndarray]
    differ: float | None
    spacing: tuple[float, ...] | None
    affine: np.ndarray | None


def mixed_examples(
    run: Run, number: int, device: torch.device, *, network: str | None = None
) -> list[MixedExample]:
    """Mixed images as training would go on with them after its last whole checkpoint.

    The first pairs of two images with something to cut out, of the steps that come next: of those
    the networks as they are kept are the very ones that would see them, and the weights that
    decide what is drawn are known. Networks predict as in use, without dropout.

    Args:
        run: a run that trained on mixed images.
        number: how many are wanted; fewer where 16 steps have no more such pairs.
        device: where the networks predict.
        network: the run's own ``module:Class``, without which its code is not imported.

    Raises:
        RunError: for a run without mixed images or without a checkpoint.
        DamagedError: when no checkpoint is whole.
        SettingsError: when the run needs code that you did not name.
        ChangedDataError, DataError: for a file that is no longer the one training began with.

    >>> mixed_examples(Run.open("runs/dual"), 3, torch.device("cpu"))  # doctest: +SKIP
    """
    settings, data, facts = run.settings, run.data, run.facts
    check_named(settings.network.name, network, str(run.path))
    plan = plan_of(settings, data)
    # How far λ has risen decides nothing here.
    plain = Objective(weighing.loss(settings, data.spec, facts))
    objective = mixing.objective(settings, data.spec, facts, 1, plain)
    if not isinstance(objective, MixedObjective) or not isinstance(plan, PairPlan):
        raise RunError(f"{run.path} trained on no mixed images; labelmend train --mix does that")
    saved = run.load("last")
    table = _table(run, saved)
    drawn = _pairs(plan, saved, table if settings.weighting.use != "loss" else None)
    apart = (found for found in drawn if len({data.samples[d.index].image for d in found[1]}) > 1)
    samples = samples_of(settings, data, facts)
    bench = _Bench(samples, table, objective, device, *_networks(run, saved, device))
    made = (bench.example(step, pair) for step, pair in apart)
    return list(islice((example for example in made if example is not None), number))


@dataclass(frozen=True, slots=True)
class _Bench:
    """Everything that makes an example of a pair: ``averages`` predict in place of ``networks``."""

    samples: SampleDataset
    table: WeightTable
    objective: MixedObjective
    device: torch.device
    networks: Mapping[str, nn.Module]
    averages: Mapping[str, nn.Module]

    @torch.no_grad()
    def example(self, step: int, pair: list[Draw]) -> MixedExample | None:
        """The example of a pair; None where there is nothing to cut out."""
        both = load_piece(self.samples, pair).to(self.device)
        first, second = both.split(1)
        cut = self.objective.cut
        sharp = replace(cut, border=0.0).masks(first, second, step)
        if not sharp.any():
            return None
        mask = cut.masks(first, second, step)
        mixed = mix(first.image, second.image, mask)
        target, teaches = self._target(first, second, mask)
        predicted = {name: classes_of(network(mixed)) for name, network in self.networks.items()}
        whole = self.samples.whole(pair[0].index)
        weight = self.table.used(both.index.cpu()).reshape(2, -1).mean(1).tolist()
        return MixedExample(
            step=step,
            samples=(self.samples.name(pair[0].index), self.samples.name(pair[1].index)),
            cut=int(first.label[sharp][0]),
            weights=(weight[0], weight[1]),
            images=(_plain(first.image), _plain(second.image)),
            mask=_plain(sharp),
            mixed=_plain(mixed),
            target=_plain(target),
            teaches=_plain(teaches),
            predicted={name: _plain(classes) for name, classes in predicted.items()},
            differ=_differ(*predicted.values()),
            spacing=whole.grid.grid_spacing,
            affine=whole.raster.affine,
        )

    def _target(self, first: Batch, second: Batch, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What the mixed image is to teach the main network, and where."""
        target = self.objective.target
        if not target.predicted:
            return mix(first.label, second.label, mask), mix(first.valid, second.valid, mask)
        # The last network teaches the first; one alone teaches itself.
        name = list(self.networks)[-1]
        teacher = self.averages.get(name, self.networks[name])
        probabilities, teaches = target.taught(teacher(first.image), teacher(second.image), mask)
        classes = classes_of(probabilities)
        if not target.trust:
            return classes, teaches
        weak = self.table.learns.to(mask.device)
        trusted = mix(~weak[first.index], ~weak[second.index], mask)
        known = trusted & mix(first.valid, second.valid, mask)
        return torch.where(known, mix(first.label, second.label, mask), classes), teaches | known


def _table(run: Run, saved: Checkpoint) -> WeightTable:
    table = weighing.table(run.settings, run.data, run.facts)
    table.restore(dict(_group(run, saved, "weights")))
    return table


def _networks(
    run: Run, saved: Checkpoint, device: torch.device
) -> tuple[dict[str, nn.Module], Mapping[str, nn.Module]]:
    """The networks of a checkpoint, and their averages where these make the pseudo-labels."""
    make = network_maker(run.settings, run.data.spec, run.facts)
    networks = mixing.networks(run.settings, make)
    for name, network in networks.items():
        restore_network(network, name, _group(run, saved, name))
        network.to(device).eval()
    averages = mixing.averages(run.settings, networks)
    if averages is None:
        return networks, {}
    averages.restore(saved.tensors)
    averages.join()
    return networks, averages.networks


def _group(run: Run, saved: Checkpoint, name: str) -> Mapping[str, Tensor]:
    if name not in saved.tensors:
        raise RunError(f"{run.path}: the checkpoint of step {saved.step} has no group {name!r}")
    return saved.tensors[name]


def _pairs(
    plan: PairPlan, saved: Checkpoint, table: WeightTable | None
) -> Iterator[tuple[int, list[Draw]]]:
    """The pairs of the steps after a checkpoint, drawn by the weights of a table if given."""
    odds = None
    if table is not None:
        # Draws are by the weights before the latest weight step that is due, taken or not.
        late = "weigh" in saved.state.get("pending", ())
        odds = table.drawn_by(table.rounds if late else max(table.rounds - 1, 0))
    for step in range(saved.step, saved.step + LOOKED):
        draws = plan.batch(step, odds)
        half = len(draws) // 2
        for pair in zip(draws[:half], draws[half:], strict=True):
            yield step, list(pair)


def _differ(one: Tensor, other: Tensor | None = None) -> float | None:
    """How far two networks differ, or None where there are not two, or no object."""
    if other is None:
        return None
    apart, seen = disagreement(one, other).tolist()
    return apart / seen if seen else None


def _plain(values: Tensor) -> np.ndarray:
    """The one sample of a batch, for those who know no tensors."""
    return values[0].cpu().numpy()
