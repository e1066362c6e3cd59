"""What becomes of weights in training: of good and of planted bad labels, by every update rule.

The scene is ``mixed mistakes`` of ``planted.py``: one weak label in three is shifted, of another
image, empty, far too large or far too small. 8 strong and 120 weak labels, 1,000 steps, three
seeds. The goals: the mean weight of good labels stays at 0.6 or more, that of bad ones falls
under 0.2. Beside the rules stand the switches that show what weights are worth: constant ones,
each label another's (shuffled), and those that somebody who knows would give (oracle). Dice is of
the last checkpoint on 40 images with true labels, which nobody trained or chose anything on.

Run: ``python benchmarks/bench_weight_dynamics.py``; results are kept one by one and not made
again. ``--picture FILE`` draws the weights of the default over training.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import planted
from bench_label_ranking import auroc

RESULTS = Path(__file__).parent / "results" / "weight_dynamics.json"
STRONG, TEST, WEAK, STEPS = 8, 40, 120, 1000
SEEDS = (3, 4, 5)
VARIANTS: dict[str, dict[str, Any]] = {
    "alike, plain (the default)": {},
    "both, plain": {"signal": "both"},
    "both, normalised": {"signal": "both", "update": "normalised"},
    "both, centred": {"signal": "both", "update": "centred"},
    "both, adam": {"signal": "both", "update": "adam"},
    "similarity, plain (eq. 9)": {"signal": "similarity", "update": "plain"},
    "similarity, normalised": {"signal": "similarity", "update": "normalised"},
    "similarity, cosine": {"signal": "similarity", "update": "cosine"},
    "similarity, plain, no curvature, all parameters": {
        "signal": "similarity",
        "update": "plain",
        "curvature": "identity",
        "parameters": "all",
    },
    "fit, plain": {"signal": "fit"},
    "loss, plain": {"signal": "loss"},
    "both, plain, shuffled": {"signal": "both", "shuffled": True},
    "constant 0.5": {"method": "constant"},
    "constant 1": {"method": "constant", "initial": 1.0},
    "oracle": {"method": "constant", "given": "oracle.csv"},
}


def run_one(images: str, variant: str, seed: int) -> dict[str, Any]:
    """Weights over a training, and what it came to."""
    from labelmend.inference.evaluate import evaluate
    from labelmend.inference.predictor import load
    from labelmend.training.assembly import fit

    torch.set_num_threads(1)
    case = planted.SETS[images](TEST + STRONG, WEAK, seed, "mixed mistakes")
    weighting = dict(VARIANTS[variant])
    with tempfile.TemporaryDirectory() as folder:
        data = planted.write(case, Path(folder) / "data", test=TEST)
        if "given" in weighting:
            weighting["given"] = str(_oracle(case, Path(folder) / weighting["given"]))
        run = fit(
            data,
            Path(folder) / "run",
            seed=seed,
            steps=STEPS,
            network={"width": 8, "depth": 3},
            input={"val_share": 0.0},
            weighting=weighting,
        )
        steps, paths = _paths(run)
        return {
            "dice": evaluate(load(run), "test").mean["dice"],
            "steps": steps,
            "good": _rounded(paths[:, ~case.bad]),
            "bad": _rounded(paths[:, case.bad]),
            "auroc": auroc(paths[-1], case.bad),
        }


def _oracle(case: planted.Planted, path: Path) -> Path:
    rows = [
        f"labels/weak/s{place}.npy,{0 if fault else 1}"
        for place, fault in enumerate(case.fault)
        if place >= case.strong
    ]
    path.write_text("\n".join(["label,weight", *rows]) + "\n")
    return path


def _paths(run: Any) -> tuple[list[int], np.ndarray]:
    """Steps, and ``(steps, weak)`` the weights in the order of the case."""
    names = [sample.id for sample in run.weak]
    order = sorted(range(len(names)), key=lambda n: int(Path(names[n]).stem[1:]))
    given = {row["id"]: float(row["weight"]) for row in run.weights()}
    steps: list[int] = []
    rows: list[list[float]] = []
    for record in run.weight_history():
        before = rows[-1] if rows else [run.settings.weighting.initial] * len(names)
        values = record["columns"]["weight"]
        steps.append(record["step"])
        rows.append([w if v is None else v for w, v in zip(before, values, strict=True)])
    rows = rows or [[given[name] for name in names]]
    return steps or [STEPS], np.array(rows)[:, order]


def _rounded(values: np.ndarray) -> list[list[float]]:
    return [[round(v, 3) for v in row] for row in values.tolist()]


def table(results: dict[str, Any]) -> str:
    """Ends of trainings, mean (least to most) over seeds, as Markdown; of what has all seeds."""
    lines = ["| | images | good labels | bad labels | AUROC | Dice |", "|---|---|---|---|---|---|"]
    for variant in VARIANTS:
        for images in planted.SETS:
            names = [f"{images}/{variant}/{seed}" for seed in SEEDS]
            runs = [results[name] for name in names if name in results]
            if len(runs) == len(SEEDS):
                cells = [
                    _spread([statistics.mean(run["good"][-1]) for run in runs], 2),
                    _spread([statistics.mean(run["bad"][-1]) for run in runs], 2),
                    _spread([run["auroc"] for run in runs], 3),
                    _spread([run["dice"] for run in runs], 3),
                ]
                lines.append(f"| {variant} | {images} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _spread(values: list[float], digits: int) -> str:
    low, middle, high = min(values), statistics.mean(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def draw(results: dict[str, Any], variant: str, path: Path) -> None:
    """The weight of every label over training, one picture for each set and seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 5.4), layout="constrained")
    axes = figure.subplots(len(planted.SETS), len(SEEDS), sharex=True, sharey=True, squeeze=False)
    for row, images in enumerate(planted.SETS):
        for column, seed in enumerate(SEEDS):
            run, plot = results[f"{images}/{variant}/{seed}"], axes[row, column]
            steps = [0, *run["steps"]]
            for kind, colour in (("good", "#4c78a8"), ("bad", "#e45756")):
                paths = np.array([[0.5] * len(run[kind][0]), *run[kind]])
                plot.plot(steps, paths, color=colour, linewidth=0.5, alpha=0.25)
                plot.plot(steps, paths.mean(1), color=colour, linewidth=2.5, label=f"{kind}, mean")
            plot.axhline(0.6, color="#4c78a8", linestyle=":", linewidth=1)
            plot.axhline(0.2, color="#e45756", linestyle=":", linewidth=1)
            plot.set_title(f"{images}, seed {seed}", fontsize=10)
            plot.spines[["top", "right"]].set_visible(False)
    axes[0, 0].legend(frameon=False, fontsize=9, loc="center right")
    figure.supxlabel("training step", fontsize=10)
    figure.supylabel("weight", fontsize=10)
    figure.savefig(path)


def main() -> None:
    """Run what is missing, keep it, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", type=Path, default=None)
    given = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.parent.mkdir(exist_ok=True)
    names = [(i, v, seed) for v in VARIANTS for seed in SEEDS for i in planted.SETS]
    for images, variant, seed in names:
        name = f"{images}/{variant}/{seed}"
        if name not in results:
            results[name] = run_one(images, variant, seed)
            RESULTS.write_text(json.dumps(results) + "\n")
            found = results[name]
            good, bad = (round(statistics.mean(found[k][-1]), 2) for k in ("good", "bad"))
            print(name, good, bad, round(found["auroc"], 3), round(found["dice"], 3), flush=True)
    print(table(results))
    if given.picture:
        draw(results, "alike, plain (the default)", given.picture)


if __name__ == "__main__":
    main()
