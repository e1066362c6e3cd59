"""From a prediction and a label in any of their usual forms to the label in its place."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from labelmend.alignment.agreement import check_label
from labelmend.alignment.aligner import ShiftAligner
from labelmend.alignment.fields import warp_field
from labelmend.alignment.margins import Fill, centre, embed
from labelmend.alignment.refinement import refine
from labelmend.alignment.shifts import shift_subpixel
from labelmend.errors import SettingsError, ShapeError, unknown
from labelmend.losses.valid_positions import (
    at_least_single,
    check_tensors,
    softmax,
    type_and_shape,
)
from labelmend.types import HELD, IN_PLACE, MOVED, Alignment

Activation = Literal["softmax", "sigmoid"]
"""What makes values like those of a label with channels out of a prediction."""

ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
"""The names that ``activation`` may have."""


class Search(Protocol):
    """A search for where labels belong: every aligner of this room is one."""

    def __call__(
        self,
        prediction: Tensor,
        label: Tensor,
        valid: Tensor,
        *,
        known: Tensor | None = None,
        group: Tensor | None = None,
    ) -> Alignment:
        """Shapes as in :class:`labelmend.alignment.aligner.ShiftAligner`."""
        ...


@dataclass(frozen=True, slots=True)
class Procedure:
    """How a label is read, compared with its prediction, moved, and cut to the prediction's size.

    Labels may be ``(batch, *space)`` class indices of any whole type; ``(batch, 1, *space)`` the
    same of any type, where the prediction has more channels than one; or ``(batch, channels,
    *space)`` values, one-hot labels included. They come back in the form and type they had.

    A prediction may be smaller than its label. It is then compared with the label from the middle
    of the label's space, and the moved label is cropped to where the prediction lies.

    Attributes:
        aligner: the search.
        ignore_index: what a label holds where nobody said; with channels, in any of them.
        activation: for labels with channels and predictions that are logits. ``"softmax"``: the
            labels are one-hot, and sought as the classes they are. ``"sigmoid"``: channels stand
            for themselves.
        fill: what stands around a prediction that is smaller than its label, as in
            :func:`labelmend.alignment.margins.embed`, and is compared as if it were predicted. By
            default nothing: only what is predicted is compared.
        subpixel: refine displacements of labels with channels to parts of a position, see
            :func:`labelmend.alignment.refinement.refine`; they then carry a derivative.

    Raises:
        SettingsError: for an activation that does not exist, or an aligner that is no search.

    Source: seed B4, figure 3 (¶32, ¶39, ¶45–47); ``fill="mean"`` is its first form. Trap: a margin
    that is made up counts as evidence, for where it is flat the label should be, too.

    >>> label = torch.zeros(1, 40, dtype=torch.int64)
    >>> label[0, 13:20], label[0, 25:29] = 1, 1
    >>> seen = torch.nn.functional.one_hot(label.roll(2, 1), 2).movedim(-1, 1)[..., 10:30] * 8.0
    >>> found = Procedure(ShiftAligner(window=3))(seen, label)
    >>> found.displacement, found.label.shape
    (tensor([[2.]]), torch.Size([1, 20]))
    """

    aligner: Search = field(default_factory=ShiftAligner)
    ignore_index: float | None = None
    activation: Activation | None = None
    fill: Fill | float | None = None
    subpixel: bool = False

    def __post_init__(self) -> None:
        if self.activation is not None and self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS)
        if not callable(self.aligner) or isinstance(self.aligner, type):
            named = getattr(self.aligner, "__name__", type(self.aligner).__name__)
            raise SettingsError(f"an aligner is a search as ShiftAligner(window=8), not {named}")

    def __call__(
        self,
        prediction: Tensor,
        label: Tensor,
        valid: Tensor | None = None,
        *,
        strong: Tensor | None = None,
        group: Tensor | None = None,
    ) -> Alignment:
        """The label where it belongs, at the prediction's size.

        Args:
            prediction: ``(batch, channels, *space)`` floating.
            label: in any form above, of the prediction's space or a larger one.
            valid: bool, of the label's space; by default everywhere. What holds the
                ``ignore_index`` is never valid.
            strong: ``(batch,)`` bool, samples that do not move. Their evidence moves no others.
            group: ``(batch,)`` int64; samples of one number are moved alike.

        Raises:
            ShapeError: where shapes, types or devices do not fit.
            SettingsError: where label and activation do not fit.
        """
        given = {"valid": valid, "strong": strong, "group": group}
        given = {name: value for name, value in given.items() if value is not None}
        check_tensors(prediction=prediction, label=label, **given)
        claim = read_claim(label, prediction, one_hot=self.activation == "softmax")
        valid = known_positions(label, prediction, valid, self.ignore_index)
        check_label(claim, valid)
        if self.activation == "softmax" and label.ndim == claim.ndim + 1 and label.shape[1] > 1:
            _check_one_hot(label, valid)
        seen, known = self._spread(self._searched(prediction, claim), valid)
        found = self._search(seen, claim, valid, known, _apart(group, strong))
        if strong is not None:
            found = _held(found, claim, valid, strong)
        found = replace(found, label=_in_form_of(label, found.label, found.valid))
        if self.subpixel:
            found = self._refined(prediction, label, valid, found, _apart(group, strong))
        return _cropped(found, prediction.shape[2:])

    def _searched(self, prediction: Tensor, claim: Tensor) -> Tensor:
        """What is compared with the label: logits for classes, values for values."""
        if not claim.is_floating_point() or self.activation is None:
            return prediction
        return at_least_single(prediction).sigmoid()

    def _spread(self, seen: Tensor, valid: Tensor) -> tuple[Tensor, Tensor | None]:
        """A prediction at the label's size, and where it is known if that is not everywhere."""
        if seen.shape[2:] == valid.shape[1:]:
            return seen, None
        seen, known = embed(seen, valid.shape[1:], 0.0 if self.fill is None else self.fill)
        return seen, known if self.fill is None else None

    def _search(
        self,
        seen: Tensor,
        claim: Tensor,
        valid: Tensor,
        known: Tensor | None,
        group: Tensor | None,
    ) -> Alignment:
        given = {"known": known, "group": group}
        # A search that takes three arguments is one too, as long as it need not know more.
        given = {name: value for name, value in given.items() if value is not None}
        with torch.no_grad(), torch.autocast(seen.device.type, enabled=False):
            return self.aligner(at_least_single(seen.detach()), claim, valid, **given)

    def _refined(
        self,
        prediction: Tensor,
        label: Tensor,
        valid: Tensor,
        found: Alignment,
        group: Tensor | None,
    ) -> Alignment:
        way = found.displacement
        if found.matrix is not None or found.carry is not None or way.ndim != 2:
            raise SettingsError(
                "subpixel refines whole shifts of samples, not parts, matrices or fields"
            )
        if label.shape[1:2] != prediction.shape[1:2] or label.ndim != prediction.ndim:
            raise SettingsError(
                "subpixel moves labels with the channels of the prediction, not class indices; "
                "make them one-hot, or leave it out"
            )
        values = at_least_single(prediction)
        if self.activation is not None:
            values = softmax(values) if self.activation == "softmax" else values.sigmoid()
        label = label if label.is_floating_point() else label.to(values.dtype)
        with torch.autocast(values.device.type, enabled=False):
            values, known = self._spread(values, valid)
            fine = refine(values, label.to(values.dtype), valid, way, known=known, group=group)
            if found.reason is not None:
                sure = (found.reason == IN_PLACE) | (found.reason == MOVED)
                fine = torch.where(sure.unsqueeze(1), fine, way.to(fine.dtype))
            moved, kept = shift_subpixel(label, valid, fine)
        return replace(found, label=moved, valid=kept, displacement=fine)


