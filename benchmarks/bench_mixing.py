"""Mixed images and two models: what each part and each option brings, and what it costs.

Two real sets, a tenth of the labels strong. ``bubil``: phase-contrast cells with real outlines by
seven untrained people, experts' majority as truth. ``nuclei``: crops of dsb2018 with an ellipse
drawn over every nucleus, some positions too large, too small or beside it, and a quarter of the
labels of another image. Same network, batches and steps for all methods (``long`` has as many more
as two models cost), last checkpoint, images that nobody trained on; seeds change split, faults and
training alike for all methods. Mean Dice of the main network; of two, the other and both together
stand beside it. Results are kept one by one and not made again. Run:
``python benchmarks/bench_mixing.py``; 120 runs, two to five minutes each on one core.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import planted
from labelmend.labels.shapes import ellipse

RESULTS = Path(__file__).parent / "results" / "mixing.json"
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SEEDS = (0, 1, 2)
STEPS = 1200
SETS = ("nuclei", "bubil")
MIX: dict[str, Any] = {"mixing": {"use": True}}
STRONG, WEAK, TEST = 20, 180, 60


def dual(dual: dict[str, Any] | None = None, **mixing: Any) -> dict[str, Any]:
    """Mixed images and two models that see one image of a pair each, with options."""
    each = {"use": True, "both": False}
    return {"mixing": {"use": True, **mixing}, "dual": {**each, **(dual or {})}}


METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "strong_only": ("strong labels only", {}),
    "weighted": ("learned weights (the default)", {}),
    "long": ("learned weights, 2.3 times the steps", {"steps": int(STEPS * 7 / 3)}),
    "mix": ("+ mixing, labels mixed alike", MIX),
    "mix_self": (
        "+ mixing, own predictions",
        {"mixing": {"use": True, "target": "predictions"}},
    ),
    "mix_trusted": (
        "+ mixing, own predictions but for strong labels",
        {"mixing": {"use": True, "target": "trusted"}},
    ),
    "dual": ("+ mixing + two models", dual()),
    "dual_trusted": ("… strong labels stand", dual(target="trusted")),
    "dual_both_trusted": (
        "… both see both, strong labels stand",
        dual({"both": True}, target="trusted"),
    ),
    "dual_ramp": ("… rate rises over 30 % of training", dual(ramp=0.3)),
    "dual_gate": ("… gate at 0.8", dual(gate=0.8)),
    "dual_soft": ("… soft pseudo-labels", dual(hard=False)),
    "dual_position": ("… weight by position", dual(weigh="position")),
    "dual_average": ("… averaged teachers (0.99)", dual(average=0.99)),
    "dual_both": ("… both models see both images", dual({"both": True})),
    "dual_judges": ("… both models judge labels", dual({"judges": "both"})),
    "dual_strong_first": ("… strong image first", dual(pairs="strong_first")),
    "dual_background": ("… background cut out too", dual(background=True)),
    "dual_soften": ("… border blended (1.5 positions)", dual(soften=1.5)),
    "seed_a": ("the seed to the letter (preset seed_a)", {}),
}
PRESETS = {"strong_only": "strong_only", "seed_a": "seed_a"}


def nuclei(seed: int, out: Path) -> Path:
    """Crops with an ellipse over every nucleus, and a quarter of the labels of another image."""
    from scipy.ndimage import label as regions

    case = planted.SETS["nuclei"](TEST + STRONG, WEAK, seed, "mixed mistakes")
    rng = np.random.default_rng([seed, 9])
    claimed = case.label.copy()
    first = TEST + STRONG
    for place in range(first, len(claimed)):
        found, many = regions(case.truth[place])
        claimed[place] = np.any([drawn(found == n + 1, rng) for n in range(many)], axis=0)
    wrong = rng.permutation(np.arange(first, len(claimed)))[: WEAK // 4]
    claimed[wrong] = claimed[np.roll(wrong, 1)]
    faults = ["" for _ in claimed]
    return planted.write(
        planted.Planted(case.image, case.truth, claimed, tuple(faults), first), out, TEST
    )


def drawn(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The ellipse with a region's second moments, as a quick hand draws it."""
    places = np.argwhere(mask)
    spread, axes = np.linalg.eigh(
        np.cov(places.T) + np.eye(2) / 12 if len(places) > 1 else np.eye(2)
    )
    radii = 2 * np.sqrt(spread) * rng.uniform(0.75, 1.4)
    centre = places.mean(0) + rng.normal(0, 1.5, 2)
    angle = np.arctan2(axes[1, 0], axes[0, 0])
    return ellipse(mask.shape, tuple(centre), tuple(np.maximum(radii, 1)), angle)


