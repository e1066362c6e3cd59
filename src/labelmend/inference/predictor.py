"""Use a trained run: predict an array, a file, or a folder of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from labelmend.config import Settings
from labelmend.data.formats import SUFFIXES, split_name
from labelmend.data.prepare import Preparation
from labelmend.data.readers import read_as, write_label
from labelmend.data.whole import predict_whole
from labelmend.errors import DataError, LabelmendError, RunError, SettingsError, ShapeError
from labelmend.networks.build import build_network
from labelmend.progress import Silent, Watcher
from labelmend.runs import Run
from labelmend.types import DataSpec, Raster


@dataclass(frozen=True, slots=True)
class Predictor:
    """A trained network with everything that turns an image into a label.

    Get one from :func:`load`.

    Attributes:
        run: the run folder it comes from.
        step: the training step of its parameters.
    """

    run: Run
    step: int
    network: nn.Module
    preparation: Preparation
    patch: tuple[int, ...]
    multiple: int
    device: torch.device

    @property
    def spec(self) -> DataSpec:
        """What the data it was trained on had in common."""
        return self.run.data.spec

    def predict(
        self, image: np.ndarray | Tensor, *, spacing: tuple[float, ...] | None = None
    ) -> np.ndarray:
        """The label of an image of any size.

        Args:
            image: ``(channels, *space)``, or ``(*space)`` where images have one channel; in the
                range of values that the training images had.
            spacing: distance between positions along every space axis, where training resampled
                to a spacing.

        Returns:
            Class indices ``(*space)`` int64; for regression ``(channels, *space)`` float32. Class
            indices are not the values of label files: ``spec.values[index]`` is.

        Raises:
            ShapeError: when the image has other axes or channels than in training.
        """
        return self.decide(self.scores(self._raster(image, spacing)))

    def scores(self, raster: Raster) -> np.ndarray:
        """The network's output for an image as read, ``(scores, *space)`` float32."""
        prepared, grid = self.preparation.image(raster)
        if not np.isfinite(prepared).all():
            raise ShapeError("the image holds NaN or infinity; replace them first")
        scores = predict_whole(
            self.network,
            torch.from_numpy(prepared).to(self.device),
            patch=self.patch,
            overlap=self.run.settings.input.overlap,
            multiple=self.multiple,
        )
        return self.preparation.restore(scores, grid)

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """Class indices for scores; for regression the scores themselves."""
        return scores if self.spec.task == "regression" else scores.argmax(0)

    def _raster(self, image: np.ndarray | Tensor, spacing: tuple[float, ...] | None) -> Raster:
        array = np.asarray(image.detach().cpu() if isinstance(image, Tensor) else image)
        dims, channels = self.spec.dims, self.spec.channels
        if array.ndim == dims and channels == 1:
            array = array[None]
        if array.ndim != dims + 1 or array.shape[0] != channels:
            raise ShapeError(
                f"the image must be shaped (channels, *space) with {channels} channels and "
                f"{dims} space axes, not {tuple(array.shape)}"
            )
        return Raster(array, spacing or self.spec.spacing)


def load(
    run: Run | str | Path,
    *,
    checkpoint: Literal["last", "best"] | int = "last",
    device: str = "auto",
    network: str | None = None,
) -> Predictor:
    """Load a run's network, ready to predict.

    Args:
        run: the run folder.
        checkpoint: ``last``, ``best`` (on held-out strong samples) or a step.
        device: ``auto`` takes a GPU where there is one.
        network: where the run was trained with ``module:Class`` of your own, its name again:
            loading never imports code that you did not name.

    Raises:
        RunError: when the folder is no run or has no checkpoint.
        DamagedError: when no checkpoint is whole.
        SettingsError: when the run needs code that you did not name.
    """
    opened = run if isinstance(run, Run) else Run.open(Path(run))
    saved = opened.load(checkpoint)
    if isinstance(checkpoint, int) and saved.step != checkpoint:
        raise RunError(f"{opened.path}: the checkpoint of step {checkpoint} is damaged")
    chosen = _device(device)
    model = _network(opened.settings, opened, network)
    model.load_state_dict(saved.tensors["main"])
    facts = opened.facts
    return Predictor(
        opened,
        saved.step,
        model.to(chosen).eval(),
        Preparation.from_json(facts["preparation"]),
        tuple(facts["patch"]),
        facts["multiple"],
        chosen,
    )


