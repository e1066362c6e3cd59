"""Real recordings and images whose weak labels are out of place: plain training, and with --align.

``ludb``: heart beats, every weak label 100 to 200 ms early or late, borders moved by 10 ms besides.
``birdsong``: syllables, every weak song 100 to 300 ms early or late. ``stain``: micrographs, and
what a made-up stain (``stain.py``) shows of them as continuous values, shifted by up to 8
positions: what virtual staining learns from sections that do not lie exactly on each other. Each is
trained on true labels, on the shifted ones as they are, and with these put in place; and on the
strong labels alone. All have the same strong labels, in half of every batch. Figures are of the
last checkpoint on test groups that nobody trained on.

Run: ``python benchmarks/bench_aligned_real.py DATA WORK`` (DATA holds ludb/, birdsong/, dsb2018/);
results are kept one by one and not made again.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import stain

RESULTS = Path(__file__).parent / "results" / "aligned_real.json"
SEEDS = (0, 1, 2)
WAYS: dict[str, dict[str, Any]] = {
    "true labels": {},
    "strong only": {"batch": {"strong_share": 1.0}},
    "plain": {},
    "aligned": {"align": {"transform": "shift"}},
}
SETS: dict[str, dict[str, Any]] = {
    "ludb": {"steps": 800, "input": {"patch": (1024,)}, "window": 128},
    "birdsong": {"steps": 600, "input": {"patch": (512,), "spectrogram": True}, "window": 100},
    "stain": {**stain.SETTINGS, "window": 12},
}


def prepare(name: str, source: Path, work: Path, seed: int) -> Path:
    """The data set, made if it is not there."""
    out = work / f"{name}-{seed}"
    if out.exists():
        return out
    if name == "stain":
        return stain.write(source / "dsb2018", out, seed, "shift")
    script = Path(__file__).with_name(f"prepare_{name}.py")
    command = [sys.executable, str(script), str(source / name), str(out), "--seed", str(seed)]
    subprocess.run([*command, "--gross", "1", "--jitter", "10"], check=True)
    return out


def true_labels(data: Path) -> Path:
    """The same data set, its weak labels replaced by the truth."""
    out = data.with_name(f"{data.name}-true")
    if out.exists():
        return out
    shutil.copytree(data, out)
    index = data / "truth" / "index.csv"
    if index.exists():
        with index.open(newline="") as file:
            pairs = [(row["label"], row["truth"]) for row in csv.DictReader(file)]
    else:
        names = [path.name for path in (data / "labels" / "weak").iterdir()]
        pairs = [(f"labels/weak/{name}", f"truth/{name}") for name in names]
    for label, truth in pairs:
        shutil.copy(data / truth, out / label)
    return out


def run_one(name: str, way: str, data: Path, work: Path, seed: int) -> dict[str, Any]:
    """Train and evaluate."""
    import torch

    from labelmend.inference.evaluate import evaluate
    from labelmend.inference.predictor import load
    from labelmend.training.assembly import fit

    torch.set_num_threads(1)
    chosen = dict(SETS[name])
    window = chosen.pop("window")
    over = {**WAYS[way]}
    if "align" in over:
        over["align"] = {**over["align"], "window": window}
    out = work / f"{name}-{way.replace(' ', '-')}-{seed}.run"
    shutil.rmtree(out, ignore_errors=True)
    fixed = {"weighting": {"method": "constant", "initial": 1.0}, "seed": seed}
    # Nobody takes a second ending, without weak labels: then nothing would be compared.
    over["batch"] = {**over.get("batch", {}), "ending": "as_is"}
    network = {"network": {"width": 8, "depth": 3}}
    run = fit(data, out, **{**network, **fixed, **chosen, **over})
    predictor = load(run)
    found = evaluate(predictor, "test", tolerance=0).to_json()
    if name == "stain":
        found["mean"]["sharpness"] = stain.sharpness(predictor, data)
    last = run.metrics("train")[-1]
    kept = {key: last[key] for key in ("moved", "unclear", "drift_0", "drift_1") if key in last}
    return {"mean": found["mean"], **kept}


def table(results: dict[str, Any]) -> str:
    """Mean (least to most) over seeds of the main figure, as Markdown; of what has all seeds."""
    lines = ["| data | " + " | ".join(WAYS) + " |", "|---" * (len(WAYS) + 1) + "|"]
    for name in SETS:
        cells = []
        for way in WAYS:
            runs = [results.get(f"{name}/{way}/{seed}") for seed in SEEDS]
            figure = "psnr" if name == "stain" else "dice"
            values = [run["mean"][figure] for run in runs if run]
            full = len(values) == len(SEEDS)
            digits = 1 if figure == "psnr" else 3
            ends = f"({min(values):.{digits}f} to {max(values):.{digits}f})" if full else ""
            cells.append(f"{statistics.mean(values):.{digits}f} {ends}" if full else "–")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Train what is missing, keep it, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--only", default="", help="runs whose name holds this")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    file = given.results
    results = json.loads(file.read_text()) if file.exists() else {}
    for seed in SEEDS:
        for name in SETS:
            for way in WAYS:
                key = f"{name}/{way}/{seed}"
                if key in results or given.only not in key:
                    continue
                data = prepare(name, given.source, given.work, seed)
                data = true_labels(data) if way == "true labels" else data
                results[key] = run_one(name, way, data, given.work, seed)
                file.write_text(json.dumps(results, indent=1) + "\n")
                print(key, results[key], flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
