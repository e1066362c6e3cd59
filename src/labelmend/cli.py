"""The command line: say what is wanted, do it, say what came out in as few words as possible."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
from cyclopts import Parameter

from labelmend.errors import LabelmendError, SettingsError, Stopped

# Whatever needs torch is imported inside the commands that use it: --help and check answer at once.

app = cyclopts.App(
    name="labelmend",
    help="Train segmentation and other dense-prediction models on labels that cannot be "
    "fully trusted.",
    version_flags=["--version"],
    help_format="plaintext",
)

Split = Literal["train", "val", "test"]
Which = Literal["last", "best"]
Json = Annotated[bool, Parameter(negative="")]


@app.command
def check(
    data: Path,
    /,
    *,
    seed: int = 0,
    json: Annotated[bool, Parameter(name="--json", negative="")] = False,
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
    from labelmend.data.check import describe_inspection, inspection_values
    from labelmend.data.scan import inspect

    found = inspect(data, seed=seed)
    print(_json(inspection_values(found)) if json else describe_inspection(found))
    if found.problems:
        many = len(found.problems)
        _complain(f"{data}: {many} problem{'s' * (many > 1)} found, see above")
    return 1 if found.problems else 0


@app.command
def train(
    data: Path | None = None,
    /,
    *,
    out: Path | None = None,
    resume: Path | None = None,
    preset: str = "weighted",
    config: Path | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    steps: int | None = None,
    epochs: float | None = None,
    seed: int | None = None,
    device: str | None = None,
    workers: int | None = None,
    allow_bad: int | None = None,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Train on strong and weak labels, and learn how much every weak one should count.

    Parameters
    ----------
    data
        The data set's folder.
    out
        The run folder to make; must not exist or be empty.
    resume
        A run folder to go on with, exactly where it stopped; takes no other option.
    preset
        weighted, pooled (all labels alike) or strong_only.
    config
        A TOML file of settings; `labelmend settings` prints one to start from.
    set_
        Single settings over that, such as --set batch.size=4.
    steps
        Training steps.
    epochs
        Or passes over the larger set of labels.
    seed
        Fixes everything random.
    device
        auto, cpu, cuda or mps.
    workers
        Processes that load data.
    allow_bad
        Samples that may be left out because of bad files.
    quiet
        No progress bar.
    """
    watcher = _watcher(quiet)
    if resume is not None:
        given = [data, out, config, set_, steps, epochs, seed, device, workers, allow_bad]
        if any(value is not None for value in given):
            raise SettingsError("--resume takes the run's own settings: give no other option")
        from labelmend.training.build import resume as go_on

        run = go_on(resume, watcher=watcher)
    else:
        if data is None or out is None:
            raise SettingsError(
                "train needs a data folder and a run folder: labelmend train DATA --out RUN"
            )
        single = {"steps": steps, "epochs": epochs, "seed": seed, "device": device}
        inputs = {"workers": workers, "allow_bad": allow_bad}
        chosen = _settings(preset, config, set_ or [], _given(single), _given(inputs))
        from labelmend.training.build import fit

        run = fit(data, out, settings=chosen, watcher=watcher)
    if os.environ.get("RANK", "0") == "0":
        print(f"trained: {run.path}")
        print(f"next:    labelmend evaluate {run.path}    labelmend report {run.path}")
    return 0


@app.command
def settings(*, preset: str = "weighted", config: Path | None = None) -> int:
    """Print all settings as TOML, to save and change.

    Parameters
    ----------
    preset
        The named settings to start from.
    config
        A TOML file to complete.
    """
    print(_settings(preset, config, [], {}, {}).to_toml(), end="")
    return 0


