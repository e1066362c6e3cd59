"""Named starting points: the method, what people would do without it, and a document's letter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labelmend.errors import unknown


def weighted() -> dict[str, Any]:
    """The defaults: half of every batch strong labels, half weak ones, which learn their weights.

    The end of training is tried with and without weak labels, and the better one is kept.

    Take it unless you know better, and one of the others beside it to compare.

    >>> weighted()
    {}
    """
    return {}


def pooled() -> dict[str, Any]:
    """All labels alike: every one counts 1, and batches are drawn without asking which is strong.

    Take it for what people do who do not know which labels are good, and where none is strong.

    >>> pooled()["batch"]
    {'strong_share': None, 'ending': 'as_is'}
    """
    return {
        "weighting": {"method": "constant", "initial": 1.0},
        "batch": {"strong_share": None, "ending": "as_is"},
    }


def strong_only() -> dict[str, Any]:
    """Weak labels are never seen.

    Take it to learn whether they are worth having: where this does best, they are not.

    >>> strong_only()["batch"]
    {'strong_share': 1.0}
    """
    return {"weighting": {"method": "constant"}, "batch": {"strong_share": 1.0}}


def plain() -> dict[str, Any]:
    """Every label counts 1, and half of every batch is strong.

    Take it beside ``weighted`` to see what learned weights do by themselves: all else is equal.

    >>> plain()["weighting"]
    {'method': 'constant', 'initial': 1.0}
    """
    return {"weighting": {"method": "constant", "initial": 1.0}}


def seed_a() -> dict[str, Any]:
    """The method of the first patent document (seed A) in full: weights, mixed images, two models.

    Weights count in the sampler and in the loss, as its paragraph 77 and equation 11 say together:
    the first image of a pair is drawn by weight out of all samples (a strong one weighs 1), the
    second uniformly, and either network sees one of the two. How a label is judged is ours: fit,
    and similarity over curvature.

    Take it to repeat the document. It costs two networks, and a weight counts twice: in how often
    a label is drawn, and in how much it then says.

    >>> seed_a()["weighting"], seed_a()["dual"]
    ({'use': 'both'}, {'use': True, 'both': False})
    """
    return {
        "weighting": {"use": "both"},
        "batch": {"strong_share": None, "ending": "as_is"},
        "mixing": {"use": True},
        "dual": {"use": True, "both": False},
    }


PRESETS: dict[str, Callable[[], dict[str, Any]]] = {
    make.__name__: make for make in (weighted, pooled, strong_only, plain, seed_a)
}
"""Every preset by its name."""


def preset(name: str) -> dict[str, Any]:
    """The settings of a named starting point, to lay others over.

    >>> preset("strong_only")["batch"]
    {'strong_share': 1.0}
    """
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]()
