"""Labels that are put in place while a network learns from them: does it drift, and what stops it?

Crops of real micrographs, whose labels are shifted by up to 8 positions along each axis, another
shift in each; and the same with (+3, 0) added to all. Every way is trained on the same images:
``true`` on labels that were not shifted, ``plain`` on labels as they are, and the others put them
in place, each with one thing more than the one before: ``naive`` from the first step to whatever
place fits best; ``warm-up`` after 100 steps; ``prior`` with small shifts likelier; ``gate`` only
where the network is sure; ``centred`` with the mean shift held at zero. ``anchored`` has 5 % strong
labels beside them, which is the default. ``true, 5 % strong`` differs from it in where labels lie
only; ``5 % strong only`` and ``plain, 5 % strong`` are what such labels bring without. Patches are
not mirrored, which would hide every drift. Dice is of the last checkpoint on 40 images with true
labels; the offset is how far all predictions lie off these.

Run: ``python benchmarks/bench_drift.py``; results are kept one by one and not made again.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import planted

RESULTS = Path(__file__).parent / "results" / "drift.json"
TEST, WEAK, STEPS, JITTER, MARGIN = 40, 120, 800, 8, 12
STRONG = round(0.05 * WEAK)
SEEDS = (3, 4, 5, 6)
OFFSETS = {"no mean offset": (0, 0), "mean offset (3, 0)": (3, 0)}
ANY = {"transform": "shift", "confidence": 1e-6, "margin": 0.0, "keep": 0.0, "centred": False}
FAR = {"prior": 1000.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "true": {},
    "true, 5 % strong": {"strong": True},
    "plain": {},
    "naive": {"align": {**ANY, **FAR, "start": 0}},
    "warm-up": {"align": {**ANY, **FAR}},
    "prior": {"align": ANY},
    "gate": {"align": {"transform": "shift", "centred": False}},
    "centred": {"align": {"transform": "shift"}},
    "5 % strong only": {"strong": True, "batch": {"strong_share": 1.0}},
    "plain, 5 % strong": {"strong": True},
    "anchored": {"strong": True, "align": {"transform": "shift"}},
}


def scene(seed: int, offset: tuple[int, int], *, shifted: bool) -> planted.Planted:
    """Strong samples first: those to test on, then those to train on."""
    from PIL import Image

    folder = Path(__file__).resolve().parents[2] / "shared" / "data" / "dsb2018"
    rng = np.random.default_rng([seed, 11])
    side, images, truths, labels = planted.SIDE + 2 * MARGIN, [], [], []
    inner = (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    for path in rng.permutation(sorted(folder.glob("images/*.png"))):
        image = np.asarray(Image.open(path).convert("L"), float)
        mask = np.asarray(Image.open(folder / "labels" / path.name)) > 0
        move = rng.integers(-JITTER, JITTER + 1, 2) + offset
        if min(image.shape) < side:
            continue
        for _ in range(20):
            row, column = (rng.integers(0, n - side + 1) for n in image.shape)
            part = (slice(row, row + side), slice(column, column + side))
            if 0.02 <= mask[part][inner].mean() <= 0.4:
                images.append(planted.standard(image[part][inner])[None].astype(np.float32))
                truths.append(mask[part][inner])
                # Moved with what lies around it, as in a larger image.
                labels.append(np.roll(mask[part], move, (0, 1))[inner])
                break
        if len(images) == TEST + STRONG + WEAK:
            break
    strong = TEST + STRONG
    claimed = [*truths[:strong], *(labels if shifted else truths)[strong:]]
    faults = ("",) * len(images)
    return planted.Planted(np.stack(images), np.stack(truths), np.stack(claimed), faults, strong)


def run_one(variant: str, offset: str, seed: int) -> dict[str, Any]:
    """What one training came to."""
    from labelmend.inference.evaluate import evaluate
    from labelmend.inference.predictor import load
    from labelmend.training.assembly import fit

    torch.set_num_threads(1)
    chosen = dict(VARIANTS[variant])
    anchored = chosen.pop("strong", False)
    case = scene(seed, OFFSETS[offset], shifted=not variant.startswith("true"))
    settings: dict[str, Any] = {
        "seed": seed,
        "steps": STEPS,
        "network": {"width": 8, "depth": 3},
        "weighting": {"method": "constant", "initial": 1.0},
        "batch": {"strong_share": 0.5 if anchored else 0.0},
        # Mirrored at random, images do not tell which way labels lie off: nothing could drift.
        "augment": {"flip": 0.0},
    }
    with tempfile.TemporaryDirectory() as folder:
        data = planted.write(case, Path(folder) / "data", test=TEST)
        chosen["input"] = {"val_share": 0.0}
        run = fit(data, Path(folder) / "run", **{**settings, **chosen})
        found = evaluate(load(run), "test", tolerance=MARGIN)
        seen = run.metrics("train")[-1]
        there = None if found.offset is None else found.offset.refined
        return {
            "dice": found.mean["dice"],
            "offset": None if there is None else list(there),
            "drift": [seen[f"drift_{a}"] for a in (0, 1) if f"drift_{a}" in seen],
            "moved": seen.get("moved"),
            "unclear": seen.get("unclear"),
        }


def table(results: dict[str, Any]) -> str:
    """Mean (least to most) over seeds, as Markdown; of what has all seeds."""
    lines = ["| | labels | Dice | offset, largest of all seeds |", "|---|---|---|---|"]
    for offset in OFFSETS:
        for variant in VARIANTS:
            runs = [results.get(f"{offset}/{variant}/{seed}") for seed in SEEDS]
            if all(runs):
                dice = [run["dice"] for run in runs if run]
                far = [math.hypot(*run["offset"]) for run in runs if run and run["offset"]]
                unknown = len(SEEDS) - len(far)
                shown = f"{max(far):.1f}" if far else ""
                shown += f"; not known in {unknown}" if unknown else ""
                middle = statistics.mean(dice)
                spread = f"{middle:.3f} ({min(dice):.3f} to {max(dice):.3f})"
                lines.append(f"| {variant} | {offset} | {spread} | {shown} |")
    return "\n".join(lines)


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="runs whose name holds this")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    file = arguments.results
    results = json.loads(file.read_text()) if file.exists() else {}
    for seed in SEEDS:
        for offset in OFFSETS:
            for variant in VARIANTS:
                name = f"{offset}/{variant}/{seed}"
                if name in results or arguments.only not in name:
                    continue
                results[name] = run_one(variant, offset, seed)
                file.parent.mkdir(exist_ok=True)
                file.write_text(json.dumps(results, indent=1) + "\n")
                print(name, results[name], flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
