"""Put a run's weak labels where its network says they belong, and write them as new files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from labelmend.data.grid import Grid
from labelmend.data.whole import judge
from labelmend.errors import DataError, NonFiniteError, RunError
from labelmend.files.readers import load_verified, read_as, read_label
from labelmend.inference.evaluate import MOST_KEPT
from labelmend.inference.fixed import Fixed, Fixing
from labelmend.inference.moved_labels import filler, target_name, write_moved
from labelmend.inference.offsets import Case, main_metric
from labelmend.inference.places import Place, mean_shift, moved_arrays
from labelmend.inference.predictor import Predictor
from labelmend.inference.search import Evidence, Search, Transform, make_search
from labelmend.metrics import summarise
from labelmend.progress import Silent, Watcher, go_through
from labelmend.runs import write_atomically
from labelmend.runs.appearing import appearing
from labelmend.runs.atomic import keeping
from labelmend.types import DataSpec, Raster, Sample

TABLE = "fixed.csv"


def fix(
    predictor: Predictor,
    out: Path,
    *,
    align: Transform | None = None,
    watcher: Watcher | None = None,
) -> Fixing:
    """Write all weak labels of a run's data set, those that lie elsewhere moved to their place.

    ``out`` gets every weak label under its own path, so that it can stand in for the original:
    moved ones anew, all others byte for byte; and ``fixed.csv``, a line per label, those to look
    at first at its top. Originals are only read. A label is moved only where its place is clear,
    as in training: by the settings of the run, and together with those it moved together with.

    Args:
        predictor: from :func:`load`, which also says which of two networks looks.
        out: a folder that does not exist or is empty; it appears when all is written.
        align: how labels may move; by default as in training, or by shifts. ``warp`` also bends
            them, by the network that training taught to.

    Raises:
        RunError: when the folder is not empty, or lies in the data set.
        DataError: when there is no weak label, or a file changed since training.
        SettingsError: for a transform that does not go with the run's settings, or bending that
            was not trained.
        StorageError: when the disk refuses; then there is no folder.

    Source: seed B ¶33–36; what is not clear stays. The trap: a network that learned from labels
    that are all off by the same puts right ones wrong; look at a few before you train on them.
    """
    watcher = watcher or Silent()
    samples = _samples(predictor)
    _check_place(out, Path(predictor.run.data.root))
    search = make_search(predictor.run, align, predictor.device, step=predictor.step)
    looking = _Looking(predictor, search)
    go_through(samples, looking.add, watcher)
    looking.conclude()
    with appearing(out) as folder:
        writing = _Writing(predictor, folder, looking)
        go_through(looking.looks, writing.add, watcher)
        records = predictor.run.metrics("train")
        rows, said = tuple(writing.rows), filler(predictor.spec)
        result = Fixing(out, rows, said, records, _window(predictor, search))
        write_atomically(folder / TABLE, result.to_csv().encode("utf-8", "surrogateescape"))
    return result


def _window(predictor: Predictor, search: Search) -> int:
    """How far was looked, where the network's positions are those of files; else 0."""
    made = predictor.preparation
    changed = made.spacing is not None or made.size is not None or made.spectrogram
    window = search.shifts.window
    return window if isinstance(window, int) and not changed else 0


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A sample as read, and what the network says of it.

    Attributes:
        raster: the image.
        label: class indices ``(*space)``, or ``(channels, *space)`` float.
        valid: ``(*space)`` bool.
        seen: the network's output on its own grid.
        grid: that grid.
    """

    raster: Raster
    label: np.ndarray
    valid: np.ndarray
    seen: np.ndarray
    grid: Grid

    def case(self, predictor: Predictor) -> Case:
        """What is judged, in positions of the file."""
        scores = predictor.preparation.restore(self.seen, self.grid)
        return Case(scores, self.label, self.valid, self.raster.spacing)

    def compared(self, predictor: Predictor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What a search compares: output, label and valid on the network's grid."""
        return self.seen, *predictor.preparation.label(self.label, self.valid, self.grid)


def open_sample(predictor: Predictor, sample: Sample) -> Opened:
    """A sample read and predicted.

    Raises:
        DataError: when a file cannot be read or has changed.
        NonFiniteError: naming the image.
    """
    spec, root = predictor.spec, Path(predictor.run.data.root)
    content = load_verified(root / sample.image, sample.image_sha256)
    raster = read_as(root / sample.image, spec, content=content)
    content = load_verified(root / sample.label, sample.label_sha256)
    label, valid = read_label(root / sample.label, spec, raster, content=content)
    try:
        seen, grid = predictor.seen(raster)
    except NonFiniteError as error:
        raise NonFiniteError(f"{root / sample.image}: {error}") from error
    return Opened(raster, label, valid, seen, grid)


def moved_case(case: Case, place: Place) -> Case:
    """The same prediction, and the label in its place, in positions of the file."""
    moved, valid = moved_arrays(case.label, case.valid, place)
    return Case(case.scores, moved, valid, case.spacing)


def judged(case: Case, spec: DataSpec) -> float:
    """Dice, or in regression PSNR, of a sample; NaN where there is none."""
    row = judge(case.scores, case.label, case.valid, spec, spacing=case.spacing)
    mean = summarise([row])["mean"]
    return mean[main_metric(mean)]


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """What is kept of a label from looking at it until it is written.

    ``place`` is None where labels move together, and without its field where that must be found
    ``again``, for there is no room to keep all fields.
    """

    sample: Sample
    grid: Grid
    before: float
    place: Place | None
    again: bool = False


