"""Four real data sets, three ways to train: strong labels only, all labels pooled, weights learned.

Same steps, batches and network for all three ways of a set, last checkpoint, test groups that
nobody trained on, one seed: a first look, not the evidence. The weak labels of ``bubil`` are real
outlines by untrained people; those of the other sets are simulated (see ``prepare_*.py``). Runs
are kept under WORK and not repeated; the table is made from ``benchmarks/results/real.json``.
Run: ``python benchmarks/bench_real.py DATA WORK`` (DATA holds bubil/, hippocampus/, ludb/,
birdsong/); about an hour on one core.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "real.json"
PRESETS = ("strong_only", "pooled", "weighted")
SETS: dict[str, tuple[str, dict[str, Any]]] = {
    "bubil": (
        "cells, outlines by untrained people",
        {"steps": 300, "input": {"patch": (192, 192)}},
    ),
    "hippocampus": ("3-D MR, labels made rough", {"steps": 300, "batch": {"size": 4}}),
    "ludb": ("ECG, onsets jittered", {"steps": 400, "input": {"patch": (1024,)}}),
    "birdsong": (
        "syllables, onsets jittered",
        {"steps": 300, "input": {"patch": (1024,), "spectrogram": True}},
    ),
}
WEIGHTED = {"hippocampus": {"weighting": {"start": 60, "every": 30}}}


def prepare(name: str, source: Path, work: Path) -> Path:
    """The data set in labelmend's own format, made if it is not there."""
    out = work / name
    if not out.exists():
        script = Path(__file__).with_name(f"prepare_{name}.py")
        subprocess.run([sys.executable, str(script), str(source / name), str(out)], check=True)
    return out


def run_one(name: str, preset: str, data: Path, out: Path) -> dict[str, Any]:
    """Train unless it has been done, and evaluate on the test split."""
    from labelmend.inference.evaluate import evaluate
    from labelmend.inference.predictor import load
    from labelmend.runs import Run
    from labelmend.training.assembly import fit, resume

    settings = SETS[name][1] | (WEIGHTED.get(name, {}) if preset == "weighted" else {})
    if not out.exists():
        fit(data, out, preset=preset, **settings)
    elif Run.open(out).load().step < settings["steps"]:
        resume(out)
    found = evaluate(load(out), "test").to_json()
    return {"mean": found["mean"], "samples": found["samples"], "step": found["step"]}


def table(results: dict[str, Any]) -> str:
    """Mean Dice of the foreground classes on the test samples, as Markdown."""
    lines = ["| data | strong only | pooled | weighted |", "|---|---|---|---|"]
    for name, (words, _) in SETS.items():
        cells = [results.get(f"{name}/{preset}") for preset in PRESETS]
        shown = ["–" if c is None else f"{c['mean']['dice']:.3f}" for c in cells]
        lines.append(f"| {name}: {words} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, keep it, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("work", type=Path)
    given = parser.parse_args()
    results: dict[str, Any] = {}
    for name in SETS:
        data = prepare(name, given.source, given.work)
        for preset in PRESETS:
            out = given.work / f"{name}-{preset}"
            results[f"{name}/{preset}"] = run_one(name, preset, data, out)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
