"""Predict files and folders of them, and write labels of the family that such images have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from labelmend.errors import DataError, LabelmendError, RunError, SettingsError
from labelmend.files.formats import kind_of, split_name
from labelmend.files.readers import read_as, write_label
from labelmend.files.stripwise import write_label_strips
from labelmend.files.tiled import StripImage, open_strips
from labelmend.inference.beside import About, Beside, gathering
from labelmend.inference.conclusions import Conclusion, Figures, read_part, write_conclusions
from labelmend.inference.flips import Flipped, HalfBits
from labelmend.inference.inputs import (
    label_name,
    make_folder,
    plan,
    refuse_replacing,
    written_suffix,
)
from labelmend.inference.large import (
    GIB,
    cut,
    memory_in_one,
    memory_in_strips,
    predict_in_strips,
    why_not,
    windows,
)
from labelmend.inference.predictor import Predictor
from labelmend.inference.record import Record, hash_image, hash_model
from labelmend.inference.rules import Rule
from labelmend.progress import Silent, Watcher
from labelmend.types import Raster

__all__ = ["Outcome", "Way", "label_name", "predict_all", "predict_files", "written_suffix"]

USUAL_MEMORY = 2.0
"""GiB that one file may take before it is predicted strip by strip, where nobody says."""

_DIVIDED = ("TIFF", "npy")


@dataclass(frozen=True, slots=True)
class Way:
    """How files are predicted.

    Attributes:
        flips: whether mirror images are predicted too and the mean is taken.
        precision: the numbers that the network computes with.
        memory: GiB that one file may take, the network aside. Above it files are predicted strip
            by strip, and refused where that cannot be done. None: 2, and what cannot be divided
            is predicted in memory, whatever it takes.
        resume: whether labels that were finished in the same way are kept.
        beside: what is wanted beside labels.
    """

    flips: bool = False
    precision: Literal["float32", "bf16"] = "float32"
    memory: float | None = None
    resume: bool = False
    beside: Beside = field(default_factory=Beside)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a prediction.

    Attributes:
        written: the labels that were written.
        failed: one sentence for every file that could not be predicted.
        kept: the labels that were there already, of the same image by the same model.
        conclusions: one per file, where they were asked for.
        rules: the rules that were judged.
        unjudged: one sentence for every rule that asks for what is not known of a file.
    """

    written: list[Path]
    failed: list[str]
    kept: list[Path]
    conclusions: list[Conclusion]
    rules: tuple[Rule, ...] = ()
    unjudged: tuple[str, ...] = ()


def predict_files(
    predictor: Predictor,
    inputs: Sequence[Path],
    out: Path,
    *,
    watcher: Watcher | None = None,
) -> tuple[list[Path], list[str]]:
    """Write a label for every file, geometry kept; a file that cannot be read stops no other.

    Args:
        inputs: files, or folders whose readable files are taken; sub-folders are kept.
        out: the folder of the labels; made if missing, labels of the same name are replaced.

    Returns:
        The files written, and one sentence for every file that could not be predicted.

    Raises:
        DataError: before anything is written, when there is no input, two inputs would be written
            to one file, or a label would replace an input or a file that the run was trained on.
        StorageError: when the disk refuses.
    """
    outcome = predict_all(predictor, inputs, out, watcher=watcher)
    return outcome.written, outcome.failed


def predict_all(
    predictor: Predictor,
    inputs: Sequence[Path],
    out: Path,
    way: Way | None = None,
    *,
    watcher: Watcher | None = None,
) -> Outcome:
    """:func:`predict_files` with all there is to choose.

    Images that are too large for memory are predicted strip by strip where their format allows,
    to the same label. While it works, ``OUT/predictions.jsonl`` says what is finished; it stays
    when the work was stopped, and with ``way.resume``, which skips what is finished.

    Args:
        predictor: what predicts.
        inputs: files, folders, or patterns with ``* ? [``.
        out: the folder of the labels.
        way: how; see :class:`Way`.
        watcher: told how many files are done and, of a large one, how many patches.

    Raises:
        SettingsError: for what cannot be had, before anything is done; else as
            :func:`predict_files`.
    """
    way, watcher = way or Way(), watcher or Silent()
    rules = way.beside.check(predictor.spec)
    if way.memory is not None and not way.memory > 0:
        raise SettingsError(f"--memory is a number of GiB above 0, not {way.memory}")
    planned = plan(inputs, out, predictor.run.data)
    beside = [p for t in planned for p in way.beside.places(out, t.relative_to(out)).values()]
    refuse_replacing(beside, planned.values(), predictor.run.data)
    make_folder(out)
    work = _Work(_as_wished(predictor, way), out, way, watcher, planned)
    outcome = work.all_files()
    if way.beside.conclusions is None:
        return outcome
    judged, unjudged = _judge(work.parts, predictor, rules)
    folder, parquet = way.beside.conclusions, way.beside.parquet
    write_conclusions(folder, judged, predictor.spec, parquet=parquet)
    return replace(outcome, conclusions=judged, rules=rules, unjudged=tuple(unjudged))


