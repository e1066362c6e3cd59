"""What requests and answers look like, for those who read the description at /openapi.json."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from labelmend.files.formats import SUFFIXES, split_name
from labelmend.inference.conclusions import Row
from labelmend.inference.predictor import Predictor
from labelmend.serve.asked import TYPES
from labelmend.serve.looks import colour
from labelmend.types import ChannelAxis, Task


class Refusal(BaseModel):
    """Why there is no answer, in one line."""

    detail: str


class Class(BaseModel):
    """A class, in the order of class indices; the first one is the background."""

    name: str
    value: int | None = Field(description="in label files; null for regression")
    colour: str = Field(description="in overlays", pattern="^#[0-9a-f]{6}$")


class Bounds(BaseModel):
    """How much the server takes on."""

    largest_body: int = Field(description="bytes")
    waiting: int = Field(description="requests that may wait")
    batch: int = Field(description="images that the network is given at once")
    patience: float = Field(description="seconds after which a request is given up")


class Model(BaseModel):
    """What predicts here, and what it takes."""

    run: str
    step: int
    model: Literal["main", "auxiliary", "ensemble"]
    task: Task
    classes: list[Class]
    ignore: int | None
    instances: bool
    dims: int = Field(description="axes of space", ge=1, le=3)
    channels: int
    channel_axis: ChannelAxis
    spacing: list[float] | None = Field(description="what data.toml says, over what files say")
    suffix: str = Field(description="the family of formats of labels")
    image_suffixes: list[str] = Field(description="of the images that it was trained on")
    suffixes: list[str] = Field(description="all that are read")
    patch: list[int]
    limits: Bounds


class LabelFile(BaseModel):
    """A label as a file."""

    name: str
    type: str = Field(description="its content type")
    base64: str


class Runs(BaseModel):
    """Where a class is: lengths of runs outside and inside, in turns, from outside."""

    name: str = Field(alias="class")
    value: int
    counts: list[int]


class Rle(BaseModel):
    """A label as runs of positions, the first axis changing quickest; COCO's, uncompressed."""

    size: list[int]
    background: int = Field(description="the value of positions outside of all classes")
    classes: list[Runs]


class Conclusions(BaseModel):
    """The figures of ``labelmend predict --conclusions``."""

    file: str
    label: str
    size: list[int]
    spacing: list[float] | None
    counts: list[int] = Field(description="positions per class index")
    objects: list[Row] = Field(description="a row per object, as in objects.csv")
    flags: list[str]
    uncertainty: float | None = Field(description="not known here")
    classes: dict[str, dict[str, float | None]] = Field(description="as in files.csv")


class Answer(BaseModel):
    """A prediction."""

    name: str
    size: list[int] = Field(description="positions per axis")
    spacing: list[float] | None = Field(description="millimetres; for recordings seconds")
    affine: list[list[float]] | None
    step: int
    label: LabelFile | Rle
    conclusions: Conclusions | None
    warnings: list[str] = Field(description="ways in which it lies unlike all training images")
    look: str | None = Field(description="where image and label can be looked at for minutes")


class State(BaseModel):
    """One word."""

    status: str


class Wave(BaseModel):
    """The least and the largest value per column."""

    low: list[float]
    high: list[float]


def describe(predictor: Predictor, bounds: Bounds) -> Model:
    """What predicts, in words; no path of the machine."""
    spec, run = predictor.spec, predictor.run
    values = spec.values or (None,) * len(spec.classes)
    return Model(
        run=run.path.resolve().name,
        step=predictor.step,
        model=predictor.model,
        task=spec.task,
        classes=[
            Class(name=name, value=value, colour=colour(index))
            for index, (name, value) in enumerate(zip(spec.classes, values, strict=True))
        ],
        ignore=spec.ignore,
        instances=spec.instances,
        dims=spec.dims,
        channels=spec.channels,
        channel_axis=spec.channel_axis,
        spacing=None if spec.spacing is None else list(spec.spacing),
        suffix=spec.suffix,
        image_suffixes=sorted({_suffix(sample.image) for sample in run.data.samples}),
        suffixes=list(SUFFIXES),
        patch=list(predictor.patch),
        limits=bounds,
    )


def _suffix(name: str) -> str:
    return split_name(name)[1]


_BINARY = {"schema": {"type": "string", "format": "binary"}}
BODY: dict[str, Any] = {
    "requestBody": {
        "description": "the bytes of one file; its format by the query name, or by these types",
        "required": True,
        "content": dict.fromkeys(("application/octet-stream", *TYPES), _BINARY),
    }
}
"""The body of a prediction, for FastAPI's ``openapi_extra``."""

_WORDS = {
    400: "nonsense in a header",
    401: "a token is wanted",
    403: "the server is not called that, or another page asks",
    404: "there is nothing here, any more",
    405: "this cannot be done at this address",
    408: "the body did not arrive in time",
    413: "the body is too large",
    415: "this kind of file is not read",
    422: "the file or the query cannot be used",
    429: "too many are waiting; Retry-After says when to come again",
    500: "the network failed",
    503: "not in time, or the server is ending",
}


def refusals(*more: int) -> dict[int | str, dict[str, Any]]:
    """The refusals that any request can meet, and more, for FastAPI's ``responses``."""
    retry = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    found: dict[int | str, dict[str, Any]] = {}
    for status in sorted({400, 401, 403, 405, 408, 413, *more}):
        found[status] = {"model": Refusal, "description": _WORDS[status]}
        if status in (429, 503):
            found[status]["headers"] = retry
    return found


def _header(words: str) -> dict[str, Any]:
    return {"description": words, "schema": {"type": "string"}}


PREDICTED: dict[str, Any] = {
    "description": "the label, in the wanted way",
    "headers": {
        "X-Size": _header("positions per axis, with commas"),
        "X-Spacing": _header("millimetres or seconds per axis, where known"),
        "X-Affine": _header("16 numbers, row by row, for NIfTI"),
        "X-Step": _header("the training step of the network"),
        "X-Warnings": _header("ways in which it lies unlike all training images, as a JSON list"),
    },
    "content": dict.fromkeys(
        (
            "image/png",
            "image/tiff",
            "application/x-nifti",
            "application/gzip",
            "application/x-npy",
            "text/csv",
        ),
        _BINARY,
    ),
    "model": Answer,
}
"""A prediction, for FastAPI's ``responses``."""
