"""The table of how much every sample counts, and what it learned that from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from labelmend.errors import NonFiniteError, SettingsError, ShapeError
from labelmend.losses.valid_positions import type_and_shape
from labelmend.order import order_of
from labelmend.weighting.rules import Limits, Memory, UpdateRule

_MEMORY = "memory/"
_ALWAYS = ("weight", "similarity", "loss", "updated")


@dataclass(slots=True)
class WeightTable:
    """Every sample's weight, by its place in the data set; strong samples stay at 1.

    A weight per sample is ``(samples,)``. Weights per sample and class are ``(samples, classes)``,
    and so are evidence, similarity and loss. Samples with the same ``pool`` share one weight.

    Attributes:
        weight: float64.
        similarity: float64, the latest; NaN before the first.
        loss: float64, the sample's own loss at its latest update; NaN before.
        updated: ``(samples,)`` int64, the training step of the latest update; -1 before.
        learns: ``(samples,)`` bool, True where the weight may change.
        limits: what weights may be.
        pool: ``(samples,)`` int64 from 0 on, or None where each sample is by itself.
        memory: what the update rule remembers, tensors shaped like ``weight`` by name.
        stands_for: ``(samples,)`` int64, whose weight is used for each sample: its own, unless
            the table was shuffled.
        average: the mean of a weight over its updates, where it began before the first. It tells
            labels apart that all ended at 0 or 1: rank labels by it.
        looks: ``(samples,)`` int64, updates of each weight so far.
        earlier: the weights before the latest update; None before the first.
        rounds: updates so far.

    >>> from labelmend.weighting.rules import normalised
    >>> table = WeightTable.start(torch.tensor([True, False]), initial=0.5)
    >>> table.update(torch.tensor([1]), torch.tensor([2.0]), normalised, rate=0.1)
    >>> table.weight
    tensor([1.0000, 0.6000], dtype=torch.float64)
    """

    weight: Tensor
    similarity: Tensor
    loss: Tensor
    updated: Tensor
    learns: Tensor
    average: Tensor
    looks: Tensor
    limits: Limits = field(default_factory=Limits)
    pool: Tensor | None = None
    memory: Memory = field(default_factory=dict)
    stands_for: Tensor | None = None
    earlier: Tensor | None = None
    rounds: int = 0

    @classmethod
    def start(
        cls,
        strong: Tensor,
        initial: float | Tensor,
        *,
        limits: Limits | None = None,
        classes: int | None = None,
        pool: Tensor | None = None,
        shuffled: int | None = None,
    ) -> WeightTable:
        """A table in which weak samples begin at ``initial``.

        Args:
            strong: ``(samples,)`` bool.
            initial: of all weak samples, or ``(samples,)``, one for each.
            limits: by default weights from 0 to 1.
            classes: a weight for every class of a sample, so many.
            pool: ``(samples,)`` int64, the same number for samples that share a weight: at
                first the mean of what each would begin at. Strong samples share none.
            shuffled: a seed; training then uses for every learning sample the weight of another,
                and what is gained over that is what the weights know.

        Raises:
            ShapeError: where shapes or types do not fit.
            NonFiniteError: for a weight to begin at that is NaN or infinite.
        """
        limits = limits or Limits()
        given = torch.as_tensor(initial, dtype=torch.float64)
        _check_start(strong, given, pool)
        given = given.expand(strong.shape)
        if pool is not None:
            pool = _numbered(pool, ~strong)
            given = _means(pool, given)[pool]
        weight = torch.where(strong, 1.0, given)
        if classes is not None:
            weight = weight.unsqueeze(1).repeat(1, classes)
        unknown = torch.full_like(weight, torch.nan)
        never = torch.full(strong.shape, -1, dtype=torch.int64)
        stands_for = None if shuffled is None else _shuffle(~strong, shuffled)
        weight[~strong] = limits.project(weight[~strong])
        return cls(
            weight,
            similarity=unknown,
            loss=unknown.clone(),
            updated=never,
            learns=~strong,
            average=weight.clone(),
            looks=torch.zeros_like(never),
            limits=limits,
            pool=pool,
            stands_for=stands_for,
        )

    @property
    def overall(self) -> Tensor:
        """``(samples,)`` one weight for every sample: the mean over its classes where it has many.

        >>> WeightTable.start(torch.tensor([False]), 0.5, classes=3).overall
        tensor([0.5000], dtype=torch.float64)
        """
        return _over_classes(self.weight)

    @property
    def mean_of_weak(self) -> float:
        """What weak training samples count in the mean, over classes too; 1 where there are none.

        >>> WeightTable.start(torch.tensor([True, False, False]), 0.5).mean_of_weak
        0.5
        """
        return self.weight[self.learns].mean().item() if self.learns.any() else 1.0

    @property
    def overall_average(self) -> Tensor:
        """:attr:`average`, one for every sample as :attr:`overall`."""
        return _over_classes(self.average)

    @property
    def earlier_overall(self) -> Tensor:
        """:attr:`overall` as it was before the latest update."""
        return self.overall if self.earlier is None else _over_classes(self.earlier)

    def drawn_by(self, rounds: int) -> Tensor:
        """``(samples,)`` the weights by which samples are drawn, as they stood after ``rounds``.

        Only the latest two rounds are known: loading draws ahead of training, and what it draws
        must not depend on how far ahead.

        Raises:
            SettingsError: for a round that is not known.
        """
        if rounds not in (self.rounds, self.rounds - 1):
            raise SettingsError(
                f"of {self.rounds} updates the latest two are known, not the weights after "
                f"{rounds}; draw fewer steps ahead"
            )
        weight = self.overall if rounds == self.rounds else self.earlier_overall
        return weight if self.stands_for is None else weight[self.stands_for]

    def used(self, index: Tensor) -> Tensor:
        """What training multiplies the samples at ``index`` with: ``(batch,)`` or by class."""
        return self.weight[index if self.stands_for is None else self.stands_for[index]]

    def update(self, index: Tensor, evidence: Tensor, rule: UpdateRule, rate: float) -> None:
        """Move the weights of the samples at ``index`` by a rule; γ ← γ + rate · move.

        Args:
            index: ``(updated,)`` places of samples, whole numbers, each once; strong ones are
                passed over.
            evidence: ``(updated,)`` or ``(updated, classes)``; above 0 speaks for a label.
            rule: see :mod:`labelmend.weighting.rules`.
            rate: β.

        Raises:
            NonFiniteError: when evidence or rate is NaN or infinite; nothing has changed then.
            SettingsError: for a rule that is no function.
            ShapeError: when a sample comes twice or is not in the table, or evidence does not fit.
        """
        self._check(index, evidence)
        if not callable(rule):
            raise SettingsError(
                f"a rule is a function, such as labelmend.weighting.rules.normalised, not {rule!r}"
            )
        if not math.isfinite(rate):
            raise NonFiniteError(f"the rate of an update must be a number, not {rate}")
        index = index.long()
        weak = self.learns[index]
        # A weight is a fact of the table: what it was found by must not stay behind it.
        index, evidence = index[weak], evidence.detach()[weak].to(self.weight)
        if not len(index):  # a step all the same: what is drawn by weight goes by their number
            self.earlier, self.rounds = self.weight, self.rounds + 1
            return
        if self.pool is not None:
            index, evidence = _pooled(self.pool, index, evidence)
        rows = {name: values[index] for name, values in self.memory.items()}
        move, rows = rule(evidence, rows)
        blank = torch.zeros_like(self.weight)
        kept = {n: self.memory.get(n, blank).index_copy(0, index, v) for n, v in rows.items()}
        weight = self.weight.index_add(0, index, rate * move)
        weight[self.learns] = self.limits.project(weight[self.learns])
        self.memory, self.earlier, self.weight = kept, self.weight, weight
        self.looks = self.looks.index_add(0, index, torch.ones_like(index))
        looks = self.looks[index].reshape(-1, *(1,) * (weight.ndim - 1))
        drift = (weight[index] - self.average[index]) / looks
        self.average = self.average.index_add(0, index, drift)
        self.rounds += 1

    def note(self, index: Tensor, similarity: Tensor, loss: Tensor, step: int) -> None:
        """Remember what the latest update of the samples at ``index`` rested on, and when."""
        self.similarity[index] = similarity.detach().to(self.similarity)
        self.loss[index] = loss.detach().to(self.loss)
        self.updated[index] = step

    def state(self) -> dict[str, Tensor]:
        """Everything that a checkpoint must keep, as it is now."""
        live = {
            "weight": self.weight,
            "similarity": self.similarity,
            "loss": self.loss,
            "updated": self.updated,
            "average": self.average,
            "looks": self.looks,
            "rounds": torch.tensor(self.rounds),
            **({} if self.earlier is None else {"earlier": self.earlier}),
            **{_MEMORY + name: values for name, values in self.memory.items()},
        }
        return {name: values.clone() for name, values in live.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go back to a saved :meth:`state`, to the bit, on the device where the table is.

        Raises:
            ShapeError: for the state of another table; nothing has changed then.
        """
        like = {"updated": self.updated, "looks": self.updated}
        known = (*_ALWAYS, "average", "looks", "earlier")
        whole = {n: v for n, v in state.items() if n in known or n.startswith(_MEMORY)}
        for name in dict.fromkeys((*_ALWAYS, *whole)):
            wanted = tuple(like.get(name, self.weight).shape)
            found = tuple(whole[name].shape) if name in whole else "missing"
            if found != wanted:
                raise ShapeError(
                    f"this is the state of another table: {name!r} must be {wanted}, "
                    f"here it is {found}"
                )
        kept = {n: v.detach().to(like.get(n, self.weight), copy=True) for n, v in whole.items()}
        self.weight, self.similarity, self.loss, self.updated = (kept[name] for name in _ALWAYS)
        self.average = kept.get("average", self.weight.clone())
        self.looks = kept.get("looks", torch.zeros_like(self.updated))
        self.rounds = int(state.get("rounds", 0))
        self.earlier = kept.get("earlier")
        self.memory = {
            name.removeprefix(_MEMORY): values
            for name, values in kept.items()
            if name.startswith(_MEMORY)
        }

    def check_places(self, index: Tensor) -> None:
        """Refuse samples that are not in the table.

        Raises:
            ShapeError: naming the first places that are outside.
        """
        outside = index[(index < 0) | (index >= len(self.weight))].tolist()
        if outside:
            more = f" and {len(outside) - 5} more" if len(outside) > 5 else ""
            raise ShapeError(
                f"the table has places 0 to {len(self.weight) - 1}, not {outside[:5]}{more}; an "
                "index is the place of a sample in the table"
            )

    def _check(self, index: Tensor, evidence: Tensor) -> None:
        for name, values in (("index", index), ("evidence", evidence)):
            if not isinstance(values, Tensor):
                raise ShapeError(f"{name} must be a tensor, not a {type(values).__name__}")
        if index.ndim != 1 or index.dtype == torch.bool or index.is_floating_point():
            raise ShapeError(
                f"index must be places (updated,), whole numbers, not {type_and_shape(index)}; "
                "of a mask they are mask.nonzero().flatten()"
            )
        self.check_places(index)
        if evidence.shape != self.weight[index].shape:
            raise ShapeError(
                f"evidence for {tuple(self.weight[index].shape)} weights is wanted, "
                f"got {tuple(evidence.shape)}"
            )
        if len(set(index.tolist())) != len(index):
            raise ShapeError("a sample's weight moves once per update; an index comes twice")
        if not torch.isfinite(evidence).all():
            bad = index[~torch.isfinite(evidence).reshape(len(index), -1).all(1)].tolist()
            raise NonFiniteError(f"the evidence for samples {bad} is NaN or infinite")


