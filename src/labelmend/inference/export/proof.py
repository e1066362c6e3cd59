"""Run an exported model beside its network and say how far apart they are."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from labelmend.errors import LabelmendError, NonFiniteError, RunError
from labelmend.files.readers import load_verified, read_as
from labelmend.inference.predictor import Predictor
from labelmend.types import Sample, Task

TOLERANCE = 1e-5
"""Largest difference of a score, as a share of its size or, where that is below 1, of 1."""
LEAST_EQUAL = 0.9999
"""Least share of positions at which both decide for the same class."""

_MOST_REAL = 4
_BOTTOM = 4
Run = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Proof:
    """What came out of running both on the same inputs.

    Attributes:
        inputs: how many there were.
        real: how many of them were images of the data set, and not drawn.
        sizes: of their space, each once.
        positions: all of them together.
        worst: the largest difference of a score, relative to ``max(1, |score|)``.
        equal: the share of positions with the same class; None for regression.
        tolerance: the most that ``worst`` may be.
        notes: why there was no real input, if so.
        preparation: the largest difference of a prepared image, likewise, where the exported model
            prepares images itself.
    """

    inputs: int
    real: int
    sizes: tuple[tuple[int, ...], ...]
    positions: int
    worst: float
    equal: float | None
    tolerance: float
    notes: tuple[str, ...] = ()
    preparation: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the exported model may be taken for the network."""
        worst = max(self.worst, self.preparation or 0.0)
        return worst <= self.tolerance and (self.equal is None or self.equal >= LEAST_EQUAL)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "inputs": self.inputs,
            "real_inputs": self.real,
            "sizes": [list(size) for size in self.sizes],
            "positions": self.positions,
            "largest_difference": self.worst,
            "largest_difference_allowed": self.tolerance,
            "largest_difference_of_preparation": self.preparation,
            "equal_classes": self.equal,
            "equal_classes_wanted": None if self.equal is None else LEAST_EQUAL,
            "notes": list(self.notes),
        }

    def said(self) -> str:
        """One sentence for a person."""
        sizes = ", ".join(" × ".join(map(str, size)) for size in self.sizes)
        equal = "" if self.equal is None else f", same class at {100 * self.equal:.6g} %"
        off = self.preparation
        prepared = "" if off is None else f", prepared images by at most {off:.1e}"
        return (
            f"{self.inputs} inputs ({self.real} real) of {sizes}: scores differ by at most "
            f"{self.worst:.1e}{equal}{prepared}"
        )


def prove(
    reference: Run, exported: Run, inputs: Iterable[np.ndarray], *, task: Task, tolerance: float
) -> Proof:
    """Run both on every input ``(batch, channels, *space)`` float32.

    Raises:
        NonFiniteError: when the network itself yields NaN or infinity.
        RunError: when the exported model fails, or yields another shape.

    >>> images = [np.ones((1, 1, 4), np.float32)]
    >>> prove(lambda x: x, lambda x: x + 1e-6, images, task="regression", tolerance=1e-5).holds
    True
    """
    worst, same, positions, count = 0.0, 0, 0, 0
    sizes: dict[tuple[int, ...], None] = {}
    for images in inputs:
        wanted, found = reference(images), _ran(exported, images)
        if not np.isfinite(wanted).all():
            raise NonFiniteError("the network yields NaN or infinity; nothing is exported")
        if found.shape != wanted.shape:
            raise RunError(
                f"the exported model yields {found.shape} where the network yields {wanted.shape}"
            )
        apart = np.abs(found.astype(np.float64) - wanted) / np.maximum(1, np.abs(wanted))
        worst = max(worst, float(np.nan_to_num(apart, nan=np.inf).max()))
        same += int((found.argmax(1) == wanted.argmax(1)).sum())
        positions += wanted[:, 0].size
        count += 1
        sizes[images.shape[2:]] = None
    equal = None if task == "regression" else same / max(1, positions)
    return Proof(count, 0, tuple(sizes), positions, worst, equal, tolerance)


def _ran(exported: Run, images: np.ndarray) -> np.ndarray:
    try:
        return exported(images)
    except Exception as error:  # onnxruntime and torch have errors of their own
        first = " ".join(str(error).split())[:200]
        raise RunError(
            f"the exported model does not take an input of shape {images.shape}: {first}"
        ) from error


