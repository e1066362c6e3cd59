"""An inspection of a data set as text for people and as plain values for programs."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from labelmend.catalogue.scan import Inspection
from labelmend.types import DataSet, DataSpec

_FEW = 8


def describe_inspection(seen: Inspection) -> str:
    """An inspection in lines: what is there, what to know, what is wrong."""
    lines = [] if seen.dataset is None else _what_is_there(seen.dataset)
    lines += [f"   note: {note}" for note in seen.notes]
    lines += [f"problem: {problem}" for problem in seen.problems]
    count = len(seen.problems)
    lines.append(_count(count, "problem") if count else "no problems")
    return "\n".join(lines)


def inspection_values(seen: Inspection) -> dict[str, Any]:
    """An inspection as nested plain values, ready for JSON.

    ``samples`` counts by quality and split; ``ok`` says that there is no problem.
    """
    data = seen.dataset
    return {
        "ok": not seen.problems and data is not None,
        "problems": [{"file": p.file, "message": p.message} for p in seen.problems],
        "notes": list(seen.notes),
        "spec": None if data is None else asdict(data.spec),
        "samples": {} if data is None else _counts(data),
        "groups": 0 if data is None else len({s.group for s in data.samples}),
    }


def _counts(data: DataSet) -> dict[str, dict[str, int]]:
    counts = Counter((s.quality, s.split) for s in data.samples)
    return {
        quality: {split: counts[quality, split] for split in ("train", "val", "test")}
        for quality in ("strong", "weak")
    }


def _what_is_there(data: DataSet) -> list[str]:
    spec = data.spec
    images = len({s.image for s in data.samples})
    groups = len({s.group for s in data.samples})
    lines = [
        f"{data.root}: {_count(len(data.samples), 'label')} of {_count(images, 'image')} in "
        f"{_count(groups, 'group')}",
        f"   task: {spec.task}, {_count(spec.dims, 'space axis', 'space axes')}, "
        f"{_count(spec.channels, 'channel')}",
        f"classes: {_classes(spec)}",
    ]
    for quality, by_split in _counts(data).items():
        shown = ", ".join(f"{count} {split}" for split, count in by_split.items())
        lines.append(f"{quality:>7}: {shown}")
    people = Counter(s.annotator for s in data.samples if s.quality == "weak" and s.annotator)
    if people:
        nobody = sum(s.quality == "weak" for s in data.samples) - people.total()
        each = ", ".join(f"{who} {count}" for who, count in sorted(people.items()))
        lines[-1] += f"; by {each if len(people) <= _FEW else f'{len(people)} annotators'}"
        lines[-1] += f", {nobody} by nobody named" * (nobody > 0)
    return lines


def _classes(spec: DataSpec) -> str:
    pairs = zip(spec.classes, spec.values, strict=True) if spec.values else ()
    named = [f"{name} = {value}" for name, value in pairs] or list(spec.classes)
    return ", ".join(named) + ("" if spec.ignore is None else f"; {spec.ignore} is ignored")


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
