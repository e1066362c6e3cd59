"""Say whether the weak labels of a run helped, after training without them beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from labelmend.cli.output import Flag, Json, as_json, make_watcher

Split = Literal["train", "val", "test"]


def verdict(
    run: Path,
    /,
    *,
    seeds: int = 1,
    split: Split | None = None,
    device: str = "auto",
    network: str | None = None,
    quiet: Flag = False,
    json: Json = False,
) -> int:
    """Train on the strong labels alone beside a run, and say whether the weak ones helped.

    Parameters
    ----------
    run
        The run folder. What is trained goes to RUN/verdict and is not trained again.
    seeds
        Trainings of each kind; from 2 on, the run's method is trained anew as well.
    split
        Where to compare; by default test, or val where there is no test split.
    device
        auto, cpu, cuda or mps, for the comparison.
    network
        The run's own network, repeated, where it is module:Class of yours.
    quiet
        Show no progress.
    json
        Print one JSON object instead.
    """
    from labelmend.verdict import give_verdict

    watcher = make_watcher(quiet=quiet or json, title="verdict")
    found = give_verdict(
        run, seeds=seeds, split=split, device=device, network=network, watcher=watcher
    )
    print(as_json(found.to_json()) if json else found.to_text())
    return 0
