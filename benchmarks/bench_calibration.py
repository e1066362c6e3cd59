"""How far probabilities can be taken at their word, and whether uncertainty finds the errors.

Two networks are trained together (``--dual``) on real images; ``cells`` has real outlines by
untrained people, ``nuclei`` planted mistakes (``planted.py``). The temperature is fitted to the
strong labels held out for validation and judged on a test split that nobody trained on. Then, on
the test split: is a position's uncertainty higher where the main network is wrong (AUROC over all
positions, each image counting alike), and does a file's mean uncertainty order files by their Dice
(Spearman's rank correlation with 1 - Dice)? Entropy needs one network, disagreement both.
The mean over seeds, and each of them. ``burden`` is the share of a file that is no background,
which knows nothing of errors: what a judge of files has to beat.

Run: ``python benchmarks/bench_calibration.py DATA WORK`` (DATA holds bubil/ and dsb2018/); runs
are kept under WORK and not repeated. About 20 minutes on one core. ``--table`` prints the tables
of the page ``docs/how-to/how-sure.md``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata, spearmanr

RESULTS = Path(__file__).parent / "results" / "calibration.json"
SEEDS = (0, 1, 2)
LOOKED = 4096
"""Positions of a test image that are compared."""
TRAINING: dict[str, Any] = {
    "dual": {"use": True},
    "mixing": {"use": True},
    "network": {"width": 8, "depth": 3},
    "batch": {"ending": "as_is"},
    "weighting": {"signal": "both"},
}
SETS: dict[str, dict[str, Any]] = {
    "cells": {"steps": 300, "input": {"patch": (128, 128)}},
    "nuclei": {"steps": 600},
}


def prepare_cells(source: Path, out: Path, seed: int) -> None:
    script = Path(__file__).with_name("prepare_bubil.py")
    options = ["--seed", str(seed), "--strong", "0.3", "--val", "0.5"]
    subprocess.run([sys.executable, str(script), source / "bubil", out, *options], check=True)


def prepare_nuclei(source: Path, out: Path, seed: int) -> None:
    import planted

    strong, test, val = 64, 32, 16
    case = planted.nuclei(strong, 150, seed, "mixed mistakes")
    planted.write(case, out, test)
    rows = (out / "manifest.csv").read_text().splitlines()
    for place in range(test, test + val):
        rows[1 + place] = rows[1 + place].replace(",strong,train,", ",strong,val,")
    (out / "manifest.csv").write_text("\n".join(rows) + "\n")


PREPARE: dict[str, Callable[[Path, Path, int], None]] = {
    "cells": prepare_cells,
    "nuclei": prepare_nuclei,
}


def trained(name: str, source: Path, work: Path, seed: int) -> Path:
    """The run, made if it is not there."""
    from labelmend.training.assembly import fit

    data, out = work / f"{name}-{seed}", work / f"{name}-{seed}-run"
    if not data.exists():
        PREPARE[name](source, data, seed)
    if not out.exists():
        fit(data, out, seed=seed, **SETS[name], **TRAINING)
    return out


def auroc(score: np.ndarray, wrong: np.ndarray, weight: np.ndarray) -> float:
    """The share of pairs of a wrong and a right position of which the wrong one scores higher."""
    order = np.argsort(score, kind="stable")
    score, wrong, weight = score[order], wrong[order], weight[order]
    group = rankdata(score, "dense") - 1
    right = np.bincount(group, weight * ~wrong)
    below = np.concatenate([[0], np.cumsum(right)[:-1]])
    hits = np.bincount(group, weight * wrong) * (below + right / 2)
    return float(hits.sum() / ((weight * wrong).sum() * (weight * ~wrong).sum()))


class Judges:
    """Every measure of uncertainty at some positions of every test image, and its mean per file."""

    def __init__(self, predictor: Any) -> None:
        from labelmend.inference.beside import Beside
        from labelmend.inference.way import Way, as_wished

        both = as_wished(replace(predictor, model="main"), Way(beside=Beside(uncertainty=True)))
        self.predictor = both
        self.scores: dict[str, list[np.ndarray]] = {}
        self.files: dict[str, list[float]] = {}
        self.wrong: list[np.ndarray] = []
        self.dice: list[float] = []

    def add(self, sample: Any, number: int) -> None:
        """Look at a sample; ``number`` chooses its positions."""
        from labelmend.inference.evaluate import open_case

        case = open_case(self.predictor, sample)
        found = self.predictor.decide(case.scores)
        wrong = (found != case.label) & case.valid
        truth, said = case.label > 0, found > 0
        self.dice.append(float(2 * (truth & said).sum() / max(1, truth.sum() + said.sum())))
        places = np.flatnonzero(case.valid)
        rng = np.random.default_rng([7, number])
        chosen = np.sort(rng.choice(places, min(LOOKED, len(places)), replace=False))
        self.wrong.append(wrong.ravel()[chosen])
        for name, values in self._measures(case.scores).items():
            self.scores.setdefault(name, []).append(values.ravel()[chosen])
            self.files.setdefault(name, []).append(float(values[case.valid].mean()))
        self.files.setdefault("burden", []).append(float(said.mean()))

    def _measures(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        from labelmend.inference.probabilities import disagreement, entropy, softmax

        one, other = np.split(scores, 2)
        temperature = self.predictor.temperature
        shares = softmax(one, temperature), softmax(other, temperature)
        bare = softmax(one), softmax(other)
        return {
            "uncertainty (entropy)": entropy(shares[0]),
            "disagreement": disagreement(*bare),
            "entropy, no temperature": entropy(bare[0]),
            "disagreement, by the temperature": disagreement(*shares),
            "entropy of both networks' mean": entropy((shares[0] + shares[1]) / 2),
        }

    def result(self) -> dict[str, Any]:
        """Every measure's two figures."""
        weight = np.concatenate([np.full(len(w), 1 / len(w)) for w in self.wrong])
        wrong, worse = np.concatenate(self.wrong), 1 - np.array(self.dice)
        found: dict[str, Any] = {}
        for name, values in self.files.items():
            found[name] = {"files": float(spearmanr(values, worse).statistic)}
            if name in self.scores:
                found[name]["positions"] = auroc(np.concatenate(self.scores[name]), wrong, weight)
        return found


