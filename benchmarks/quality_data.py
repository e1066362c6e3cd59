"""The data sets of the quality suite: real images, and labels that are rough, out of place or both.

Every scene is made as a folder in labelmend's own format. Beside the samples, where no training
looks, lie the truth of every weak label (``truth/``, ``truth/index.csv`` with its Dice) and, where
a label was moved, the same label before it was (``placed/``). Groups are never divided. The seed
decides who is strong, weak and kept for testing, what is wrong with each label, and where crops
lie.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import label_faults as faults
import planted
import real_parts
from data_folder import DataFolder, Part, dice
from real_parts import DATA

TEST, STRONG, VAL, WEAK = 60, 20, 4, 180
"""Labels to test on, strong ones, those of them that are held out of training, and weak ones."""
IGNORE = 255
"""Stands in labels where nobody knows what is there; no scene begins with any but heart beats."""


@dataclass(frozen=True)
class Made:
    """How weak labels are made of true ones.

    Attributes:
        rough: how a region is drawn; None for as it is.
        swapped: the share of labels that belong to another image.
        moved: how a label is put out of place.
    """

    rough: faults.Rough | None = None
    swapped: float = 0.0
    moved: faults.Move | None = None


FAULTS = {
    "ellipses": Made(faults.ellipses, 0.25),
    "boxes": Made(faults.boxes),
    "gross": Made(swapped=0.4),
    "shift": Made(moved=faults.shifted),
    "rotation": Made(moved=faults.turned),
    "deformation": Made(moved=faults.deformed),
    "both": Made(faults.ellipses, 0.25, faults.shifted),
}


@dataclass(frozen=True)
class Scene:
    """One data set with one kind of fault.

    Attributes:
        words: what it is.
        make: ``(seed, folder)`` lays it out.
        settings: of every training on it.
        window: the largest shift to look for, in positions; None where nothing is out of place.
        moved: whether the same labels are kept as they were before they were moved.
        transform: how labels are put in place: as freely as they are out of it, and no more.
        closely: whether all methods are compared here, or those of the first tier alone.
    """

    words: str
    make: Callable[[int, Path], None]
    settings: dict[str, Any] = field(default_factory=dict)
    window: int | None = None
    moved: bool = False
    transform: str = "shift"
    closely: bool = False


def _simulated(images: str, made: Made) -> Callable[[int, Path], None]:
    def make(seed: int, out: Path) -> None:
        rng = np.random.default_rng([seed, 31])
        parts = getattr(real_parts, images)(rng, TEST + STRONG + WEAK)
        _write(parts, made, seed, DataFolder(out))

    return make


def _write(parts: list[real_parts.Part], made: Made, seed: int, folder: DataFolder) -> None:
    first = TEST + STRONG
    rngs = [np.random.default_rng([seed, 37, place]) for place in range(len(parts))]
    drawn = [part.truth for part in parts]
    if made.rough is not None:
        drawn[first:] = [
            made.rough(one, rng) for one, rng in zip(drawn[first:], rngs[first:], strict=True)
        ]
    placed = [_fitting(one, part) for one, part in zip(drawn, parts, strict=True)]
    shown = list(placed)
    moves = dict[str, np.ndarray]()
    if made.moved is not None:
        for place in range(first, len(parts)):
            shown[place], by = made.moved(drawn[place], rngs[place])
            moves[f"labels/weak/{parts[place].name}.npy"] = by
    wrong = np.zeros(len(parts), bool)
    if made.swapped:
        rng = np.random.default_rng([seed, 41])
        wrong[first:] = _swap(shown, placed, first, made.swapped, rng)
    for place, part in enumerate(parts):
        kind = _part(place)
        image = _save(planted.standard(part.image).astype(np.float32), folder, "images", part.name)
        truth = faults.inner(part.truth)
        if kind != "weak":
            label = _save(truth, folder, "labels/strong", part.name)
            folder.add(image, label, kind, part.name)
            continue
        label = _save(shown[place], folder, "labels/weak", part.name)
        folder.add(image, label, kind, part.name)
        _save(placed[place], folder, "placed", part.name)
        kept = _save(truth, folder, "truth", part.name)
        folder.note_truth(label, kept, dice(shown[place], truth), bool(wrong[place]))
    names = ["background"] + [f"class {n}" for n in range(1, 1 + max(p.truth.max() for p in parts))]
    classes = {name: value for value, name in enumerate(names)}
    if moves:
        rows = [
            {"label": name} | {f"by_{axis}": f"{v:.4f}" for axis, v in enumerate(by)}
            for name, by in moves.items()
        ]
        write_csv(folder.place("truth/moves.csv"), rows)
    dims = parts[0].image.ndim
    folder.finish({"task": "segmentation", "dims": dims, "classes": classes, "ignore": IGNORE})


def _part(place: int) -> Part:
    parts: list[tuple[int, Part]] = [(TEST, "test"), (VAL, "val"), (STRONG - VAL, "strong")]
    for many, part in parts:
        if place < many:
            return part
        place -= many
    return "weak"


def _fitting(label: np.ndarray, part: real_parts.Part) -> np.ndarray:
    inner = faults.inner(label)
    if inner.shape != part.image.shape:
        raise ValueError(f"{part.name}: image {part.image.shape}, label {inner.shape}")
    return inner


def _swap(
    shown: list[np.ndarray],
    placed: list[np.ndarray],
    first: int,
    share: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Some weak labels go to wrong images of the same size; volumes differ in size, so are cut."""
    weak = list(range(first, len(shown)))
    wrong = faults.swapped(weak, share, rng)
    before = list(shown)
    for place, other in zip(range(first, len(shown)), weak, strict=True):
        if other != place:
            shown[place] = placed[place] = _resized(before[other], shown[place].shape)
    return wrong


