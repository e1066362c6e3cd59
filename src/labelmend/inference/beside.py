"""What is made of a prediction beside its label: conclusions, overlay, probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from labelmend.errors import SettingsError
from labelmend.files.stripwise import ScoresFile, scores_file
from labelmend.inference.conclusions import (
    UNSURE,
    Conclusion,
    Figures,
    check_parquet,
    conclude,
    write_part,
)
from labelmend.inference.large import Strip
from labelmend.inference.objects import Collector
from labelmend.inference.overlay import Overlay
from labelmend.inference.predictor import Predictor
from labelmend.inference.probabilities import certainty, disagreement, entropy, softmax
from labelmend.inference.rules import Rule, read_rules
from labelmend.runs import write_atomically
from labelmend.runs.atomic import keeping
from labelmend.types import DataSpec

__all__ = ["About", "Beside", "Gatherer", "certainty", "gathering", "uncertainty"]


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
        uncertainty: whether to keep how undecided the network is at every position,
            ``OUT/uncertainty/LABEL.npy``, float16 ``(1, *space)`` from 0 to 1, and to put its mean
            into the conclusions. Of a run with two networks ``(2, *space)``: how far they disagree
            comes second.
    """

    conclusions: Path | None = None
    overlays: bool = False
    probabilities: bool = False
    smallest: int = 1
    rules: Path | None = None
    parquet: bool = False
    uncertainty: bool = False

    def check(self, spec: DataSpec, two: bool = False) -> tuple[Rule, ...]:
        """The rules, read; everything that cannot be had is refused here, before any work.

        Args:
            spec: what the data set's files share.
            two: whether the run trained two networks.

        Raises:
            SettingsError, DataError: naming the option, or file and line of the rules.
        """
        wanted = {
            "--conclusions": self.conclusions is not None,
            "--overlays": self.overlays,
            "--probabilities": self.probabilities,
            "--uncertainty": self.uncertainty,
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
        if self.rules is None:
            return ()
        rules = read_rules(self.rules, Figures(spec, UNSURE[: 1 + two]).names)
        unknown = {a for rule in rules for a in rule.asks_for} - set(Figures(spec).names)
        if unknown and not self.uncertainty:
            raise SettingsError(f"{self.rules} asks for {min(unknown)}; add --uncertainty")
        return rules

    def places(self, out: Path, label: Path) -> dict[str, Path]:
        """The files that are made beside a label, by what they are; ``label`` is below ``out``."""
        found: dict[str, Path] = {}
        if self.conclusions is not None:
            found["part"] = _longer(self.conclusions / "parts" / label, ".json")
        if self.overlays:
            found["overlay"] = _longer(out / "overlays" / label, ".png")
        if self.probabilities:
            found["probabilities"] = _longer(out / "probabilities" / label, ".npy")
        if self.uncertainty:
            found["uncertainty"] = _longer(out / "uncertainty" / label, ".npy")
        return found


def _longer(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


@dataclass(frozen=True, slots=True)
class About:
    """The file that is predicted: names, size, spacing, whether it is a scanner's volume."""

    file: str
    label: str
    size: tuple[int, ...]
    spacing: Sequence[float] | None
    scanner: bool = False


@contextmanager
def gathering(
    beside: Beside, places: dict[str, Path], about: About, predictor: Predictor
) -> Iterator[Gatherer]:
    """Something to hand strips to; when the body ends well, the files are written.

    Raises:
        StorageError: when the disk refuses.
    """
    spec = predictor.spec
    with ExitStack() as stack:
        maps: dict[str, ScoresFile] = {}
        unsure = min(2, predictor.outputs // len(spec.classes))
        for name, many in (("probabilities", len(spec.classes)), ("uncertainty", unsure)):
            if name in places:
                with keeping(f"the {name}", places[name].parent, 0):
                    shape = (many, *about.size)
                    maps[name] = stack.enter_context(scores_file(places[name], shape))
        collector = Collector(beside.smallest) if "part" in places else None
        overlay = None
        if "overlay" in places:
            overlay = Overlay(about.size, about.spacing, scanner=about.scanner)
        yield Gatherer(predictor, collector, overlay, maps)
    if overlay is not None:
        target = places["overlay"]
        with keeping("the overlays", target.parent, 0):
            target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, overlay.to_png())
    if collector is not None:
        write_part(places["part"], _concluded(collector, about, spec))


def _concluded(collector: Collector, about: About, spec: DataSpec) -> Conclusion:
    objects = collector.finish()
    found = (collector.counts.tolist(), objects)
    unsure = (collector.unsure / prod(about.size)).tolist()
    return conclude((about.file, about.label), about.size, about.spacing, found, spec, unsure)


@dataclass(frozen=True, slots=True)
class Gatherer:
    """Takes strips of one file in order; made by :func:`gathering`."""

    predictor: Predictor
    collector: Collector | None
    overlay: Overlay | None
    maps: dict[str, ScoresFile]

    def add(self, strip: Strip, label: np.ndarray) -> None:
        """A strip, and its class indices ``(n, *rest)``."""
        many, temperature = len(self.predictor.spec.classes), self.predictor.temperature
        unsure: Sequence[np.ndarray] = ()
        if "uncertainty" in self.maps:
            unsure = uncertainty(self.predictor, strip.scores)
            self.maps["uncertainty"].write(strip.start, np.stack(unsure))
        if self.overlay is not None:
            self.overlay.add(strip.start, strip.image, label)
        if "probabilities" in self.maps:
            shares = self.predictor.probabilities(strip.scores)
            self.maps["probabilities"].write(strip.start, shares)
        if self.collector is not None:
            sure = certainty(strip.scores[:many], temperature)
            self.collector.add(label, strip.image, sure, unsure)


def uncertainty(predictor: Predictor, scores: np.ndarray) -> list[np.ndarray]:
    """How uncertain a prediction is, ``(*space)`` float32 from 0 to 1.

    First how undecided what predicts is: the entropy of its probabilities, by its temperature.
    Where two networks were heard, second, how far their probabilities differ as the networks give
    them: by the temperature, that was found to tell less of where errors are.

    Args:
        predictor: what predicted.
        scores: all that came out, ``(parts * classes, *space)``.
    """
    many = len(predictor.spec.classes)
    parts = [scores[first : first + many] for first in range(0, len(scores), many)]
    found = [entropy(softmax(parts[0], predictor.temperature))]
    return found if len(parts) == 1 else [*found, disagreement(*map(softmax, parts[-2:]))]
