"""Which aligner settings mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labelmend.alignment.aligner import ShiftAligner
from labelmend.alignment.transform_candidates import Kind
from labelmend.alignment.transform_search import TransformAligner

_DECISION = ("score", "prior", "confidence", "margin", "near", "grain")
_RANGES = ("angle", "stretch", "shear")


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


def _named(names: tuple[str, ...], options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in names if name in options}
