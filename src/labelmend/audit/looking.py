"""Look at every label of a run with its network: how far they disagree, and what explains it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from labelmend.audit.alike import Print, take_print
from labelmend.audit.evidence import Evidence, Remark
from labelmend.audit.fellows import Fellows, distance
from labelmend.audit.history import read_courses, read_places
from labelmend.data.grid import Grid
from labelmend.errors import SettingsError
from labelmend.files.readers import load_verified, read_label
from labelmend.inference.fix import Opened, moved_case, open_sample
from labelmend.inference.offsets import Case
from labelmend.inference.places import Place, mean_shift
from labelmend.inference.predictor import Predictor
from labelmend.inference.search import Search, make_search
from labelmend.progress import Watcher, go_through
from labelmend.types import DataSpec, Sample


@dataclass(frozen=True, slots=True)
class Seen:
    """What is kept of one label after looking at it.

    Attributes:
        sample: the label.
        apart: how far prediction and label are from each other: 1 - mean Dice, or in regression
            the mean absolute error; None where there is nothing to compare.
        spread: in regression, how far the label's values are from their median, on average.
        remark: as in :class:`Evidence`.
        place: where it belongs, in positions of ``grid``; None where nobody could look.
        grid: the grid of the network.
        print: small copies, to find others like it.
    """

    sample: Sample
    apart: float | None
    spread: float
    remark: Remark
    place: Place | None
    grid: Grid
    print: Print


def look(predictor: Predictor, watcher: Watcher) -> tuple[list[Evidence], list[Print], list[str]]:
    """What speaks for looking at each label, in the order of the data set.

    Returns:
        The evidence, small copies of all cases, and sentences on what could not be found out.

    Raises:
        DataError: when a file is gone or changed since training.
        NonFiniteError: when an image cannot be predicted, naming it.
    """
    predictor.run.data_folder()
    looking = _Looking(predictor)
    # Labels of one image one after the other: it is predicted once.
    samples = sorted(predictor.run.data.samples, key=lambda sample: sample.image)
    go_through(samples, looking.add, watcher)
    explained, others = looking.explain(watcher), looking.others()
    number = {sample.id: place for place, sample in enumerate(predictor.run.data.samples)}
    seen = sorted(looking.seen, key=lambda one: number[one.sample.id])
    evidence = _evidence(predictor, seen, looking.offset(), explained, others)
    return evidence, [one.print for one in seen], looking.notes


class _Looking:
    """Looks at one label after the other."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.seen: list[Seen] = []
        self.notes: list[str] = []
        self._known = read_places(predictor.run)
        self._search = self._make_search()
        self._opened: tuple[str, Opened] | None = None
        self._explained: dict[str, float] = {}
        self._fellows = Fellows(predictor.spec)

    def _make_search(self) -> Search | None:
        try:
            return make_search(self.predictor.run, "shift", self.predictor.device)
        except SettingsError as error:
            self.notes.append(f"where labels belong was not looked for: {error}")
            return None

    def add(self, sample: Sample) -> None:
        """Look at a label."""
        opened, spec = self._open(sample), self.predictor.spec
        case = opened.case(self.predictor)
        apart, spread, remark = compare(case, spec)
        place = self._place(sample, opened)
        image, content = opened.raster.array, sample.image_sha256 or sample.image
        taken = take_print(content, image, opened.label, opened.valid, spec)
        one = Seen(sample, apart, spread, remark, place, opened.grid, taken)
        self.seen.append(one)
        self._fellows.add(sample, opened.label, opened.valid)
        if not self._centred:
            self._explain(one, case)

    def explain(self, watcher: Watcher) -> dict[str, float]:
        """How much of what a label is apart goes away in its place, by label, for those that move.

        Where the mean of all shifts is held at zero, that is known only now, and takes one more
        look at them.
        """
        if self._centred:
            offset = self.offset()
            moving = [one for one in self.seen if _moves(one, offset)]

            def again(one: Seen) -> None:
                self._explain(one, self._open(one.sample).case(self.predictor))

            go_through(moving, again, watcher)
        return self._explained

    def others(self) -> dict[str, tuple[float, int]]:
        """How far labels are from the others of their images, and how many those are."""
        return self._fellows.found()

    def offset(self) -> np.ndarray | None:
        """By how much less than was found all labels move; None where their mean is not held."""
        if not self._centred:
            return None
        weak = [one.place for one in self.seen if one.sample.quality == "weak" and one.place]
        return mean_shift(weak, self.predictor.spec.dims)

    @property
    def _centred(self) -> bool:
        return self._search is not None and self._search.centred

    def _open(self, sample: Sample) -> Opened:
        """A sample read and predicted; another label of the image before takes reading only."""
        if self._opened is not None and self._opened[0] == sample.image:
            before = self._opened[1]
            path = Path(self.predictor.run.data.root) / sample.label
            content = load_verified(path, sample.label_sha256)
            label, valid = read_label(path, self.predictor.spec, before.raster, content=content)
            return replace(before, label=label, valid=valid)
        opened = open_sample(self.predictor, sample)
        self._opened = sample.image, opened
        return opened

    def _place(self, sample: Sample, opened: Opened) -> Place | None:
        if sample.id in self._known:
            return self._known[sample.id]
        if self._search is None:
            return None
        return self._search.decide(self._search.evidence(*opened.compared(self.predictor)))

    def _explain(self, one: Seen, case: Case) -> None:
        place = in_file(one, self.offset())
        if place is None or not place.moves or one.apart is None:
            return
        after, _, _ = compare(moved_case(case, place), self.predictor.spec)
        self._explained[one.sample.id] = 0.0 if after is None else one.apart - after


