"""Settings and a data set become a training: the one place that reads both."""

from __future__ import annotations

import functools
import os
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from labelmend.catalogue.attached import changed_files
from labelmend.config import Settings
from labelmend.config import preset as named_settings
from labelmend.errors import ChangedDataError, LabelmendError, SettingsError, Stopped
from labelmend.networks.trust import check_named
from labelmend.progress import Silent, Watcher
from labelmend.runs import Checkpoint, Run
from labelmend.training.assembly.begin import create_run
from labelmend.training.assembly.parts import assemble, rehearse
from labelmend.training.processes import Processes
from labelmend.training.trainer import Trainer

__all__ = ["assemble", "fit", "resume"]


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
        preset: a name of :data:`labelmend.config.presets.PRESETS`.
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
    with _company(chosen) as fabric:
        watcher = _only_first(fabric, watcher)
        run = _created(fabric, Path(data), Path(out), chosen, watcher)
        _train(fabric, run, watcher, resumed=False)
    return run


def resume(run: str | Path, *, network: str | None = None, watcher: Watcher | None = None) -> Run:
    """Go on with a training exactly where its last whole checkpoint stands.

    Args:
        run: the run folder.
        network: where the run trains a ``module:Class`` of your own, its name again: a run
            folder never decides what code is imported.
        watcher: who sees the progress; nobody by default.

    Raises:
        SettingsError: when the run needs code that you did not name.
        DataError: when the data set is gone.
        ChangedDataError: when a file of the data set is no longer the one training began with.
        DamagedError: when no whole checkpoint is left; it never begins afresh.
    """
    opened = Run.open(Path(run))
    check_named(opened.settings.network.name, network, str(opened.path))
    with _company(opened.settings) as fabric:
        watcher = _only_first(fabric, watcher)
        _refuse_changed(opened)
        _train(fabric, opened, watcher, resumed=True)
    return opened


@contextmanager
def _company(settings: Settings) -> Iterator[Fabric]:
    """All processes of a training, from their meeting to their parting.

    A process that ends with its connections open is aborted by their threads, now and then.
    """
    met_before = torch.distributed.is_initialized()
    fabric = _start_fabric(settings)
    try:
        try:
            yield fabric
        except Stopped:
            fabric.barrier()  # all of them stop, after the same step
            raise
        fabric.barrier()  # none leaves while another is still talking to it
    except BaseException as error:
        # Networks that only the traceback keeps must not let go of the connections last: they
        # would keep Python waiting for threads that wait for Python.
        traceback.clear_frames(error.__traceback__)
        raise
    finally:
        if torch.distributed.is_initialized() and not met_before:
            torch.distributed.destroy_process_group()


def _start_fabric(settings: Settings) -> Fabric:
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    try:
        fabric = Fabric(
            accelerator=settings.device,
            devices=local,
            num_nodes=max(world // local, 1),
            strategy="ddp" if world > 1 else "auto",
            precision=_precision(settings),
        )
    except (RuntimeError, ValueError, ImportError) as error:
        raise SettingsError(
            f"device {settings.device!r} is not on this machine, or not usable; take --device auto "
            f"or cpu ({error})"
        ) from error
    fabric.launch()
    return fabric


def _precision(settings: Settings) -> Any:
    if settings.precision != "auto":
        return settings.precision
    with_gpu = settings.device in ("auto", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if with_gpu and torch.cuda.is_bf16_supported() else "32-true"


def _only_first(fabric: Fabric, watcher: Watcher | None) -> Watcher:
    return watcher if watcher is not None and fabric.global_rank == 0 else Silent()


def _created(fabric: Fabric, data: Path, out: Path, settings: Settings, watcher: Watcher) -> Run:
    processes = Processes(fabric)
    error: LabelmendError | None = None
    if processes.first:
        try:
            create_run(data, out, settings, watcher, functools.partial(rehearse, processes.world))
        except LabelmendError as caught:
            error = caught
    processes.agree(error)
    return Run.open(out)


def _refuse_changed(run: Run) -> None:
    root = run.data_folder()
    changed = changed_files(run.data, root)
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise ChangedDataError(
            f"{root / changed[0]}{more} changed since this run began; a run goes on only with "
            "the files it began with: restore them, or start a new run with --out"
        )


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
        stack.enter_context(_number_type(run.settings.precision))
        checkpoint = run.load("last") if resumed else None
        trainer = assemble(fabric, run, watcher)
        if checkpoint is not None:
            _go_back(trainer, checkpoint, run, watcher, processes)
        trainer.train()


@contextmanager
def _number_type(precision: str) -> Iterator[None]:
    """Under ``64-true`` Fabric still rounds what a network returns to torch's default type."""
    before = torch.get_default_dtype()
    try:
        if precision == "64-true":
            torch.set_default_dtype(torch.float64)
        yield
    finally:
        torch.set_default_dtype(before)


def _cuda_devices(fabric: Fabric) -> list[int]:
    return [fabric.device.index or 0] if fabric.device.type == "cuda" else []


def _go_back(
    trainer: Trainer, checkpoint: Checkpoint, run: Run, watcher: Watcher, processes: Processes
) -> None:
    trainer.restore(checkpoint)
    for note in checkpoint.notes:
        watcher.say(note)
    if processes.first:
        run.rewind(checkpoint.step)
    watcher.say(f"going on after step {checkpoint.step}")
