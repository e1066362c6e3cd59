"""The command line: say what is wanted, do it, say what came out in as few words as possible."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import cyclopts
from cyclopts import Parameter

from labelmend.errors import LabelmendError, SettingsError, Stopped

if TYPE_CHECKING:
    from labelmend.inference.predictor import Predictor
    from labelmend.progress import Watcher
    from labelmend.runs import Run

# Whatever needs torch is imported inside the commands that use it: --help and check answer at once.

app = cyclopts.App(
    name="labelmend",
    help="Train segmentation and other dense-prediction models on labels that cannot be "
    "fully trusted.",
    version_flags=["--version"],
    help_format="plaintext",
    suppress_keyboard_interrupt=False,  # it would end in silence
)

Split = Literal["train", "val", "test"]
Which = Literal["last", "best"]
Quiet = Annotated[bool, Parameter(negative="", show_default=False)]
Json = Annotated[bool, Parameter(name="--json", negative="", show_default=False)]


@app.command
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

    with counting(_watcher(quiet=json, title="reading")) as progress:
        found = inspect(data, seed=seed, progress=progress)
    print(_json(inspection_values(found)) if json else describe_inspection(found))
    if found.problems:
        first, many = found.problems[0], len(found.problems)
        title = f"{data}: {many} problems, the first: {first}"
        whole = first.file in (data.name, str(data))
        return _complain(
            title if many > 1 else f"{data if whole else data / first.file}: {first.message}"
        )
    if not json:
        print(f"next: labelmend train {data} --out RUN")
    return 0


@app.command
def train(
    data: Path | None = None,
    /,
    *,
    out: Path | None = None,
    resume: Path | None = None,
    preset: str | None = None,
    config: Path | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    steps: int | None = None,
    epochs: float | None = None,
    seed: int | None = None,
    device: str | None = None,
    workers: int | None = None,
    allow_bad: int | None = None,
    network: str | None = None,
    quiet: Quiet = False,
) -> int:
    """Train on strong and weak labels, and learn how much every weak one should count.

    Parameters
    ----------
    data
        The data set's folder.
    out
        The run folder to make; must not exist or be empty.
    resume
        A run folder to go on with, exactly where it stopped, with its own settings.
    preset
        weighted (by default), pooled (all labels alike) or strong_only.
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
    network
        With --resume, the run's own network, repeated, where it is module:Class of yours.
    quiet
        Say nothing but what went wrong.
    """
    watcher = _watcher(quiet)
    single = _given(steps=steps, epochs=epochs, seed=seed, device=device)
    inputs = _given(workers=workers, allow_bad=allow_bad)
    if resume is not None:
        if single or inputs or any(v is not None for v in (data, out, preset, config, set_)):
            raise SettingsError(
                "--resume goes on with the run's own data and settings; give no other option, "
                "or begin a new run with --out"
            )
        from labelmend.training.assembly import resume as go_on

        run = go_on(resume, watcher=watcher, network=network)
    else:
        if data is None or out is None:
            raise SettingsError(
                "train wants a data folder and a run folder: labelmend train DATA --out RUN"
            )
        if network is not None:
            raise SettingsError(
                f"--network belongs to --resume; to train one, --set network.name={network}"
            )
        from labelmend.config import gather

        options = {**single, "input": inputs}
        chosen = gather(preset or "weighted", config, set_ or [], options)
        # Settings are checked before torch is imported, which takes seconds.
        from labelmend.training.assembly import fit

        run = fit(data, out, settings=chosen, watcher=watcher)
    if not quiet and os.environ.get("RANK", "0") == "0":
        print(_trained(run, resume or out))
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
    from labelmend.config import gather

    print(gather(preset, config).to_toml(), end="")
    return 0


@app.command
def evaluate(
    run: Path,
    /,
    *,
    split: Split | None = None,
    checkpoint: Which = "last",
    device: str = "auto",
    network: str | None = None,
    json: Json = False,
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
    device
        auto, cpu, cuda or mps.
    network
        The run's own network, repeated, where it is module:Class of yours.
    json
        Print one JSON object instead of a table.
    """
    from labelmend.inference.evaluate import evaluate as judge

    predictor = _load(run, checkpoint, device, network)
    result = judge(predictor, split, watcher=_watcher(quiet=json, title="evaluating"))
    print(_json(result.to_json()) if json else result.to_text())
    if not json:
        print(f"per sample: {run / 'evaluation' / result.split}.csv")
    return 0