def in_file(one: Seen, offset: np.ndarray | None) -> Place | None:
    """Where a label belongs, in positions of the file; None where that is not clear."""
    if one.place is None or not one.place.clear:
        return None
    place = one.place if offset is None else one.place.less(offset)
    return place.in_file(one.grid)


def compare(case: Case, spec: DataSpec) -> tuple[float | None, float, Remark]:
    """How far a prediction and a label are apart, the spread of the label's values, and a remark.

    >>> label, scores = np.array([0, 1, 1]), np.eye(2)[:, [0, 1, 0]]
    >>> spec = DataSpec("segmentation", ("a", "b"), (0, 1), None, 1, 1, "none", ".npy")
    >>> apart, _, remark = compare(Case(scores, label, label < 2), spec)
    >>> round(apart, 3), remark
    (0.333, '')
    """
    valid = case.valid
    if not valid.any():
        return None, 0.0, "unsaid"
    if spec.task == "regression":
        label = case.label[:, valid].astype(np.float64)
        middle = np.median(label, axis=1, keepdims=True)
        return (
            distance(case.scores, case.label, valid, spec),
            float(np.abs(label - middle).mean()),
            "",
        )
    found = case.scores.argmax(0)
    said, claimed = (bool((array[valid] > 0).any()) for array in (found, case.label))
    if not said and not claimed:
        return None, 0.0, "nothing"
    remark: Remark = "" if said and claimed else "empty" if said else "missed"
    return distance(found, case.label, valid, spec), 0.0, remark


def _evidence(
    predictor: Predictor,
    seen: Sequence[Seen],
    offset: np.ndarray | None,
    explained: dict[str, float],
    others: dict[str, tuple[float, int]],
) -> list[Evidence]:
    run = predictor.run
    courses, highest = read_courses(run), run.settings.weighting.highest
    regression = predictor.spec.task == "regression"
    spread = statistics.median(one.spread for one in seen) if regression else 0.0
    found = []
    for one in seen:
        place, gained = in_file(one, offset), explained.get(one.sample.id, 0.0)
        apart, (odd, many) = one.apart, others.get(one.sample.id, (None, 0))
        if regression:
            odd = None if odd is None else _share(odd, spread)
            if apart is not None:
                gained = _share(apart, spread) - _share(apart - gained, spread)
                apart = _share(apart, spread)
        evidence = Evidence(
            one.sample,
            apart,
            one.remark,
            odd,
            many,
            displacement=None if place is None else tuple(place.displacement.tolist()),
            confidence=None if place is None else place.confidence,
            explained=gained,
            highest=highest,
        )
        course = courses.get(one.sample.id)
        if course is not None:
            names = ("weight", "average", "began", "loss")
            evidence = replace(evidence, **{name: getattr(course, name) for name in names})
        found.append(evidence)
    return found


def _share(error: float, spread: float) -> float:
    """An error as a share of itself and the usual spread."""
    return error / (error + spread) if error > 0 else 0.0


def _moves(one: Seen, offset: np.ndarray | None) -> bool:
    place = in_file(one, offset)
    return place is not None and place.moves
