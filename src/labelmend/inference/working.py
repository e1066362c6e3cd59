"""Predict what is planned, in order, small files together; what fails stops no other."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from labelmend.errors import DataError, LabelmendError, RunError
from labelmend.files.formats import kind_of, split_name
from labelmend.files.readers import write_label
from labelmend.files.stripwise import write_label_strips
from labelmend.files.tiled import StripImage
from labelmend.inference.ahead import ahead
from labelmend.inference.beside import About, gathering
from labelmend.inference.inputs import make_folder, refuse_replacing
from labelmend.inference.large import GIB, cut, memory_in_one, predict_in_strips, windows
from labelmend.inference.opening import USUAL_MEMORY, Opener
from labelmend.inference.predictor import Predictor
from labelmend.inference.record import Record, hash_image, hash_model
from labelmend.inference.together import Together, patches_of
from labelmend.inference.unlike import Unlike
from labelmend.inference.way import Outcome, Way
from labelmend.progress import Watcher
from labelmend.types import Raster

_AHEAD = 8
_SMALL_FILE = 2**22
"""Bytes of a file up to which it is read before its turn."""
_ROUNDS = 4
"""So many times the network is asked for one group of small files."""
_TOGETHER = 0.5
"""GiB that a group of small files may take at most."""


@dataclass(slots=True)
class _Job:
    """One file: where its label goes, and what has been made of it so far."""

    number: int
    source: Path
    target: Path
    places: dict[str, Path]
    sha256: str = ""
    is_read: bool = False
    image: Raster | StripImage | None = None
    patches: int = 0
    scores: np.ndarray | None = None
    error: LabelmendError | None = None


class Work:
    """Predicts files that were planned: target → source."""

    def __init__(
        self,
        predictor: Predictor,
        out: Path,
        way: Way,
        watcher: Watcher,
        planned: dict[Path, Path],
    ) -> None:
        self._predictor = predictor
        self._opener = Opener(predictor, way)
        self._out = out
        self._way = way
        self._watcher = watcher
        self._planned = planned
        self._batch = way.patches(predictor)
        self._together = Together(predictor, self._batch, exact=way.batch is None)
        self._outcome = Outcome([], [], [], [])
        self.parts: list[Path] = []
        self._unlike = Unlike.of(predictor)
        self._record = Record(out, hash_model(predictor, self._asked()), predictor.step)

    def all_files(self) -> Outcome:
        """Predict every file; what fails stops no other, but for a disk that refuses."""
        if not self._way.resume:
            self._begin_anew()
        self._watcher.start(len(self._planned), 0)
        try:
            for jobs in self._groups():
                self._predict_together(jobs)
                for job in jobs:
                    self._finish(job)
        finally:
            self._watcher.finish()
        if not self._way.resume:
            self._record.forget()
        return replace(self._outcome, warnings=tuple(self._unlike.said()))

    def _asked(self) -> dict[str, object]:
        """The options that decide what is made, for the record."""
        way, beside = self._way, asdict(self._way.beside)
        names = ("overlays", "probabilities", "smallest")
        asked: dict[str, object] = {"flips": way.flips, "precision": way.precision}
        asked |= {name: beside[name] for name in names}
        asked["conclusions"] = way.beside.conclusions is not None
        if way.level is not None:
            asked["level"] = way.level
        if way.beside.uncertainty:
            asked["uncertainty"] = True
        told = way.beside.probabilities or way.beside.uncertainty or asked["conclusions"]
        if told and self._predictor.calibration is not None:
            asked["temperature"] = self._predictor.temperature
        return asked

    def _begin_anew(self) -> None:
        if len(self._record):
            self._watcher.say(
                f"{len(self._record)} labels of a prediction that was stopped are made again; "
                "--resume would keep those that are as they should be"
            )
        self._record.forget()

    # ------------------------------------------------------------------ what goes together

    def _groups(self) -> Iterator[list[_Job]]:
        """Files in order: many small ones, or one that is predicted by itself."""
        group: list[_Job] = []
        limit = min(_TOGETHER, self._way.memory or USUAL_MEMORY) * GIB
        need = 0
        with closing(self._read_jobs()) as jobs:
            for job in jobs:
                size = self._memory(job)
                full = need + size > limit or _patches(group) >= _ROUNDS * self._batch
                if group and (full or self._is_alone(job)):
                    yield group
                    group, need = [], 0
                group.append(job)
                need += size
                if self._is_alone(job):
                    yield group
                    group, need = [], 0
        if group:
            yield group

    def _is_alone(self, job: _Job) -> bool:
        return job.image is not None and not self._together.suits(job.patches)

    def _memory(self, job: _Job) -> int:
        if not isinstance(job.image, Raster):
            return 0
        array = job.image.array
        return memory_in_one(self._predictor, array.shape, array.itemsize, job.image.spacing)

    def _read_jobs(self) -> Generator[_Job]:
        """Every file, read; the next small ones are read while the network works."""
        every = (
            _Job(number, source, target, self._places(target))
            for number, (target, source) in enumerate(self._planned.items(), 1)
        )
        if self._way.memory is not None or self._batch == 1:
            yield from map(self._read, every)
            return
        with closing(ahead(self._read_small, every, _AHEAD)) as jobs:
            for job in jobs:
                yield self._read(job)

    def _places(self, target: Path) -> dict[str, Path]:
        return self._way.beside.places(self._out, target.relative_to(self._out))

    def _read_small(self, job: _Job) -> _Job:
        try:
            small = job.source.stat().st_size <= _SMALL_FILE
        except OSError:
            small = False  # its turn will say what is wrong
        return self._read(job) if small else job

    def _read(self, job: _Job) -> _Job:
        if job.is_read:
            return job
        job.is_read = True
        try:
            job.sha256 = hash_image(job.source)
            beside = job.places.values()
            if self._way.resume and self._record.is_finished(job.target, job.sha256, beside):
                return job
            job.image = self._opener.open(job.source)
            if isinstance(job.image, Raster):
                job.patches = patches_of(self._predictor, job.image)
        except LabelmendError as error:
            job.error = error
        return job

    def _predict_together(self, jobs: Sequence[_Job]) -> None:
        few = [job for job in jobs if self._together.suits(job.patches)]
        if len(few) < 2:
            return
        rasters = [job.image for job in few if isinstance(job.image, Raster)]
        found = self._together.scores(rasters)
        for job, scores in zip(few, found, strict=True):
            if isinstance(scores, LabelmendError):
                job.error = scores
            else:
                job.scores = scores

    # ------------------------------------------------------------------ one file

    def _finish(self, job: _Job) -> None:
        try:
            self._one_file(job)
        except RunError:
            raise  # the disk would refuse the next one too
        except LabelmendError as error:
            text = str(error)
            named = text if str(job.source) in text else f"{job.source}: {text}"
            self._outcome.failed.append(named)
        job.image = job.scores = None
        self._watcher.step(job.number, {})

    def _one_file(self, job: _Job) -> None:
        if job.error is not None:
            raise job.error
        if job.image is None:
            self._outcome.kept.append(self._record.made(job.target))
        else:
            affine = job.image.affine if isinstance(job.image, Raster) else None
            self._unlike.look(str(job.source), affine, job.image.spacing)
            made = self._make(job, job.image)
            self._record.add(job.target, job.sha256, [made, *job.places.values()])
            self._outcome.written.append(made)
        self.parts += [job.places["part"]] if "part" in job.places else []

    def _make(self, job: _Job, image: Raster | StripImage) -> Path:
        if isinstance(image, StripImage):
            with image:
                return self._in_strips(job, image)
        return self._in_memory(job, image)

    def _in_memory(self, job: _Job, raster: Raster) -> Path:
        predictor, target = self._predictor, job.target
        scores = predictor.scores(raster) if job.scores is None else job.scores
        label = predictor.decide(scores)
        make_folder(target.parent)
        if job.places:
            about = self._about(job.source, target, raster)
            with gathering(self._way.beside, job.places, about, predictor) as gatherer:
                for strip in cut(raster.array, scores):
                    rows = slice(strip.start, strip.start + strip.scores.shape[1])
                    gatherer.add(strip, label[rows])
        write_label(target, label, predictor.spec, raster)
        return target

    def _in_strips(self, job: _Job, image: StripImage) -> Path:
        predictor, beside = self._predictor, self._way.beside
        target = self._for_strips(job.source, job.target)
        make_folder(target.parent)
        about = self._about(job.source, target, image)
        with ExitStack() as stack:
            again = stack.enter_context(self._opener.again(job.source))
            progress = self._through_one_file(image, job.number, stack)
            gatherer = stack.enter_context(gathering(beside, job.places, about, predictor))

            def labels() -> Iterator[np.ndarray]:
                for strip in predict_in_strips(predictor, image, again, progress=progress):
                    label = predictor.decide(strip.scores)
                    gatherer.add(strip, label)
                    yield label

            write_label_strips(
                target,
                labels(),
                predictor.spec,
                size=about.size,
                spacing=image.spacing,
                georeference=image.georeference,
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

    def _about(self, source: Path, target: Path, image: Raster | StripImage) -> About:
        name = target.relative_to(self._out).as_posix()
        if isinstance(image, Raster):
            scanner = image.affine is not None
            return About(str(source), name, image.array.shape[1:], image.spacing, scanner)
        return About(str(source), name, tuple(image.shape[1:]), image.spacing)


def _patches(jobs: Sequence[_Job]) -> int:
    return sum(job.patches for job in jobs)
