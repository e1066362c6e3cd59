"""Does a search find where a label belongs, and does it know when it does not?

Labels lie up to 12 positions away along every axis (5 in 3-D), in patches of 96 x 96, recordings
of 1000 and volumes of 40 x 40 x 40; predictions are wrong in ways that ``estimator_scenes.py``
makes up, each as strong as it takes for some mean Dice on other scenes. ``raw`` is the best place
of a map of scores; ``gated`` is what ``ShiftAligner`` makes of it, with its defaults (in 3-D with
a window of 6). Right is within one position along every axis. A case has four parts:

- ``grid``: scene, Dice, sharp or weak probabilities, every score, and scikit-image where it is
  installed; faults of all sorts mixed;
- ``faults``: one kind of fault at a time, with the default score;
- ``labels``: the label is a convex hull or a circle around every object, and out of place;
- ``others``: recordings and volumes.

The gate's constants were fixed on other seeds, one kind of scene and one kind of fault. Finished
cases are kept in the results and not measured again. Run: ``python benchmarks/bench_estimators.py
[--only grid]``; ten minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alignment_peers import MASKED, installed, peers
from estimator_scenes import FAULTS, LOGITS, SCENES, Case, Drawn, draw, strength_of
from labelmend.alignment.aligner import ShiftAligner
from labelmend.alignment.placement import edge_length
from labelmend.alignment.score_maps import best_shift
from labelmend.alignment.scores import SCORES, score_shifts
from labelmend.types import IN_PLACE, MOVED, PARTLY

RESULTS = Path(__file__).parent / "results" / "estimators.json"
SEED = 6000
DEFAULT = ShiftAligner().score
DICE = (1.0, 0.95, 0.9, 0.8, 0.7, 0.55, 0.45)
BOUNDS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Between which stated confidences are counted together."""
PEERS = (MASKED, "scikit-image, phase correlation")
BY_PEERS = 50
"""How many samples of a case they take."""


@dataclass(frozen=True)
class Cell:
    """A case, how good its predictions are, and who takes part."""

    part: str
    case: Case
    dice: float
    logits: str = "sharp"
    scores: tuple[str, ...] = (DEFAULT,)
    number: int = 200
    window: int = 16

    @property
    def name(self) -> str:
        """What its results are kept under."""
        case = self.case
        return "/".join(
            (self.part, case.scene, case.fault, case.label, self.logits, str(self.dice))
        )


def cells() -> Iterator[Cell]:
    """All there is to measure."""
    for scene, dice, logits in product(SCENES, DICE, LOGITS):
        yield Cell("grid", Case(scene, "mixed", "exact", 12), dice, logits, SCORES)
    for scene, fault, dice in product(("blobs", "nuclei"), list(FAULTS)[1:], (0.9, 0.7, 0.55)):
        yield Cell("faults", Case(scene, fault, "exact", 12), dice)
    outlines = ("convex hulls", "circles")
    for scene, label, dice in product(("blobs", "nuclei"), outlines, (1.0, 0.9, 0.7, 0.55)):
        yield Cell("labels", Case(scene, "mixed", label, 12), dice)
    recorded = (("intervals", "exact"), ("beats", "three classes"))
    for (scene, label), dice, logits in product(recorded, DICE, LOGITS):
        yield Cell("others", Case(scene, "mixed", label, 12), dice, logits)
    for fault, dice in product(("eroded or dilated", "objects missing"), (0.9, 0.7)):
        yield Cell("others", Case("intervals", fault, "exact", 12), dice)
    for dice in (1.0, 0.9, 0.8, 0.7, 0.55):
        yield Cell("others", Case("blobs 3-D", "mixed", "exact", 5), dice, number=60, window=6)


# ---------------------------------------------------------------------------- measuring


@dataclass(frozen=True)
class Pairs:
    """Samples of a case as tensors; attributes as in :class:`estimator_scenes.Drawn`."""

    logits: Tensor
    label: Tensor
    right: Tensor
    displacement: Tensor
    dice: float


