"""Which files are predicted, where their labels go, and what is never overwritten."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from labelmend.errors import DataError, RunError
from labelmend.files.formats import SUFFIXES, split_name
from labelmend.files.slides import SLIDES
from labelmend.runs.atomic import keeping
from labelmend.types import DataSet, DataSpec

_MAGIC = frozenset("*?[")


def make_folder(folder: Path) -> None:
    """Make a folder for labels, if need be.

    Raises:
        RunError: when there is a file in the way; StorageError: when the disk refuses.
    """
    wrong = next((p for p in (folder, *folder.parents) if p.exists() and not p.is_dir()), None)
    if wrong is not None:
        raise RunError(f"labels cannot go to {folder}: {wrong} is a file; name a folder")
    with keeping("the labels", folder, 0):
        folder.mkdir(parents=True, exist_ok=True)


def plan(inputs: Sequence[Path], out: Path, data: DataSet) -> dict[Path, Path]:
    """Where each label goes → the file that it is predicted for, in order.

    Args:
        inputs: files, folders, or patterns such as ``slides/**/*.tif``; what lies below a folder,
            or below the part of a pattern without ``* ? [``, keeps its place below ``out``.
        out: the folder of the labels.
        data: what the run was trained on; says which files are images, and is never overwritten.

    Raises:
        DataError: when there is no input, two would be written to one file, or a label would
            replace an input or a file of the data set.
    """
    planned: dict[Path, Path] = {}
    for given in inputs:
        for source, place in _found(given, data):
            target = out / place.parent / label_name(place.name, data)
            if target in planned and planned[target].resolve() != source.resolve():
                raise DataError(
                    f"{planned[target]} and {source} would both be written to {target}; "
                    "predict them into two folders"
                )
            planned.setdefault(target, source)
    if not planned:
        known = " ".join((*SUFFIXES, *sorted(SLIDES)))
        raise DataError(
            f"no file to predict in {', '.join(str(p) for p in inputs)}; read are {known}"
        )
    refuse_replacing(planned, planned.values(), data)
    return planned


def refuse_replacing(targets: Iterable[Path], sources: Iterable[Path], data: DataSet) -> None:
    """An image or a label made by hand is never replaced by a prediction.

    Raises:
        DataError: naming the first file that would be.
    """
    root = Path(data.root).resolve()
    samples = {root / path for sample in data.samples for path in (sample.image, sample.label)}
    precious = samples | {source.resolve() for source in sources}
    for target in targets:
        if target.resolve() in precious:
            raise DataError(
                f"{target} is an input or belongs to the data set, and a prediction would replace "
                "it; choose another --out"
            )


def _found(given: Path, data: DataSet) -> Iterator[tuple[Path, Path]]:
    """The files behind one input, each with its place below the output folder."""
    if not given.exists() and _MAGIC & set(str(given)):
        yield from _matching(given, data)
        return
    if not given.exists():
        raise DataError(f"there is no file or folder {given}; correct the path")
    if not given.is_dir():
        yield given, Path(given.name)
        return
    if (given / "images").is_dir() and (given / "labels").is_dir():
        raise DataError(f"{given} is a data set; to predict its images, give {given / 'images'}")
    for path in sorted(given.rglob("*")):
        place = path.relative_to(given)
        if path.is_file() and _is_input(place, data):
            yield path, place


def _matching(pattern: Path, data: DataSet) -> Iterator[tuple[Path, Path]]:
    """The files that a pattern matches; of folders that it matches, those in them."""
    parts = pattern.parts
    fixed = next(i for i, part in enumerate(parts) if _MAGIC & set(part))
    root = Path(*parts[:fixed])
    matches = sorted(root.glob(str(Path(*parts[fixed:]))))
    if not matches:
        raise DataError(f"nothing matches {pattern}; correct the pattern")
    for match in matches:
        place = match.relative_to(root)
        if match.is_dir():
            yield from ((path, place / below) for path, below in _found(match, data))
        elif _is_input(place, data):
            yield match, place


def _is_input(place: Path, data: DataSet) -> bool:
    suffix = split_name(place.name)[1]
    if suffix == ".csv" and ".csv" not in _image_suffixes(data):
        return False  # a manifest or a list of events beside recordings is no image
    known = suffix in SUFFIXES or (suffix in SLIDES and data.spec.dims == 2)
    return known and not any(part.startswith(".") for part in place.parts)


_LABEL_SUFFIX = {".jpg": ".png", ".jpeg": ".png", ".npz": ".npy", ".wav": ".csv", ".flac": ".csv"}
"""Families in which labels are kept in another format: JPEG is lossy, events are a table."""
_LABEL_SUFFIX |= dict.fromkeys(SLIDES, ".tif")


def label_name(name: str, data: DataSet) -> str:
    """What the label of an input is called: as labels of such images are in the data set.

    A kind of image that the data set does not have keeps its own family of formats.

    >>> from labelmend.types import Sample
    >>> spec = DataSpec("segmentation", ("a", "b"), (0, 255), None, 2, 1, "none", ".png")
    >>> data = DataSet("", spec, (Sample("images/a.jpg", "a.png", "strong", "train", "a"),))
    >>> label_name("scan.jpg", data), label_name("scan.tif", data)
    ('scan.png', 'scan.tif')
    """
    stem, suffix = split_name(name)
    if suffix in _image_suffixes(data):
        suffix = data.spec.suffix
    return stem + written_suffix(suffix, data.spec)


def written_suffix(suffix: str, spec: DataSpec) -> str:
    """The suffix of a label, or that of a format that is written and can hold all values.

    >>> written_suffix(".npz", DataSpec("regression", ("a",), (), None, 2, 1, "none", ".npy"))
    '.npy'
    """
    suffix = _LABEL_SUFFIX.get(suffix, suffix)
    if suffix == ".csv" and spec.suffix != ".csv":
        return ".npy"
    picture = suffix in (".png", ".tif", ".tiff", ".ome.tif", ".ome.tiff")
    if spec.dims == 1 and picture:
        return ".npy"
    values = spec.values or (0,)
    too_much = (
        spec.task == "regression" or spec.dims != 2 or not 0 <= min(values) <= max(values) < 2**16
    )
    return ".tif" if suffix == ".png" and too_much else suffix


def _image_suffixes(data: DataSet) -> set[str]:
    return {split_name(sample.image)[1] for sample in data.samples}
