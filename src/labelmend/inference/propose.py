"""Have a machine propose weak labels for images that have none, as one more annotator."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from labelmend.catalogue.links import stays_inside
from labelmend.catalogue.listing import MANIFEST, WEAK
from labelmend.errors import DataError, NonFiniteError, RunError, ShapeError, unknown
from labelmend.files.formats import Problem
from labelmend.files.readers import read_as, write_label
from labelmend.inference.unlabelled import Unlabelled, find_unlabelled, manifest_with
from labelmend.labels.proposals import Method, Side, brighter_part, check_side, smaller_side
from labelmend.progress import Silent, Watcher
from labelmend.runs.appearing import appearing
from labelmend.runs.atomic import (
    erase,
    write_atomically,
)
from labelmend.telling import Telling
from labelmend.types import DataSpec, Raster

if TYPE_CHECKING:
    from labelmend.inference.predictor import Predictor


@dataclass(frozen=True, slots=True)
class Proposed(Telling):
    """What was written.

    Attributes:
        folder: the new annotator's folder.
        labels: paths of the labels, relative to the data folder.
        side: which part of the images is the thing, where a threshold or watershed drew it.
        shares: for each label, how much of it is not background; NaN in regression.
        problems: images that got no label, and why.
        notes: what a person should know, in sentences.
    """

    folder: Path
    labels: tuple[str, ...]
    side: Side | None
    shares: tuple[float, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    def to_text(self) -> str:
        """A few lines for a person."""
        count = len(self.labels)
        lines = [
            f"{count} weak label{'s' * (count != 1)} written to {self.folder} "
            f"(annotator {self.folder.name})"
        ]
        mean = math.fsum(self.shares) / count
        if self.side is not None:
            lines.append(f"the object is the {self.side} part: {mean:.1%} of an image on average")
        elif math.isfinite(mean):
            lines.append(f"{mean:.1%} of an image on average is not background")
        empty = [label for label, s in zip(self.labels, self.shares, strict=True) if s in (0, 1)]
        if empty:
            are = "labels are" if len(empty) > 1 else "label is"
            lines.append(f"{len(empty)} {are} one class throughout, such as {empty[0]}")
        lines += [f"left out: {problem}" for problem in self.problems]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


@dataclass(frozen=True, slots=True)
class Threshold:
    """Draw by brightness; see :func:`labelmend.labels.proposals.propose_label`.

    Attributes:
        by: a method, or the threshold itself.
        side: which part is the object; None for the one that is smaller in all images together.
        object_name: the class to draw; None where there is one beside the background.
        channel: the channel to look at; None for the mean of all.
        smooth: how much images are smoothed before, in positions; None for the usual.

    Raises:
        SettingsError: for a side that does not exist.
    """

    by: Method | float
    side: Side | None = None
    object_name: str | None = None
    channel: int | None = None
    smooth: float | None = None

    def __post_init__(self) -> None:
        if self.side is not None:
            check_side(self.side)

    @property
    def name(self) -> str:
        """What its annotator is called where nobody says."""
        return self.by if isinstance(self.by, str) else f"threshold-{self.by:g}"


def propose(
    root: Path,
    by: Threshold | Predictor,
    *,
    name: str | None = None,
    every: bool = False,
    allow_bad: int = 0,
    watcher: Watcher | None = None,
) -> Proposed:
    """Write a weak label for every image without one, into ``labels/weak/NAME/``.

    The folder appears when all labels are written, in the formats and values that the set's
    labels have. Nothing that exists is replaced. Where the set is listed in a ``manifest.csv``,
    folders do not count, so each label gets a line at its end; all that was there stays.

    Args:
        root: the data folder; it may hold images only.
        by: brightness, or the network of a run from :func:`labelmend.inference.predictor.load`.
        name: what the machine is called as an annotator; by default the method, or the run's
            folder.
        every: also for images that have labels.
        allow_bad: images that may be left out because they cannot be read or divided.

    Raises:
        RunError: when the folder exists and is not empty.
        DataError: when the set cannot be used, no image lacks a label, classes do not fit, or
            more than ``allow_bad`` images have a problem; then nothing is written.
        SettingsError: for a name, a class or a channel that cannot be used.
        StorageError: when the disk refuses; then there is no folder.

    The trap: labels of a network that learned from the same set say nothing new to it.
    """
    folder = _check_place(
        root, name or (by.name if isinstance(by, Threshold) else by.run.path.resolve().name)
    )
    like = None if isinstance(by, Threshold) else by.run.data
    object_name = by.object_name if isinstance(by, Threshold) else None
    found = find_unlabelled(
        root, every=every, object_name=object_name, like=like, allow_bad=allow_bad
    )
    machine = _Bright(by, found.spec) if isinstance(by, Threshold) else _Network(by, found.spec)
    work = _Work(found, machine, allow_bad, watcher or Silent())
    work.look()
    with appearing(folder) as temporary:
        work.write(temporary)
    written = tuple((image, f"{WEAK}/{folder.name}/{t}") for image, t, _ in work.written)
    notes = [*found.notes, *machine.notes()]
    if (root / MANIFEST).exists():
        _list(root, written, folder)
        notes.append(f"Their lines were added to the end of {MANIFEST}.")
    labels, shares = tuple(t for _, t in written), tuple(s for *_, s in work.written)
    return Proposed(folder, labels, machine.side, shares, tuple(work.problems), tuple(notes))


class _Machine(Protocol):
    side: Side | None

    @property
    def looks_first(self) -> bool:
        """Whether it wants to see all images before it labels one."""
        ...

    def read(self, path: Path) -> Raster: ...
    def look(self, raster: Raster) -> None: ...
    def settle(self) -> None: ...
    def label(self, raster: Raster) -> np.ndarray: ...
    def notes(self) -> list[str]: ...


class _Bright:
    """Labels by brightness, the same side of all images being the object."""

    def __init__(self, by: Threshold, spec: DataSpec) -> None:
        self.by, self.spec, self.side = by, spec, by.side
        self.index = _object_class(by, spec)
        self._shares: list[float] = []

    @property
    def looks_first(self) -> bool:
        return self.by.side is None

    def read(self, path: Path) -> Raster:
        return read_as(path, self.spec)

    def look(self, raster: Raster) -> None:
        self._shares.append(float(self._bright(raster).mean()))

    def settle(self) -> None:
        self.side = smaller_side(self._shares)

    def label(self, raster: Raster) -> np.ndarray:
        drawn = self._bright(raster) == (self.side == "brighter")
        return np.where(drawn, self.index, 0)

    def notes(self) -> list[str]:
        if self.by.side is not None:
            return []
        fits = sum((smaller_side([share]) == self.side) for share in self._shares)
        return [
            f"The {self.side} part was taken for the object since it is the smaller one in "
            f"{fits} of {len(self._shares)} images; --brighter or --darker says it."
        ]

    def _bright(self, raster: Raster) -> np.ndarray:
        by = self.by
        return brighter_part(raster.array, by.by, channel=by.channel, smooth=by.smooth)


class _Network:
    """Labels by a trained network, its classes found again by name."""

    side: Side | None = None
    looks_first = False

    def __init__(self, predictor: Predictor, spec: DataSpec) -> None:
        self.predictor, self._notes = predictor, list(predictor.notes)
        self.classes = _classes_of(predictor, spec, self._notes)

    def read(self, path: Path) -> Raster:
        return read_as(path, self.predictor.spec)

    def look(self, raster: Raster) -> None:
        """Nothing: a network needs one image at a time."""

    def settle(self) -> None:
        """Nothing."""

    def label(self, raster: Raster) -> np.ndarray:
        label = self.predictor.predict(raster.array, spacing=raster.spacing)
        return label if self.classes is None else self.classes[label]

    def notes(self) -> list[str]:
        return self._notes


@dataclass(slots=True)
class _Work:
    """Goes through the images, and remembers what could not be used."""

    found: Unlabelled
    machine: _Machine
    allow_bad: int
    watcher: Watcher
    problems: list[Problem] = field(default_factory=list)
    written: list[tuple[str, str, float]] = field(default_factory=list)

    def look(self) -> None:
        """Let the machine see all images first, where it wants to."""
        if self.machine.looks_first:
            self._each(lambda _, __, raster: self.machine.look(raster))
            self.machine.settle()

    def write(self, folder: Path) -> None:
        """Write all labels into a folder."""

        def one(image: str, target: str, raster: Raster) -> None:
            label = self.machine.label(raster)
            write_label(folder / target, label, self.found.spec, raster)
            drawn = math.nan if self.found.spec.task == "regression" else float((label > 0).mean())
            self.written.append((image, target, drawn))

        self._each(one)

    def _each(self, work: Callable[[str, str, Raster], None]) -> None:
        left_out = {problem.file for problem in self.problems}
        self.watcher.start(len(self.found.images), 0)
        try:
            pairs = zip(self.found.images, self.found.targets, strict=True)
            for number, (image, target) in enumerate(pairs, 1):
                if image not in left_out:
                    self._try(work, image, target)
                self.watcher.step(number, {})
        finally:
            self.watcher.finish()
        self._check()

    def _try(self, work: Callable[[str, str, Raster], None], image: str, target: str) -> None:
        path = self.found.root / image
        try:
            work(image, target, self.machine.read(path))
        except (DataError, ShapeError, NonFiniteError) as error:
            self.problems.append(Problem(image, str(error).removeprefix(f"{path}: ")))

    def _check(self) -> None:
        count, total = len(self.problems), len(self.found.images)
        if count > self.allow_bad or count == total:
            way = f"; or leave them out with --allow-bad {count}" if count < total else ""
            raise DataError(
                f"{self.found.root}: {count} of {total} images cannot get a label, the first: "
                f"{self.problems[0]}{way}"
            )


def _object_class(by: Threshold, spec: DataSpec) -> int:
    if spec.task == "regression":
        raise DataError(
            f"labels of this set are continuous values, and {by.name} draws classes; "
            "propose them by a run"
        )
    things = spec.classes[1:]
    if by.object_name is not None and by.object_name not in things:
        raise unknown("class", by.object_name, things)
    if by.object_name is None and len(things) > 1:
        raise DataError(
            f"this set has the classes {', '.join(things)}, and {by.name} draws one; say which "
            f"with --class, as in --class {things[0]!r}"
        )
    return 1 if by.object_name is None else spec.classes.index(by.object_name)


def _classes_of(predictor: Predictor, spec: DataSpec, notes: list[str]) -> np.ndarray | None:
    """The set's class for each class of the network; None where they are the same."""
    theirs = predictor.spec
    if theirs.task != spec.task:
        raise DataError(f"the run is for {theirs.task}, and this set for {spec.task}; take another")
    if theirs.classes == spec.classes:
        return None
    if spec.task == "segmentation" and len(spec.classes) == len(theirs.classes) == 2:
        notes.append(f"The run's class {theirs.classes[1]} is written as {spec.classes[1]}.")
        return None
    strange = [name for name in theirs.classes[1:] if name not in spec.classes[1:]]
    if strange or spec.task == "regression":
        raise DataError(
            f"the run knows {', '.join(theirs.classes)}, and this set {', '.join(spec.classes)}; "
            "call them alike in data.toml"
        )
    return np.array([0, *(spec.classes.index(name) for name in theirs.classes[1:])])


def _check_place(root: Path, name: str) -> Path:
    """The folder to make; refuses one that is there, and names that mean somewhere else."""
    if name in ("", ".", "..") or name.startswith(".") or set(name) & set("/\\\0\n\r"):
        raise DataError(
            f"{name!r} cannot be the name of an annotator's folder; give a plain --name"
        )
    folder = root / WEAK / name
    if folder.is_symlink() or not stays_inside(root, f"{WEAK}/{name}"):
        raise RunError(f"{folder} is a link or leads out of {root}; give another --name")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(
            f"{folder} exists already, and nothing in it is ever replaced; give another --name, "
            "or move it away"
        )
    return folder


def _list(root: Path, written: Sequence[tuple[str, str]], folder: Path) -> None:
    try:
        write_atomically(root / MANIFEST, manifest_with(root, written, folder.name))
    except BaseException:  # labels that nothing lists would only be in the way
        with suppress(OSError):
            erase(folder)
        raise
