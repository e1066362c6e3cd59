"""Pair images with their labels and cut the patch a draw asks for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset

from labelmend.data.augment import Augmentation, augment
from labelmend.data.cache import Cache, Files
from labelmend.data.grid import Grid
from labelmend.data.prepare import Preparation
from labelmend.errors import DataError, NonFiniteError, SettingsError, ShapeError
from labelmend.files.readers import read_as, read_label
from labelmend.types import Batch, DataSet, Draw, Raster, Region, Sample


@dataclass(frozen=True, slots=True)
class Item:
    """One patch: ``image`` ``(channels, *patch)`` float32, ``label`` and ``valid`` as in Batch.

    ``index`` is the place of its sample in ``DataSet.samples``, ``pose`` that of a Batch.
    """

    image: Tensor
    label: Tensor
    valid: Tensor
    index: int
    pose: Tensor | None = None


class Whole(NamedTuple):
    """One sample uncropped: the prepared image, and the label where the file has it.

    Attributes:
        image: ``(channels, *grid.size)`` float32, as a network sees it.
        label: ``(*space)`` int64, or ``(channels, *space)`` float32 for regression, on the file's
            own positions: evaluate there, after ``Preparation.restore``.
        valid: ``(*space)`` bool.
        grid: where the positions of the image lie in the file.
        raster: the image as read, with its spacing and affine.
    """

    image: Tensor
    label: np.ndarray
    valid: np.ndarray
    grid: Grid
    raster: Raster


@dataclass(frozen=True, slots=True)
class _Image:
    array: np.ndarray
    grid: Grid
    stand_in: Raster  # geometry without the memory: all that a label reader looks at


@dataclass(frozen=True, slots=True)
class _Label:
    label: np.ndarray
    valid: np.ndarray
    foreground: np.ndarray  # flat positions that are valid and above class 0


class SampleDataset(Dataset[Item]):
    """Samples by :class:`Draw`: the same draw gives the same bits in any process, at any time.

    Files are hashed whenever they are read, and looked at again whenever what was made of them is
    used again; a file that is not the one the data set was opened with stops the run.

    Args:
        data: the samples, with their hashes.
        preparation: how files become images.
        patch: positions per space axis of the prepared image. Smaller images are padded at the
            end: mirrored image, label 0, valid False.
        augmentation: what may change at random in a draw with ``augment``.
        seed: with ``Draw.key`` the only source of randomness.
        cache_mb: memory for prepared files, per process.
        foreground: share of patches centred on something labelled (valid and above class 0)
            where the sample has any; ignored for regression. A patch of which nothing is valid
            is centred on something that is, where anything is.

    Raises:
        SettingsError: for a patch or foreground that cannot be used.

    Trap: seeds of parameters and data should differ only if you mean it; a draw's key, not its
    sample, decides where the patch lies.
    """

    def __init__(
        self,
        data: DataSet,
        preparation: Preparation,
        patch: Sequence[int],
        augmentation: Augmentation | None = None,
        *,
        seed: int,
        cache_mb: float = 512,
        foreground: float = 0.33,
    ) -> None:
        if len(patch) != data.spec.dims or min(patch) < 1:
            raise SettingsError(
                f"input.patch wants {data.spec.dims} numbers of at least 1, got {tuple(patch)}"
            )
        if not 0 <= foreground <= 1:
            raise SettingsError(f"input.foreground is a share from 0 to 1, not {foreground}")
        self.data = data
        self.preparation = preparation
        self.patch = tuple(patch)
        self.augmentation = augmentation or Augmentation()
        self.seed = seed
        self.cache_mb = cache_mb
        self.foreground = foreground
        self._files = Files(data.root)
        self._cache: Cache[_Image | _Label] = Cache(cache_mb * 2**20)

    def __len__(self) -> int:
        return len(self.data.samples)

    def __getitem__(self, draw: Draw) -> Item:
        """The patch that a draw asks for.

        Raises:
            ChangedDataError: when image or label is not the file the data set was opened with.
            DataError: when one of them cannot be read or does not fit, naming it.
            NonFiniteError: for NaN or infinity in the image, naming it.
        """
        sample = self.data.samples[draw.index]
        generator = seeded(self.seed, draw.key)
        image = self._image(sample)
        label = self._label(sample, image)
        region = self._region(image.grid.size, label, generator)
        claimed = _cut(label.label, region, self.patch, None)
        wide = np.float32 if claimed.dtype.kind == "f" else np.int64
        parts = (
            torch.from_numpy(_cut(image.array, region, self.patch, "symmetric")),
            torch.from_numpy(claimed.astype(wide, copy=False)),
            torch.from_numpy(_cut(label.valid, region, self.patch, None)),
        )
        if not draw.augment:
            return Item(*parts, draw.index, torch.eye(len(self.patch), dtype=torch.int64))
        image_now, label_now, valid_now, pose = augment(*parts, generator, self.augmentation)
        return Item(image_now, label_now, valid_now, draw.index, pose)

    def whole(self, index: int) -> Whole:
        """A sample uncropped and without augmentation, read anew, for evaluation.

        Raises:
            ChangedDataError, DataError, NonFiniteError: as for a patch.
        """
        sample = self.data.samples[index]
        raster = _open(self._files, self.data, sample)
        with _naming(sample.image):
            image, grid = self.preparation.image(raster)
        label, valid = self._read_label(sample, raster)
        return Whole(torch.from_numpy(image), label, valid, grid, raster)

    def name(self, index: int) -> str:
        """What messages call a sample."""
        return self.data.samples[index].id

    def __getstate__(self) -> dict[str, Any]:
        # a loading process starts with nothing verified and nothing kept
        fresh = {"_files": Files(self.data.root), "_cache": Cache(self.cache_mb * 2**20)}
        return self.__dict__ | fresh

    def _image(self, sample: Sample) -> _Image:
        # a file of another name may be read otherwise, even with the same content
        key = (sample.image, sample.image_sha256)
        content = self._files.changed(sample.image, sample.image_sha256)
        found = self._cache.get(key)
        if isinstance(found, _Image):
            return found
        raster = _open(self._files, self.data, sample, content)
        with _naming(sample.image):
            array, grid = self.preparation.image(raster)
        hollow = np.broadcast_to(np.zeros((), raster.array.dtype), raster.array.shape)
        image = _Image(array, grid, replace(raster, array=hollow))
        self._cache.put(key, image, array.nbytes)
        return image

    def _label(self, sample: Sample, image: _Image) -> _Label:
        key = (sample.label, sample.label_sha256, sample.image, sample.image_sha256)
        content = self._files.changed(sample.label, sample.label_sha256)
        found = self._cache.get(key)
        if isinstance(found, _Label):
            return found
        label, valid = self._read_label(sample, image.stand_in, content)
        with _naming(sample.label):
            label, valid = self.preparation.label(label, valid, image.grid)
        entry = _compact(label, valid)
        size = entry.label.nbytes + entry.valid.nbytes + entry.foreground.nbytes
        self._cache.put(key, entry, size)
        return entry

    def _read_label(
        self, sample: Sample, raster: Raster, content: bytes | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        if content is None:
            content = self._files.load(sample.label, sample.label_sha256)
        path = self._files.root / sample.label
        label, valid = read_label(path, self.data.spec, raster, content=content)
        space = raster.array.shape[1:]
        if label.shape[-len(space) :] != space or valid.shape != space:
            raise DataError(
                f"{sample.label}: a label of {space} positions is wanted, as {sample.image} has, "
                f"got {label.shape}"
            )
        return label, valid

    def _region(self, size: tuple[int, ...], label: _Label, generator: Generator) -> Region:
        length = tuple(min(n, p) for n, p in zip(size, self.patch, strict=True))
        centred = float(torch.rand((), generator=generator)) < self.foreground
        drawn = torch.rand(len(size), generator=generator, dtype=torch.float64).tolist()
        room = [n - p for n, p in zip(size, length, strict=True)]

        def around_one_of(places: np.ndarray) -> Region:
            place = int(torch.randint(len(places), (), generator=generator))
            centre = np.unravel_index(int(places[place]), size)
            near = zip(centre, length, room, strict=True)
            return Region(tuple(min(max(int(c) - p // 2, 0), r) for c, p, r in near), length)

        if centred and len(label.foreground):
            return around_one_of(label.foreground)
        start = [min(int(share * (r + 1)), r) for share, r in zip(drawn, room, strict=True)]
        region = Region(tuple(start), length)
        if not label.valid[region.slices].any():  # it would teach and judge nothing
            known = np.flatnonzero(label.valid)
            return around_one_of(known) if len(known) else region
        return region


def collate(items: Sequence[Item]) -> Batch:
    """Items of one patch size as a batch.

    Raises:
        ShapeError: when their shapes differ.
    """
    shapes = {tuple(item.image.shape) for item in items}
    if len(shapes) != 1:
        raise ShapeError(f"items of one shape are wanted in a batch, got {sorted(shapes)}")
    poses = [item.pose for item in items if item.pose is not None]
    return Batch(
        torch.stack([item.image for item in items]),
        torch.stack([item.label for item in items]),
        torch.stack([item.valid for item in items]),
        torch.tensor([item.index for item in items], dtype=torch.int64),
        torch.stack(poses) if len(poses) == len(items) else None,
    )


def rasters(data: DataSet, samples: Iterable[Sample]) -> Iterator[Raster]:
    """The images of samples as read, each file once: what ``prepare.measure`` takes.

    Raises:
        ChangedDataError, DataError: for a file that changed or cannot be read.
    """
    files = Files(data.root)
    for sample in {s.image: s for s in samples}.values():
        yield _open(files, data, sample)


def known_values(data: DataSet, samples: Iterable[Sample]) -> Iterator[np.ndarray]:
    """What continuous labels hold where they are known, ``(channels, known)`` float32 of each.

    Raises:
        ChangedDataError, DataError: for a file that changed or cannot be read.
    """
    files = Files(data.root)
    for sample in samples:
        content = files.load(sample.label, sample.label_sha256)
        raster = _open(files, data, sample)
        label, valid = read_label(files.root / sample.label, data.spec, raster, content=content)
        yield label[:, valid]


def seeded(seed: int, key: int) -> Generator:
    """A generator that depends on the two numbers alone.

    >>> seeded(0, 1).initial_seed() == seeded(0, 1).initial_seed() != seeded(1, 0).initial_seed()
    True
    """
    state = np.random.SeedSequence((seed, key)).generate_state(1, np.uint64)
    return Generator().manual_seed(int(state[0]))


@contextmanager
def _naming(file: str) -> Iterator[None]:
    """Put the file's name before the text of an error about what is in it."""
    try:
        yield
    except (DataError, ShapeError, NonFiniteError, SettingsError) as error:
        kind = DataError if isinstance(error, ShapeError) else type(error)
        raise kind(f"{file}: {error}") from error


