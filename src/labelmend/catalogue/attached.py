"""A run whose data lie elsewhere by now, and whether they are still the same."""

from __future__ import annotations

from pathlib import Path

from labelmend.catalogue.survey import Progress
from labelmend.errors import ChangedDataError, DataError
from labelmend.files.sources import hash_file
from labelmend.runs import Run
from labelmend.runs.whereabouts import say_data
from labelmend.types import DataSet


def changed_files(data: DataSet, root: Path, progress: Progress | None = None) -> list[str]:
    """The files of a data set that are gone from a folder, or are not what they were.

    Args:
        data: with a hash for every file.
        root: where they should lie.
        progress: hears how many of how many were read.
    """
    recorded = {s.image: s.image_sha256 for s in data.samples}
    recorded |= {s.label: s.label_sha256 for s in data.samples}
    found = []
    for done, (name, digest) in enumerate(recorded.items(), 1):
        path = root / name
        if not path.is_file() or hash_file(path) != digest:
            found.append(name)
        if progress is not None:
            progress(done, len(recorded))
    return found


def attach(run: Run, data: Path, progress: Progress | None = None) -> Run:
    """Let a run look for its data in another folder from now on; the run, opened anew.

    Every file is compared with its hash first: the folder must hold the data set that the run was
    trained on, as it was.

    Args:
        run: the run; in its folder a note is written, and nothing else is touched.
        data: where the data lie now.
        progress: hears how many of how many files were read.

    Raises:
        DataError: when there is no such folder.
        ChangedDataError: when a file is missing there or differs, naming the first.
        StorageError: when the note cannot be written; then all is as it was.

    The trap: a folder of the same name on another machine may hold another version of the data.
    """
    root = Path(data).resolve()
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; name the one that holds images/ and labels/")
    changed = changed_files(run.data, root, progress)
    if changed:
        first = root / changed[0]
        wrong = "is not the file" if first.exists() else "does not exist; it was a file"
        more = f" (and {len(changed) - 1:,} more)" if len(changed) > 1 else ""
        raise ChangedDataError(
            f"{first}{more} {wrong} that {run.path} was trained on; name the folder that holds "
            "the same data set"
        )
    say_data(run.path, root)
    return Run.open(run.path)
