"""What the similarity of gradients costs in every mode, beside the ways others take.

Time is counted in forward passes: the batch's losses without gradient, in the memory layout the
network was built in, measured right before each mode. The modes take turns, so that a machine
whose speed drifts slows all alike; shown is the median over rounds with least and most. It is
processor time on one thread, so that other programs that wait their turn do not count. Beside it
the passes of the mode's own layout, where that is another. A central difference is checked once
for as many weak samples as a weight step judges with one direction.

The error is the largest over the batch as a share of the largest similarity, against the exact
mode in float64, after some steps of training. Ranks are Spearman's correlation with the exact mode
over all parameters, over 32 samples of which a quarter have a label out of place.

Memory is the peak resident size of a fresh process that has done one plain forward pass and then
does the mode once, over what it held before: for 16 samples, for 32, and (ours) 64 in chunks of 16.
Large tensors are handed back to the system when they are freed, which glibc would put off.

Training compares gradients of the last layer unless told otherwise. The other ways are therefore
measured on that layer alone, too, where nobody set a goal.

Opacus is measured where it can be imported, and left out, with a word, where it cannot.
Run: ``python benchmarks/bench_similarity.py [--rounds 3] [--cases unet-2d-64 …]``.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import importlib
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

import torch
from scipy.stats import spearmanr

from labelmend.weighting.central import (
    along,
    central,
    channels_last,
    checked_central,
    find_step,
)
from labelmend.weighting.gradients import exact, inner, mean_gradient, slow
from similarity_problem import CASES, TRAINED, Problem, lengths, loop, opacus, vmapped

RESULTS = Path(__file__).parent / "results" / "similarity.json"
JUDGED = 256
"""Weak samples that are judged along one direction, batch by batch, and so share one check."""
RANKED = 32
"""Samples whose order by one similarity is compared with that by another."""
MEMORY = ("unet-2d-128", "dynunet-2d-128")
CHUNK = 16
"""Samples of a batch where memory is measured."""
LEAST = 0.5
"""Seconds that a mode is measured for in every round: one short call says little."""
CENTRAL = f"central, check of 2 samples shared by {JUDGED}"
LAST = "channels-last"
IN_MEMORY = (
    *("forward", "central", "exact", "exact, last layer", "slow", "loop"),
    *("lengths, sample by sample", "vmap(grad)", f"central, {LAST}", "Opacus"),
)
IN_CHUNKS = ("forward", "central", "exact")
"""Modes whose memory is measured for many samples in chunks, too."""
SELDOM = ("lengths, one graph", "slow")
"""Too slow for more than one round."""


def modes(problem: Problem) -> dict[str, Callable[[], Any]]:
    """Everything whose time and memory are measured: functions that return the similarities."""
    weak, params, direction = problem.losses_of(*problem.weak), problem.params, problem.direction
    changed = channels_last(params)

    def forward(values: Any = params) -> Any:
        with torch.no_grad():
            return weak(values)

    found: dict[str, Callable[[], Any]] = {
        "forward": forward,
        "central": lambda: central(weak, params, direction)[1],
        "exact": lambda: exact(weak, params, direction)[1],
        "exact, decoder": lambda: exact(weak, problem.decoder, problem.part(problem.decoder))[1],
        "exact, last layer": lambda: exact(weak, problem.last, problem.part(problem.last))[1],
        "slow": lambda: slow(weak, params, direction)[1],
        "loop": lambda: loop(problem),
        "lengths, sample by sample": lambda: lengths(problem, 1),
        "lengths, one graph": lambda: lengths(problem, problem.batch),
        "vmap(grad)": lambda: vmapped(problem),
        "loop, last layer": lambda: loop(problem, problem.last),
        "vmap(grad), last layer": lambda: vmapped(problem, problem.last),
        f"forward, {LAST}": lambda: forward(changed),
        f"central, {LAST}": lambda: central(weak, changed, direction)[1],
    }
    if importlib.util.find_spec("opacus"):
        importlib.import_module("opacus")  # its libraries are not its memory
        found["Opacus"] = lambda: opacus(problem)
        found["Opacus, last layer"] = lambda: opacus(problem, problem.last)
    return found


def checked_modes(problem: Problem) -> dict[str, Callable[[], Any]]:
    """The central difference with its self-check, which needs the gradient of strong samples."""
    weak, strong = problem.losses_of(*problem.weak), problem.losses_of(*problem.strong)
    params, direction = problem.params, problem.direction
    few = problem.losses_of(*(t[:2] for t in problem.strong))
    slope, few_slope = inner(direction, direction), inner(mean_gradient(few, params), direction)

    def shared(check: Any, known: float, values: Any = params) -> Any:
        similarities = along(find_step(check, values, direction, known), values, direction)
        for _ in range(JUDGED // problem.batch):
            found = similarities(weak)
        if found.mode != "central":
            print(f"the check failed: {found.note}", file=sys.stderr)
        return found.similarity

    return {
        "central, checked": lambda: (
            checked_central(weak, params, direction, slope, strong).similarity
        ),
        f"central, check of a batch shared by {JUDGED}": lambda: shared(strong, slope),
        CENTRAL: lambda: shared(few, few_slope),
        f"{CENTRAL}, {LAST}": lambda: shared(few, few_slope, channels_last(params)),
    }


def truth(problem: Problem) -> Any:
    """The similarities in float64."""
    network = copy.deepcopy(problem.network).double()
    image, label = problem.weak
    of = problem.losses_of(image.double(), label, network)
    direction = {n: v.double() for n, v in problem.direction.items()}
    return exact(of, dict(network.named_parameters()), direction)[1]


def ranks(problem: Problem) -> dict[str, float]:
    """How a cheaper similarity orders samples, good and bad, beside that over all parameters."""
    image, label = problem.draw(RANKED)
    axes = tuple(range(1, label.ndim))
    label[::4] = label[::4].roll((problem.side // 4,) * problem.dims, axes)

    def judged(mode: Any, params: Any) -> Any:
        parts = range(0, RANKED, problem.batch)
        batches = [[t[k : k + problem.batch] for t in (image, label)] for k in parts]
        part = problem.part(params)
        return torch.cat([mode(problem.losses_of(*b), params, part)[1] for b in batches])

    full = judged(exact, problem.params)
    cheaper = {
        "central": judged(central, problem.params),
        "exact, decoder": judged(exact, problem.decoder),
        "exact, last layer": judged(exact, problem.last),
    }
    return {name: float(spearmanr(full, found).statistic) for name, found in cheaper.items()}


def measure(case: str, rounds: int) -> dict[str, Any]:
    """All modes of one case: ``{mode: figures}``; a summary keeps them by case."""
    torch.set_num_threads(1)
    problem = Problem(case)
    problem.direction = mean_gradient(problem.losses_of(*problem.strong), problem.params)
    found = modes(problem) | checked_modes(problem)
    right, order = truth(problem), ranks(problem)
    figures: dict[str, Any] = {}
    for name, do in found.items():
        value = do()
        figures[name] = {}
        if not name.startswith("forward") and "layer" not in name and "decoder" not in name:
            figures[name]["error"] = ((value - right).abs().max() / right.abs().max()).item()
        if name in order:
            figures[name]["ranks"] = order[name]
    for number in range(rounds):
        for name, do in found.items():
            if number and name in SELDOM:
                continue
            # Right before it: within a round the speed of a machine drifts by some percent.
            beside = {"passes": timed(found["forward"])}
            if LAST in name:
                beside["own"] = timed(found[f"forward, {LAST}"])
            seconds = timed(do) / (JUDGED // problem.batch if "shared" in name else 1)
            for key, forward in beside.items():
                figures[name].setdefault(key, []).append(seconds / forward)
            figures[name].setdefault("seconds", []).append(seconds)
    for row in figures.values():
        row["seconds"] = statistics.median(row["seconds"])
        for key in ("passes", "own"):
            if key in row:
                row[key] = [min(row[key]), statistics.median(row[key]), max(row[key])]
    return figures


def timed(do: Callable[[], Any]) -> float:
    """Seconds of the processor that a call takes: the mean of as many as fill :data:`LEAST`."""
    calls, began = 0, time.process_time()
    while (took := time.process_time() - began) < LEAST:
        do()
        calls += 1
    return took / calls


def peak(case: str, mode: str, batch: int, chunks: int) -> float:
    """The peak of this process in MiB while it does a mode, over what it held before."""
    torch.set_num_threads(1)
    problem = Problem(case, batch, steps=0)
    found = modes(problem)
    found["forward"]()
    ctypes.CDLL(None).malloc_trim(0)  # what the pass before has freed is not held
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    torch.cat([found[mode]() for _ in range(chunks)])
    return (_status("VmHWM") - before) / 1024


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def own_process(*arguments: str) -> Any:
    """What this file prints last when it is run with some arguments, in a process of its own."""
    command = [sys.executable, __file__, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if "--peak" in arguments:
        environment["MALLOC_MMAP_THRESHOLD_"] = "65536"
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def memory(case: str) -> dict[str, dict[str, float]]:
    """Peaks of one case in MiB: ``{mode: {samples: peak}}``."""
    found: dict[str, dict[str, float]] = {}
    for mode in IN_MEMORY:
        if mode == "Opacus" and not importlib.util.find_spec("opacus"):
            continue
        found[mode] = {}
        for batch, chunks in ((CHUNK, 1), (2 * CHUNK, 1), (CHUNK, 4)):
            if chunks > 1 and mode not in IN_CHUNKS:
                continue
            key = f"{batch}" if chunks == 1 else f"{batch * chunks} in chunks of {batch}"
            found[mode][key] = own_process("--peak", case, mode, str(batch), str(chunks))
    return found


def show(case: str, figures: dict[str, Any]) -> None:
    """Print one case as a table."""
    print(f"\n{case}, batch {CASES[case][3]}")
    heads = ("passes", "least", "most", "own", "error", "ranks")
    print(f"{'mode':54}" + "".join(f"{head:>9}" for head in heads))
    for name, row in figures.items():
        low, middle, high = row["passes"]
        own = f"{row['own'][1]:.2f}" if "own" in row else "-"
        error = f"{row['error']:.1e}" if "error" in row else "-"
        order = f"{row['ranks']:.3f}" if "ranks" in row else "-"
        print(f"{name:54}{middle:9.2f}{low:9.2f}{high:9.2f}{own:>9}{error:>9}{order:>9}")


def show_memory(case: str, peaks: dict[str, dict[str, float]]) -> None:
    """Print the peaks of one case as a table."""
    print(f"\n{case}, MiB for so many samples")
    print(f"{'mode':30}" + "".join(f"{key:>20}" for key in peaks["forward"]))
    for mode, row in peaks.items():
        print(f"{mode:30}" + "".join(f"{value:20.0f}" for value in row.values()))


def goals(cases: dict[str, Any], peaks: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What was aimed at, and what was measured in every case: ``{goal: figures}``."""

    def passes(name: str, kind: str = "passes") -> dict[str, float]:
        return {c: f[name][kind][1] for c, f in cases.items() if name in f}

    def faster(name: str, than: str, where: str = "") -> dict[str, float]:
        one, other = passes(name), passes(than)
        return {
            c: other[c] / one[c] for c in other if not where or c.split("-")[2] in where.split()
        }

    last = f"{CENTRAL}, {LAST}"
    found: list[tuple[str, float, dict[str, float]]] = [
        ("central with its check, passes of its own layout, at most", 2.0, passes(CENTRAL)),
        (f"the same in {LAST}, at most", 2.0, passes(last, "own")),
        ("the same in plain forward passes, at most", 2.0, passes(last)),
        ("exact, passes, at most", 3.2, passes("exact")),
    ]
    layer = ", last layer"
    pairs = (("exact", ""), (last, ""), (f"exact{layer}", ""), (f"exact{layer}", layer))
    for mode, what in pairs:
        looped = f"loop{what}"
        found += [
            (
                f"{mode}: times faster than Opacus{what}, at least",
                3.0,
                faster(mode, f"Opacus{what}"),
            ),
            (f"{mode}: than vmap(grad){what}, at least", 1.8, faster(mode, f"vmap(grad){what}")),
            (
                f"{mode}: than the {looped} at 128-256, at least",
                1.5,
                faster(mode, looped, "128 256"),
            ),
            (f"{mode}: than the {looped} at 64, at least", 3.0, faster(mode, looped, "64")),
        ]
    for mode, most in (("central", 1e-2), (f"central, {LAST}", 1e-2), ("exact", 1e-4)):
        errors = {case: figures[mode]["error"] for case, figures in cases.items()}
        found.append((f"{mode}: error, at most", most, errors))
    one, many = f"{CHUNK}", f"{4 * CHUNK} in chunks of {CHUNK}"
    of = {c: p["central"][one] / p["forward"][one] for c, p in peaks.items()}
    found.append(("central: memory over that of a forward pass, at most", 1.05, of))
    for mode in ("central", "exact"):
        grown = {c: p[mode][many] / p[mode][one] for c, p in peaks.items()}
        found.append((f"{mode}: memory of 64 samples over that of 16, at most", 1.05, grown))
    return {text: _judged(text, goal, measured) for text, goal, measured in found if measured}