def _open(files: Files, data: DataSet, sample: Sample, content: bytes | None = None) -> Raster:
    if content is None:
        content = files.load(sample.image, sample.image_sha256)
    return read_as(files.root / sample.image, data.spec, content=content)


def _cut(array: np.ndarray, region: Region, patch: tuple[int, ...], mode: Any) -> np.ndarray:
    """A copy of the region, padded at the end to ``patch``: mirrored, or with 0 and False."""
    lead = array.ndim - len(patch)
    part = array[(slice(None),) * lead + region.slices]
    missing = [(0, p - n) for p, n in zip(patch, region.size, strict=True)]
    if not any(after for _, after in missing):
        return part.copy()
    return np.pad(part, [(0, 0)] * lead + missing, mode=mode or "constant")


def _compact(label: np.ndarray, valid: np.ndarray) -> _Label:
    """The label in the least memory: eight bytes a class index would fill the cache with zeros."""
    if label.dtype.kind == "f":
        return _Label(label.astype(np.float32, copy=False), valid, np.empty(0, np.int32))
    small = np.int32 if label.size < 2**31 else np.int64
    foreground = np.flatnonzero(valid & (label > 0)).astype(small)
    return _Label(label.astype(np.min_scalar_type(int(label.max(initial=0)))), valid, foreground)
