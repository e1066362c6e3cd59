"""Where every label was found to belong: what a training remembers from one look to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from labelmend.training.processes import Processes
from labelmend.types import CLEAR, REASONS, Sample

NEVER = len(REASONS)
"""The reason of a label that nobody has looked at yet."""

FADE = 0.9
"""Share of a group's map that is kept whenever labels of it are looked at: networks get better."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where some labels were found to belong, in the axes of their images; on the CPU.

    Attributes:
        index: ``(found,)`` int64, places of the samples in the data set.
        displacement: ``(found, dims)`` float64, in positions; 0 where that is not clear.
        confidence: ``(found,)``, as in :class:`labelmend.types.Alignment`.
        gain: ``(found,)``, likewise.
        reason: ``(found,)`` uint8, likewise.
        likely: ``(found, *shifts)`` float64, how likely every displacement is, in nats, where
            labels are put in place by groups.
    """

    index: Tensor
    displacement: Tensor
    confidence: Tensor
    gain: Tensor
    reason: Tensor
    likely: Tensor | None = None

    def take(self, which: Tensor) -> Found:
        """Some of them: a mask, or places."""
        return Found(
            self.index[which],
            self.displacement[which],
            self.confidence[which],
            self.gain[which],
            self.reason[which],
            None if self.likely is None else self.likely[which],
        )


def joined(parts: Sequence[Found]) -> Found:
    """Several as one, in an order that does not depend on how they were divided."""
    names = ("index", "displacement", "confidence", "gain", "reason")
    whole = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    maps = [part.likely for part in parts if part.likely is not None]
    found = Found(**whole, likely=torch.cat(maps) if len(maps) == len(parts) else None)
    order = found.gain.argsort(stable=True)
    return found.take(order[found.index[order].argsort(stable=True)])


def is_clear(reason: Tensor) -> Tensor:
    """Whether a label's place was clear, along some directions at least."""
    return torch.isin(reason, torch.tensor(CLEAR, dtype=reason.dtype))


@dataclass(slots=True)
class PlaceTable:
    """The displacement of every sample of a data set, smoothed over the looks at it.

    Attributes:
        displacement: ``(samples, dims)`` float64, in positions and axes of the prepared image.
        confidence: ``(samples,)`` float64, of the latest look.
        gain: ``(samples,)`` float64, of the latest look, in nats.
        reason: ``(samples,)`` uint8, of the latest look; :data:`NEVER` before the first.
        clear: ``(samples,)`` int64, looks at which its place was clear.
        group: ``(samples,)`` int64, who is put in place together with whom; None: each by itself.
        likely: ``(groups, *shifts)`` float64, what is known of every group's displacement, in nats.
        keep: share of what is remembered that a new look leaves.
    """

    displacement: Tensor
    confidence: Tensor
    gain: Tensor
    reason: Tensor
    clear: Tensor
    group: Tensor | None
    likely: Tensor | None
    keep: float

    @classmethod
    def fresh(
        cls, samples: int, dims: int, keep: float, group: Tensor | None = None, window: int = 0
    ) -> PlaceTable:
        """A table of labels that nobody has looked at.

        >>> PlaceTable.fresh(2, 1, 0.5).displacement
        tensor([[0.],
                [0.]], dtype=torch.float64)
        """
        zeros = torch.zeros(samples, dtype=torch.float64)
        likely = None
        if group is not None:
            many = int(group.max()) + 1 if len(group) else 0
            likely = torch.zeros(many, *[2 * window + 1] * dims, dtype=torch.float64)
        return cls(
            torch.zeros(samples, dims, dtype=torch.float64),
            zeros.clone(),
            zeros.clone(),
            torch.full((samples,), NEVER, dtype=torch.uint8),
            torch.zeros(samples, dtype=torch.int64),
            group,
            likely,
            keep,
        )

    def update(self, found: Found) -> None:
        """Take a step's findings in; of several looks at one sample, all count in their order."""
        for place in range(len(found.index)):
            self._take(found.take(torch.tensor([place])))
        if self.likely is not None and self.group is not None and found.likely is not None:
            self._add(found.index, found.likely)

    def blended(self, index: Tensor, displacement: Tensor, clear: Tensor) -> Tensor:
        """New displacements smoothed by what is remembered, ``(looked at, dims)`` float64.

        Where the place is not clear now but was before, that of before; 0 where it never was.
        """
        before, known = self.displacement[index], (self.clear[index] > 0).unsqueeze(1)
        smooth = torch.where(
            known, self.keep * before + (1 - self.keep) * displacement, displacement
        )
        return torch.where(clear.unsqueeze(1), smooth, torch.where(known, before, 0))

    def offset(self, learns: Tensor) -> Tensor:
        """The mean displacement of those labels ``(samples,)`` bool whose place was clear."""
        known = (self.clear > 0) & learns
        return self.displacement[known].sum(0) / max(int(known.sum()), 1)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must keep."""
        names = ("displacement", "confidence", "gain", "reason", "clear")
        kept = {name: getattr(self, name) for name in names}
        return kept if self.likely is None else {**kept, "likely": self.likely}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go back to a saved :meth:`state`, to the bit."""
        for name, values in state.items():
            setattr(self, name, values.clone())

    def rows(self, samples: Sequence[Sample]) -> list[dict[str, object]]:
        """The table as plain values: a row for every training sample that was looked at."""
        return [
            {
                "id": sample.id,
                **{
                    f"displacement_{axis}": round(value, 3)
                    for axis, value in enumerate(self.displacement[place].tolist())
                },
                "confidence": round(self.confidence[place].item(), 4),
                "gain": round(self.gain[place].item(), 3),
                "reason": REASONS[int(self.reason[place])],
                "looks": int(self.clear[place]),
            }
            for place, sample in enumerate(samples)
            if sample.split == "train" and int(self.reason[place]) != NEVER
        ]

    def _take(self, one: Found) -> None:
        index = one.index
        clear = is_clear(one.reason)
        self.displacement[index] = self.blended(index, one.displacement, clear)
        self.confidence[index] = one.confidence.double()
        self.gain[index] = one.gain.double()
        self.reason[index] = one.reason
        self.clear[index] += clear.long()

    def _add(self, index: Tensor, likely: Tensor) -> None:
        """Fading sums: a group's map keeps a share of itself whenever one of its labels is seen."""
        if self.group is None or self.likely is None:
            return
        member = self.group[index]
        finite = torch.where(likely.isfinite(), likely, 0)
        summed = torch.zeros_like(self.likely).index_add(0, member, finite)
        count = torch.zeros(len(self.likely)).index_add(0, member, torch.ones(len(member)))
        seen = (count > 0).view(-1, *[1] * (likely.ndim - 1))
        self.likely = torch.where(seen, FADE * self.likely + summed, self.likely)


def remember(table: PlaceTable, found: Sequence[Found | None], processes: Processes) -> None:
    """Take in what all processes found in a step, in an order that all agree on."""
    mine = [part for part in found if part is not None]
    parts = [part for each in processes.gather(mine) for part in each]
    if parts:
        table.update(joined(parts))
