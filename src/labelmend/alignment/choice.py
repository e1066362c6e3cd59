"""Which aligner settings mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import nn

from labelmend.alignment.aligner import ShiftAligner
from labelmend.alignment.transform_candidates import Kind
from labelmend.alignment.transform_search import TransformAligner
from labelmend.alignment.warp import WarpAligner, channels_seen

_DECISION = ("score", "prior", "confidence", "margin", "near", "grain")
_RANGES = ("angle", "stretch", "shear")
_WARP = ("reach", "grid", "diffeomorphic", "moves", "smooth", "bend", "small", "folds", "centred")


def shift_aligner(window: int, options: Mapping[str, Any]) -> ShiftAligner:
    """The aligner for shifts.

    Args:
        window: the largest shift in positions.
        options: by their names in :class:`ShiftAligner`; others are left alone.

    Raises:
        SettingsError: for an option out of range.

    >>> shift_aligner(4, {"confidence": 0.8, "angle": 5.0}).confidence
    0.8
    """
    return ShiftAligner(window=window, **_named(_DECISION, options))


def transform_aligner(kind: Kind, window: int, options: Mapping[str, Any]) -> TransformAligner:
    """The aligner for more than shifts; as :func:`shift_aligner`.

    >>> transform_aligner("rigid", 4, {"angle": 5.0, "per": "sample"}).angle
    5.0
    """
    return TransformAligner(kind, window=window, **_named((*_DECISION, *_RANGES), options))


def searcher(kind: str, window: int, options: Mapping[str, Any]) -> ShiftAligner | TransformAligner:
    """The aligner for shifts, or for more; as :func:`shift_aligner`.

    >>> searcher("shift", 4, {}).window
    4
    """
    if kind == "shift":
        return shift_aligner(window, options)
    return transform_aligner(cast("Kind", kind), window, options)


def warp_aligner(network: nn.Module, window: int, options: Mapping[str, Any]) -> WarpAligner:
    """The aligner that bends labels after a search.

    Args:
        network: what proposes fields.
        window: of the search.
        options: of the search, and under ``"warp"`` those of :class:`WarpAligner` by their names,
            with ``"after"``, the kind of search or ``"none"``.

    >>> warp_aligner(nn.Identity(), 8, {"warp": {"after": "none", "reach": 4.0}}).reach
    4.0
    """
    chosen = options["warp"]
    after = chosen["after"]
    first = None if after == "none" else searcher(after, window, options)
    named = _named(_WARP, chosen) | _named(("margin", "grain"), options)
    return WarpAligner(network, first=first, **named)


def field_network_options(
    dims: int, scores: int, options: Mapping[str, Any], *, classes: bool
) -> dict[str, Any]:
    """What :func:`labelmend.networks.field.build_field_network` is given, but for a seed.

    Args:
        dims: number of space axes.
        scores: what the network that predicts yields at every position: classes, background
            included, or channels.
        options: of the field network, ``"width"`` and ``"depth"``; others are left alone.
        classes: whether labels are classes.

    The trap: training and all that reads its checkpoints must ask here, or parameters do not fit.

    >>> field_network_options(2, 3, {"width": 8, "reach": 4.0}, classes=True)
    {'dims': 2, 'channels': 5, 'width': 8}
    """
    channels = channels_seen(scores, classes=classes)
    return {"dims": dims, "channels": channels, **_named(("width", "depth"), options)}


def _named(names: tuple[str, ...], options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in names if name in options}
