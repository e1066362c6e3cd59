"""Labels that are bent: what does a network that bends them back bring, beside plain searches?

``nuclei``: crops of micrographs, as in ``bench_drift.py``. ``hippocampus``: 2-D, one sagittal slice
of each MR volume, the one that shows most of both classes, enlarged 2.5 times and cut to 96
positions a side (a run in 3-D takes several minutes). 6 strong labels beside 120 weak ones, which
are smoothly deformed (``displacements.py``: at most 6 positions, 0 in the mean, half a patch from
hill to hill), or shifted by up to 8 positions along each axis and deformed. ``none`` trains on
labels as they are, ``shift``, ``affine`` and ``warp`` put them in place, ``oracle`` has true ones.
Dice is of the last checkpoint on 40 images with true labels. ``stain``: a made-up stain
(``stain.py``), deformed alike; PSNR, SSIM, and the mean steepness of predictions as a share of the
truth's. Patches are not mirrored, which would hide drift. Cost is the median time of a step in the
second half of training, relative to ``none`` of the same seed where one call measured both.

Run: ``python benchmarks/bench_warp.py``; results are kept one by one and not made again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import zoom

import displacements
import planted
import real_parts
import stain
from displacements import INNER, MARGIN
from real_parts import DATA, Part

RESULTS = Path(__file__).parent / "results" / "warp.json"
TEST, STRONG, WEAK, STEPS = 40, 6, 120, 500
SIDE = planted.SIDE + 2 * MARGIN
LARGER = 2.5
SEEDS = (3, 4, 5)
STARTED = time.time()
WAYS: dict[str, dict[str, Any]] = {
    "none": {},
    "shift": {"align": {"transform": "shift"}},
    "affine": {"align": {"transform": "affine"}},
    "warp": {"align": {"transform": "warp"}},
    "oracle": {},
}
FIGURES = {"dice": "Dice", "psnr": "PSNR", "ssim": "SSIM", "sharpness": "sharpness"}
METERS = ("moved", "unclear", "bent", "bent_by", "removed", "removed_strong")


def nuclei(rng: np.random.Generator) -> list[Part]:
    """One crop of each micrograph, 2 to 40 % nuclei."""
    return real_parts.nuclei(rng, TEST + STRONG + WEAK)


def hippocampus(rng: np.random.Generator) -> list[Part]:
    """One slice of each volume, its label about in the middle."""
    import nibabel as nib

    folder, parts = DATA / "hippocampus", list[Part]()
    for path in rng.permutation(sorted(folder.glob("images/*.nii.gz"))):
        volume = np.asarray(nib.load(path).dataobj, float)
        label = np.asarray(nib.load(folder / "labels" / path.name).dataobj)
        both = np.minimum((label == 1).sum((1, 2)), (label == 2).sum((1, 2)))
        at = both.argmax()
        shares = np.stack([zoom((label[at] == c).astype(float), LARGER, order=1) for c in range(3)])
        image = np.pad(zoom(volume[at], LARGER, order=1), SIDE, mode="edge")
        truth = np.pad(shares.argmax(0).astype(np.uint8), SIDE)
        middle = np.argwhere(truth).mean(0) + rng.integers(-8, 9, 2)
        part = tuple(slice(m - SIDE // 2, m + SIDE // 2) for m in middle.round().astype(int))
        parts.append(Part(path.name, image[part][INNER], truth[part]))
        if len(parts) == TEST + STRONG + WEAK:
            break
    return parts


SETS: dict[str, Callable[[np.random.Generator], list[Part]] | None] = {
    "nuclei": nuclei,
    "hippocampus": hippocampus,
    "stain": None,
}
FAULTS = {"deformation": "deformed", "both": "shifted and deformed"}


def wanted() -> list[tuple[str, str, str]]:
    """Set, fault and way of every run; true labels have no fault, so they are run once."""
    runs = []
    for name in SETS:
        ways = [way for way in WAYS if way != "oracle" and (name, way) != ("stain", "affine")]
        faults = ["deformation"] if name == "stain" else list(FAULTS)
        runs += [(name, fault, way) for fault in faults for way in ways]
        runs.append((name, "true", "oracle"))
    return runs


def case_of(name: str, fault: str, seed: int) -> planted.Planted:
    """Strong samples first: those to test on, then those to train on."""
    make = SETS[name]
    if make is None:
        raise ValueError(f"{name} is written by stain.write")
    parts = make(np.random.default_rng([seed, 13]))
    truths = [part.truth[INNER] for part in parts]
    labels = list(truths)
    for place in range(TEST + STRONG, len(parts)):
        field = displacements.field_of(fault, truths[place].shape, [seed, 29, place])
        labels[place] = displacements.moved(parts[place].truth, field, order=0)
    images = np.stack([planted.standard(part.image)[None] for part in parts]).astype(np.float32)
    faults = ("",) * len(parts)
    return planted.Planted(images, np.stack(truths), np.stack(labels), faults, TEST + STRONG)


def run_one(name: str, fault: str, way: str, seed: int) -> dict[str, Any]:
    """What one training came to."""
    from labelmend.inference.evaluate import evaluate
    from labelmend.inference.predictor import load
    from labelmend.training.assembly import fit

    torch.set_num_threads(1)
    settings: dict[str, Any] = {
        "network": {"width": 8, "depth": 3},
        "augment": {"flip": 0.0},
        "input": {"val_share": 0.0},
        **(stain.SETTINGS if name == "stain" else {}),
        "weighting": {"method": "constant", "initial": 1.0},
        "seed": seed,
        "steps": STEPS,
        **WAYS[way],
    }
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        if name == "stain":
            stain.write(DATA / "dsb2018", data, seed, fault)
        else:
            planted.write(case_of(name, fault, seed), data, test=TEST)
        run = fit(data, Path(folder) / "run", **settings)
        predictor = load(run)
        found = dict(evaluate(predictor, "test", tolerance=0).mean)
        if name == "stain":
            found["sharpness"] = stain.sharpness(predictor, data)
        return {**_kept(found), **_meters(run.metrics("train")), "call": STARTED}


def _kept(found: dict[str, float]) -> dict[str, float]:
    return {key: found[key] for key in FIGURES if key in found}


def _meters(records: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds per step, and means of what bending says of itself, of the last quarter."""
    half, last = records[len(records) // 2 :], records[-(len(records) // 4) :]
    meters = {"seconds": statistics.median(record["seconds"] for record in half)}
    for key in METERS:
        values = [record[key] for record in last if record.get(key) is not None]
        if values:
            meters[key] = statistics.mean(values)
    return meters


def table(results: dict[str, Any]) -> str:
    """Mean (least to most) over seeds, as Markdown; of what has all seeds."""
    parts = []
    for name in SETS:
        figures = ("psnr", "ssim", "sharpness") if name == "stain" else ("dice",)
        heads = [
            "",
            "labels",
            *(FIGURES[figure] for figure in figures),
            "time of a step",
            "removed, bent by",
        ]
        lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for its, fault, way in wanted():
            runs = [results.get(f"{its}/{fault}/{way}/{seed}") for seed in SEEDS]
            if its != name or not all(runs):
                continue
            cells = [way, FAULTS.get(fault, "true")]
            cells += [_spread([run[figure] for run in runs], figure) for figure in figures]
            cells += [_cost(results, its, fault, way), _bending(runs)]
            lines.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join([f"{name}:", "", *lines]))
    return "\n\n".join(parts)