def _judged(text: str, goal: float, measured: dict[str, float]) -> dict[str, Any]:
    most = text.endswith("most")
    met = [case for case, value in measured.items() if (value <= goal if most else value >= goal)]
    return {"goal": goal, "met": met, "measured": measured}


def show_goals(found: dict[str, dict[str, Any]]) -> None:
    """Print for every goal whether it was met, and the worst figure."""
    print()
    for text, row in found.items():
        values = row["measured"]
        worst = (max if text.endswith("most") else min)(values, key=lambda case: values[case])
        word = "met" if len(row["met"]) == len(values) else "not met"
        if row["met"] and word == "not met":
            word = f"met in {len(row['met'])} of {len(values)}"
        middle = statistics.median(values.values())
        print(
            f"{text} {row['goal']:g}: {word}; worst {values[worst]:.3g} ({worst}), "
            f"middle {middle:.3g}"
        )


def main() -> None:
    """Measure every case in a process of its own, and keep and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--one", choices=list(CASES), help=argparse.SUPPRESS)
    parser.add_argument("--peak", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given.rounds)))
        return
    if given.peak:
        case, mode, batch, chunks = given.peak
        print(json.dumps(peak(case, mode, int(batch), int(chunks))))
        return
    if not importlib.util.find_spec("opacus"):
        print("Opacus is not installed and is left out")
    cases, peaks = {}, {}
    for case in given.cases:
        cases[case] = own_process("--one", case, "--rounds", str(given.rounds))
        show(case, cases[case])
    for case in MEMORY if sys.platform == "linux" else ():
        if case in given.cases:
            peaks[case] = memory(case)
            show_memory(case, peaks[case])
    reached = goals(cases, peaks)
    show_goals(reached)
    RESULTS.parent.mkdir(exist_ok=True)
    summary = {"rounds": given.rounds, "threads": 1, "trained_steps": TRAINED}
    summary |= {"cases": cases, "peak_mib": peaks, "goals": reached}
    RESULTS.write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