def _check_start(strong: Tensor, initial: Tensor, pool: object) -> None:
    if not isinstance(strong, Tensor) or strong.dtype != torch.bool or strong.ndim != 1:
        found = type_and_shape(strong) if isinstance(strong, Tensor) else type(strong).__name__
        raise ShapeError(
            f"strong must be a bool tensor (samples,), True where a label is trusted, not {found}"
        )
    if initial.shape not in ((), strong.shape):
        raise ShapeError(
            f"initial must be one weight or {tuple(strong.shape)}, one for every sample, strong "
            f"ones too, not {tuple(initial.shape)}"
        )
    if not initial.isfinite().all():
        raise NonFiniteError("a weight to begin at is NaN or infinite")
    whole = isinstance(pool, Tensor) and not pool.is_floating_point() and pool.dtype != torch.bool
    if pool is not None and not (whole and pool.shape == strong.shape):  # type: ignore[attr-defined]
        raise ShapeError(
            f"pool must be whole numbers {tuple(strong.shape)}, one for every sample; of names "
            "labelmend.weighting.weights.pool_by makes them"
        )


def _over_classes(weight: Tensor) -> Tensor:
    return weight if weight.ndim == 1 else weight.mean(1)


def pool_by(names: list[str], learns: Tensor) -> Tensor:
    """``(samples,)`` int64: the same number for learning samples of the same name.

    A sample without a name, and one whose weight does not learn, stays by itself.

    >>> pool_by(["ann", "", "ann", "bob"], torch.tensor([True, True, True, True]))
    tensor([0, 1, 0, 3])
    """
    first: dict[str, int] = {}
    places = [
        first.setdefault(name, place) if name and learn else place
        for place, (name, learn) in enumerate(zip(names, learns.tolist(), strict=True))
    ]
    return torch.tensor(places, dtype=torch.int64)


