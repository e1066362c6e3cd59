"""Find out how far a run's probabilities can be taken at their word."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from labelmend.cli.loading import Model, Which, load_predictor
from labelmend.cli.output import Flag, Json, as_json, make_watcher


def calibrate(
    run: Path,
    /,
    *,
    split: Literal["val", "test"] = "val",
    checkpoint: Which = "last",
    model: Model = "main",
    device: str = "auto",
    network: str | None = None,
    quiet: Flag = False,
    json: Json = False,
) -> int:
    """Make probabilities honest: find the temperature that held-out strong labels ask for.

    Which class a position has stays the same; how sure the network says it is changes. What is
    found goes to RUN/calibration.json, and predict, evaluate, export and report use it.

    Parameters
    ----------
    run
        The run folder.
    split
        The strong labels that it is fitted to: val or test.
    checkpoint
        last or best.
    model
        The network to use; auxiliary and ensemble (mean of
        both predictions) exist where two were trained.
    device
        auto, cpu, cuda or mps.
    network
        The run's own network, repeated, where it is module:Class of yours.
    quiet
        Say nothing but what went wrong.
    json
        Print one JSON object instead of a table.
    """
    from labelmend.inference.calibration import calibrate as find

    predictor = load_predictor(run, checkpoint, model, device, network)
    watcher = make_watcher(quiet=quiet or json, title="calibrating")
    found = find(predictor, split, watcher=watcher)
    if json:
        print(as_json(found.to_json()))
    elif not quiet:
        print(f"{found.to_text()}\nkept for step {found.step}: {run / 'calibration.json'}")
    return 0
