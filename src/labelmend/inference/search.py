"""Where whole labels belong, by what a run's network predicts for whole images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor

from labelmend.alignment.aligner import ShiftAligner
from labelmend.alignment.choice import (
    field_network_options,
    shift_aligner,
    transform_aligner,
    warp_aligner,
)
from labelmend.alignment.correlation import Places
from labelmend.alignment.placement import edge_length
from labelmend.alignment.score_maps import Shifts, added
from labelmend.alignment.scores import REGRESSION_SCORES
from labelmend.alignment.transform_candidates import Kind
from labelmend.alignment.transform_search import TransformAligner
from labelmend.alignment.warp import WarpAligner
from labelmend.data.patches import regions
from labelmend.errors import RunError, SettingsError, unknown
from labelmend.inference.offsets import part_of
from labelmend.inference.places import Place, moved_arrays
from labelmend.networks.field import build_field_network
from labelmend.runs import Run
from labelmend.types import IN_PLACE, Sample

Transform = Literal["shift", "rigid", "similarity", "affine", "warp"]
"""How a label may move."""

WARP = "warp"
"""The name of a checkpoint's parameters of the network that bends labels."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What one label, or several that move alike, say of where they belong.

    Attributes:
        likely: ``(1, *shifts)`` float64, how likely every displacement is, in nats.
        edges: ``(1,)``, how much edge that rests on.
    """

    likely: Shifts
    edges: Tensor

    def __add__(self, other: Evidence) -> Evidence:
        score = torch.cat([self.likely.score, other.likely.score])
        overlap = torch.cat([self.likely.overlap, other.likely.overlap])
        both = added(Shifts(score, overlap, self.likely.window), torch.zeros(2, dtype=torch.int64))
        likely = Shifts(both.score[:1], both.overlap[:1], both.window)
        return Evidence(likely, self.edges + other.edges)


@dataclass(frozen=True, slots=True)
class Search:
    """Finds where the weak labels of a run belong, as its training did.

    Attributes:
        shifts: what looks for shifts.
        turns: what looks for more than shifts, where labels may do more.
        per: what moves as one: ``sample``, ``annotator``, ``group`` or ``set``.
        centred: whether the mean shift of all labels is held at zero.
        device: where it computes.
        bends: what bends labels after they were put in place as a whole, if anything does.
    """

    shifts: ShiftAligner
    turns: TransformAligner | None
    per: str
    centred: bool
    device: torch.device
    bends: WarpAligner | None = None

    def whose(self, sample: Sample) -> str:
        """The name of what a sample moves together with: its own where nobody is named for it."""
        if self.per == "sample":
            return sample.id
        return "" if self.per == "set" else str(getattr(sample, self.per)) or sample.id

    def evidence(self, seen: np.ndarray, label: np.ndarray, valid: np.ndarray) -> Evidence:
        """What a label says of its shift; a large one is compared in parts, which are added.

        Args:
            seen: ``(scores, *space)``, what the network says.
            label: class indices ``(*space)``, or ``(channels, *space)`` float.
            valid: ``(*space)`` bool.
        """
        total: Evidence | None = None
        for region in regions(valid.shape, part_of(valid.shape), 0.0):
            given = self._given(seen, label, valid, region.slices)
            edges = edge_length(given[1], given[2])
            found = self.shifts.likely(*given, edges)
            score = found.score.cpu().double()
            one = Evidence(Shifts(score, found.overlap.cpu(), found.window), edges.cpu())
            total = one if total is None else total + one
        if total is None:
            raise AssertionError("regions() covers every image with at least one region")
        return total

    def decide(self, evidence: Evidence) -> Place:
        """Where labels of that evidence belong, in positions of what was compared."""
        found = self.shifts.decide(evidence.likely, evidence.edges)
        displacement = found.displacement[0].double().numpy()
        sure, gain = float(found.confidence[0]), float(found.gain[0])
        return Place(displacement, sure, gain, int(found.reason[0]))

    def find(self, seen: np.ndarray, label: np.ndarray, valid: np.ndarray) -> Place:
        """Where a label by itself belongs; shapes as for :meth:`evidence`."""
        whole = self._whole(seen, label, valid)
        if self.bends is None:
            return whole
        there = moved_arrays(label, valid, whole)
        return _bent(self.bends, whole, self._given(seen, *there, ()))

    def _whole(self, seen: np.ndarray, label: np.ndarray, valid: np.ndarray) -> Place:
        """Where a label belongs that is not bent."""
        if self.bends is not None and self.bends.first is None:
            return Place(np.zeros(valid.ndim), 0.0, 0.0, IN_PLACE)
        if self.turns is None:
            return self.decide(self.evidence(seen, label, valid))
        found = self.turns.find(*self._given(seen, label, valid, ()))
        displacement = found.displacement[0].double().cpu().numpy()
        matrix = found.matrix[0].double().cpu().numpy() if bool(found.turned[0]) else None
        sure, gain = float(found.confidence[0]), float(found.gain[0])
        return Place(displacement, sure, gain, int(found.reason[0]), matrix)

    def _given(
        self, seen: np.ndarray, label: np.ndarray, valid: np.ndarray, cut: Places
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What is compared of a part, as a batch of one."""
        every: Places = (..., *cut)
        claimed = torch.from_numpy(label[every].copy())[None].to(self.device)
        return (
            torch.from_numpy(seen[every].copy())[None].to(self.device),
            claimed if claimed.is_floating_point() else claimed.long(),
            torch.from_numpy(valid[every].copy())[None].to(self.device),
        )


