"""Write down what happens: in the run folder, and for TensorBoard where that is wanted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from labelmend.errors import SettingsError
from labelmend.runs import Run
from labelmend.training.processes import Processes


class Journal:
    """The records of one process; only the first process of a training has somewhere to write.

    Args:
        run: where records go; None in all processes but the first.
        tensorboard: a folder for event files; needs the extra ``tensorboard``.
        processes: all that write down the same, so that none goes on alone where the first one's
            disk refuses; None where there is one.

    Raises:
        SettingsError: when TensorBoard is wanted and not installed.

    >>> Journal(None, None).log({"step": 1, "kind": "train", "loss": 0.5})
    """

    def __init__(
        self, run: Run | None, tensorboard: Path | None, processes: Processes | None = None
    ) -> None:
        self._run = run
        self._folder = tensorboard
        self._processes = processes
        self._events: Any = None
        if tensorboard is not None:
            _tensorboard()

    def log(self, record: Mapping[str, object]) -> None:
        """Add a record with its ``step`` and ``kind``.

        Raises:
            NonFiniteError: for NaN or infinity.
            StorageError: when the disk refuses.
        """
        with self._together():
            if self._run is not None:
                self._run.log(record)
        if self._folder is not None:
            self._show(record)

    def log_weights(self, step: int, columns: Mapping[str, Iterable[float | None]]) -> None:
        """Add a weight step to the history."""
        with self._together():
            if self._run is not None:
                self._run.log_weights(step, columns)

    def close(self) -> None:
        """Flush what TensorBoard has not written yet."""
        if self._events is not None:
            self._events.close()
            self._events = None

    def _together(self) -> AbstractContextManager[None]:
        return nullcontext() if self._processes is None else self._processes.together()

    def _show(self, record: Mapping[str, object]) -> None:
        step = int(str(record["step"]))
        if self._events is None:
            # What an earlier process wrote of this step and later ones is about to happen again.
            self._events = _tensorboard()(str(self._folder), purge_step=step)
        for name, value in record.items():
            if isinstance(value, float):
                self._events.add_scalar(f"{record['kind']}/{name}", value, step)


def _tensorboard() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise SettingsError(
            "tensorboard = true needs a package that is not installed: "
            "pip install 'labelmend[tensorboard]'"
        ) from error
    return SummaryWriter
