"""Tell what came of a prediction, here or elsewhere: the same words for both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from labelmend.cli.output import complain

if TYPE_CHECKING:
    from labelmend.client import Got
    from labelmend.inference.way import Outcome
    from labelmend.types import DataSpec


def tell(
    came: Outcome | Got, out: Path, conclusions: Path | None, spec: DataSpec, *, quiet: bool
) -> int:
    """Make the page of conclusions, where there are any, and say what there is; the exit status.

    Args:
        came: of all files.
        out: the folder of the labels.
        conclusions: the folder of their tables; None where nobody asked for any.
        spec: names the classes.
        quiet: whether only what went wrong is said.
    """
    for warning in came.warnings:
        print(f"warning: {warning}")
    for problem in (*came.failed, *came.unjudged):
        print(f"failed: {problem}")
    if conclusions is not None:
        from labelmend.report.conclusions_page import write_conclusions_page

        write_conclusions_page(conclusions, came.conclusions, spec, came.rules)
    if not quiet:
        _say(came, out, conclusions)
    if not came.failed:
        return complain(came.unjudged[0]) if came.unjudged else 0
    total = len(came.failed) + len(came.written) + len(came.kept)
    title = f"{len(came.failed)} of {total} inputs failed"
    return complain(f"{title}{', the first' * (len(came.failed) > 1)}: {came.failed[0]}")


def note_place(out: Path, data: str) -> None:
    """Say it where labels were written to a place that a training takes labels from."""
    if not data or Path(data).resolve() / "labels" not in (out.resolve() / "any").parents:
        return
    print(
        f"note: {out} lies among the labels of {data}: the next training takes these predictions "
        "for labels; to have that on purpose, under a name of their own: "
        f"labelmend propose {data} --by RUN"
    )


def _say(came: Outcome | Got, out: Path, folder: Path | None) -> None:
    kept = f", {len(came.kept)} kept from before" if came.kept else ""
    count = len(came.written)
    print(f"{count} label{'s' * (count != 1)} written to {out}{kept}")
    if folder is not None:
        objects = sum(len(each.objects) for each in came.conclusions)
        print(f"{objects} object{'s' * (objects != 1)}: {folder / 'objects.csv'}")
        print(f"per file: {folder / 'files.csv'}")
        print(f"page: {folder / 'conclusions.html'}")
    verdicts = {rule.name: rule.verdict for rule in came.rules}
    for each in came.conclusions:
        for name in each.flags:
            print(f"flagged: {each.file}: {verdicts[name]}")
