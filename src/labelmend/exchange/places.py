"""Where the images lie that a file names, and that none of them lies outside of its folder."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from labelmend.catalogue.links import stays_inside
from labelmend.catalogue.listing import LABEL_ENDS, is_litter
from labelmend.errors import DataError
from labelmend.exchange.annotated import Annotated, Source
from labelmend.exchange.documents import in_brief, shown
from labelmend.files.formats import SUFFIXES, nearest, split_name

IMAGE_FOLDERS = ("images", "imgs", "image", "img", "JPEGImages", "imagesTr")


def image_folders(source: Source, *near: Path) -> tuple[Path, ...]:
    """Where a source's images may lie: in the given folder, or beside or below the labels.

    ``near`` are folders to look in first where none is given.
    """
    if source.images is not None:
        return (source.images,)
    usual = [source.folder / name for name in IMAGE_FOLDERS]
    there = (*near, *(folder for folder in usual if folder.is_dir()), source.folder)
    return tuple(dict.fromkeys(there))


def find_image(item: Annotated, folders: Sequence[Path], root: Path) -> tuple[Path, str]:
    """The file of an item's image, and its name below the folder that it was found in.

    Raises:
        DataError: when there is none, or it lies outside of ``root``; naming both.
    """
    name = item.image.replace("\\", "/")
    if not name or not all(map(_is_plain, name)) or name.endswith("/"):
        raise DataError(
            f"{item.source}: {shown(item.image)} is not the name of an image; correct it"
        )
    outside = PurePosixPath(name).is_absolute() or re.match("[A-Za-z]:/", name) is not None
    for folder in () if outside else folders:
        path = Path(os.path.normpath(folder / name))
        if not path.is_relative_to(root) or not _inside(root, path):
            outside = True
        elif path.is_file():
            return path, _below(path, folders, root)
    if outside:
        raise DataError(
            f"{item.source}: the image {shown(item.image)} lies outside of {root}; correct the "
            "path, or name the folder that holds all images with --images"
        )
    raise DataError(
        f"{item.source}: its image {shown(item.image)} is missing in {folders[0]}; "
        "name the folder of the images with --images"
    )


def list_files(folder: Path, suffixes: Iterable[str]) -> list[str]:
    """The files with one of some suffixes in a folder and all below, as paths below it, sorted.

    Folders that are links are not entered, hidden files are passed over.

    Raises:
        DataError: when a file is a link that leads out of the folder, naming it.
    """
    wanted = set(suffixes)
    found: list[str] = []
    for path in _files(folder):
        if split_name(path.name)[1] not in wanted:
            continue
        if not _inside(folder, path):
            raise DataError(f"{path}: is a link that leads out of {folder}; copy the file into it")
        found.append(path.relative_to(folder).as_posix())
    return sorted(found)


def note_passed_over(names: Sequence[str]) -> tuple[str, ...]:
    """What to say of files that lie where labels lie and are not read; nothing for none."""
    if not names:
        return ()
    said = f"{len(names)} ({in_brief(names)})"
    return (f"Files that are no labels of this format, passed over: {said}.",)


def other_files(folder: Path, suffixes: Iterable[str]) -> list[str]:
    """The files that :func:`list_files` would not list, sorted: to be named, not to be opened."""
    wanted = set(suffixes)
    found = [path for path in _files(folder) if split_name(path.name)[1] not in wanted]
    return sorted(path.relative_to(folder).as_posix() for path in found)


def images_left_out(taken: Sequence[tuple[Path, str]], labels: Iterable[Path]) -> list[str]:
    """The images that lie in the same folders as others and have no label, sorted.

    Args:
        taken: the path of every image that has one, and its name below its folder.
        labels: the label files, which may lie below the images and be pictures themselves.
    """
    used, drawn = {path for path, _ in taken}, set(labels)
    known = used | drawn
    apart = {path.parent for path in drawn} - {path.parent for path in used}
    folders = {path.parents[len(PurePosixPath(name).parts) - 1] for path, name in taken}
    kinds = set(SUFFIXES) - {".csv"}  # beside recordings these are lists of events
    found = {
        (path, path.relative_to(folder).as_posix())
        for folder in folders
        for path in _files(folder)
        if split_name(path.name)[1] in kinds and path not in known
    }
    return sorted(name for path, name in found if path.parent not in apart)


def image_names(folder: Path) -> list[str]:
    """The files in a folder, and all below, whose format is read."""
    return list_files(folder, SUFFIXES)


class ImagesByStem:
    """Finds the image that a label file belongs to by its name.

    Raises:
        DataError: when two images have one stem, as soon as a label asks for it.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = sorted(names)
        self._by_stem: dict[str, list[str]] = {}
        for name in self._names:
            for key in {stem_of(name), name}:
                self._by_stem.setdefault(key, []).append(name)

    def holds(self, stem: str) -> bool:
        """Whether there is an image of exactly this stem."""
        return stem in self._by_stem

    def find(self, stem: str, source: Path) -> str:
        """The image of a label file with this stem, perhaps with ``_mask`` and the like at its end.

        Raises:
            DataError: when there is none or more than one, naming the label file.
        """
        ends = [stem.removesuffix(end) for end in LABEL_ENDS if stem.endswith(end)]
        for key in (stem, *ends, f"{stem}_0000"):
            found = self._by_stem.get(key, [])
            if len(found) == 1:
                self._refuse_channels(stem, found[0], source)
                return found[0]
            if found:
                raise DataError(
                    f"{source}: belongs to {found[0]} or to {found[1]}; rename one of them"
                )
        near = nearest(stem[:100], self._by_stem) if self._by_stem else ""
        raise DataError(
            f"{source}: has no image of the same stem; add it, or name the folder of the images "
            f"with --images{near if 'did you mean' in near else ''}"
        )

    def _refuse_channels(self, stem: str, image: str, source: Path) -> None:
        """Refuse an image whose channels are files of their own: only the first would be taken."""
        if stem_of(image) != f"{stem}_0000" or f"{stem}_0001" not in self._by_stem:
            return
        count = next(n for n in range(2, 10_000) if f"{stem}_{n:04d}" not in self._by_stem)
        raise DataError(
            f"{source}: the channels of its image are {count} files, {image} and so on; put one "
            "file in their place, with the channels on its last axis"
        )


def stem_of(name: str) -> str:
    """A path without its suffix, folders kept.

    >>> stem_of("a/b.nii.gz")
    'a/b'
    """
    path = PurePosixPath(name)
    return str(path.with_name(split_name(path.name)[0]))


def _files(folder: Path) -> Iterator[Path]:
    """All files in a folder and below, but none that is hidden; links to folders not entered."""
    for here, below, names in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield from (Path(here, name) for name in names if not is_litter(name))


def _is_plain(sign: str) -> bool:
    """Whether a sign can be part of a file name: printed, or one of the many blanks."""
    return sign.isprintable() or unicodedata.category(sign) == "Zs"


def _below(path: Path, folders: Sequence[Path], root: Path) -> str:
    """The path below the deepest folder that holds it."""
    deepest = max(
        (f for f in (*folders, root) if path.is_relative_to(f)), key=lambda f: len(f.parts)
    )
    return path.relative_to(deepest).as_posix()


def _inside(root: Path, path: Path) -> bool:
    try:
        return stays_inside(root, str(path.relative_to(root)))
    except (OSError, ValueError, RuntimeError):  # links in a circle, or a name no disk can have
        return False