def draw_pairs(cell: Cell) -> Pairs:
    """All samples of a cell; sharp and weak ones have the same evidence."""
    of = zlib.crc32(cell.name.replace(cell.logits, "").encode())
    few = {"number": 6} if "3-D" in cell.case.scene else {}
    strength = strength_of(cell.case, cell.dice, **few)
    rngs = [np.random.default_rng([SEED, of, k]) for k in range(cell.number)]
    drawn: list[Drawn] = [draw(cell.case, strength, rng) for rng in rngs]
    seen = [LOGITS[cell.logits](d.evidence, rng) for d, rng in zip(drawn, rngs, strict=True)]
    logits = torch.from_numpy(np.stack(seen)).float()
    stacked = (np.stack([getattr(d, n) for d in drawn]) for n in ("label", "right", "displacement"))
    label, right, displacement = (torch.from_numpy(a) for a in stacked)
    logits = torch.cat([torch.zeros_like(logits[:, :1]), logits], 1)
    return Pairs(logits, label, right, displacement, float(np.mean([d.dice for d in drawn])))


def measure(cell: Cell) -> dict[str, Any]:
    """What every score, and every peer, makes of a cell."""
    pairs = draw_pairs(cell)
    found: dict[str, Any] = {"dice": pairs.dice, "number": cell.number, "scores": {}}
    for score in cell.scores:
        aligner = ShiftAligner(score=score, window=cell.window)
        found["scores"][score] = _raw(pairs, aligner) | _gated(pairs, aligner)
        if score != DEFAULT:
            del found["scores"][score]["bins"]
    found["unshifted"] = _of_right_ones(pairs, ShiftAligner(window=cell.window))
    if cell.part == "grid":
        found["peers"] = _of_peers(pairs)
    return found


def _raw(pairs: Pairs, aligner: ShiftAligner) -> dict[str, float]:
    valid = torch.ones_like(pairs.label, dtype=torch.bool)
    maps = score_shifts(pairs.logits, pairs.label, valid, aligner.score, aligner.window)
    off = (best_shift(maps)[0] - pairs.displacement).abs().amax(1)
    return {"within 1": _share(off <= 1), "within 2": _share(off <= 2)}


def _gated(pairs: Pairs, aligner: ShiftAligner) -> dict[str, Any]:
    """What the gate lets through, how often that is right, and what it was sure of."""
    valid = torch.ones_like(pairs.label, dtype=torch.bool)
    edges = edge_length(pairs.label, valid)
    likely = aligner.likely(pairs.logits, pairs.label, valid, edges)
    place = aligner.decide(likely, edges)
    off = place.displacement - pairs.displacement
    sure = (place.reason == MOVED) | (place.reason == IN_PLACE)
    partly = place.reason == PARTLY
    before, after = pairs.displacement.double().norm(dim=1), off.double().norm(dim=1)
    # The place it thinks best, whether it dares to move there or not.
    prior = aligner.prior or max(likely.window) / 2
    best = best_shift(likely, prior=0.5 / prior**2)[0]
    right = ((best - pairs.displacement).abs() <= 1).all(1)
    bins = torch.bucketize(place.confidence, torch.tensor(BOUNDS[1:-1]), right=True)
    counted = [(bins == k) & ~partly & (edges > 0) for k in range(len(BOUNDS) - 1)]
    return {
        "through": _share(sure),
        "right": int((off.abs() <= 1).all(1)[sure].sum()),
        "right within 2": int((off.abs() <= 2).all(1)[sure].sum()),
        "sure": int(sure.sum()),
        "partly": int(partly.sum()),
        "partly closer": int((after < before)[partly].sum()),
        "worse": _share(after > before),
        "bins": [
            [int(k.sum()), int(right[k].sum()), round(float(place.confidence[k].sum()), 2)]
            for k in counted
        ],
    }


def _of_right_ones(pairs: Pairs, aligner: ShiftAligner) -> dict[str, float]:
    """What becomes of labels that are in place already."""
    valid = torch.ones_like(pairs.right, dtype=torch.bool)
    far = aligner.find(pairs.logits, pairs.right, valid).displacement.abs().amax(1)
    return {"moved": _share(far > 0), "moved by more than 1": _share(far > 1)}


