"""Which image goes with which label: by folders and stems, or by a manifest."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from labelmend.catalogue.links import leads_out, may_read
from labelmend.errors import DataError
from labelmend.files.formats import Problem, kind_of, naming, nearest, split_name
from labelmend.files.sources import read_rows
from labelmend.types import Quality, Split

MANIFEST = "manifest.csv"
IMAGES, STRONG, WEAK = "images", "labels/strong", "labels/weak"
_REQUIRED = ("image", "label")
_OPTIONAL = ("quality", "split", "group", "annotator")
_CHOICES = {"quality": ("strong", "weak"), "split": ("train", "val", "test")}
LABEL_ENDS = ("_mask", "_masks", "_label", "_labels", "_seg", "-mask", "-label")
"""What other tools put after the stem of an image to name its label."""
_LOOKED_FOR = 10
"""For so many problems the nearest name is looked for: that compares a stem with all others."""
_LITTER = frozenset({"thumbs.db", "desktop.ini"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One pair as listed; split and group are ``None`` where nobody gave them.

    ``trusted_before`` is the quality of a label before a person looked at it, where one did.
    """

    image: str
    label: str
    quality: Quality
    split: Split | None = None
    group: str | None = None
    annotator: str = ""
    trusted_before: Quality | None = None


@dataclass
class Listing:
    """What a data folder lists, what is wrong with that, and what a person should know."""

    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def refuse(self, file: str, message: str) -> None:
        """Remember a problem."""
        self.problems.append(Problem(file, message))


def list_pairs(root: Path) -> Listing:
    """The pairs of a data folder, sorted by label.

    Raises:
        DataError: when the folder or its manifest cannot be used at all; the text does not name
            the folder.
    """
    found = _by_manifest(root) if (root / MANIFEST).exists() else _by_folders(root)
    found.entries.sort(key=lambda entry: entry.label)
    return found


def image_stem(image: str) -> str:
    """What an image is called without its suffix: below ``images/``, or below the data root.

    >>> image_stem("images/a.nii.gz"), image_stem("plate1/b.tif")
    ('a', 'plate1/b')
    """
    path = PurePosixPath(image)
    if path.parts[0] == IMAGES and len(path.parts) > 1:
        path = PurePosixPath(*path.parts[1:])
    return str(path.with_name(split_name(path.name)[0]))


def is_litter(name: str) -> bool:
    """Whether a file of this name is hidden, or put there by a file manager: no data.

    >>> is_litter(".DS_Store"), is_litter("a.png")
    (True, False)
    """
    return name.startswith(".") or name.lower() in _LITTER


# --- folders -------------------------------------------------------------------------------------


def _by_folders(root: Path) -> Listing:
    found = Listing()
    if not (root / IMAGES).is_dir():
        raise DataError(
            f"holds neither a folder {IMAGES}/ nor a {MANIFEST}; put images into {IMAGES}/ and "
            f"labels into {STRONG}/ and {WEAK}/"
        )
    images, shared = _by_stem(found, root, IMAGES)
    folded = {_folded(stem): path for stem, path in images.items()}
    used: set[str] = set()
    for quality, folder, annotator in _label_folders(found, root):
        labels, unclear = _by_stem(found, root, folder)
        used |= unclear
        for stem, label in sorted(labels.items()):
            if stem in images:
                used.add(stem)
                entry = Entry(images[stem], label, quality, annotator=annotator)
                found.entries.append(entry)
            elif stem not in shared:
                look = len(found.problems) < _LOOKED_FOR
                found.refuse(label, _no_image(stem, folded, images if look else {}))
    alone = sorted(set(images) - used)
    if alone:
        found.notes.append(
            f"{len(alone)} of {len(images)} images have no label and are left out"
            f" ({', '.join(images[stem] for stem in alone[:3])}{', …' if alone[3:] else ''})."
        )
    return found


def _label_folders(found: Listing, root: Path) -> Iterator[tuple[Quality, str, str]]:
    for entry in _sorted(root / "labels"):
        if entry.is_dir() and entry.name in ("strong", "weak", "repaired"):
            continue
        if not is_litter(entry.name):
            near = nearest(entry.name, ("strong", "weak")) if entry.is_dir() else ""
            found.refuse(
                f"labels/{entry.name}",
                f"labels lie in {STRONG}/ or {WEAK}/, which says how far they are trusted; "
                f"move it there{near}",
            )
    yield "strong", STRONG, ""
    yield "weak", WEAK, ""
    for entry in _sorted(root / WEAK):
        if entry.is_dir() and not is_litter(entry.name):
            yield "weak", f"{WEAK}/{entry.name}", entry.name


def _by_stem(found: Listing, root: Path, folder: str) -> tuple[dict[str, str], set[str]]:
    """Usable files by stem, and the stems that more than one file or none usable claims."""
    stems: dict[str, list[str]] = {}
    unclear: set[str] = set()
    for entry in _sorted(root / folder):
        path = f"{folder}/{entry.name}"
        if is_litter(entry.name):
            found.notes.append(f"{path} was passed over: it is not data.")
            continue
        if folder == WEAK and entry.is_dir():
            continue
        stem = split_name(entry.name)[0]
        if (reason := _unusable(root, path)) is None:
            stems.setdefault(_folded(stem), []).append(path)
        else:
            found.refuse(_shown(path), reason)
            unclear.add(stem)
    usable: dict[str, str] = {}
    for paths in stems.values():
        names = [split_name(PurePosixPath(path).name)[0] for path in paths]
        if len(paths) == 1:
            usable[names[0]] = paths[0]
            continue
        unclear.update(names)
        found.refuse(paths[-1], _same_stem(paths[0], names))
    return usable, unclear


