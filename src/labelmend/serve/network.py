"""A run's network as the worker uses it: images in, scores out, alone or several together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from labelmend.errors import LabelmendError
from labelmend.inference.predictor import Predictor
from labelmend.inference.together import predict_together
from labelmend.inference.way import Way, as_wished
from labelmend.types import Raster

PATCHES = 4
"""Patches that the network is given at once at the least."""


@dataclass(frozen=True, slots=True)
class Network:
    """Predicts images as read.

    One image alone gets to the bit the scores of :meth:`Predictor.scores`, hence the label that
    ``labelmend predict`` writes for that file. Several agree with that up to rounding, some 1e-6
    to 1e-5 of the scores' size: a processor adds up in another order when it is given more. The
    trap: the network must treat the images of a batch apart from one another.

    Args:
        predictor: what predicts.
        batch: images that are predicted together at most.
    """

    predictor: Predictor
    batch: int = 1
    _mirrored: Predictor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_mirrored", as_wished(self.predictor, Way(flips=True)))

    def __call__(self, images: Sequence[Raster], flips: bool) -> list[np.ndarray | LabelmendError]:
        """Scores ``(scores, *space)`` of every image, or why there are none."""
        predictor = self._mirrored if flips else self.predictor
        if len(images) > 1:
            return list(predict_together(predictor, images, max(PATCHES, self.batch)))
        try:
            return [predictor.scores(images[0])]
        except LabelmendError as error:
            return [error]