@app.command
def evaluate(
    run: Path,
    /,
    *,
    split: Split | None = None,
    checkpoint: Which = "last",
    network: str | None = None,
    json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Compare predictions with the strong labels of a split, per sample and per class.

    Parameters
    ----------
    run
        The run folder.
    split
        train, val or test; by default test, or val where there is no test split.
    checkpoint
        last or best.
    network
        The run's own network, repeated, where it is module:Class of yours.
    json
        Print one JSON object instead of a table.
    """
    from labelmend.inference.evaluate import evaluate as judge
    from labelmend.inference.predictor import load

    predictor = load(run, checkpoint=checkpoint, network=network)
    result = judge(predictor, split, watcher=_watcher(quiet=json, title="evaluating"))
    print(_json(result.to_json()) if json else result.to_text())
    return 0


@app.command
def predict(
    run: Path,
    inputs: Annotated[list[Path], Parameter(negative="")],
    /,
    *,
    out: Path,
    checkpoint: Which = "last",
    network: str | None = None,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Write a label for every input, in the input's family of formats.

    Parameters
    ----------
    run
        The run folder.
    inputs
        Files, or folders of them.
    out
        Where the labels go.
    checkpoint
        last or best.
    network
        The run's own network, repeated, where it is module:Class of yours.
    quiet
        No progress bar.
    """
    from labelmend.inference.predictor import load, predict_files

    predictor = load(run, checkpoint=checkpoint, network=network)
    written, failed = predict_files(
        predictor, inputs, out, watcher=_watcher(quiet, title="predicting")
    )
    print(f"{len(written)} label{'s' * (len(written) != 1)} written to {out}")
    for problem in failed:
        print(f"failed: {problem}")
    if failed:
        _complain(f"{len(failed)} of {len(failed) + len(written)} inputs failed: {failed[0]}")
    return 1 if failed else 0


@app.command
def report(run: Path, /, *, out: Path | None = None, network: str | None = None) -> int:
    """Make one self-contained HTML page of a run, with pictures.

    Parameters
    ----------
    run
        The run folder.
    out
        The page's file; RUN/report.html by default.
    network
        The run's own network, repeated, where it is module:Class of yours.
    """
    from labelmend.report import write_report

    print(f"report: {write_report(run, out, network=network)}")
    return 0


@app.command
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
    from labelmend.demo import run_demo

    run_demo(out, seed=seed, steps=steps)
    return 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; every failure is one line on standard error and a status that is not 0."""
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))


def run(arguments: list[str]) -> int:
    """Run a command and return its exit status.

    >>> run(["evaluate", "no/such/run", "--chekpoint", "best"])
    2
    """
    try:
        status = app(
            arguments, exit_on_error=False, print_error=False, result_action="return_value"
        )
    except cyclopts.CycloptsError as error:
        return _complain(f"{error}", status=2)
    except Stopped as stop:
        return _complain(str(stop), status=stop.exit_status)
    except LabelmendError as error:
        return _complain(str(error), status=1)
    except KeyboardInterrupt:
        return _complain("interrupted", status=130)
    except BrokenPipeError:
        # Whoever read our output has left, as `| head` does; there is nobody to complain to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get("LABELMEND_TRACEBACK"):
            raise
        return _complain(
            f"internal error, please report it: {type(error).__name__}: {error} "
            "(LABELMEND_TRACEBACK=1 shows where)",
            status=70,
        )
    return status if isinstance(status, int) else 0


def _complain(text: str, status: int = 1) -> int:
    print("labelmend: " + " ".join(text.split()), file=sys.stderr)
    return status


def _json(thing: Any) -> str:
    return json.dumps(thing, indent=2, allow_nan=False)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _settings(
    preset_name: str,
    config: Path | None,
    assignments: list[str],
    single: dict[str, Any],
    inputs: dict[str, Any],
) -> Any:
    from labelmend.config import Settings, from_assignments, preset, read_toml

    layers = [preset(preset_name), {} if config is None else read_toml(config)]
    return Settings.make(*layers, from_assignments(assignments), single, {"input": inputs})


def _watcher(quiet: bool, title: str = "training") -> Any:
    from labelmend.progress import Silent, Terminal

    return Silent() if quiet else Terminal(title)
