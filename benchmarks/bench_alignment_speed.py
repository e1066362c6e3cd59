"""What it costs to search for the displacement of a label, beside other libraries and a step.

Three parts, each of which compares what it measures in one process on one thread, in turns, so
that a machine whose speed drifts slows all alike; shown is the least processor time of all rounds
with the most behind it:

- ``scores``: :func:`labelmend.alignment.scores.score_shifts` by size, window and classes;
- ``peers``: a whole search beside scikit-image, SimpleITK and kornia on the same drawn pairs, with
  the share found within one position along both axes. Peers take pairs one by one;
- ``step``: a whole search as a share of a training step of the default network.

A whole search is the scores and the best of them. What cannot be imported is left out, with a
word. Finished cases are kept in the results and not measured again.
Run: ``python benchmarks/bench_alignment_speed.py [--only peers step] [--rounds 6]``; ten minutes
on one core.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alignment_peers import (
    LIBRARIES,
    MASKED,
    MASKED_DOUBLE,
    Pairs,
    Peer,
    draw_pairs,
    installed,
    peers,
)
from labelmend.alignment.aligner import ShiftAligner
from labelmend.alignment.score_maps import best_shift
from labelmend.alignment.scores import SCORES, score_shifts
from labelmend.alignment.shifts import shift
from labelmend.alignment.transform_candidates import KINDS
from labelmend.alignment.transform_search import TransformAligner
from labelmend.losses import dice_ce
from labelmend.networks.build import build_network

RESULTS = Path(__file__).parent / "results" / "alignment_speed.json"

BATCH = {2: 16, 3: 2}
"""Pairs at a time, by dimensions."""
WINDOWS: dict[tuple[int, ...], tuple[int, ...]] = {
    (128, 128): (8, 32),
    (256, 256): (8, 16, 32, 64),
    (512, 512): (32, 64),
    (64, 64, 64): (4, 8),
}
FOREGROUND = (1, 5)
"""Classes beside the background."""
TIMED = ("cross_entropy", "dice", "dice_ce", "normalised", "mutual_information")

REACH = 32
"""The window of ``peers`` and ``step``."""
CASES: dict[str, tuple[int, dict[str, bool]]] = {
    "128 x 128": (128, {}),
    "256 x 256": (256, {}),
    "256 x 256, weak prediction": (256, {"weak": True}),
    "256 x 256, a quarter not labelled": (256, {"part": True}),
    "512 x 512": (512, {}),
}
OURS = ("cross_entropy", "dice_ce", "normalised", "mutual_information")
FEWER = {"SimpleITK": 8, "kornia": 2}
"""How many pairs of a batch slow libraries take."""

LOSS = "dice_ce"
"""What the default network is trained by."""
GOAL_SHARE, GOAL_TIMES = 0.02, 20
GOALS = {"rigid and the gate": 0.05, "similarity and the gate": None, "affine and the gate": None}
"""Shares of a step for what does more than shift; nobody set one for more than turning."""

Seconds = dict[str, list[float]]


def in_turns(ways: dict[str, Callable[[], Any]], rounds: int) -> Seconds:
    """Processor time of every way in every round, less a first one that warms up."""
    found: Seconds = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, do in ways.items():
            seconds = timed(do)[0]
            if number:
                found[way].append(seconds)
    return found


def timed(do: Callable[[], Any]) -> tuple[float, Any]:
    began = time.process_time()
    value = do()
    return time.process_time() - began, value


def search(pairs: Pairs, score: str, window: int, **options: Any) -> torch.Tensor:
    """The displacements of a batch; ``(batch, dims)``."""
    maps = score_shifts(pairs.logits, pairs.label, pairs.valid, score, window, **options)
    return best_shift(maps)[0]


def score_cases() -> dict[str, tuple[tuple[int, ...], int, int]]:
    """Size, window and number of logits of every case of ``scores``."""
    return {
        f"{' x '.join(map(str, space))}, ±{window}, {n} class{'es' * (n > 1)}": (
            space,
            window,
            n + 1,
        )
        for n in FOREGROUND
        for space, windows in WINDOWS.items()
        for window in windows
    }


def measure_scores(case: str, rounds: int) -> dict[str, Any]:
    """Seconds of a pair, by score."""
    space, window, classes = score_cases()[case]
    batch = BATCH[len(space)]
    of = draw_pairs(space, window, classes=classes, batch=batch)

    def way(score: str) -> Callable[[], Any]:
        return lambda: score_shifts(of.logits, of.label, of.valid, score, window)

    found = in_turns({score: way(score) for score in TIMED}, rounds)
    return {score: [s / batch for s in seconds] for score, seconds in found.items()}


def measure_peers(case: str, rounds: int) -> dict[str, Any]:
    """Seconds of a pair in every batch and how many pairs were found, by way."""
    side, options = CASES[case]
    batches = [draw_pairs((side, side), REACH, seed=s, **options) for s in range(rounds)]
    found: dict[str, Any] = {}
    for number in (0, *range(rounds)):  # the first batch comes twice: once to warm up
        if number == 0:
            found = {}
        for way, (seconds, right) in one_batch(batches[number]).items():
            row = found.setdefault(way, {"seconds": [], "found": 0, "pairs": 0})
            row["seconds"].append(seconds / len(right))
            row["found"] += sum(right)
            row["pairs"] += len(right)
    return {"dice": float(np.mean([b.dice for b in batches])), "ways": found}


def one_batch(pairs: Pairs) -> dict[str, tuple[float, list[bool]]]:
    """Seconds of one batch, and which pairs were found within one position, by way."""
    every = max(pairs.label.shape[1:]) - 1
    ours: dict[str, Callable[[], Any]] = {
        f"labelmend, {score}": lambda s=score: search(pairs, s, REACH) for score in OURS
    }
    ours["labelmend, normalised, every displacement"] = lambda: search(
        pairs, "normalised", every, least_overlap=0.3
    )
    ways = ours | {way: one_by_one(way, peer, pairs) for way, peer in peers(REACH).items()}
    found = {}
    for way, do in ways.items():
        seconds, displacement = timed(do)
        off = np.abs(np.asarray(displacement) - pairs.displacement[: len(displacement)])
        found[way] = (seconds, (off.max(1) <= 1).tolist())
    return found


def one_by_one(way: str, peer: Peer, pairs: Pairs) -> Callable[[], Any]:
    """A peer on the pairs of a batch, already in the form it takes."""
    chance = pairs.logits.softmax(1)[:, 1:].sum(1).numpy()
    label, valid = pairs.label.clamp(max=1).float().numpy(), pairs.valid.numpy()
    many = FEWER.get(way.partition(",")[0], len(label))
    given = list(zip(chance, label, valid, strict=True))[:many]
    return lambda: np.stack([peer(*pair) for pair in given])


def step_ways() -> dict[str, Callable[[], Any]]:
    """A training step of the default network, and searches of the batch it has just seen."""
    pairs = draw_pairs((256, 256), REACH)
    network = build_network("unet", 2, 1, 2, seed=0)
    optimiser = torch.optim.AdamW(network.parameters())
    image = pairs.logits[:, 1:] - pairs.logits[:, :1]
    seen: list[torch.Tensor] = []

    def step() -> None:
        logits = network(image)
        dice_ce(logits, pairs.label, pairs.valid).mean().backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        seen[:] = [logits.detach()]

    def found(score: str) -> torch.Tensor:
        return search(Pairs(seen[0], pairs.label, pairs.valid, pairs.displacement), score, REACH)

    ways: dict[str, Callable[[], Any]] = {"step": step}
    ways |= {f"shift by {score}": lambda s=score: found(s) for score in SCORES}
    ways["shift by dice_ce, label moved"] = lambda: shift(pairs.label, pairs.valid, found(LOSS))
    aligners: dict[str, ShiftAligner | TransformAligner] = {
        "shift": ShiftAligner(REACH),
        **{kind: TransformAligner(kind, REACH) for kind in KINDS},
    }
    ways |= {
        f"{kind} and the gate": lambda a=aligner: a.find(seen[0], pairs.label, pairs.valid)
        for kind, aligner in aligners.items()
    }
    return ways


def measure_step(case: str, rounds: int) -> dict[str, Any]:
    """Seconds of a step and of the searches of a batch."""
    return in_turns(step_ways(), rounds)


PARTS: dict[str, tuple[Callable[[], Sequence[str]], Callable[[str, int], dict[str, Any]]]] = {
    "scores": (lambda: list(score_cases()), measure_scores),
    "peers": (lambda: list(CASES), measure_peers),
    "step": (lambda: ["unet, 256 x 256"], measure_step),
}


def milliseconds(seconds: list[float]) -> str:
    """The least and the most."""
    both = [1e3 * f(seconds) for f in (min, max)]
    low, high = (f"{ms:.0f}" if ms >= 1000 else f"{ms:.3g}" for ms in both)
    return f"{low} ({high})"


def score_table(cases: dict[str, Any]) -> list[str]:
    """Milliseconds of a pair, cases down, scores across."""
    lines = [row("case", *TIMED), "|---" * (1 + len(TIMED)) + "|"]
    return lines + [row(c, *(milliseconds(f[s]) for s in TIMED)) for c, f in cases.items()]


def peer_table(cases: dict[str, Any]) -> list[str]:
    """Milliseconds of a pair and the share found, ways down, cases across."""
    heads = [f"{case}, Dice {found['dice']:.2f}" for case, found in cases.items()]
    lines = [row("way", *heads), "|---" * (1 + len(cases)) + "|"]
    for way in dict.fromkeys(way for found in cases.values() for way in found["ways"]):
        of = [found["ways"].get(way) for found in cases.values()]
        cells = [
            f"{milliseconds(f['seconds'])}, {f['found'] / f['pairs']:.0%} of {f['pairs']}"
            if f
            else "–"
            for f in of
        ]
        lines.append(row(way, *cells))
    return lines


def goal_table(cases: dict[str, Any]) -> list[str]:
    """How many times faster than the masked correlation in float32 / in float64.

    Whether that is the goal is judged by the first.
    """
    lines = [
        row(f"goal: {GOAL_TIMES} × faster than {MASKED}, no less found", *cases),
        "|---" * (1 + len(cases)) + "|",
    ]
    ways = dict.fromkeys(way for found in cases.values() for way in found["ways"])
    for way in (way for way in ways if way.startswith("labelmend")):
        lines.append(row(way, *(_reached(found["ways"], way) for found in cases.values())))
    return lines


def _reached(ways: dict[str, Any], way: str) -> str:
    if way not in ways or MASKED not in ways:
        return "–"
    base, of = ways[MASKED], ways[way]
    times = min(base["seconds"]) / min(of["seconds"])
    double = min(ways[MASKED_DOUBLE]["seconds"]) / min(of["seconds"])
    word = verdict(times >= GOAL_TIMES, of["found"] >= base["found"])
    return f"{times:.1f} ({spread(base['seconds'], of['seconds'])}) / {double:.1f}: {word}"


def verdict(fast: bool, right: bool) -> str:
    if fast and right:
        return "yes"
    return "no: " + " and ".join(
        words for words, met in (("too slow", fast), ("finds less", right)) if not met
    )


def spread(one: list[float], other: list[float]) -> str:
    """The least and the greatest ratio within a round."""
    ratios = [a / b for a, b in zip(one, other, strict=True)]
    return f"{min(ratios):.3g} to {max(ratios):.3g}"


def step_table(found: Seconds) -> list[str]:
    """Searches as a share of the step, and whether that is within the goal."""
    lines = [
        row("of a batch of 16, ±32", "ms", "% of a step", "goal"),
        "|---" * 4 + "|",
    ]
    for way, seconds in found.items():
        percent = 100 * min(seconds) / min(found["step"])
        among = spread([100 * s for s in seconds], found["step"])
        goal = None if way == "step" else GOALS.get(way, GOAL_SHARE)
        known = "–" if goal is None else f"{goal:.0%}: {'yes' if percent <= 100 * goal else 'no'}"
        lines.append(row(way, milliseconds(seconds), f"{percent:.2f} ({among})", known))
    return lines


def row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def tables(results: dict[str, Any]) -> str:
    """All that was measured, as Markdown: least (most); ratios of the least (within rounds)."""
    parts = []
    if results.get("scores"):
        parts.append(["milliseconds of a pair: least (most)", "", *score_table(results["scores"])])
    if results.get("peers"):
        head = "milliseconds of a pair: least (most), and the share found within one position"
        parts.append([head, "", *peer_table(results["peers"])])
        if any(MASKED in found["ways"] for found in results["peers"].values()):
            parts.append(goal_table(results["peers"]))
    parts += [step_table(found) for found in results.get("step", {}).values()]
    return "\n\n".join("\n".join(lines) for lines in parts)


def finished(found: dict[str, Any] | None, part: str) -> bool:
    """Whether a case was measured with all the libraries that are there now."""
    return found is not None and (part != "peers" or set(peers(REACH)) <= set(found["ways"]))


def say_what_is_absent() -> None:
    absent = [name for module, name in LIBRARIES.items() if module not in installed()]
    if absent:
        print(f"left out, not installed: {', '.join(absent)}; pip install {' '.join(absent)}")


def main() -> None:
    """Measure what is missing, keep, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    say_what_is_absent()
    results = json.loads(given.results.read_text()) if given.results.exists() else {}
    for part in given.only:
        cases, measure = PARTS[part]
        done = results.setdefault(part, {})
        for case in cases():
            if not finished(done.get(case), part):
                print(f"{part}: {case}", flush=True)
                done[case] = measure(case, given.rounds)
                results["versions"] = {"torch": torch.__version__} | installed()
                given.results.parent.mkdir(exist_ok=True)
                given.results.write_text(json.dumps(results, indent=1) + "\n")
    print(tables(results))


if __name__ == "__main__":
    main()
