"""Labels are put in place before they are learned from, and what that must not do to them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from labelmend.alignment.aligner import ShiftAligner
from labelmend.alignment.placement import edge_length
from labelmend.alignment.procedure import carried
from labelmend.alignment.score_maps import Shifts, displacements
from labelmend.alignment.shifts import shift
from labelmend.training.places import Found, PlaceTable, is_clear
from labelmend.training.warping import Warping
from labelmend.types import IN_PLACE, MOVED, Aligner, Alignment, Batch


@dataclass(frozen=True, slots=True)
class Placed:
    """Labels of a batch where they belong, and how they came to be there.

    Attributes:
        label: as in :class:`labelmend.types.Batch`.
        valid: likewise.
        found: what is to be remembered; None where nobody looked.
        meters: what is worth knowing, sums and counts as in Terms.
        cost: ``(batch,)`` what a network that bends labels learns from, if it learns now.
        carry: ``(batch, dims, *space)`` the field to move the prediction by, if that is bent.
    """

    label: Tensor
    valid: Tensor
    found: Found | None
    meters: dict[str, Tensor]
    cost: Tensor | None = None
    carry: Tensor | None = None

    def compared(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What a loss is given: logits, bent where they are what bends, label and valid."""
        if self.carry is None:
            return logits, self.label, self.valid
        bent, known = carried(logits, self.carry)
        return bent, self.label, self.valid & known


