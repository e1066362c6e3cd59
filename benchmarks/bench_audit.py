"""Does the order of an audit find the bad labels, and better than one figure alone would?

``lesions`` (made up) and ``nuclei`` (real micrographs): 8 strong and 120 weak labels, of which one
in three is planted bad as in ``planted.py``: shifted, of another image, empty, far too large or
far too small; with ``same mistake`` three in five are too large. 600 steps. ``bubil``:
phase-contrast cells with the outlines of seven untrained people, as they are
(``prepare_bubil.py``); bad are the tenth with the least Dice to the majority of experts. 500 steps
on patches of 96.

Compared are orders of the weak training labels: those of the audit (by what is to be gained, and
by how likely a label is wrong), and by their weight, the loss that was recorded last, their
disagreement with the prediction, that with other labels of the image (``bubil`` only), each alone,
and at random. AUROC, and which share of the first tenth is bad.

The figures in the formula were chosen on seeds 0 and 10 to 12; those that are shown are of seeds
3 to 5.

Run: ``python benchmarks/bench_audit.py [SEED ...]``; results are kept one by one and not made
again. What is kept is what is known of each label, so that the formula can be tried again.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

import planted
from bench_label_ranking import auroc

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "audit.json"
BUBIL = HERE.parents[1] / "shared" / "data" / "bubil"
STRONG, WEAK = 8, 120
SEEDS = (3, 4, 5)
SETS = {
    "lesions": "mixed mistakes",
    "nuclei": "mixed mistakes",
    "nuclei, same mistake": "same mistake",
    "bubil": "",
}
WORST = 0.1
"""Share of the labels of bubil that count as bad."""
KNOWN = (
    "disagreement",
    "others",
    "fellows",
    "weight",
    "average",
    "loss",
    "confidence",
    "explained",
)
SMALL = {"network": {"width": 8, "depth": 3}, "weighting": {"signal": "both"}}


def run_one(images: str, seed: int) -> dict[str, Any]:
    """What is known of every weak training label, and which are bad."""
    from labelmend.audit.alike import find_alike
    from labelmend.audit.looking import look
    from labelmend.inference.predictor import load
    from labelmend.progress import Silent
    from labelmend.training.assembly import fit

    torch.set_num_threads(1)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data, bad = _made(images, root / "data", seed)
        settings: dict[str, Any] = {"seed": seed, "steps": 600, "input": {"val_share": 0.0}}
        if images == "bubil":
            settings |= {"steps": 500, "input": {"patch": [96, 96]}}
        run = fit(data, root / "run", **settings, **SMALL)
        trained = time.process_time() - began
        evidence, prints, _ = look(load(run), Silent())
        alike = {i: sorted(others) for i, others in find_alike(prints).items()}
    labels = [
        {
            "label": one.sample.label,
            "image": one.sample.image,
            "annotator": one.sample.annotator,
            "quality": one.sample.quality,
            "split": one.sample.split,
            "bad": bad.get(one.sample.label),
            **{name: _rounded(getattr(one, name)) for name in KNOWN},
            "displacement": None if one.displacement is None else list(one.displacement),
        }
        for one in evidence
    ]
    looked = time.process_time() - began - trained
    return {
        "labels": labels,
        "alike": alike,
        "training_s": round(trained, 1),
        "audit_s": round(looked, 1),
    }


def _made(images: str, folder: Path, seed: int) -> tuple[Path, dict[str, bool]]:
    """The data set, and which of its weak labels are bad."""
    if images != "bubil":
        case = planted.SETS[images.partition(",")[0]](STRONG, WEAK, seed, SETS[images])
        names = [f"labels/weak/s{place}.npy" for place in range(STRONG, len(case.fault))]
        return planted.write(case, folder), dict(zip(names, case.bad.tolist(), strict=True))
    script = [sys.executable, str(HERE / "prepare_bubil.py"), str(BUBIL), str(folder)]
    subprocess.run([*script, "--seed", str(seed)], check=True, stdout=subprocess.DEVNULL)
    with (folder / "truth" / "index.csv").open(newline="") as file:
        dice = {row["label"]: float(row["dice"]) for row in csv.DictReader(file)}
    bar = float(np.quantile(list(dice.values()), WORST))
    return folder, {label: value <= bar for label, value in dice.items()}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


# ---------------------------------------------------------------------- orders


def orders(found: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
    """By every order, how early each weak training label comes: larger is earlier."""
    from labelmend.audit.evidence import Evidence
    from labelmend.audit.ranking import Order, rank
    from labelmend.types import Sample

    rows = found["labels"]
    evidence = [
        Evidence(
            Sample(r["image"], r["label"], r["quality"], r["split"], "", r["annotator"]),
            **{name: r[name] for name in KNOWN},
            displacement=None if r["displacement"] is None else tuple(r["displacement"]),
        )
        for r in rows
    ]
    alike = {int(i): others for i, others in found["alike"].items()}
    audit = {}
    for order in get_args(Order):
        audit[order] = np.empty(len(rows))
        for place, one in enumerate(rank(evidence, alike, order=order)):
            audit[order][one.index] = -place
    rng = np.random.default_rng([seed, 9])
    every = {
        "audit, by gain": audit["gain"],
        "audit, by what is wrong": audit["wrong"],
        "weight, averaged, alone": -_column(rows, "average"),
        "weight at the end alone": -_column(rows, "weight"),
        "loss alone": _column(rows, "loss"),
        "disagreement alone": _column(rows, "disagreement"),
        "other labels alone": _column(rows, "others"),
        "random": rng.permutation(len(rows)).astype(float),
    }
    judged = [i for i, row in enumerate(rows) if row["bad"] is not None]
    return {name: values[judged] for name, values in every.items()}


def _column(rows: list[dict[str, Any]], name: str) -> np.ndarray:
    """A figure of every label; where there is none the mean of the others."""
    values = np.array([np.nan if r[name] is None else r[name] for r in rows], float)
    known = values[~np.isnan(values)]
    return np.where(np.isnan(values), known.mean() if len(known) else 0.0, values)


def figures(found: dict[str, Any], seed: int) -> dict[str, tuple[float, float]]:
    """AUROC, and the share of bad labels in the first tenth, of every order."""
    bad = np.array([r["bad"] for r in found["labels"] if r["bad"] is not None])
    return {
        name: (auroc(-early, bad), precision(early, bad))
        for name, early in orders(found, seed).items()
    }


def precision(early: np.ndarray, bad: np.ndarray) -> float:
    """The share of bad ones in the first tenth, on average over the orders of what is equal."""
    many = max(1, round(len(early) / 10))
    bar = np.sort(early)[-many]
    above, at = early > bar, early == bar
    return float((bad[above].sum() + bad[at].mean() * (many - above.sum())) / many)


def table(results: dict[str, Any], seeds: tuple[int, ...] = SEEDS) -> str:
    """AUROC and precision, mean (least) over seeds, as Markdown."""
    heads = [f"{images}: {what}" for images in SETS for what in ("AUROC", "first tenth")]
    lines = ["| order | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    cells: dict[str, list[str]] = {}
    for images in SETS:
        runs = [figures(results[k], s) for s in seeds if (k := f"{images}/{s}") in results]
        for name in runs[0] if runs else ():
            for which in (0, 1):
                values = [run[name][which] for run in runs]
                text = f"{statistics.mean(values):.3f} ({min(values):.3f})"
                cells.setdefault(name, []).append(text)
    return "\n".join([*lines, *(f"| {name} | {' | '.join(row)} |" for name, row in cells.items())])


def main() -> None:
    """Run what is missing, keep it, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", nargs="*", type=int, default=SEEDS)
    parser.add_argument("--sets", nargs="*", default=SETS)
    given = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for seed in given.seeds:
        for images in given.sets:
            name = f"{images}/{seed}"
            if name in results:
                continue
            results[name] = run_one(images, seed)
            RESULTS.write_text(json.dumps(results) + "\n")
            first = {k: [round(x, 3) for x in v] for k, v in figures(results[name], seed).items()}
            print(name, results[name]["training_s"], results[name]["audit_s"], first, flush=True)
    print(table(results, tuple(given.seeds)))


if __name__ == "__main__":
    main()
