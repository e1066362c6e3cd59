"""What one does after a training: judge its network, predict with it, make a page of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import CycloptsError, Parameter

from labelmend.cli.loading import Model, Which, load_predictor
from labelmend.cli.output import Flag, Json, as_json, make_watcher
from labelmend.cli.predicted import note_place, tell
from labelmend.cli.serve import predict_there

Split = Literal["train", "val", "test"]
Moves = Literal["shift", "rigid", "similarity", "affine", "warp"]


def evaluate(
    run: Path,
    /,
    *,
    split: Split | None = None,
    checkpoint: Which = "last",
    model: Model = "main",
    tolerance: int = 8,
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
    model
        The network to use; auxiliary and ensemble (mean of
        both predictions) exist where two were trained.
    tolerance
        How far, in positions, labels may be moved for
        further figures; 0 moves none.
    device
        auto, cpu, cuda or mps.
    network
        The run's own network, repeated, where it is module:Class of yours.
    json
        Print one JSON object instead of a table.
    """
    from labelmend.inference.evaluate import evaluate as judge

    predictor = load_predictor(run, checkpoint, model, device, network)
    watcher = make_watcher(quiet=json, title="evaluating")
    result = judge(predictor, split, tolerance=tolerance, watcher=watcher)
    print(as_json(result.to_json()) if json else result.to_text())
    if not json:
        print(f"per sample: {run / predictor.folder('evaluation').name / result.split}.csv")
    return 0


def predict(
    run: Path,
    inputs: Annotated[tuple[Path, ...], Parameter(negative="")] = (),
    /,
    *,
    server: str | None = None,
    out: Path | None = None,
    checkpoint: Which = "last",
    model: Model = "main",
    device: str = "auto",
    network: str | None = None,
    flips: Flag = False,
    precision: Literal["float32", "bf16"] = "float32",
    memory: float | None = None,
    batch: int | None = None,
    level: int | None = None,
    resume: Flag = False,
    overlays: Flag = False,
    probabilities: Flag = False,
    uncertainty: Flag = False,
    conclusions: Flag = False,
    smallest: int = 1,
    rules: Path | None = None,
    parquet: Flag = False,
    quiet: Flag = False,
) -> int:
    """Write a label for every input, in the format of the run's labels or the input's.

    Parameters
    ----------
    run
        The run folder; with --server the first of the inputs.
    inputs
        Files, folders of them, or patterns in quotes, such as "slides/**/*.tif".
    server
        The address that labelmend serve printed; it predicts, and no run is named here.
    out
        Where the labels go; RUN/predictions by default, or RUN/predictions-MODEL.
    checkpoint
        last or best.
    model
        The network to use; auxiliary and ensemble (mean of
        both predictions) exist where two were trained.
    device
        auto, cpu, cuda or mps.
    network
        The run's own network, repeated, where it is module:Class of yours.
    flips
        Predict mirror images too and take the mean; 2, 4 or 8 times the time.
    precision
        What the network computes with: float32, or bf16, which is quicker on GPUs.
    memory
        GiB that one file may take; what takes more is predicted strip by strip, to the
        same label, or refused. By default 2, and nothing is refused.
    batch
        Patches of several small files that are predicted at once, to the same scores but
        for rounding. By default as many as change no bit; 1: one file after the other.
    level
        The picture of a whole-slide image or a TIFF with several: 0 is the largest. By
        default, of slides, the one nearest to the spacing of the run's images.
    resume
        Keep labels that were finished by the same model in the same way.
    overlays
        Draw the outlines over every image, in OUT/overlays.
    probabilities
        Keep the probability of every class, in OUT/probabilities.
    uncertainty
        Keep how undecided the network is at every position, from 0 to 1, in
        OUT/uncertainty and, where two were trained, how far they disagree.
    conclusions
        Count and measure all objects, in OUT/conclusions or, without --out,
        RUN/conclusions.
    smallest
        Leave objects of fewer positions out of the conclusions.
    rules
        A CSV of name, where, verdict, such as: many,cell.count > 10,see a doctor.
    parquet
        Write the conclusions as Parquet, too.
    quiet
        Say nothing but what went wrong.
    """
    if server is not None:
        return predict_there(predict, locals())
    if not inputs:
        words = 'Command "predict" parameter INPUTS requires an argument'
        raise CycloptsError(words, command_chain=("predict",))
    from labelmend.inference.beside import Beside
    from labelmend.inference.files import Way, predict_all

    predictor = load_predictor(run, checkpoint, model, device, network)
    folder = None
    if conclusions:
        folder = predictor.folder("conclusions") if out is None else out / "conclusions"
    beside = Beside(folder, overlays, probabilities, smallest, rules, parquet, uncertainty)
    way = Way(flips, precision, memory, resume, beside, batch, level)
    out = out or predictor.folder("predictions")
    watcher = make_watcher(quiet, title="predicting")
    outcome = predict_all(predictor, inputs, out, way, watcher=watcher)
    if not quiet:
        note_place(out, predictor.run.data.root)
    return tell(outcome, out, folder, predictor.spec, quiet=quiet)


def fix(
    run: Path,
    /,
    *,
    out: Path,
    align: Moves | None = None,
    checkpoint: Which = "last",
    model: Model = "main",
    device: str = "auto",
    network: str | None = None,
    quiet: Flag = False,
) -> int:
    """Write the weak labels into a new folder, each where the network says it belongs.

    The data set stays as it is. To train on moved labels, put the folder over a copy of it.

    Parameters
    ----------
    run
        The run folder.
    out
        The folder to make; must not exist or be empty. It gets every weak label
        under its own path, and fixed.csv, which says which of them moved.
    align
        How labels may move: shift, rigid (and turned), similarity (and scaled),
        affine or, after a training with it, warp (and bent); by default as in
        training, or shift where none moved there.
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
    """
    from labelmend.inference.fix import TABLE
    from labelmend.inference.fix import fix as put_in_place

    predictor = load_predictor(run, checkpoint, model, device, network)
    watcher = make_watcher(quiet, title="fixing")
    result = put_in_place(predictor, out, align=align, watcher=watcher)
    if not quiet:
        print(f"{result.to_text()}\nper label: {out / TABLE}")
    return 0


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


def attach(run: Path, data: Path, /) -> int:
    """Say where the data of a run lie now, after one of them was moved or copied.

    A run and its data that were copied together, side by side as they were, find each other
    without it.

    Parameters
    ----------
    run
        The run folder.
    data
        The data set's folder; all files must be those that the run was trained on.
    """
    from labelmend.catalogue.attached import attach as look_there
    from labelmend.progress import counting
    from labelmend.runs import Run

    with counting(make_watcher(quiet=False, title="comparing")) as progress:
        found = look_there(Run.open(run), data, progress)
    many = len({path for s in found.data.samples for path in (s.image, s.label)})
    print(f"{run}: its data lie in {found.data.root} from now on; {many:,} files are as they were")
    return 0