def reference_of(predictor: Predictor, number: torch.dtype = torch.float32) -> Run:
    """The predictor's network on the CPU, from images ``(batch, channels, *space)`` to scores.

    ``number`` is the type that it computes in; in 64 bits it says how much 32 bits round.
    """
    network = copy.deepcopy(predictor.network).cpu().to(number).eval()
    return lambda images: _run(network, images, number)


def _run(network: nn.Module, images: np.ndarray, number: torch.dtype) -> np.ndarray:
    with torch.inference_mode():
        return np.asarray(network(torch.from_numpy(images).to(number)).numpy())


def proof_sizes(predictor: Predictor) -> tuple[tuple[int, ...], ...]:
    """Four sizes of input: the smallest possible, a small one, a patch, and one beyond it.

    The last one is not as long as it is wide.
    """
    multiple, patch = predictor.multiple, tuple(predictor.patch)
    smallest = _smallest(predictor)
    # With a few positions at the bottom, normalising them multiplies rounding by hundreds.
    small = tuple(_BOTTOM * n for n in smallest)
    middle = patch if patch not in (small, smallest) else tuple(n + multiple for n in small)
    large = [-(-3 * n // (2 * multiple)) * multiple for n in middle]
    large[0] += multiple
    return smallest, small, middle, tuple(large)


def _smallest(predictor: Predictor) -> tuple[int, ...]:
    reference, channels = reference_of(predictor), predictor.run.facts["in_channels"]
    for times in range(1, 9):
        size = (times * predictor.multiple,) * predictor.spec.dims
        try:
            found = reference(np.zeros((1, channels, *size), np.float32))
        except Exception:  # a network of the user's own fails in a way of its own
            continue
        if found.shape[2:] == size:
            return size
    return tuple(predictor.patch)


def proof_inputs(
    predictor: Predictor,
    sizes: Iterable[tuple[int, ...]],
    count: int,
    real: Iterable[np.ndarray],
    seed: int = 0,
) -> Iterator[np.ndarray]:
    """Inputs for :func:`prove`: zeros, real ones and drawn ones.

    Args:
        sizes: of space; the first one for the zeros only, all others for real and drawn ones.
        count: how many in all, at the least.
        real: prepared images ``(channels, *space)``, cut or continued by their edge to a size.
        seed: of what is drawn.
    """
    rng = np.random.default_rng(seed)
    channels, (smallest, *wanted), images = predictor.run.facts["in_channels"], sizes, list(real)
    yield np.zeros((2, channels, *smallest), np.float32)
    for size in wanted:
        for image in images:
            yield _fitted(image, size)[None]
    for number in range(max(len(wanted), count - 1 - len(wanted) * len(images))):
        batch = 1 + number % 2
        shape = (batch, channels, *wanted[number % len(wanted)])
        # weaker and far stronger than normalised images are
        drawn = rng.normal(0, 10.0 ** rng.uniform(-0.5, 1), shape) + rng.normal(0, 1)
        yield drawn.astype(np.float32)


def real_images(predictor: Predictor) -> tuple[dict[Path, np.ndarray], list[str]]:
    """A few of the run's images as the network sees them, and why there are fewer than wanted."""
    root = Path(predictor.run.data.root)
    seen: dict[str, Sample] = {}
    for sample in predictor.run.data.samples:
        seen.setdefault(sample.image, sample)
    chosen = list(seen.values())
    chosen = chosen[:: max(1, len(chosen) // _MOST_REAL)][:_MOST_REAL]
    images: dict[Path, np.ndarray] = {}
    notes: list[str] = []
    for sample in chosen:
        try:
            content = load_verified(root / sample.image, sample.image_sha256)
            raster = read_as(root / sample.image, predictor.spec, content=content)
            images[root / sample.image] = predictor.preparation.image(raster)[0]
        except (LabelmendError, OSError) as error:
            # its text would name a place on this machine
            notes.append(f"{sample.image} could not be used ({type(error).__name__})")
    return images, notes


def _fitted(image: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    cut = image[(slice(None), *(slice(0, n) for n in size))]
    missing = [(0, n - m) for n, m in zip(size, cut.shape[1:], strict=True)]
    return np.ascontiguousarray(np.pad(cut, [(0, 0), *missing], mode="edge"), dtype=np.float32)
