"""What the page says and shows of labels that were bent after they were put in place as a whole."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from labelmend.errors import LabelmendError
from labelmend.inference.fix import open_sample
from labelmend.inference.places import Place
from labelmend.inference.predictor import Predictor
from labelmend.inference.search import Search
from labelmend.report.document import chart, say
from labelmend.report.legend import is_paired, make_legend
from labelmend.report.markup import Html, element
from labelmend.report.phrases import count, were
from labelmend.report.pictures import Painter
from labelmend.report.place_charts import draw_bent, draw_removed
from labelmend.report.places import Bending
from labelmend.report.predictions import spread
from labelmend.report.story import Curve
from labelmend.report.warp_pictures import Bend, draw_bend
from labelmend.training.warping import MOST, WINDOW
from labelmend.types import Sample

LOOKED = 24
"""At most so many weak labels are looked at, evenly spread, to find those that are bent most."""

SHOWN = 3
"""So many of them are shown."""

Say = Callable[[str], None]
"""Who is told what cannot be shown."""

_WHOSE = {"removed": "weak labels", "removed_strong": "strong labels, which are in place,"}


@dataclass(frozen=True, slots=True)
class Found:
    """Labels that were looked at: how many were bent, by how much, and those bent most."""

    looked: int
    bent_by: tuple[float, ...]
    most: tuple[tuple[Sample, Bend], ...]


def make_bending(found: Bending) -> list[Html]:
    """What bending explained, in words and as charts."""
    if not len(found.removed):
        begins = "" if found.start is None else f": that begins at step {found.start:,}"
        return [element("h3", "How they are bent"), say(f"No label was bent yet{begins}.")]
    text = (
        f"After that a second network bends each of them, by up to {found.reach:.3g} positions, "
        f"where the bent label is clearly more likely. {in_words(found)}"
    )
    parts = [element("h3", "How they are bent"), element("p", text), warn(found)]
    return [*parts, element("div", *_charts(found), class_="charts")]


# ---------------------------------------------------------------------- words


def in_words(found: Bending) -> str:
    """How many weak labels are bent, how far, and how much that explains."""
    text = f"Over {_last(found.removed)}, bending explained {_share(found.removed)} of what weak "
    text += "labels and predictions differ by"
    if len(found.removed_strong):
        text += f", and {_share(found.removed_strong)} of what strong labels and predictions do. "
        text += "Strong labels are in place and are never bent: there it tells what bending makes "
        text += "up. "
    else:
        text += ". "
    bent, far = _latest(found.bent), _latest(found.bent_by)
    return text + (
        f"{_percent(bent)} of the weak labels of a step were bent; the fields proposed for them "
        f"move by {far:.1f} positions about their means."
    )


def warn(found: Bending) -> Html:
    """Whether bending explains everything away, and what to do then."""
    curves = {"removed": found.removed, "removed_strong": found.removed_strong}
    known = {name: one for name, one in curves.items() if len(one)}
    over = [name for name, one in known.items() if _latest(one) >= MOST[name]]
    if over:
        what = " and ".join(
            f"{_share(known[name])} of what {_WHOSE[name]} and predictions differ by "
            f"({_percent(MOST[name])} is too much)"
            for name in over
        )
        text = (
            f"Bending explains everything away: {what}. What is explained away teaches nothing. "
            "Raise align.warp.smooth, lower align.warp.reach, or compare with --align shift."
        )
        return say(text, "warning spaced")
    if "removed_strong" not in known:
        return say(
            "No strong label was trained on beside them, so nobody can say how much of what "
            "bending explains is made up: compare with --align shift.",
            "unknown spaced",
        )
    strong, weak = _percent(MOST["removed_strong"]), _percent(MOST["removed"])
    text = f"Bending does not explain everything away: that would be {weak} of what weak labels, "
    text += f"or {strong} of what strong labels and predictions differ by."
    return say(text, "good spaced")


def _latest(one: Curve) -> float:
    return statistics.fmean(one.values[-WINDOW:]) if len(one) else 0.0


def _last(one: Curve) -> str:
    many = min(len(one), WINDOW)
    return f"the last {count(many, 'step')} that tell of it" if many > 1 else "its only step"


def _share(one: Curve) -> str:
    share = _latest(one)
    return _percent(share) if round(100 * share) > 0 else "nothing"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


# ---------------------------------------------------------------------- charts


def _charts(found: Bending) -> list[Html]:
    text = (
        "Share of what labels and predictions differ by that bending explains, light at every "
        "step, dark smoothed. Above a dashed line it explains everything away."
    )
    drawn = [chart(draw_removed(found, MOST), text)]
    if len(found.bent_by) and len(found.bent):
        text = (
            "How far the fields of weak labels move about their means, as a root of mean squares; "
            "below, the share of weak labels that were bent, for that was clearly more likely."
        )
        drawn.append(chart(draw_bent(found), text))
    return drawn


# ---------------------------------------------------------------------- pictures


def make_bends(
    predictor: Predictor, search: Search, offset: np.ndarray | None, painter: Painter, tell: Say
) -> list[Html]:
    """The labels that are bent most, as the network sees them now.

    ``offset`` is taken off every displacement, where the mean of all labels is held at zero.
    """
    found = look(predictor, search, offset, tell)
    heading = element("h3", "Labels that are bent most")
    if not found.most:
        if not found.looked:
            return []
        text = f"Of {count(found.looked, 'weak label')} looked at, none is clearly better bent."
        return [heading, say(text)]
    tiles = [_tile(painter, sample, bend, tell) for sample, bend in found.most]
    wide = painter.spec.dims == 1
    style = "tiles mixed" + " wide" * wide + " paired" * is_paired(painter.spec)
    text = (
        f"Of {count(found.looked, 'weak label')} looked at with the networks of step "
        f"{predictor.step:,}, {len(found.bent_by)} {were(len(found.bent_by))} bent, by "
        f"{statistics.median(found.bent_by):.1f} positions in the median."
    )
    if not wide:
        text += (
            " Lines of the grid were straight over the label before it was bent; an arrow points "
            "from where a piece of the label was to where it goes. Both show bending alone: the "
            "label before is where it was put as a whole."
        )
    return [
        heading,
        element("p", text),
        *([] if wide else [_key(painter)]),
        element("div", *tiles, class_=style),
    ]


def look(predictor: Predictor, search: Search, offset: np.ndarray | None, tell: Say) -> Found:
    """Look at weak labels, evenly spread, for those that are bent most."""
    looked, far = 0, []
    most: list[tuple[float, Sample, Bend]] = []
    for sample in spread(predictor.run.weak, LOOKED):
        try:
            opened = open_sample(predictor, sample)
        except LabelmendError as error:
            tell(f"{sample.label} cannot be looked at: {error}")
            continue
        looked += 1
        place = search.find(*opened.compared(predictor))
        place = (place if offset is None else place.less(offset)).in_file(opened.grid)
        if place.field is None:
            continue
        far.append(place.bent_by)
        prediction = predictor.decide(opened.case(predictor).scores)
        most.append((place.bent_by, sample, Bend(opened, prediction, place)))
        most = sorted(most, key=lambda one: -one[0])[:SHOWN]
    return Found(looked, tuple(far), tuple((sample, bend) for _, sample, bend in most))


def _tile(painter: Painter, sample: Sample, bend: Bend, tell: Say) -> Html:
    picture: Html
    note = ""
    try:
        picture, note = draw_bend(painter, bend, f"{sample.image} and {sample.label}")
    except LabelmendError as error:
        tell(f"{sample.label} cannot be shown: {error}")
        picture = element("p", f"Cannot be shown: {error}", class_="missing")
    details = " · ".join(text for text in (_farthest(bend.place), note) if text)
    caption = element(
        "figcaption",
        element("span", element("b", _said(bend.place)), class_="head"),
        element("code", sample.label),
        element("span", details, class_="details"),
    )
    return element("figure", picture, caption, class_="tile")


def _said(place: Place) -> str:
    return f"bent by {place.bent_by:.1f} positions"


def _farthest(place: Place) -> str:
    if place.field is None:
        return ""
    far = float(np.sqrt(np.square(place.field).sum(0)).max())
    return f"{far:.1f} positions at most · {100 * place.confidence:.0f} % sure"


def _key(painter: Painter) -> Html:
    spec = painter.spec
    items = [] if spec.task == "regression" else make_legend(spec, ("label", "prediction"))
    items += [_item("lattice", "M2 7C9 2 19 12 26 7M8 1V13M20 1V13", "grid, bent as the label is")]
    arrow = _item("arrow", "M3 7H25M19 3L25 7L19 11", "how the label is bent")
    style = "key paired" if is_paired(spec) else "key"
    legend = element("ul", *items, arrow, class_="legend", aria_label="Legend")
    return element("div", legend, class_=style)


def _item(style: str, line: str, text: str) -> Html:
    mark = element("path", d=line, class_=style)
    drawing = element("svg", mark, viewBox="0 0 28 14", aria_hidden="true", class_="layers quiver")
    return element("li", drawing, text)
