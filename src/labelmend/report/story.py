"""What a run recorded, as plain numbers that can be put into words and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


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

    ``strong`` and ``weak`` count the labels of the training split, ``groups`` and ``annotators``
    are theirs; ``held_out`` is the number of strong labels in ``val`` and ``test``.
    """

    strong: int
    weak: int
    groups: int
    annotators: tuple[str, ...]
    held_out: Mapping[str, int]
    left_out: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Course:
    """How the training went.

    ``planned`` is ``None`` where the settings count passes instead of steps. ``metric`` is the
    name of the figure in ``held``; larger is better.
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


@dataclass(frozen=True, slots=True)
class Weighing:
    """What the weights of the weak training labels did.

    ``weights`` are the latest ones; ``judged`` counts the labels that were updated at least once;
    ``rounds`` the weight steps. ``used`` says whether weak labels were trained on at all.
    """

    learned: bool
    used: bool
    initial: float
    start: int
    rounds: int = 0
    judged: int = 0
    weights: tuple[float, ...] = ()
    by_annotator: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judgement:
    """One evaluation that lies in the run folder."""

    split: str
    step: int
    samples: int
    mean: Mapping[str, float | None]
    per_class: Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True, slots=True)
class Story:
    """All that the words of a report are made from."""

    data: Data
    course: Course
    weighing: Weighing
    judgements: tuple[Judgement, ...] = ()