def measure(run: Path) -> dict[str, Any]:
    """One run's figures."""
    from labelmend.inference.calibration import calibrate
    from labelmend.inference.predictor import load

    found: dict[str, Any] = {"calibration": {}}
    for model in ("main", "ensemble"):
        one = calibrate(load(run, model=model))
        found["calibration"][model] = {
            "temperature": one.temperature,
            "samples": [one.samples, one.judged_samples],
            **{
                side: {name: getattr(getattr(one, side), name) for name in ("ece", "nll", "brier")}
                for side in ("before", "after")
            },
        }
    predictor = load(run)
    judges = Judges(predictor)
    for number, sample in enumerate(predictor.run.data.of("test", "strong")):
        judges.add(sample, number)
    found["uncertainty"] = judges.result()
    found["dice"] = statistics.mean(judges.dice)
    found["wrong"] = float(np.mean([w.mean() for w in judges.wrong]))
    return found


# ---------------------------------------------------------------------- tables


def tables(results: dict[str, Any]) -> str:
    """Both tables of the page, in Markdown."""
    return "\n".join([*_calibrated(results), "", *_found(results)])


def _calibrated(results: dict[str, Any]) -> list[str]:
    lines = [
        "| data | network | temperature | ECE before | after | NLL before | after |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in SETS:
        for model in ("main", "ensemble"):
            runs = [results[f"{name}/{s}"]["calibration"][model] for s in SEEDS]
            cells = [_range([r["temperature"] for r in runs], 2)]
            for figure in ("ece", "nll"):
                cells += [_range([r[side][figure] for r in runs], 3) for side in SIDES]
            lines.append(f"| {name} | {model} | {' | '.join(cells)} |")
    return lines


SIDES = ("before", "after")


def _found(results: dict[str, Any]) -> list[str]:
    lines = ["| data | measure | finds wrong positions | orders files |", "|---|---|---|---|"]
    for name in SETS:
        runs = [results[f"{name}/{seed}"]["uncertainty"] for seed in SEEDS]
        for judge in runs[0]:
            cells = [
                _range([r[judge][kind] for r in runs], 2) if kind in runs[0][judge] else "–"
                for kind in ("positions", "files")
            ]
            lines.append(f"| {name} | {judge} | {' | '.join(cells)} |")
    return lines


def _range(values: Sequence[float], digits: int) -> str:
    mean = statistics.mean(values)
    low, high = min(values), max(values)
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path, nargs="?")
    parser.add_argument("work", type=Path, nargs="?")
    parser.add_argument("--table", action="store_true", help="only print what was measured")
    chosen = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if not chosen.table:
        if chosen.work is None:
            parser.error("DATA and WORK are wanted")
        torch.set_num_threads(1)
        for seed in SEEDS:
            for name in SETS:
                run = trained(name, chosen.source, chosen.work, seed)
                results[f"{name}/{seed}"] = measure(run)
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")
                print(name, seed, json.dumps(results[f"{name}/{seed}"]), flush=True)
    print(tables(results))


if __name__ == "__main__":
    main()
