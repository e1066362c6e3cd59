"""Checkpoints: a training's whole memory in safetensors and JSON, checked before it is used."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from labelmend.errors import DamagedError, RunError, SettingsError, ShapeError
from labelmend.runs.atomic import discard, keeping, sync_folder, write_folder
from labelmend.runs.disk import Disk
from labelmend.runs.records import from_json, to_json
from labelmend.runs.sums import check_names, read_sums, read_verified

if TYPE_CHECKING:
    from torch import Tensor

Which = Literal["last", "best"] | int
_FOLDER = re.compile(r"step-(\d{8,})(?:\.([1-9]\d*))?")
_GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_STATE = "state.json"
_BEST = ("best_step", "first_best_step")
_SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Everything a training needs to go on as if it had never stopped.

    ``tensors`` are groups by name (``main``, ``optimiser``), each a dict of tensors of any
    number type and shape; they come back bit for bit, contiguous, on the CPU. ``state`` is for
    numbers, texts, lists and dicts; tuples come back as lists. ``notes`` say, after a load, which
    damaged files were passed over.
    """

    step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Place(NamedTuple):
    """Where a checkpoint lies; a second one of the same step is of a later generation."""

    step: int
    generation: int
    folder: Path


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int) -> None:
    """Write a checkpoint; then remove all but the last ``keep`` and the best its state names.

    Raises:
        StorageError: when the disk refuses; the earlier checkpoints are intact.
        NonFiniteError: for NaN or infinity in the state (in tensors they are kept).
        ShapeError: for a tensor that safetensors cannot hold.
    """
    state = to_json({"step": checkpoint.step, "state": checkpoint.state}, "state of the checkpoint")
    _check_groups(checkpoint)
    with keeping(f"the checkpoint of step {checkpoint.step}", folder, _count_bytes(checkpoint)):
        if not folder.exists():
            Disk.mkdir(folder)
            sync_folder(folder.parent)
        write_folder(_next_folder(folder, checkpoint.step), _encode(checkpoint, state))
    with keeping("the list of checkpoints", folder, 0):
        _retire(folder, keep, {checkpoint.state.get(name) for name in _BEST})


def load_checkpoint(folder: Path, which: Which) -> Checkpoint:
    """Read a checkpoint after checking every file of it.

    Raises:
        DamagedError: when none asked for is whole, naming the files.
        RunError: when there is none.
        SettingsError: for what is neither ``last`` nor ``best`` nor a step.
    """
    asked = _asked(which)
    for _ in range(10):  # a training beside us may remove what we are about to read
        places = list_places(folder)
        if not places:
            raise RunError(f"{folder.parent} has no checkpoint yet; begin again with another --out")
        try:
            return _load_one(places, asked) if isinstance(asked, int) else _load(places, asked)
        except DamagedError:
            if all(place.folder.exists() for place in places):
                raise
    raise RunError(f"the checkpoints in {folder} change faster than they can be read; try later")


def _asked(which: object) -> Which:
    if which in ("last", "best"):
        return "last" if which == "last" else "best"
    try:
        return operator.index(which)  # type: ignore[arg-type]
    except TypeError:
        raise SettingsError(
            f"a checkpoint is 'last', 'best' or the number of a step, not {which!r}"
        ) from None


def list_places(folder: Path) -> list[Place]:
    """The checkpoints in a folder, oldest first; none where the folder does not exist."""
    matches = [(_FOLDER.fullmatch(p.name), p) for p in folder.iterdir()] if folder.exists() else []
    return sorted(Place(int(m[1]), int(m[2] or 0), path) for m, path in matches if m is not None)


def drop_beyond(folder: Path, step: int) -> None:
    """Remove the checkpoints of later steps, newest first."""
    with keeping("the list of checkpoints", folder, 0):
        later = [place for place in list_places(folder) if place.step > step]
        for place in reversed(later):
            discard(place.folder)
        if later:
            sync_folder(folder)


