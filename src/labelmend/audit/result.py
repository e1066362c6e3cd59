"""What an audit found: every label in order, and what annotators and groups come to."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from labelmend.audit.ranking import Order
from labelmend.errors import SettingsError
from labelmend.runs import Run, write_atomically
from labelmend.telling import Telling

TABLE, RECORD = "audit.csv", "audit.json"
FOLDER = "audit"
SHOWN = 10
"""So many labels are named for a person who set no budget."""
FIRST = 0.1
"""The share of the order that counts as its beginning in summaries."""

Quality = Literal["weak", "strong", "all"]


@dataclass(frozen=True, slots=True)
class Ranked:
    """One label in the order.

    Attributes:
        label: its path in the data set, as the manifest has it.
        image: that of its image.
        annotator: who made it, if that is known; likewise ``group``.
        group: what it must not be divided from.
        split: train, val or test.
        quality: strong or weak.
        score: larger is to be looked at first; above 0, at most 1.
        wrong: how likely it is wrong, by what is known; likewise.
        weight: the latest, of a weak training label; None of others.
        displacement: where it belongs, in positions of the file; all 0 where it is in place, None
            where that is not known.
        confidence: how probable it is that this place is right; None likewise.
        disagreement: 1 - Dice of prediction and label, or in regression the error as a share of
            itself and the usual spread of labels; None where there is nothing to compare.
        reason: why it stands here, in words.
        like: the label before it that it is nearly identical to; empty for most.
    """

    label: str
    image: str
    annotator: str
    group: str
    split: str
    quality: str
    score: float
    wrong: float
    weight: float | None
    displacement: tuple[float, ...] | None
    confidence: float | None
    disagreement: float | None
    reason: str
    like: str = ""

    @property
    def moves(self) -> bool:
        """Whether it is known to belong elsewhere."""
        return self.displacement is not None and any(self.displacement)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        row = {field.name: getattr(self, field.name) for field in fields(self)}
        return row | {"displacement": None if self.displacement is None else [*self.displacement]}


@dataclass(frozen=True, slots=True)
class Part:
    """The labels of one annotator or group.

    Attributes:
        name: who, or which.
        labels: how many.
        weight: the mean of their weights; None where none has one.
        disagreement: likewise.
        first: the share of them that stands in the first tenth of the order.
    """

    name: str
    labels: int
    weight: float | None
    disagreement: float | None
    first: float


@dataclass(frozen=True, slots=True)
class Audit(Telling):
    """Every label of a run in the order in which to look at them.

    Attributes:
        run: the run folder.
        step: the training step of the network that looked.
        model: which of a run's networks it was.
        labels: all of them; the first is to be looked at first.
        annotators: what the labels of each come to, the most doubtful first.
        groups: likewise.
        data: a digest of which labels these are.
        notes: sentences on what could not be found out.
        budget: how many labels somebody wants to look at; None where nobody said.
        order: by what the network gains from a look, or by how likely a label is wrong.
        quality: whose labels somebody wants to look at; the others are not named.
    """

    run: str
    step: int
    model: str
    labels: tuple[Ranked, ...]
    annotators: tuple[Part, ...] = ()
    groups: tuple[Part, ...] = ()
    data: str = ""
    notes: tuple[str, ...] = ()
    budget: int | None = None
    order: Order = "gain"
    quality: Quality = "all"

    def __repr__(self) -> str:
        other = "" if self.model == "main" else f", model={self.model!r}"
        return f"Audit({self.run!r}, step={self.step}, labels={len(self.labels)}{other})"

    def within(self, budget: int | None) -> Audit:
        """The same with a budget.

        Raises:
            SettingsError: for one below 1.
        """
        check_budget(budget)
        return replace(self, budget=budget)

    def only(self, quality: Quality) -> Audit:
        """The same, of which labels of one quality alone are named; the others stay in the sums."""
        return replace(self, quality=quality)

    @property
    def named(self) -> tuple[Ranked, ...]:
        """The labels of the quality that was asked for."""
        return tuple(one for one in self.labels if self.quality in ("all", one.quality))

    @property
    def best(self) -> tuple[Ranked, ...]:
        """The labels named that a budget is enough for; all named without one."""
        return self.named[: self.budget]

    def share(self, many: int) -> float:
        """What part of the sum of all scores the first so many labels named hold; 1 of none."""
        total = math.fsum(one.score for one in self.labels)
        return math.fsum(one.score for one in self.named[:many]) / total if total else 1.0

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is not known is null. With a budget, only the labels within it."""
        return {
            "step": self.step,
            "model": self.model,
            "order": self.order,
            "total": len(self.named),
            "quality": self.quality,
            "budget": self.budget,
            "share": round(self.share(len(self.best)), 6),
            "labels": [one.to_json() for one in self.best],
            "annotators": [asdict(part) for part in self.annotators],
            "groups": [asdict(part) for part in self.groups],
            "notes": list(self.notes),
        }

    def to_csv(self) -> str:
        """A line per label in order; ``best`` says which ones a budget is enough for."""
        dims = max((len(one.displacement or ()) for one in self.labels), default=0)
        axes = [f"displacement_{axis}" for axis in range(dims)]
        names = [field.name for field in fields(Ranked) if field.name != "displacement"]
        chosen = [] if self.budget is None else ["best"]
        within = {one.label for one in self.best}
        text = io.StringIO()
        writer = csv.DictWriter(text, ["place", *chosen, *names, *axes], lineterminator="\n")
        writer.writeheader()
        for place, one in enumerate(self.labels, 1):
            there = dict(zip(axes, one.displacement or (), strict=False))
            row = {name: _cell(getattr(one, name)) for name in names}
            best = dict.fromkeys(chosen, "yes" if one.label in within else "no")
            writer.writerow({"place": place, **best, **row, **there})
        return text.getvalue()

    def to_text(self) -> str:
        """A few lines for a person: what to look at first and why, and who made doubtful labels."""
        weak = sum(one.quality == "weak" for one in self.labels)
        total = len(self.labels)
        title = f"{_count(total, 'label')}: {weak} weak, {total - weak} strong; step {self.step:,}"
        title += "" if self.model == "main" else f", model {self.model}"
        shown = self.best if self.budget is not None else self.named[:SHOWN]
        lines = [title, self.said(len(shown)), "", "   # score  weight  label: reason"]
        for place, one in enumerate(shown, 1):
            weight = "     –" if one.weight is None else f"{one.weight:6.2f}"
            lines.append(
                f"{place:4d} {one.score:5.3f}  {weight}  {_plain(one.label)}: {one.reason}"
            )
        parts = [_table("annotator", self.annotators), _table("group", self.groups)]
        lines += [line for part in parts if part for line in ("", *part)]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def said(self, many: int) -> str:
        """What the first so many labels hold, as a sentence."""
        if not self.named:
            return "there is no label of that quality"
        share = f"{100 * self.share(many):.0f} % {SUMS[self.order]}"
        noun = "label" if self.quality == "all" else f"{self.quality} label"
        return f"the best {_count(many, noun)} to look at hold {share}"

    def write(self) -> Path:
        """Write ``audit.json`` and ``audit.csv`` into the run's folder ``audit``; that folder.

        Raises:
            StorageError: when the disk refuses; what was there before is whole.
        """
        folder = Run.open(Path(self.run)).folder(folder_of(self.model))
        write_atomically(folder / TABLE, self.to_csv().encode("utf-8", "surrogateescape"))
        record = {**self.record(), "sum": digest(self.record())}
        text = json.dumps(record, indent=1, allow_nan=False)
        write_atomically(folder / RECORD, text.encode())
        return folder

    def record(self) -> dict[str, Any]:
        """All of it as plain values, to be kept; where the run lies is not part of it."""
        whole = replace(self, budget=None, quality="all").to_json()
        asked = {"quality": self.quality, "budget": self.budget}
        return {"format": FORMAT, **whole, **asked, "data": self.data}


