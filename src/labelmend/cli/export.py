"""Write a trained network as a model that needs nothing of this package."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from labelmend.cli.loading import Model, Which, load_predictor
from labelmend.cli.output import Json, as_json

Target = Literal["onnx", "torch", "monai"]


def export(
    run: Path,
    /,
    *,
    to: Target,
    out: Path | None = None,
    checkpoint: Which = "last",
    model: Model = "main",
    tolerance: float = 1e-5,
    network: str | None = None,
    json: Json = False,
) -> int:
    """Write the network as ONNX, a PyTorch program or a MONAI bundle, proved equal.

    Beside the model stand what to do before and after it (processing.json), a model card,
    the proof and checksums. What labelmend calibrate found of this network goes with it.

    Parameters
    ----------
    run
        The run folder.
    to
        onnx, torch or monai.
    out
        The folder to make; must not exist or be empty.
        RUN/export-TO by default, or RUN/export-TO-MODEL.
    checkpoint
        last or best.
    model
        The network to export; auxiliary and ensemble (mean of
        both predictions) exist where two were trained.
    tolerance
        The most that a score may differ from the network's,
        relative to its size.
    network
        The run's own network, repeated, where it is module:Class of yours.
    json
        Print one JSON object instead of words.
    """
    from labelmend.inference.export.exporting import export as write

    predictor = load_predictor(run, checkpoint, model, "cpu", network)
    other = "" if model == "main" else f"-{model}"
    folder = run / f"export-{to}{other}" if out is None else out
    result = write(predictor, folder, to, tolerance=tolerance)
    print(as_json(result.to_json()) if json else result.to_text())
    if predictor.calibration is not None and not json:
        print(f"probabilities: scores / {predictor.temperature:.4g} (labelmend calibrate)")
    return 0
