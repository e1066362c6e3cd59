"""What became of every weak label that was to be put in place: a table, and words for a person."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from labelmend.inference.offsets import place
from labelmend.inference.places import Place
from labelmend.telling import Telling
from labelmend.types import EMPTY, FLAT, IN_PLACE, REASONS, Sample

FIRST = 5
"""So many labels are named as those to look at first."""

DRIFT = 0.5
"""Positions; a network that would rather have strong labels so far off has drifted."""

_LATEST = 20
"""The drift is the mean over so many of the last records that tell of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Fixed:
    """One label and what became of it.

    Attributes:
        sample: the label, with its image.
        written: its path in the new folder.
        place: where it belongs, in positions of the file; without the field of what is bent.
        metric: ``dice``, or ``psnr`` in regression.
        before: that figure of the prediction against the label as it was; NaN where there is none.
        after: against the moved label, where that is known.
        unknown: positions that nobody knows any more, for they came from outside.
    """

    sample: Sample
    written: str
    place: Place
    metric: str
    before: float
    after: float
    unknown: int

    @property
    def concern(self) -> tuple[int, float]:
        """How much it needs to be looked at; the least first.

        First what fits worse than before, then what is unclear, the worst fit first, then what
        moved, the least sure first, then all else, the worst fit first.
        """
        fit = self.before if math.isfinite(self.before) else math.inf
        if self.place.moves:
            lost = self.before - self.after
            return (0, -lost) if lost > 0 else (2, self.place.confidence)
        said = self.place.reason in (EMPTY, FLAT, IN_PLACE)
        return (3, fit) if said else (1, fit)

    def cells(self, *, turned: bool, bent: bool) -> dict[str, object]:
        """A line of the table, with columns of what any turned or bent, as a spreadsheet reads."""
        found, moves = self.place, self.place.moves
        axes = {f"displacement_{n}": _number(v) for n, v in enumerate(found.displacement.tolist())}
        about = ("label", "image", "split", "group", "annotator")
        more: dict[str, object] = {}
        if turned:
            angle, scale = angle_and_scale(found.matrix)
            more = {"angle": _number(angle), "scale": _number(scale)}
        if bent:
            more["bent_by"] = _number(found.bent_by)
        return {
            **{name: getattr(self.sample, name) for name in about},
            "written": self.written,
            "moved": "yes" if moves else "no",
            **axes,
            **more,
            "confidence": round(found.confidence, 4),
            "gain": _number(found.gain),
            f"{self.metric}_before": _number(self.before, 4),
            f"{self.metric}_after": _number(self.after, 4),
            "unknown": self.unknown,
            "reason": REASONS[found.reason],
        }

    def said(self) -> str:
        """A line for a person."""
        figures = f"{self.metric} {_shown(self.before)}"
        if not self.place.moves:
            return f"{self.written}: {REASONS[self.place.reason]}, {figures}"
        by = place(np.round(self.place.displacement).astype(int).tolist())
        by += " and turned or stretched" * (self.place.matrix is not None)
        by += f" and bent by {self.place.bent_by:.1f}" * (self.place.bent_by > 0)
        sure = f"{math.floor(100 * self.place.confidence)} % sure"
        return f"{self.written}: moved by {by}, {sure}, {figures} → {_shown(self.after)}"


