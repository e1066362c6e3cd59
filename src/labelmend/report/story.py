"""What a run recorded, as plain numbers that can be put into words and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain

from labelmend.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Curve:
    """A number that was recorded at some steps, in their order.

    >>> Curve((1, 2), (0.5, 0.25)).last
    0.25
    """

    steps: tuple[int, ...] = ()
    values: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def last(self) -> float:
        """The number at the last step."""
        return self.values[-1]

    @property
    def best(self) -> tuple[int, float]:
        """Step and value of the largest number, the earliest of equal ones."""
        place = max(range(len(self)), key=lambda i: (self.values[i], -i))
        return self.steps[place], self.values[place]


@dataclass(frozen=True, slots=True)
class Data:
    """What was trained on and what was kept aside.

    ``strong`` and ``weak`` count the labels that were trained on, ``groups`` and ``annotators``
    are those of the training split; ``held_out`` is the number of strong labels in ``val`` and
    ``test``.
    """

    strong: int
    weak: int
    groups: int
    annotators: tuple[str, ...]
    held_out: Mapping[str, int]
    left_out: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Endings:
    """Two endings that were tried from one point, and which was kept.

    Attributes:
        fork: the step that both began after.
        length: steps of each.
        as_is: the figure on held-out labels of the one with weak labels.
        strong: that of the one on strong labels alone.
        kept: ``as_is`` or ``strong``.
        trust: what weak labels counted in the mean when one was chosen; None in older runs.
    """

    fork: int
    length: int
    as_is: float | None
    strong: float | None
    kept: str
    trust: float | None = None


@dataclass(frozen=True, slots=True)
class Course:
    """How the training went.

    ``planned`` is ``None`` where the settings count passes instead of steps. ``metric`` is the
    name of the figure in ``held``; larger is better. Of two endings, curves are of the one that
    was kept; ``steps`` and ``seconds`` are of both.
    """

    steps: int
    planned: int | None
    seconds: float | None
    metric: str
    patience: int | None = None
    loss: Curve = Curve()
    loss_strong: Curve = Curve()
    loss_weak: Curve = Curve()
    held: Curve = Curve()
    rate: Curve = Curve()
    endings: Endings | None = None


@dataclass(frozen=True, slots=True)
class Method:
    """How weights were to be learned and used, as settings and facts of the run have it.

    Attributes:
        learned: False for constant weights.
        signal: what speaks for a label; empty where an older run meant another thing by it.
        per: what has a weight of its own: ``sample``, ``class``, ``annotator`` or ``group``.
        use: where weights count: ``loss``, ``sampler`` or ``both``.
        apart: whether strong and weak labels have places of their own in every batch.
        highest: the largest weight.
        band: in which the mean of all weights is held.
        given: whether initial weights came from a file.
        shuffled: whether training used the weights in another order.
        held_out: strong labels that weight steps saw and training did not.
        start: the step of the first weight step, and ``every`` how many steps later the next.
        judged: weak labels looked at in every weight step.
        cost: of all weight steps, as a share of training.
    """

    learned: bool = True
    signal: str = ""
    per: str = "sample"
    use: str = "loss"
    apart: bool = True
    highest: float = 1.0
    band: tuple[float, float] | None = None
    given: bool = False
    shuffled: bool = False
    held_out: int = 0
    start: int | None = None
    every: int | None = None
    judged: int | None = None
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class Weighing:
    """What the weights of the weak training labels did.

    Attributes:
        method: how they were learned.
        used: whether weak labels were trained on at all.
        rounds: weight steps.
        began: the weight of every label before the first of them.
        weights: the latest one; the mean over classes where each has its own.
        looks: how often each label was judged.
        moved: whether its weight changed, which takes no look where weights are shared.
        by_class: the latest weights of every class, where each has its own.
        parts: the latest weights of every annotator, or group, and ``by`` which of the two.
        agreement: how far two halves of the strong labels wanted the same step.
        notes: what weight steps said of themselves.
    """

    method: Method
    used: bool
    rounds: int = 0
    began: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()
    looks: tuple[int, ...] = ()
    moved: tuple[bool, ...] = ()
    by_class: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    by: str = ""
    parts: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    agreement: Curve = Curve()
    notes: tuple[str, ...] = ()

    @property
    def pooled(self) -> bool:
        """Whether labels share weights."""
        return self.method.per in ("annotator", "group")

    @property
    def all_weights(self) -> tuple[float, ...]:
        """All weights there are: of labels, or of their classes one after the other."""
        return tuple(chain(*self.by_class.values())) or self.weights


@dataclass(frozen=True, slots=True)
class Mixing:
    """How training on mixed images went.

    Attributes:
        two: whether two networks taught each other.
        predicted: whether predictions were taught, and not the labels, mixed alike.
        trusted: whether strong labels stood in the place of predictions.
        averaged: whether those of averages of the networks.
        gate: the least probability at which a position was taught.
        loss: of mixed images.
        gated: share of positions that the gate left out.
        gain: where pseudo-label and pupil differ, how much more often the pseudo-label is right.
        disagreement: share of objects over which the two networks differ.
    """

    two: bool = False
    predicted: bool = False
    trusted: bool = False
    averaged: bool = False
    gate: float = 0.0
    loss: Curve = Curve()
    gated: Curve = Curve()
    gain: Curve = Curve()
    disagreement: Curve = Curve()


@dataclass(frozen=True, slots=True)
class Judgement:
    """One evaluation that lies in the run folder."""

    split: str
    step: int
    samples: int
    mean: Mapping[str, float | None]
    per_class: Mapping[str, Mapping[str, float | None]]
    sentences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Story:
    """All that the words of a report are made from."""

    data: Data
    course: Course
    weighing: Weighing
    judgements: tuple[Judgement, ...] = ()
    mixing: Mixing | None = None
    verdict: Verdict | None = None
