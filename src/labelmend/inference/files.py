"""Predict files and folders of them, and write labels of the family that such images have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from labelmend.errors import DataError, LabelmendError, RunError
from labelmend.files.formats import SUFFIXES, split_name
from labelmend.files.readers import read_as, write_label
from labelmend.inference.predictor import Predictor
from labelmend.progress import Silent, Watcher
from labelmend.runs.atomic import keeping
from labelmend.types import DataSet, DataSpec


def predict_files(
    predictor: Predictor,
    inputs: Sequence[Path],
    out: Path,
    *,
    watcher: Watcher | None = None,
) -> tuple[list[Path], list[str]]:
    """Write a label for every file, geometry kept; a file that cannot be read stops no other.

    Args:
        inputs: files, or folders whose readable files are taken; sub-folders are kept.
        out: the folder of the labels; made if missing, labels of the same name are replaced.

    Returns:
        The files written, and one sentence for every file that could not be predicted.

    Raises:
        DataError: before anything is written, when there is no input, two inputs would be written
            to one file, or a label would replace an input or a file that the run was trained on.
        StorageError: when the disk refuses.
    """
    watcher = watcher or Silent()
    planned = _planned(inputs, out, predictor.run.data)
    _make(out)
    written: list[Path] = []
    failed: list[str] = []
    watcher.start(len(planned), 0)
    try:
        for number, (target, source) in enumerate(planned.items(), 1):
            try:
                _predict_file(predictor, source, target)
                written.append(target)
            except RunError:
                raise  # the disk would refuse the next one too
            except LabelmendError as error:
                text = str(error)
                failed.append(text if str(source) in text else f"{source}: {text}")
            watcher.step(number, {})
    finally:
        watcher.finish()
    return written, failed


def _predict_file(predictor: Predictor, source: Path, target: Path) -> None:
    spec = predictor.spec
    raster = read_as(source, spec)
    if raster.array.shape[0] != spec.channels:
        raise DataError(
            f"{source} has {raster.array.shape[0]} channels, and the images that the network was "
            f"trained on {spec.channels}; convert it"
        )
    label = predictor.predict(raster.array, spacing=raster.spacing)
    _make(target.parent)
    write_label(target, label, spec, raster)


def _make(folder: Path) -> None:
    wrong = next((p for p in (folder, *folder.parents) if p.exists() and not p.is_dir()), None)
    if wrong is not None:
        raise RunError(f"labels cannot go to {folder}: {wrong} is a file; name a folder")
    with keeping("the labels", folder, 0):
        folder.mkdir(parents=True, exist_ok=True)


def _planned(inputs: Sequence[Path], out: Path, data: DataSet) -> dict[Path, Path]:
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
        known = " ".join(SUFFIXES)
        raise DataError(
            f"no file to predict in {', '.join(str(p) for p in inputs)}; read are {known}"
        )
    _refuse_replacing(planned, data)
    return planned


def _refuse_replacing(planned: Mapping[Path, Path], data: DataSet) -> None:
    """An image or a label made by hand is never replaced by a prediction."""
    root = Path(data.root).resolve()
    samples = {root / path for sample in data.samples for path in (sample.image, sample.label)}
    precious = samples | {source.resolve() for source in planned.values()}
    for target in planned:
        if target.resolve() in precious:
            raise DataError(
                f"{target} is an input or belongs to the data set, and a prediction would replace "
                "it; choose another --out"
            )


def _found(given: Path, data: DataSet) -> Iterator[tuple[Path, Path]]:
    """The files behind one input, each with its place below the output folder."""
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


def _is_input(place: Path, data: DataSet) -> bool:
    suffix = split_name(place.name)[1]
    if suffix == ".csv" and ".csv" not in _image_suffixes(data):
        return False  # a manifest or a list of events beside recordings is no image
    return suffix in SUFFIXES and not any(part.startswith(".") for part in place.parts)


_LABEL_SUFFIX = {".jpg": ".png", ".jpeg": ".png", ".npz": ".npy", ".wav": ".csv", ".flac": ".csv"}
"""Families in which labels are kept in another format: JPEG is lossy, events are a table."""


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
