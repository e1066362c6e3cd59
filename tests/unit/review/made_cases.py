"""Runs that nobody trained, whose network reads the answer out of the image, and their cases."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from labelmend.audit import Ranked
from labelmend.catalogue.scan import open_data
from labelmend.config import Settings
from labelmend.data.prepare import Preparation
from labelmend.inference.predictor import Predictor
from labelmend.review.cases import Cases
from labelmend.review.desk import Desk
from labelmend.review.repaired import can_ignore
from labelmend.review.store import Store
from labelmend.runs import Run

from ...made_data import KINDS

TOKEN = "0123456789abcdef-of-the-tests"
HOST = "http://127.0.0.1:8765"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


class Bright(nn.Module):
    """Class 1 where the image is bright, or the image itself; counts how often it was asked."""

    def __init__(self, classes: int, values: bool) -> None:
        super().__init__()
        self.classes, self.values, self.asked = classes, values, 0

    def forward(self, image: Tensor) -> Tensor:
        self.asked += 1
        seen = image[:, :1]
        if self.values:
            return seen
        rest = [torch.full_like(seen, -50.0)] * (self.classes - 2)
        return torch.cat([-8 * seen, 8 * seen, *rest], 1)


def make_predictor(
    folder: Path, kind: str = "gray", changes: Mapping[str, Any] | None = None
) -> Predictor:
    """A run in ``folder/run`` of the data in ``folder/data``, made if need be."""
    data_folder = folder / "data"
    data, _ = open_data(
        data_folder if data_folder.exists() else KINDS[kind](data_folder), val_share=0.0
    )
    spec = data.spec
    settings = Settings.make(dict(changes or {}))
    preparation = Preparation(normalise="zscore")
    outputs = 1 if spec.task == "regression" else len(spec.classes)
    facts = {
        "patch": [64] * spec.dims,
        "preparation": dataclasses.asdict(preparation),
        "in_channels": spec.channels,
        "out_channels": outputs,
    }
    run = Run.create(folder / "run", settings, data, facts)
    network = Bright(outputs, spec.task == "regression").eval()
    cpu = torch.device("cpu")
    return Predictor(run, 3, network, preparation, (64,) * spec.dims, 1, cpu)


def ranked(predictor: Predictor, **known: Any) -> list[Ranked]:
    """Every label, in the order of the manifest."""
    samples = predictor.run.data.samples
    facts = ("label", "image", "annotator", "group", "split", "quality")
    nothing = {"weight": None, "displacement": None, "confidence": None, "disagreement": None}
    return [
        Ranked(
            **{name: getattr(sample, name) for name in facts},
            score=1 / (1 + place),
            wrong=1 / (1 + place),
            reason="says nobody",
            **{**nothing, **known},
        )
        for place, sample in enumerate(samples)
    ]


def make_cases(
    folder: Path,
    kind: str = "gray",
    changes: Mapping[str, Any] | None = None,
    memory: int = 2**24,
    **known: Any,
) -> Cases:
    """The cases of a tiny run."""
    predictor = make_predictor(folder, kind, changes)
    return Cases(predictor, ranked(predictor, **known), memory=memory)


def make_desk(cases: Cases, folder: Path) -> Desk:
    """Where people work on them; the store is kept in the folder."""
    store = Store.open(folder / "review" / "review.sqlite")
    classes = 1 if cases.spec.task == "regression" else len(cases.spec.classes)
    return Desk(store, cases.base, classes=classes, ignore=can_ignore(cases.spec))


def first(cases: Cases, quality: str) -> int:
    """The number of the first case of a quality."""
    return next(n for n, sample in enumerate(cases.samples) if sample.quality == quality)


def event(name: str, op: Mapping[str, Any]) -> bytes:
    """The body of an event."""
    return json.dumps({"id": f"id-{name:0>8}", "op": op}).encode()
