"""Say whether weak labels helped: train without them beside, compare on held-out labels."""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from scipy import stats

from labelmend.catalogue.scan import open_data
from labelmend.errors import ChangedDataError, DamagedError, DataError, RunError, SettingsError
from labelmend.inference.evaluate import Evaluation, evaluate
from labelmend.inference.predictor import load
from labelmend.metrics import summarise
from labelmend.networks.trust import check_named
from labelmend.progress import Silent, Watcher
from labelmend.runs import Run, write_atomically
from labelmend.telling import Telling
from labelmend.training.assembly import fit, resume
from labelmend.types import Split

FILE = "verdict.json"
FOLDER = "verdict"
LEAST_GROUPS = 3
"""With fewer held-out groups there is no interval worth the name."""
SURE = 0.95

Outcome = Literal["helped", "hurt", "unclear"]

ALONE: dict[str, Any] = {
    "weighting": {"method": "constant", "given": None},
    "batch": {"strong_share": 1.0},
    "mixing": {"use": False},
    "dual": {"use": False},
    "align": {"transform": "none"},
}
"""What is laid over a run's settings to leave its weak labels aside."""


@dataclass(frozen=True, slots=True)
class Verdict(Telling):
    """What weak labels were worth in one run.

    Attributes:
        outcome: whether they helped, hurt, or neither can be told.
        metric: ``dice``, or ``psnr`` in regression; the mean over held-out samples.
        split: where it was compared.
        samples: labels compared on, and ``groups`` they come from.
        seeds: trainings of each kind.
        full: the figure with weak labels, ``alone`` without them.
        difference: of the two, the mean over groups.
        low: where the paired 95 % interval of the difference begins, and ``high`` where it ends;
            None with too few groups.
    """

    outcome: Outcome
    metric: str
    split: str
    samples: int
    groups: int
    seeds: int
    full: float
    alone: float
    difference: float
    low: float | None
    high: float | None

    def said(self) -> str:
        """One sentence, with what it rests on."""
        name = {"dice": "Dice", "psnr": "PSNR"}.get(self.metric, self.metric)
        digits = 1 if self.metric == "psnr" else 3
        opening = {
            "helped": "The weak labels helped",
            "hurt": "The weak labels hurt",
            "unclear": "Whether the weak labels helped or hurt cannot be told",
        }[self.outcome]
        between = f"{self.difference:+.{digits}f}"
        if self.low is None or self.high is None:
            between += f", too few groups for an interval: {LEAST_GROUPS} at least"
        else:
            between += f", 95 % interval {self.low:+.{digits}f} to {self.high:+.{digits}f}"
        of = "difference" if self.groups == self.samples else "difference in the mean over groups"
        opening += ", in one training of each kind" * (self.seeds == 1)
        return (
            f"{opening}: {name} {self.full:.{digits}f} with them and {self.alone:.{digits}f} with "
            f"strong labels alone, on {_count(self.samples, 'label')} of "
            f"{_count(self.groups, 'group')} in {self.split} ({of} {between})."
        )

    def remarks(self) -> list[str]:
        """What to keep in mind, and what to do next."""
        found = []
        if self.outcome == "hurt":
            found.append(
                f"The networks trained on strong labels alone are in RUN/{FOLDER}: use those, or "
                "repair labels first (labelmend audit RUN)."
            )
        if self.seeds == 1:
            found.append(
                "The luck of a training is not in the interval; labelmend verdict RUN --seeds 3 "
                "puts it in."
            )
        if self.split == "val":
            found.append(
                "val also chose the best checkpoint; compared are last ones, which it did not."
            )
        return found

    def to_text(self) -> str:
        """The sentence and the remarks, a line each."""
        return "\n".join([self.said(), *self.remarks()])

    def to_json(self) -> dict[str, Any]:
        """Plain values, and the sentence."""
        return {**asdict(self), "said": self.said()}