@app.command
def predict(
    run: Path,
    inputs: Annotated[list[Path], Parameter(negative="")],
    /,
    *,
    out: Path | None = None,
    checkpoint: Which = "last",
    device: str = "auto",
    network: str | None = None,
    quiet: Quiet = False,
) -> int:
    """Write a label for every input, in the input's family of formats.

    Parameters
    ----------
    run
        The run folder.
    inputs
        Files, or folders of them.
    out
        Where the labels go; RUN/predictions by default.
    checkpoint
        last or best.
    device
        auto, cpu, cuda or mps.
    network
        The run's own network, repeated, where it is module:Class of yours.
    quiet
        Say nothing but what went wrong.
    """
    from labelmend.inference.files import predict_files

    predictor = _load(run, checkpoint, device, network)
    out = out or predictor.run.folder("predictions")
    watcher = _watcher(quiet, title="predicting")
    written, failed = predict_files(predictor, inputs, out, watcher=watcher)
    for problem in failed:
        print(f"failed: {problem}")
    if not quiet:
        print(f"{len(written)} label{'s' * (len(written) != 1)} written to {out}")
    if not failed:
        return 0
    title = f"{len(failed)} of {len(failed) + len(written)} inputs failed"
    return _complain(f"{title}{', the first' * (len(failed) > 1)}: {failed[0]}")


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
    if steps is not None and steps < 1:
        raise SettingsError(f"--steps wants at least 1, not {steps}")
    from labelmend.demo import run_demo

    run_demo(out, seed=seed, steps=steps)
    return 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; every failure is one line on standard error and a status that is not 0."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may hold anything
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
        return _complain(_at_prompt(error), status=2)
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
        return _complain(*_unforeseen(error))
    return status if isinstance(status, int) else 0


def _at_prompt(error: cyclopts.CycloptsError) -> str:
    text = str(error).strip().rstrip(".")
    if isinstance(error, cyclopts.UnusedCliTokensError):
        text = f"too many words: {' '.join(error.unused_tokens or ())}"
    command = " ".join(["labelmend", *(error.command_chain or ())])
    return f"{text}{' See:' if text.endswith('?') else '; see:'} {command} --help"


def _unforeseen(error: Exception) -> tuple[str, int]:
    """What to say of an error that nobody put into words, and the exit status."""
    kind, text = type(error).__name__, str(error)
    if isinstance(error, MemoryError) or kind == "OutOfMemoryError" or "CPUAllocator" in text:
        way = "make batch.size, input.patch or network.width smaller, or batch.accumulate larger"
        return f"out of memory; {way}", 1
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; check path, permissions and disk", 1
    text = f"{kind}: {text} (LABELMEND_TRACEBACK=1 shows where)"
    return f"internal error, please report it: {text}", 70


def _complain(text: str, status: int = 1) -> int:
    sys.stderr.write(f"labelmend: {' '.join(text.split())}\n")  # in one piece: others write too
    return status


def _load(run: Path, checkpoint: Which, device: str, network: str | None) -> Predictor:
    from labelmend.inference.predictor import load

    predictor = load(run, checkpoint=checkpoint, device=device, network=network)
    for note in predictor.notes:
        print(f"note: {note}", file=sys.stderr)
    return predictor


def _trained(run: Run, folder: Path | None) -> str:
    """What came out, and what one may want to do with it."""
    steps = max((record["step"] for record in run.metrics("train")), default=0)
    main = [(m, r) for r in run.metrics("val") for m in ("dice", "psnr") if r.get(m) is not None]
    best = max(((record[m], -record["step"], m) for m, record in main), default=None)
    shown = "" if best is None else f"; best held-out {best[2]} {best[0]:.3f} at step {-best[1]}"
    commands = [f"labelmend {name} {folder}" for name in ("evaluate", "report")]
    commands.append(f"labelmend predict {folder} IMAGES --out LABELS")
    lines = [f"trained: {folder}, {steps} step{'s' * (steps != 1)}{shown}"]
    return "\n".join(lines + [f"next:    {command}" for command in commands])


def _json(thing: Any) -> str:
    return json.dumps(thing, indent=2, allow_nan=False)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _watcher(quiet: bool, title: str = "training") -> Watcher:
    from labelmend.progress import Silent, Terminal

    return Silent() if quiet else Terminal(title)
