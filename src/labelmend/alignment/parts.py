"""Put every class of a label, or every patch of it, where that part of it belongs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import pad

from labelmend.alignment.aligner import ShiftAligner
from labelmend.alignment.comparison import check_comparison, check_range
from labelmend.alignment.correlation import along_axes
from labelmend.alignment.placement import Placement
from labelmend.alignment.shifts import shift
from labelmend.errors import SettingsError, ShapeError
from labelmend.losses import present
from labelmend.losses.valid_positions import at_least_single
from labelmend.types import EMPTY, FLAT, IN_PLACE, MOVED, PARTLY, UNSURE, Alignment, Region

_TELLING = (MOVED, PARTLY, IN_PLACE, UNSURE, FLAT, EMPTY)
"""Reasons of parts, those first that say more of the whole."""


@dataclass(frozen=True, slots=True)
class ClassAligner:
    """Moves every foreground class of a label by itself, and puts the classes together again.

    Each class is sought against the rest, by its own probability. Then a position belongs to the
    one class that came to lie there. Where several did, nobody knows which is right, so it is not
    valid. Where none did, it is background, unless the place that a class of this label would have
    come from was outside or not valid: then it is not valid. Classes that the label does not have
    play no part; so a label of one class, or whose classes all move alike, is moved as a whole.

    Attributes:
        aligner: what finds the place of a class.

    Source: seed B3, "deformation, and combinations". Trap: classes that touch part or overlap by
    moving; what lies between them is then background or not valid.

    >>> label = torch.zeros(1, 40, dtype=torch.int64)
    >>> label[0, 5:12], label[0, 20:29] = 1, 2
    >>> true = torch.zeros(1, 40, dtype=torch.int64)
    >>> true[0, 7:14], true[0, 19:28] = 1, 2
    >>> seen = torch.nn.functional.one_hot(true, 3).movedim(-1, 1) * 8.0
    >>> classes = ClassAligner(ShiftAligner(window=4))
    >>> classes.find(seen, label, torch.ones(1, 40).bool()).displacement.tolist()
    [[[2], [-1]]]
    """

    aligner: ShiftAligner = field(default_factory=ShiftAligner)

    def __call__(
        self,
        prediction: Tensor,
        label: Tensor,
        valid: Tensor,
        *,
        known: Tensor | None = None,
        group: Tensor | None = None,
    ) -> Alignment:
        """Labels whose classes are in their places.

        Arguments as in :class:`labelmend.alignment.aligner.ShiftAligner`, but labels are class
        indices. ``displacement`` is the mean over the positions of the foreground; confidence,
        gain and reason as in :func:`summary`.

        Raises:
            ShapeError: where shapes, types or devices do not fit.
            SettingsError: for labels of continuous values.
        """
        found = self.find(prediction, label, valid, known=known, group=group)
        moved_label, moved_valid, area = _assembled(label, valid, found.displacement)
        share = area / area.sum(1, keepdim=True).clamp(min=1)
        displacement = (found.displacement * share.unsqueeze(2)).sum(1)
        return Alignment(moved_label, moved_valid, displacement, *summary(found))

    def find(
        self,
        prediction: Tensor,
        label: Tensor,
        valid: Tensor,
        *,
        known: Tensor | None = None,
        group: Tensor | None = None,
    ) -> Placement:
        """Where every foreground class belongs: a placement with ``(batch, classes − 1)`` parts.

        Each of its tensors has an axis for classes after that of samples. Arguments and errors
        as for a call.
        """
        check_comparison(prediction, label, valid, known)
        if label.is_floating_point():
            raise SettingsError(
                "labels of continuous values have no classes to be moved one by one; "
                "move them per sample or per patch"
            )
        check_range(label, valid, prediction.shape[1])
        logits = at_least_single(prediction.detach())
        found = []
        for one in range(1, prediction.shape[1]):
            rest = [c for c in range(prediction.shape[1]) if c != one]
            against = torch.stack([logits[:, rest].logsumexp(1), logits[:, one]], 1)
            found.append(
                self.aligner.find(against, (label == one).long(), valid, known=known, group=group)
            )
        return _stacked(found)


@dataclass(frozen=True, slots=True)
class PatchAligner:
    """Cuts labels into patches and moves each by itself.

    A patch is compared with the prediction of its place and as far around as the window reaches,
    not only with its own part of the prediction. It takes its content along: a position holds what
    the one patch brought that came to lie there; where none or several did, it is not valid. So
    nothing appears twice, and where neighbours move alike there is no seam.

    Attributes:
        size: of a patch in positions, along every axis or for all of them. Patches lie beside each
            other from the first position on; the last along an axis may be cut short.
        aligner: what finds the place of a patch.

    Source: seed B3 (a patch as the granularity). Trap: a small patch has little edge to be found
    by, so few of them move; where one does beside one that does not, a strip is not valid.

    >>> label = torch.zeros(1, 64, dtype=torch.int64)
    >>> label[0, 8:13], label[0, 18:24], label[0, 40:45], label[0, 50:56] = 1, 1, 1, 1
    >>> seen = torch.cat([label[:, :32].roll(2, 1), label[:, 32:].roll(-3, 1)], 1)
    >>> seen = torch.nn.functional.one_hot(seen, 2).movedim(-1, 1) * 8.0
    >>> patches = PatchAligner(32, ShiftAligner(window=4))
    >>> patches.find(seen, label, torch.ones(1, 64).bool()).displacement.tolist()
    [[[2], [-3]]]
    """

    size: int | tuple[int, ...]
    aligner: ShiftAligner = field(default_factory=ShiftAligner)

    def __post_init__(self) -> None:
        sizes = (self.size,) if isinstance(self.size, int) else self.size
        if min(sizes, default=0) < 1:
            raise SettingsError(f"a patch must have 1 position or more along axes, not {self.size}")

    def __call__(
        self,
        prediction: Tensor,
        label: Tensor,
        valid: Tensor,
        *,
        known: Tensor | None = None,
        group: Tensor | None = None,
    ) -> Alignment:
        """Labels whose patches are in their places.

        Arguments as in :class:`labelmend.alignment.aligner.ShiftAligner`; of samples of one group,
        patches of one place move alike. ``displacement`` is a field ``(batch, dims, *space)``: of
        the patch that came to lie there, or where none or several did, of the patch whose place it
        was; confidence, gain and reason as in :func:`summary`.

        Raises:
            ShapeError: where shapes, types or devices do not fit, also of the patch.
        """
        found = self.find(prediction, label, valid, known=known, group=group)
        moved_label, moved_valid, way = self._joined(label, valid, found.displacement)
        return Alignment(moved_label, moved_valid, way, *summary(found))

    def find(
        self,
        prediction: Tensor,
        label: Tensor,
        valid: Tensor,
        *,
        known: Tensor | None = None,
        group: Tensor | None = None,
    ) -> Placement:
        """Where every patch belongs: a placement with ``(batch, patches)`` parts.

        Each of its tensors has an axis for patches, ordered as :meth:`regions`, after that of
        samples. Arguments and errors as for a call.
        """
        check_comparison(prediction, label, valid, known)
        known = torch.ones_like(valid) if known is None else known
        regions, reach = (
            self.regions(valid.shape[1:]),
            along_axes(self.aligner.window, valid.shape[1:]),
        )
        seen = _windows(prediction.detach(), regions, reach)
        said, sure = _windows(label, regions, reach), _windows(valid, regions, reach)
        sure = sure & _inner(sure, reach)
        if group is not None:
            number = torch.arange(len(regions), device=group.device).repeat_interleave(len(group))
            group = number + len(regions) * torch.unique(group, return_inverse=True)[1].repeat(
                len(regions)
            )
        found = self.aligner.find(
            seen, said, sure, known=_windows(known, regions, reach), group=group
        )
        parts = (found.displacement, found.confidence, found.gain, found.reason)
        return Placement(*(_by_sample(part, len(regions)) for part in parts))

    def regions(self, space: Sequence[int]) -> list[Region]:
        """The patches of a space, the last axis changing first; they may reach beyond its end.

        >>> [region.start for region in PatchAligner(4).regions((5, 4))]
        [(0, 0), (4, 0)]
        """
        size = (self.size,) * len(space) if isinstance(self.size, int) else self.size
        if len(size) != len(space):
            raise ShapeError(f"a patch must have one size per axis of {tuple(space)}, not {size}")
        starts = [range(0, n, s) for n, s in zip(space, size, strict=True)]
        return [Region(start, size) for start in itertools.product(*starts)]

    def _joined(
        self, label: Tensor, valid: Tensor, displacement: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Label, valid and field of patches that moved by ``(batch, patches, dims)``."""
        space = valid.shape[1:]
        regions, reach = self.regions(space), along_axes(self.aligner.window, space)
        said, sure = _windows(label, regions, reach), _windows(valid, regions, reach)
        place = _inner(sure, reach).expand_as(sure)
        ways = displacement.transpose(0, 1).flatten(0, 1)
        said, came = shift(said, sure & place, ways)
        spread = ways.float().view(*ways.shape, *[1] * len(space))
        carried = torch.where(came.unsqueeze(1), spread, 0)
        count, total, brought, own = (
            _overlaid(values, regions, reach, space)
            for values in (came.long(), said, carried, torch.where(place.unsqueeze(1), spread, 0))
        )
        valid = count == 1
        over = valid if label.ndim == valid.ndim else valid.unsqueeze(1)
        way = torch.where(valid.unsqueeze(1), brought, own)
        return torch.where(over, total, 0), valid, way


