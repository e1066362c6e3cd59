"""What weighting adds to the time of a whole training, and whether it keeps to what was allowed.

The same training twice, with learned and with constant weights, each in a process of its own and
in turn, so that a machine whose speed drifts slows both: processor time from the first step to
the last, weight steps included, loading too. ``weighting.overhead`` is left at its default of
0.25: labelmend then plans how many labels to judge from counts of passes, and this file measures
how true that plan is. Run: ``python benchmarks/bench_overhead.py [--pairs 3] [--steps 160]``.
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

RESULTS = Path(__file__).parent / "results" / "overhead.json"
STRONG, WEAK = 16, 150
CASES: dict[str, tuple[str, tuple[int, ...]]] = {
    "unet, 96 x 96": ("unet", (96, 96)),
    "dynunet, 96 x 96": ("dynunet", (96, 96)),
    "unet, 16 x 32 x 32": ("unet", (16, 32, 32)),
    "unet, 4096": ("unet", (4096,)),
}
WAYS: dict[str, dict[str, Any]] = {
    "constant": {"method": "constant"},
    "the default": {},
    "all parameters": {"parameters": "all"},
    "fit alone": {"signal": "fit"},
}


def make_data(root: Path, size: tuple[int, ...]) -> None:
    """Boxes in noise."""
    rng = np.random.default_rng(0)
    rows = ["image,label,quality,split,group"]
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for number in range(STRONG + WEAK):
        label = np.zeros(size, np.uint8)
        first = [int(rng.integers(0, n // 2)) for n in size]
        label[tuple(slice(f, f + n // 2) for f, n in zip(first, size, strict=True))] = 1
        image = (label + rng.normal(0, 0.5, size)).astype(np.float32)
        np.save(root / f"images/{number}.npy", image)
        np.save(root / f"labels/{number}.npy", label)
        quality = "strong" if number < STRONG else "weak"
        rows.append(f"images/{number}.npy,labels/{number}.npy,{quality},train,{number}")
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")


def one(case: str, way: str, root: Path, steps: int) -> dict[str, float]:
    """Time one training in this process."""
    import torch

    from labelmend.progress import Silent
    from labelmend.training.assembly import fit

    torch.set_num_threads(1)
    moments: list[float] = []

    class Clock(Silent):
        def step(self, step: int, figures: object) -> None:
            moments.append(time.process_time())

    name, size = CASES[case]
    with tempfile.TemporaryDirectory() as folder:
        run = fit(
            root,
            Path(folder) / "run",
            steps=steps,
            validate_every=steps,
            watcher=Clock(),
            network={"name": name},
            input={"patch": size, "val_share": 0.0},
            weighting=WAYS[way],
        )
        plan = run.facts.get("weighing") or {}
        judged = sum(
            sum(value is not None for value in record["columns"]["loss"])
            for record in run.weight_history()
        )
    return {
        "seconds": moments[-1] - moments[0],
        "planned": plan.get("cost", 0.0),
        "every": plan.get("every", 0),
        "looks": judged / WEAK,
    }


def table(results: dict[str, Any]) -> str:
    """Time over that with constant weights, middle (least to most) over pairs, as Markdown."""
    lines = ["| training | weights | more time | planned | looks at each label |"]
    lines.append("|---" * 5 + "|")
    for case in CASES:
        runs = results.get(case, {})
        for way in WAYS:
            if way == "constant" or way not in runs:
                continue
            pairs = zip(runs[way], runs["constant"], strict=True)
            more = [one["seconds"] / other["seconds"] - 1 for one, other in pairs]
            spread = f"{statistics.median(more):.0%} ({min(more):.0%} to {max(more):.0%})"
            last = runs[way][-1]
            lines.append(
                f"| {case} | {way} | {spread} | {last['planned']:.0%} | {last['looks']:.1f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Measure every case and way in turn, keep the figures and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        case, way, root = given.one
        print(json.dumps(one(case, way, Path(root), given.steps)))
        return
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results: dict[str, Any] = kept.get("cases", {}) if kept.get("steps") == given.steps else {}
    for case in given.cases:
        results[case] = {way: [] for way in WAYS}
        with tempfile.TemporaryDirectory() as folder:
            make_data(Path(folder), CASES[case][1])
            for _ in range(given.pairs):
                for way in WAYS:
                    command = [sys.executable, __file__, "--steps", str(given.steps)]
                    command += ["--one", case, way, folder]
                    done = subprocess.run(command, capture_output=True, text=True, check=True)
                    results[case][way].append(json.loads(done.stdout.splitlines()[-1]))
        print(case, flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    summary = {"steps": given.steps, "strong": STRONG, "weak": WEAK, "cases": results}
    RESULTS.write_text(json.dumps(summary, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
