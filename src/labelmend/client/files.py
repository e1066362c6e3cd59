"""Files and folders, predicted by a server: what ``labelmend predict --server`` does."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from labelmend.client.asking import Client, read_object, read_warnings
from labelmend.errors import DataError, LabelmendError
from labelmend.files.sources import read_bytes
from labelmend.inference.conclusions import Conclusion, Figures, write_conclusions
from labelmend.inference.inputs import make_folder, plan
from labelmend.inference.rules import Rule, read_rules
from labelmend.inference.unlike import say_lie
from labelmend.progress import Silent, Watcher
from labelmend.runs import write_atomically
from labelmend.types import DataSet, DataSpec, Sample

AT_ONCE = 4
"""Files that are on their way at the same time."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wanted of files.

    Attributes:
        flips: whether mirror images are predicted too and the mean is taken.
        conclusions: the folder of tables of objects and files; None: no tables.
        smallest: objects of fewer positions are left out of them.
        rules: a table of a user's own, judged for every file.
        parquet: whether the tables are also written as Parquet.
    """

    flips: bool = False
    conclusions: Path | None = None
    smallest: int = 1
    rules: Path | None = None
    parquet: bool = False


@dataclass(slots=True)
class Got:
    """What came of files: as :class:`labelmend.inference.way.Outcome`."""

    written: list[Path] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    conclusions: list[Conclusion] = field(default_factory=list)
    rules: tuple[Rule, ...] = ()
    unjudged: list[str] = field(default_factory=list)
    unlike: dict[str, list[Path]] = field(default_factory=dict)
    """Inputs, by how they lie unlike all that the network learned from."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """One for every way in which files lie unlike all that the network learned from."""
        return tuple(
            f"{say_lie(str(sources[0]), len(sources))} {how}"
            for how, sources in self.unlike.items()
        )


@dataclass(frozen=True, slots=True)
class _Made:
    """What came of one file: its conclusions where they were asked for, and how it is unlike."""

    source: Path
    target: Path
    conclusion: Conclusion | None
    unlike: tuple[str, ...]


def predict_files(
    client: Client,
    inputs: Sequence[Path],
    out: Path,
    wish: Wish | None = None,
    *,
    watcher: Watcher | None = None,
) -> Got:
    """The files that ``labelmend predict`` writes, of the same names, predicted elsewhere.

    Raises:
        DataError, SettingsError: before anything is sent, as :func:`labelmend.predict_files`.
        RunError: when the server is gone, or the disk refuses.

    The trap: files of the data set are not known here; only inputs are safe from being replaced.
    """
    wish, watcher, spec = wish or Wish(), watcher or Silent(), client.spec
    figures = Figures(spec)
    rules = () if wish.rules is None else read_rules(wish.rules, figures.names)
    planned = plan(inputs, out, _data(client, spec))
    make_folder(out)
    got = Got(rules=rules)
    watcher.start(len(planned), 0)

    def one(target: Path) -> _Made | LabelmendError:
        return _one_file(client, wish, planned[target], target, out)

    try:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for number, made in enumerate(threads.map(one, planned), 1):
                if isinstance(made, LabelmendError):
                    got.failed.append(str(made))
                else:
                    _note(got, made)
                watcher.step(number, {})
    finally:
        watcher.finish()
    if wish.conclusions is not None:
        got.conclusions = [_judged(each, got, figures) for each in got.conclusions]
        write_conclusions(wish.conclusions, got.conclusions, spec, parquet=wish.parquet)
    return got


def _one_file(
    client: Client, wish: Wish, source: Path, target: Path, out: Path
) -> _Made | LabelmendError:
    """Write one label; what came of it, or why there is none."""
    drawn = None
    try:
        content = read_bytes(source)
        if wish.conclusions is None:
            label, headers = client.send(content, source.name, flips=wish.flips)
            told = read_warnings(headers)
        else:
            asked = {"answer": "json", "conclusions": True, "smallest": wish.smallest}
            body, _ = client.send(content, source.name, flips=wish.flips, **asked)
            found = read_object(body, "label")
            told = tuple(found.get("warnings", ()))
            label = base64.b64decode(found["label"]["base64"])
            drawn = Conclusion.from_json(
                {k: v for k, v in found["conclusions"].items() if k != "classes"}
            )
            name = target.relative_to(out).as_posix()
            drawn = replace(drawn, file=str(source), label=name)
    except DataError as error:
        text = str(error).removeprefix(f"{source.name}: ")
        return error if str(source) in str(error) else DataError(f"{source}: {text}")
    make_folder(target.parent)
    write_atomically(target, label)
    unlike = tuple(one.removeprefix(f"{source.name} lies ") for one in told)
    return _Made(source, target, drawn, unlike)


def _note(got: Got, made: _Made) -> None:
    got.written.append(made.target)
    got.conclusions += [] if made.conclusion is None else [made.conclusion]
    for how in made.unlike:
        got.unlike.setdefault(how, []).append(made.source)


def _judged(conclusion: Conclusion, got: Got, figures: Figures) -> Conclusion:
    for rule in got.rules:
        try:
            conclusion = figures.judge(conclusion, rule)
        except DataError as error:
            got.unjudged.append(str(error))
    return conclusion


def _data(client: Client, spec: DataSpec) -> DataSet:
    """A data set like the one that lies elsewhere, as far as names of labels go by it."""
    samples = tuple(
        Sample(f"image{suffix}", f"label{suffix}", "strong", "train", "")
        for suffix in client.model["image_suffixes"]
    )
    return DataSet(os.devnull, spec, samples)
