"""The demo's job over several seeds: what weak labels and learned weights bring on made-up data.

Every method sees the same images, steps, batches of 8 and network; figures are from the last
checkpoint on 40 images that nobody trained on. ``all_strong`` has the true label of every weak
sample and is the ceiling. Nobody takes a second ending: only what is compared differs. Results go
to ``benchmarks/results/demo.json`` run by run, so that an interrupted benchmark goes on, and the
table is made from them.
Run: ``python benchmarks/bench_demo.py [--seeds 3] [--steps 300]``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "demo.json"
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "strong_only": ("strong_only", {}),
    "pooled": ("pooled", {}),
    "equal weights": ("weighted", {"weighting": {"method": "constant", "initial": 1.0}}),
    "weighted, similarity": ("weighted", {"weighting": {"signal": "similarity"}}),
    "weighted, loss": ("weighted", {"weighting": {"signal": "loss"}}),
    "weighted, fit": ("weighted", {"weighting": {"signal": "fit"}}),
    "weighted, both": ("weighted", {"weighting": {"signal": "both"}}),
    "weighted, alike (the default)": ("weighted", {}),
    "all_strong (the ceiling)": ("strong_only", {}),
}


def run_one(method: str, seed: int, steps: int) -> dict[str, float | None]:
    """Dice on the test images, and how weights rank labels by their true quality."""
    import torch

    from labelmend import demo
    from labelmend.inference.evaluate import evaluate
    from labelmend.inference.predictor import load
    from labelmend.training.assembly import fit

    torch.set_num_threads(1)
    preset, settings = METHODS[method]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        quality = demo.make_data(data, seed)
        if method.startswith("all_strong"):
            manifest = data / "manifest.csv"
            text = manifest.read_text().replace(",labels/weak/", ",truth/")
            text = text.replace(".png,weak,", ".png,strong,")
            manifest.write_text(text)
        run = fit(
            data,
            Path(folder) / "run",
            preset=preset,
            seed=seed,
            steps=steps,
            validate_every=steps,
            network={"width": 8, "depth": 3},
            batch={"ending": "as_is"},
            **settings,
        )
        return {
            "dice": evaluate(load(run), "test").mean["dice"],
            "correlation": demo._rank_correlation(run, quality),
        }


def table(results: dict[str, dict[str, Any]]) -> str:
    """Mean and range over seeds of every method, as Markdown."""
    lines = ["| trained on | Dice against truth | rank correlation of weights with label quality |"]
    lines.append("|---|---|---|")
    for method in METHODS:
        found = [value for key, value in results.items() if key.split("/")[0] == method]
        if not found:
            continue
        correlations = [f["correlation"] for f in found if f["correlation"] is not None]
        shown = spread(correlations, 2) if correlations else "–"
        lines.append(f"| {method} | {spread([f['dice'] for f in found], 3)} | {shown} |")
    return "\n".join(lines)


def spread(values: list[float], digits: int) -> str:
    """Mean and range, as text."""
    low, middle, high = min(values), statistics.mean(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main() -> None:
    """Run what is missing, keep it, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args()
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results = kept.get("runs", {}) if kept.get("steps") == given.steps else {}
    RESULTS.parent.mkdir(exist_ok=True)
    for seed in range(given.seeds):
        for method in METHODS:
            key = f"{method}/{seed}"
            if key not in results:
                results[key] = run_one(method, seed, given.steps)
                text = json.dumps({"steps": given.steps, "runs": results}, indent=1)
                RESULTS.write_text(text + "\n")
                print(key, results[key], flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
