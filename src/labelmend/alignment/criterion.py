"""A loss that puts labels in place before it compares them, and that step by itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Literal, TypedDict, Unpack, cast, get_args

import torch
from torch import Tensor, nn

from labelmend.alignment.aligner import ShiftAligner
from labelmend.alignment.margins import Fill
from labelmend.alignment.parts import ClassAligner, PatchAligner
from labelmend.alignment.procedure import Activation, Procedure, Search, compared, read_claim
from labelmend.errors import SettingsError, ShapeError, unknown
from labelmend.losses import make_loss
from labelmend.losses.valid_positions import at_least_single, type_and_shape
from labelmend.types import Alignment

Transform = Literal["shift", "rigid", "similarity", "affine"]
"""What a label may do to get in place."""

TRANSFORMS: tuple[Transform, ...] = get_args(Transform)
"""The names that ``transform`` may have."""

Granularity = Literal["set", "group", "sample", "class", "patch"]
"""What is moved as one."""

GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)
"""The names that ``per`` may have."""

Reduction = Literal["mean", "sum", "none"]
"""What becomes of the values of single positions."""

REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)
"""The names that ``reduction`` may have."""

_SHIFT = ShiftAligner()


class SearchOptions(TypedDict, total=False):
    """Options of :class:`labelmend.alignment.aligner.ShiftAligner`, by their names."""

    window: int | tuple[int, ...]
    score: str
    prior: float | None
    confidence: float
    margin: float
    near: float | None
    least_overlap: float
    grain: float


def align(
    prediction: Tensor,
    label: Tensor,
    valid: Tensor | None = None,
    *,
    transform: Transform = "shift",
    per: Granularity = "sample",
    patch: int | tuple[int, ...] | None = None,
    group: Tensor | None = None,
    ignore_index: float | None = None,
    fill: Fill | float | None = None,
    **options: Unpack[SearchOptions],
) -> Alignment:
    """Where labels belong according to a prediction, and the labels there.

    Args:
        prediction: ``(batch, classes, *space)`` logits for class labels, ``(batch, channels,
            *space)`` values for labels with channels. It may be smaller than the label and is
            then laid on its middle; what comes back has the prediction's size.
        label: ``(batch, *space)`` or ``(batch, 1, *space)`` class indices, or ``(batch, channels,
            *space)`` values.
        valid: ``(batch, *space)`` bool, where the label is known; by default everywhere.
        transform: what a label may do: ``"shift"``, ``"rigid"`` (and rotate), ``"similarity"``
            (and scale) or ``"affine"`` (and shear).
        per: what is moved as one: all samples given (``"set"``), a ``"group"`` of them, a
            ``"sample"``, a ``"class"`` or a ``"patch"`` of a sample.
        patch: the size of a patch in positions, along every axis or for all of them.
        group: ``(batch,)`` int64; samples of one number are moved alike, with ``"class"`` or
            ``"patch"`` class by class or patch by patch.
        ignore_index: not valid is also where the label holds this.
        fill: what is compared around a smaller prediction; see
            :class:`labelmend.alignment.procedure.Procedure`.
        **options: of the search: ``window``, ``score``, ``prior``, ``confidence``, ``margin``,
            ``near``, ``least_overlap``, ``grain``, as in
            :class:`labelmend.alignment.aligner.ShiftAligner`.

    Raises:
        ShapeError: where shapes, types or devices do not fit.
        SettingsError: for an option that does not exist, is out of range or lacks another.

    Source: seed B ¶30–36, figure 3. Trap: with several transforms to choose from some fits noise
    a little better; ask for no more freedom than the labels' errors have.

    >>> label = torch.zeros(1, 12, 12, dtype=torch.int64)
    >>> label[:, 3:7, 2:8] = 1
    >>> seen = torch.nn.functional.one_hot(label.roll(2, 1), 2).movedim(-1, 1) * 8.0
    >>> align(seen, label, window=3).displacement
    tensor([[2., 0.]])
    """
    if (per == "group") != (group is not None) and per not in ("class", "patch"):
        raise SettingsError(
            "per='group' needs group, the number of every sample's group"
            if per == "group"
            else f"a group was given, but per={per!r} does not use it; ask for per='group'"
        )
    aligner = _aligner(transform, per, patch, dict(options))
    if per == "set":
        group = torch.zeros(len(label), dtype=torch.int64, device=label.device)
    place = Procedure(aligner, ignore_index=ignore_index, fill=fill)
    return place(prediction, label, valid, group=group)


class AlignedLoss(nn.Module):
    """A drop-in criterion: puts every label in place, then takes the loss there.

    ``criterion(prediction, label)`` is ``criterion.measure(prediction, criterion.align(prediction,
    label))``; call both by yourself to see where labels went. It remembers nothing of a call.

    What is not known of a moved label, as what came from outside, takes no part: the loss gets
    class or value 0 for both there, its result is dropped, and the gradient is exactly 0. No
    gradient flows through the search, which computes in float32 at least; the loss is computed
    as it would be without.

    Args:
        loss: one of two kinds. One that leaves positions apart, ``loss(prediction, label) ->
            (batch, *space)`` or ``(batch, channels, *space)``, such as torch's and MONAI's losses
            with ``reduction="none"``. Or one value per sample that knows of valid positions,
            ``loss(logits, label, valid) -> (batch,)``: a name of :data:`labelmend.losses.LOSSES`
            or a function of three arguments.
        aligner: the search: a :class:`~labelmend.alignment.aligner.ShiftAligner`, a
            :class:`~labelmend.alignment.parts.ClassAligner`, a
            :class:`~labelmend.alignment.parts.PatchAligner`, a
            :class:`~labelmend.alignment.warp.WarpAligner`, whose network learns from its own
            ``cost``, or any function like them. Where it bends the prediction and not the label,
            the loss gets the bent prediction, and the gradient flows through the bending.
        ignore_index: what labels hold where nobody said; by default that of the loss, if any.
        reduction: ``"mean"`` over all valid positions of the batch, of all channels, or over
            samples with a valid position; ``"sum"``; or ``"none"``, with 0 where not valid.
        activation: for labels with channels where predictions are logits: ``"softmax"`` for
            one-hot labels, ``"sigmoid"`` for others.
        fill: what is compared around predictions that are smaller than their labels.
        subpixel: refine displacements of labels with channels to parts of a position; then a
            gradient flows through that refinement too.

    The last three are those of :class:`labelmend.alignment.procedure.Procedure`.

    Raises:
        SettingsError: for an option that does not exist, a loss that reduces to a mean, or what
            is no loss or no search.

    Source: seed B ¶30–36, ¶47. Trap: the mean of torch's weighted losses divides by weights, this
    one by positions. And a network that learns only from labels moved to it may drift: give
    samples with labels that you trust as ``strong``.

    >>> criterion = AlignedLoss(nn.CrossEntropyLoss(reduction="none"), ShiftAligner(window=3))
    >>> label = torch.zeros(1, 12, 12, dtype=torch.int64)
    >>> label[:, 3:7, 2:8] = 1
    >>> seen = torch.nn.functional.one_hot(label.roll(2, 1), 2).movedim(-1, 1) * 8.0
    >>> criterion(seen, label).round(decimals=4), nn.CrossEntropyLoss()(seen, label)
    (tensor(0.0003), tensor(1.3337))
    """

    def __init__(
        self,
        loss: str | Callable[..., Tensor],
        aligner: Search = _SHIFT,
        *,
        ignore_index: float | None = None,
        reduction: Reduction = "mean",
        activation: Activation | None = None,
        fill: Fill | float | None = None,
        subpixel: bool = False,
    ) -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise unknown("reduction", reduction, REDUCTIONS)
        if getattr(loss, "reduction", "none") != "none":
            raise SettingsError(
                f"{type(loss).__name__} must leave positions apart; make it with reduction='none' "
                "and ask AlignedLoss for the mean, or, where it cannot, take a name as 'dice_ce'"
            )
        if (not callable(loss) and not isinstance(loss, str)) or isinstance(loss, type):
            named = getattr(loss, "__name__", type(loss).__name__)
            raise SettingsError(
                f"a loss is one that is made, as CrossEntropyLoss(reduction='none'), a function, "
                f"or a name as 'dice_ce', not {named}"
            )
        if isinstance(loss, str):
            make_loss(loss)
        elif ignore_index is None:
            ignore_index = getattr(loss, "ignore_index", None)
        self.loss = loss
        self.reduction = reduction
        self.place = Procedure(aligner, ignore_index, activation, fill, subpixel)
        self.knows_valid = isinstance(loss, str) or _arguments(loss) == 3

    def extra_repr(self) -> str:
        """What ``repr`` shows beside the loss."""
        named = f"{self.loss!r}, " if isinstance(self.loss, str) else ""
        return f"{named}{self.place.aligner!r}, reduction={self.reduction!r}"

    def forward(
        self,
        prediction: Tensor,
        label: Tensor,
        valid: Tensor | None = None,
        *,
        strong: Tensor | None = None,
        group: Tensor | None = None,
    ) -> Tensor:
        """The loss of a prediction and labels in their places; arguments as in :meth:`align`.

        Returns:
            A scalar; with ``reduction="none"`` what the loss returns.
        """
        found = self.align(prediction, label, valid, strong=strong, group=group)
        return self.measure(prediction, found)

    def align(
        self,
        prediction: Tensor,
        label: Tensor,
        valid: Tensor | None = None,
        *,
        strong: Tensor | None = None,
        group: Tensor | None = None,
    ) -> Alignment:
        """Labels in their places, in the form they were given in; forms and arguments as in
        :class:`labelmend.alignment.procedure.Procedure`.
        """
        return self.place(prediction, label, valid, strong=strong, group=group)

    def measure(self, prediction: Tensor, found: Alignment) -> Tensor:
        """The loss of a prediction and labels in the places that :meth:`align` found.

        Raises:
            ShapeError: for a loss that does not return what it should.
        """
        prediction, found = compared(prediction, found)
        valid = found.valid
        prediction = torch.where(valid.unsqueeze(1), prediction, 0)
        if self.knows_valid:
            return self._of_samples(prediction, found)
        label = found.label
        if label.ndim == valid.ndim or isinstance(self.loss, nn.CrossEntropyLoss | nn.NLLLoss):
            label = _indices(label, prediction)
        value: Tensor = cast(Callable[..., Tensor], self.loss)(prediction, label)
        channels = value.ndim == valid.ndim + 1
        if (value.shape[:1] + value.shape[1 + channels :]) != valid.shape:
            raise _reduced(value, valid)
        over = valid.unsqueeze(1) if channels else valid
        if self.reduction == "none":
            return torch.where(over, value, 0)
        value = torch.where(over, at_least_single(value), 0)
        if self.reduction == "sum":
            return value.sum()
        return value.sum() / (valid.sum() * (value.shape[1] if channels else 1)).clamp(min=1)

    def _of_samples(self, prediction: Tensor, found: Alignment) -> Tensor:
        label, valid, loss = _indices(found.label, prediction), found.valid, self.loss
        if isinstance(loss, str):
            loss = make_loss(loss, "regression" if label.is_floating_point() else "segmentation")
        value = loss(prediction, label, valid)
        if tuple(value.shape) != (len(valid),):
            raise _reduced(value, valid)
        if self.reduction == "none":
            return value
        if self.reduction == "sum":
            return value.sum()
        return value.sum() / valid.flatten(1).any(1).sum().clamp(min=1)


def _indices(label: Tensor, prediction: Tensor) -> Tensor:
    """Class indices as losses want them; values with channels as they are."""
    if label.ndim < prediction.ndim:
        return label if label.is_floating_point() else label.long()
    return read_claim(label, prediction) if label.shape[1] == 1 < prediction.shape[1] else label


def _aligner(
    transform: Transform,
    per: Granularity,
    patch: int | tuple[int, ...] | None,
    options: dict[str, Any],
) -> Search:
    """The search for one call of :func:`align`."""
    for name, chosen, names in (("transform", transform, TRANSFORMS), ("per", per, GRANULARITIES)):
        if chosen not in names:
            raise unknown(name, chosen, names)
    own = [option.name for option in fields(ShiftAligner)]
    for name in options:
        if name not in own:
            raise unknown("option", name, own)
    if (per == "patch") != (patch is not None):
        raise SettingsError(
            "per='patch' needs patch, its size in positions"
            if patch is None
            else f"patch was given, but per={per!r} does not use it; ask for per='patch'"
        )
    if transform != "shift" and per in ("class", "patch"):
        raise SettingsError(f"per={per!r} goes with transform='shift', not {transform!r}")
    if transform != "shift":
        # Read when it is asked for: most never turn a label.
        from labelmend.alignment.transform_search import TransformAligner

        turning: Search = TransformAligner(kind=transform, **options)
        return turning
    shifts = ShiftAligner(**options)
    if patch is not None:
        return PatchAligner(patch, shifts)
    return ClassAligner(shifts) if per == "class" else shifts


def _arguments(loss: Callable[..., Tensor]) -> int:
    """How many arguments a loss must be given; 2 where it does not say."""
    try:
        parameters = inspect.signature(
            loss.forward if isinstance(loss, nn.Module) else loss
        ).parameters.values()
    except (TypeError, ValueError):
        return 2
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in places and p.default is p.empty for p in parameters)


def _reduced(value: Tensor, valid: Tensor) -> ShapeError:
    space = ", ".join(map(str, valid.shape[1:]))
    return ShapeError(
        f"loss must return one value per position, ({len(valid)}, [channels,] {space}), not "
        f"{type_and_shape(value)}; make it with reduction='none', or take one that is given valid "
        f"and returns ({len(valid)},), such as 'dice_ce'"
    )
