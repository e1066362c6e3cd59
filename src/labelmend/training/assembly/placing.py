"""Settings become the search that puts labels in place, and what is remembered of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from labelmend.alignment.aligner import ShiftAligner
from labelmend.alignment.choice import field_network_options, searcher, warp_aligner
from labelmend.alignment.scores import REGRESSION_SCORES
from labelmend.config import Settings
from labelmend.errors import SettingsError
from labelmend.networks.field import build_field_network
from labelmend.training.assembly.weighing import derived, indices
from labelmend.training.places import PlaceTable
from labelmend.training.placing import Placing
from labelmend.training.warping import WARP, Warping
from labelmend.types import DataSet

WARMUP = 100


def moves(settings: Settings, data: DataSet) -> bool:
    """Whether any label is to move."""
    chosen = settings.align.transform, settings.batch.strong_share
    return chosen[0] != "none" and chosen[1] != 1 and bool(indices(data, "weak"))


def networks(settings: Settings, data: DataSet, facts: Mapping[str, Any]) -> dict[str, nn.Module]:
    """The network that bends labels, by its name, where there is to be one."""
    if settings.align.transform != "warp" or not moves(settings, data):
        return {}
    given = field_network_options(
        data.spec.dims,
        facts["out_channels"],
        settings.align.warp.model_dump(),
        classes=data.spec.task == "segmentation",
    )
    return {WARP: build_field_network(**given, seed=derived(settings.seed, WARP))}


def placing(
    settings: Settings,
    data: DataSet,
    facts: Mapping[str, Any],
    steps: int,
    network: nn.Module | None = None,
) -> Placing | None:
    """What puts labels in place; None where none is to move.

    Args:
        network: of :func:`networks`, where labels are to be bent.

    Raises:
        SettingsError: for a score that cannot compare values, or a window that a patch has no
            room for.
    """
    chosen = settings.align
    if not moves(settings, data):
        return None
    weak = set(indices(data, "weak"))
    if data.spec.task == "regression" and chosen.score not in REGRESSION_SCORES:
        raise SettingsError(
            f"align.score = {chosen.score!r} compares classes, and these labels are continuous "
            f"values; take one of {', '.join(REGRESSION_SCORES)}"
        )
    window = _window(settings, facts)
    start = min(WARMUP, steps // 8) if chosen.start is None else chosen.start
    learns = torch.tensor([i in weak for i in range(len(data.samples))])
    table = PlaceTable.fresh(
        len(data.samples), data.spec.dims, chosen.keep, _groups(settings, data), window
    )
    options = chosen.filled(facts["patch"])
    centred = chosen.is_centred(anchored=_anchored(settings, data))
    if network is None:
        search = searcher(chosen.transform, window, options)
        return Placing(search, table, learns, start, centred and chosen.transform == "shift")
    options["warp"]["centred"] = centred
    aligner = warp_aligner(network, window, options)
    begin = 2 * start if chosen.warp.start is None else chosen.warp.start
    epoch = max(1, -(-len(weak) // settings.batch.size))
    warping = Warping(aligner, max(begin, start), chosen.warp.turns, epoch)
    first = aligner.searched if aligner.first is None else aligner.first
    of_shifts = isinstance(first, ShiftAligner)
    return Placing(first, table, learns, start, centred and of_shifts, warping)


def _window(settings: Settings, facts: Mapping[str, Any]) -> int:
    """The largest shift that is looked for, in positions."""
    room: int = min(facts["patch"])
    window = settings.align.window_in(facts["patch"])
    if settings.align.window is not None and window >= room:
        raise SettingsError(
            f"align.window = {window} moves labels out of patches of {room} positions; "
            f"take at most {room - 1}, or a larger input.patch"
        )
    return window


def told(settings: Settings, data: DataSet, placing: Placing) -> list[str]:
    """What a person should know of how labels are put in place, a line each."""
    chosen = settings.align
    what = "by one shift of each " + chosen.per if chosen.per != "sample" else "each by itself"
    what = "all by one shift" if chosen.per == "set" else what
    kind = chosen.warp.after if chosen.transform == "warp" else chosen.transform
    known = placing.search if isinstance(placing.search, ShiftAligner) else None
    far = f" by up to {known.window} positions" if known else ""
    lines = [
        f"alignment: weak labels move ({kind}{far}, {what}) from step "
        f"{placing.start}, where the network is sure; strong ones stay"
    ]
    if placing.warping is not None:
        reach = placing.warping.aligner.reach
        lines.append(
            f"alignment: from step {placing.warping.start} a second network bends them by up to "
            f"{reach:g} positions more"
        )
    if not _anchored(settings, data):
        held = "their mean shift is held at zero" if placing.centred else "they may drift"
        lines.append(
            "no strong label says where labels belong: an offset that all of them share cannot "
            f"be known, and {held}"
        )
    return lines


def _anchored(settings: Settings, data: DataSet) -> bool:
    return bool(indices(data, "strong")) and settings.batch.strong_share != 0


def _groups(settings: Settings, data: DataSet) -> torch.Tensor | None:
    """Who moves together with whom, ``(samples,)``; None: every sample by itself.

    Labels that nobody is named for share no hand, so each of them moves by itself.
    """
    per = settings.align.per
    if settings.align.transform != "shift" or per == "sample":
        return None
    shared = ["" if per == "set" else getattr(sample, per) for sample in data.samples]
    alone = [not name and per != "set" for name in shared]
    own = zip(shared, alone, data.samples, strict=True)
    names = [(name, sample.id if by_itself else "") for name, by_itself, sample in own]
    places = {name: place for place, name in enumerate(sorted(set(names)))}
    return torch.tensor([places[name] for name in names])
