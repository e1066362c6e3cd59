"""Train dense-prediction models on labels that cannot be fully trusted."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labelmend.alignment.aligner import ShiftAligner
    from labelmend.alignment.criterion import AlignedLoss, align
    from labelmend.errors import LabelmendError
    from labelmend.inference.evaluate import evaluate
    from labelmend.inference.predictor import Predictor, load
    from labelmend.losses import make_loss
    from labelmend.mixing import class_mask, mix
    from labelmend.runs import Run
    from labelmend.training.assembly import fit, resume
    from labelmend.types import Alignment, Batch, DataSet, DataSpec, Raster, Region, Sample
    from labelmend.weighting.calls import losses_of
    from labelmend.weighting.gradients import gradient_similarity, mean_gradient
    from labelmend.weighting.step import weight_step
    from labelmend.weighting.weights import WeightTable

__version__ = version("labelmend")

_HOMES = {
    "AlignedLoss": "alignment.criterion",
    "Alignment": "types",
    "Batch": "types",
    "DataSet": "types",
    "DataSpec": "types",
    "LabelmendError": "errors",
    "Predictor": "inference.predictor",
    "Raster": "types",
    "Region": "types",
    "Run": "runs",
    "Sample": "types",
    "ShiftAligner": "alignment.aligner",
    "WeightTable": "weighting.weights",
    "align": "alignment.criterion",
    "class_mask": "mixing",
    "evaluate": "inference.evaluate",
    "fit": "training.assembly",
    "gradient_similarity": "weighting.gradients",
    "load": "inference.predictor",
    "losses_of": "weighting.calls",
    "make_loss": "losses",
    "mean_gradient": "weighting.gradients",
    "mix": "mixing",
    "resume": "training.assembly",
    "weight_step": "weighting.step",
}

__all__ = [
    "AlignedLoss",
    "Alignment",
    "Batch",
    "DataSet",
    "DataSpec",
    "LabelmendError",
    "Predictor",
    "Raster",
    "Region",
    "Run",
    "Sample",
    "ShiftAligner",
    "WeightTable",
    "align",
    "class_mask",
    "evaluate",
    "fit",
    "gradient_similarity",
    "load",
    "losses_of",
    "make_loss",
    "mean_gradient",
    "mix",
    "resume",
    "weight_step",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: importing torch takes seconds."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"labelmend.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'labelmend' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
