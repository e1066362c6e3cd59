"""A network proposes how labels are bent; they follow where that explains clearly more."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, avg_pool2d, avg_pool3d, one_hot, pad

from labelmend.alignment.affine import shift_matrix
from labelmend.alignment.aligner import ShiftAligner
from labelmend.alignment.comparison import centred, check_comparison, check_range
from labelmend.alignment.correlation import Places
from labelmend.alignment.fields import warp_field
from labelmend.alignment.parts import ClassAligner, PatchAligner
from labelmend.alignment.placement import GRAIN, edge_length, evidence
from labelmend.alignment.procedure import Search
from labelmend.alignment.smoothness import (
    bending_energy,
    folding,
    gradient_energy,
    mean_displacement,
    size_energy,
)
from labelmend.alignment.velocity import after_matrix, enlarge, integrate
from labelmend.errors import SettingsError, unknown
from labelmend.losses.valid_positions import softmax, zero_invalid
from labelmend.types import MOVED, Alignment

Carried = Literal["label", "prediction"]
"""What a field moves: the label to the prediction, or the prediction to the label."""

CARRIED: tuple[Carried, ...] = get_args(Carried)
"""The names that ``moves`` may have."""

_POOLS = (avg_pool1d, avg_pool2d, avg_pool3d)
_TINY = 1e-6

_FLOOR = 1e-3
"""The least misfit that is told from none: below it rounding would gain many nats."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """How a network would bend the labels of a batch, and what that explains.

    Attributes:
        field: ``(batch, dims, *space)`` backward, in positions: of the label, or of the
            prediction where that is what moves.
        before: ``(batch,)`` the misfit without it: what no rescaling of the label explains of the
            prediction, in positions that the label's edges are off.
        after: likewise with it; carries the derivative.
        gain: ``(batch,)`` how much more likely the bent label is than the one before, in nats.
    """

    field: Tensor
    before: Tensor
    after: Tensor
    gain: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class WarpAligner:
    """Bends labels as a network proposes, after a search has put them in place as a whole.

    The network is trained beside the one that predicts, in turn with it: :meth:`cost` is what it
    descends with predictions fixed, while labels are moved with the network fixed. It sees
    prediction and label on a grid of cells and says with which velocity content flows; flowing
    for one unit of time gives a field that does not fold, and whose way back is known.

    Attributes:
        network: ``(batch, channels, *cells)`` → ``(batch, dims, *cells)``, for example of
            :func:`labelmend.networks.field.build_field_network`, with :func:`channels_seen`.
        first: what searches before it, and moves labels as wholes; None bends them where they are.
        reach: the largest displacement of the field along every axis, in positions; what the
            network says is a share of it, before a tanh.
        grid: how many positions a cell has along every axis.
        diffeomorphic: whether the network says velocities; else displacements, which may fold.
        moves: ``"label"`` bends the label to the prediction; ``"prediction"`` leaves it to the
            loss to bend the prediction to the label, the other way (seed B ¶49).
        margin: how much more likely the bent label must be, in nats.
        grain: as in :func:`labelmend.alignment.placement.belief`.
        smooth: weight of the slopes of a field in its cost, in positions of misfit.
        bend: weight of its bends.
        small: weight of its size.
        folds: weight of folds.
        centred: whether fields are to have a mean of zero: to bend, and leave moving to the search.

    Raises:
        SettingsError: for an option out of range.

    Source: seed B6 (¶27, ¶48–50, figure 5). Trap: a network that is free enough explains every
    error of a label as a deformation; look at what it does to labels that are in place.

    >>> flat = nn.Conv1d(3, 1, 1)
    >>> _ = nn.init.zeros_(flat.weight), nn.init.constant_(flat.bias, 0.25)
    >>> label = torch.zeros(1, 40, dtype=torch.int64)
    >>> label[0, 12:22] = 1
    >>> seen = one_hot(label.roll(2, 1), 2).movedim(-1, 1) * 8.0
    >>> moved = WarpAligner(flat, first=None, margin=0.0)(seen, label, torch.ones(1, 40).bool())
    >>> moved.label.flatten().nonzero().flatten()[[0, -1]], moved.displacement[0, 0, 20]
    (tensor([14, 23]), tensor(1.9593))
    """

    network: nn.Module
    first: Search | None = field(default_factory=ShiftAligner)
    reach: float = 8.0
    grid: int = 4
    diffeomorphic: bool = True
    moves: Carried = "label"
    margin: float = 3.0
    grain: float = GRAIN
    smooth: float = 1.0
    bend: float = 1.0
    small: float = 0.01
    folds: float = 10.0
    centred: bool = False

    def __post_init__(self) -> None:
        if self.moves not in CARRIED:
            raise unknown("moves", self.moves, CARRIED)
        if isinstance(self.first, ClassAligner | PatchAligner):
            raise SettingsError(
                "first must move labels as wholes, so that one field can hold both moves, not "
                f"{type(self.first).__name__}; take ShiftAligner, TransformAligner or None"
            )
        if not self.reach > 0:
            raise SettingsError(f"reach must be above 0 positions, not {self.reach}")
        if self.grid < 1:
            raise SettingsError(f"grid must be at least 1 position, not {self.grid}")
        if not self.grain > 0:
            raise SettingsError(f"grain must be above 0 positions, not {self.grain}")
        for name in ("margin", "smooth", "bend", "small", "folds"):
            if not getattr(self, name) >= 0:
                raise SettingsError(f"{name} must be at least 0, not {getattr(self, name)}")

    @torch.no_grad()
    def __call__(
        self,
        prediction: Tensor,
        label: Tensor,
        valid: Tensor,
        *,
        known: Tensor | None = None,
        group: Tensor | None = None,
    ) -> Alignment:
        """Labels in their places; arguments as for :class:`ShiftAligner`.

        ``displacement`` is a field, of all moves in one. Where the prediction is what bends, it is
        that of the search, and ``carry`` the field to move the prediction by.

        Raises:
            ShapeError: where shapes, types or devices do not fit.
        """
        _check(prediction, label, valid, known)
        found = self.searched(prediction, label, valid, known=known, group=group)
        proposal = self.propose(prediction, found.label, found.valid, known=known)
        return self.settled(proposal, found, label, valid)

    def cost(
        self,
        prediction: Tensor,
        label: Tensor,
        valid: Tensor,
        *,
        strong: Tensor | None = None,
        known: Tensor | None = None,
    ) -> Tensor:
        """What the network is to descend, ``(batch,)``, in positions; arguments as for a call.

        Args:
            strong: ``(batch,)`` bool, labels that are in place: their field is to be 0.

        Raises:
            ShapeError: where shapes, types or devices do not fit.
        """
        _check(prediction, label, valid, known)
        with torch.no_grad():
            found = self.searched(prediction, label, valid, known=known)
        proposal = self.propose(prediction, found.label, found.valid, known=known)
        return self.price(proposal, strong)

    # ------------------------------------------------------------------ in parts

    def searched(
        self,
        prediction: Tensor,
        label: Tensor,
        valid: Tensor,
        *,
        known: Tensor | None = None,
        group: Tensor | None = None,
    ) -> Alignment:
        """Labels where the first search puts them."""
        if self.first is not None:
            return self.first(prediction, label, valid, known=known, group=group)
        over = valid if label.ndim == valid.ndim else valid.unsqueeze(1)
        there = torch.where(over, label, 0)  # as every search leaves it
        zero = torch.zeros(len(label), valid.ndim - 1, device=label.device)
        nothing = zero.sum(1)
        return Alignment(there, valid, zero, nothing, nothing, nothing.to(torch.uint8))

    def propose(
        self, prediction: Tensor, label: Tensor, valid: Tensor, *, known: Tensor | None = None
    ) -> Proposal:
        """How the network would bend labels that lie where the search has put them.

        Gradients flow into the network only. Shapes as for a call.
        """
        with torch.autocast(prediction.device.type, enabled=False):
            seen, claim = readings(prediction.detach(), label, valid)
            places = valid if known is None else valid & known
            flow = self._field(seen, claim, places)
            edges = edge_length(label, valid).to(seen.dtype)
            before, whole = misfit(seen, claim, places)
            if self.moves == "label":
                claim, sure = warp_field(claim, valid, flow, mode="linear")
            else:
                seen, sure = warp_field(seen, places, flow, mode="linear")
            after, _ = misfit(seen, claim, sure & places)
            ratio = (before.clamp(min=_FLOOR) / after.detach().clamp(min=_FLOOR)).log()
            pieces = evidence(edges, valid.ndim - 1, self.grain)
            gain = torch.where(whole > 0, pieces * ratio, 0)
            scale = whole / edges.clamp(min=1)
            return Proposal(flow, scale * before, scale * after, gain)

    def price(self, proposal: Proposal, strong: Tensor | None = None) -> Tensor:
        """What proposals cost: misfit, roughness and size; of strong labels any move does."""
        flow = proposal.field
        size = size_energy(flow, 0.0)
        rough = self.smooth * gradient_energy(flow) + self.bend * bending_energy(flow)
        total = proposal.after + rough + self.small * size
        if not self.diffeomorphic:
            total = total + self.folds * folding(flow)
        if self.centred:
            total = total + mean_displacement(flow).square().sum(1)
        return total if strong is None else torch.where(strong, size, total)

    def bends(self, proposal: Proposal) -> Tensor:
        """Which labels are clearly more likely bent, ``(batch,)`` bool."""
        return (proposal.gain >= self.margin) & (proposal.gain > 0)

    def settled(
        self, proposal: Proposal, found: Alignment, label: Tensor, valid: Tensor
    ) -> Alignment:
        """Labels after the search and, where it explains clearly more, the field; moved once.

        Args:
            proposal: of labels where ``found`` has put them.
            label: the label before all moves.
            valid: likewise.
        """
        bent = self.bends(proposal)
        over = bent.view(-1, *[1] * (proposal.field.ndim - 1))
        flow = torch.where(over, proposal.field.detach(), 0)
        gain = torch.where(bent, proposal.gain, 0)
        first = torch.zeros_like(gain) if found.gain is None else found.gain.to(gain)
        sure = torch.where(bent, torch.sigmoid(proposal.gain), found.confidence.to(gain))
        reason = torch.zeros_like(bent, dtype=torch.uint8) if found.reason is None else found.reason
        reason = torch.where(bent, torch.full_like(reason, MOVED), reason)
        about = {"confidence": sure, "gain": first + gain, "reason": reason}
        if self.moves == "prediction":
            return replace(found, carry=flow, **about)
        matrix = found.matrix
        if matrix is None:
            matrix = shift_matrix(found.displacement.to(flow))
        total = after_matrix(matrix.to(flow), flow)
        to, there = warp_field(label, valid, total)
        # What was only searched comes back as the search moved it, to the bit.
        some = bent.view(-1, *[1] * (valid.ndim - 1))
        wide = some if label.ndim == valid.ndim else some.unsqueeze(1)
        to, there = torch.where(wide, to, found.label), torch.where(some, there, found.valid)
        return Alignment(to, there, total, sure, first + gain, reason, found.matrix)

    def _field(self, seen: Tensor, claim: Tensor, places: Tensor) -> Tensor:
        """The network's answer as a field on the positions of the label."""
        space = places.shape[1:]
        looked = torch.cat([zero_invalid(t, places) for t in (seen, claim)], 1)
        looked = torch.cat([looked, places.unsqueeze(1).to(looked)], 1)
        more = [-n % self.grid for n in space]
        looked = pad(looked, [n for m in reversed(more) for n in (0, m)])
        looked = _POOLS[len(space) - 1](looked, self.grid)
        own = next((p.dtype for p in self.network.parameters()), looked.dtype)
        velocity = self.network(looked.to(own)).to(seen.dtype)
        # In cells from here on, and never further than may be.
        most = self.reach / self.grid
        velocity = most * torch.tanh(velocity)
        velocity = velocity if self.moves == "label" else -velocity
        flow = integrate(velocity) if self.diffeomorphic else velocity
        flow = enlarge(flow, [n + m for n, m in zip(space, more, strict=True)])
        inside: Places = (..., *(slice(n) for n in space))
        return flow[inside]