def make_search(
    run: Run, transform: Transform | None, device: torch.device, *, step: int | None = None
) -> Search:
    """The search of a run's settings, or with another transform; a shift where it has none.

    Args:
        run: the run.
        transform: how labels may move; None: as in training.
        device: where to compute.
        step: of the checkpoint that holds the network that bends labels; by default the last.

    Raises:
        SettingsError: for an unknown transform, one that groups of labels cannot share, a score
            that these labels cannot have, or bending that was not trained.
        RunError: when the checkpoint holds another network.
    """
    chosen = run.settings.align
    if transform is not None and transform not in get_args(Transform):
        raise unknown("transform", transform, get_args(Transform))
    kind = transform or ("shift" if chosen.transform == "none" else chosen.transform)
    if kind == "warp" and chosen.transform != "warp":
        raise _untrained(run)
    if kind != "shift" and chosen.per != "sample":
        raise SettingsError(
            f"{run.path}: align.per = {chosen.per!r} moves many labels by one shift, and "
            f"{kind} is none; take --align shift"
        )
    if run.data.spec.task == "regression" and chosen.score not in REGRESSION_SCORES:
        raise SettingsError(
            f"{run.path}: align.score = {chosen.score!r} compares classes, and these labels are "
            "continuous values; train with another score"
        )
    options, window = chosen.filled(run.facts["patch"]), chosen.window_in(run.facts["patch"])
    bends = _bending(run, options, device, step) if kind == "warp" else None
    first = kind if kind != "warp" else chosen.warp.after
    shifts = shift_aligner(window, options)
    if first in ("none", "shift"):
        centred = first == "shift" and chosen.is_centred(anchored=_anchored(run))
        return Search(shifts, None, chosen.per, centred, device, bends)
    turns = transform_aligner(cast("Kind", first), window, options)
    return Search(shifts, turns, "sample", False, device, bends)


def _bending(
    run: Run, options: Mapping[str, Any], device: torch.device, step: int | None
) -> WarpAligner:
    """What bends labels, with the parameters of a checkpoint.

    It is the label that is bent, whatever was in training: a network that says how predictions
    flow to labels says how labels flow to predictions, the other way round.
    """
    saved = run.load("last" if step is None else step)
    if WARP not in saved.tensors:
        raise _untrained(run)
    spec = run.data.spec
    classes = spec.task == "segmentation"
    given = field_network_options(
        spec.dims, run.facts["out_channels"], options["warp"], classes=classes
    )
    network = build_field_network(**given, seed=0)  # every parameter is replaced
    try:
        network.load_state_dict(dict(saved.tensors[WARP]))
    except RuntimeError as error:
        raise RunError(
            f"{run.path}, step {saved.step}: the checkpoint is not one of the network that bends "
            "labels as it is now; use the code that it was trained with"
        ) from error
    aligner = warp_aligner(network.to(device).eval(), options["window"], options)
    return replace(aligner, moves="label")


def _untrained(run: Run) -> SettingsError:
    return SettingsError(
        f"{run.path} trained no network that bends labels, and --align warp is done by one; take "
        "--align affine, or train with --align warp"
    )


@torch.no_grad()
def _bent(aligner: WarpAligner, place: Place, given: tuple[Tensor, Tensor, Tensor]) -> Place:
    """The place with the field that a network proposes there, if that explains clearly more."""
    proposal = aligner.propose(*given)
    if not aligner.bends(proposal)[0]:
        return place
    gain, sure = float(proposal.gain[0]), float(torch.sigmoid(proposal.gain[0]))
    return place.bent(proposal.field[0].float().cpu().numpy(), sure, gain)


def _anchored(run: Run) -> bool:
    """Whether strong labels said in training where labels belong."""
    return bool(run.data.of("train", "strong")) and run.settings.batch.strong_share != 0
