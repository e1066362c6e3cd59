"""What goes back: label files, runs of positions, pictures, conclusions."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import numpy as np

from labelmend.errors import DataError, SettingsError
from labelmend.files.formats import split_name
from labelmend.files.readers import read_image
from labelmend.files.values import to_values
from labelmend.files.writers import write_label
from labelmend.inference.conclusions import Conclusion, Figures, conclude
from labelmend.inference.inputs import label_name
from labelmend.inference.large import cut
from labelmend.inference.objects import Collector
from labelmend.inference.opening import check_channels
from labelmend.inference.overlay import Overlay
from labelmend.inference.predictor import Predictor
from labelmend.inference.probabilities import certainty
from labelmend.inference.unlike import Unlike
from labelmend.serve.asked import SUFFIX_OF, Question
from labelmend.types import DataSpec, Raster

_MEDIA = {
    ".png": "image/png",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".ome.tif": "image/tiff",
    ".ome.tiff": "image/tiff",
    ".nii": "application/x-nifti",
    ".nii.gz": "application/gzip",
    ".npy": "application/x-npy",
    ".csv": "text/csv",
}


@dataclass(frozen=True, slots=True)
class File:
    """A file as bytes, with its name and content type."""

    name: str
    media: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a question: a file, or plain values for JSON; the headers that go with it."""

    body: File | dict[str, Any]
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Prediction:
    """An image as read, and what the network makes of it.

    ``scores`` are ``(scores, *space)`` float32, on the positions of the image.
    """

    question: Question
    raster: Raster
    scores: np.ndarray
    predictor: Predictor
    label: np.ndarray = field(init=False)
    """Class indices ``(*space)``; for regression ``(channels, *space)``."""
    warnings: list[str] = field(init=False)
    """In which ways the image lies unlike all that the network learned from."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", self.predictor.decide(self.scores))
        unlike = Unlike.of(self.predictor)
        unlike.look(self.question.name, self.raster.affine, self.raster.spacing)
        object.__setattr__(self, "warnings", unlike.said())

    @property
    def spec(self) -> DataSpec:
        """What the data that the network was trained on had in common."""
        return self.predictor.spec


def read(question: Question, body: bytes, spec: DataSpec, limit: int) -> Raster:
    """The image that was sent, read by the very readers of ``labelmend predict``.

    Raises:
        DataError: for what cannot be read, promises more than ``limit`` bytes, or has other
            channels than in training.
    """
    path = Path(question.name)  # only shown: the bytes are here already
    axis = question.channels or spec.channel_axis
    raster = read_image(path, content=body, dims=spec.dims, channel_axis=axis, limit=limit)
    check_channels(path, raster.array.shape[0], spec.channels)
    return raster if spec.spacing is None else replace(raster, spacing=spec.spacing)


def reply(found: Prediction, *, look: str | None = None) -> Reply:
    """What was asked for.

    Args:
        found: a prediction, with its question.
        look: the name under which image and label can be looked at.

    Raises:
        SettingsError, DataError: when this label cannot be had in this way.
    """
    wanted, headers = found.question.answer, _headers(found)
    if wanted == "overlay":
        return _file(overlay_of(found), headers)
    if wanted == "rle":
        return Reply(_about(found, look) | {"label": runs_of(found)}, headers)
    file = file_of(found)
    if wanted != "json":
        return _file(file, headers)
    content = base64.b64encode(file.content).decode("ascii")
    label = {"name": file.name, "type": file.media, "base64": content}
    return Reply(_about(found, look) | {"label": label}, headers)


def file_of(found: Prediction) -> File:
    """The label as a file: to the last byte what ``labelmend predict`` writes in this format.

    Raises:
        DataError: when the format cannot hold it.
    """
    question, spec = found.question, found.spec
    suffix = SUFFIX_OF.get(question.answer)
    if suffix is None:
        name = label_name(question.name, found.predictor.run.data)
    else:
        name = split_name(question.name)[0] + suffix
    kind = split_name(name)[1]
    with TemporaryDirectory(prefix="labelmend-") as folder:
        path = Path(folder) / f"label{kind}"
        try:
            write_label(path, found.label, spec, found.raster)
        except DataError as error:
            raise DataError(str(error).replace(str(path), name)) from error
        return File(name, _MEDIA.get(kind, "application/octet-stream"), path.read_bytes())


def overlay_of(found: Prediction) -> File:
    """The outlines of the classes over the image; of a volume, over its middle slice.

    Raises:
        SettingsError: for recordings and for regression.
    """
    if found.spec.task == "regression" or found.spec.dims == 1:
        raise SettingsError("answer=overlay is for classes in images and volumes")
    raster = found.raster
    scanner = raster.affine is not None
    overlay = Overlay(raster.array.shape[1:], raster.spacing, scanner=scanner)
    overlay.add(0, raster.array, found.label)
    name = f"{label_name(found.question.name, found.predictor.run.data)}.png"
    return File(name, "image/png", overlay.to_png())


def runs_of(found: Prediction) -> dict[str, Any]:
    """Runs of positions per class but the background, as COCO's uncompressed ``counts``.

    Positions are taken with the first axis changing quickest; the lengths of runs outside and
    inside alternate, from outside. With two axes it is what pycocotools reads.

    Raises:
        SettingsError: for regression.
    """
    spec = found.spec
    if spec.task == "regression":
        raise SettingsError("answer=rle is for classes, and this run predicts numbers")
    values = to_values(np.arange(len(spec.classes)), spec)
    flat = found.label.ravel(order="F")
    classes = [
        {"class": name, "value": int(values[index]), "counts": lengths(flat == index)}
        for index, name in enumerate(spec.classes)
        if index
    ]
    return {"size": list(found.label.shape), "background": int(values[0]), "classes": classes}


def lengths(inside: np.ndarray) -> list[int]:
    """How long the runs of a flat mask are, the first one outside.

    >>> lengths(np.array([True, True, False])), lengths(np.array([False]))
    ([0, 2, 1], [1])
    """
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    ends = [0, *edges.tolist(), len(inside)]
    found = [b - a for a, b in pairwise(ends)]
    return [0, *found] if len(inside) and inside[0] else found


def conclude_on(found: Prediction) -> Conclusion:
    """The figures of ``labelmend predict --conclusions``.

    Raises:
        SettingsError: for regression; DataError: for a label of noise.
    """
    spec, question = found.spec, found.question
    if spec.task == "regression":
        raise SettingsError("conclusions=true is for classes, and this run predicts numbers")
    collector = Collector(question.smallest)
    for strip in cut(found.raster.array, found.scores):
        rows = slice(strip.start, strip.start + strip.scores.shape[1])
        sure = certainty(strip.scores, found.predictor.temperature)
        collector.add(found.label[rows], strip.image, sure)
    objects = collector.finish()
    names = (question.name, label_name(question.name, found.predictor.run.data))
    size, spacing = found.raster.array.shape[1:], found.raster.spacing
    return conclude(names, size, spacing, (collector.counts.tolist(), objects), spec)


def _about(found: Prediction, look: str | None) -> dict[str, Any]:
    conclusions: dict[str, Any] | None = None
    if found.question.conclusions:
        drawn = conclude_on(found)
        conclusions = drawn.to_json() | {"classes": Figures(found.spec).summary(drawn)}
    spacing, affine = found.raster.spacing, found.raster.affine
    return {
        "name": found.question.name,
        "size": list(found.raster.array.shape[1:]),
        "spacing": None if spacing is None else list(spacing),
        "affine": None if affine is None else affine.tolist(),
        "step": found.predictor.step,
        "conclusions": conclusions,
        "warnings": found.warnings,
        "look": look,
    }


def _headers(found: Prediction) -> dict[str, str]:
    """Where the label lies, for answers that are no JSON."""
    raster = found.raster
    headers = {"X-Size": _listed(raster.array.shape[1:]), "X-Step": str(found.predictor.step)}
    if raster.spacing is not None:
        headers["X-Spacing"] = _listed(raster.spacing)
    if raster.affine is not None:
        headers["X-Affine"] = _listed(raster.affine.ravel().tolist())
    if found.warnings:
        headers["X-Warnings"] = json.dumps(found.warnings)  # a header holds ASCII, and so does this
    return headers


def _file(file: File, headers: dict[str, str]) -> Reply:
    name = quote(file.name, safe="", errors="replace")
    return Reply(file, headers | {"Content-Disposition": f"attachment; filename*=UTF-8''{name}"})


def _listed(numbers: Iterator[float] | tuple[float, ...] | list[float]) -> str:
    return ",".join(repr(number) for number in numbers)
