"""What the training engine costs beside a bare PyTorch loop on the same network and batch.

Both sides train the same U-Net on the same patches of the same images, each run in a process of
its own, in turn (bare, engine, bare, engine, …), so that a machine whose speed drifts slows both.
The bare loop is what one writes in a notebook: arrays in memory, random crops and flips, forward,
loss, backward, clipping, AdamW, the loss read back. The engine does the same through files that
are hashed, and logs every step. Weighting is switched off: its cost is a setting, not the
engine's. Run: ``python benchmarks/bench_engine.py [--pairs 5] [--steps 60]``.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

IMAGES, SIDE, PATCH, BATCH, WARM_UP = 32, 192, 128, 8, 10
RESULTS = Path(__file__).parent / "results" / "engine.json"


def make_data(root: Path) -> Path:
    """Blobs in noise, half of them called strong, half weak."""
    rng = np.random.default_rng(0)
    rows = ["image,label,quality,split,group"]
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    for number in range(IMAGES):
        label = np.zeros((SIDE, SIDE), np.uint8)
        row, column = rng.integers(10, SIDE - 70, 2)
        label[row : row + 60, column : column + 60] = 1
        image = (label + rng.normal(0, 0.5, label.shape)).astype(np.float32)
        np.save(root / f"images/{number}.npy", image)
        np.save(root / f"labels/{number}.npy", label)
        quality = "weak" if number % 2 else "strong"
        rows.append(f"images/{number}.npy,labels/{number}.npy,{quality},train,{number}")
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return root


def time_bare(root: Path, steps: int) -> list[float]:
    """The moments at which the steps of a bare loop ended."""
    import torch

    from labelmend.losses import dice_ce
    from labelmend.networks.build import build_network

    images = [np.load(root / f"images/{n}.npy") for n in range(IMAGES)]
    images = [(image - image.mean()) / image.std() for image in images]
    labels = [np.load(root / f"labels/{n}.npy").astype(np.int64) for n in range(IMAGES)]
    rng = np.random.default_rng(0)
    network = build_network("unet", 2, 1, 2, seed=0)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    valid = torch.ones(BATCH, PATCH, PATCH, dtype=torch.bool)
    moments = []
    for _ in range(steps):
        xs, ys = [], []
        for number in rng.integers(0, IMAGES, BATCH):
            row, column = rng.integers(0, SIDE - PATCH + 1, 2)
            place = (slice(row, row + PATCH), slice(column, column + PATCH))
            flip = tuple(axis for axis in (0, 1) if rng.random() < 0.5)
            xs.append(np.flip(images[number][place], flip).copy())
            ys.append(np.flip(labels[number][place], flip).copy())
        image = torch.from_numpy(np.stack(xs))[:, None]
        loss = dice_ce(network(image), torch.from_numpy(np.stack(ys)), valid).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        loss.item()
        moments.append(time.perf_counter())
    return moments


def time_engine(root: Path, steps: int, out: Path) -> list[float]:
    """The moments at which the steps of the engine ended."""
    from labelmend.progress import Silent
    from labelmend.training.assembly import fit

    moments: list[float] = []

    class Clock(Silent):
        def step(self, step: int, figures: object) -> None:
            moments.append(time.perf_counter())

    fit(
        root,
        out,
        steps=steps,
        watcher=Clock(),
        input={"patch": (PATCH, PATCH), "val_share": 0.0},
        weighting={"method": "constant"},
        batch={"size": BATCH},
    )
    return moments


def one(side: str, root: Path, steps: int) -> None:
    """Time one side in this process and print its figures."""
    import torch

    torch.set_num_threads(1)
    if side == "bare":
        moments = time_bare(root, steps)
    else:
        with tempfile.TemporaryDirectory() as folder:
            moments = time_engine(root, steps, Path(folder) / "run")
    gaps = np.diff(moments[WARM_UP:])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": float(np.median(gaps)), "peak_mib": peak}))


def main() -> None:
    """Time both sides in turn, and keep and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--one", choices=["bare", "engine"])
    parser.add_argument("--data", type=Path)
    given = parser.parse_args()
    if given.one:
        one(given.one, given.data, given.steps)
        return
    pairs = []
    with tempfile.TemporaryDirectory() as folder:
        root = make_data(Path(folder) / "data")
        for _ in range(given.pairs):
            pair = {}
            for side in ("bare", "engine"):
                command = [sys.executable, __file__, "--one", side, "--data", str(root)]
                command += ["--steps", str(given.steps)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                pair[side] = json.loads(done.stdout.splitlines()[-1])
            pairs.append(pair)
            print(
                f"bare {pair['bare']['seconds'] * 1e3:6.1f} ms a step, "
                f"engine {pair['engine']['seconds'] * 1e3:6.1f} ms, "
                f"peak {pair['bare']['peak_mib']:.0f} and {pair['engine']['peak_mib']:.0f} MiB"
            )
    times = [p["engine"]["seconds"] / p["bare"]["seconds"] for p in pairs]
    memory = [p["engine"]["peak_mib"] / p["bare"]["peak_mib"] for p in pairs]
    summary = {
        "steps": given.steps,
        "time_ratio": [min(times), statistics.median(times), max(times)],
        "memory_ratio": [min(memory), statistics.median(memory), max(memory)],
        "pairs": pairs,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(summary, indent=1) + "\n")
    low, middle, high = summary["time_ratio"]
    print(f"engine / bare, time a step: {middle:.3f} (from {low:.3f} to {high:.3f})")
    low, middle, high = summary["memory_ratio"]
    print(f"engine / bare, peak memory: {middle:.3f} (from {low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