def compared(prediction: Tensor, found: Alignment) -> tuple[Tensor, Alignment]:
    """What a loss compares: a prediction, bent where that is what bends, and labels in place.

    Args:
        prediction: ``(batch, channels, *space)`` floating, of the alignment's space.
        found: where labels belong. By its ``carry`` the prediction is read, linearly and with its
            derivative; what comes from outside of it is not valid, and 0 in the label.

    Returns:
        Both; a sample whose carry is 0 everywhere to the bit as it was.

    Source: seed B6 (¶49). Trap: what bends is the prediction as it is, logits or values, not what
    an activation makes of it.

    >>> label, valid = torch.tensor([[0, 1, 1]]), torch.ones(1, 3, dtype=torch.bool)
    >>> by = torch.ones(1, 1, 3)
    >>> found = Alignment(label, valid, torch.zeros(1, 1), torch.ones(1), carry=by)
    >>> bent, found = compared(torch.tensor([[[1.0, 2.0, 3.0]]]), found)
    >>> bent, found.valid, found.label
    (tensor([[[0., 1., 2.]]]), tensor([[False,  True,  True]]), tensor([[0, 1, 1]]))
    """
    if found.carry is None:
        return prediction, found
    bent, there = carried(prediction, found.carry)
    valid = found.valid & there
    over = valid if found.label.ndim == valid.ndim else valid.unsqueeze(1)
    return bent, replace(found, valid=valid, label=torch.where(over, found.label, 0))


