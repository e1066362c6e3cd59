"""Write what people decided about labels beside the data, where the next training finds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np

from labelmend.catalogue.repairs import (
    FOLDER,
    TABLE,
    Repair,
    original_of,
    read_repairs,
    repaired_name,
    write_repairs,
)
from labelmend.errors import ChangedDataError, DataError, RunError
from labelmend.files.formats import split_name
from labelmend.files.readers import (
    decode_label,
    hash_file,
    load_verified,
    read_as,
    read_label,
)
from labelmend.files.writers import write_label
from labelmend.inference.moved_labels import target_name, write_values
from labelmend.labels.events import IGNORE
from labelmend.review.desk import Desk, State
from labelmend.review.records import Stored, Summary
from labelmend.review.store import FILE, Store
from labelmend.runs import Run
from labelmend.types import DataSpec, Raster, Sample


class Reviewed(Protocol):
    """What is asked of the desk that people work at."""

    def summaries(self) -> dict[str, Summary]:
        """Every case that anything was done to."""
        ...

    def state(self, label: str) -> State:
        """A case now."""
        ...

    def events(self, label: str) -> list[Stored]:
        """All that was done to a case."""
        ...


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written beside the data.

    Attributes:
        table: the table of repairs.
        accepted: labels found right, as they are or after repair.
        written: repaired labels among them, each a new file.
        strong: labels that count as strong from now on and did not before.
        rejected: labels that are left out from now on.
        open_edits: labels that were changed and not accepted; they stay as they were.
        open_marks: labels whose mark, strong or weak, was changed and that were not accepted;
            likewise.
        replaced: labels of which another review had said something, which is replaced.
    """

    table: Path
    accepted: int
    written: int
    strong: int
    rejected: int
    open_edits: int
    open_marks: int
    replaced: int

    def to_json(self) -> dict[str, Any]:
        """Plain values, and the sentence."""
        names = ("accepted", "written", "strong", "rejected", "open_edits", "open_marks")
        numbers = {name: getattr(self, name) for name in (*names, "replaced")}
        return {"table": str(self.table), **numbers, "said": self.said()}

    def said(self) -> str:
        """A few words for a person."""
        text = (
            f"{_count(self.accepted, 'label')} accepted, {self.written} of them repaired, "
            f"{self.strong} now strong; {self.rejected} rejected and left out"
        )
        marked = "marked as strong or weak"
        for number, what in ((self.open_edits, "changed"), (self.open_marks, marked)):
            if number:
                text += f"; {number} {what} but not accepted: stay{'s' * (number == 1)} as before"
        if self.replaced:
            text += f"; {self.replaced} replaced what another review had said"
        return text


def export_repairs(run: Run, desk: Reviewed) -> Exported:
    """Write all labels that people repaired and accepted, and the table of what they decided.

    A repaired label is a new file ``labels/repaired/….EVENT.suffix`` in the data folder, named by
    the last event of its case; the original stays. ``repairs.csv`` gets a line for every label
    that was accepted or rejected; lines of labels that this review says nothing of stay. A line of
    another review that is replaced is kept in ``RUN/review/repairs.csv``, and comes back when the
    verdict is taken back. Again, it writes the same.

    Raises:
        ChangedDataError: when a label or image is not the one the run began with.
        DataError: when a label cannot be written in its format.
        StorageError: when the disk refuses; the table is then as it was.

    A trap: what was changed and neither accepted nor rejected does not count.
    """
    root, own = run.data_folder(), run.path / "review"
    repairs, earlier = read_repairs(root), read_repairs(own)
    samples = {sample.label: sample for sample in run.data.samples}
    told, displaced = dict(repairs), dict(earlier)
    written, open_edits, open_marks, replaced = 0, 0, 0, 0
    fresh: list[tuple[Repair, Sample]] = []
    for label, summary in desk.summaries().items():
        sample = _sample(run, samples, label)
        original = _original(label, repairs)
        before = repairs.get(original)
        ours = before is not None and _is_ours(before, label, desk)
        if summary.verdict == "open":
            open_edits += summary.edited
            open_marks += summary.quality not in (None, sample.quality)
            if ours:
                del told[original]
                told |= {original: earlier[original]} if original in earlier else {}
            continue
        if before is not None and not ours:
            displaced[original] = before
            replaced += before.repaired != label
        repair = _decided(run, sample, original, summary, desk)
        written += repair.repaired not in ("", label)
        told[original] = repair
        fresh.append((repair, sample))
    if displaced != earlier:  # first, so that nothing is replaced that could not be brought back
        write_repairs(run.folder("review"), displaced.values())
    write_repairs(root, told.values())
    return Exported(
        root / TABLE,
        sum(repair.verdict == "accepted" for repair, _ in fresh),
        written,
        sum(_is_news(repair, sample) for repair, sample in fresh),
        sum(repair.verdict == "rejected" for repair, _ in fresh),
        open_edits,
        open_marks,
        replaced,
    )


def export_review(run: Run) -> Exported:
    """:func:`export_repairs` of the review that lies in a run, also while people work at it.

    Raises:
        RunError: where nobody began a review of the run; else as :func:`export_repairs`.
    """
    path = run.path / "review" / FILE
    if not path.is_file():
        raise RunError(f"nobody reviewed {run.path} yet; begin with: labelmend review {run.path}")
    spec = run.data.spec
    with Store.open(path, reading=True) as store:
        desk = Desk(store, read_bases(run), classes=len(spec.classes), ignore=can_ignore(spec))
        return export_repairs(run, desk)


