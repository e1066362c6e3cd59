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
SUMMARY = ("strong only", "pooled", "pooled, then strong", "equal", "weights", "ours", "all strong")
OURS = "ours"


ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "quality.md"
PICTURE = ROOT / "docs" / "pictures" / "quality.png"
README = ROOT / "README.md"


def write(runs: Runs, scenes: Mapping[str, Scene], methods: Mapping[str, Method]) -> None:
    """Renew what the documents say between their marks, and the plot."""
    replace(README, summary(runs, scenes))
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


def tables(runs: Runs, scenes: Mapping[str, Scene], methods: Mapping[str, Method]) -> str:
    """A table for every scene, as Markdown."""
    parts = []
    for name, scene in scenes.items():
        lines = _scene(runs, name, methods)
        if lines:
            parts.append(f"### {name}\n\n{scene.words}.\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def summary(runs: Runs, scenes: Mapping[str, Scene]) -> str:
    """Mean Dice by scene and method, and what ours is beside strong labels alone."""
    head = [
        "data, what is wrong with its weak labels",
        *SUMMARY,
        "ours beside strong only",
        "of the gap",
    ]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in scenes:
        values = {method: dice_of(runs, name, method) for method in SUMMARY}
        if not values[BELOW]:
            continue
        cells = [
            f"{statistics.fmean(v.values()):.3f}" if (v := values[m]) else "–" for m in SUMMARY
        ]
        beside = _beside(values[OURS], values[BELOW])
        gap = _share(values[OURS], values[BELOW], values[CEILING])
        lines.append(f"| {name} | {' | '.join([*cells, beside, gap])} |")
    return "\n".join(lines)


def _scene(runs: Runs, name: str, methods: Mapping[str, Method]) -> list[str]:
    head = ["method", "Dice", "beside strong only", "of the gap", "surface distance or onset error",
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
    return f"{(a - b) / (c - b):.0%}" if c - b > 0.002 else "no gap"


def _second(found: Runs) -> str:
    for key, unit in (("onset_error", " s"), ("surface_distance", "")):
        values = [run[key] for run in found if key in run]
        if values:
            return f"{statistics.fmean(values):.3g}{unit}"
    return ""


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
    """Times as long as equal weights, by seed."""
    plain = {run["seed"]: run["seconds"] for run in of(runs, name, "equal")}
    ratios = [run["seconds"] / plain[run["seed"]] for run in found if run["seed"] in plain]
    return f"{statistics.median(ratios):.1f}" if ratios else ""


# ---------------------------------------------------------------------- the plot


COLOURS = {
    "pooled": "#999999",
    "pooled, then strong": "#56b4e9",
    "equal": "#e69f00",
    "weights": "#009e73",
    "ours": "#0072b2",
    "all strong": "#000000",
}


def draw(runs: Runs, scenes: Mapping[str, Scene], file: Path) -> None:
    """Dice beside strong labels alone, by seed and in the mean; right of 0 weak labels helped."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = [n for n in scenes if dice_of(runs, n, BELOW) and dice_of(runs, n, OURS)][::-1]
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(shown) + 1.4), layout="constrained")
    for row, name in enumerate(shown):
        below = dice_of(runs, name, BELOW)
        for place, (called, colour) in enumerate(COLOURS.items()):
            values = dice_of(runs, name, called)
            apart = [values[seed] - below[seed] for seed in values if seed in below]
            if not apart:
                continue
            height = row + 0.3 - 0.12 * place
            axes.plot([min(apart), max(apart)], [height] * 2, color=colour, linewidth=1.2)
            axes.plot(
                statistics.fmean(apart), height, "o", color=colour, markersize=5,
                label=called if row == len(shown) - 1 else None,
            )  # fmt: skip
    axes.axvline(0, color="#444444", linewidth=0.8)
    axes.set_yticks(range(len(shown)), shown)
    axes.set_xlabel("Dice beside strong labels alone (line: least to most of the seeds)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=5, frameon=False)
    figure.savefig(file, dpi=110)
    plt.close(figure)
