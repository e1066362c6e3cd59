"""Labels by machine: proposed by brightness or by a trained network, to be looked at by people."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from labelmend.cli.loading import Model, Which, load_predictor
from labelmend.cli.output import Flag, make_watcher
from labelmend.errors import SettingsError, unknown

if TYPE_CHECKING:
    from labelmend.inference.predictor import Predictor
    from labelmend.inference.propose import Threshold
    from labelmend.labels.proposals import Method, Side


def propose(
    data: Path,
    /,
    *,
    by: str,
    name: str | None = None,
    all_: Annotated[bool, Parameter(name="--all", negative="", show_default=False)] = False,
    brighter: Flag = False,
    darker: Flag = False,
    class_: Annotated[str | None, Parameter(name="--class")] = None,
    channel: int | None = None,
    smooth: float | None = None,
    allow_bad: int = 0,
    checkpoint: Which = "last",
    model: Model = "main",
    device: str = "auto",
    network: str | None = None,
    quiet: Flag = False,
) -> int:
    """Have a machine label the images that nobody labelled, as weak labels of one more annotator.

    Nothing that exists is replaced. The labels go to labels/weak/NAME; where a
    manifest.csv lists the data set, a line for each is added to its end.

    Parameters
    ----------
    data
        The data set's folder; images are enough.
    by
        otsu, li, yen, triangle, watershed, a number as the threshold,
        or the folder of a run whose network predicts them.
    name
        What the machine is called; by default the method, or the run's folder.
    all_
        Propose for images that have labels, too.
    brighter
        The object is the brighter part of an image; by default
        the part that is smaller over all images, and it is said which.
    darker
        The object is the darker part.
    class_
        The class to draw, where there are several.
    channel
        The channel to look at, from 0; by default the mean of all.
    smooth
        How much images are smoothed before, in positions; by default 1 for
        methods, 0 for a number, and 16 for recordings.
    allow_bad
        Images that may be left out because they cannot be used.
    checkpoint
        Of a run: last or best.
    model
        Of a run: main, auxiliary or ensemble.
    device
        Of a run: auto, cpu, cuda or mps.
    network
        The run's own network, repeated, where it is module:Class of yours.
    quiet
        Say nothing but what went wrong.
    """
    from labelmend.inference.propose import Threshold
    from labelmend.inference.propose import propose as write_labels

    if brighter and darker:
        raise SettingsError("--brighter and --darker contradict each other; give one")
    side: Side | None = "brighter" if brighter else "darker" if darker else None
    machine: Threshold | Predictor
    method = _method(by)
    if method is not None:
        machine = Threshold(method, side, class_, channel, smooth)
    else:
        given = {"--brighter": brighter, "--darker": darker, "--class": class_}
        _refuse_for_runs(given | {"--channel": channel, "--smooth": smooth})
        machine = load_predictor(Path(by), checkpoint, model, device, network)
    watcher = make_watcher(quiet, title="proposing")
    found = write_labels(data, machine, name=name, every=all_, allow_bad=allow_bad, watcher=watcher)
    if not quiet:
        print(f"{found.to_text()}\nlook at some of them before you train on them")
    return 0


def _method(by: str) -> Method | float | None:
    """A method's name or a threshold; None where it is the folder of a run."""
    from labelmend.labels.proposals import METHODS

    if by in METHODS:
        return by
    try:
        number = float(by)
    except ValueError:
        if Path(by).is_dir():
            return None
        more = " A number is the threshold itself, and a run is given by its folder."
        raise unknown("method", by, METHODS, more) from None
    if not math.isfinite(number):
        raise SettingsError(f"a threshold is a finite number, not {by}")
    return number


def _refuse_for_runs(given: dict[str, object]) -> None:
    """A network decides by itself what these options would say."""
    for option, value in given.items():
        if value is not None and value is not False:
            raise SettingsError(f"{option} goes with thresholds and watershed; a run needs none")
