"""One training on disk: what it was begun with, what it recorded, its checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labelmend.config import Settings
from labelmend.errors import DataError, RunError
from labelmend.runs.atomic import keeping, sweep, sync_folder, write_atomically, write_folder
from labelmend.runs.checkpoints import (
    Checkpoint,
    Which,
    drop_beyond,
    list_places,
    load_checkpoint,
    save_checkpoint,
)
from labelmend.runs.description import Description, LeftOut, Problem
from labelmend.runs.disk import Disk
from labelmend.runs.locks import Lock
from labelmend.runs.records import Lines, from_table, plain, read_field, sync_lines, to_table
from labelmend.runs.sums import read_bytes
from labelmend.runs.whereabouts import NOTE, way_to
from labelmend.types import DataSet, Sample

_METRICS, _HISTORY = "metrics.jsonl", "weights.jsonl"
_WEIGHTS, _PLACES = "weights.csv", "places.csv"
_ABOUT = ("id", "quality", "group", "annotator")


class Run:
    """A run folder: the one place where training, prediction, report and review meet.

    Many may read it at once; one process at a time writes it, inside :meth:`claim`.
    Made by :meth:`create` or :meth:`open`, not directly.
    """

    def __init__(self, path: Path, description: Description) -> None:
        self.path = path
        self._description = description
        self._metrics = Lines(path / _METRICS)
        self._history = Lines(path / _HISTORY)
        self._checkpoints = path / "checkpoints"
        self._lock = Lock(path / ".lock")

    def __repr__(self) -> str:
        """``Run('RUN')``, by the path it was opened at."""
        return f"Run({str(self.path)!r})"

    @classmethod
    def create(
        cls,
        path: Path,
        settings: Settings,
        data: DataSet,
        facts: Mapping[str, object],
        problems: Iterable[Problem] = (),
    ) -> Run:
        """Begin a run in a folder that does not exist or is empty.

        A crash leaves no run or a whole one. ``facts`` is what training found out and others
        need (channels, patch, statistics of the preparation): numbers, texts, lists, dicts.

        Raises:
            RunError: when the folder holds something.
            SettingsError: when the settings would not come back equal from their file.
            StorageError: when the disk refuses.
        """
        path = Path(path).resolve()
        way = way_to(path, data.root)
        files = Description.make(settings, data, facts, problems, way).files()
        refuse_occupied(path)
        with keeping("the run", path, sum(len(content) for content in files.values())):
            _make_folder(path.parent)
            sweep(path.parent, frozenset([path.name]))
            write_folder(path, files.items())
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Run:
        """An existing run, after checking what it was begun with.

        Raises:
            RunError: when there is no run.
            DamagedError: when a file differs from its checksum, naming it.
            SettingsError: when its settings are not those of this version.
        """
        path = Path(path).resolve()
        return cls(path, Description.read(path))

    @property
    def settings(self) -> Settings:
        """The settings as resolved when the run began."""
        return self._description.settings

    @property
    def data(self) -> DataSet:
        """The data set with splits and a hash per file, as it was when the run began.

        Its root is where the data lie by now, as far as that is known; see :meth:`data_folder`.
        """
        return self._description.data

    def data_folder(self) -> Path:
        """Where the data lie by now.

        Raises:
            DataError: when they are not there.
        """
        root = Path(self.data.root)
        if not root.is_dir():
            raise DataError(
                f"{root} does not exist any more, and {self.path} was trained on the data there; "
                f"put it back, or say where it is now: labelmend attach {self.path} DATA"
            )
        return root

    @property
    def facts(self) -> dict[str, Any]:
        """What training found out when the run began."""
        return self._description.facts

    @property
    def environment(self) -> dict[str, Any]:
        """Versions and hardware the run began on."""
        return self._description.environment

    @property
    def problems(self) -> tuple[LeftOut, ...]:
        """Files that were left out, and why."""
        return self._description.problems

    @property
    def weak(self) -> tuple[Sample, ...]:
        """The samples of the weights' history: the weak ones of any split, in manifest order."""
        return tuple(sample for sample in self.data.samples if sample.quality == "weak")

    @contextmanager
    def claim(self) -> Iterator[Run]:
        """Be the only process that writes, and clear away what a killed one left half-written.

        Raises:
            RunError: when another process holds the run, naming it.
        """
        if self._lock.held:
            yield self
            return
        with keeping("the lock", self.path, 100):
            self._lock.acquire()
        try:
            with keeping("the run", self.path, 0):
                self._sweep()
            yield self
        finally:
            self._lock.release()

    def log(self, record: Mapping[str, object]) -> None:
        """Add a record with its ``step`` and ``kind`` to the metrics; numbers come back exactly.

        Raises:
            NonFiniteError: for NaN or infinity, naming its place; nothing is written then.
        """
        self._metrics.append(record)

    def metrics(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The records of one kind or of all, in the order they were logged.

        Raises:
            DamagedError: for a damaged line that is not the last.
        """
        return [r for r in self._metrics.read() if kind is None or r.get("kind") == kind]

    def log_weights(self, step: int, columns: Mapping[str, Iterable[float | None]]) -> None:
        """Add a weight step to the history: a value per sample of :attr:`weak` and column.

        ``None`` says that a sample was not updated; NaN is refused.

        Raises:
            RunError: when a column is not as long as :attr:`weak`.
            NonFiniteError: for NaN or infinity, naming column and sample.
        """
        names = [sample.id for sample in self.weak]
        checked = {}
        for column, values in columns.items():
            listed = list(values)
            if len(listed) != len(names):
                raise RunError(
                    f"column {column!r} of step {step} has {len(listed)} values; "
                    f"the run has {len(names)} weak samples"
                )
            pairs = zip(listed, names, strict=True)
            checked[column] = [plain(v, f"{column} of {name} at step {step}") for v, name in pairs]
        self._history.append({"step": step, "columns": checked})

    def weight_history(self) -> list[dict[str, Any]]:
        """Every weight step: ``step`` and ``columns``, each a list in the order of :attr:`weak`."""
        return self._history.read()

    def write_weights(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Replace the table of latest weights by these rows, each with an ``id``.

        Quality, group and annotator are filled in from the manifest.
        """
        self._write_table(_WEIGHTS, rows)

    def weights(self) -> list[dict[str, Any]]:
        """The table of latest weights; none before the first.

        Numbers come back as numbers and empty fields as ``None``. A trap: so does a text that
        looks like a number, except in ``id``, ``quality``, ``group`` and ``annotator``.
        """
        return self._table(_WEIGHTS)

    def write_places(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Replace the table of where labels were found to belong, as :meth:`write_weights`."""
        self._write_table(_PLACES, rows)

    def places(self) -> list[dict[str, Any]]:
        """The table of where labels were found to belong; none where no label was put in place."""
        return self._table(_PLACES)

    def _write_table(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        what = name.partition(".")[0]
        samples = {sample.id: sample for sample in self.data.samples}
        columns = dict.fromkeys(_ABOUT)
        filled = []
        for row in rows:
            sample = samples.get(str(row.get("id")))
            if sample is None:
                raise RunError(f"{what} are of samples of this run, not {row.get('id')!r}")
            about = {column: getattr(sample, column) for column in _ABOUT}
            filled.append(plain({**row, **about}, f"{what} of {sample.id}"))
            columns.update(dict.fromkeys(row))
        write_atomically(self.path / name, to_table(filled, list(columns)))

    def _table(self, name: str) -> list[dict[str, Any]]:
        path = self.path / name
        if not path.exists():
            return []
        rows = from_table(read_bytes(path), str(path))
        return [{k: v if k in _ABOUT else read_field(v) for k, v in row.items()} for row in rows]

    def save(self, checkpoint: Checkpoint, *, keep: int = 2, best_step: int | None = None) -> None:
        """Keep a checkpoint, and of the earlier ones the last ``keep - 1`` and the best.

        When this returns, the checkpoint and all records so far have reached the disk. A crash
        at any moment leaves every complete checkpoint that was to be kept. ``best_step`` goes
        into the state under that name; without it the state's own is used. A state may name the
        best step of a first ending besides, as ``first_best_step``.

        Raises:
            StorageError: when the disk refuses; the earlier ones are intact.
        """
        if keep < 1:
            raise RunError(f"at least 1 checkpoint has to be kept, not {keep}")
        if best_step is not None:
            state = {**checkpoint.state, "best_step": best_step}
            checkpoint = Checkpoint(checkpoint.step, checkpoint.tensors, state)
        with self.claim():
            with keeping("the records", self.path, 0):
                sync_lines(self._metrics, self._history)
            save_checkpoint(self._checkpoints, checkpoint, keep)

    def load(self, which: Which = "last") -> Checkpoint:
        """The last checkpoint, the best one, or that of a step, after checking all its files.

        A damaged last or best one is passed over for the newest whole one before it; ``notes``
        of the checkpoint then name the damaged files. A step asked for by number is not replaced.

        Raises:
            DamagedError: when none that would do is whole, naming the files.
            RunError: when there is no such checkpoint.
            SettingsError: for what is neither ``last`` nor ``best`` nor a step.
        """
        return load_checkpoint(self._checkpoints, which)

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, not checked, in rising order."""
        return sorted({place.step for place in list_places(self._checkpoints)})

    def rewind(self, step: int) -> None:
        """Forget records and checkpoints of later steps, so that training can go on from here.

        A trap: the table of latest weights stays; write it anew.
        """
        with self.claim():
            drop_beyond(self._checkpoints, step)
            with keeping("the records", self.path, 0):
                self._metrics.rewind(step)
                self._history.rewind(step)

    def folder(self, name: str) -> Path:
        """A folder of that name inside the run, made if need be, for others to write in."""
        path = self.path / name
        if path.parent != self.path or name in ("", ".", "..", self._checkpoints.name):
            raise RunError(f"a folder inside a run has a plain name of its own, not {name!r}")
        with keeping(f"the folder {name}", self.path, 0):
            if not path.is_dir():
                Disk.mkdir(path)
        return path

    def _sweep(self) -> None:
        sweep(self.path, frozenset([_METRICS, _HISTORY, _WEIGHTS, _PLACES, NOTE]))
        if self._checkpoints.exists():
            sweep(self._checkpoints)


def refuse_occupied(path: Path) -> None:
    """Refuse a folder for a new run that holds something.

    Raises:
        RunError: naming it.
    """
    file = next((p for p in (path, *path.parents) if p.exists() and not p.is_dir()), None)
    if file is not None:
        raise RunError(f"{file} is a file; a run needs a folder of its own: give another --out")
    if path.exists() and any(path.iterdir()):
        raise RunError(
            f"{path} is not empty; give another --out, or --resume {path} to go on with a run there"
        )


def _make_folder(path: Path) -> None:
    if not path.exists():
        _make_folder(path.parent)
        Disk.mkdir(path)
        sync_folder(path.parent)
