"""Look over a whole data set: what is there, what is wrong with it, who trains and who tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from labelmend.catalogue.deduce import Undecided, infer_spec, space_of
from labelmend.catalogue.likeness import describe_samples, orientations, spacings
from labelmend.catalogue.listing import Entry, Listing, image_stem, list_pairs
from labelmend.catalogue.repairs import apply_repairs
from labelmend.catalogue.splits import (
    FILE as SPLITS,
)
from labelmend.catalogue.splits import (
    choose_splits,
    given_splits,
    merge_splits,
    read_splits,
)
from labelmend.catalogue.splits import (
    keep_splits as write_splits,
)
from labelmend.catalogue.survey import Facts, Progress, survey
from labelmend.catalogue.toml import Description, read_description
from labelmend.errors import DataError
from labelmend.files.formats import Problem, split_name
from labelmend.files.readers import check_affines, check_sizes, events_grid
from labelmend.files.values import check_values
from labelmend.labels.events import rasterise
from labelmend.types import DataSet, DataSpec, Sample, Split

__all__ = ["Inspection", "Problem", "inspect", "open_data"]


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is there and what is wrong with it.

    ``dataset`` holds every sample without a problem; it is ``None`` where something is wrong with
    the set as a whole, so that no number of bad files to allow would help. ``notes`` are sentences
    for a person.
    """

    dataset: DataSet | None
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


def inspect(
    root: Path,
    *,
    seed: int = 0,
    val_share: float = 0.2,
    test_share: float = 0.0,
    keep_splits: bool = False,
    repairs: bool = True,
    progress: Progress | None = None,
) -> Inspection:
    """Read every file of a data set once and say what is there and what is wrong.

    Args:
        root: the data folder, with ``images/`` and ``labels/``, or a ``manifest.csv``.
        seed: chooses the groups that are held out, where nobody gave splits.
        val_share: share of the strong training groups for validation.
        test_share: likewise for testing.
        keep_splits: write the choice into ``splits.csv``, if the set can be used.
        repairs: use what people decided about labels (``repairs.csv``).
        progress: is told how many of how many files are read.

    A trap: nothing is raised for bad data; look at ``problems``.
    """
    shares: dict[Split, float] = {"val": val_share, "test": test_share}
    seen, to_keep = _look_over(root, shares, seed, progress, repairs=repairs)
    return _with_kept_splits(root, seen, to_keep) if keep_splits else seen


def open_data(
    root: Path,
    *,
    seed: int = 0,
    val_share: float = 0.2,
    test_share: float = 0.0,
    allow_bad: int = 0,
    keep_splits: bool = True,
    repairs: bool = True,
) -> tuple[DataSet, tuple[Problem, ...]]:
    """A data set to train on, and the problems that were allowed.

    Raises:
        DataError: when there are more than ``allow_bad`` problems, or one that no allowance helps;
            the text names the first file and how to see the rest.
    """
    shares: dict[Split, float] = {"val": val_share, "test": test_share}
    seen, to_keep = _look_over(root, shares, seed, None, repairs=repairs)
    if seen.dataset is None or len(seen.problems) > allow_bad:
        raise DataError(_refusal(root, seen))
    if keep_splits:
        seen = _with_kept_splits(root, seen, to_keep)
    assert seen.dataset is not None
    return seen.dataset, seen.problems


def _look_over(
    root: Path,
    shares: Mapping[Split, float],
    seed: int,
    progress: Progress | None,
    *,
    repairs: bool,
) -> tuple[Inspection, dict[str, Split]]:
    """What is there, and the splits that would have to be written down."""
    found = Listing()
    dataset: DataSet | None = None
    to_keep: dict[str, Split] = {}
    try:
        dataset, to_keep = _inspect(root, found, shares, seed, progress, repairs=repairs)
    except Undecided as question:
        found.problems.append(question.problem)
    except DataError as error:
        found.problems.append(_problem_of_set(root, error))
    problems = tuple(sorted(found.problems, key=lambda p: (p.file, p.message)))
    notes = tuple(found.notes)
    return Inspection(dataset and replace(dataset, notes=notes), problems, notes), to_keep


