"""How good is the network on held-out strong samples, on their whole images."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from labelmend.data.dataset import SampleDataset
from labelmend.data.whole import judge, predict_whole
from labelmend.errors import LabelmendError, NonFiniteError
from labelmend.metrics import Row, summarise
from labelmend.training.processes import Processes
from labelmend.types import DataSpec


@dataclass(frozen=True, slots=True)
class Validator:
    """Predicts whole held-out images and takes the mean of their metrics.

    Attributes:
        index: places of the held-out samples in the data set.
        main: the metric that decides which checkpoint is best; larger is better.
        move: puts an image on the device in the network's number type.
    """

    samples: SampleDataset
    index: tuple[int, ...]
    spec: DataSpec
    patch: tuple[int, ...]
    overlap: float
    multiple: int
    processes: Processes
    move: Callable[[Tensor], Tensor]
    precision: Callable[[], AbstractContextManager[object]]

    @property
    def main(self) -> str:
        """The metric that decides which checkpoint is best; larger is better."""
        return "dice" if self.spec.task == "segmentation" else "psnr"

    def __call__(self, network: nn.Module, check: Callable[[], None]) -> dict[str, float]:
        """Mean of every metric over held-out samples and foreground classes.

        Raises:
            NonFiniteError: for a prediction with NaN or infinity, naming the sample.
            DataError: for a file that cannot be read, or changed since the run began.
        """
        network.eval()
        rows: list[Row] = []
        error: LabelmendError | None = None
        try:
            # All processes must check equally often, or one waits.
            for first in range(0, len(self.index), self.processes.world):
                check()
                place = first + self.processes.rank
                if place < len(self.index) and error is None:
                    try:
                        rows.append(self._one(network, self.index[place]))
                    except LabelmendError as caught:
                        error = caught
        finally:
            network.train()
        self.processes.agree(error)
        shares = self.processes.gather(rows)
        return summarise([row for share in shares for row in share])["mean"]

    def _one(self, network: nn.Module, index: int) -> Row:
        whole = self.samples.whole(index)
        with self.precision():
            scores = predict_whole(
                network,
                self.move(whole.image),
                patch=self.patch,
                overlap=self.overlap,
                multiple=self.multiple,
            )
        if not np.isfinite(scores).all():
            raise NonFiniteError(
                "the network predicts NaN or infinity for a held-out sample: "
                f"{self.samples.name(index)}; lower optimiser.learning_rate, set optimiser.clip, "
                "or look at this file"
            )
        restored = self.samples.preparation.restore(scores, whole.grid)
        label, valid = whole.label, whole.valid
        return judge(restored, label, valid, self.spec, spacing=whole.raster.spacing)
