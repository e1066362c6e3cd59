"""Train a network on a data set, or go on with a training that was stopped."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from labelmend.cli.output import Flag, make_watcher
from labelmend.cli.verdict import verdict as judge
from labelmend.errors import SettingsError

if TYPE_CHECKING:
    from labelmend.runs import Run


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
    mix: Flag = False,
    dual: Flag = False,
    align: Literal["none", "shift", "rigid", "similarity", "affine", "warp"] | None = None,
    with_reviews: Path | None = None,
    verdict: Flag = False,
    network: str | None = None,
    quiet: Flag = False,
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
        weighted (by default), pooled (all labels alike),
        strong_only, plain (every label counts 1) or seed_a (the
        first patent document to the letter).
    config
        A TOML file of settings; `labelmend settings` prints one to start from.
    set_
        Single settings over that, such as --set batch.size=4.
    steps
        Training steps; 2000 by default.
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
    mix
        Train on mixed images too: what is of a class in one, cut out and put into another.
    dual
        Train two networks that teach each other by mixed images; implies --mix.
    align
        Put weak labels where the network says they belong before they are learned from: none,
        shift, rigid (and turned), similarity (and scaled), affine, or warp (bent by a network).
    with_reviews
        A run of the same data: what people decided on its review page is first written
        beside the data, where this training and all later ones use it.
    verdict
        Afterwards train on strong labels alone beside it, and say whether the weak ones helped.
    network
        With --resume, the run's own network, repeated, where it is module:Class of yours.
    quiet
        Say nothing but what went wrong.
    """
    options = {
        **_given(steps=steps, epochs=epochs, seed=seed, device=device),
        **_section("input", workers=workers, allow_bad=allow_bad),
        **_section("mixing", use=mix or dual or None),  # two networks need mixed images
        **_section("dual", use=dual or None),
        **_section("align", transform=align),
    }
    if verdict and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SettingsError(
            "--verdict trains in one process; train without it, then: labelmend verdict RUN"
        )
    if resume is not None:
        if options or any(v is not None for v in (data, out, preset, config, set_, with_reviews)):
            raise SettingsError(
                "--resume goes on with the run's own data and settings; give no other option, "
                "or begin a new run with --out"
            )
        from labelmend.training.assembly import resume as go_on

        run = go_on(resume, watcher=make_watcher(quiet), network=network)
    else:
        data, out = _wanted(data, out, network)
        from labelmend.config import gather

        chosen = gather(preset or "weighted", config, set_ or [], options)
        if with_reviews is not None:
            _bring_in(with_reviews, data, out, quiet=quiet)
        # Settings are checked before torch is imported, which takes seconds.
        from labelmend.training.assembly import fit

        run = fit(data, out, settings=chosen, watcher=make_watcher(quiet))
    if not quiet and os.environ.get("RANK", "0") == "0":
        print(_trained(run, resume or out))
    return judge(run.path, network=network, quiet=quiet) if verdict else 0


def _wanted(data: Path | None, out: Path | None, network: str | None) -> tuple[Path, Path]:
    """What a new training needs, and has."""
    if data is None or out is None:
        raise SettingsError(
            "train wants a data folder and a run folder: labelmend train DATA --out RUN"
        )
    if network is not None:
        raise SettingsError(
            f"--network belongs to --resume; to train one, --set network.name={network}"
        )
    return data, out


def _bring_in(reviewed: Path, data: Path, out: Path, *, quiet: bool) -> None:
    """Write the repairs of a review beside the data, once it is clear that training can begin."""
    from labelmend.review.repaired import export_review
    from labelmend.runs import Run
    from labelmend.runs.folder import refuse_occupied

    refuse_occupied(out)
    run = Run.open(reviewed)
    if Path(run.data.root).resolve() != data.resolve():
        raise SettingsError(
            f"--with-reviews wants a run of {data}, and {reviewed} was trained on {run.data.root}"
        )
    if os.environ.get("RANK", "0") != "0":
        return
    done = export_review(run)
    if not quiet:
        print(f"reviewed: {done.said()}", file=sys.stderr)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _section(name: str, **values: Any) -> dict[str, Any]:
    given = _given(**values)
    return {name: given} if given else {}


def _trained(run: Run, folder: Path | None) -> str:
    """What came out, and what one may want to do with it."""
    steps = max((record["step"] for record in run.metrics("train")), default=0)
    as_is = any(record["kept"] == "as_is" for record in run.metrics("ending"))
    last = run.facts["ending"]["strong_from"] if as_is else steps  # networks after it are gone
    held_out = [record for record in run.metrics("val") if record["step"] <= last]
    main = [(m, r) for r in held_out for m in ("dice", "psnr") if r.get(m) is not None]
    best = max(((record[m], -record["step"], m) for m, record in main), default=None)
    shown = "" if best is None else f"; best held-out {best[2]} {best[0]:.3f} at step {-best[1]}"
    commands = [f"labelmend {name} {folder}" for name in ("evaluate", "report", "audit")]
    commands.append(f"labelmend predict {folder} IMAGES --out LABELS")
    lines = [f"trained: {folder}, {steps} step{'s' * (steps != 1)}{shown}"]
    return "\n".join(lines + [f"next:    {command}" for command in commands])
