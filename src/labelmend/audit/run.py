"""From a trained run to the order in which to look at its labels."""

from __future__ import annotations

from labelmend.audit.alike import find_alike
from labelmend.audit.looking import look
from labelmend.audit.ranking import Order, rank
from labelmend.audit.reasons import explain
from labelmend.audit.result import Audit, Ranked, sum_up
from labelmend.audit.store import describe
from labelmend.inference.predictor import Predictor
from labelmend.progress import Silent, Watcher


def run_audit(
    predictor: Predictor, *, order: Order = "gain", watcher: Watcher | None = None
) -> Audit:
    """Every label of a run, weak and strong, of all splits, in the order in which to look at them.

    Nothing is written; see :meth:`Audit.write`.

    Args:
        predictor: from :func:`load`, which also says which checkpoint and network looks.
        order: by what a network gains from a look, or by how likely a label is wrong.
        watcher: who sees the progress; nobody by default.

    Raises:
        DataError: when the data set is gone, or a file changed since training.
        NonFiniteError: when an image cannot be predicted, naming it.
        DamagedError: when records of the run are not as they were written.

    How labels are ranked is in :func:`labelmend.audit.ranking.rank`. The trap: a network that has
    learned wrong labels by heart finds nothing wrong with them.
    """
    evidence, prints, notes = look(predictor, watcher or Silent())
    standings = rank(evidence, find_alike(prints), order=order)
    reasons = explain(evidence, standings, predictor.spec.task == "regression")
    labels = []
    for one, reason in zip(standings, reasons, strict=True):
        known = evidence[one.index]
        sample = known.sample
        labels.append(
            Ranked(
                sample.label,
                sample.image,
                sample.annotator,
                sample.group,
                sample.split,
                sample.quality,
                one.score,
                one.wrong,
                known.weight,
                known.displacement,
                known.confidence,
                known.disagreement,
                reason,
                "" if one.like is None else evidence[one.like].sample.label,
            )
        )
    return Audit(
        str(predictor.run.path),
        predictor.step,
        predictor.model,
        tuple(labels),
        sum_up(labels, "annotator"),
        sum_up(labels, "group"),
        describe(predictor.run.data),
        tuple(notes),
        order=order,
    )