def bubil(seed: int, out: Path) -> Path:
    """The set as its own preparation lays it out, a tenth of the images strong."""
    script = Path(__file__).with_name("prepare_bubil.py")
    options = ["--seed", str(seed), "--strong", "0.1", "--val", "0"]
    subprocess.run(
        [sys.executable, str(script), str(DATA / "bubil"), str(out), *options], check=True
    )
    return out


def settings_of(images: str, method: str, seed: int) -> dict[str, Any]:
    """What is alike for all methods of a set, and the method's own."""
    common = {
        "seed": seed,
        "steps": STEPS,
        "network": {"width": 8, "depth": 3 if images == "nuclei" else 4},
        "input": {"val_share": 0.0, "patch": (96, 96)},
        "save_every": 10_000,
        "batch": {"ending": "as_is"},  # only what is compared differs
        "weighting": {"signal": "both"},  # for all methods that learn weights
    }
    return common | METHODS[method][1]


def run_one(images: str, method: str, seed: int, data: Path, out: Path) -> dict[str, float]:
    """Train, and evaluate every network on the test images."""
    from labelmend.inference.evaluate import evaluate
    from labelmend.inference.predictor import load
    from labelmend.training.assembly import fit

    began = time.perf_counter()
    chosen = settings_of(images, method, seed)
    run = fit(data, out, preset=PRESETS.get(method, "weighted"), **chosen)
    seconds = time.perf_counter() - began
    two = run.settings.dual.use
    models = ("main", "auxiliary", "ensemble") if two else ("main",)
    found = {m: evaluate(load(run, model=m), "test").to_json()["mean"]["dice"] for m in models}
    last = run.metrics("train")[-50:]
    meters = {
        name: statistics.mean(record[name] for record in last if name in record)
        for name in ("disagreement", "gated", "gain")
        if any(name in record for record in last)
    }
    return {**found, **meters, "seconds": round(seconds, 1)}


def table(results: dict[str, Any]) -> str:
    """Dice by method and set: mean (least to largest), and difference from weights alone.

    Methods that were not run are left out.
    """
    lines = [
        "| method | " + " | ".join(f"{s}: seeds | Dice | beside weights" for s in SETS) + " |",
        "|---" * (1 + 3 * len(SETS)) + "|",
    ]
    for method, (words, _) in METHODS.items():
        cells = [cell for images in SETS for cell in _cells(results, images, method)]
        if any(cell != "–" for cell in cells):
            lines.append("| " + " | ".join([words, *cells]) + " |")
    return "\n".join(lines)


def _cells(results: dict[str, Any], images: str, method: str) -> tuple[str, str, str]:
    found = {s: results[key(images, method, s)] for s in SEEDS if key(images, method, s) in results}
    if not found:
        return "–", "–", "–"
    value = _spread([run["main"] for run in found.values()], "")
    base = {s: results.get(key(images, "weighted", s)) for s in found}
    apart = [found[s]["main"] - base[s]["main"] for s in found if base[s]]
    if method == "weighted" or not apart:
        return str(len(found)), value, "–"
    return str(len(found)), value, _spread(apart, "+")


def _spread(values: list[float], sign: str) -> str:
    """The mean, and of more than one the least and the largest."""
    mean = f"{statistics.mean(values):{sign}.3f}"
    ends = f" ({min(values):{sign}.3f} to {max(values):{sign}.3f})"
    return mean + ends * (len(values) > 1)


def key(images: str, method: str, seed: int) -> str:
    """The name under which a run's result is kept."""
    return f"{images}/{method}/{seed}"


def main() -> None:
    """Run what is missing, keep it, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", nargs="*", default=[], help="only runs whose name has one of these"
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    done = json.loads(given.results.read_text()) if given.results.exists() else {}
    for seed in SEEDS:
        for images in SETS:
            wanted = [key(images, m, seed) for m in METHODS]
            wanted = [k for k in wanted if not given.only or any(w in k for w in given.only)]
            if all(k in done for k in wanted):
                continue
            with tempfile.TemporaryDirectory() as folder:
                data = {"nuclei": nuclei, "bubil": bubil}[images](seed, Path(folder) / "data")
                for name in wanted:
                    if name in done:
                        continue
                    out = Path(folder) / name.replace("/", "-")
                    done[name] = run_one(images, name.split("/")[1], seed, data, out)
                    given.results.write_text(json.dumps(done, indent=1, sort_keys=True) + "\n")
                    print(name, {k: round(v, 3) for k, v in done[name].items()}, flush=True)
    print(table(done))


if __name__ == "__main__":
    main()