def _inspect(
    root: Path,
    found: Listing,
    shares: Mapping[Split, float],
    seed: int,
    progress: Progress | None,
    *,
    repairs: bool,
) -> tuple[DataSet | None, dict[str, Split]]:
    if not root.is_dir():
        raise DataError("is not a folder; a data set is a folder with images/ and labels/")
    said = read_description(root)
    listed = list_pairs(root)
    found.entries, found.notes = listed.entries, listed.notes
    found.problems += listed.problems
    if repairs:
        apply_repairs(root, found)
    if not found.entries:
        if not found.problems:
            found.refuse(_name(root), "holds no image with a label; put labels into labels/strong/")
        return None, {}
    kept = read_splits(root)
    images, labels = _surveyed(root, found, said, progress)
    good = _readable(found.entries, images, labels)
    if not good:
        return None, {}
    used = {e.image for e in good}, {e.label for e in good}
    spec, notes = infer_spec(
        said,
        good,
        {path: facts for path, facts in images.items() if path in used[0]},
        {path: facts for path, facts in labels.items() if path in used[1]},
    )
    found.notes += notes
    good = _fitting(found, good, spec, images, labels)
    groups = _groups(found, good, said)
    good = [entry for entry in good if entry.image in groups]
    splits, to_keep = _splits(found, good, groups, kept, shares, seed)
    samples = tuple(_sample(e, groups[e.image], splits, images, labels) for e in good)
    found.notes += describe_samples(spec, samples, images)
    if not samples:
        return None, to_keep
    facts = [images[path] for path in sorted({sample.image for sample in samples})]
    lie, apart = orientations(facts), spacings(spec, facts)
    return DataSet(str(root), spec, samples, (), lie, apart), to_keep


def _surveyed(
    root: Path, found: Listing, said: Description, progress: Progress | None
) -> tuple[dict[str, Facts], dict[str, Facts]]:
    image_paths = dict.fromkeys(entry.image for entry in found.entries)
    label_paths = dict.fromkeys(entry.label for entry in found.entries)
    images, labels = survey(root, image_paths, label_paths, said.task, progress)
    for path, facts in (*images.items(), *labels.items()):
        if facts.problem:
            found.refuse(path, facts.problem)
    return images, labels


def _readable(
    entries: list[Entry], images: Mapping[str, Facts], labels: Mapping[str, Facts]
) -> list[Entry]:
    return [e for e in entries if not images[e.image].problem and not labels[e.label].problem]


def _fitting(
    found: Listing,
    entries: list[Entry],
    spec: DataSpec,
    images: Mapping[str, Facts],
    labels: Mapping[str, Facts],
) -> list[Entry]:
    """The entries whose image is like the others and whose label belongs to its image."""
    wrong_images = {}
    for path in dict.fromkeys(entry.image for entry in entries):
        reason = _wrong_image(images[path], spec)
        if reason is not None:
            wrong_images[path] = reason
            found.refuse(path, reason)
    good = []
    for entry in entries:
        if entry.image in wrong_images:
            continue
        try:
            _check_label(labels[entry.label], images[entry.image], spec)
        except DataError as error:
            found.refuse(entry.label, str(error))
        else:
            good.append(entry)
    return good


def _wrong_image(facts: Facts, spec: DataSpec) -> str | None:
    space = space_of(facts, spec.dims, spec.channel_axis)
    if space is None:
        return (
            f"its size is {' x '.join(map(str, facts.shape))}, but images of this set have "
            f"{spec.dims} space axes; take it out, or say dims and channels in data.toml"
        )
    if space[0] != spec.channels:
        return (
            f"has {space[0]} channel{'s' * (space[0] != 1)}, but most images of this set have "
            f"{spec.channels}; convert it"
        )
    if max(space[1]) == 1:
        return "is a single position: there is nothing to segment; take it out"
    return None


def _check_label(label: Facts, image: Facts, spec: DataSpec) -> None:
    _, size = space_of(image, spec.dims, spec.channel_axis) or (0, ())
    if label.events is not None:
        spacing = spec.spacing or image.spacing
        _, known = rasterise(label.events, spec.classes, *events_grid(spacing, size))
        if not known.any():
            raise DataError("says nothing: all of it is to be ignored; label it or take it out")
        return
    check_affines(label.affine, image.affine)
    if spec.task == "regression":
        space = space_of(label, spec.dims, spec.channel_axis)
        if space is None or space[0] != len(spec.classes):
            raise DataError(
                f"its size is {' x '.join(map(str, label.shape))}, but labels of this set have "
                f"{len(spec.classes)} channels and {spec.dims} space axes; convert it"
            )
        check_sizes(space[1], size)
        return
    check_sizes(label.shape, size)
    if label.values is not None:
        check_values(label.values, spec)
        if spec.ignore is not None and label.values.tolist() == [spec.ignore]:
            raise DataError(
                f"says nothing: all of it is the ignore value {spec.ignore}; "
                "label it or take it out"
            )


