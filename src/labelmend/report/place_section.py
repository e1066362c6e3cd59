"""The part of the page about labels put in place: how far, how sure, and whether all drifted."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

import numpy as np

from labelmend.errors import LabelmendError
from labelmend.inference.fix import Opened, open_sample
from labelmend.inference.fixed import DRIFT, at_the_edge, say_edge
from labelmend.inference.places import Place, mean_shift
from labelmend.inference.predictor import Predictor, load
from labelmend.inference.search import Search, make_search
from labelmend.report.document import chart, say
from labelmend.report.legend import is_paired, make_key, make_legend
from labelmend.report.markup import Child, Html, element, join
from labelmend.report.phrases import count, were
from labelmend.report.pictures import Painter
from labelmend.report.place_charts import (
    axis_name,
    draw_displacements,
    draw_drift,
    draw_shares,
)
from labelmend.report.place_pictures import Example, draw_example
from labelmend.report.place_quiver import make_quiver
from labelmend.report.places import PlaceRow, Placings
from labelmend.report.warp_section import make_bending, make_bends
from labelmend.runs import Run
from labelmend.types import IN_PLACE, MOVED, PARTLY, REASONS

PLACES = "Labels put in place"

Say = Callable[[str], None]
"""Who is told what cannot be shown."""


def make_places(
    run: Run, found: Placings, painter: Painter, network: str | None, tell: Say
) -> list[Html]:
    """What is to be said and shown of labels that were put in place."""
    if not found.rows:
        begins = "" if found.start is None else f": that begins at step {found.start:,}"
        return [say(f"No weak label has been looked at yet{begins}.")]
    bending, parts = found.bending, [element("p", in_words(found))]
    searched = bending is None or bending.after != "none"
    if searched:
        drawn = [_displacements(found), *_drift(found), *_shares(found)]
        parts += [warn_of_drift(found), element("div", *drawn, class_="charts")]
    parts += [] if bending is None else make_bending(bending)
    try:
        predictor = load(run, network=network)
        search = make_search(run, None, predictor.device, step=predictor.step)
    except LabelmendError as error:
        tell(f"labels put in place cannot be shown: {error}")
        return [*parts, say(f"They cannot be shown: {error}", "warning")]
    offset = offset_of(search, found.rows)
    if bending is not None:
        parts += make_bends(predictor, search, offset, painter, tell)
    if searched:
        parts += [_examples(predictor, search, found, painter, tell)]
        parts += _quiver(predictor, search, tell)
    return parts


def offset_of(search: Search, rows: Sequence[PlaceRow]) -> np.ndarray | None:
    """By how much less than was found all labels move, where their mean is held at zero."""
    if not search.centred:
        return None
    return mean_shift([_found(row) for row in rows], len(rows[0].displacement))


# ---------------------------------------------------------------------- words


def in_words(found: Placings) -> str:
    """How many labels moved, how far, and on what that rests."""
    rows = found.rows
    moved = [row for row in rows if row.moves]
    unclear = sum(not row.clear for row in rows)
    ending = (
        "Labels move for training only, their files stay as they are; labelmend fix RUN --out DIR "
        "writes moved ones as new files."
    )
    if found.bending is not None and found.bending.after == "none":
        looked = count(len(rows), "weak label")
        return (
            f"Training looked at {looked}; nothing moves them as a whole, they are bent. {ending}"
        )
    text = f"Of {count(len(rows), 'weak label')} that training looked at, {len(moved)} moved"
    text += "" if found.bending is None else " as a whole"
    if moved:
        far = [row.far for row in moved]
        text += f", by {statistics.median(far):.1f} positions in the median, {max(far):.1f} at most"
        held = at_the_edge((row.displacement for row in moved), found.window)
        text += f"; {say_edge(held, found.window)}" if held else ""
    if unclear:
        text += f"; {unclear} {were(unclear)} unclear when last looked at. "
    else:
        text += "; every place was clear when last looked at. "
    if found.per != "sample":
        whose = "all labels share" if found.per == "set" else f"labels of one {found.per} share"
        text += f"By the settings {whose} a displacement. "
    return text + ending


def warn_of_drift(found: Placings) -> Html:
    """Whether the network drifted, as its wishes for strong labels tell, and what to do then."""
    if found.drifted is None:
        return say(
            "No strong label was trained on beside them, so nobody can say whether all labels "
            "drifted together: look at a few, or add strong labels.",
            "unknown spaced",
        )
    far = math.hypot(*found.drifted)
    by = _axes(found.drifted)
    if far <= DRIFT:
        return say(
            f"No drift: at the end of training the network would have strong labels moved by {by} "
            f"in the mean, which is within {DRIFT} positions.",
            "good spaced",
        )
    text = (
        f"The network drifted: at the end it would have strong labels moved by {by} positions, "
        "and moved labels may be off by as much. Train with more strong labels, or a smaller "
        "align.window."
    )
    return say(text, "warning spaced")


def _axes(displacement: Sequence[float]) -> str:
    """A displacement in words, axis by axis.

    >>> _axes((-1.25, 0.0))
    '−1.2 down, 0.0 to the right'
    """
    dims = len(displacement)
    signed = (f"{v:+.1f}" if round(v, 1) else "0.0" for v in displacement)
    named = (f"{v} {axis_name(axis, dims)}" for axis, v in enumerate(signed))
    return ", ".join(named).replace("-", "−")


# ---------------------------------------------------------------------- charts


def _displacements(found: Placings) -> Html:
    rows = found.rows
    dims = len(rows[0].displacement)
    known = [row.displacement for row in rows if row.clear]
    text = "Displacements that training remembers of weak labels, smoothed over looks"
    text += "" if dims == 2 else "; the dashed line is the mean of the clear ones"
    if known:
        mean = [statistics.fmean(row[axis] for row in known) for axis in range(dims)]
        text += f". Mean of {count(len(known), 'clear one')}: {_axes(mean)}"
    text += f". Looked for within {count(found.window, 'position')}."
    return chart(draw_displacements(rows, found.window), text)


def _drift(found: Placings) -> list[Html]:
    if not found.drift:
        return []
    text = (
        "How far the network would have strong labels moved, which do not: light at every step, "
        f"dark smoothed. Within the band of ±{DRIFT} positions there is no drift to speak of."
    )
    return [chart(draw_drift(found), text)]


def _shares(found: Placings) -> list[Html]:
    if not len(found.moved):
        return []
    text = (
        "Share of the weak labels of a step that moved, and of those whose place was not clear, "
        "which stay, or go where they were last found clearly."
    )
    return [chart(draw_shares(found), text)]


# ---------------------------------------------------------------------- pictures


def choose(rows: Sequence[PlaceRow]) -> list[tuple[str, PlaceRow]]:
    """The largest move, the least sure label and one in place, each with why it is shown."""
    moved = sorted((r for r in rows if r.clear and r.moves), key=lambda r: -r.far)
    unclear = sorted((r for r in rows if not r.clear), key=lambda r: r.confidence)
    settled = sorted((r for r in rows if r.clear and not r.moves), key=lambda r: -r.confidence)
    chosen = [("largest move", row) for row in moved[:1]]
    if len(moved) > 2:
        chosen.append(("typical move", moved[len(moved) // 2]))
    chosen += [("least sure", row) for row in (unclear or moved[::-1])[:1]]
    chosen += [("in place", row) for row in settled[:1]]
    once: dict[str, tuple[str, PlaceRow]] = {}
    for why, row in chosen:
        once.setdefault(row.sample.id, (why, row))
    return list(once.values())


def make_example(
    predictor: Predictor, search: Search, row: PlaceRow, offset: np.ndarray | None = None
) -> Example:
    """One label put in place, as the network sees its whole image now.

    A label that moves together with others goes where training last had it. ``offset`` is taken
    off, where the mean of all labels is held at zero.

    Raises:
        LabelmendError: when a file changed or cannot be predicted.
    """
    opened = open_sample(predictor, row.sample)
    compared = opened.compared(predictor)
    evidence = search.evidence(*compared)
    fit = evidence.likely.score[0].numpy()
    fit = np.where(np.isfinite(fit), fit, fit[np.isfinite(fit)].min(initial=0.0))
    best = np.unravel_index(int(fit.argmax()), fit.shape)
    peak = tuple(int(b) - (n - 1) // 2 for b, n in zip(best, fit.shape, strict=True))
    alone = search.per == "sample" and (search.bends is not None or not search.centred)
    place = search.find(*compared) if alone else _found(row)
    place = place if offset is None else place.less(offset)
    prediction = predictor.decide(opened.case(predictor).scores)
    return Example(opened, prediction, place.in_file(opened.grid), fit, peak)


def _found(row: PlaceRow) -> Place:
    """Where training last had a label, but for what is held at zero."""
    displacement = np.array(row.displacement)
    return Place(displacement, row.confidence, 0.0, REASONS.index(row.reason))


def _examples(
    predictor: Predictor, search: Search, found: Placings, painter: Painter, tell: Say
) -> Html:
    spec = painter.spec
    offset = offset_of(search, found.rows)
    tiles = [
        _tile(painter, why, row, lambda row: make_example(predictor, search, row, offset), tell)
        for why, row in choose(found.rows)
    ]
    wide = spec.dims == 1
    style = "tiles mixed" + " wide" * wide + " paired" * is_paired(spec)
    text = (
        f"A few of them, as the network sees them whole at step {predictor.step:,}. The map shows "
        "how well the label fits the prediction at every shift, bright where better: a ring at "
        "the best one, a cross at none."
    )
    if wide:
        text = text.replace("map", "curve").replace("bright where better: a ring", "high where "
        "better: a solid line").replace("a cross at none", "a dashed one at none")  # fmt: skip
    legend = make_legend(spec, ("label", "prediction"))
    if spec.dims > 1 and spec.task == "regression":
        legend = []
    return join(
        element("h3", "How they are put in place"),
        element("p", text),
        None if wide else make_key("places", spec, legend),
        element("div", *tiles, class_=style),
    )


def _tile(
    painter: Painter, why: str, row: PlaceRow, make: Callable[[PlaceRow], Example], tell: Say
) -> Html:
    sample, details = row.sample, []
    picture: Html
    head: list[Child] = [element("b", why)]
    try:
        example = make(row)
        picture, note = draw_example(painter, example, f"{sample.image} and {sample.label}")
        head = [element("b", _where(example.place)), element("span", why, class_="badge")]
        details = [_why(example.place), _unknown(example.opened, example), note]
    except LabelmendError as error:
        tell(f"{sample.label} cannot be shown: {error}")
        picture = element("p", f"Cannot be shown: {error}", class_="missing")
    shown = " · ".join(text for text in details if text)
    caption = element(
        "figcaption",
        element("span", *head, class_="head"),
        element("code", sample.label),
        element("span", shown, class_="details") if shown else None,
    )
    return element("figure", picture, caption, class_="tile")


def _where(place: Place) -> str:
    """What becomes of a label, in words."""
    if not place.moves:
        return "stays" if place.clear else "stays: unclear"
    dims = len(place.displacement)
    far = enumerate(place.displacement.round(1) if place.bent_by else place.displacement)
    by = [f"{v:+.3g} {axis_name(axis, dims)}" for axis, v in far if v]
    text = "moves by " + ", ".join(by) if by else "moves"
    text += " and turns or stretches" * (place.matrix is not None)
    text += f" and is bent by {place.bent_by:.1f}" * (place.bent_by > 0)
    return text.replace("-", "−")


def _why(place: Place) -> str:
    sure = f"{math.floor(100 * place.confidence)} % sure"
    if place.reason in (MOVED, IN_PLACE):
        return sure
    said = REASONS[place.reason]
    return f"{said}, {sure}" if place.reason == PARTLY else f"{said} ({sure} of the best one)"


def _unknown(opened: Opened, example: Example) -> str:
    lost = int(opened.valid.sum()) - int(example.after.valid.sum())
    return f"{count(lost, 'position')} came from outside" if lost > 0 else ""


# ---------------------------------------------------------------------- arrows


def _quiver(predictor: Predictor, search: Search, tell: Say) -> list[Html]:
    try:
        return make_quiver(predictor, search)
    except LabelmendError as error:
        tell(f"displacements over an image cannot be shown: {error}")
        return [say(f"Displacements over an image cannot be shown: {error}", "warning")]