def give_verdict(
    run: Run | str | Path,
    *,
    seeds: int = 1,
    split: Split | None = None,
    device: str = "auto",
    network: str | None = None,
    watcher: Watcher | None = None,
) -> Verdict:
    """Train on strong labels alone beside a run, and compare on held-out strong labels.

    Same data, network, steps and seed; last checkpoints; without weak labels and all that serves
    them. What is trained stays in ``RUN/verdict`` and is not trained again; the verdict is kept in
    ``RUN/verdict.json`` and told by the report.

    Args:
        run: a finished run that was trained on weak labels.
        seeds: trainings of each kind; from 2 on, the run's method is trained anew with further
            seeds as well.
        split: by default ``test``, or ``val`` where no strong label is kept for testing.
        device: for the comparison; training takes the run's own.
        network: the run's own ``module:Class``, repeated, where it has one.

    Raises:
        DataError: where nothing is held out, or no weak label was trained on.
        ChangedDataError: where the data is not what the run was trained on.
        SettingsError: for less than one seed, or a network that was not named.

    The trap: the interval is over held-out groups, and those of one hospital or microscope say
    nothing of another one's.
    """
    opened = run if isinstance(run, Run) else Run.open(Path(run))
    watcher = watcher or Silent()
    _check(opened, seeds, network)
    _check_data(opened)
    comparing = _Comparing(opened, opened.load("last").step, device, network, watcher)
    pairs = [comparing.pair(opened.settings.seed + n, split) for n in range(seeds)]
    verdict = weigh(pairs)
    text = json.dumps(verdict.to_json(), indent=2, allow_nan=False)
    write_atomically(opened.path / FILE, text.encode())
    return verdict


def read_verdict(run: Run) -> Verdict | None:
    """The verdict that was given on a run; None where there is none.

    Raises:
        DamagedError: for a file that is not as it was written.
    """
    path = run.path / FILE
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text("utf-8"))
        values.pop("said")
        return Verdict(**values)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedError(
            f"{path} is damaged; remove it, or make it anew with: labelmend verdict {run.path}"
        ) from error


def weigh(pairs: Sequence[tuple[Evaluation, Evaluation]]) -> Verdict:
    """The verdict on evaluations with and without weak labels, a pair for every seed.

    The mean difference of every group over seeds and samples is one observation; the interval is
    Student's for their mean.

    Raises:
        DataError: when no sample has a figure in both.
    """
    metric = next(m for m in ("dice", "psnr") if m in pairs[0][0].mean)
    full, alone = (_figures(side, metric) for side in zip(*pairs, strict=True))
    shared = [label for label in full if label in alone]
    if not shared:
        raise DataError(f"no held-out label has a {metric} to compare by; label more of them")
    group_of = {s.label: s.group for s in pairs[0][0].samples}
    by_group: dict[str, list[float]] = defaultdict(list)
    for label in shared:
        by_group[group_of[label]].append(full[label] - alone[label])
    means = [statistics.fmean(values) for values in by_group.values()]
    low, high = _interval(means)
    return Verdict(
        _outcome(low, high),
        metric,
        pairs[0][0].split,
        len(shared),
        len(means),
        len(pairs),
        statistics.fmean(full[label] for label in shared),
        statistics.fmean(alone[label] for label in shared),
        statistics.fmean(means),
        low,
        high,
    )


