"""Give labels out: the labels of a data folder as files of another tool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from labelmend.catalogue.listing import IMAGES
from labelmend.catalogue.scan import open_data
from labelmend.errors import DataError, unknown
from labelmend.exchange.annotated import UNKNOWN, Labelled
from labelmend.exchange.classes import check_names
from labelmend.exchange.formats import FORMATS, Format
from labelmend.exchange.places import stem_of
from labelmend.files.readers import load_verified, read_as, read_label
from labelmend.progress import Silent, Watcher
from labelmend.runs import write_atomically
from labelmend.runs.appearing import appearing, check_free
from labelmend.telling import Telling
from labelmend.types import DataSet, Sample

Which = Literal["strong", "weak", "all"]


@dataclass(frozen=True, slots=True)
class Given(Telling):
    """What was given out: the folder, the format, and how many labels of how many images."""

    out: Path
    format: str
    labels: int
    images: int

    def to_text(self) -> str:
        """For people, in one line."""
        return (
            f"{self.labels} label{'s' * (self.labels != 1)} of {self.images} "
            f"image{'s' * (self.images != 1)} written as {self.format} to {self.out}"
        )


def export_labels(
    data: Path,
    out: Path,
    format: str,
    *,
    quality: Which = "all",
    annotator: str | None = None,
    copy_images: bool = False,
    watcher: Watcher | None = None,
) -> Given:
    """Write the labels of a data folder as another tool has them; exactly, or not at all.

    Args:
        data: the data folder; only read.
        out: a folder that does not exist or is empty; it appears when all is written.
        format: one of :data:`~labelmend.exchange.formats.FORMATS`.
        quality: which labels.
        annotator: only labels by this person.
        copy_images: copy the images beside the labels, where the tool looks for them.
        watcher: sees one step per label.

    Raises:
        DataError: when the data have a problem, or the format cannot hold what they say.
        SettingsError: for an unknown format.
        RunError: when ``out`` is occupied; StorageError: when the disk refuses.

    The trap: objects of one class that touch are one object afterwards, for labels have one class
    per position and no objects.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    chosen, watcher = FORMATS[format], watcher or Silent()
    check_free(out, data)
    dataset, _ = open_data(data, val_share=0.0, keep_splits=False)
    samples = _samples(dataset, chosen, quality, annotator)
    with appearing(out) as folder:
        giving = _Giving(folder, dataset, chosen, copy_images=copy_images)
        watcher.start(len(samples), 0)
        try:
            chosen.write(folder, giving.labels(samples, watcher), dataset.spec.classes)
        finally:
            watcher.finish()
    return Given(out, chosen.name, len(samples), len({sample.image for sample in samples}))


def _samples(
    dataset: DataSet, chosen: Format, quality: Which, annotator: str | None
) -> list[Sample]:
    spec = dataset.spec
    if spec.task != "segmentation" or spec.dims != chosen.dims:
        kind = "continuous values" if spec.task != "segmentation" else f"{spec.dims} space axes"
        fits = [f.name for f in FORMATS.values() if f.dims == spec.dims]
        way = f"; choose {' or '.join(fits)}" if spec.task == "segmentation" else ""
        raise DataError(
            f"{dataset.root}: its labels have {kind}, which {chosen.name} cannot hold{way}"
        )
    check_names(spec.classes)
    _check_images(dataset)
    samples = [
        sample
        for sample in dataset.samples
        if quality in ("all", sample.quality) and annotator in (None, sample.annotator)
    ]
    if not samples:
        raise DataError(f"{dataset.root}: has no such label; choose another --quality or annotator")
    counts = Counter(sample.image for sample in samples)
    image, count = counts.most_common(1)[0]
    if count > 1 and not chosen.several:
        raise DataError(
            f"{image}: has {count} labels, and {chosen.name} holds one per image; choose them with "
            "--quality or --annotator, or take label-studio"
        )
    return samples


def _check_images(dataset: DataSet) -> None:
    """Refuse images that would have one name: the second would take the place of the first."""
    named: dict[str, str] = {}
    for image in sorted({sample.image for sample in dataset.samples}):
        name = image.removeprefix(f"{IMAGES}/")
        if named.setdefault(name, image) != image:
            raise DataError(
                f"{dataset.root}: {named[name]} and {image} would both be called {name}; rename "
                "one of them"
            )


class _Giving:
    """Hands on one label after the other, each as it is read."""

    def __init__(
        self, folder: Path, dataset: DataSet, chosen: Format, *, copy_images: bool
    ) -> None:
        self.folder, self.dataset, self.chosen = folder, dataset, chosen
        self.copy_images = copy_images
        names = {_name(sample) for sample in dataset.samples}
        self._shared = {stem for stem, n in Counter(map(stem_of, names)).items() if n > 1}

    def labels(self, samples: list[Sample], watcher: Watcher) -> Iterator[Labelled]:
        """All of them, in order."""
        for number, sample in enumerate(samples, 1):
            yield self._labelled(sample)
            watcher.step(number, {})

    def _labelled(self, sample: Sample) -> Labelled:
        root, spec = Path(self.dataset.root), self.dataset.spec
        content = load_verified(root / sample.image, sample.image_sha256)
        image = read_as(root / sample.image, spec, content=content)
        stored = load_verified(root / sample.label, sample.label_sha256)
        index, known = read_label(root / sample.label, spec, image, content=stored)
        if not self.chosen.unknown and not known.all():
            raise DataError(
                f"{root / sample.label}: {int((~known).sum()):,} positions are unknown, which "
                f"{self.chosen.name} cannot say; choose another format"
            )
        name = _name(sample)
        if self.copy_images:
            target = self.folder / self.chosen.images.format(name=name, split=sample.split)
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target, content)
        return Labelled(
            name,
            name if stem_of(name) in self._shared else stem_of(name),
            np.where(known, index, UNKNOWN).astype(np.int32),
            image,
            sample.quality,
            sample.annotator,
            sample.split,
        )


def _name(sample: Sample) -> str:
    return sample.image.removeprefix(f"{IMAGES}/")
