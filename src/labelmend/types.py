"""The nouns that travel between rooms: samples, data sets, regions, draws, batches, alignments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

Quality = Literal["strong", "weak"]
Split = Literal["train", "val", "test"]
Task = Literal["segmentation", "regression"]
ChannelAxis = Literal["none", "first", "last"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One (image, label) pair and what is claimed of it.

    Paths are relative to the data root, with forward slashes. ``label`` is also the sample's
    identity: one image with labels by three people is three samples. ``group`` is the unit that
    must never be divided between training and test (patient, plate, record). The hashes are
    SHA-256 in hexadecimal, empty until the files have been read.

    >>> Sample("images/a.png", "labels/weak/ann/a.png", "weak", "train", "a", "ann").id
    'labels/weak/ann/a.png'
    """

    image: str
    label: str
    quality: Quality
    split: Split
    group: str
    annotator: str = ""
    image_sha256: str = ""
    label_sha256: str = ""

    @property
    def id(self) -> str:
        """The label's path: unique in a data set."""
        return self.label

    @property
    def name(self) -> str:
        """The label's file name without its suffix; not unique."""
        return PurePosixPath(self.label).stem


@dataclass(frozen=True, slots=True)
class DataSpec:
    """What every file of a data set has in common, as found or as its ``data.toml`` says.

    ``classes[i]`` is the name and ``values[i]`` the value in label files of class index ``i``;
    class 0 is the background. ``ignore`` is the value in label files that means "nobody said".
    With ``instances`` every value above 0 is class 1. For regression, ``classes`` names the
    label's channels and ``values`` is empty. ``dims`` counts the space axes (1, 2 or 3),
    ``channels`` those of an image, ``channel_axis`` where array files keep them.
    ``suffix`` is the family that predictions are written in, for example ``".png"``. ``spacing``
    is what ``data.toml`` says, over what files say; ``None`` where it says nothing.
    """

    task: Task
    classes: tuple[str, ...]
    values: tuple[int, ...]
    ignore: int | None
    dims: int
    channels: int
    channel_axis: ChannelAxis
    suffix: str
    instances: bool = False
    spacing: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set on disk: its folder, what its files share, its samples in a fixed order.

    ``notes`` are sentences for a person: everything that was inferred rather than said.
    ``orientations`` are those of its volumes, such as ``RAS``; ``spacings`` are the least and the
    largest distance of positions along every axis, as image files say. Both are empty where files
    say nothing or ``data.toml`` says otherwise, and of runs that were made before they were kept.
    """

    root: str
    spec: DataSpec
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()
    orientations: tuple[str, ...] = ()
    spacings: tuple[tuple[float, ...], ...] = ()

    def __repr__(self) -> str:
        what = f"{self.spec.dims}-D {self.spec.task}"
        return f"DataSet({self.root!r}, samples={len(self.samples)}, {what})"

    def of(self, split: Split, quality: Quality | None = None) -> tuple[Sample, ...]:
        """The samples of a split, of one quality or of both, in their fixed order."""
        return tuple(s for s in self.samples if s.split == split and quality in (None, s.quality))


Georeference = tuple[tuple[int, int, int, Any], ...]
"""What a GeoTIFF says of its place on the map: tags as (code, type, count, value)."""


@dataclass(frozen=True, slots=True)
class Raster:
    """An image, volume, recording or spectrum as read, before any change of its values.

    ``array`` is ``(channels, *space)`` for images and ``(*space)`` for class labels, in the
    file's own number type. ``spacing`` is the distance between positions along every space
    axis (millimetres for volumes, seconds for recordings), ``None`` where the file does not say.
    ``affine`` is the 4 x 4 matrix of a NIfTI file, ``georeference`` what a GeoTIFF says of its
    place on the map.
    """

    array: np.ndarray
    spacing: tuple[float, ...] | None = None
    affine: np.ndarray | None = None
    georeference: Georeference = ()


@dataclass(frozen=True, slots=True)
class Region:
    """An axis-aligned box of positions: where a patch was cut and where it goes back.

    >>> Region((0, 4), (2, 3)).slices
    (slice(0, 2, None), slice(4, 7, None))
    """

    start: tuple[int, ...]
    size: tuple[int, ...]

    @property
    def slices(self) -> tuple[slice, ...]:
        """One slice per space axis."""
        return tuple(slice(a, a + n) for a, n in zip(self.start, self.size, strict=True))


@dataclass(frozen=True, slots=True)
class Draw:
    """One request to the loader: which sample, and the key that fixes its patch and augmentation.

    The same draw gives the same tensors in any process, in any order, after any restart.
    """

    index: int
    key: int
    augment: bool = True


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of one size, ready for a network.

    Attributes:
        image: ``(batch, channels, *space)`` float.
        label: ``(batch, *space)`` int64 class indices, or ``(batch, channels, *space)`` float
            for regression.
        valid: ``(batch, *space)`` bool; False where nobody said what the label is.
        index: ``(batch,)`` int64, the place of each sample in ``DataSet.samples``.
        pose: ``(batch, dims, dims)`` int64, how a patch was mirrored and turned: ``pose @ d`` is
            in the patch what the displacement ``d`` is in the image. None: not at all.
    """

    image: Tensor
    label: Tensor
    valid: Tensor
    index: Tensor
    pose: Tensor | None = None

    def __len__(self) -> int:
        return int(self.index.shape[0])

    def split(self, size: int) -> list[Batch]:
        """The same samples in batches of at most ``size``."""
        return [self.take(slice(first, first + size)) for first in range(0, len(self), size)]

    def take(self, which: slice | Tensor | Sequence[int]) -> Batch:
        """Some of the samples: a slice, a mask, or their places in this batch."""
        pose = None if self.pose is None else self.pose[which]
        image, label, valid, index = (values[which] for values in self._tensors())
        return Batch(image, label, valid, index, pose)

    def join(self, other: Batch) -> Batch:
        """These samples and, after them, those of another batch."""
        import torch  # only who has tensors has waited for it

        pairs = zip(self._tensors(), other._tensors(), strict=True)
        upright = self.pose is None or other.pose is None
        pose = None if upright else torch.cat([self.pose, other.pose])  # type: ignore[list-item]
        image, label, valid, index = (torch.cat(pair) for pair in pairs)
        return Batch(image, label, valid, index, pose)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Batch:
        """The same batch on another device, its image in another number type where one is given."""
        return Batch(
            self.image.to(device, dtype),
            self.label.to(device),
            self.valid.to(device),
            self.index.to(device),
            None if self.pose is None else self.pose.to(device),
        )

    def _tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.image, self.label, self.valid, self.index