@dataclass(frozen=True, slots=True)
class _Comparing:
    """Trains and evaluates what is compared."""

    run: Run
    steps: int
    device: str
    network: str | None
    watcher: Watcher

    def pair(self, seed: int, split: Split | None) -> tuple[Evaluation, Evaluation]:
        """Evaluations with and without weak labels."""
        again = seed != self.run.settings.seed
        full = self._trained("full", seed, self._steps()) if again else self.run
        alone = self._trained("strong_only", seed, {**ALONE, "steps": self.steps})
        # The run's own evaluation is left as `labelmend evaluate` would leave it.
        return self._judged(full, split, 0 if again else 8), self._judged(alone, split, 0)

    def _steps(self) -> dict[str, Any]:
        """The settings that make a training as long as the run was, and end like it."""
        planned = self.run.facts.get("ending")
        if planned is not None and planned["fork"] is None:
            return {"steps": self.steps}
        # None: it had one ending, whatever is usual now; or patience came before the other one.
        if planned is None or self.steps <= planned["strong_from"]:
            return {"steps": self.steps, "batch": {"ending": "as_is"}}
        return {"steps": planned["strong_from"]}

    def _trained(self, kind: str, seed: int, over: Mapping[str, Any]) -> Run:
        out = self.run.folder(FOLDER) / f"{kind}-{seed}"
        self.watcher.say(f"training {out}")
        if out.exists():
            return resume(out, network=self.network, watcher=self.watcher)
        # Patience is over: what is compared takes equally many steps, those of endings included.
        kept = {"epochs": None, "patience": None, "seed": seed}
        data, below = self.run.data, self.run.settings
        trained = fit(data.root, out, settings=below, watcher=self.watcher, **{**over, **kept})
        if trained.data.samples != data.samples:
            raise ChangedDataError(
                f"{data.root} changed while {out} was trained on it; remove {out} and try again"
            )
        return trained

    def _judged(self, run: Run, split: Split | None, tolerance: int) -> Evaluation:
        predictor = load(run, device=self.device, network=self.network)
        return evaluate(predictor, split, tolerance=tolerance, watcher=self.watcher)


def _check(run: Run, seeds: int, network: str | None) -> None:
    if seeds < 1:
        raise SettingsError(f"a verdict takes 1 seed or more, not {seeds}")
    check_named(run.settings.network.name, network, str(run.path))
    share = run.settings.batch.strong_share
    if not run.data.of("train", "weak") or share == 1:
        raise DataError(
            f"{run.path} was not trained on weak labels, so there is nothing to judge; train with "
            "another --preset, or add weak labels"
        )
    if not run.data.of("train", "strong"):
        raise DataError(
            f"{run.path} was trained without strong labels, so nothing can be trained on them "
            "alone; add some, or compare runs by labelmend evaluate"
        )
    if not run.steps():
        raise RunError(f"{run.path} has no checkpoint yet; go on with: labelmend train --resume")


def _check_data(run: Run) -> None:
    """Refuse data that is not what the run was trained on: then nothing could be compared."""
    chosen = run.settings.input
    now, _ = open_data(
        run.data_folder(),
        seed=run.settings.seed,
        val_share=chosen.val_share,
        test_share=chosen.test_share,
        allow_bad=chosen.allow_bad,
        keep_splits=False,
        repairs=chosen.repairs,
    )
    if now.samples != run.data.samples:
        raise ChangedDataError(
            f"{run.data.root} is not what {run.path} was trained on any more (labels, repairs or "
            "splits changed), so the two cannot be compared; train again, with --verdict"
        )


def _figures(evaluations: Sequence[Evaluation], metric: str) -> dict[str, float]:
    """The figure of every held-out label, the mean over seeds; of those that have one in all."""
    found: dict[str, list[float]] = defaultdict(list)
    for one in evaluations:
        for sample, row in zip(one.samples, one.rows, strict=True):
            value = summarise([row])["mean"].get(metric, math.nan)
            if math.isfinite(value):
                found[sample.label].append(value)
    return {k: statistics.fmean(v) for k, v in found.items() if len(v) == len(evaluations)}


def _interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    if len(values) < LEAST_GROUPS:
        return None, None
    middle = statistics.fmean(values)
    error = statistics.stdev(values) / math.sqrt(len(values))
    reach = float(stats.t.ppf((1 + SURE) / 2, len(values) - 1)) * error
    return middle - reach, middle + reach


def _outcome(low: float | None, high: float | None) -> Outcome:
    if low is not None and low > 0:
        return "helped"
    return "hurt" if high is not None and high < 0 else "unclear"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