FORMAT = "labelmend audit 2"
SUMS: dict[Order, str] = {
    "gain": "of the expected gain",
    "wrong": "of what is thought wrong",
}
"""What scores add up to."""


def check_budget(budget: int | None) -> None:
    """Refuse a budget that buys nothing.

    >>> check_budget(0)
    Traceback (most recent call last):
    labelmend.errors.SettingsError: a budget is 1 or more labels to look at, not 0
    """
    if budget is not None and budget < 1:
        raise SettingsError(f"a budget is 1 or more labels to look at, not {budget}")


def folder_of(model: str) -> str:
    """The name of the folder in a run for what a model found."""
    return FOLDER if model == "main" else f"{FOLDER}-{model}"


def digest(record: dict[str, Any]) -> str:
    """By which a damaged record is known."""
    return hashlib.sha256(json.dumps(record, sort_keys=True, allow_nan=False).encode()).hexdigest()


def sum_up(labels: Sequence[Ranked], by: Literal["annotator", "group"]) -> tuple[Part, ...]:
    """What the labels of each annotator or group come to, the most doubtful first.

    Labels of nobody, or of no group, are left out.
    """
    tenth = math.ceil(FIRST * len(labels))
    of: dict[str, list[tuple[int, Ranked]]] = defaultdict(list)
    for place, one in enumerate(labels):
        if getattr(one, by):
            of[getattr(one, by)].append((place, one))
    parts = [
        Part(
            name,
            len(rows),
            _mean([one.weight for _, one in rows]),
            _mean([one.disagreement for _, one in rows]),
            sum(place < tenth for place, _ in rows) / len(rows),
        )
        for name, rows in of.items()
    ]
    return tuple(sorted(parts, key=lambda p: (-p.first, -(p.disagreement or 0.0), p.name)))


def telling(parts: Sequence[Part]) -> bool:
    """Whether parts are worth a table: there are several, of several labels each on average."""
    return len(parts) > 1 and sum(part.labels for part in parts) >= 3 * len(parts)


def _table(title: str, parts: Sequence[Part]) -> list[str]:
    if not telling(parts):
        return []
    lines = [[title, "labels", "mean weight", "mean disagreement", "in the first tenth"]]
    for part in parts[:SHOWN]:
        figures = ("–" if v is None else f"{v:.2f}" for v in (part.weight, part.disagreement))
        lines.append([_plain(part.name), str(part.labels), *figures, f"{100 * part.first:.0f} %"])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    shown = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
    more = len(parts) - SHOWN
    return [line.rstrip() for line in shown] + [f"… and {more} more"] * (more > 0)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _cell(value: object) -> object:
    return "" if value is None else value


def _plain(name: str) -> str:
    """A name that may hold anything, on one line."""
    return " ".join(name.split())


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"
