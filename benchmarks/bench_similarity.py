"""What the similarity of gradients costs in every mode, beside the ways others take.

Time is counted in forward passes: the batch's losses without gradient, in the same memory layout,
measured in the same round. The modes take turns (forward, central, exact, …, forward, …), so that
a machine whose speed drifts slows all alike; shown is the median over rounds with least and most.
It is processor time on one thread, so that other programs that wait their turn do not count.
Memory is the peak resident size of a forked process that does one mode once, over what it held
when it began (network, batch, direction, libraries). The error is the largest over the batch as a
share of the largest similarity, against the exact mode in float64, after some steps of training.
Run: ``python benchmarks/bench_similarity.py [--rounds 5] [--cases unet-2d-64 …]``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "similarity.json"
SHARED = 4
"""Batches of weak samples that are judged along one direction, and so share one self-check."""
TRAINED = 12
"""Steps of training before anything is measured: fresh networks flatter a central difference."""
CASES = {
    "unet-2d-64": ("unet", 2, 64, 16),
    "unet-2d-128": ("unet", 2, 128, 8),
    "unet-3d-32": ("unet", 3, 32, 4),
    "dynunet-2d-64": ("dynunet", 2, 64, 16),
    "dynunet-2d-128": ("dynunet", 2, 128, 8),
    "dynunet-3d-32": ("dynunet", 3, 32, 4),
}
REFERENCE = {"central, channels-last": "forward, channels-last"}


class Problem:
    """A network after a little training, weak and strong samples, and a direction."""

    def __init__(self, case: str) -> None:
        import torch

        from labelmend.networks.build import build_network
        from labelmend.weighting.choice import choose
        from labelmend.weighting.gradients import inner, mean_gradient

        name, dims, side, batch = CASES[case]
        self.dims, self.batch = dims, batch
        generator = torch.Generator().manual_seed(0)
        self.network = build_network(name, dims, 1, 2, seed=0)
        label = torch.zeros(2 * batch, *(side,) * dims, dtype=torch.long)
        for number in range(2 * batch):
            first = torch.randint(0, side // 2, (dims,), generator=generator).tolist()
            label[(number, *(slice(f, f + side // 2) for f in first))] = 1
        image = label[:, None] + 0.7 * torch.randn(label[:, None].shape, generator=generator)
        self.weak, self.strong = (image[:batch], label[:batch]), (image[batch:], label[batch:])
        self.train()
        self.network.eval()
        self.params = choose(self.network)
        self.last = choose(self.network, "last", image)
        self.decoder = choose(self.network, "decoder", image)
        self.direction = mean_gradient(self.losses_of(*self.strong), self.params)
        self.slope = inner(self.direction, self.direction)

    def train(self) -> None:
        """A few steps on the strong samples."""
        import torch

        optimiser = torch.optim.AdamW(self.network.parameters(), lr=1e-3)
        for _ in range(TRAINED):
            self.losses_of(*self.strong)(dict(self.network.named_parameters())).mean().backward()
            optimiser.step()
            optimiser.zero_grad()

    def losses_of(self, image: Any, label: Any, network: Any = None) -> Callable[..., Any]:
        """The losses of some samples as a function of parameters."""
        import torch
        from torch.func import functional_call

        from labelmend.losses import dice_ce

        valid = torch.ones_like(label, dtype=torch.bool)
        network = network or self.network
        return lambda params: dice_ce(
            functional_call(network, dict(params), (image,)), label, valid
        )

    def part(self, names: Any) -> dict[str, Any]:
        """The direction in some of the parameters."""
        return {name: self.direction[name] for name in names}


def modes(problem: Problem) -> dict[str, Callable[[], Any]]:
    """Everything to be measured: functions that return the similarities."""
    from labelmend.weighting.central import along, central, checked_central, find_step
    from labelmend.weighting.gradients import exact, mean_gradient, slow

    weak, strong = problem.losses_of(*problem.weak), problem.losses_of(*problem.strong)
    params, direction, slope = problem.params, problem.direction, problem.slope
    few = problem.losses_of(*(t[:2] for t in problem.strong))
    few_gradient = mean_gradient(few, params)
    few_slope = sum((few_gradient[n] * direction[n]).double().sum().item() for n in params)

    def shared(check: Any, known: float) -> Any:
        step = find_step(check, params, direction, known)
        for _ in range(SHARED):
            found = along(step, weak, params, direction)
        return found.similarity

    def forward(of: Any = weak) -> Any:
        import torch

        with torch.no_grad():
            return of(params)

    found: dict[str, Callable[[], Any]] = {
        "forward": forward,
        "central": lambda: central(weak, params, direction)[1],
        "central, checked": lambda: (
            checked_central(weak, params, direction, slope, strong).similarity
        ),
        f"central, check shared by {SHARED}": lambda: shared(strong, slope),
        f"central, check of 2 samples shared by {SHARED}": lambda: shared(few, few_slope),
        "exact": lambda: exact(weak, params, direction)[1],
        "exact, decoder": lambda: exact(weak, problem.decoder, problem.part(problem.decoder))[1],
        "exact, last layer": lambda: exact(weak, problem.last, problem.part(problem.last))[1],
        "slow": lambda: slow(weak, params, direction)[1],
        "loop": lambda: loop(problem),
        "vmap(grad)": lambda: vmapped(problem),
    }
    if problem.dims == 2:
        found |= channels_last(problem)
    if importlib.util.find_spec("opacus"):
        found["Opacus"] = lambda: opacus(problem)
    return found


def channels_last(problem: Problem) -> dict[str, Callable[[], Any]]:
    """The central difference and its own forward pass with channels as the last axis in memory."""
    import copy

    import torch

    from labelmend.weighting.central import central

    network = copy.deepcopy(problem.network).to(memory_format=torch.channels_last)
    params = {n: p.detach() for n, p in network.named_parameters()}
    direction = {n: torch.empty_like(params[n]).copy_(v) for n, v in problem.direction.items()}
    image = problem.weak[0].to(memory_format=torch.channels_last)
    of = problem.losses_of(image, problem.weak[1], network)

    def forward() -> Any:
        with torch.no_grad():
            return of(params)

    return {
        "forward, channels-last": forward,
        "central, channels-last": lambda: central(of, params, direction)[1],
    }


def loop(problem: Problem) -> Any:
    """One forward and one backward pass for every sample alone: what one writes first."""
    import torch

    found = []
    names = list(problem.params)
    for number in range(problem.batch):
        of = problem.losses_of(*(t[number : number + 1] for t in problem.weak))
        loss = of(problem.params).sum()
        gradients = torch.autograd.grad(loss, [problem.params[n] for n in names])
        pairs = zip(names, gradients, strict=True)
        found.append(sum((problem.direction[n] * g).sum() for n, g in pairs))
    return torch.stack(found)


def vmapped(problem: Problem) -> Any:
    """All samples' gradients at once by torch.func."""
    from torch.func import grad, vmap

    params = {n: p.detach() for n, p in problem.params.items()}

    def loss(values: Any, image: Any, label: Any) -> Any:
        return problem.losses_of(image[None], label[None])(values).sum()

    gradients = vmap(grad(loss), (None, 0, 0))(params, *problem.weak)
    return sum((gradients[n] * problem.direction[n]).flatten(1).sum(1) for n in params)


