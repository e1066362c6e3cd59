"""What a person should know of the samples together: how far apart positions lie, how volumes lie,
which files are the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from labelmend.catalogue.survey import Facts
from labelmend.files.formats import split_name
from labelmend.files.volumes import orientation
from labelmend.types import DataSpec, Sample

_ALIKE = 1.01
"""Spacings that differ by less are one: files round them."""


def describe_samples(
    spec: DataSpec, samples: tuple[Sample, ...], images: Mapping[str, Facts]
) -> list[str]:
    """One sentence for everything that the samples have, or do not have, in common."""
    notes = []
    if not any(sample.quality == "strong" for sample in samples):
        notes.append("No label is strong: weights of weak labels cannot be learned.")
    used = {path: images[path] for path in sorted({sample.image for sample in samples})}
    notes += _about_spacing(spec, used) + _about_orientation(used)
    gaps = [path for path, facts in used.items() if facts.no_data is not None]
    if gaps:
        value = f"{used[gaps[0]].no_data:g}"
        notes.append(
            f"{len(gaps)} of {len(used)} images hold {value} where nothing was recorded, by their "
            f"own word, such as {gaps[0]}: it is learned from as any value is. Put a usual value "
            "there, and an ignore value into the labels."
        )
    flat = [path for path, facts in used.items() if facts.flat]
    if flat:
        notes.append(f"{len(flat)} images hold one value throughout, such as {flat[0]}.")
    by_content: dict[str, list[str]] = {}
    for path, facts in used.items():
        by_content.setdefault(facts.sha256, []).append(path)
    notes += [_about_same(same, samples) for same in by_content.values() if len(same) > 1]
    return notes


def orientations(images: Iterable[Facts]) -> tuple[str, ...]:
    """How volumes lie that say it, the most frequent first."""
    return tuple(code for code, _ in _orientations(images).most_common())


def spacings(spec: DataSpec, images: Iterable[Facts]) -> tuple[tuple[float, ...], ...]:
    """The least and the largest distance of positions along every axis, where files say it."""
    known = _spacings(spec, images)
    if not len(known):
        return ()
    return tuple(map(float, known.min(axis=0))), tuple(map(float, known.max(axis=0)))


def _spacings(spec: DataSpec, images: Iterable[Facts]) -> np.ndarray:
    """What files say, ``(files, dims)``; nothing where data.toml says it, for that is taken."""
    if spec.spacing is not None:
        return np.empty((0, spec.dims))
    said = (facts.spacing for facts in images)
    return np.array([s for s in said if s is not None and len(s) == spec.dims])


def _orientations(images: Iterable[Facts]) -> Counter[str]:
    return Counter(orientation(f.affine) for f in images if f.affine is not None)


def _about_same(same: list[str], samples: tuple[Sample, ...]) -> str:
    splits = {sample.split for sample in samples if sample.image in same}
    found = [split for split in ("train", "val", "test") if split in splits]
    why = f", for they are in {' and '.join(found)}" if len(found) > 1 else ""
    return (
        f"{same[0]} and {same[1]} are the same file"
        f"{f', and {len(same) - 2} more' if same[2:] else ''}: give them one group{why}."
    )


def _about_spacing(spec: DataSpec, used: Mapping[str, Facts]) -> list[str]:
    known = _spacings(spec, used.values())
    if not len(known):
        return []
    low, high = known.min(axis=0), known.max(axis=0)
    unit = " mm apart" if spec.dims > 1 else " s apart"
    if spec.dims == 1 and all(split_name(path)[1] == ".csv" for path in used):
        unit = " apart, in seconds if they are times"
    some = "" if len(known) == len(used) else f" in {len(known)} of {len(used)} images"
    if (high <= low * _ALIKE).all():
        rate = f" ({1 / low[0]:.5g} Hz)" if unit == " s apart" else ""
        return [f"Positions lie {' x '.join(f'{v:.4g}' for v in low)}{unit}{rate}{some}."]
    pairs = zip(low, high, strict=True)
    spans = (f"{a:.4g}" if b <= a * _ALIKE else f"{a:.4g} to {b:.4g}" for a, b in pairs)
    one = ",".join(f"{v:.4g}" for v in np.percentile(known, 50, axis=0, method="lower"))
    return [
        f"Positions lie {' x '.join(spans)}{unit}{some}: what is as long in two images is "
        f"not as many positions. A training with --set input.spacing=[{one}] brings all to one."
    ]


def _about_orientation(used: Mapping[str, Facts]) -> list[str]:
    codes = _orientations(used.values())
    if len(codes) < 2:
        return []
    each = ", ".join(f"{code} {count}" for code, count in codes.most_common())
    return [
        f"Volumes lie in {len(codes)} orientations ({each}) and are taken as stored: what is left "
        "in one is right in another, or along another axis. Bring images and labels into one "
        "orientation first, as nibabel.as_closest_canonical does, wherever sides matter."
    ]