def summary(found: Placement) -> tuple[Tensor, Tensor, Tensor]:
    """What a placement with parts says of every sample: confidence, gain, reason, ``(batch,)``.

    The reason is that of the part that went furthest: moved, moved partly, in place, unsure, flat,
    empty. Confidence is the least of those parts that share this reason, gain the sum of all.

    Args:
        found: tensors ``(batch, parts, ...)``.

    >>> ones = torch.ones(1, 2)
    >>> reason = torch.tensor([[4, 1]], dtype=torch.uint8)
    >>> summary(Placement(torch.ones(1, 2, 1).long(), ones, ones, reason))
    (tensor([1.]), tensor([2.]), tensor([1], dtype=torch.uint8))
    """
    reason = torch.full_like(found.reason[:, 0], EMPTY)
    for code in reversed(_TELLING):
        reason = torch.where((found.reason == code).any(1), code, reason)
    same = found.reason == reason.unsqueeze(1)
    confidence = torch.where(same, found.confidence, 1).amin(1)
    return confidence, found.gain.sum(1), reason


def _assembled(label: Tensor, valid: Tensor, displacement: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Label and valid of classes that moved by ``(batch, classes − 1, dims)``, and their areas."""
    classes = displacement.shape[1] + 1
    there = present(label, valid, classes)
    claims, total = torch.zeros_like(label), torch.zeros_like(label)
    sure, areas = torch.ones_like(valid), []
    over = (-1, *[1] * (valid.ndim - 1))
    for one in range(1, classes):
        own = (label == one) & valid
        said, came = shift(own.long(), valid, displacement[:, one - 1])
        claims, total = claims + said, total + one * said
        sure = sure & (came | ~there[:, one].view(over))
        areas.append(own.flatten(1).sum(1))
    # A label without any class is background where it says so, and nobody knows elsewhere.
    sure = sure & (valid | there[:, 1:].any(1).view(over))
    known = (claims == 1) | ((claims == 0) & sure)
    return torch.where(known, total, 0), known, torch.stack(areas, 1).float()


def _stacked(found: Sequence[Placement]) -> Placement:
    return Placement(
        torch.stack([one.displacement for one in found], 1),
        torch.stack([one.confidence for one in found], 1),
        torch.stack([one.gain for one in found], 1),
        torch.stack([one.reason for one in found], 1),
    )


def _windows(values: Tensor, regions: Sequence[Region], reach: Sequence[int]) -> Tensor:
    """Patches with what lies around them, one after the other, ``(patches · batch, ...)``.

    Outside is 0, or False.
    """
    dims = len(reach)
    lead = [slice(None)] * (values.ndim - dims)
    ends = [max(r.start[axis] + r.size[axis] for r in regions) for axis in range(dims)]
    more = zip(reach, ends, values.shape[-dims:], strict=True)
    padded = pad(values, [n for r, end, size in reversed(list(more)) for n in (r, end - size + r)])
    # The first ``reach`` positions lie outside, so a region's start is that of its surroundings.
    grown = [_grown(region, reach).slices for region in regions]
    return torch.cat([padded[(*lead, *places)] for places in grown])


def _overlaid(
    windows: Tensor, regions: Sequence[Region], reach: Sequence[int], space: Sequence[int]
) -> Tensor:
    """The sum of windows at their places: undoes :func:`_windows`."""
    dims = len(reach)
    ends = [max(r.start[axis] + r.size[axis] for r in regions) for axis in range(dims)]
    whole = [end + 2 * r for end, r in zip(ends, reach, strict=True)]
    parts = windows.reshape(len(regions), len(windows) // len(regions), *windows.shape[1:])
    lead = [slice(None)] * (windows.ndim - dims)
    total = windows.new_zeros(*parts.shape[1 : parts.ndim - dims], *whole)
    for region, part in zip(regions, parts, strict=True):
        total[(*lead, *_grown(region, reach).slices)] += part
    return total[(*lead, *Region(tuple(reach), tuple(space)).slices)]


def _grown(region: Region, reach: Sequence[int]) -> Region:
    return Region(region.start, tuple(n + 2 * r for n, r in zip(region.size, reach, strict=True)))


def _inner(windows: Tensor, reach: Sequence[int]) -> Tensor:
    """Which positions of windows ``(batch, *space)`` are those of the patch, ``(1, *space)``."""
    size = windows.shape[1:]
    inner = torch.zeros(1, *size, dtype=torch.bool, device=windows.device)
    own = Region(tuple(reach), tuple(n - 2 * r for n, r in zip(size, reach, strict=True)))
    inner[(slice(None), *own.slices)] = True
    return inner


def _by_sample(part: Tensor, patches: int) -> Tensor:
    """``(patches · batch, ...)`` → ``(batch, patches, ...)``."""
    return part.reshape(patches, len(part) // patches, *part.shape[1:]).transpose(0, 1)