def carried(prediction: Tensor, by: Tensor) -> tuple[Tensor, Tensor]:
    """A prediction read by a field, linearly and with its derivative, and where that is known.

    Args:
        prediction: ``(batch, channels, *space)`` floating.
        by: ``(batch, dims, *space)``, as :attr:`labelmend.types.Alignment.carry`.

    A sample whose field is 0 everywhere comes back to the bit.

    >>> carried(torch.tensor([[[1.0, 2.0, 3.0]]]), torch.ones(1, 1, 3))
    (tensor([[[0., 1., 2.]]]), tensor([[False,  True,  True]]))
    """
    everywhere = torch.ones_like(prediction[:, 0], dtype=torch.bool)
    bent, there = warp_field(prediction, everywhere, by, mode="linear")
    some = (by != 0).flatten(1).any(1)
    return torch.where(some.view(-1, *[1] * (bent.ndim - 1)), bent, prediction), there


def read_claim(label: Tensor, prediction: Tensor, *, one_hot: bool = False) -> Tensor:
    """A label as int64 class indices ``(batch, *space)``, or floating with channels.

    Args:
        label: in any form that :class:`Procedure` takes.
        prediction: ``(batch, channels, *space)``, which says how many channels there are.
        one_hot: labels with several channels are the classes with the largest value.

    Raises:
        ShapeError: where there is no such form, or an index is no whole number.

    >>> read_claim(torch.tensor([[[0.0, 1.0]]]), torch.zeros(1, 3, 2))
    tensor([[0, 1]])
    """
    flat = label.ndim == prediction.ndim - 1
    if flat and not label.is_floating_point() and prediction.shape[1] > 1:
        return label.long()
    if label.ndim != prediction.ndim or label.shape[1] not in (1, prediction.shape[1]):
        raise ShapeError(
            f"label must be {_forms(prediction.shape[1])} to fit prediction "
            f"{tuple(prediction.shape)}, not {type_and_shape(label)}"
            + ("; label.unsqueeze(1) is" * (flat and label.ndim > 1))
        )
    if prediction.shape[1] > 1 and label.shape[1] == 1:
        finite = label.isfinite()
        if bool((finite & (label != label.round())).any()):
            raise ShapeError(
                f"a label with 1 channel beside a prediction with {prediction.shape[1]} holds "
                "class indices, which must be whole numbers"
            )
        return torch.where(finite, label, 0)[:, 0].long()
    if one_hot and label.shape[1] > 1:
        return label.to(torch.promote_types(label.dtype, torch.float32)).argmax(1)
    return label if label.is_floating_point() else label.float()


def _forms(channels: int) -> str:
    if channels == 1:
        return "(batch, 1, *space)"
    return f"whole (batch, *space) or (batch, 1 or {channels}, *space)"