def _check_groups(checkpoint: Checkpoint) -> None:
    if checkpoint.step < 0:
        raise RunError(f"a checkpoint's step is 0 or more, not {checkpoint.step}")
    for group, tensors in checkpoint.tensors.items():
        if not _GROUP.fullmatch(group):
            raise RunError(f"a group of tensors is named by letters and digits, not {group!r}")
        if "__metadata__" in tensors:  # the one name that the file format keeps for itself
            raise RunError(f"no tensor of group {group!r} can be called '__metadata__'; rename it")


def _count_bytes(checkpoint: Checkpoint) -> int:
    groups = checkpoint.tensors.values()
    return 100_000 + sum(t.numel() * t.element_size() for group in groups for t in group.values())


def _next_folder(folder: Path, step: int) -> Path:
    taken = [place.generation for place in list_places(folder) if place.step == step]
    suffix = f".{max(taken) + 1}" if taken else ""
    return folder / f"step-{step:08d}{suffix}"


def _encode(checkpoint: Checkpoint, state: bytes) -> Iterator[tuple[str, bytes]]:
    from safetensors import SafetensorError  # late: takes seconds
    from safetensors import torch as safetensors

    for group, tensors in checkpoint.tensors.items():
        try:
            own = {name: _detach(tensor) for name, tensor in tensors.items()}
            content = safetensors.save(own)
        except (ValueError, KeyError, RuntimeError, SafetensorError) as error:
            kinds = ", ".join(sorted({str(tensor.dtype) for tensor in tensors.values()}))
            reason = str(error).partition("\n")[0]
            raise ShapeError(f"group {group!r} ({kinds}) cannot be saved: {reason}") from error
        yield group + _SUFFIX, content
    yield _STATE, state + b"\n"


def _detach(tensor: Tensor) -> Tensor:
    # A copy of its own: neighbours may share memory, which the file format refuses.
    import torch  # late: takes seconds

    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _retire(folder: Path, keep: int, best: Set[int | None]) -> None:
    latest = {place.step: place for place in list_places(folder)}
    kept = {*sorted(latest)[-keep:], *best}
    old = [p for p in list_places(folder) if p.step not in kept or p != latest[p.step]]
    for place in old:
        discard(place.folder)
    if old:
        sync_folder(folder)


def _load(places: list[Place], which: Literal["last", "best"]) -> Checkpoint:
    newest = _load_newest(places)
    best_step = newest.state.get("best_step")
    if which == "last" or best_step in (None, newest.step):
        return newest
    try:
        best = _load_one(places, int(best_step))
    except RunError as error:
        notes = (*newest.notes, f"{error}; used step {newest.step} in place of the best")
        return Checkpoint(newest.step, newest.tensors, newest.state, notes)
    return Checkpoint(best.step, best.tensors, best.state, newest.notes + best.notes)


def _load_newest(places: list[Place]) -> Checkpoint:
    notes: list[str] = []
    for place in reversed(places):
        try:
            whole = _read(place)
        except DamagedError as error:
            notes.append(str(error))
            continue
        if notes:
            notes.append(f"went back to step {whole.step}, the newest whole checkpoint")
        return Checkpoint(whole.step, whole.tensors, whole.state, tuple(notes))
    raise DamagedError(f"no checkpoint of this run is whole: {'; '.join(notes)}")


def _load_one(places: list[Place], step: int) -> Checkpoint:
    found = [place for place in places if place.step == step]
    if not found:
        known = ", ".join(str(place.step) for place in places) or "none"
        raise RunError(f"this run has no checkpoint of step {step}; it has {known}")
    return _load_newest(found)


def _read(place: Place) -> Checkpoint:
    from safetensors import SafetensorError  # late: takes seconds
    from safetensors import torch as safetensors

    hashes = read_sums(place.folder)
    check_names(place.folder, hashes)
    content = {name: read_verified(place.folder, hashes, name) for name in hashes}
    record = from_json(content.pop(_STATE, b""), str(place.folder / _STATE))
    if record["step"] != place.step:
        raise DamagedError(f"{place.folder} holds step {record['step']}; its name was changed")
    tensors = {}
    for name, data in content.items():
        try:
            tensors[name.removesuffix(_SUFFIX)] = safetensors.load(data)
        except (ValueError, KeyError, SafetensorError) as error:
            raise DamagedError(f"{place.folder / name} cannot be read: {error}") from error
    return Checkpoint(place.step, tensors, record["state"])
