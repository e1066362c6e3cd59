"""Serve the page on which people look at labels and repair them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from labelmend.cli.loading import Model, Which, load_predictor
from labelmend.cli.output import Flag, make_watcher

if TYPE_CHECKING:
    from labelmend.audit import Audit
    from labelmend.inference.predictor import Predictor


def review(
    run: Path,
    /,
    *,
    checkpoint: Which = "last",
    model: Model = "main",
    device: str = "auto",
    network: str | None = None,
    audit: Flag = False,
    host: str = "127.0.0.1",
    port: int | None = None,
    token: str | None = None,
    allow_remote: Flag = False,
    open: Flag = False,
    export: Flag = False,
) -> int:
    """Serve a page on which to look at labels, in the order of the audit, and to repair them.

    What is done is kept in RUN/review at once. Files of the data set are never changed; the page
    writes repaired labels beside them, when it is told to. Ctrl-C ends it.

    Parameters
    ----------
    run
        The run folder.
    checkpoint
        last or best.
    model
        The network to use; auxiliary and ensemble (mean of
        both predictions) exist where two were trained.
    device
        auto, cpu, cuda or mps.
    network
        The run's own network, repeated, where it is module:Class of yours.
    audit
        Rank the labels anew; by default only where RUN/audit holds no order by this network.
    host
        Where to listen.
    port
        By default the one of the last time, 8765, or the next that is free; 0 takes any.
    token
        What the page must know, at least 16 characters; by default a new one every time.
    allow_remote
        Let other machines in, at another --host; the token is wanted all the same.
    open
        Show the page in a browser at once.
    export
        Serve nothing: write what was decided beside the data, as the page's button does, and end.
    """
    if export:
        return _write(run)
    from labelmend.review.server import check_host_option, make_token, names_of, serve

    check_host_option(host, allow_remote=allow_remote)
    secret = make_token(token)
    # Options are checked before torch is imported, which takes seconds.
    from labelmend.review.app import make_app
    from labelmend.review.cases import Cases
    from labelmend.review.desk import Desk
    from labelmend.review.repaired import can_ignore, export_repairs
    from labelmend.review.store import FILE, Store

    predictor = load_predictor(run, checkpoint, model, device, network)
    cases = Cases(predictor, _ordered(predictor, anew=audit).labels)
    opened, spec = predictor.run, predictor.spec
    with Store.open(opened.folder("review") / FILE) as store:
        ignore = can_ignore(spec)
        desk = Desk(store, cases.base, classes=len(spec.classes), ignore=ignore)
        app = make_app(
            cases,
            desk,
            secret,
            export=lambda: export_repairs(opened, desk).to_json(),
            hosts=names_of(host),
        )
        serve(
            app,
            host=host,
            port=port,
            token=secret,
            allow_remote=allow_remote,
            open_browser=open,
            remember=opened.path / "review" / "port",
        )
    return 0


def _write(run: Path) -> int:
    from labelmend.review.repaired import export_review
    from labelmend.runs import Run

    done = export_review(Run.open(run))
    print(f"{done.said()}\ntable: {done.table}")
    return 0


def _ordered(predictor: Predictor, *, anew: bool) -> Audit:
    """The audit of this very network: as kept in the run, or made now."""
    from labelmend.audit import read_audit, run_audit

    found = None if anew else read_audit(predictor.run, predictor.model)
    every = len(predictor.run.data.samples)
    if found is not None and found.step == predictor.step and len(found.labels) == every:
        return found
    made = run_audit(predictor, watcher=make_watcher(quiet=False, title="looking"))
    made.write()
    return made