class _Looking:
    """Looks at one label after the other; then all have their places."""

    def __init__(self, predictor: Predictor, search: Search) -> None:
        self.predictor, self.search = predictor, search
        self.looks: list[_Look] = []
        self.cases: dict[str, Case] = {}
        self._evidence: dict[str, Evidence] = {}
        self._shared: dict[str, Place] = {}
        self._offset = np.zeros(predictor.spec.dims)
        self._room = MOST_KEPT

    def add(self, sample: Sample) -> None:
        """Look at a label."""
        opened = open_sample(self.predictor, sample)
        case = opened.case(self.predictor)
        place = self._place(sample, *opened.compared(self.predictor))
        look = _Look(sample, opened.grid, judged(case, self.predictor.spec), place)
        if place is None or place.moves or self.search.centred:
            look = self._keep(look, case.decided())
        self.looks.append(look)  # what stays is copied, and needs no second look

    def _keep(self, look: _Look, case: Case) -> _Look:
        """Remember the prediction and the field of a label, if there is room."""
        place = look.place
        field = None if place is None else place.field
        self._room -= case.size + (0 if field is None else field.nbytes)
        if self._room >= 0:
            self.cases[look.sample.id] = case
        elif place is not None and field is not None:
            return replace(look, place=place.told(), again=True)
        return look

    def _place(
        self, sample: Sample, seen: np.ndarray, label: np.ndarray, valid: np.ndarray
    ) -> Place | None:
        if self.search.per == "sample":
            return self.search.find(seen, label, valid)
        evidence, whose = self.search.evidence(seen, label, valid), self.search.whose(sample)
        before = self._evidence.get(whose)
        self._evidence[whose] = evidence if before is None else before + evidence
        return None

    def conclude(self) -> None:
        """Settle what takes all labels: where groups belong, and the mean that is held."""
        self._shared = {whose: self.search.decide(one) for whose, one in self._evidence.items()}
        if self.search.centred:
            found = [self._found(look) for look in self.looks]
            self._offset = mean_shift(found, self.predictor.spec.dims)

    def _found(self, look: _Look) -> Place:
        return look.place or self._shared[self.search.whose(look.sample)]

    def place(self, look: _Look) -> Place:
        """Where a label belongs, in positions of its file, after :meth:`conclude`."""
        found = self._found(look)
        if look.again:
            opened = open_sample(self.predictor, look.sample)
            self.cases[look.sample.id] = opened.case(self.predictor).decided()
            found = self.search.find(*opened.compared(self.predictor))
        if self.search.centred:
            found = found.less(self._offset)
        return found.in_file(look.grid)


class _Writing:
    """Writes one label after the other, and judges those that moved."""

    def __init__(self, predictor: Predictor, folder: Path, looking: _Looking) -> None:
        self.predictor, self.folder, self.looking = predictor, folder, looking
        self.rows: list[Fixed] = []

    def add(self, look: _Look) -> None:
        """Write a label."""
        place = self.looking.place(look)
        sample, spec = look.sample, self.predictor.spec
        source = Path(self.predictor.run.data.root) / sample.label
        content = load_verified(source, sample.label_sha256)
        written, after, unknown = sample.label, look.before, 0
        if place.moves:
            written = target_name(sample.label, content, spec)
            case = self.looking.cases.pop(sample.id, None) or self._case(sample)
            after = judged(moved_case(case, place), spec)
        target = _inside(self.folder, written)
        with keeping("the labels", self.folder, len(content)):
            target.parent.mkdir(parents=True, exist_ok=True)
        if place.moves:
            raster = self._raster(sample)
            unknown = write_moved(target, source, content, place, spec, raster)
        else:
            write_atomically(target, content)
        metric, told = "psnr" if spec.task == "regression" else "dice", place.told()
        self.rows.append(Fixed(sample, written, told, metric, look.before, after, unknown))

    def _case(self, sample: Sample) -> Case:
        return open_sample(self.predictor, sample).case(self.predictor)

    def _raster(self, sample: Sample) -> Raster:
        path = Path(self.predictor.run.data.root) / sample.image
        content = load_verified(path, sample.image_sha256)
        return read_as(path, self.predictor.spec, content=content)


def _samples(predictor: Predictor) -> tuple[Sample, ...]:
    run = predictor.run
    if not run.weak:
        raise DataError(
            f"{run.path} has no weak label, and strong ones stay where they are; nothing to fix"
        )
    run.data_folder()
    return run.weak


def _check_place(out: Path, root: Path) -> None:
    """Refuse a folder that holds something, or in which a label could be taken for an original."""
    file = next((p for p in (out, *out.parents) if p.exists() and not p.is_dir()), None)
    if file is not None:
        raise RunError(f"labels cannot go to {out}: {file} is a file; name a folder")
    if out.exists() and any(out.iterdir()):
        raise RunError(f"{out} is not empty, and labels in it might be lost; give another --out")
    if root.resolve() in (out.resolve(), *out.resolve().parents):
        raise RunError(
            f"{out} lies in the data set {root}, where new labels would be taken for further "
            "ones; give another --out"
        )


def _inside(folder: Path, name: str) -> Path:
    place = PurePosixPath(name)
    if place.is_absolute() or ".." in place.parts or not place.parts:
        raise DataError(f"{name} does not lie in the data set, so it has no place beside it")
    return folder / name
