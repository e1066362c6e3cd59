"""What is made of a prediction beside its label: conclusions, overlay, probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labelmend.errors import SettingsError
from labelmend.files.stripwise import ScoresFile, scores_file
from labelmend.inference.conclusions import Figures, check_parquet, conclude, write_part
from labelmend.inference.large import Strip
from labelmend.inference.objects import Collector
from labelmend.inference.overlay import Overlay
from labelmend.inference.rules import Rule, read_rules
from labelmend.runs import write_atomically
from labelmend.runs.atomic import keeping
from labelmend.types import DataSpec


@dataclass(frozen=True, slots=True)
class Beside:
    """What is wanted beside labels.

    Attributes:
        conclusions: the folder of tables of objects and files; None: no tables.
        overlays: whether to draw the outlines over every image, ``OUT/overlays/LABEL.png``.
        probabilities: whether to keep them, ``OUT/probabilities/LABEL.npy``, float16
            ``(classes, *space)``.
        smallest: objects of fewer positions are left out of the conclusions.
        rules: a table of a user's own, judged for every file.
        parquet: whether the tables are also written as Parquet.
    """

    conclusions: Path | None = None
    overlays: bool = False
    probabilities: bool = False
    smallest: int = 1
    rules: Path | None = None
    parquet: bool = False

    def check(self, spec: DataSpec) -> tuple[Rule, ...]:
        """The rules, read; everything that cannot be had is refused here, before any work.

        Raises:
            SettingsError, DataError: naming the option, or file and line of the rules.
        """
        wanted = {
            "--conclusions": self.conclusions is not None,
            "--overlays": self.overlays,
            "--probabilities": self.probabilities,
        }
        asked = [name for name, on in wanted.items() if on]
        if spec.task == "regression" and asked:
            raise SettingsError(f"{asked[0]} is for classes, and this run predicts numbers")
        if self.overlays and spec.dims == 1:
            raise SettingsError("--overlays is for images and volumes; recordings have no outlines")
        if self.conclusions is None and (self.rules or self.parquet or self.smallest != 1):
            raise SettingsError("--rules, --parquet and --smallest go with --conclusions; add it")
        if self.smallest < 1:
            raise SettingsError(f"--smallest is at least 1 position, not {self.smallest}")
        if self.parquet:
            check_parquet()
        return () if self.rules is None else read_rules(self.rules, Figures(spec).names)

    def places(self, out: Path, label: Path) -> dict[str, Path]:
        """The files that are made beside a label, by what they are; ``label`` is below ``out``."""
        found: dict[str, Path] = {}
        if self.conclusions is not None:
            found["part"] = _longer(self.conclusions / "parts" / label, ".json")
        if self.overlays:
            found["overlay"] = _longer(out / "overlays" / label, ".png")
        if self.probabilities:
            found["probabilities"] = _longer(out / "probabilities" / label, ".npy")
        return found


def _longer(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


@dataclass(frozen=True, slots=True)
class About:
    """The file that is predicted: names, size, spacing."""

    file: str
    label: str
    size: tuple[int, ...]
    spacing: Sequence[float] | None


@contextmanager
def gathering(
    beside: Beside, places: dict[str, Path], about: About, spec: DataSpec
) -> Iterator[Gatherer]:
    """Something to hand strips to; when the body ends well, the files are written.

    Raises:
        StorageError: when the disk refuses.
    """
    with ExitStack() as stack:
        scores: ScoresFile | None = None
        if "probabilities" in places:
            shape = (len(spec.classes), *about.size)
            with keeping("the probabilities", places["probabilities"].parent, 0):
                scores = stack.enter_context(scores_file(places["probabilities"], shape))
        collector = Collector(beside.smallest) if "part" in places else None
        overlay = Overlay(about.size) if "overlay" in places else None
        yield Gatherer(collector, overlay, scores)
    if overlay is not None:
        target = places["overlay"]
        with keeping("the overlays", target.parent, 0):
            target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, overlay.to_png())
    if collector is not None:
        objects = collector.finish()
        found = (collector.counts.tolist(), objects)
        names = (about.file, about.label)
        write_part(places["part"], conclude(names, about.size, about.spacing, found, spec))


@dataclass(frozen=True, slots=True)
class Gatherer:
    """Takes strips of one file in order; made by :func:`gathering`."""

    collector: Collector | None
    overlay: Overlay | None
    probabilities: ScoresFile | None

    def add(self, strip: Strip, label: np.ndarray) -> None:
        """A strip, and its class indices ``(n, *rest)``."""
        if self.overlay is not None:
            self.overlay.add(strip.start, strip.image, label)
        if self.probabilities is not None:
            self.probabilities.write(strip.start, softmax(strip.scores))
        if self.collector is not None:
            self.collector.add(label, strip.image, certainty(strip.scores))


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities ``(classes, *space)`` float32 of scores.

    >>> softmax(np.array([[0.0, 1000.0], [0.0, 0.0]])).tolist()
    [[0.5, 1.0], [0.5, 0.0]]
    """
    shares = np.exp(scores - scores.max(0)).astype(np.float32, copy=False)
    shares /= shares.sum(0)
    return np.asarray(shares)


def certainty(scores: np.ndarray) -> np.ndarray:
    """The probability of the most probable class, ``(*space)``.

    >>> certainty(np.array([[0.0, 1000.0], [0.0, 0.0]])).tolist()
    [0.5, 1.0]
    """
    return np.asarray(1 / np.exp(scores - scores.max(0)).sum(0))