def _as_wished(predictor: Predictor, way: Way) -> Predictor:
    network = predictor.network
    if way.precision == "bf16":
        network = HalfBits(network)
    if way.flips:
        network = Flipped(network, predictor.spec.task)
    return replace(predictor, network=network.eval())


def _judge(
    parts: Sequence[Path], predictor: Predictor, rules: Sequence[Rule]
) -> tuple[list[Conclusion], list[str]]:
    """The conclusions with their flags, and what could not be judged."""
    figures = Figures(predictor.spec)
    judged, unjudged = [], []
    for part in parts:
        conclusion = read_part(part)
        for rule in rules:
            try:
                conclusion = figures.judge(conclusion, rule)
            except DataError as error:
                unjudged.append(str(error))
        judged.append(conclusion)
    return judged, unjudged


class _Work:
    """Predicts what is planned, one file after the other."""

    def __init__(
        self,
        predictor: Predictor,
        out: Path,
        way: Way,
        watcher: Watcher,
        planned: dict[Path, Path],
    ) -> None:
        self._predictor = predictor
        self._out = out
        self._way = way
        self._watcher = watcher
        self._planned = planned
        self.parts: list[Path] = []
        options = asdict(way.beside) | {"flips": way.flips, "precision": way.precision}
        names = ("flips", "precision", "overlays", "probabilities", "smallest")
        asked = {name: options[name] for name in names}
        asked["conclusions"] = way.beside.conclusions is not None
        self._record = Record(out, hash_model(predictor, asked), predictor.step)

    def all_files(self) -> Outcome:
        """Predict every file; what fails stops no other, but for a disk that refuses."""
        outcome = Outcome([], [], [], [])
        if not self._way.resume:
            self._begin_anew()
        self._watcher.start(len(self._planned), 0)
        try:
            for number, (target, source) in enumerate(self._planned.items(), 1):
                try:
                    self._one_file(source, target, number, outcome)
                except RunError:
                    raise  # the disk would refuse the next one too
                except LabelmendError as error:
                    text = str(error)
                    outcome.failed.append(text if str(source) in text else f"{source}: {text}")
                self._watcher.step(number, {})
        finally:
            self._watcher.finish()
        if not self._way.resume:
            self._record.forget()
        return outcome

    def _begin_anew(self) -> None:
        if len(self._record):
            self._watcher.say(
                f"{len(self._record)} labels of a prediction that was stopped are made again; "
                "--resume would keep those that are as they should be"
            )
        self._record.forget()

    def _one_file(self, source: Path, target: Path, number: int, outcome: Outcome) -> None:
        places = self._way.beside.places(self._out, target.relative_to(self._out))
        sha256 = hash_image(source)
        if self._way.resume and self._record.is_finished(target, sha256):
            outcome.kept.append(self._record.made(target))
        else:
            made = self._predict(source, target, number, places)
            self._record.add(target, sha256, [made, *places.values()])
            outcome.written.append(made)
        self.parts += [places["part"]] if "part" in places else []

    def _predict(self, source: Path, target: Path, number: int, places: dict[str, Path]) -> Path:
        large = self._large(source)
        if large is not None:
            with large:
                return self._in_strips(large, target, number, places)
        raster = read_as(source, self._predictor.spec)
        self._check_channels(source, raster.array.shape[0])
        self._check_memory(source, raster)
        return self._in_memory(source, target, raster, places)

    def _in_memory(
        self, source: Path, target: Path, raster: Raster, places: dict[str, Path]
    ) -> Path:
        predictor = self._predictor
        scores = predictor.scores(raster)
        label = predictor.decide(scores)
        make_folder(target.parent)
        if places:
            about = self._about(source, target, raster.array.shape, raster.spacing)
            with gathering(self._way.beside, places, about, predictor.spec) as gatherer:
                for strip in cut(raster.array, scores):
                    rows = slice(strip.start, strip.start + strip.scores.shape[1])
                    gatherer.add(strip, label[rows])
        write_label(target, label, predictor.spec, raster)
        return target

    def _in_strips(
        self, image: StripImage, target: Path, number: int, places: dict[str, Path]
    ) -> Path:
        predictor, beside = self._predictor, self._way.beside
        target = self._for_strips(image.path, target)
        make_folder(target.parent)
        about = self._about(image.path, target, image.shape, image.spacing)
        with ExitStack() as stack:
            again = stack.enter_context(_opened(image.path, predictor))
            progress = self._through_one_file(image, number, stack)
            gatherer = stack.enter_context(gathering(beside, places, about, predictor.spec))

            def labels() -> Iterator[np.ndarray]:
                for strip in predict_in_strips(predictor, image, again, progress=progress):
                    label = predictor.decide(strip.scores)
                    gatherer.add(strip, label)
                    yield label

            write_label_strips(
                target, labels(), predictor.spec, size=about.size, spacing=image.spacing
            )
        return target

    def _through_one_file(
        self, image: StripImage, number: int, stack: ExitStack
    ) -> Callable[[int, int], None]:
        """Show how far a large file is, then again how many files are done."""
        watcher, total = self._watcher, len(self._planned)
        watcher.finish()
        watcher.say(f"{image.path} is predicted strip by strip")
        watcher.start(windows(self._predictor, image), 0)
        stack.callback(watcher.start, total, number - 1)
        stack.callback(watcher.finish)

        def progress(done: int, _total: int) -> None:
            watcher.step(done, {})

        return progress

    def _for_strips(self, source: Path, target: Path) -> Path:
        """The file for a label that is written strip by strip: as planned, or in another format."""
        dims = self._predictor.spec.dims
        kind = kind_of(target.name)
        if kind == "npy" or (kind == "TIFF" and dims > 1):
            return target
        stem, suffix = split_name(target.name)
        other = target.with_name(stem + (".tif" if dims > 1 else ".npy"))
        sources = self._planned.values()
        refuse_replacing([other], sources, self._predictor.run.data)
        if other in self._planned:
            raise DataError(
                f"{source}: its label is too large for {suffix} and would become {other}, which "
                f"is that of {self._planned[other]}; predict them into two folders"
            )
        return other

    def _about(
        self, source: Path, target: Path, shape: tuple[int, ...], spacing: Sequence[float] | None
    ) -> About:
        name = target.relative_to(self._out).as_posix()
        return About(str(source), name, tuple(shape[1:]), spacing)

    def _large(self, source: Path) -> StripImage | None:
        """The image opened, where it is to be predicted strip by strip."""
        spec = self._predictor.spec
        image = open_strips(source, spec) if kind_of(source.name) in _DIVIDED else None
        if image is None:
            return None
        try:
            if self._is_divided(image):
                return image
        except BaseException:
            image.close()
            raise
        image.close()
        return None

    def _is_divided(self, image: StripImage) -> bool:
        predictor, given = self._predictor, self._way.memory
        limit = (given or USUAL_MEMORY) * GIB
        whole, strips = (
            estimate(predictor, image.shape, image.dtype.itemsize)
            for estimate in (memory_in_one, memory_in_strips)
        )
        if whole <= limit:
            return False
        self._check_channels(image.path, image.shape[0])
        reason = why_not(predictor, image)
        if given is None:
            return not reason and strips < whole
        if reason:
            raise self._too_large(image.path, whole, reason)
        if strips > limit:
            raise self._too_large(image.path, strips, "strip by strip already")
        return True

    def _check_memory(self, source: Path, raster: Raster) -> None:
        need = memory_in_one(self._predictor, raster.array.shape, raster.array.itemsize)
        if self._way.memory is not None and need > self._way.memory * GIB:
            suffix = split_name(source.name)[1]
            raise self._too_large(
                source, need, f"this {suffix} file is read as a whole; save it as tiled TIFF"
            )

    def _too_large(self, source: Path, need: int, reason: str) -> DataError:
        return DataError(
            f"{source}: takes about {need / GIB:.1f} GiB, more than --memory "
            f"{self._way.memory:g}: {reason}, or give --memory {need / GIB + 0.1:.1f}"
        )

    def _check_channels(self, source: Path, channels: int) -> None:
        wanted = self._predictor.spec.channels
        if channels != wanted:
            raise DataError(
                f"{source} has {channels} channels, and the images that the network was "
                f"trained on {wanted}; convert it"
            )


def _opened(path: Path, predictor: Predictor) -> StripImage:
    image = open_strips(path, predictor.spec)
    if image is None:
        raise DataError(f"{path}: changed while it was read; predict it again")
    return image
