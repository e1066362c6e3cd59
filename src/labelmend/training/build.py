"""Settings and a data set become a training that is ready to go: the one place that reads both."""

from __future__ import annotations

import functools
import hashlib
import math
import os
import statistics
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from labelmend.config import Settings
from labelmend.config import preset as named_settings
from labelmend.data.augment import Augmentation
from labelmend.data.dataset import SampleDataset
from labelmend.data.prepare import Preparation, measure
from labelmend.data.readers import hash_file, load_verified, read_image
from labelmend.data.sampling import Plan
from labelmend.data.scan import open_data
from labelmend.errors import ChangedDataError, DataError, LabelmendError, SettingsError
from labelmend.losses import make_loss
from labelmend.networks.build import build_network, couples_samples, size_multiple
from labelmend.runs import Run
from labelmend.training.objective import Objective
from labelmend.training.processes import Processes
from labelmend.progress import Silent, Watcher
from labelmend.training.reweigh import Reweigher
from labelmend.training.schedule import learning_rate_factor
from labelmend.training.trainer import Feed, Timetable, Trainer
from labelmend.training.validation import Validator
from labelmend.types import Batch, DataSet, DataSpec, Raster, Sample
from labelmend.weighting.curvature import identity
from labelmend.weighting.weights import WeightTable, update_rule

DEFAULT_STEPS = 2000
LARGEST_PATCH = {1: 4096, 2: 256, 3: 64}
"""Default patches are no longer than this per axis: what a small network and 8 GiB can do."""


def fit(
    data: str | Path,
    out: str | Path,
    *,
    preset: str = "weighted",
    settings: Settings | None = None,
    watcher: Watcher | None = None,
    **overrides: Any,
) -> Run:
    """Train on a data set and leave everything in a run folder.

    Args:
        data: the data set's folder.
        out: the run folder; must not exist or be empty.
        preset: ``weighted``, ``pooled`` or ``strong_only``.
        settings: complete settings instead of a preset.
        watcher: who sees the progress; nobody by default.
        overrides: single settings over either, such as ``steps=500, batch={"size": 4}``.

    Returns:
        The finished run; ``labelmend.load(run)`` predicts with it.

    Raises:
        DataError: when something is wrong with the data; ``labelmend check`` lists it all.
        SettingsError: for a setting that cannot be used.
        Stopped: after SIGINT or SIGTERM; :func:`resume` goes on.

    The trap: figures on the held-out strong samples that chose a checkpoint are no test figures.
    """
    below = named_settings(preset) if settings is None else settings.model_dump()
    chosen = Settings.make(below, overrides)
    fabric = _start_fabric(chosen)
    watcher = _only_first(fabric, watcher)
    run = _created(fabric, Path(data), Path(out), chosen, watcher)
    _train(fabric, run, watcher, resumed=False)
    return run


def resume(run: str | Path, *, watcher: Watcher | None = None) -> Run:
    """Go on with a training exactly where its last whole checkpoint stands.

    Raises:
        ChangedDataError: when a file of the data set is no longer the one training began with.
        DamagedError: when no whole checkpoint is left; it never begins afresh.
    """
    opened = Run.open(Path(run))
    fabric = _start_fabric(opened.settings)
    watcher = _only_first(fabric, watcher)
    _refuse_changed(opened.data)
    _train(fabric, opened, watcher, resumed=True)
    return opened


# ---------------------------------------------------------------------- before the loop


