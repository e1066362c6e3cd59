"""What a folder of predictions was made of, so that a stopped one goes on and nothing is redone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from labelmend.files.sources import hash_file
from labelmend.inference.predictor import Predictor
from labelmend.inference.temperature import parameter_bytes
from labelmend.runs.disk import Disk
from labelmend.runs.records import Lines, to_json

NAME = "predictions.jsonl"


class Record:
    """One line per finished label: of which image, by which model and options, in which files.

    A label counts as finished when the image has the same SHA-256, the parameters and the options
    are the same, every file that was made is still there, and so is every file that is wanted now.
    The trap: what was changed in such a file by hand stays.
    """

    def __init__(self, out: Path, by: str, step: int) -> None:
        self._out = out
        self._lines = Lines(out / NAME)
        self._by = by
        self._step = step
        self._known = {record["label"]: record for record in self._lines.read()}

    def __len__(self) -> int:
        return len(self._known)

    def is_finished(self, target: Path, sha256: str, beside: Iterable[Path] = ()) -> bool:
        """Whether the label is there, made of this image in this way, with the files beside it."""
        known = self._known.get(self._name(target))
        if known is None or (known["by"], known["input"]) != (self._by, sha256):
            return False
        if not {self._name(path) for path in beside} <= set(known["made"]):
            return False
        return all((self._out / name).exists() for name in known["made"])

    def made(self, target: Path) -> Path:
        """The label of a finished target; large ones can have another suffix than was planned."""
        return self._out / str(self._known[self._name(target)]["made"][0])

    def add(self, target: Path, sha256: str, made: Sequence[Path]) -> None:
        """A label is finished; ``made`` are its files, the label itself first.

        Raises:
            StorageError: when the disk refuses.
        """
        record: dict[str, Any] = {
            "step": self._step,
            "label": self._name(target),
            "input": sha256,
            "by": self._by,
            "made": [self._name(path) for path in made],
        }
        self._lines.append(record)
        self._known[record["label"]] = record

    def forget(self) -> None:
        """Remove the file: nothing is known any more."""
        self._known = {}
        if self._lines.path.exists():
            Disk.unlink(self._lines.path)

    def _name(self, path: Path) -> str:
        return Path(os.path.relpath(path, self._out)).as_posix()


def hash_image(path: Path) -> str:
    """The SHA-256 of an image's file, in hexadecimal."""
    return hash_file(path)


def hash_model(predictor: Predictor, options: object) -> str:
    """What decides, besides the image, what a label will be: parameters, preparation, options.

    Args:
        predictor: its network's parameters count, not its run's name.
        options: numbers, texts, lists or dicts.
    """
    digest = hashlib.sha256()
    for part in parameter_bytes(predictor.network):
        digest.update(part)
    about = {
        "model": predictor.model,
        "preparation": asdict(predictor.preparation),
        "patch": predictor.patch,
        "overlap": predictor.run.settings.input.overlap,
        "spec": asdict(predictor.spec),
        "options": options,
    }
    digest.update(to_json(about, "what predicts"))
    return digest.hexdigest()
