"""The whole job on data made here: doubtful labels, three ways to train, one honest table."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from labelmend.errors import RunError
from labelmend.inference.evaluate import evaluate
from labelmend.inference.predictor import load
from labelmend.labels.shapes import ellipse
from labelmend.progress import Terminal
from labelmend.report import write_report
from labelmend.runs import Run
from labelmend.training.assembly import fit

SIZE = (96, 96)
STRONG, HELD_OUT, WEAK, TEST = 4, 3, 120, 40
GROSS_ERRORS = 0.25
STEPS = 300
METHODS = ("strong_only", "pooled", "weighted")

CLASSES = """\
[classes]
background = 0
lesion = 255
"""


@dataclass(frozen=True, slots=True)
class Case:
    """An image with its true label and what someone roughly drew, each ``(rows, columns)``."""

    image: np.ndarray
    truth: np.ndarray
    rough: np.ndarray


def run_demo(out: Path, *, seed: int = 0, steps: int | None = None) -> None:
    """Make data, train three ways, print one table and where the reports are.

    Raises:
        RunError: when ``out`` holds something.
    """
    console = Console()
    if out.exists() and any(out.iterdir()):
        raise RunError(f"{out} is not empty; give another --out")
    quality = make_data(out / "data", seed)
    bad = sum(q < 0.3 for q in quality.values())
    console.print(
        f"{out}/data: {STRONG + HELD_OUT} exact labels, {len(quality)} rough ones of which {bad} "
        f"are gross errors, {TEST} kept for testing\n"
    )
    rows = []
    for method in METHODS:
        run = _train(out, method, seed, steps or STEPS)
        dice = evaluate(load(run), "test", tolerance=0).mean["dice"]
        write_report(run.path)
        rows.append((method, dice, _rank_correlation(run, quality)))
    console.print(_table(rows))
    console.print(
        "Dice is against true labels of images nobody trained on, last checkpoint, one seed: "
        "differences under 0.02 mean little.\n"
        f"report: {out / 'weighted' / 'report.html'}"
    )


def _train(out: Path, method: str, seed: int, steps: int) -> Run:
    return fit(
        out / "data",
        out / method,
        preset=method,
        watcher=Terminal(f"{method:<11}"),
        seed=seed,
        steps=steps,
        validate_every=max(steps // 4, 1),
        network={"width": 8, "depth": 3},
    )


def _rank_correlation(run: Run, quality: dict[str, float]) -> float | None:
    weights = {row["id"]: row["weight"] for row in run.weights() if row["quality"] == "weak"}
    pairs = [(weights[name], value) for name, value in quality.items() if name in weights]
    drawn = [weight for weight, _ in pairs]
    if not pairs or min(drawn) == max(drawn):
        return None
    return float(spearmanr(drawn, [value for _, value in pairs]).statistic)


def _table(rows: list[tuple[str, float, float | None]]) -> Table:
    table = Table()
    table.add_column("trained on")
    table.add_column("Dice against truth", justify="right")
    table.add_column("weights follow label quality\n(rank correlation)", justify="right")
    for method, dice, correlation in rows:
        shown = "–" if correlation is None else f"{correlation:.2f}"
        table.add_row(method, f"{dice:.3f}", shown)
    return table


# ---------------------------------------------------------------------- the data


def make_data(folder: Path, seed: int) -> dict[str, float]:
    """Write a data set of lesion-like images; return every rough label's overlap with the truth.

    The truth behind the rough labels is kept in ``truth/``, which training never reads.
    """
    counts = {"strong": STRONG, "val": HELD_OUT, "weak": WEAK, "test": TEST}
    quality: dict[str, float] = {}
    rows: list[dict[str, str]] = []
    for kind, count in counts.items():
        for number in range(count):
            name = f"{kind}{number:03}.png"
            # A stream of its own per image: changing one count leaves the other images alone.
            case = make_case(np.random.default_rng([seed, list(counts).index(kind), number]))
            rows.append(_write_case(folder, kind, name, case))
            if kind == "weak":
                quality[rows[-1]["label"]] = _overlap(case.rough, case.truth)
    (folder / "data.toml").write_text(CLASSES, encoding="utf-8")
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return quality


def _write_case(folder: Path, kind: str, name: str, case: Case) -> dict[str, str]:
    weak = kind == "weak"
    place = f"labels/{'weak' if weak else 'strong'}/{name}"
    _write(folder / "images" / name, case.image)
    _write(folder / place, (case.rough if weak else case.truth) * np.uint8(255))
    if weak:
        _write(folder / "truth" / name, case.truth * np.uint8(255))
    return {
        "image": f"images/{name}",
        "label": place,
        "quality": "weak" if weak else "strong",
        "split": kind if kind in ("val", "test") else "train",
        "group": Path(name).stem,
    }


def _write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(path)


def make_case(rng: np.random.Generator) -> Case:
    """One image: a lobed lesion known by its grain, in tissue, among smooth look-alikes."""
    centre = rng.uniform(30, 66, 2)
    radius = rng.uniform(10, 18)
    truth = _blob(centre, radius, rng, lobes=0.28)
    texture = gaussian_filter(rng.normal(size=SIZE), 3.0) * rng.uniform(2.0, 4.0)
    grain = gaussian_filter(rng.normal(size=SIZE), 0.8)
    slope = np.linspace(-1, 1, SIZE[0])[:, None] * rng.uniform(-0.6, 0.6)
    inside = gaussian_filter(truth.astype(float), 1.5)
    shade = rng.uniform(-0.2, 0.7)
    image = 0.6 * texture + slope + inside * (shade + 1.1 * grain) + 0.5 * grain
    for _ in range(4):
        look_alike = _blob(rng.uniform(0, 96, 2), rng.uniform(4, 12), rng, lobes=0.15) & ~truth
        image += rng.uniform(-0.2, 0.7) * gaussian_filter(look_alike.astype(float), 1.5)
    return Case(np.clip(110 + 40 * image, 0, 255), truth, _rough(centre, radius, rng))


def _blob(centre: np.ndarray, radius: float, rng: np.random.Generator, lobes: float) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    down, right = rows - centre[0], columns - centre[1]
    angle = np.arctan2(down, right)
    reach = np.ones(SIZE)
    for k in (2, 3, 4):
        reach += lobes / k * 2 * rng.uniform(-1, 1) * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    blob: np.ndarray = np.hypot(down, right) <= radius * reach
    return blob


def _rough(centre: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """An ellipse around the lesion, as drawn in a hurry; or a gross error."""
    angle = rng.uniform(0, np.pi)
    radii = radius * rng.uniform(0.8, 1.3, 2)
    if rng.uniform() >= GROSS_ERRORS:
        at = centre + rng.normal(0, 1.5, 2)
        return ellipse(SIZE, (at[0], at[1]), (radii[0], radii[1]), angle)
    kind = rng.integers(3)
    if kind == 0:
        return np.zeros(SIZE, bool)
    if kind == 1:
        return ellipse(SIZE, (48, 48), (44, 46), angle)
    far = (centre + 48) % 96
    return ellipse(SIZE, (far[0], far[1]), (radii[0], radii[1]), angle)


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))