@dataclass(frozen=True, slots=True)
class Placing:
    """Puts weak labels where the network says they belong (seed B, B1), without letting both drift.

    Strong labels stay where they are: they are the anchor, and where a network would rather have
    them is how far it has drifted. Nothing moves before ``start``. What is found is smoothed by
    what :attr:`table` remembers of the same label; the table is only read here. Displacements are
    remembered in the axes of the image, whichever way a patch was mirrored or turned.

    The trap: a constant offset of all weak labels is learned by a network that has no strong ones
    beside them, and nothing in the predictions can tell.

    Attributes:
        search: what finds where a label belongs: shifts, which are remembered, or more.
        table: what is remembered.
        learns: ``(samples,)`` bool, the labels that may move.
        start: steps before the first label is moved.
        centred: whether the mean displacement of all labels is held at zero.
        warping: what bends labels after the search; None: nothing does.
    """

    search: ShiftAligner | Aligner
    table: PlaceTable
    learns: Tensor
    start: int
    centred: bool
    warping: Warping | None = None

    def __call__(
        self,
        logits: Tensor,
        batch: Batch,
        step: int | None = None,
        network: nn.Module | None = None,
    ) -> Placed:
        """Labels in their places, given logits for their images; no gradient flows into these.

        Args:
            logits: ``(batch, classes, *space)``.
            batch: the samples; those that do not learn stay in place.
            step: training steps taken so far; None looks whatever ``start`` says.
            network: the network that bends labels, where it may learn.
        """
        if step is not None and step < self.start:
            return Placed(batch.label, batch.valid, None, {})
        logits = logits.detach()
        if isinstance(self.search, ShiftAligner):
            moved, found, used = self._shifted(self.search, logits, batch)
        else:
            moved, found, used = self._searched(self.search, logits, batch)
        meters = self._meters(found, used, batch)
        remembered = found.take(self.learns[found.index])
        placed = Placed(moved.label, moved.valid, remembered, meters)
        if self.warping is None or (step is not None and step < self.warping.start):
            return placed
        teach = step is not None and self.warping.turn(step).warp
        learns = self.learns[found.index].to(logits.device)
        bent = self.warping(logits, batch, moved, learns, network if teach else None)
        label, valid = _only(learns, bent.alignment, moved.label, moved.valid)
        carry = bent.alignment.carry
        if carry is not None:
            carry = torch.where(_over(learns, carry), carry, 0)
        return Placed(label, valid, remembered, meters | bent.meters, bent.cost, carry)

    def predictor_learns(self, step: int) -> bool:
        """Whether the network that predicts has its turn."""
        return self.warping is None or self.warping.turn(step).predictor

    def recalled(self, batch: Batch) -> Batch:
        """The samples with their labels where they were last found to belong."""
        index = batch.index.cpu()
        nothing = torch.zeros_like(self.table.displacement[index])
        unseen = torch.zeros(len(index), dtype=torch.bool)
        used = self._centred(self.table.blended(index, nothing, unseen), self._known(index))
        moves = self.learns[index].unsqueeze(1)
        used = torch.where(moves, used, 0).round().long()
        device = batch.label.device
        label, valid = shift(batch.label, batch.valid, turned(used, batch.pose).to(device))
        return Batch(batch.image, label, valid, batch.index, batch.pose)

    # ------------------------------------------------------------------ shifts

    def _shifted(
        self, search: ShiftAligner, logits: Tensor, batch: Batch
    ) -> tuple[Alignment, Found, Tensor]:
        found = self._found(search, logits, batch)
        used = self._used(found)
        ways = turned(used, batch.pose).to(logits.device)
        label, valid = shift(batch.label, batch.valid, ways)
        about = (t.to(logits.device) for t in (found.confidence, found.gain, found.reason))
        return Alignment(label, valid, ways.float(), *about), found, used

    def _found(self, search: ShiftAligner, logits: Tensor, batch: Batch) -> Found:
        """What the network says of every label by itself, or of its group."""
        table = self.table
        edges = edge_length(batch.label, batch.valid)
        likely = search.likely(logits, batch.label, batch.valid, edges)
        index, maps = batch.index.cpu(), None
        if table.group is not None and table.likely is not None:
            maps = upright(likely.score.cpu().double(), likely.window, batch.pose)
            together = maps + table.likely[table.group[index]]
            own = Shifts(together, likely.overlap.cpu(), likely.window)
            place = search.decide(own, edges.cpu())
            displacement = place.displacement.double()
        else:
            place = search.decide(likely, edges)
            displacement = turned(place.displacement.cpu(), batch.pose, back=True).double()
        confidence, gain, reason = (v.cpu() for v in (place.confidence, place.gain, place.reason))
        return Found(index, displacement, confidence, gain, reason, maps)

    def _used(self, found: Found) -> Tensor:
        """The displacements that labels move by, ``(batch, dims)`` int64, in the image's axes."""
        known = clear = is_clear(found.reason)
        if self.table.group is None:
            used = self.table.blended(found.index, found.displacement, clear)
            known = clear | self._known(found.index)
        else:
            used = torch.where(clear.unsqueeze(1), found.displacement, 0)
        used = self._centred(used, known)
        return torch.where(self.learns[found.index].unsqueeze(1), used, 0).round().long()

    def _known(self, index: Tensor) -> Tensor:
        """Whether the place of a label was clear at some look, be it where the label is."""
        return self.table.clear[index] > 0

    def _centred(self, used: Tensor, known: Tensor) -> Tensor:
        """Less the mean of all, where a label's place is ``known``, ``(looked at,)`` bool."""
        if not self.centred:
            return used
        return torch.where(known.unsqueeze(1), used - self.table.offset(self.learns), used)

    # ------------------------------------------------------------------ more than shifts

    def _searched(
        self, search: Aligner, logits: Tensor, batch: Batch
    ) -> tuple[Alignment, Found, Tensor]:
        moved = search(logits, batch.label, batch.valid)
        index = batch.index.cpu()
        learns = self.learns[index]
        displacement = turned(moved.displacement.cpu().double(), batch.pose, back=True)
        confidence = moved.confidence.cpu()
        gain = torch.zeros_like(confidence) if moved.gain is None else moved.gain.cpu()
        some = (displacement != 0).any(1)
        reason = torch.where(some, MOVED, IN_PLACE) if moved.reason is None else moved.reason.cpu()
        found = Found(index, displacement, confidence, gain, reason.to(torch.uint8))
        used = torch.where(learns.unsqueeze(1), displacement, 0)
        label, valid = _only(learns.to(logits.device), moved, batch.label, batch.valid)
        return replace(moved, label=label, valid=valid), found, used

    # ------------------------------------------------------------------ telling

    def _meters(self, found: Found, used: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Shares of weak labels that moved and are unclear, how far, and the drift by strong ones.

        The drift is in the axes of the patch, as the network sees it.
        """
        learns = self.learns[found.index]
        moved = (used != 0).any(1)[learns]
        lengths = used[learns].double().square().sum(1).sqrt()
        meters = {
            "moved": _mean(moved.double()),
            "unclear": _mean((~is_clear(found.reason))[learns].double()),
            "moved_by": _mean(lengths[moved]),
        }
        wanted = turned(found.displacement, batch.pose)[~learns]
        for axis in range(wanted.shape[1]):
            meters[f"drift_{axis}"] = _mean(wanted[:, axis])
        return meters


def turned(displacement: Tensor, pose: Tensor | None, *, back: bool = False) -> Tensor:
    """Displacements of images as they are in mirrored and turned patches, or ``back`` again.

    >>> turned(torch.tensor([[1, 2]]), torch.tensor([[[0, -1], [1, 0]]]))
    tensor([[-2,  1]])
    """
    if pose is None:
        return displacement
    pose = pose.to(displacement.device, displacement.dtype)
    if back:
        pose = pose.transpose(1, 2)
    return (pose * displacement.unsqueeze(1)).sum(2)


def upright(maps: Tensor, window: tuple[int, ...], pose: Tensor | None) -> Tensor:
    """Maps over displacements of patches as maps over displacements of their images.

    Args:
        maps: ``(batch, *shifts)``.
        window: the same along every axis that a pose exchanges.
        pose: ``(batch, dims, dims)`` int64.

    >>> upright(torch.tensor([[1.0, 2.0, 3.0]]), (1,), torch.tensor([[[-1]]]))
    tensor([[3., 2., 1.]])
    """
    if pose is None:
        return maps
    places = displacements(window, maps.device)
    own = (pose.to(maps.device).unsqueeze(1) * places.view(1, -1, 1, len(window))).sum(3)
    flat = torch.zeros(len(maps), len(places), dtype=torch.int64, device=maps.device)
    for axis, size in enumerate(window):
        flat = flat * (2 * size + 1) + own[:, :, axis] + size
    return maps.flatten(1).gather(1, flat).reshape(maps.shape)


def _only(which: Tensor, moved: Alignment, label: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """The moved labels of some samples, and the others as they were."""
    label = torch.where(_over(which, label), moved.label, label)
    return label, torch.where(_over(which, valid), moved.valid, valid)


def _over(which: Tensor, values: Tensor) -> Tensor:
    """``(batch,)`` with axes of length 1 for all others that values have."""
    return which.to(values.device).view(-1, *[1] * (values.ndim - 1))


def _mean(values: Tensor) -> Tensor:
    return torch.stack([values.sum(), torch.tensor(float(values.numel()), dtype=values.dtype)])