@dataclass(frozen=True, slots=True, eq=False)
class Fixing(Telling):
    """What :func:`labelmend.inference.fix.fix` wrote, and what is to be said of it.

    Attributes:
        out: the folder.
        rows: a line per weak label, in the order of the data set.
        filler: what is written where nobody knows what is there.
        records: what training recorded at its steps.
        window: how far was looked along every axis; 0 where that is not in positions of files.
    """

    out: Path
    rows: tuple[Fixed, ...]
    filler: str
    records: Sequence[Mapping[str, Any]] = ()
    window: int = 0

    def __repr__(self) -> str:
        return f"Fixing({str(self.out)!r}, labels={len(self.rows)}, moved={len(self.moved)})"

    @property
    def moved(self) -> tuple[Fixed, ...]:
        """The labels that moved."""
        return tuple(row for row in self.rows if row.place.moves)

    def first(self) -> list[Fixed]:
        """All labels, those to look at first before the others."""
        return sorted(self.rows, key=lambda row: row.concern)

    def to_csv(self) -> str:
        """A line per label, those to look at first at the top."""
        turned = any(row.place.matrix is not None for row in self.rows)
        bent = any(row.place.bent_by > 0 for row in self.rows)
        lines = [row.cells(turned=turned, bent=bent) for row in self.first()]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        return text.getvalue()

    def to_text(self) -> str:
        """A few lines for a person: how many moved, how far, and what to look at first."""
        moved, total = self.moved, len(self.rows)
        unclear = [row for row in self.rows if not row.place.moves and not row.place.clear]
        lines = [f"{len(moved)} of {_count(total, 'weak label')} moved{_how_far(moved)}"]
        lines.append(
            f"{total - len(moved) - len(unclear)} in place already, {len(unclear)} unclear: "
            "written as they were"
        )
        lines += self._notes()
        worst = [row for row in self.first() if row.concern[0] < 3][:FIRST]
        if worst:
            lines += ["look at these first:", *(f"  {row.said()}" for row in worst)]
        return "\n".join(lines)

    def _notes(self) -> list[str]:
        notes = []
        unknown = sum(row.unknown for row in self.rows)
        if unknown:
            of = len([row for row in self.rows if row.unknown])
            notes.append(
                f"{_count(unknown, 'position')} of {_count(of, 'label')} came from outside the "
                f"image; written there: {self.filler}"
            )
        held = at_the_edge((row.place.displacement.tolist() for row in self.moved), self.window)
        if held:
            notes.append(f"warning: {say_edge(held, self.window)}")
        named = [row for row in self.rows if row.written != row.sample.label]
        if named:
            suffix = "".join(PurePosixPath(named[0].written).suffixes)
            notes.append(
                f"{_count(len(named), 'label')} written as {suffix}, for the format they had "
                "cannot be written or cannot hold them: remove the old ones where these go"
            )
        far = drift(self.records)
        if far is not None and float(np.linalg.norm(far)) > DRIFT:
            by = ", ".join(f"{v:+.1f}" for v in far)
            notes.append(
                f"warning: the network would rather have strong labels moved by ({by}), so these "
                "may be off by that: train with more strong labels, or a smaller align.window"
            )
        return notes


def at_the_edge(displacements: Iterable[Sequence[float]], window: int) -> int:
    """How many displacements are as long, along any axis, as was looked for; none without a window.

    >>> at_the_edge([(3.0, -8.0), (7.9, 0.0), (7.0, 7.0)], 8)
    2
    """
    far = (max(map(abs, found), default=0.0) for found in displacements)
    return sum(each > window - 0.5 for each in far) if window else 0


def say_edge(held: int, window: int) -> str:
    """What a displacement at the edge of the window may mean, and the way out."""
    return (
        f"{_count(held, 'label')} moved by {window} positions, as far as was looked, and may "
        "belong farther off; a training with a larger align.window looks farther"
    )


def drift(records: Sequence[Mapping[str, Any]]) -> np.ndarray | None:
    """How far the network would like strong labels moved, as it was last recorded in training.

    >>> drift([{"step": 1}, {"step": 2, "drift_0": 1.0, "drift_1": -2.0}]).tolist()
    [1.0, -2.0]
    """
    known = [record for record in records if record.get("drift_0") is not None][-_LATEST:]
    if not known:
        return None
    names = sorted(name for name in known[-1] if name.startswith("drift_"))
    far: np.ndarray = np.array([[record[name] for name in names] for record in known]).mean(0)
    return far


def angle_and_scale(matrix: np.ndarray | None) -> tuple[float, float]:
    """By how many degrees a matrix turns, and by what it multiplies lengths on average.

    In 2-D an angle is above 0 from the first axis towards the second.

    >>> angle_and_scale(np.array([[0.0, -2.0, 0.0], [2.0, 0.0, 0.0]]))
    (90.0, 2.0)
    """
    if matrix is None:
        return 0.0, 1.0
    linear = matrix[:, :-1]
    left, size, right = np.linalg.svd(linear)
    turn = left @ right
    scale = float(np.prod(size) ** (1 / len(linear)))
    if len(linear) == 2:
        return float(np.degrees(np.arctan2(turn[1, 0], turn[0, 0]))), scale
    cosine = (np.trace(turn) - 1) / 2 if len(linear) == 3 else 1.0
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))), scale


def _how_far(moved: Sequence[Fixed]) -> str:
    if not moved:
        return ""
    far = [float(np.linalg.norm(row.place.displacement)) for row in moved]
    middle = f"{statistics.median(far):.3g}"
    many = f"{middle} position{'s' * (middle != '1')}"
    text = f", by {many} in the median and {max(far):.3g} at most"
    bent = [row.place.bent_by for row in moved if row.place.bent_by > 0]
    if bent:
        text += f"; {len(bent)} of them bent, by {statistics.median(bent):.3g} in the median"
    return text


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _number(value: float, digits: int = 3) -> float | str:
    return round(float(value), digits) + 0.0 if math.isfinite(value) else ""


def _shown(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "–"