def _network(settings: Settings, run: Run, named: str | None) -> nn.Module:
    chosen = settings.network
    if ":" in chosen.name and chosen.name != named:
        raise SettingsError(
            f"{run.path} was trained with network {chosen.name!r}, which is code of your own; "
            f"to have it imported, repeat its name: --network {chosen.name}"
        )
    return build_network(
        chosen.name,
        run.data.spec.dims,
        run.facts["in_channels"],
        run.facts["out_channels"],
        width=chosen.width,
        depth=chosen.depth,
        dropout=chosen.dropout,
        arguments=chosen.arguments,
    )


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(f"device {name!r} cannot be used: {error}") from error
    return device


def predict_files(
    predictor: Predictor,
    inputs: Sequence[Path],
    out: Path,
    *,
    watcher: Watcher | None = None,
) -> tuple[list[Path], list[str]]:
    """Write a label for every file, in the file's family of formats, geometry kept.

    Args:
        inputs: files, or folders whose readable files are taken; sub-folders are kept.
        out: the folder of the labels; made if missing.

    Returns:
        The files written, and one sentence for every file that could not be read.

    Raises:
        DataError: when there is no input, or two inputs would be written to one file.
    """
    watcher = watcher or Silent()
    planned = _planned(inputs, out, predictor.spec)
    written: list[Path] = []
    failed: list[str] = []
    watcher.start(len(planned), 0)
    try:
        for number, (target, source) in enumerate(planned.items(), 1):
            try:
                _predict_file(predictor, source, target)
                written.append(target)
            except LabelmendError as error:
                text = str(error)
                failed.append(text if source.name in text else f"{source}: {text}")
            watcher.step(number, {})
    finally:
        watcher.finish()
    return written, failed


def _predict_file(predictor: Predictor, source: Path, target: Path) -> None:
    spec = predictor.spec
    raster = read_as(source, spec)
    label = predictor.predict(raster.array, spacing=raster.spacing)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_label(target, label, spec, raster)


def _planned(inputs: Sequence[Path], out: Path, spec: DataSpec) -> dict[Path, Path]:
    planned: dict[Path, Path] = {}
    for given in inputs:
        if given.is_dir():
            found = [(p, p.relative_to(given)) for p in sorted(given.rglob("*")) if _readable(p)]
        elif given.exists():
            found = [(given, Path(given.name))]
        else:
            raise DataError(f"no file or folder at {given}")
        for source, place in found:
            target = out / place.parent / label_name(place.name, spec)
            if target in planned:
                raise DataError(
                    f"{planned[target]} and {source} would both be written to {target}; "
                    "predict them into two folders"
                )
            planned[target] = source
    if not planned:
        raise DataError(f"no readable file in {', '.join(str(p) for p in inputs)}")
    return planned


_LABEL_SUFFIX = {".jpg": ".png", ".jpeg": ".png", ".npz": ".npy", ".wav": ".csv", ".flac": ".csv"}
"""Families in which labels are kept in another format: JPEG is lossy, events are a table."""


def label_name(name: str, spec: DataSpec) -> str:
    """What the label of an input is called: its own name in a format that labels can have.

    >>> from labelmend.types import DataSpec
    >>> spec = DataSpec("segmentation", ("a", "b"), (0, 1), None, 2, 1, "none", ".png")
    >>> label_name("scan.jpg", spec), label_name("scan.nii.gz", spec)
    ('scan.png', 'scan.nii.gz')
    """
    stem, suffix = split_name(name)
    suffix = _LABEL_SUFFIX.get(suffix, suffix)
    if suffix == ".csv" and spec.suffix != ".csv":
        suffix = spec.suffix
    if spec.task == "regression" and suffix == ".png":
        suffix = ".tif"
    return stem + suffix


def _readable(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts[-2:])
    return path.is_file() and not hidden and split_name(path.name)[1] in SUFFIXES