IN_PLACE, MOVED, PARTLY, UNSURE, EMPTY, FLAT, HELD = range(7)

REASONS: tuple[str, ...] = (
    "in place already",
    "moved",
    "moved along the directions that are known",
    "no place is clearly the best",
    "the label is the same everywhere",
    "the prediction is the same everywhere",
    "not to be moved",
)
"""Why a label lies where it does, by the numbers of :attr:`Alignment.reason`."""

CLEAR = (IN_PLACE, MOVED, PARTLY)
"""The reasons of labels whose place is clear, along some directions at least."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """Where labels belong: the moved labels, what of them is still known, how far they went.

    Attributes:
        label: the moved labels, shaped as in :class:`Batch`.
        valid: ``(batch, *space)`` bool; False where what stands there came from outside.
        displacement: ``(batch, dims)`` float, how far the label moved, in positions; of its
            centre, where it also turned or stretched. Or a field ``(batch, dims, *space)``.
        confidence: ``(batch,)`` float in [0, 1], how probable it is that the best place is right,
            within one position or what the aligner calls near.
        gain: ``(batch,)`` float, how much more likely the new place is than the old, in nats.
        reason: ``(batch,)`` uint8, why: places in :data:`REASONS`.
        matrix: ``(batch, dims, dims + 1)`` float, from positions of the label to where they moved,
            where labels may do more than shift.
        carry: ``(batch, dims, *space)`` the field to move the prediction by before it is compared
            with the label, where that is what bends.
    """

    label: Tensor
    valid: Tensor
    displacement: Tensor
    confidence: Tensor
    gain: Tensor | None = None
    reason: Tensor | None = None
    matrix: Tensor | None = None
    carry: Tensor | None = None

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why each label lies where it does, in words; none where an aligner gives none."""
        return () if self.reason is None else tuple(REASONS[code] for code in self.reason.tolist())


class Loss(Protocol):
    """A loss that keeps samples apart: one value per sample, never a mean over them."""

    def __call__(self, logits: Tensor, label: Tensor, valid: Tensor, /) -> Tensor:
        """``(batch, classes, *space)``, label and valid as in :class:`Batch` → ``(batch,)``."""
        ...


class Aligner(Protocol):
    """A search for where labels belong, given what the network predicts."""

    def __call__(self, prediction: Tensor, label: Tensor, valid: Tensor, /) -> Alignment:
        """Shapes as in :class:`Alignment`."""
        ...
