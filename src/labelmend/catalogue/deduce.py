"""What the files of a data set have in common, inferred where nobody said it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from labelmend.catalogue.listing import Entry
from labelmend.catalogue.survey import Facts
from labelmend.catalogue.toml import FILE, Description
from labelmend.files.formats import Problem, split_name
from labelmend.labels.events import IGNORE
from labelmend.types import ChannelAxis, DataSpec

_MANY = 32
_SEVERAL = 8
_USUAL_IGNORE = 255

Classes = tuple[tuple[str, ...], tuple[int, ...]]


class Undecided(Exception):  # noqa: N818 - it is a question to the user, not a failure
    """Something that only a person can say; carries the problem that asks for it."""

    def __init__(self, file: str, message: str) -> None:
        super().__init__(message)
        self.problem = Problem(file, message)


def infer_spec(
    said: Description,
    entries: Iterable[Entry],
    images: Mapping[str, Facts],
    labels: Mapping[str, Facts],
) -> tuple[DataSpec, list[str]]:
    """What all files share, and a sentence for everything that nobody said.

    Only files without a problem are given.

    Raises:
        Undecided: when only a person can say it; with the lines to put into ``data.toml``.
    """
    entries = list(entries)
    notes: list[str] = []
    dims = said.dims or _dims(said, images, labels, notes)
    axis = said.channels or _channel_axis(dims, entries, images, labels, notes)
    channels = _channels(dims, axis, images)
    if said.spacing is not None and len(said.spacing) != dims:
        raise Undecided(FILE, f"spacing has {len(said.spacing)} numbers, but dims is {dims}")
    names, values = _classes(said, dims, axis, labels, notes)
    spec = DataSpec(
        said.task,
        names,
        values,
        said.ignore,
        dims,
        channels,
        axis,
        said.suffix or _suffix(said, labels),
        said.instances,
        said.spacing,
    )
    notes.append(f"Predictions will be written as {spec.suffix} files.")
    return spec, notes


def space_of(facts: Facts, dims: int, axis: ChannelAxis) -> tuple[int, tuple[int, ...]] | None:
    """Channels and size of what a file holds, ``None`` where its axes are not as wanted."""
    where = facts.channel
    if where is None:
        if len(facts.shape) == dims:
            where = "none"
        elif len(facts.shape) == dims + 1 and axis != "none":
            where = axis
        else:
            return None
    if len(facts.shape) - (where != "none") != dims:
        return None
    if where == "none":
        return 1, facts.shape
    return (
        (facts.shape[0], facts.shape[1:])
        if where == "first"
        else (facts.shape[-1], facts.shape[:-1])
    )


def _dims(
    said: Description, images: Mapping[str, Facts], labels: Mapping[str, Facts], notes: list[str]
) -> int:
    if said.task == "regression":
        source = [*images.values(), *labels.values()]
        counts = Counter(len(f.shape) - (f.channel in ("first", "last")) for f in source)
    else:
        counts = Counter(1 if f.events is not None else len(f.shape) for f in labels.values())
    dims = max(counts, key=lambda n: (counts[n], -n))
    if dims not in (1, 2, 3):
        raise Undecided(
            next(path for path, f in labels.items() if len(f.shape) == dims),
            f"has {dims} axes, and labels have 1, 2 or 3; split it, or say dims in {FILE}",
        )
    notes.append(f"Labels have {dims} space {'axis' if dims == 1 else 'axes'} (dims = {dims}).")
    return dims


def _channel_axis(
    dims: int,
    entries: list[Entry],
    images: Mapping[str, Facts],
    labels: Mapping[str, Facts],
    notes: list[str],
) -> ChannelAxis:
    unclear = [e for e in entries if _is_open(images[e.image], dims)]
    if not unclear:
        known = Counter(f.channel for f in images.values() if f.channel in ("first", "last"))
        return "last" if known else "none"
    fits = [_fitting(images[e.image].shape, labels[e.label].shape) for e in unclear]
    first = sum(fit == {"first"} for fit in fits)
    last = sum(fit == {"last"} for fit in fits)
    if not first and not last:
        example = unclear[0]
        raise Undecided(
            example.image,
            f"its size is {_size(images[example.image].shape)} and its label's "
            f"{_size(labels[example.label].shape) or 'a list of events'}: it does not follow where "
            f"its channels are; put channels = 'first' or channels = 'last' into {FILE}",
        )
    axis: ChannelAxis = "first" if first >= last else "last"
    notes.append(f"Channels are the {axis} axis of array files, as the labels' sizes show.")
    return axis


def _is_open(facts: Facts, dims: int) -> bool:
    return facts.channel is None and len(facts.shape) == dims + 1


def _fitting(image: tuple[int, ...], label: tuple[int, ...]) -> set[str]:
    return {name for name, rest in (("first", image[1:]), ("last", image[:-1])) if rest == label}


def _channels(dims: int, axis: ChannelAxis, images: Mapping[str, Facts]) -> int:
    found = [space_of(facts, dims, axis) for facts in images.values()]
    counts = Counter(space[0] for space in found if space is not None)
    if not counts:
        path, facts = next(iter(images.items()))
        raise Undecided(
            path,
            f"its size is {_size(facts.shape)}, but {dims} space axes are wanted, as labels have; "
            f"say dims and channels in {FILE}, or export it again",
        )
    return max(counts, key=lambda n: (counts[n], -n))


def _suffix(said: Description, labels: Mapping[str, Facts]) -> str:
    counts = Counter(
        ".npy" if facts.events is None and path.lower().endswith(".csv") else split_name(path)[1]
        for path, facts in labels.items()
    )
    suffix = max(sorted(counts), key=lambda s: counts[s])
    if suffix in (".npz", ".wav", ".flac"):
        return ".npy"
    if said.task == "regression" and suffix in (".png", ".jpg", ".jpeg"):
        return ".tif"
    return suffix


def _classes(
    said: Description,
    dims: int,
    axis: ChannelAxis,
    labels: Mapping[str, Facts],
    notes: list[str],
) -> Classes:
    if said.task == "regression":
        return _channel_names(said, dims, axis, labels, notes), ()
    if said.instances:
        names = said.classes or ("background", "object")
        notes.append(f"Labels are instances: every value above 0 is {names[1]}.")
        return names, (0, 1)
    if said.classes:
        return said.classes, said.values
    listed = {path: facts.events for path, facts in labels.items() if facts.events is not None}
    if listed:
        return _event_classes(listed, labels, notes)
    return _value_classes(said, {p: f.values for p, f in labels.items()}, notes)


def _channel_names(
    said: Description,
    dims: int,
    axis: ChannelAxis,
    labels: Mapping[str, Facts],
    notes: list[str],
) -> tuple[str, ...]:
    spaces = [space_of(facts, dims, axis) for facts in labels.values()]
    count = Counter(space[0] for space in spaces if space is not None).most_common(1)
    channels = count[0][0] if count else 1
    if said.classes:
        return said.classes
    notes.append(f"Labels have {channels} channels, called channel 1 and so on.")
    return tuple(f"channel {i + 1}" for i in range(channels))


def _event_classes(
    listed: Mapping[str, tuple[object, ...] | None],
    labels: Mapping[str, Facts],
    notes: list[str],
) -> Classes:
    other = next((path for path in labels if path not in listed), None)
    if other is not None:
        raise Undecided(
            other,
            "holds one class per position, but other labels are lists of events; "
            f"say in {FILE} which value is which class, as in classes = {{background = 0, a = 1}}",
        )
    found = {event.name for facts in labels.values() for event in facts.events or ()}
    names = ("background", *sorted(found - {"background", IGNORE}))
    if len(names) == 1:
        raise Undecided(
            next(iter(labels)),
            f"no label has an event, so there is no class; name them in {FILE}, "
            "as in classes = {background = 0, call = 1}",
        )
    notes.append(
        f"{len(names)} classes from the names of events: {', '.join(names[:12])}"
        f"{', …' if names[12:] else ''}."
    )
    return names, tuple(range(len(names)))


def _value_classes(
    said: Description, found: Mapping[str, np.ndarray | None], notes: list[str]
) -> Classes:
    by_file = {
        p: [int(v) for v in vs if v != said.ignore] for p, vs in found.items() if vs is not None
    }
    values = sorted({value for listed in by_file.values() for value in listed})
    _refuse_smooth(by_file)
    if _looks_like_instances(values, by_file):
        raise Undecided(
            max(by_file, key=lambda path: len(by_file[path])),
            f"labels hold {len(values)} different values, as if every object had its own; "
            f"put instances = true into {FILE} if so, else {_lines(values)}",
        )
    names = _plain_names(values)
    if names is None:
        raise Undecided(_example(values, by_file), _question(values, said))
    pairs = ", ".join(f"{n} = {v}" for n, v in zip(names[:12], values[:12], strict=True))
    notes.append(f"Classes inferred from label values: {pairs}{', …' if names[12:] else ''}.")
    return names, tuple(values)


def _refuse_smooth(by_file: Mapping[str, list[int]]) -> None:
    """Masks of 0 and 255 that were resized or stored with loss hold many grey levels between."""
    smooth = [p for p, v in by_file.items() if len(v) > _SEVERAL and (v[0], v[-1]) == (0, 255)]
    smooth = [p for p in smooth if by_file[p] != list(range(256))]
    if not smooth or not any(v in ([0], [255], [0, 255]) for v in by_file.values()):
        return
    raise Undecided(
        smooth[0],
        f"holds {len(by_file[smooth[0]])} grey levels from 0 to 255, where other labels hold 0 and "
        "255 alone: resized, or stored with loss? store it with its classes alone, or take it out"
        f"{'' if len(smooth) == 1 else f'; {len(smooth)} labels are like this'}",
    )


def _plain_names(values: list[int]) -> tuple[str, ...] | None:
    if len(values) == 2 and values[0] == 0 and values[1] > 1:
        return ("background", "foreground")
    if len(values) > 1 and values == list(range(len(values))):
        return ("background", *(f"class {i}" for i in values[1:]))
    return None


def _looks_like_instances(values: list[int], by_file: Mapping[str, list[int]]) -> bool:
    if len(values) > _MANY:
        return True
    runs = {len(v) for v in by_file.values() if v == list(range(len(v)))}
    return len(values) > _SEVERAL and len(runs) > 2


def _question(values: list[int], said: Description) -> str:
    shown = ", ".join(str(value) for value in values)
    if len(values) == 1:
        return f"labels hold no value but {shown}, so classes do not follow; put {_lines([0, 1])}"
    if values[-1] == _USUAL_IGNORE and said.ignore is None:
        return (
            f"labels hold {shown}, and whether 255 is a class or unknown does not follow; put "
            f"ignore = 255 and {_lines(values[:-1])} if it is unknown, else {_lines(values)}"
        )
    return f"labels hold {shown}, which does not say what is background; put {_lines(values)}"


def _example(values: list[int], by_file: Mapping[str, list[int]]) -> str:
    return next((path for path, listed in by_file.items() if values[-1] in listed), FILE)


def _lines(values: list[int]) -> str:
    pairs = [f'"class {i}" = {v}' if i else f"background = {v}" for i, v in enumerate(values[:12])]
    more = ", …" if values[12:] else ""
    return f"classes = {{{', '.join(pairs)}{more}}} into {FILE}"


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)