def opacus(problem: Problem) -> Any:
    """All samples' gradients at once by hooks; not a dependency, measured where it is installed."""
    import copy

    from opacus import GradSampleModule

    wrapped = GradSampleModule(copy.deepcopy(problem.network), loss_reduction="sum")
    image, label = problem.weak
    of = problem.losses_of(image, label, wrapped)
    of(dict(wrapped.named_parameters())).sum().backward()
    params = wrapped._module.named_parameters()
    return sum((p.grad_sample * problem.direction[n]).flatten(1).sum(1) for n, p in params)


def peak_mib(do: Callable[[], Any]) -> float:
    """The peak memory of a forked process that does it, over what the process began with."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        before = _status("VmRSS")
        do()
        os.write(writer, str((_status("VmHWM") - before) / 1024).encode())
        os._exit(0)
    os.close(writer)
    if os.waitpid(child, 0)[1] != 0:
        raise RuntimeError("the process whose memory was measured died")
    return float(os.read(reader, 100))


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def truth(problem: Problem) -> Any:
    """The similarities in float64."""
    import copy

    from labelmend.weighting.gradients import exact

    network = copy.deepcopy(problem.network).double()
    image, label = problem.weak
    of = problem.losses_of(image.double(), label, network)
    direction = {n: v.double() for n, v in problem.direction.items()}
    return exact(of, dict(network.named_parameters()), direction)[1]


def measure(case: str, rounds: int) -> dict[str, Any]:
    """All modes of one case: ``{mode: figures}``; a summary keeps them by case."""
    import torch

    torch.set_num_threads(1)
    problem = Problem(case)
    found = modes(problem)
    right = truth(problem)
    share = {name: SHARED if "shared" in name else 1 for name in found}
    figures: dict[str, Any] = {}
    for name, do in found.items():
        memory = peak_mib(do) if sys.platform == "linux" else float("nan")
        value = do()
        figures[name] = {"peak_mib": memory}
        if not name.startswith("forward") and "layer" not in name and "decoder" not in name:
            figures[name]["error"] = ((value - right).abs().max() / right.abs().max()).item()
    seconds: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(rounds):
        for name, do in found.items():
            began = time.process_time()
            do()
            seconds[name].append((time.process_time() - began) / share[name])
    for name, times in seconds.items():
        own = seconds[REFERENCE.get(name, "forward")]
        passes = [t / f for t, f in zip(times, own, strict=True)]
        figures[name]["passes"] = [min(passes), statistics.median(passes), max(passes)]
        figures[name]["seconds"] = statistics.median(times)
    return figures


def show(case: str, figures: dict[str, Any]) -> None:
    """Print one case as a table."""
    print(f"\n{case}, batch {CASES[case][3]}")
    print(f"{'mode':44}{'passes':>8}{'least':>8}{'most':>8}{'MiB':>8}{'error':>10}")
    for name, row in figures.items():
        low, middle, high = row["passes"]
        error = f"{row['error']:.1e}" if "error" in row else "-"
        print(f"{name:44}{middle:8.2f}{low:8.2f}{high:8.2f}{row['peak_mib']:8.0f}{error:>10}")


def main() -> None:
    """Measure every case in a process of its own, and keep and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--one", choices=list(CASES))
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given.rounds)))
        return
    if not importlib.util.find_spec("opacus"):
        print("Opacus is not installed and is left out")
    cases = {}
    for case in given.cases:
        command = [sys.executable, __file__, "--one", case, "--rounds", str(given.rounds)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True, env=environment
        )
        cases[case] = json.loads(done.stdout.splitlines()[-1])
        show(case, cases[case])
    RESULTS.parent.mkdir(exist_ok=True)
    summary = {"rounds": given.rounds, "threads": 1, "trained_steps": TRAINED, "cases": cases}
    RESULTS.write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
