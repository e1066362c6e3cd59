"""Predict files and folders of them, and write labels of the family that such images have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from labelmend.errors import DataError
from labelmend.inference.conclusions import (
    UNSURE,
    Conclusion,
    Figures,
    read_part,
    write_conclusions,
)
from labelmend.inference.inputs import (
    label_name,
    make_folder,
    plan,
    refuse_replacing,
    written_suffix,
)
from labelmend.inference.predictor import Predictor
from labelmend.inference.rules import Rule
from labelmend.inference.way import Outcome, Way, as_wished
from labelmend.inference.working import Work
from labelmend.progress import Silent, Watcher

__all__ = ["Outcome", "Way", "label_name", "predict_all", "predict_files", "written_suffix"]


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
    to the same label; small ones several at a time. While it works, ``OUT/predictions.jsonl``
    says what is finished; it stays when the work was stopped, and with ``way.resume``, which skips
    what is finished.

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
    rules = way.beside.check(predictor.spec, predictor.run.settings.dual.use)
    way.check()
    planned = plan(inputs, out, predictor.run.data)
    beside = [p for t in planned for p in way.beside.places(out, t.relative_to(out)).values()]
    refuse_replacing(beside, planned.values(), predictor.run.data)
    make_folder(out)
    work = Work(as_wished(predictor, way), out, way, watcher, planned)
    outcome = work.all_files()
    if way.beside.conclusions is None:
        return outcome
    judged, unjudged = _judge(work.parts, predictor, rules)
    folder, parquet = way.beside.conclusions, way.beside.parquet
    write_conclusions(folder, judged, predictor.spec, parquet=parquet)
    return replace(outcome, conclusions=judged, rules=rules, unjudged=tuple(unjudged))


def _judge(
    parts: Sequence[Path], predictor: Predictor, rules: Sequence[Rule]
) -> tuple[list[Conclusion], list[str]]:
    """The conclusions with their flags, and what could not be judged."""
    figures = Figures(predictor.spec, UNSURE)
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