def _spread(values: list[float], figure: str) -> str:
    digits = 1 if figure == "psnr" else 3
    ends = f"{min(values):.{digits}f} to {max(values):.{digits}f}"
    return f"{statistics.mean(values):.{digits}f} ({ends})"


def _cost(results: dict[str, Any], name: str, fault: str, way: str) -> str:
    """Times of ``none``; of seeds of which one call measured both."""
    ratios = []
    beside = "deformation" if fault == "true" else fault
    for seed in SEEDS:
        run, none = results[f"{name}/{fault}/{way}/{seed}"], f"{name}/{beside}/none/{seed}"
        if none in results and results[none]["call"] == run["call"]:
            ratios.append(run["seconds"] / results[none]["seconds"])
    return f"{statistics.mean(ratios):.2f}" if ratios else "–"


def _bending(runs: list[dict[str, Any]]) -> str:
    if not all("removed" in run and "bent_by" in run for run in runs):
        return ""
    removed, by = (statistics.mean(run[key] for run in runs) for key in ("removed", "bent_by"))
    return f"{removed:.0%}, {by:.1f} positions"


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="runs whose name holds this")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    file = arguments.results
    results = json.loads(file.read_text()) if file.exists() else {}
    for seed in SEEDS:
        for name, fault, way in wanted():
            key = f"{name}/{fault}/{way}/{seed}"
            if key in results or arguments.only not in key:
                continue
            results[key] = run_one(name, fault, way, seed)
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps(results, indent=1) + "\n")
            print(key, results[key], flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
