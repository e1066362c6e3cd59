"""Does it help? Every method on every data set and kind of fault, run by run, with its seeds.

Each run trains, takes its last checkpoint, and is measured on true labels of groups that nobody
trained or chose anything on. Its line is added to ``results/quality.jsonl`` when it ends, and a
run that has a line is not made again: stop it and go on as you like, on several machines if you
join the lines. Runs of the first tier come first, seed by seed over all scenes; further tiers are
run where a scene is looked at closely.

    python benchmarks/quality.py --hours 1            # what fits into an hour
    python benchmarks/quality.py --only "nuclei" "weights"   # names that hold all of these
    python benchmarks/quality.py --write              # nothing is run; tables and plot are renewed

Seeds 0 to 2 are for the tables. Whatever was chosen by looking at results was chosen on others.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

import quality_data
import quality_tables
from bench_label_ranking import auroc
from quality_data import SCENES
from quality_methods import METHODS, Job, Method
from quality_peers import PEERS

if TYPE_CHECKING:
    from labelmend.runs import Run

RESULTS = Path(__file__).parent / "results" / "quality.jsonl"
SEEDS = (0, 1, 2)
ALL: dict[str, Method] = METHODS | PEERS
FIGURES = ("dice", "surface_distance", "event_f1", "onset_error")
GUESS = 60.0
"""Seconds that a run takes of which nothing like it was measured yet."""


class Name(NamedTuple):
    """Which run."""

    scene: str
    method: str
    seed: int

    def __str__(self) -> str:
        return f"{self.scene} / {self.method} / {self.seed}"


def wanted(only: Sequence[str], seeds: Sequence[int]) -> Iterator[Name]:
    """All runs whose names hold all of these words, in the order in which to make them."""
    for tier in sorted({method.tier for method in ALL.values()}):
        for seed in seeds:
            for name, scene in SCENES.items():
                for called, method in ALL.items():
                    one = Name(name, called, seed)
                    fits = method.tier == tier and method.only(scene)
                    fits = fits and (tier == 1 or scene.closely)
                    if fits and all(word in str(one) for word in only):
                        yield one


def run_one(name: Name, work: Path) -> dict[str, Any]:
    """Lay the data out, train, and measure."""
    from labelmend.inference.evaluate import evaluate
    from labelmend.inference.predictor import load

    scene, method = SCENES[name.scene], ALL[name.method]
    data = work / "data"
    scene.make(name.seed, data)
    began = time.process_time()
    run = method.train(Job(scene, data, work, name.seed))
    seconds = time.process_time() - began  # of the processor: whatever else the machine does
    found = evaluate(load(run), "test", tolerance=0).to_json()["mean"]
    return {
        **name._asdict(),
        **{key: found[key] for key in FIGURES if found.get(key) is not None},
        "processor_seconds": round(seconds, 1),
        "steps": run.steps()[-1],
        **_of_weights(run, data),
        **_of_places(run, data),
        **_of_endings(run),
    }


def _of_weights(run: Run, data: Path) -> dict[str, float]:
    """How learned weights agree with how good labels are."""
    from scipy.stats import spearmanr

    rows = {row["id"]: row for row in run.weights() if "weight" in row}
    index = [r for r in quality_data.read_csv(data / "truth" / "index.csv") if r["label"] in rows]
    if run.settings.weighting.method == "constant" or not index:
        return {}
    weight = [float(rows[row["label"]]["average"]) for row in index]
    good = [quality_data.quality(row) for row in index]
    found = {
        "mean_weight": statistics.fmean(float(rows[r["label"]]["weight"]) for r in index),
        "rank_correlation": float(spearmanr(weight, good).statistic),
    }
    bad = np.array([row["gross"] == "1" for row in index])
    if bad.any() and not bad.all():
        found["auroc"] = auroc(np.array(weight), bad)
    return {key: round(value, 4) for key, value in found.items() if np.isfinite(value)}


def _of_places(run: Run, data: Path) -> dict[str, float]:
    """How far shifted labels are from their place, and how far they were: means, in positions."""
    file = data / "truth" / "moves.csv"
    if run.settings.align.transform != "shift" or not file.exists():
        return {}
    moves = {row.pop("label"): row for row in quality_data.read_csv(file)}
    found = {row["id"]: row for row in run.places()}
    before, after = [], []
    for label, move in moves.items():
        true = np.array([float(value) for value in move.values()])
        row = found.get(label, {})
        given = np.array([float(row.get(f"displacement_{axis}", 0)) for axis in range(len(true))])
        before.append(np.linalg.norm(true))
        after.append(np.linalg.norm(true + given))
    return {
        "displaced_before": round(float(np.mean(before)), 3),
        "displaced_after": round(float(np.mean(after)), 3),
    }


def _of_endings(run: Run) -> dict[str, Any]:
    """Which of two endings was kept, and what held-out labels said of either."""
    told = run.metrics("ending")
    if not told:
        return {}
    return {"kept": told[-1]["kept"], "held_out": [told[-1]["as_is"], told[-1]["strong"]]}


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of all runs so far; one that was being written when power went is cut off."""
    text = path.read_text() if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    return [json.loads(line) for line in whole.splitlines()]


def expected(name: Name, done: Sequence[dict[str, Any]]) -> float:
    """Seconds that a run will take, by those of the same method and scene, or of either."""
    for alike in (("scene", "method"), ("scene",), ()):
        like = [run for run in done if all(run[k] == getattr(name, k) for k in alike)]
        times = [run["wall"] for run in like if "wall" in run]
        if times:
            return statistics.median(times)
    return GUESS


def main() -> None:
    """Run what is missing, as long as there is time; then draw the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, default=float("inf"), help="begin what will fit")
    parser.add_argument("--only", nargs="*", default=[], help="runs whose names hold all of these")
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument(
        "--write", action="store_true", help="run nothing; renew the documents from the results"
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    began, done = time.monotonic(), read(given.results)
    known = {Name(run["scene"], run["method"], run["seed"]) for run in done}
    todo = [] if given.write else [n for n in wanted(given.only, given.seeds) if n not in known]
    for number, name in enumerate(todo):
        left = given.hours * 3600 - (time.monotonic() - began)
        if expected(name, done) > left:
            print(f"{len(todo) - number} runs are left; the next would not fit into the time")
            break
        started = time.monotonic()
        work = Path(tempfile.mkdtemp(prefix="quality-"))
        try:
            found = run_one(name, work)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        done.append({**found, "wall": round(time.monotonic() - started, 1)})
        with given.results.open("a") as file:
            file.write(json.dumps(done[-1]) + "\n")
        shown = "  ".join(f"{k} {found[k]:.3f}" for k in FIGURES if k in found)
        print(f"{number + 1} of {len(todo)}: {name}: {shown}", flush=True)
    if given.write:
        quality_tables.write(done, SCENES, ALL)
    else:
        print(quality_tables.summary(done, SCENES))


if __name__ == "__main__":
    main()
