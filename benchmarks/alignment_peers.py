"""Labels out of place by a known displacement, and what other libraries find of it.

Every peer takes one pair at a time: the probability of the foreground, the label as 0 and 1, both
float32, and where the label is known. It returns the displacement of the label in positions,
``moved(p) = label(p − d)``, along rows and columns. Settings are the library's own defaults unless
they are named here. Libraries that cannot be imported are left out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from labelmend.alignment.shifts import shift

Peer = Callable[[np.ndarray, np.ndarray, np.ndarray], Any]

LIBRARIES = {"skimage": "scikit-image", "SimpleITK": "SimpleITK", "kornia": "kornia"}
"""Names to import, and to install by: ``pip install scikit-image SimpleITK kornia``."""

MASKED = "scikit-image, masked correlation"
"""The one that times are compared with, given float32; which takes half the time of float64."""
MASKED_DOUBLE = f"{MASKED} in float64"
"""What it computes in when it is given a label as class indices or bool, of whichever type."""


@dataclass(frozen=True)
class Pairs:
    """Predictions and labels that lie elsewhere.

    Attributes:
        logits: ``(batch, classes, *space)`` float32.
        label: ``(batch, *space)`` int64.
        valid: ``(batch, *space)`` bool.
        displacement: ``(batch, dims)``, what puts each label in its place.
    """

    logits: torch.Tensor
    label: torch.Tensor
    valid: torch.Tensor
    displacement: np.ndarray

    @property
    def dice(self) -> float:
        """Mean Dice of the foreground, labels put in place, over what is then known.

        It says how good the predictions are.
        """
        moved, known = shift(self.label, self.valid, torch.from_numpy(self.displacement))
        given, right = (self.logits.argmax(1) > 0) & known, (moved > 0) & known
        both, one, other = (m.flatten(1).sum(1) for m in (given & right, given, right))
        return (2 * both / (one + other)).mean().item()


def draw_pairs(
    space: tuple[int, ...],
    window: int,
    *,
    classes: int = 2,
    batch: int = 16,
    seed: int = 0,
    weak: bool = False,
    part: bool = False,
) -> Pairs:
    """Lumpy objects, a label of them displaced by up to the window, a blurred and noisy prediction.

    Content moves in and out at the border as it does in a patch. A weak prediction is blurred more
    and errs in wide patches; of a part-labelled label a block of half the sides is not known.
    """
    rng = np.random.default_rng([seed, *space, window, classes, weak, part])
    drawn = [_draw_one(rng, space, window, classes, weak) for _ in range(batch)]
    logits, label, displacement = (np.stack(parts) for parts in zip(*drawn, strict=True))
    valid = np.ones(label.shape, dtype=bool)
    for known in valid if part else ():
        corner = [int(rng.integers(0, n // 2 + 1)) for n in space]
        known[tuple(slice(a, a + n // 2) for a, n in zip(corner, space, strict=True))] = False
    label = np.where(valid, label, 0)  # what a tool writes where nobody drew
    tensors = (torch.from_numpy(a) for a in (logits.astype(np.float32), label, valid))
    return Pairs(*tensors, displacement)


def _draw_one(rng: Any, space: tuple[int, ...], window: int, classes: int, weak: bool) -> Any:
    while True:
        whole = _objects(rng, tuple(n + 2 * window for n in space), classes)
        move = rng.integers(-window, window + 1, len(space))
        here, there = (
            whole[tuple(slice(window + v, window + v + n) for v, n in zip(by, space, strict=True))]
            for by in (0 * move, move)
        )
        if min((here > 0).mean(), (there > 0).mean()) > 0.02:
            return _predict(rng, here, classes, weak), there, move


def _objects(rng: Any, space: tuple[int, ...], classes: int) -> np.ndarray:
    """Two to six objects, each the union of three balls, each of a class of its own choice."""
    found = np.zeros(space, dtype=np.int64)
    axes = np.meshgrid(*map(np.arange, space), indexing="ij", sparse=True)
    for _ in range(rng.integers(2, 7)):
        centre, radius = rng.uniform(0, space), rng.uniform(0.06, 0.16) * min(space)
        kind = rng.integers(1, classes)
        for _ in range(3):
            middle = centre + rng.uniform(-radius, radius, len(space))
            apart = sum((a - m) ** 2 for a, m in zip(axes, middle, strict=True))
            found[apart < (radius * rng.uniform(0.5, 1)) ** 2] = kind
    return found


def _predict(rng: Any, truth: np.ndarray, classes: int, weak: bool) -> np.ndarray:
    side = min(truth.shape)
    logits = []
    for kind in range(classes):
        evidence = gaussian_filter((truth == kind).astype(float), side / (20 if weak else 50))
        wide = gaussian_filter(rng.normal(size=truth.shape), side / 20)
        errors = wide / wide.std() * (0.4 if weak else 0.22)
        logits.append(5 * (evidence + errors + 0.1 * rng.normal(size=truth.shape)))
    return np.stack(logits)


def installed() -> dict[str, str]:
    """The versions of the libraries that can be imported."""
    return {n: version(of) for n, of in LIBRARIES.items() if importlib.util.find_spec(n)}


def peers(window: int) -> dict[str, Peer]:
    """Every way of every library that is there."""
    there = installed()
    found: dict[str, Peer] = {}
    if "skimage" in there:
        found |= _of_skimage()
    if "SimpleITK" in there:
        found |= _of_simpleitk(window)
    if "kornia" in there:
        found["kornia, translation registrator"] = _of_kornia
    return found


def _of_skimage() -> dict[str, Peer]:
    from skimage.registration import phase_cross_correlation

    def masked(prediction: np.ndarray, label: np.ndarray, valid: np.ndarray) -> Any:
        masks = {"reference_mask": np.ones_like(valid), "moving_mask": valid}
        return phase_cross_correlation(prediction, label, **masks)[0]

    def masked_double(prediction: np.ndarray, label: np.ndarray, valid: np.ndarray) -> Any:
        return masked(prediction.astype(float), label.astype(float), valid)

    def whole(normalization: str | None) -> Peer:
        def found(prediction: np.ndarray, label: np.ndarray, valid: np.ndarray) -> Any:
            return phase_cross_correlation(prediction, label, normalization=normalization)[0]

        return found

    return {
        MASKED: masked,
        MASKED_DOUBLE: masked_double,
        "scikit-image, phase correlation": whole("phase"),
        "scikit-image, plain correlation": whole(None),
    }


def _of_simpleitk(window: int) -> dict[str, Peer]:
    import SimpleITK as sitk  # noqa: N813

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)

    def masked(prediction: np.ndarray, label: np.ndarray, valid: np.ndarray) -> Any:
        masks = (np.ones_like(prediction), valid.astype(np.float32))
        images = [sitk.GetImageFromArray(a) for a in (prediction, label, *masks)]
        least = int(0.5 * valid.sum())
        image = sitk.MaskedFFTNormalizedCorrelation(
            *images, requiredNumberOfOverlappingPixels=least
        )
        around = [slice(n - 1 - window, n + window) for n in prediction.shape]
        scores = sitk.GetArrayViewFromImage(image)[tuple(around)]
        return np.array(np.unravel_index(scores.argmax(), scores.shape)) - window

    return {
        "SimpleITK, masked correlation": masked,
        "SimpleITK, translation registration": _register,
    }


def _register(prediction: np.ndarray, label: np.ndarray, valid: np.ndarray) -> Any:
    import SimpleITK as sitk  # noqa: N813

    task = sitk.ImageRegistrationMethod()
    task.SetMetricAsCorrelation()
    task.SetMetricMovingMask(sitk.GetImageFromArray(valid.astype(np.uint8)))
    task.SetOptimizerAsRegularStepGradientDescent(4.0, 0.1, 100)
    task.SetShrinkFactorsPerLevel([8, 4, 2])
    task.SetSmoothingSigmasPerLevel([4, 2, 1])
    task.SetInterpolator(sitk.sitkLinear)
    start = sitk.TranslationTransform(prediction.ndim)
    task.SetInitialTransform(start, inPlace=True)
    task.Execute(sitk.GetImageFromArray(prediction), sitk.GetImageFromArray(label))
    return -np.array(start.GetOffset())[::-1]


def _of_kornia(prediction: np.ndarray, label: np.ndarray, valid: np.ndarray) -> Any:
    from kornia.geometry.conversions import denormalize_homography
    from kornia.geometry.transform import ImageRegistrator

    task = ImageRegistrator("translation")
    source, target = (torch.from_numpy(a)[None, None] for a in (label, prediction))
    found = task.register(source, target).detach()
    size = prediction.shape
    matrix = denormalize_homography(found, size, size, align_corners=False)[0]
    return -matrix[:2, 2].flip(0).numpy()
