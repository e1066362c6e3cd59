"""What every curvature costs, in training steps, and what memory it takes.

One training step is the gradient of the mean loss: a forward and a backward pass of the same
batch. All are timed in turn, again and again, in one process, so that a machine whose speed
drifts slows all alike; the figure is the median of the ratios to the step of the same turn. Each
is made anew for each use, as a weight step does. Memory is what the process grows by while it does
this one thing. ``error`` is the
distance from the same in float64, as a share of its length; the network was trained for a while,
and the direction is the gradient or noise. Run: ``python benchmarks/bench_curvature.py``.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from labelmend.losses import cross_entropy, dice_ce
from labelmend.networks.build import build_network
from labelmend.weighting.curvature import (
    adam_second_moments,
    conjugate_gradients,
    diagonal,
    empirical_fisher,
    identity,
    neumann,
)
from labelmend.weighting.gradients import mean_gradient
from labelmend.weighting.products import gauss_newton_product, hessian_product

SIDE, BATCH, CLASSES, TRAINED = 96, 8, 3, 60
MODES = ("reverse", "forward", "difference")
RESULTS = Path(__file__).parent / "results" / "curvature.json"
Vector = dict[str, Tensor]


class Case:
    """A network trained for a while on discs in noise, and its batch."""

    def __init__(self, dtype: torch.dtype, state: Any = None) -> None:
        generator = torch.Generator().manual_seed(0)
        self.network = build_network("unet", 2, 1, CLASSES, seed=0)
        rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
        centres = torch.randint(20, SIDE - 20, (BATCH, 2, 2), generator=generator)
        discs = [
            [
                (rows - c[0]) ** 2 + (columns - c[1]) ** 2 < area
                for c, area in zip(pair, (200, 100), strict=True)
            ]
            for pair in centres
        ]
        self.label = torch.stack([torch.where(small, 2, big.long()) for big, small in discs])
        noise = torch.randn(BATCH, 1, SIDE, SIDE, generator=generator)
        self.image = self.label[:, None] + 0.7 * noise
        self.valid = torch.ones_like(self.label, dtype=torch.bool)
        self.optimiser = torch.optim.Adam(self.network.parameters(), 1e-3)
        if state is None:
            for _ in range(TRAINED):
                loss = dice_ce(self.network(self.image), self.label, self.valid).mean()
                self.optimiser.zero_grad()
                loss.backward()
                self.optimiser.step()
        else:
            self.network.load_state_dict(state)
        self.network.to(dtype).eval()
        self.image = self.image.to(dtype)
        self.params = dict(self.network.named_parameters())

    def logits_of(self, params: Vector) -> Tensor:
        """The prediction for the batch."""
        return functional_call(self.network, params, (self.image,))

    def losses_of(self, params: Vector) -> Tensor:
        """What the network is trained with."""
        return dice_ce(self.logits_of(params), self.label, self.valid)

    def loss_of_logits(self, logits: Tensor) -> Tensor:
        """What Gauss-Newton is made with."""
        return cross_entropy(logits, self.label, self.valid)

    def one(self, index: int) -> Callable[[Vector], Tensor]:
        """The loss of a single sample."""
        part = slice(index, index + 1)

        def losses_of(params: Vector) -> Tensor:
            logits = functional_call(self.network, params, (self.image[part],))
            return dice_ce(logits, self.label[part], self.valid[part])

        return losses_of

    def gauss_newton(self, mode: str = "default"):
        """A product made anew."""
        return gauss_newton_product(self.logits_of, self.loss_of_logits, self.params, *_given(mode))

    def hessian(self, mode: str = "default"):
        """A product made anew."""
        return hessian_product(self.losses_of, self.params, *_given(mode))


def _given(mode: str) -> list[Any]:
    return [] if mode == "default" else [mode]


def _several(product: Callable[[Vector], Vector], times: int, vector: Vector) -> None:
    for _ in range(times):
        product(vector)


def works(case: Case) -> dict[str, Callable[[], object]]:
    """Everything that is timed, by name."""
    gradient = mean_gradient(case.losses_of, case.params)
    singles = [case.one(index) for index in range(BATCH)]
    solve: dict[str, Callable[[], Callable[[Vector], Vector]]] = {
        "identity": lambda: identity,
        "diagonal": lambda: diagonal(adam_second_moments(case.optimiser, case.params)),
        "empirical Fisher, batch of 8": lambda: empirical_fisher([case.losses_of], case.params),
        "empirical Fisher, one by one": lambda: empirical_fisher(singles, case.params),
        "CG 5, Gauss-Newton": lambda: conjugate_gradients(case.gauss_newton()),
        "CG 5, Hessian": lambda: conjugate_gradients(case.hessian()),
        "Neumann 20, Gauss-Newton": lambda: neumann(case.gauss_newton()),
        "Neumann 20, Hessian": lambda: neumann(case.hessian()),
    }
    found: dict[str, Callable[[], object]] = {
        "training step": lambda: mean_gradient(case.losses_of, case.params)
    }
    found |= {name: (lambda make=make: make()(gradient)) for name, make in solve.items()}
    for mode in MODES:
        for kind, make in (("Gauss-Newton", case.gauss_newton), ("Hessian", case.hessian)):
            found[f"5 x {kind} product, {mode}"] = lambda make=make, mode=mode: _several(
                make(mode), 5, gradient
            )
    return found


def time_all(case: Case, turns: int) -> dict[str, dict[str, float]]:
    """Seconds and training steps of everything, medians over turns."""
    seconds: dict[str, list[float]] = {}
    for turn in range(turns + 1):
        for name, work in works(case).items():
            begin = time.perf_counter()
            work()
            if turn:  # the first one warms up
                seconds.setdefault(name, []).append(time.perf_counter() - begin)
    base = seconds["training step"]
    return {
        name: {
            "seconds": statistics.median(times),
            "steps": statistics.median(t / b for t, b in zip(times, base, strict=True)),
        }
        for name, times in seconds.items()
    }


def errors(case: Case) -> dict[str, dict[str, float]]:
    """How far float32 products are from float64 ones, along the gradient and along noise."""
    exact = Case(torch.float64, case.network.state_dict())
    generator = torch.Generator().manual_seed(1)
    vectors = {
        "gradient": mean_gradient(case.losses_of, case.params),
        "noise": {n: torch.randn(p.shape, generator=generator) for n, p in case.params.items()},
    }
    found: dict[str, dict[str, float]] = {}
    for kind in ("gauss_newton", "hessian"):
        for name, vector in vectors.items():
            right = getattr(exact, kind)("reverse")(vector)
            for mode in MODES:
                got = getattr(case, kind)(mode)(vector)
                off = {n: got[n].double() - right[n] for n in right}
                found.setdefault(f"{kind}, {mode}", {})[name] = _length(off) / _length(right)
    return found


def _length(vector: Vector) -> float:
    return math.sqrt(sum(v.double().square().sum().item() for v in vector.values()))


def peak(work: Callable[[], object]) -> float | None:
    """MiB that the work takes at its peak beyond what the process had before; Linux only."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return None
    gc.collect()
    reset.write_text("5")  # the peak begins anew
    before = _kib(status, "VmRSS")
    work()
    return (_kib(status, "VmHWM") - before) / 1024


