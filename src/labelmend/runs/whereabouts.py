"""Where the data of a run lie by now: runs and data are copied from one machine to another."""

from __future__ import annotations

import os
from pathlib import Path

from labelmend.errors import DamagedError
from labelmend.runs.atomic import write_atomically

NOTE = "data-folder.txt"
"""In the run folder: where somebody said that the data lie."""


def way_to(run: Path, root: str) -> str:
    """The way from a run folder to its data, with forward slashes; empty where none leads there.

    >>> way_to(Path("/project/runs/one"), "/project/data")
    '../../data'
    """
    try:
        return Path(os.path.relpath(Path(root).resolve(), run)).as_posix()
    except ValueError:  # another drive
        return ""


def find_data(run: Path, recorded: str, way: str) -> str:
    """Where to look for the data of a run.

    Where somebody said, else where they lay when the run began, else where they lay as seen from
    the run: whoever copies both together has nothing to say. Which of them is the right data set
    is no question here; every file is compared with its hash when it is read.

    Args:
        run: the run folder.
        recorded: where the data lay when the run began; what is returned where nothing is found.
        way: the way there from the run folder, as :func:`way_to` gives it; may be empty.

    Raises:
        DamagedError: when what somebody said cannot be read.
    """
    path = run / NOTE
    try:
        said = path.read_text(encoding="utf-8", errors="surrogateescape").strip()
    except FileNotFoundError:
        said = ""
    except OSError as error:
        raise DamagedError(f"{path} cannot be read: {error.strerror}; remove it") from error
    if said:
        return str((run / said).resolve())
    beside = (run / way).resolve() if way else None
    if not Path(recorded).is_dir() and beside is not None and beside.is_dir():
        return str(beside)
    return recorded


def say_data(run: Path, root: Path) -> None:
    """Look for the data of a run in another folder from now on.

    Raises:
        StorageError: when the disk refuses; then it is looked for where it was.
    """
    write_atomically(run / NOTE, f"{root}\n".encode("utf-8", "surrogateescape"))