def _groups(found: Listing, entries: list[Entry], said: Description) -> dict[str, str]:
    """Image → group; one image in two groups is fatal."""
    groups: dict[str, str] = {}
    for entry in entries:
        group = entry.group
        if group is None and said.group is not None:
            match = said.group.search(split_name(PurePosixPath(entry.image).name)[0])
            group = match[1] if match else None
            if group is None:
                if entry.image not in {p.file for p in found.problems}:
                    found.refuse(
                        entry.image, f"its stem does not match group = {said.group.pattern!r}"
                    )
                continue
        group = group or image_stem(entry.image)
        if groups.setdefault(entry.image, group) != group:
            raise DataError(
                f"{entry.label}: its image {entry.image} is in two groups, "
                f"{groups[entry.image]!r} and {group!r}; give all its labels one group"
            )
    if said.group is None and all(entry.group is None for entry in entries):
        found.notes.append("Every image is a group of its own: splits never divide its labels.")
    return groups


def _splits(
    found: Listing,
    entries: list[Entry],
    groups: Mapping[str, str],
    kept: Mapping[str, Split],
    shares: Mapping[Split, float],
    seed: int,
) -> tuple[dict[str, Split], dict[str, Split]]:
    """Every group's split, and what of it is to be written down."""
    try:
        given = given_splits((groups[e.image], e.split) for e in entries)
    except DataError as error:
        raise DataError(f"manifest.csv: {error}") from error
    try:
        merged = merge_splits(given, kept)
    except DataError as error:
        raise DataError(f"{SPLITS}: {error}") from error
    settled = {g: s for g, s in merged.items() if g in kept or s != "train"}
    open_shares = {s: share for s, share in shares.items() if s not in given.values()}
    strong = _held_out_of(entries, groups)
    chosen, notes = choose_splits(strong, settled, open_shares, seed)
    found.notes += notes
    if kept:
        found.notes.append(f"Splits are as kept in {SPLITS}; remove it to choose anew.")
    for split, count in Counter(chosen.values()).items():
        found.notes.append(
            f"{count} of {len(strong)} strong groups {'was' if count == 1 else 'were'} chosen "
            f"for {split} with seed {seed}."
        )
    splits: dict[str, Split] = {**dict.fromkeys(groups.values(), "train"), **merged, **chosen}
    if not kept and not chosen:
        return splits, {}
    return splits, {g: splits[g] for g in strong if g not in given or g in chosen} | dict(kept)


def _held_out_of(entries: list[Entry], groups: Mapping[str, str]) -> set[str]:
    """The strong groups that some may be held out of.

    A label that was repaired was repaired to learn from it, and is held out only where no label
    was strong before.
    """
    strong = [e for e in entries if e.quality == "strong"]
    before = [e for e in strong if e.trusted_before != "weak"]
    return {groups[e.image] for e in before or strong}


def _sample(
    entry: Entry,
    group: str,
    splits: Mapping[str, Split],
    images: Mapping[str, Facts],
    labels: Mapping[str, Facts],
) -> Sample:
    return Sample(
        entry.image,
        entry.label,
        entry.quality,
        splits[group],
        group,
        entry.annotator,
        images[entry.image].sha256,
        labels[entry.label].sha256,
    )


def _with_kept_splits(root: Path, seen: Inspection, to_keep: Mapping[str, Split]) -> Inspection:
    """Writes the splits down if that changes them; a note where the folder refuses."""
    if seen.dataset is None or to_keep == read_splits(root):
        return seen
    note = write_splits(root, to_keep)
    if note is None:
        return seen
    notes = (*seen.notes, note)
    return Inspection(replace(seen.dataset, notes=notes), seen.problems, notes)


def _problem_of_set(root: Path, error: DataError) -> Problem:
    """A problem of the set as a whole; a text that begins with a file's name keeps it apart."""
    text = str(error).removeprefix(f"{root}/")
    file, colon, rest = text.partition(": ")
    named = colon and (root / file).exists()
    return Problem(file, rest) if named else Problem(_name(root), text)


def _refusal(root: Path, seen: Inspection) -> str:
    count = len(seen.problems)
    first = seen.problems[0] if seen.problems else Problem(_name(root), "no sample is left")
    if first.file == _name(root):
        return f"{root}: {first.message}"
    text = f"{root}: {first}"
    if count > 1:
        text = f"{root}: {count} problems, the first: {first}; see all: labelmend check {root}"
    leave = f"; or leave {'it' if count == 1 else 'them'} out with --allow-bad {count}"
    return text + leave * (seen.dataset is not None)


def _name(root: Path) -> str:
    return root.name or str(root)
