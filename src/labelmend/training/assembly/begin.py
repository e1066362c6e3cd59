"""Open a data set for training: refuse what cannot work, find out what is needed, make the run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from labelmend.catalogue.scan import open_data
from labelmend.config import Settings
from labelmend.data.dataset import known_values, rasters
from labelmend.data.prepare import Preparation, measure, moments
from labelmend.errors import DataError, SettingsError
from labelmend.losses import make_loss
from labelmend.networks.build import size_multiple
from labelmend.progress import Watcher
from labelmend.runs import Run
from labelmend.runs.folder import refuse_occupied
from labelmend.training.assembly.given import read_weights
from labelmend.types import DataSet, DataSpec

LARGEST_PATCH = {1: 4096, 2: 256, 3: 64}
"""Default patches are no longer than this per axis: what a small network and 8 GiB can do."""


Rehearse = Callable[[Settings, DataSet, dict[str, Any]], dict[str, Any]]
"""Makes everything that settings could make impossible; returns further facts of the run."""


def create_run(
    data: Path, out: Path, settings: Settings, watcher: Watcher, rehearse: Rehearse
) -> None:
    """Open the data, refuse what cannot work, and write a run folder without a checkpoint.

    What can be refused without the data is refused before it is read, and everything before
    there is a run folder, so that the corrected command works.

    Raises:
        DataError: when more files are bad than settings allow, or labels are missing.
        SettingsError: when settings do not fit the data.
        RunError: when the folder holds something.
    """
    refuse_occupied(out)
    _refuse_unknown(settings)
    chosen = settings.input
    dataset, problems = open_data(
        data,
        seed=settings.seed,
        val_share=chosen.val_share,
        test_share=chosen.test_share,
        allow_bad=chosen.allow_bad,
        keep_splits=True,
        repairs=chosen.repairs,
    )
    # A run is read from other working folders than the one it was begun in.
    dataset = replace(dataset, root=str(data.resolve()))
    _refuse_impossible(settings, dataset)
    facts = _facts(settings, dataset)
    if settings.weighting.given is not None:
        facts["given_weights"] = read_weights(
            Path(settings.weighting.given), settings.weighting.highest, dataset
        )
    facts |= rehearse(settings, dataset, facts)
    Run.create(out, settings, dataset, facts, problems=problems)
    for note in dataset.notes:
        watcher.say(note)
    for problem in problems:
        watcher.say(f"left out: {problem.file}: {problem.message}")


def _refuse_unknown(settings: Settings) -> None:
    if settings.loss is not None:
        make_loss(settings.loss)
    _multiple(settings)


def _multiple(settings: Settings) -> int:
    chosen = settings.network
    return size_multiple(chosen.name, chosen.depth, chosen.arguments)


def _refuse_impossible(settings: Settings, data: DataSet) -> None:
    strong, weak = data.of("train", "strong"), data.of("train", "weak")
    if not strong and not weak:
        raise DataError(f"{data.root}: no label is left to train on; run labelmend check")
    share = settings.batch.strong_share
    if not strong and (share or settings.weighting.method == "gradient"):
        raise DataError(
            f"{data.root}: there is no strong label to train on, and learned weights need some; "
            "put a few exact ones into labels/strong, or train with --preset pooled"
        )
    # A loss that does not suit the task is refused here, before there is a run folder.
    make_loss(loss_name(settings, data.spec), data.spec.task)


def loss_name(settings: Settings, spec: DataSpec) -> str:
    """The loss that settings ask for, or the task's usual one."""
    return settings.loss or ("dice_ce" if spec.task == "segmentation" else "l1")


def _facts(settings: Settings, data: DataSet) -> dict[str, Any]:
    preparation = _preparation(settings)
    if preparation.normalise == "set":
        preparation = measure(preparation, rasters(data, data.of("train")))
    multiple = _multiple(settings)
    patch = settings.input.patch or _patch(data, preparation, multiple)
    if len(patch) != data.spec.dims:
        raise SettingsError(
            f"input.patch has {len(patch)} sizes and the data {data.spec.dims} space axes"
        )
    facts = {
        "in_channels": preparation.channels(data.spec.channels),
        "out_channels": len(data.spec.classes),
        "patch": [-(-n // multiple) * multiple for n in patch],
        "multiple": multiple,
        "preparation": asdict(preparation),
    }
    if data.spec.task == "regression" and settings.input.scale_labels:
        found = moments(known_values(data, data.of("train")))
        if found is not None:
            facts["label_scale"] = {"mean": found[0], "deviation": found[1]}
    return facts


def _preparation(settings: Settings) -> Preparation:
    chosen = settings.input
    return Preparation(
        normalise=chosen.normalise,
        percentiles=chosen.percentiles,
        denoise=chosen.denoise,
        denoise_size=chosen.denoise_size,
        spacing=chosen.spacing,
        size=chosen.size,
        spectrogram=chosen.spectrogram,
        window=chosen.window,
        hop=chosen.hop,
    )


def _patch(data: DataSet, preparation: Preparation, multiple: int) -> tuple[int, ...]:
    """The median size of up to 32 training images, within what is affordable."""
    some = data.of("train")
    some = some[:: max(len(some) // 32, 1)]
    images = rasters(data, some)
    sizes = [preparation.grid(i.array.shape[1:], i.spacing).size for i in images]
    limit = LARGEST_PATCH[data.spec.dims]
    medians = [statistics.median(axis) for axis in zip(*sizes, strict=True)]
    return tuple(min(math.ceil(m / multiple) * multiple, limit) for m in medians)
