"""The tables and the plot of the quality suite, from its results and nothing else."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quality_data import Scene
from quality_methods import Method

Runs = Sequence[Mapping[str, Any]]
BELOW, CEILING = "strong only", "all strong"
SUMMARY = (
    "strong only", "pooled", "pooled, then strong", "equal", "weights", "in place", "ours",
    "all strong",
)  # fmt: skip
OURS = "ours"
TIMES = ("processor_seconds", "seconds")
"""What a training took: of the processor, whatever else it did, or by the clock of an idle one."""
SECOND = {"surface_distance": "{:.3g}", "event_f1": "{:.2f}", "onset_error": "{:.3g} s"}
LEAST = -0.2
"""Where the plot ends."""


ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "quality.md"
PICTURE = ROOT / "docs" / "pictures" / "quality.png"
README = ROOT / "README.md"


def write(runs: Runs, scenes: Mapping[str, Scene], methods: Mapping[str, Method]) -> None:
    """Renew what the documents say between their marks, and the plot."""
    replace(README, f"{summary(runs, scenes)}\n\n{trainings(runs)}")
    replace(PAGE, tables(runs, scenes, methods))
    draw(runs, scenes, PICTURE)


def replace(file: Path, text: str) -> None:
    """Put a text between the two marks of a document."""
    first, last = (f"<!-- quality: {end} -->" for end in ("begin", "end"))
    before, _, rest = file.read_text(encoding="utf-8").partition(first)
    _, found, after = rest.partition(last)
    if not found:
        raise ValueError(f"{file} has no place for tables: {first} and {last} are wanted")
    file.write_text(f"{before}{first}\n{text}\n{last}{after}", encoding="utf-8")


def trainings(runs: Runs) -> str:
    """How many trainings the runs are; some stand for more than one method or scene."""
    many = sum("same_training_as" not in run for run in runs)
    return f"From {many} trainings (`benchmarks/results/quality.jsonl`)."


def tables(runs: Runs, scenes: Mapping[str, Scene], methods: Mapping[str, Method]) -> str:
    """A table for every scene, as Markdown."""
    parts = []
    for name, scene in scenes.items():
        lines = _scene(runs, name, methods)
        if lines:
            parts.append(f"### {name}\n\n{scene.words}.\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def summary(runs: Runs, scenes: Mapping[str, Scene]) -> str:
    """Mean Dice by scene and method, and what ours is beside strong labels alone.

    A row is over the seeds that all its methods have, so that what stands side by side is of the
    same splits; it says how many these are.
    """
    head = ["data, what is wrong with its weak labels", "seeds", *SUMMARY]
    head += ["ours beside strong only", "of the gap"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in scenes:
        values = shared(runs, name, SUMMARY)
        if BELOW not in values:
            continue
        cells = [
            f"{statistics.fmean(values[m].values()):.3f}" if m in values else "–" for m in SUMMARY
        ]
        beside, gap = "–", "–"
        if OURS in values and CEILING in values:
            beside = _beside(values[OURS], values[BELOW])
            gap = _share(values[OURS], values[BELOW], values[CEILING])
        row = [name, str(len(values[BELOW])), *cells, beside, gap]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def shared(runs: Runs, scene: str, methods: Sequence[str]) -> dict[str, dict[int, float]]:
    """Dice by method and seed, of the seeds that all methods have which were run at all."""
    values = {method: dice_of(runs, scene, method) for method in methods}
    values = {method: found for method, found in values.items() if found}
    seeds = set.intersection(*(set(found) for found in values.values())) if values else set()
    if not seeds:
        return {}
    return {m: {seed: found[seed] for seed in sorted(seeds)} for m, found in values.items()}


def _scene(runs: Runs, name: str, methods: Mapping[str, Method]) -> list[str]:
    head = ["method", "Dice", "beside strong only", "of the gap",
            "surface distance, or F1 of events and error of their onsets",
            "weights find bad labels (AUROC, rank)", "time"]  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    below, ceiling = dice_of(runs, name, BELOW), dice_of(runs, name, CEILING)
    for called, method in methods.items():
        found = of(runs, name, called)
        if not found:
            continue
        values = dice_of(runs, name, called)
        words = f"{called}: {method.words}" + f" ({method.peer})" * bool(method.peer)
        lines.append(
            f"| {words} | {_spread(list(values.values()))} | "
            f"{_beside(values, below) if called != BELOW else ''} | "
            f"{_share(values, below, ceiling) if called not in (BELOW, CEILING) else ''} | "
            f"{_second(found)} | {_judged(found)} | {_cost(runs, name, found)} |"
        )
    return lines if len(lines) > 2 else []


def of(runs: Runs, scene: str, method: str) -> list[Mapping[str, Any]]:
    """All runs of one cell."""
    return [run for run in runs if run["scene"] == scene and run["method"] == method]


def dice_of(runs: Runs, scene: str, method: str) -> dict[int, float]:
    """Dice by seed."""
    return {run["seed"]: run["dice"] for run in of(runs, scene, method)}


def _spread(values: list[float]) -> str:
    few = f" ({len(values)} of 3 seeds)" if len(values) < 3 else ""
    return f"{statistics.fmean(values):.3f} ({min(values):.3f} to {max(values):.3f}){few}"


def _beside(values: Mapping[int, float], below: Mapping[int, float]) -> str:
    """Differences by seed: their mean, least and largest."""
    apart = [values[seed] - below[seed] for seed in values if seed in below]
    if not apart:
        return "–"
    return f"{statistics.fmean(apart):+.3f} ({min(apart):+.3f} to {max(apart):+.3f})"


def _share(
    values: Mapping[int, float], below: Mapping[int, float], ceiling: Mapping[int, float]
) -> str:
    """Of what all-strong is better than strong-only; of means over seeds that all three have."""
    seeds = values.keys() & below.keys() & ceiling.keys()
    if not seeds:
        return "–"
    a, b, c = (statistics.fmean(v[s] for s in seeds) for v in (values, below, ceiling))
    if c - b <= 0.002:
        return "no gap"
    share = (a - b) / (c - b)
    return f"{share:.0%}" if share > -1.005 else "below −100%"


def _second(found: Runs) -> str:
    """What there is beside Dice: of borders in positions, or of events and their onsets."""
    cells = []
    for key, form in SECOND.items():
        values = [run[key] for run in found if key in run]
        cells += [form.format(statistics.fmean(values))] if values else []
    return ", ".join(cells)


def _judged(found: Runs) -> str:
    cells = []
    for key in ("auroc", "rank_correlation"):
        values = [run[key] for run in found if key in run]
        cells += [f"{statistics.fmean(values):.2f}"] if values else []
    moved = [run["displaced_after"] for run in found if "displaced_after" in run]
    if moved:
        before = statistics.fmean(run["displaced_before"] for run in found)
        cells.append(f"{before:.1f} → {statistics.fmean(moved):.1f} positions off")
    return ", ".join(cells)


def _cost(runs: Runs, name: str, found: Runs) -> str:
    """Times as long as equal weights, by seed; of runs that were timed in the same way."""
    for timed in TIMES:
        equal = {run["seed"]: run[timed] for run in of(runs, name, "equal") if timed in run}
        pairs = [(run[timed], equal[run["seed"]]) for run in found
                 if timed in run and run["seed"] in equal]  # fmt: skip
        if pairs:
            return f"{statistics.median(one / plain for one, plain in pairs):.1f}"
    return ""


# ---------------------------------------------------------------------- the plot


COLOURS = {
    "pooled": "#999999",
    "pooled, then strong": "#56b4e9",
    "equal": "#e69f00",
    "weights": "#009e73",
    "in place": "#d55e00",
    "ours": "#0072b2",
    "all strong": "#000000",
}


def draw(runs: Runs, scenes: Mapping[str, Scene], file: Path) -> None:
    """Dice beside strong labels alone, by seed and in the mean; right of 0 weak labels helped."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    wanted = (BELOW, *COLOURS)
    shown = {n: v for n in scenes if BELOW in (v := shared(runs, n, wanted)) and OURS in v}
    names = list(shown)[::-1]
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(names) + 1.4), layout="constrained")
    for row, name in enumerate(names):
        below, worse = shown[name][BELOW], 0
        for place, (called, colour) in enumerate(COLOURS.items()):
            values = shown[name].get(called, {})
            apart = [values[seed] - below[seed] for seed in values if seed in below]
            if not apart:
                continue
            height = row + 0.36 - 0.12 * place
            middle = statistics.fmean(apart)
            if middle < LEAST:  # what is far worse is told in figures, or nothing else is seen
                beside = (LEAST + 0.02 * worse, row)
                axes.annotate(f"◂{middle:.2f}", beside, color=colour, fontsize=7, va="center")
                worse += 1
                continue
            axes.plot([min(apart), max(apart)], [height] * 2, color=colour, linewidth=1.2)
            axes.plot(
                middle, height, "o", color=colour, markersize=5,
                label=called if called not in axes.get_legend_handles_labels()[1] else None,
            )  # fmt: skip
    axes.axvline(0, color="#444444", linewidth=0.8)
    axes.set_xlim(left=LEAST)
    axes.set_yticks(range(len(names)), [f"{n}\n({_seeds(len(shown[n][BELOW]))})" for n in names])
    axes.set_xlabel("Dice beside strong labels alone (line: least to most of the seeds)")
    axes.spines[["top", "right"]].set_visible(False)
    named = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    handles = [named[called] for called in COLOURS if called in named]
    axes.legend(
        handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False
    )
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _seeds(many: int) -> str:
    return f"{many} seed{'s' * (many != 1)}"
