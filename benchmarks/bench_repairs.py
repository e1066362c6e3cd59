"""Does it pay to repair labels in the order of the audit? Repair the first k, train again, compare.

8 strong and 120 weak labels (``planted.py``). ``mixed mistakes``: one weak label in three is
shifted, of another image, empty, far too large or far too small. ``same mistake``: three in five
are far too large. A first training is audited; then somebody who knows the truth repairs the
first k labels of the audit, by what is to be gained (its default) or by how likely a label is
wrong, or k drawn at random, and accepts them (they stay weak, and are weighed) or marks them as
strong as well (``repairs.csv``); a second training begins anew with the
same settings and the same seed. Dice is of the last checkpoint on 40 images with true labels,
which nobody trained, ranked or chose anything on.

Run: ``python benchmarks/bench_repairs.py``; results are kept one by one and not made again.
``--picture FILE`` draws the curves.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

import planted
from labelmend.types import Quality

RESULTS = Path(__file__).parent / "results" / "repairs.json"
STRONG, TEST, WEAK, STEPS = 8, 40, 120, 500
SEEDS = (3, 4, 5)
COUNTS = (20, 40)
ORDERS = ("gain", "wrong", "random")
MARKS: tuple[Quality, ...] = ("weak", "strong")
"""What a repaired label counts as: accepted as it is now, or marked as strong besides."""
PARTS = [(images, scene) for images in planted.SETS for scene in planted.SCENES]
WORDS = {"weak": "accepted", "strong": "marked as strong"}
NAMES = {"gain": "audit", "wrong": "audit, --order wrong", "random": "random"}
COLOURS = {"gain": "#0072b2", "wrong": "#d55e00", "random": "#777777"}


def run_one(images: str, scene: str, seed: int, keep: Any, known: dict[str, Any]) -> None:
    """All trainings of one set, scene and seed that are not known; each is kept when it ends."""
    case = planted.SETS[images](TEST + STRONG, WEAK, seed, scene)
    first = f"{images}/{scene}/{seed}"
    before = f"{first}/none/0"
    names = {
        f"{first}/{order}/{count}/{mark}": (order, count, mark)
        for mark in MARKS
        for order in ORDERS
        for count in COUNTS
    }
    if all(name in known for name in (before, *names)):
        return
    with tempfile.TemporaryDirectory() as folder:
        data = planted.write(case, Path(folder) / "data", test=TEST)
        run = _trained(data, Path(folder) / "first", seed)
        orders = _orders(run, case, seed)
        if before not in known:
            keep(before, {"dice": _judged(run)})
        for name, (order, count, mark) in names.items():
            if name in known:
                continue
            repaired = orders[order][:count]
            _repair(data, case, repaired, mark)
            again = _trained(data, Path(folder) / f"{order}{count}{mark}", seed)
            bad = sum(bool(case.fault[place]) for place in repaired)
            keep(name, {"dice": _judged(again), "bad": bad})


def _trained(data: Path, out: Path, seed: int) -> Any:
    from labelmend.training.assembly import fit

    torch.set_num_threads(1)
    settings: dict[str, Any] = {
        "network": {"width": 8, "depth": 3},
        "input": {"val_share": 0.0},
        "weighting": {"signal": "both"},
    }
    return fit(data, out, seed=seed, steps=STEPS, **settings)


def _judged(run: Any) -> float:
    from labelmend.inference.evaluate import evaluate
    from labelmend.inference.predictor import load

    return float(evaluate(load(run), "test").mean["dice"])


def _orders(run: Any, case: planted.Planted, seed: int) -> dict[str, list[int]]:
    """Places of weak labels, those to repair first at the beginning."""
    from labelmend.audit import run_audit
    from labelmend.audit.ranking import Order
    from labelmend.inference.predictor import load

    found = {}
    for order in get_args(Order):
        ranked = run_audit(load(run), order=order).labels
        found[order] = [int(Path(r.label).stem[1:]) for r in ranked if r.quality == "weak"]
    weak = range(case.strong, len(case.fault))
    rng = np.random.default_rng([seed, 11])
    return found | {"random": [int(n) for n in rng.permutation(list(weak))]}


def _repair(data: Path, case: planted.Planted, places: list[int], mark: Quality) -> None:
    """Put the truth beside the labels, and a table that says so: as a review leaves it."""
    from labelmend.catalogue.repairs import Repair, repaired_name, write_repairs

    repairs = []
    for place in places:
        label = f"labels/weak/s{place}.npy"
        name = f"{repaired_name(label, 'truth')}.npy"
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(data / name, case.truth[place].astype(np.uint8))
        repairs.append(Repair(label, "accepted", mark, name))
    write_repairs(data, repairs)


def table(results: dict[str, Any], mark: str) -> str:
    """Gain in Dice over no repair, every seed, as Markdown."""
    heads = ["images and mistakes", "repaired", *(NAMES[order] for order in ORDERS)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for images, scene in PARTS:
        for count in COUNTS:
            cells = [_cell(results, f"{images}/{scene}", order, count, mark) for order in ORDERS]
            lines.append(f"| {' | '.join([f'{images}, {scene}', str(count), *cells])} |")
    return "\n".join(lines)


def gains(results: dict[str, Any], part: str, order: str, count: int, mark: str) -> list[float]:
    """Dice after repairs less that before, for every seed that has both."""
    pairs = [
        (results.get(f"{part}/{seed}/{order}/{count}/{mark}"), results.get(f"{part}/{seed}/none/0"))
        for seed in SEEDS
    ]
    return [after["dice"] - before["dice"] for after, before in pairs if after and before]


def _cell(results: dict[str, Any], part: str, order: str, count: int, mark: str) -> str:
    found = gains(results, part, order, count, mark)
    if len(found) < len(SEEDS):
        return "–"
    runs = [results[f"{part}/{seed}/{order}/{count}/{mark}"] for seed in SEEDS]
    bad = statistics.mean(run["bad"] for run in runs)
    each = ", ".join(f"{gain:+.3f}" for gain in found)
    return f"**{statistics.mean(found):+.4f}** ({each}); {bad:.0f} were bad"


def draw(results: dict[str, Any], path: Path) -> None:
    """Gain against the number of repairs: a column for each set and scene, a row for each mark."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.4, 5.4), layout="constrained")
    grid = figure.subplots(len(MARKS), len(PARTS), sharex=True, sharey="row", squeeze=False)
    for mark, row in zip(MARKS, grid, strict=True):
        for (images, scene), panel in zip(PARTS, row, strict=True):
            for order in ORDERS:
                _curve(panel, results, f"{images}/{scene}", order, mark)
            panel.axhline(0, color="#bbbbbb", lw=0.8, zorder=0)
            panel.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel(f"gain in Dice, {WORDS[mark]}", fontsize=9)
    for (images, scene), panel in zip(PARTS, grid[0], strict=True):
        panel.set_title(f"{images}, {scene}", fontsize=9)
    figure.supxlabel(f"labels repaired, of {WEAK}", fontsize=9)
    grid[0, 0].legend(frameon=False, fontsize=9)
    figure.savefig(path)


def _curve(panel: Any, results: dict[str, Any], part: str, order: str, mark: str) -> None:
    """The mean, thick, and every seed."""
    found = [gains(results, part, order, count, mark) for count in COUNTS]
    if not all(len(one) == len(SEEDS) for one in found):
        return
    middle = [0.0, *(statistics.mean(one) for one in found)]
    panel.plot((0, *COUNTS), middle, color=COLOURS[order], marker="o", label=NAMES[order])
    for seed in range(len(SEEDS)):
        each = [0.0, *(one[seed] for one in found)]
        panel.plot((0, *COUNTS), each, color=COLOURS[order], lw=0.8, alpha=0.5)


def main() -> None:
    """Run what is missing, keep it, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", type=Path, default=None)
    given = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.parent.mkdir(exist_ok=True)

    def keep(name: str, found: dict[str, Any]) -> None:
        results[name] = found
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        print(name, {k: round(v, 4) for k, v in found.items()}, flush=True)

    for seed in SEEDS:
        for images, scene in PARTS:
            run_one(images, scene, seed, keep, results)
    for mark in MARKS:
        print(f"\n{WORDS[mark]}\n\n{table(results, mark)}")
    if given.picture:
        draw(results, given.picture)


if __name__ == "__main__":
    main()
