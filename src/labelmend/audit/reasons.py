"""Why a label stands where it stands, in words."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from labelmend.audit.evidence import Evidence
from labelmend.audit.ranking import Standing

_SPOKEN = 0.25
"""Log-odds below which something is not worth a word."""
_DOUBTFUL = 0.5
"""Log-odds against a label, its prior aside, from which on an annotator's label is doubtful."""
_WORDS = {
    "empty": "the label is empty, the prediction is not",
    "missed": "nothing of the label is predicted",
    "nothing": "label and prediction are both empty",
    "unsaid": "the label says nothing about any position",
}
_DIRECTIONS: dict[int, tuple[tuple[str, str], ...]] = {
    1: (("later", "earlier"),),
    2: (("down", "up"), ("right", "left")),
}


def explain(
    evidence: Sequence[Evidence], standings: Sequence[Standing], regression: bool
) -> list[str]:
    """One line for every standing, with all that speaks clearly against it.

    >>> from labelmend.audit.ranking import rank
    >>> from labelmend.types import Sample
    >>> known = [Evidence(Sample("i", "a", "weak", "train", "g"), 0.75, displacement=(6.0, 0.0),
    ...                   confidence=0.98, explained=0.5)]
    >>> explain(known, rank(known), False)
    ['lies 6 positions off (move it down 6), 98 % sure; prediction and label overlap by 25 %']
    """
    company = _company(evidence, standings)
    return [
        _line(evidence, one, company.get(one.index, ""), regression=regression) for one in standings
    ]


def _line(evidence: Sequence[Evidence], one: Standing, company: str, *, regression: bool) -> str:
    own = evidence[one.index]
    texts = {  # what a person can check at once comes first
        "displacement": _displacement(own),
        "disagreement": _overlap(own, regression),
        "others": _others(own, regression),
        "weight": _weight(own),
        "annotator": company,
    }
    loud = [name for name, text in texts.items() if text and one.terms[name] >= _SPOKEN]
    said = [texts[name] for name in loud] or _quiet(own, texts)
    if texts["disagreement"] and loud and "disagreement" not in loud:
        said.append(texts["disagreement"])
    if loud and "weight" not in loud:
        said.append(_still_used(own))
    if own.sample.quality == "strong" and loud:
        said.insert(0, "a strong label")
    if one.like is not None:
        said.insert(0, f"like {evidence[one.like].sample.label} above it")
    return " ".join("; ".join(text for text in said if text).split())


def _quiet(own: Evidence, texts: Mapping[str, str]) -> list[str]:
    """Of a label that nothing speaks against: what there is to say."""
    if not texts["disagreement"]:
        return ["nothing to compare it with"]
    weight = "" if own.average is None or own.weight is None else f"; weight {own.weight:.2f}"
    return [texts["disagreement"] + weight]


def _overlap(own: Evidence, regression: bool) -> str:
    if own.remark or own.disagreement is None:
        return _WORDS.get(own.remark, "")
    if regression:
        times = own.disagreement / (1 - own.disagreement) if own.disagreement < 1 else math.inf
        return f"prediction and label differ by {times:.2g} times the usual spread of labels"
    if own.disagreement == 1:
        return "prediction and label have nothing in common"
    return f"prediction and label overlap by {100 * (1 - own.disagreement):.0f} %"


def _others(own: Evidence, regression: bool) -> str:
    if own.others is None:
        return ""
    of = f"{own.fellows} other label{'s' * (own.fellows != 1)} of this image"
    if regression:
        return f"it differs from {of}"
    return f"it overlaps with {of} by {100 * (1 - own.others):.0f} %"


def _weight(own: Evidence) -> str:
    if own.weight is None or own.average is None:
        return ""
    now = _latest(own)
    if _counts(own):
        return f"weight {now}, but {own.average:.2f} on average"
    fell = own.began is not None and own.weight < own.began - 0.005
    return f"weight {'fell to ' * fell}{now}"


def _still_used(own: Evidence) -> str:
    """What makes a doubtful label do harm."""
    return f"still counts (weight {_latest(own)})" if _counts(own) else ""


def _counts(own: Evidence) -> bool:
    """Whether its weight is known, and more than half of what there can be."""
    return own.weight is not None and 2 * own.weight > own.highest


def _latest(own: Evidence) -> str:
    of = "" if own.highest == 1 else f" of {own.highest:g}"
    return f"{own.weight:.2f}{of}"


def _displacement(own: Evidence) -> str:
    if not own.moves or own.displacement is None:
        return ""
    there = [round(v, 1) for v in own.displacement]
    dims = len(there)
    if dims in _DIRECTIONS:
        names = zip(there, _DIRECTIONS[dims], strict=True)
        ways = [f"{ways[v < 0]} {abs(v):g}" for v, ways in names if v]
    else:
        ways = [f"{v:+g} along axis {axis}" for axis, v in enumerate(there) if v]
    far = f"{round(math.hypot(*there), 1):g}"
    sure = math.floor(100 * (own.confidence or 0.0))
    many = f"{far} position{'s' * (far != '1')}"
    return f"lies {many} off (move it {', '.join(ways)}), {sure} % sure"


def _company(evidence: Sequence[Evidence], standings: Sequence[Standing]) -> dict[int, str]:
    """What is to be said of each label's annotator: how many of the others are doubtful.

    Doubtful is what disagrees more than is usual, or has lost weight, or lies elsewhere.
    """
    doubtful: dict[str, dict[int, bool]] = defaultdict(dict)
    for one in standings:
        who = evidence[one.index].sample.annotator
        if who:
            against = sum(v for name, v in one.terms.items() if name not in ("prior", "annotator"))
            doubtful[who][one.index] = against > _DOUBTFUL
    said = {}
    for who, known in doubtful.items():
        total, many = sum(known.values()), len(known)
        for index, own in known.items():
            if many > 1:
                said[index] = (
                    f"annotator {who}: {total - own} of {many - 1} other labels are doubtful"
                )
    return said
