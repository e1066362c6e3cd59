"""What one does before a training: look at the data, print the settings, see it all work."""

from __future__ import annotations

from pathlib import Path

from labelmend.cli.output import Json, as_json, complain, make_watcher
from labelmend.errors import SettingsError


def check(
    data: Path,
    /,
    *,
    seed: int = 0,
    json: Json = False,
) -> int:
    """Say what is in a data set and everything that is wrong with it, before any training.

    Parameters
    ----------
    data
        The data set's folder.
    seed
        Seed of the split that training would make.
    json
        Print one JSON object instead.
    """
    from labelmend.catalogue.check import describe_inspection, inspection_values
    from labelmend.catalogue.scan import inspect
    from labelmend.progress import counting

    with counting(make_watcher(quiet=json, title="reading")) as progress:
        found = inspect(data, seed=seed, progress=progress)
    print(as_json(inspection_values(found)) if json else describe_inspection(found))
    if found.problems:
        first, many = found.problems[0], len(found.problems)
        title = f"{data}: {many} problems, the first: {first}"
        whole = first.file in (data.name, str(data))
        return complain(
            title if many > 1 else f"{data if whole else data / first.file}: {first.message}"
        )
    if not json:
        print(f"next: labelmend train {data} --out RUN")
    return 0


def settings(*, preset: str = "weighted", config: Path | None = None) -> int:
    """Print all settings as TOML, to save and change.

    Parameters
    ----------
    preset
        The named settings to start from: weighted, pooled, strong_only, plain or seed_a.
    config
        A TOML file to complete.
    """
    from labelmend.config import gather

    print(gather(preset, config).to_toml(), end="")
    return 0


def demo(*, out: Path = Path("demo"), seed: int = 0, steps: int | None = None) -> int:
    """Make a data set with doubtful labels, train three ways, and show what it was good for.

    Parameters
    ----------
    out
        The folder for data and runs; must not exist or be empty.
    seed
        Fixes the data and the training.
    steps
        Training steps of each way.
    """
    if steps is not None and steps < 1:
        raise SettingsError(f"--steps wants at least 1, not {steps}")
    from labelmend.config import gather

    gather("weighted", options={"seed": seed})  # refused before torch is imported and data made
    from labelmend.demo import run_demo

    run_demo(out, seed=seed, steps=steps)
    return 0
