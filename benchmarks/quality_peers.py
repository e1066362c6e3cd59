"""What other people's work does with doubtful labels, through their own packages if installed.

``cleanlab`` and ``SimpleITK`` are imported (``pip install cleanlab SimpleITK``); cross pseudo
supervision has no package and is written here from the paper (Chen and others, CVPR 2021).
"""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import torch

from quality_data import IGNORE, Scene, read_csv
from quality_methods import EQUAL, Job, Method

if TYPE_CHECKING:
    from labelmend.runs import Run
    from labelmend.training.objective import Networks, Parcel, Terms

RAMP = 0.3
"""The share of training over which networks come to teach each other."""
RATE = 1.5
"""What they then count beside labels, as in the paper."""


def _dims(scene: Scene) -> int:
    return len(scene.settings["input"]["patch"])


# ---------------------------------------------------------------------- confident learning


def confident_learning(job: Job) -> Run:
    """Positions of weak labels that cleanlab flags become unknown; then all labels count alike.

    Probabilities come from a network of the strong labels, which saw none of those it judges.
    """
    from cleanlab.filter import find_label_issues

    from labelmend.inference.predictor import load
    from labelmend.types import Raster

    predictor = load(job.fit(preset="strong_only", name="first"))
    labels, probabilities = [], []
    rows = [r for r in read_csv(job.data / "manifest.csv") if r["quality"] == "weak"]
    for row in rows:
        image = np.load(job.data / row["image"], allow_pickle=False)
        label = np.load(job.data / row["label"], allow_pickle=False)
        labels.append(label)
        scores = predictor.scores(Raster(image[None].astype(np.float32)))
        probabilities.append(predictor.probabilities(scores).reshape(-1, label.size).T)
    flat = np.concatenate([label.ravel() for label in labels]).astype(int)
    known = flat != IGNORE
    flagged = np.zeros(len(flat), bool)
    flagged[known] = find_label_issues(flat[known], np.concatenate(probabilities)[known], n_jobs=1)
    data = _copied(job, "filtered")
    ends = np.cumsum([label.size for label in labels])
    for row, label, issues in zip(rows, labels, np.split(flagged, ends[:-1]), strict=True):
        label[issues.reshape(label.shape)] = IGNORE
        np.save(data / row["label"], label)
    return job.fit({"weighting": EQUAL}, data=data)


def _in_memory(scene: Scene) -> bool:
    """It wants the probabilities of all positions of all labels at once."""
    return scene.words.startswith(("crops", "ECG"))


# ---------------------------------------------------------------------- classical registration


def registered(job: Job) -> Run:
    """Every weak label moved once, to the most mutual information with its image (SimpleITK)."""
    data = _copied(job, "registered")
    for row in read_csv(job.data / "manifest.csv"):
        if row["quality"] == "weak":
            image = np.load(job.data / row["image"], allow_pickle=False)
            label = np.load(job.data / row["label"], allow_pickle=False)
            np.save(data / row["label"], _registered(image, label))
    return job.fit({"weighting": EQUAL}, data=data)


def _registered(image: np.ndarray, label: np.ndarray) -> np.ndarray:
    """A label shifted to an image; what comes in from outside is unknown."""
    import SimpleITK as sitk  # noqa: N813 - as its own documents call it

    if not (label > 0).any():
        return label
    fixed = sitk.GetImageFromArray(image.astype(np.float32))
    moving = sitk.GetImageFromArray((label > 0).astype(np.float32))
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 0.05, 100)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([2.0, 1.0])
    method.SetInitialTransform(sitk.TranslationTransform(image.ndim))
    try:
        found = method.Execute(fixed, moving)
    except RuntimeError:  # no overlap is left on its way: then the label stays
        return label
    whole = sitk.GetImageFromArray(label)
    return sitk.GetArrayFromImage(
        sitk.Resample(whole, fixed, found, sitk.sitkNearestNeighbor, float(IGNORE))
    ).astype(label.dtype)


# ---------------------------------------------------------------------- cross pseudo supervision


@dataclass(frozen=True)
class CrossPseudo:
    """Two networks learn from strong labels, and from each other's classes on every image."""

    loss: Any
    steps: int

    def __call__(self, networks: Networks, parcel: Parcel) -> Terms:
        """The terms of a batch; weak labels are never looked at."""
        from labelmend.training.objective import Terms, weighed

        batch = parcel.batch
        logits = [networks[name](batch.image) for name in ("main", "auxiliary")]
        strong = parcel.strong.to(parcel.scale)
        losses = [self.loss(given, batch.label, batch.valid) for given in logits]
        total = sum(weighed(each, strong, parcel.scale) for each in losses)
        rate = RATE * min(parcel.step / (RAMP * self.steps), 1.0)
        for given, other in zip(logits, logits[::-1], strict=True):
            taught = torch.nn.functional.cross_entropy(given, other.argmax(1))
            total = total + rate * taught
        return Terms(total, losses[0].detach())


def cross_pseudo_supervision(job: Job) -> Run:
    """Weak images without their labels; two networks, twice the time of a step."""
    from labelmend.training import assembly

    make = assembly.assemble

    def assemble(*given: Any) -> Any:
        trainer = make(*given)
        trainer.objective = CrossPseudo(trainer.objective.plain.loss, trainer.timetable.steps)
        return trainer

    two = {"mixing": {"use": True}, "dual": {"use": True}, "weighting": EQUAL}
    with patch.object(assembly, "assemble", assemble):
        return job.fit(two)


def _copied(job: Job, name: str) -> Path:
    return Path(shutil.copytree(job.data, job.work / f"data-{name}"))


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


PEERS: dict[str, Method] = {
    "cross pseudo supervision": Method(
        "weak images, their labels not looked at", cross_pseudo_supervision, 2,
        peer="Chen et al., CVPR 2021; written anew",
    ),
}  # fmt: skip
if _has("cleanlab"):
    PEERS["confident learning"] = Method(
        "positions that cleanlab flags are left out", confident_learning, 2, _in_memory, "cleanlab"
    )
if _has("SimpleITK"):
    PEERS["registered once"] = Method(
        "weak labels registered to images before training",
        registered,
        2,
        lambda scene: scene.window is not None and _dims(scene) > 1,
        "SimpleITK",
    )