def _shuffle(learns: Tensor, seed: int) -> Tensor:
    """Every place its own, those that learn in an order that only the seed decides."""
    places = torch.nonzero(learns).flatten()
    order = torch.arange(len(learns))
    order[places] = places[torch.from_numpy(order_of(seed, len(places)))]
    return order


def _numbered(pool: Tensor, learns: Tensor) -> Tensor:
    """The same pools counted from 0, each sample that does not learn in one of its own."""
    # By name first: the numbers given may be the largest there are.
    _, names = np.unique(pool.numpy(), return_inverse=True)
    own = len(pool) + np.arange(len(pool))
    _, numbers = np.unique(np.where(learns.numpy(), names, own), return_inverse=True)
    return torch.from_numpy(numbers.reshape(-1))


def _pooled(pool: Tensor, index: Tensor, evidence: Tensor) -> tuple[Tensor, Tensor]:
    """The mean evidence of every pool that was judged, for each of its members."""
    members = torch.nonzero(torch.isin(pool, pool[index])).flatten()
    return members, _means(pool[index], evidence, len(pool))[pool[members]]


def _means(place: Tensor, values: Tensor, length: int | None = None) -> Tensor:
    """The mean of the values at each place, ``(length, ...)``; 0 where there are none."""
    sums = values.new_zeros((length or len(place), *values.shape[1:]))
    count = torch.bincount(place, minlength=len(sums)).clamp(min=1).to(values)
    return sums.index_add(0, place, values) / count.reshape(-1, *(1,) * (values.ndim - 1))