def _of_peers(pairs: Pairs) -> dict[str, dict[str, float]]:
    if "skimage" not in installed():
        return {}
    ways, found = peers(16), {}
    seen = pairs.logits.softmax(1)[:BY_PEERS, 1].numpy()
    label = pairs.label[:BY_PEERS].float().numpy()
    wanted = pairs.displacement[:BY_PEERS].numpy()
    for name in PEERS:
        each = [ways[name](p, y, np.ones(y.shape, bool)) for p, y in zip(seen, label, strict=True)]
        off = torch.from_numpy(np.abs(np.stack(each) - wanted).max(1))
        found[name] = {"within 1": _share(off <= 1), "within 2": _share(off <= 2)}
    return found


def _share(which: Tensor) -> float:
    return round(which.double().mean().item(), 4)


# ---------------------------------------------------------------------------- telling

Rows = list[tuple[Cell, dict[str, Any]]]


def row(*entries: str) -> str:
    return "| " + " | ".join(entries) + " |"


def percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f}%"


def right_of(found: list[dict[str, Any]]) -> str:
    """The share that is right of what was let through, and of how many."""
    sure = sum(f["sure"] for f in found)
    return f"{percent(sum(f['right'] for f in found) / sure, 1)} of {sure}" if sure else "–"


def cell_table(rows: Rows) -> list[str]:
    """The default score, one line per cell."""
    head = ("scene", "fault", "label", "probabilities", "Dice", "raw: within 1 / 2")
    gate = ("let through", "of these within 1 / 2", "moved partly: closer", "worse than nothing")
    lines = [row(*head, *gate, "right labels moved: at all / by more than 1"), "|---" * 11 + "|"]
    for cell, found in rows:
        of, still = found["scores"][DEFAULT], found["unshifted"]
        two = percent(of["right within 2"] / of["sure"], 1) if of["sure"] else ""
        within = f"{right_of([of])} / {two}" if two else "–"
        partly = f"{of['partly']}: {of['partly closer']}" if of["partly"] else "–"
        lines.append(
            row(
                *(cell.case.scene, cell.case.fault, cell.case.label, cell.logits),
                f"{found['dice']:.2f}",
                f"{percent(of['within 1'])} / {percent(of['within 2'])}",
                *(percent(of["through"]), within, partly, percent(of["worse"], 1)),
                f"{percent(still['moved'], 1)} / {percent(still['moved by more than 1'], 1)}",
            )
        )
    return lines


def entry(found: list[dict[str, Any]], score: str = DEFAULT) -> str:
    """Raw; let through, of these right, worse than nothing: over some cells."""
    of = [f["scores"][score] for f in found]
    means = {n: sum(f[n] for f in of) / len(of) for n in ("within 1", "through", "worse")}
    sure, right = sum(f["sure"] for f in of), sum(f["right"] for f in of)
    said = percent(right / sure, 1) if sure else "–"
    gate = f"{percent(means['through'])}, {said}, {percent(means['worse'], 1)}"
    return f"{percent(means['within 1'])}; {gate}"


def dice_table(groups: dict[str, Rows]) -> list[str]:
    """The default score by Dice, one line per group of cells."""
    wanted = [d for d in DICE if any(c.dice == d for rows in groups.values() for c, _ in rows)]
    seen = {d: [f["dice"] for g in groups.values() for c, f in g if c.dice == d] for d in wanted}
    heads = [f"Dice {d:g} ({min(seen[d]):.2f} to {max(seen[d]):.2f})" for d in wanted]
    lines = [row("", *heads), "|---" * (1 + len(wanted)) + "|"]
    for name, rows in groups.items():
        of = [[found for cell, found in rows if cell.dice == d] for d in wanted]
        lines.append(row(name, *(entry(f) if f else "" for f in of)))
    return lines


def score_table(rows: Rows) -> list[str]:
    """Every score by Dice; all scenes and both kinds of probabilities together."""
    lines = [row("score", *(f"Dice {d:g}" for d in DICE)), "|---" * (1 + len(DICE)) + "|"]
    groups = [[found for cell, found in rows if cell.dice == d] for d in DICE]
    if not all(groups):
        return ["not all of the grid is measured yet"]
    lines += [row(score, *(entry(group, score) for group in groups)) for score in SCORES]
    for name in PEERS:
        of_peer = [[f["peers"][name] for f in group if f.get("peers")] for group in groups]
        means = [sum(f["within 1"] for f in of) / len(of) if of else None for of in of_peer]
        if any(m is not None for m in means):
            lines.append(row(name, *("–" if m is None else percent(m) for m in means)))
    return lines


