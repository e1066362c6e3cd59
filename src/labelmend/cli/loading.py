"""The network of a run, as every command that predicts opens it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from labelmend.inference.predictor import Predictor

Which = Literal["last", "best"]
Model = Literal["main", "auxiliary", "ensemble"]


def load_predictor(
    run: Path, checkpoint: Which, model: Model, device: str, network: str | None
) -> Predictor:
    """A run's network; what a person should know of it goes to standard error.

    Raises:
        RunError, DamagedError, SettingsError: as :func:`labelmend.load`.
    """
    from labelmend.inference.predictor import load  # torch takes seconds

    predictor = load(run, checkpoint=checkpoint, model=model, device=device, network=network)
    for note in predictor.notes:
        print(f"note: {note}", file=sys.stderr)
    return predictor
