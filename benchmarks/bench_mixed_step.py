"""What a step on mixed images costs beside two plain steps, and how near that is to the least.

The unit is two plain steps on the same batch, one by each of two networks. Every way takes its
steps in turn with that in one process, on one thread: processor time of objective, backward pass
and optimiser, middle of all rounds. The floor counts passes over images, a backward pass as two
forward ones; optimiser, losses and mixing itself are not in it. Run:
``python benchmarks/bench_mixed_step.py [--rounds 15]``; a few minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from labelmend.losses import dice_ce
from labelmend.networks.build import build_network
from labelmend.training.averages import Averages
from labelmend.training.mixed import Cut, MixedObjective, Target
from labelmend.training.objective import Objective, Parcel, scales
from labelmend.types import Batch

RESULTS = Path(__file__).parent / "results" / "mixed_step.json"
BATCH = 8
CASES: dict[str, tuple[str, tuple[int, ...]]] = {
    "unet, 128 x 128": ("unet", (128, 128)),
    "unet, 16 x 32 x 32": ("unet", (16, 32, 32)),
    "dynunet, 128 x 128": ("dynunet", (128, 128)),
    "unet, 4096": ("unet", (4096,)),
}
FLOORS = {
    "mixed labels, one network": 4.5 / 6,
    "two networks": 7 / 6,
    "two networks that see both": 9 / 6,
    "two networks, averages teach": 8 / 6,
}
"""Passes over passes: of a whole batch 3 by a plain step, 6 by two."""


def batch_of(size: tuple[int, ...]) -> Parcel:
    """Boxes in noise; the first half of each half is strong."""
    generator = torch.Generator().manual_seed(0)
    label = torch.zeros(BATCH, *size, dtype=torch.int64)
    label[(slice(None), *(slice(n // 4, n // 2) for n in size))] = 1
    image = label.unsqueeze(1) + torch.randn(BATCH, 1, *size, generator=generator)
    strong = torch.arange(BATCH) % 2 == 0
    batch = Batch(image, label, torch.ones_like(label) > 0, torch.arange(BATCH))
    counts = {"strong": BATCH // 2, "weak": BATCH // 2}
    return Parcel(batch, torch.ones(BATCH), scales(strong, counts), 0, strong)


def ways(name: str, size: tuple[int, ...]) -> dict[str, Callable[[], Tensor]]:
    """A training step of every way, each with networks of its own."""
    parcel = batch_of(size)
    plain = Objective(dice_ce)
    mixed = MixedObjective(plain, Cut(0, 2), Target(lambda step: 1.0))
    of_labels = replace(mixed, target=replace(mixed.target, predicted=False))

    def networks(many: int) -> dict[str, torch.nn.Module]:
        made = [build_network(name, len(size), 1, 2, seed=seed) for seed in range(many)]
        return dict(zip(("main", "auxiliary"), made, strict=False))

    def step(goal: Callable[..., Any], trained: dict[str, Any], follow: Any = None) -> Any:
        params = [p for network in trained.values() for p in network.parameters()]
        optimiser = torch.optim.AdamW(params)

        def take() -> None:
            goal(trained, parcel).total.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            if follow is not None:
                follow.follow(1)

        return take

    pair, taught = networks(2), networks(2)
    apart = [step(plain, {"main": network}) for network in pair.values()]
    averages = Averages(taught, 0.99)
    return {
        "two plain steps": lambda: [take() for take in apart],
        "mixed labels, one network": step(of_labels, networks(1)),
        "two networks": step(mixed, networks(2)),
        "two networks that see both": step(replace(mixed, both=True), networks(2)),
        "two networks, averages teach": step(
            replace(mixed, averages=averages.networks), taught, averages
        ),
    }


def measure(name: str, size: tuple[int, ...], rounds: int) -> dict[str, list[float]]:
    """Seconds of every step of every way, in turn."""
    steps = ways(name, size)
    found: dict[str, list[float]] = {way: [] for way in steps}
    for number in range(rounds + 2):
        for way, step in steps.items():
            began = time.process_time()
            step()
            if number >= 2:  # the first ones also make the optimiser's memory
                found[way].append(time.process_time() - began)
    return found


def table(results: dict[str, Any]) -> str:
    """Times over two plain steps (times over the floor), ways down, cases across, as Markdown."""
    lines = [
        "| step | floor | " + " | ".join(results) + " |",
        "|---" * (2 + len(results)) + "|",
    ]
    for way, floor in FLOORS.items():
        row = [way, f"{floor:.2f}"]
        for found in results.values():
            pairs = zip(found[way], found["two plain steps"], strict=True)
            ratio = statistics.median(one / other for one, other in pairs)
            row.append(f"{ratio:.2f} ({ratio / floor:.2f} ×)")
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, keep, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    torch.set_num_threads(1)
    results = {case: measure(*CASES[case], given.rounds) for case in CASES}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