def _start_fabric(settings: Settings) -> Fabric:
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    try:
        fabric = Fabric(
            accelerator=settings.device,
            devices=local,
            num_nodes=max(world // local, 1),
            strategy="ddp" if world > 1 else "auto",
            precision=settings.precision,
        )
    except (RuntimeError, ValueError, ImportError) as error:
        raise SettingsError(f"device {settings.device!r} cannot be used: {error}") from error
    fabric.launch()
    return fabric


def _only_first(fabric: Fabric, watcher: Watcher | None) -> Watcher:
    return watcher if watcher is not None and fabric.global_rank == 0 else Silent()


def _created(fabric: Fabric, data: Path, out: Path, settings: Settings, watcher: Watcher) -> Run:
    processes = Processes(fabric)
    error: LabelmendError | None = None
    if processes.first:
        try:
            _create(data, out, settings, watcher)
        except LabelmendError as caught:
            error = caught
    processes.agree(error)
    return Run.open(out)


def _create(data: Path, out: Path, settings: Settings, watcher: Watcher) -> None:
    chosen = settings.input
    dataset, problems = open_data(
        data,
        seed=settings.seed,
        val_share=chosen.val_share,
        test_share=chosen.test_share,
        allow_bad=chosen.allow_bad,
        keep_splits=True,
    )
    for note in dataset.notes:
        watcher.say(note)
    for problem in problems:
        watcher.say(f"left out: {problem.file}: {problem.message}")
    _refuse_impossible(settings, dataset)
    facts = _facts(settings, dataset)
    Run.create(out, settings, dataset, facts, problems=problems)


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
    if settings.loss in ("l1", "l2") and data.spec.task == "segmentation":
        raise SettingsError(f"loss {settings.loss!r} is for regression; use dice_ce or another")


def _facts(settings: Settings, data: DataSet) -> dict[str, Any]:
    preparation = _preparation(settings)
    if preparation.normalise == "set":
        preparation = measure(preparation, _rasters(data, data.of("train")))
    multiple = size_multiple(settings.network.name, settings.network.depth)
    patch = settings.input.patch or _patch(data, preparation, multiple)
    if len(patch) != data.spec.dims:
        raise SettingsError(
            f"input.patch has {len(patch)} sizes and the data {data.spec.dims} space axes"
        )
    return {
        "in_channels": preparation.channels(data.spec.channels),
        "out_channels": len(data.spec.classes),
        "patch": [-(-n // multiple) * multiple for n in patch],
        "multiple": multiple,
        "preparation": asdict(preparation),
    }


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


def _rasters(data: DataSet, samples: Iterable[Sample]) -> Iterator[Raster]:
    seen: set[str] = set()
    for sample in samples:
        if sample.image not in seen:
            seen.add(sample.image)
            path = Path(data.root) / sample.image
            content = load_verified(path, sample.image_sha256)
            yield read_image(
                path,
                content=content,
                dims=data.spec.dims,
                channel_axis=data.spec.channel_axis,
            )


def _patch(data: DataSet, preparation: Preparation, multiple: int) -> tuple[int, ...]:
    """The median size of up to 32 training images, within what is affordable."""
    some = data.of("train")
    some = some[:: max(len(some) // 32, 1)]
    plain = replace(preparation, normalise="none")
    sizes = [plain.image(raster)[0].shape[1:] for raster in _rasters(data, some)]
    limit = LARGEST_PATCH[data.spec.dims]
    medians = [statistics.median(axis) for axis in zip(*sizes, strict=True)]
    return tuple(min(math.ceil(m / multiple) * multiple, limit) for m in medians)


def _refuse_changed(data: DataSet) -> None:
    recorded = {s.image: s.image_sha256 for s in data.samples}
    recorded |= {s.label: s.label_sha256 for s in data.samples}
    root = Path(data.root)
    changed = [name for name, digest in recorded.items() if _hash(root / name) != digest]
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise ChangedDataError(
            f"{root / changed[0]}{more} changed since this run began; a run goes on only with "
            "the files it began with: restore them, or start a new run with --out"
        )


def _hash(path: Path) -> str:
    return hash_file(path) if path.exists() else ""


# ---------------------------------------------------------------------- the loop


def _train(fabric: Fabric, run: Run, watcher: Watcher, *, resumed: bool) -> None:
    with ExitStack() as stack:
        first = fabric.global_rank == 0
        processes = Processes(fabric)
        error: LabelmendError | None = None
        try:
            if first:
                stack.enter_context(run.claim())
        except LabelmendError as caught:
            error = caught
        processes.agree(error)
        # The caller's random numbers go on as if there had been no training.
        stack.enter_context(torch.random.fork_rng(devices=_cuda_devices(fabric)))
        trainer = assemble(fabric, run, watcher)
        if resumed:
            _go_back(trainer, run, watcher, processes)
        trainer.train()


def _cuda_devices(fabric: Fabric) -> list[int]:
    return [fabric.device.index or 0] if fabric.device.type == "cuda" else []


def _go_back(trainer: Trainer, run: Run, watcher: Watcher, processes: Processes) -> None:
    checkpoint = run.load("last")
    trainer.restore(checkpoint)
    for note in checkpoint.notes:
        watcher.say(note)
    if processes.first:
        run.rewind(checkpoint.step)
    watcher.say(f"going on after step {checkpoint.step}")


def assemble(fabric: Fabric, run: Run, watcher: Watcher) -> Trainer:
    """A trainer at step 0 for a run folder, from its settings, manifest and facts alone."""
    settings, data, facts = run.settings, run.data, run.facts
    network = _network(settings, data.spec, facts, watcher)
    samples = _samples(settings, data, facts)
    plan = _plan(settings, data)
    # The device and number type are known only after Fabric has set the network up.
    move = functools.partial(_to_network, network)
    objective = Objective(make_loss(settings.loss))
    strong = torch.tensor([s.quality == "strong" for s in data.samples])
    processes = Processes(fabric)
    return Trainer(
        fabric,
        {"main": network},
        functools.partial(_optimiser, settings),
        objective,
        _feed(settings, samples, plan),
        _timetable(settings, plan),
        WeightTable.start(strong, settings.weighting.initial),
        run,
        watcher,
        _reweigher(settings, samples, plan, objective, network, processes, move, fabric),
        _validator(settings, samples, facts, processes, move, fabric),
    )


def _network(
    settings: Settings, spec: DataSpec, facts: Mapping[str, Any], watcher: Watcher
) -> nn.Module:
    chosen = settings.network
    network = build_network(
        chosen.name,
        spec.dims,
        facts["in_channels"],
        facts["out_channels"],
        width=chosen.width,
        depth=chosen.depth,
        dropout=chosen.dropout,
        arguments=chosen.arguments,
        seed=settings.seed,
    )
    coupling = couples_samples(network)
    if coupling is not None:
        watcher.say(
            f"the network's layer {coupling} couples the samples of a batch: results depend on "
            "batch size and number of processes, and weights are judged in evaluation mode"
        )
    return network.train()


def _optimiser(settings: Settings, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    chosen = settings.optimiser
    return torch.optim.AdamW(
        parameters, lr=chosen.learning_rate, weight_decay=chosen.weight_decay
    )


def _samples(settings: Settings, data: DataSet, facts: Mapping[str, Any]) -> SampleDataset:
    return SampleDataset(
        data,
        Preparation.from_json(facts["preparation"]),
        tuple(facts["patch"]),
        Augmentation(**settings.augment.model_dump()),
        seed=settings.seed,
        cache_mb=settings.input.cache_mb,
        foreground=settings.input.foreground,
    )


def _plan(settings: Settings, data: DataSet) -> Plan:
    strong, weak = _indices(data, "strong"), _indices(data, "weak")
    share = settings.batch.strong_share
    if share == 1:
        weak = ()
    if share == 0:
        strong = ()
    return Plan(strong, weak, settings.batch.size, share, settings.seed)


def _indices(data: DataSet, quality: str) -> tuple[int, ...]:
    return tuple(
        i for i, s in enumerate(data.samples) if s.split == "train" and s.quality == quality
    )


def _feed(settings: Settings, samples: SampleDataset, plan: Plan) -> Feed:
    return Feed(
        samples,
        plan,
        parts=settings.batch.accumulate,
        workers=settings.input.workers,
        timeout=settings.input.timeout,
    )


def _timetable(settings: Settings, plan: Plan) -> Timetable:
    steps = settings.steps or DEFAULT_STEPS
    if settings.epochs is not None:
        steps = max(1, math.ceil(settings.epochs * plan.steps_per_epoch))
    tenth = max(1, math.ceil(steps / 10))
    validate_every = settings.validate_every or tenth
    chosen = settings.optimiser

    def learning_rate(step: int) -> float:
        factor = learning_rate_factor(step, steps, chosen.warmup, chosen.schedule)
        return chosen.learning_rate * factor

    return Timetable(
        steps=steps,
        validate_every=validate_every,
        save_every=settings.save_every or validate_every,
        weigh_start=max(settings.weighting.start, 1),
        weigh_every=settings.weighting.every,
        patience=settings.patience,
        keep=settings.keep,
        learning_rate=learning_rate,
        clip=chosen.clip,
        seed=settings.seed,
    )


def _reweigher(
    settings: Settings,
    samples: SampleDataset,
    plan: Plan,
    objective: Objective,
    network: nn.Module,
    processes: Processes,
    move: Any,
    fabric: Fabric,
) -> Reweigher | None:
    chosen = settings.weighting
    if chosen.method == "constant" or not plan.weak or not plan.strong:
        return None
    seed = settings.seed
    return Reweigher(
        objective,
        network,
        samples,
        strong=Plan(plan.strong, (), chosen.strong_samples, 1.0, _derived(seed, "trusted")),
        weak=Plan(
            (), plan.weak, chosen.weak_samples or len(plan.weak), 0.0, _derived(seed, "judged")
        ),
        chunk=settings.batch.size,
        rule=update_rule(chosen.update),
        rate=chosen.rate,
        curvature=identity,
        processes=processes,
        move=move,
        precision=fabric.autocast,
    )


def _validator(
    settings: Settings,
    samples: SampleDataset,
    facts: Mapping[str, Any],
    processes: Processes,
    move: Any,
    fabric: Fabric,
) -> Validator | None:
    held_out = tuple(
        i
        for i, s in enumerate(samples.data.samples)
        if s.split == "val" and s.quality == "strong"
    )
    if not held_out:
        return None
    return Validator(
        samples,
        held_out,
        samples.data.spec,
        tuple(facts["patch"]),
        settings.input.overlap,
        facts["multiple"],
        processes,
        move,
        precision=fabric.autocast,
    )


def _derived(seed: int, purpose: str) -> int:
    """Another seed, so that the weight step's draws are not the training's."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:4], "little") // 2


def _to_network(network: nn.Module, thing: Batch | Tensor) -> Any:
    parameter = next(network.parameters())
    if isinstance(thing, Tensor):
        return thing.to(parameter)
    moved = thing.to(parameter.device)
    return Batch(moved.image.to(parameter.dtype), moved.label, moved.valid, moved.index)
