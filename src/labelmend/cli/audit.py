"""Which labels to look at first: a table for the terminal, files and a page in the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from labelmend.cli.loading import Model, Which, load_predictor
from labelmend.cli.output import Json, as_json, make_watcher

Quality = Literal["weak", "strong", "all"]
Order = Literal["gain", "wrong"]


def audit(
    run: Path,
    /,
    *,
    budget: int | None = None,
    quality: Quality = "all",
    order: Order = "gain",
    checkpoint: Which = "last",
    model: Model = "main",
    device: str = "auto",
    network: str | None = None,
    json: Json = False,
) -> int:
    """Rank every label by what is gained from looking at it, with a reason for each.

    Parameters
    ----------
    run
        The run folder. It gets audit/audit.html, a page with pictures, and the
        whole order as audit/audit.csv and audit/audit.json.
    budget
        How many labels somebody will look at: so many are named, and how much of
        all there is to gain they hold.
    quality
        weak, strong or all: whose labels are named, and counted as best; the files hold all.
    order
        gain: what the network gains from a look comes first, that is labels that are
        likely wrong and still counted. wrong: whatever is most likely wrong.
    checkpoint
        last or best.
    model
        The network to use; auxiliary and ensemble (mean of
        both predictions) exist where two were trained.
    device
        auto, cpu, cuda or mps.
    network
        The run's own network, repeated, where it is module:Class of yours.
    json
        Print one JSON object instead of a table.
    """
    from labelmend.audit import run_audit
    from labelmend.audit.result import check_budget
    from labelmend.report.audit_page import write_audit_page

    check_budget(budget)
    predictor = load_predictor(run, checkpoint, model, device, network)
    watcher = make_watcher(quiet=json, title="looking")
    found = run_audit(predictor, order=order, watcher=watcher).within(budget).only(quality)
    folder = found.write()
    page = write_audit_page(predictor, found, watcher=watcher)
    print(as_json(found.to_json()) if json else found.to_text())
    if not json:
        print(f"page: {page}\nall labels: {folder / 'audit.csv'}\nnext: labelmend review {run}")
    return 0
