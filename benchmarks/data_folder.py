"""Lay out a data set: who is strong, weak or held out, the manifest, and the truth kept aside."""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn
from zlib import crc32

import numpy as np
import tomli_w

Part = Literal["test", "val", "strong", "weak"]
MANIFEST = ("image", "label", "quality", "split", "group", "annotator")


def options(text: str, *, strong: float, val: float, test: float = 0.3) -> argparse.ArgumentParser:
    """What every preparation asks: from where, to where, and how the groups are divided."""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("source", type=Path, help="folder with the data as published")
    parser.add_argument("out", type=Path, help="folder to make; must not hold anything yet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test", type=float, default=test, help="share of the groups for testing")
    parser.add_argument(
        "--strong", type=float, default=strong, help="share of the other groups labelled strongly"
    )
    parser.add_argument(
        "--val", type=float, default=val, help="share of the strong groups held out for validation"
    )
    parser.add_argument("--limit", type=int, default=None, help="use only so many groups")
    return parser


def generator(seed: int, name: str) -> np.random.Generator:
    """Random numbers of one sample: the same whatever else is prepared beside it."""
    return np.random.default_rng([seed, crc32(name.encode())])


def arrange(kinds: dict[str, str], seed: int) -> list[str]:
    """The groups in a seeded order of which every beginning has all kinds in proportion."""
    place: dict[str, float] = {}
    for kind in sorted(set(kinds.values())):
        members = sorted(group for group, its in kinds.items() if its == kind)
        shuffled = generator(seed, kind).permutation(len(members))
        place |= {members[j]: (i + 0.5) / len(members) for i, j in enumerate(shuffled)}
    return sorted(place, key=lambda group: (place[group], group))


def divide(kinds: dict[str, str], given: argparse.Namespace) -> dict[str, Part]:
    """Every group's part. Strong groups, those for validation among them, are at least two."""
    order = arrange(kinds, given.seed)[: given.limit]
    n_test = max(1, round(given.test * len(order)))
    pool = len(order) - n_test
    n_strong = max(2, round(given.strong * pool))
    n_val = min(max(1, round(given.val * n_strong)), n_strong - 1)
    if pool <= n_strong:
        fail(f"{len(order)} groups are too few for test, val, strong and weak; raise --limit")
    ends = np.cumsum([n_test, n_val, n_strong - n_val])
    names: tuple[Part, ...] = ("test", "val", "strong", "weak")
    return {g: names[int(np.searchsorted(ends, i, side="right"))] for i, g in enumerate(order)}


def fail(message: str) -> NoReturn:
    """One line on standard error and a non-zero exit status."""
    sys.exit(f"error: {message}")


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Overlap of two label arrays, the mean over the classes above 0 that either of them has.

    >>> dice(np.array([0, 1, 1, 255]), np.array([0, 0, 1, 255]))
    0.6666666666666666
    """
    known = (one != 255) & (other != 255) if max(one.max(), other.max()) > 1 else one >= 0
    one, other = one[known], other[known]
    found = []
    for value in np.union1d(one[one > 0], other[other > 0]):
        a, b = one == value, other == value
        found.append(2.0 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)))
    return float(np.mean(found)) if found else 1.0


@dataclass
class DataFolder:
    """A data set while it is being made; :meth:`finish` writes what describes it.

    ``truth/`` lies beside the samples and in no manifest: training cannot see it, a benchmark can.
    """

    root: Path
    rows: list[dict[str, str]] = field(default_factory=list)
    truths: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.root.exists() and any(self.root.iterdir()):
            fail(f"{self.root} already holds something; name a new folder")
        self.root.mkdir(parents=True, exist_ok=True)

    def place(self, name: str) -> Path:
        """Where a file of this name goes, its folder made."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def copy(self, source: Path, name: str) -> str:
        """A file taken over byte for byte, once."""
        if not self.place(name).exists():
            shutil.copyfile(source, self.place(name))
        return name

    def add(self, image: str, label: str, part: Part, group: str, annotator: str = "") -> None:
        """One sample of the manifest."""
        quality = "weak" if part == "weak" else "strong"
        split = part if part in ("test", "val") else "train"
        values = (image, label, quality, split, group, annotator)
        self.rows.append(dict(zip(MANIFEST, values, strict=True)))

    def note_truth(self, label: str, truth: str, quality: float, gross: bool | None = None) -> None:
        """How good a weak label really is: its overlap (Dice) with the truth."""
        named = "" if gross is None else int(gross)
        row = {"label": label, "truth": truth, "dice": f"{quality:.4f}", "gross": named}
        self.truths.append(row)

    def finish(self, spec: dict[str, Any]) -> None:
        """Write manifest.csv, data.toml and truth/index.csv, and say what was made."""
        _write_csv(self.place("manifest.csv"), list(MANIFEST), self.rows)
        self.place("data.toml").write_text(tomli_w.dumps(spec), encoding="utf-8")
        columns = ["label", "truth", "dice", "gross"]
        _write_csv(self.place("truth/index.csv"), columns, self.truths)
        counts = Counter((row["split"], row["quality"]) for row in self.rows)
        groups = {key: set() for key in counts}
        for row in self.rows:
            groups[row["split"], row["quality"]].add(row["group"])
        print(f"{self.root}: {len(self.rows)} samples")
        for split, quality in sorted(counts):
            key = split, quality
            print(f"  {split:5s} {quality:6s} {counts[key]:5d} of {len(groups[key])} groups")
        overlaps = [float(row["dice"]) for row in self.truths]
        gross = sum(row["gross"] == 1 for row in self.truths)
        said = f", {gross} of them gross errors" if gross else ""
        print(f"  weak labels: mean Dice {np.mean(overlaps):.3f} with the truth{said}")


def _write_csv(path: Path, columns: list[str], rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