def _unusable(root: Path, path: str) -> str | None:
    file = root / path
    try:
        path.encode()
    except UnicodeEncodeError:
        return "its name is not valid UTF-8; rename it"
    if not may_read(root, path):
        return f"is a link that {leads_out(path)}"
    wrong = {
        "is a folder where files are wanted; move its files up, or list them in manifest.csv": (
            file.is_dir()
        ),
        "is a link to nothing; copy the file here": file.is_symlink() and not file.exists(),
        "is not a regular file; remove it": not file.is_file(),
    }
    reason = next((text for text, holds in wrong.items() if holds), None)
    if reason is not None:
        return reason
    try:
        kind_of(file.name)
    except DataError as error:
        return str(error)
    return None


def _same_stem(first: str, names: list[str]) -> str:
    if len(set(names)) == 1:
        return f"has the same stem as {first}; nobody can say which is meant: remove or rename one"
    return (
        f"its stem differs from that of {first} only in case or unicode form, which some disks "
        "cannot tell apart; rename one"
    )


def _no_image(stem: str, folded: dict[str, str], near_to: dict[str, str]) -> str:
    same = folded.get(_folded(stem))
    if same is not None:
        return f"its stem differs from that of {same} only in case or unicode form; rename one"
    ends = [stem.removesuffix(end) for end in LABEL_ENDS if stem.endswith(end)]
    meant = next((short for short in ends if _folded(short) in folded), None)
    near = f"; did you mean {meant!r}?"
    if meant is None:
        near = nearest(stem, near_to) if near_to else ""
        near = near if "did you mean" in near else ""
    return f"has no image of the same stem in {IMAGES}/; add the image or remove the label{near}"


def _folded(stem: str) -> str:
    return unicodedata.normalize("NFC", stem).casefold()


def _sorted(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _shown(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode()


# --- manifest ------------------------------------------------------------------------------------


def _by_manifest(root: Path) -> Listing:
    found = Listing()
    rows = read_rows(root / MANIFEST, "export it again")
    _check_columns(next(iter(rows), []))
    names = [name.strip() for name in rows[0]]
    seen: dict[str, int] = {}
    unlabelled = 0
    for line, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        cells = dict(zip(names, (cell.strip() for cell in row), strict=False))
        if len(row) == len(names) and cells["image"] and not cells["label"]:
            unlabelled += 1
            continue
        reason = _wrong_row(root, cells, len(row) - len(names), seen)
        if reason is not None:
            found.refuse(MANIFEST, f"line {line}: {reason}")
            continue
        seen[cells["label"]] = line
        found.entries.append(_entry(cells))
    if unlabelled:
        found.notes.append(f"{unlabelled} images in {MANIFEST} have no label and are left out.")
    if "quality" not in names:
        found.notes.append(
            f"{MANIFEST} has no column quality: labels below a folder weak are weak, "
            "all others strong."
        )
    return found


def _check_columns(header: list[str]) -> None:
    names = [name.strip() for name in header]
    with naming(Path(MANIFEST)):
        for name in names:
            if name not in _REQUIRED + _OPTIONAL:
                raise DataError(f"unknown column {name!r}{nearest(name, _REQUIRED + _OPTIONAL)}")
        missing = [name for name in _REQUIRED if name not in names]
        if missing or len(set(names)) < len(names):
            raise DataError(
                f"needs each of the columns {', '.join(_REQUIRED)} once, not {','.join(names)!r}"
            )


def _wrong_row(root: Path, cells: dict[str, str], extra: int, seen: dict[str, int]) -> str | None:
    if extra:
        return f"should have {len(cells)} cells, not {len(cells) + extra}; quote commas in names"
    for name, known in _CHOICES.items():
        value = cells.get(name, "")
        if value and value not in known:
            return f"unknown {name} {value!r}{nearest(value, known)}"
    for name in _REQUIRED:
        reason = _wrong_path(root, cells[name], name)
        if reason is not None:
            return reason
    if cells["label"] in seen:
        return f"label {cells['label']} is already in line {seen[cells['label']]}; remove one"
    if cells["label"] == cells["image"]:
        return f"{cells['label']} is its own label; correct one of the two paths"
    return None


def _wrong_path(root: Path, path: str, name: str) -> str | None:
    if not path:
        return f"the {name} is missing; add its path"
    pure = PurePosixPath(path)
    inside = not pure.is_absolute() and ".." not in pure.parts and "\0" not in path
    if not inside or not may_read(root, path):
        return f"{name} {path!r} {leads_out(path)}"
    if str(pure) != path or "\\" in path:
        return f"{name} {path!r} is not written plainly; separate folders by one / and nothing else"
    if not (root / path).exists():
        return f"{name} {path} does not exist; correct the path or add the file"
    reason = _unusable(root, path)
    return None if reason is None else f"{name} {path} {reason}"


def _entry(cells: dict[str, str]) -> Entry:
    path = PurePosixPath(cells["label"])
    quality: Quality = "weak" if "weak" in path.parts[:-1] else "strong"
    given = cells.get("quality")
    if given in ("strong", "weak"):
        quality = "strong" if given == "strong" else "weak"
    split = cells.get("split") or None
    annotator = cells.get("annotator", "")
    return Entry(
        cells["image"],
        cells["label"],
        quality,
        split,  # type: ignore[arg-type]  # checked against the three known words
        cells.get("group") or None,
        annotator,
    )