def _kib(status: Path, field: str) -> int:
    return next(int(s.split()[1]) for s in status.read_text().splitlines() if s.startswith(field))


def main() -> None:
    """Time, weigh, keep and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--memory", action="store_true", help="print nothing but peaks of memory")
    given = parser.parse_args()
    torch.set_num_threads(1)
    case = Case(torch.float32)
    if given.memory:
        print(json.dumps({name: peak(work) for name, work in works(case).items()}))
        return
    figures: dict[str, dict[str, float | None]] = time_all(case, given.turns)
    # With a fixed threshold every tensor goes back to the system as soon as it is freed.
    fresh = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, __file__, "--memory"]
    done = subprocess.run(command, env=fresh, capture_output=True, text=True, check=True)
    for name, mebibytes in json.loads(done.stdout.splitlines()[-1]).items():
        figures[name]["peak_mib"] = mebibytes
    summary = {
        "network": "unet, 2-D, width 16, depth 4",
        "batch": [BATCH, 1, SIDE, SIDE],
        "torch": torch.__version__,
        "threads": 1,
        "turns": given.turns,
        "parameters": sum(p.numel() for p in case.params.values()),
        "costs": figures,
        "errors": errors(case),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(summary, indent=1) + "\n")
    print(f"{'':36} {'steps':>7} {'s':>8} {'MiB':>6}")
    for name, figure in figures.items():
        memory = f"{figure['peak_mib'] or 0:6.0f}"
        print(f"{name:36} {figure['steps']:7.2f} {figure['seconds']:8.3f} {memory}")
    print(f"\n{'error of a product':36} {'gradient':>9} {'noise':>9}")
    for name, error in summary["errors"].items():
        print(f"{name:36} {error['gradient']:9.1e} {error['noise']:9.1e}")


if __name__ == "__main__":
    main()