def _check(prediction: Tensor, label: Tensor, valid: Tensor, known: Tensor | None) -> None:
    check_comparison(prediction, label, valid, known)
    if not label.is_floating_point():
        check_range(label, valid, prediction.shape[1])


def channels_seen(channels: int, *, classes: bool) -> int:
    """How many channels a field network is shown.

    Args:
        channels: classes, background included, or channels of continuous labels.
        classes: which of them.

    >>> channels_seen(2, classes=True), channels_seen(3, classes=False)
    (3, 7)
    """
    return 2 * (channels - classes) + 1


def readings(prediction: Tensor, label: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """What is compared of a prediction and a label: probabilities and one-hot classes, or values.

    Args:
        prediction: ``(batch, classes, *space)`` logits, or ``(batch, channels, *space)``.
        label: ``(batch, *space)`` int64, or ``(batch, channels, *space)`` floating.
        valid: ``(batch, *space)`` bool.

    Returns:
        Two ``(batch, channels, *space)``, float32 or float64: of classes without the background;
        of values so that each channel of the label has a mean of 0 and a deviation of 1.

    Trap: a value that is not valid is 0 in the label, but not in the prediction.

    >>> readings(torch.zeros(1, 2, 2), torch.tensor([[0, 1]]), torch.ones(1, 2).bool())
    (tensor([[[0.5000, 0.5000]]]), tensor([[[0., 1.]]]))
    """
    dtype = torch.promote_types(prediction.dtype, torch.float32)
    if label.ndim == valid.ndim:
        kept = torch.where(valid, label, 0)
        claim = one_hot(kept, prediction.shape[1]).movedim(-1, 1).to(dtype)
        # Laid out as what is bent will be, so that a field of 0 leaves sums the same to the bit.
        return softmax(prediction.to(dtype))[:, 1:].contiguous(), claim[:, 1:].contiguous()
    claim = zero_invalid(label.to(dtype), valid)
    axes = tuple(range(2, claim.ndim))
    apart = centred(claim, valid.unsqueeze(1))
    number = valid.flatten(1).sum(1).clamp(min=1).view(-1, *[1] * (claim.ndim - 1))
    middle = claim.sum(axes, keepdim=True) / number
    spread = (apart.square().sum(axes, keepdim=True) / number).sqrt().clamp(min=_TINY)
    return (prediction.to(dtype) - middle) / spread, apart / spread


def misfit(seen: Tensor, claim: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """What of a prediction no rescaling of the label explains, and of how much.

    ``1 − ρ |ρ|`` for the correlation ρ of every channel, by how much the label varies there.

    Args:
        seen: ``(batch, channels, *space)``, as ``claim``.
        places: ``(batch, *space)`` bool, the positions that count.

    Returns:
        ``(batch,)`` a share in [0, 2], and ``(batch,)`` the sum of the label's squares about its
        means. Differentiable. Trap: 1 and 0 for a label that is the same everywhere.

    >>> seen = torch.tensor([[[0.0, 0.2, 0.2, 0.0]]])
    >>> misfit(seen, 5 * seen, torch.ones(1, 4).bool())
    (tensor([0.]), tensor([1.]))
    """
    over = places.unsqueeze(1)
    one, other = centred(seen, over).flatten(2), centred(claim, over).flatten(2)
    of_one, of_other = one.square().sum(2), other.square().sum(2)
    size = (of_one * of_other).clamp(min=_TINY**2).sqrt()
    match = (one * other).sum(2) / size
    total = of_other.sum(1)
    explained = (of_other * match * match.abs()).sum(1) / total.clamp(min=_TINY)
    return 1 - explained, total