def reliability(parts: dict[str, Rows]) -> list[str]:
    """Stated confidence, its mean within a bin where that is not empty, and the share right."""
    bins = [f"{a:g} to {b:g}" for a, b in pairwise(BOUNDS)]
    lines = [row("confidence", *bins), "|---" * (1 + len(bins)) + "|"]
    for name, rows in parts.items():
        entries = []
        for k in range(len(bins)):
            counts = [found["scores"][DEFAULT]["bins"][k] for _, found in rows]
            number, right, stated = (sum(c[i] for c in counts) for i in range(3))
            said = f"{stated / number:.2f}: {right / number:.2f} of {number}" if number else "–"
            entries.append(said)
        lines.append(row(name, *entries))
    return lines


def goals(rows: Rows) -> list[str]:
    """What was wanted, and whether it is so in every cell."""
    lines = []
    for dice, wanted, what in ((0.9, 0.97, "within 1"), (0.9, 1.0, "within 2")):
        for logits in LOGITS:
            of = {
                cell.case.scene: found["scores"][DEFAULT][what]
                for cell, found in rows
                if cell.part == "grid" and cell.dice == dice and cell.logits == logits
            }
            said = ", ".join(f"{scene} {percent(s, 1)}" for scene, s in of.items())
            word = "yes" if of and min(of.values()) >= wanted else "no"
            lines.append(f"raw {what} ≥ {percent(wanted)} at Dice 0.9, {logits}: {word} ({said})")
    for part in dict.fromkeys(cell.part for cell, _ in rows):
        of_part = [(cell, found["scores"][DEFAULT]) for cell, found in rows if cell.part == part]
        wrong = [c.name for c, f in of_part if f["sure"] and f["right"] < 0.95 * f["sure"]]
        worse = [c.name for c, f in of_part if f["worse"] > 0.01]
        number = len(of_part)
        for goal, missed in (
            ("right ≥ 95 % of what is let through", wrong),
            ("worse ≤ 1 %", worse),
        ):
            word = "yes" if not missed else f"no: not in {len(missed)} of {number} cases"
            lines.append(f"{part}: {goal} in every case: {word}")
            lines += [f"  {name}" for name in missed]
    return lines


def groups_of(rows: Rows) -> dict[str, Rows]:
    """Cells that are shown as one line, by its name."""
    found: dict[str, Rows] = {}
    for cell, seen in rows:
        case = cell.case
        names = {"faults": case.fault, "labels": case.label}
        name = names.get(cell.part, f"{case.scene}, {cell.logits}")
        if cell.part == "others" and case.fault != "mixed":
            name = f"{case.scene}, {case.fault}"
        found.setdefault(name, []).append((cell, seen))
    return found


def tables(results: dict[str, Any], *, every: bool = False) -> str:
    """What was measured, as Markdown: short, or of every cell."""
    rows = [(cell, results[cell.name]) for cell in cells() if cell.name in results]
    if every:
        return "\n".join(cell_table(rows))
    parts = {p: [r for r in rows if r[0].part == p] for p in ("grid", "faults", "labels", "others")}
    head = "right within 1 raw; let through by the gate, of these right, worse than nothing"
    return "\n\n".join(
        [
            head,
            *("\n".join(dice_table(groups_of(part))) for part in parts.values() if part),
            "\n".join(score_table(parts["grid"])),
            "mean confidence: share right",
            "\n".join(reliability(groups_of(rows))),
            "\n".join(goals(rows)),
        ]
    )


def main() -> None:
    """Measure what is missing, keep, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--every", action="store_true", help="print a line for every case")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if "skimage" not in installed():
        print("scikit-image is not installed and left out; pip install scikit-image")
    results = json.loads(given.results.read_text()) if given.results.exists() else {}
    for cell in cells():
        if cell.name in results or given.only not in cell.name:
            continue
        start = time.process_time()
        results[cell.name] = measure(cell)
        given.results.parent.mkdir(exist_ok=True)
        given.results.write_text(json.dumps(results, indent=1) + "\n")
        print(cell.name, f"{time.process_time() - start:.1f} s", flush=True)
    print(tables(results, every=given.every))


if __name__ == "__main__":
    main()