def known_positions(
    label: Tensor,
    prediction: Tensor,
    valid: Tensor | None = None,
    ignore_index: float | None = None,
) -> Tensor:
    """Where a label of any form holds something, ``(batch, *space)`` bool.

    Args:
        label: in any form that :class:`Procedure` takes.
        prediction: ``(batch, channels, *space)``, which says whether labels have channels.
        valid: ``(batch, *space)`` bool, or everywhere.
        ignore_index: not valid is also where the label holds this, in any channel.

    >>> known_positions(torch.tensor([[0, 255, 1]]), torch.zeros(1, 2, 3), ignore_index=255)
    tensor([[ True, False,  True]])
    """
    channels = label.ndim == prediction.ndim
    if valid is None:
        valid = torch.ones_like(label[:, 0] if channels else label, dtype=torch.bool)
    if ignore_index is None:
        return valid
    # NaN is equal to nothing, itself included, and the usual mark of a gap among continuous values.
    said = ~label.isnan() if math.isnan(ignore_index) else label != ignore_index
    said = said.all(1) if channels else said
    fits = valid.dtype == torch.bool and valid.shape == said.shape
    return valid & said if fits else valid  # refused a little later


def _check_one_hot(label: Tensor, valid: Tensor) -> None:
    over = valid.unsqueeze(1)
    one = ((label == 0) | (label == 1)).all(1) & (label.sum(1) == 1)
    if bool((~one & over[:, 0]).any()):
        raise SettingsError(
            "activation 'softmax' takes one-hot labels, 1 in one channel and 0 in the others; "
            "for labels of other values use 'sigmoid', or none"
        )


def _apart(group: Tensor | None, strong: Tensor | None) -> Tensor | None:
    """Groups in which every strong sample is by itself."""
    if group is None or strong is None:
        return group
    alone = torch.arange(len(group), device=group.device)
    member = torch.unique(group, return_inverse=True)[1]
    return torch.where(strong, alone, len(group) + member)


def _held(found: Alignment, claim: Tensor, valid: Tensor, strong: Tensor) -> Alignment:
    """The same, but strong samples as they were."""
    if strong.dtype != torch.bool or tuple(strong.shape) != (len(valid),):
        raise ShapeError(f"strong must be bool ({len(valid)},), not {type_and_shape(strong)}")

    def mixed(kept: Tensor | float, moved: Tensor) -> Tensor:
        return torch.where(strong.view(-1, *[1] * (moved.ndim - 1)), kept, moved)

    over = valid if claim.ndim == valid.ndim else valid.unsqueeze(1)
    reason, matrix, dims = found.reason, found.matrix, valid.ndim - 1
    if reason is not None:
        reason = mixed(HELD, reason).to(reason.dtype)
    if matrix is not None:
        stay = torch.eye(dims, dims + 1, dtype=matrix.dtype, device=matrix.device)
        matrix = mixed(stay.expand_as(matrix), matrix)
    return replace(
        found,
        label=mixed(torch.where(over, claim, 0), found.label),
        valid=mixed(valid, found.valid),
        displacement=mixed(0.0, found.displacement),
        confidence=mixed(0.0, found.confidence),
        gain=None if found.gain is None else mixed(0.0, found.gain),
        reason=reason,
        matrix=matrix,
        carry=None if found.carry is None else mixed(0.0, found.carry),
    )


def _in_form_of(label: Tensor, moved: Tensor, valid: Tensor) -> Tensor:
    """What has been moved in the form and type that it was given in."""
    if moved.is_floating_point() or label.ndim == valid.ndim:
        return moved.to(label.dtype)
    if label.shape[1] == 1:
        return moved.unsqueeze(1).to(label.dtype)
    known = torch.where(valid, moved, -1).unsqueeze(1)
    each = torch.arange(label.shape[1], device=label.device)
    return (known == each.view(1, -1, *[1] * (valid.ndim - 1))).to(label.dtype)


def _cropped(found: Alignment, size: torch.Size) -> Alignment:
    """What of a moved label lies at a prediction in the middle of its space."""
    if found.valid.shape[1:] == size:
        return found
    places = centre(size, found.valid.shape[1:]).slices
    way, label, carry = found.displacement, found.label, found.carry
    lead = [slice(None)] * (label.ndim - len(size))
    of_field = (slice(None), slice(None), *places)
    # A prediction in the middle of a label's space is bent by what of a field lies there.
    return replace(
        found,
        label=label[(*lead, *places)],
        valid=found.valid[(slice(None), *places)],
        displacement=way[of_field] if way.ndim > 2 else way,
        carry=None if carry is None else carry[of_field],
    )
