"""Every error this library raises on purpose.

Each text says what was wanted, what was found and the way out, and names the file or sample.

    LabelmendError
    ├── ShapeError         (ValueError)       tensors whose shapes do not fit together
    ├── SettingsError      (ValueError)       a setting or option that cannot be used
    ├── DataError          (ValueError)       something is wrong with a data set or a file of it
    │   └── ChangedDataError                  a file is not the one the run began with
    ├── RunError           (RuntimeError)     a run folder that is missing, in use or no run
    │   ├── DamagedError                      a file of the run does not match its checksum
    │   └── StorageError   (OSError)          the disk refused to keep something
    ├── NonFiniteError     (ArithmeticError)  NaN or infinity where a number must be
    ├── WorkerError        (RuntimeError)     a data-loading process died or hung
    └── Stopped                               a signal asked training to end; everything is saved
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LabelmendError(Exception):
    """Base of every error raised on purpose, so that one ``except`` catches them all.

    >>> issubclass(ShapeError, LabelmendError) and issubclass(ShapeError, ValueError)
    True
    """


class ShapeError(LabelmendError, ValueError):
    """Tensors whose shapes, types or devices do not fit together."""


class SettingsError(LabelmendError, ValueError):
    """A setting or command-line option that does not exist or cannot have this value."""


def unknown(what: str, name: str, known: Iterable[str], more: str = "") -> SettingsError:
    """The error for a name that does not exist: it offers the nearest one that does.

    >>> unknown("loss", "dise", ["dice", "focal"])
    SettingsError("unknown loss 'dise'; did you mean 'dice'?")
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)[0]
    return SettingsError(f"unknown {what} {name!r}; did you mean {close!r}?{more}")


class DataError(LabelmendError, ValueError):
    """Something is wrong with a data set or one of its files; the text names the file."""


class ChangedDataError(DataError):
    """A file is no longer the one whose hash the run recorded."""


class RunError(LabelmendError, RuntimeError):
    """A run folder that is missing, in use, or holds something else."""


class DamagedError(RunError):
    """A file of a run does not match the checksum written beside it."""


class StorageError(RunError, OSError):
    """The disk refused to keep something: full, read-only, over quota, failing."""


class NonFiniteError(LabelmendError, ArithmeticError):
    """NaN or infinity in an input, loss, gradient or weight; the text names the samples."""


class WorkerError(LabelmendError, RuntimeError):
    """A data-loading process died or hung; the text names the samples it was asked for."""


class Stopped(LabelmendError):
    """A signal asked the training to end; everything up to the last step is saved.

    ``exit_status`` is what a process should exit with: 130 after SIGINT, 143 after SIGTERM.
    """

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status