def _resized(label: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A label cut, or continued by background, to a size."""
    out = np.zeros(shape, label.dtype)
    part = tuple(slice(0, min(a, b)) for a, b in zip(label.shape, shape, strict=True))
    out[part] = label[part]
    return out


def _save(array: np.ndarray, folder: DataFolder, kind: str, name: str) -> str:
    np.save(folder.place(f"{kind}/{name}.npy"), array, allow_pickle=False)
    return f"{kind}/{name}.npy"


def _prepared(name: str, *options: str) -> Callable[[int, Path], None]:
    def make(seed: int, out: Path) -> None:
        script = Path(__file__).with_name(f"prepare_{name}.py")
        command = [sys.executable, str(script), str(DATA / name), str(out), "--seed", str(seed)]
        subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)

    return make


_SMALL = {"network": {"width": 8, "depth": 3}}
_NUCLEI = {**_SMALL, "steps": 600, "input": {"patch": (96, 96)}}
_VOLUMES = {
    **_SMALL,
    "steps": 1000,
    "input": {"patch": (24, 32, 24)},
    "batch": {"size": 2},
    "augment": {"flip": 0.0},  # front and back of an organ are classes of their own
}
_CELLS = {"network": {"width": 8, "depth": 4}, "steps": 600, "input": {"patch": (96, 96)}}
_BEATS = {**_SMALL, "steps": 600, "input": {"patch": (1024,)}}
_SONGS = {**_SMALL, "steps": 600, "input": {"patch": (512,), "spectrogram": True}}
_TRANSFORMS = {"rotation": "rigid", "deformation": "warp"}
_LATE = ("--gross", "1", "--jitter", "10")

SCENES: dict[str, Scene] = {
    **{
        f"nuclei, {name}": Scene(
            "crops of micrographs, 10 % strong",
            _simulated("nuclei", made),
            _NUCLEI,
            12 if made.moved else None,
            moved=made.moved is not None,
            transform=_TRANSFORMS.get(name, "shift"),
            closely=name in ("ellipses", "shift", "both"),
        )
        for name, made in FAULTS.items()
    },
    **{
        f"cells, {share} % strong": Scene(
            "phase contrast; seven real outlines by untrained people for each image",
            _prepared("bubil", "--strong", str(share / 100), "--val", "0.2"),
            _CELLS,
            closely=share == 10,
        )
        for share in (5, 10, 20)
    },
    **{
        f"hippocampus, {name}": Scene(
            "MR volumes (3-D), 10 % strong",
            _simulated("hippocampus", made),
            _VOLUMES,
            6 if made.moved else None,
            moved=made.moved is not None,
            transform=_TRANSFORMS.get(name, "shift"),
        )
        for name, made in FAULTS.items()
    },
    "heart beats, borders": Scene(
        "ECG (1-D), 10 % strong; borders off by 30 ms, a quarter shifted by 100 to 200 ms",
        _prepared("ludb"),
        _BEATS,
        closely=True,
    ),
    "heart beats, shift": Scene(
        "ECG (1-D), 10 % strong; every label 100 to 200 ms early or late",
        _prepared("ludb", *_LATE),
        _BEATS,
        128,
        closely=True,
    ),
    "birdsong, borders": Scene(
        "audio (1-D), 30 % strong; borders off by 15 ms, a quarter shifted by 100 to 300 ms",
        _prepared("birdsong"),
        _SONGS,
        closely=True,
    ),
    "birdsong, shift": Scene(
        "audio (1-D), 30 % strong; every label 100 to 300 ms early or late",
        _prepared("birdsong", *_LATE),
        _SONGS,
        100,
        closely=True,
    ),
}


# ---------------------------------------------------------------------- the same, with other labels


def all_strong(data: Path) -> Path:
    """The set with the truth of every weak label, as a strong one: what there is to be gained."""
    out = _copy(data, "all-strong")
    truth = {row["label"]: row["truth"] for row in read_csv(data / "truth" / "index.csv")}
    rows, strong = list[dict[str, str]](), set[str]()
    for row in sorted(read_csv(data / "manifest.csv"), key=lambda row: row["quality"]):
        if row["quality"] == "weak":
            if row["image"] in strong:  # several people drew it, or it has a strong label as well
                continue
            more = {"label": truth[row["label"]], "quality": "strong", "annotator": ""}
            rows.append(row | more)
        else:
            rows.append(row)
        strong.add(row["image"])
    write_csv(out / "manifest.csv", rows)
    return out


def in_place(data: Path) -> Path:
    """The set with its weak labels where they were before they were moved."""
    out = _copy(data, "in-place")
    for row in read_csv(data / "truth" / "index.csv"):
        shutil.copyfile(data / "placed" / Path(row["label"]).name, out / row["label"])
    return out


def oracle_weights(data: Path, file: Path) -> Path:
    """1 for labels that are not grossly wrong, 0 for those that are.

    Where nobody planted gross errors, the quarter that agrees least with the truth counts as such.
    """
    index = read_csv(data / "truth" / "index.csv")
    if any(row["gross"] == "1" for row in index):
        bad = {row["label"] for row in index if row["gross"] == "1"}
    else:
        bad = {row["label"] for row in sorted(index, key=quality)[: len(index) // 4]}
    rows = [{"label": row["label"], "weight": str(int(row["label"] not in bad))} for row in index]
    write_csv(file, rows)
    return file


def quality(row: dict[str, str]) -> float:
    """How well a weak label agrees with its truth."""
    return float(row["dice"])


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    """A table of rows that have the same columns."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _copy(data: Path, name: str) -> Path:
    out = data.with_name(f"{data.name}-{name}")
    shutil.rmtree(out, ignore_errors=True)
    return Path(shutil.copytree(data, out))