def read_bases(run: Run) -> Callable[[str], tuple[np.ndarray, str]]:
    """What labels are before anybody does anything to them, as a desk asks for it.

    The function returned takes a label's path and gives class indices ``(*space)`` int16 with -1
    where unknown (continuous labels: zeros, for nobody draws on those), and its file's SHA-256.
    """
    samples = {sample.label: sample for sample in run.data.samples}
    root, spec = Path(run.data.root), run.data.spec

    def read(label: str) -> tuple[np.ndarray, str]:
        sample = _sample(run, samples, label)
        raster = _image(root, sample, spec)
        if spec.task == "regression":
            _check_label(root, sample)
            return np.zeros(raster.array.shape[1:], np.int16), sample.label_sha256
        content = load_verified(root / label, sample.label_sha256)
        indices, known = read_label(root / label, spec, raster, content=content)
        return np.where(known, indices, -1).astype(np.int16), sample.label_sha256

    return read


def can_ignore(spec: DataSpec) -> bool:
    """Whether a label of the data set can say of a position that nobody knows its class.

    >>> can_ignore(DataSpec("segmentation", ("a", "b"), (0, 1), 9, 2, 1, "none", ".png"))
    True
    """
    events = spec.suffix == ".csv" and spec.dims == 1
    return spec.ignore is not None or (events and IGNORE not in spec.classes)


def _sample(run: Run, samples: Mapping[str, Sample], label: str) -> Sample:
    if label not in samples:
        raise RunError(
            f"the review of {run.path} is of {label}, which the run does not have; it belongs to "
            "another run"
        )
    return samples[label]


def _is_ours(repair: Repair, label: str, desk: Reviewed) -> bool:
    return any(stored.event.id == repair.event for stored in desk.events(label))


def _original(label: str, repairs: Mapping[str, Repair]) -> str:
    """What a label repairs, also where the table names a newer repair of it; else itself."""
    found = original_of(label, repairs)
    if found != label or not label.startswith(f"{FOLDER}/"):
        return found
    path = PurePosixPath(label)
    stem = split_name(path.name)[0]
    event, bare = stem.rpartition(".")[2], str(path.with_name(stem))
    return next((one for one in repairs if repaired_name(one, event) == bare), label)


def _is_news(repair: Repair, sample: Sample) -> bool:
    strong = repair.verdict == "accepted" and repair.quality == "strong"
    return strong and sample.quality == "weak"


def _decided(run: Run, sample: Sample, original: str, summary: Summary, desk: Reviewed) -> Repair:
    """A line of the table, its file written."""
    root = Path(run.data.root)
    last = desk.events(sample.label)[-1].event
    repair = Repair(
        original,
        "rejected" if summary.verdict == "rejected" else "accepted",
        "strong" if (summary.quality or sample.quality) == "strong" else "weak",
        "" if original == sample.label else sample.label,
        last.id,
        last.person,
        last.time,
        hash_file(root / original),
        "" if original == sample.label else sample.label_sha256,
    )
    _check_label(root, sample)
    if repair.verdict == "rejected" or not summary.edited:
        return repair
    name = _write(run, sample, original, desk.state(sample.label), last.id)
    return replace(repair, repaired=name, repaired_sha256=hash_file(root / name))


def _write(run: Run, sample: Sample, original: str, state: State, event: str) -> str:
    """The repaired label as a file; its path in the data folder."""
    root, spec = Path(run.data.root), run.data.spec
    content = load_verified(root / sample.label, sample.label_sha256)
    suffix = split_name(sample.label)[1]
    name = target_name(repaired_name(original, event) + suffix, content, spec)
    raster = _image(root, sample, spec)
    drawn = decode_label(root / sample.label, content, spec.task)
    before = None if isinstance(drawn, tuple) else drawn.array
    _write_indices(root / name, state.indices, before, spec, raster)
    indices, known = read_label(root / name, spec, raster)
    if not np.array_equal(np.where(known, indices, -1), state.indices):
        raise DataError(
            f"{root / name} does not hold what was drawn; its format cannot: convert the labels "
            "to .png, .tif or .npy"
        )
    return name


def _write_indices(
    target: Path, indices: np.ndarray, before: np.ndarray | None, spec: DataSpec, like: Raster
) -> None:
    """Write class indices, -1 where unknown; ``before`` are the values that were in the file."""
    if (indices < 0).any() and not can_ignore(spec):
        raise DataError(
            f"{target} has unknown positions, and the data set no value for them; put one into "
            "data.toml: ignore = 255"
        )
    if before is None:  # a list of events
        names = (*spec.classes, IGNORE)
        index = np.where(indices < 0, len(spec.classes), indices)
        numbered = replace(spec, classes=names, values=tuple(range(len(names))))
        write_label(target, index, numbered, like)
        return
    ignored = 0 if spec.ignore is None else spec.ignore
    if spec.instances:
        values = _numbered(indices, before, ignored)
    else:
        values = np.array(spec.values)[indices]
    write_values(target, np.where(indices < 0, ignored, values), spec, like)


def _numbered(indices: np.ndarray, before: np.ndarray, ignored: int) -> np.ndarray:
    """Numbers of objects: those that there were, and one more for all that is new."""
    numbers = np.where(before == ignored, 0, before).astype(np.int64)
    new = numbers.max(initial=0) + 1
    new += new == ignored
    kept: np.ndarray = np.where(numbers > 0, numbers, new)
    return np.where(indices == 1, kept, 0)


def _image(root: Path, sample: Sample, spec: DataSpec) -> Raster:
    content = load_verified(root / sample.image, sample.image_sha256)
    return read_as(root / sample.image, spec, content=content)


def _check_label(root: Path, sample: Sample) -> None:
    if hash_file(root / sample.label) != sample.label_sha256:
        raise ChangedDataError(
            f"{root / sample.label} is not the file the run began with; put the old file back, or "
            "begin a new run"
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
