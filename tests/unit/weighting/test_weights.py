from __future__ import annotations

import copy

import pytest
import torch

from labelmend.errors import NonFiniteError, SettingsError, ShapeError
from labelmend.weighting.rules import RULES, Limits, adam, centred, normalised, plain
from labelmend.weighting.weights import WeightTable, pool_by

STRONG = torch.tensor([True, False, False, True, False, False])
WEAK = torch.nonzero(~STRONG).flatten()
EVERY = torch.arange(6)


def tensor(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def table(initial=0.5, **options) -> WeightTable:
    return WeightTable.start(STRONG, initial, **options)


def worked(rounds: int = 3, rule=adam, **options) -> WeightTable:
    """A table after some updates of some of its samples."""
    found = table(**options)
    generator = torch.Generator().manual_seed(1)
    for number in range(rounds):
        index = WEAK[torch.randperm(4, generator=generator)[:3]]
        evidence = torch.randn((3, *found.weight.shape[1:]), generator=generator)
        found.update(index, evidence, rule, 0.05)
        found.note(index, evidence, evidence.abs(), step=10 + number)
    return found


def same(one: WeightTable, other: WeightTable) -> None:
    torch.testing.assert_close(one.state(), other.state(), rtol=0, atol=0, equal_nan=True)


# ---------------------------------------------------------------------- the beginning


def test_weak_samples_begin_where_they_are_told_and_strong_ones_at_1() -> None:
    assert table(0.3).weight.tolist() == [1, 0.3, 0.3, 1, 0.3, 0.3]
    each = tensor([0.9, 0.1, 0.2, 0.9, 0.3, 5.0])
    assert table(each).weight.tolist() == [1, 0.1, 0.2, 1, 0.3, 1.0]
    assert table(each, limits=Limits(2.0)).weight.tolist() == [1, 0.1, 0.2, 1, 0.3, 2.0]
    assert each.tolist() == [0.9, 0.1, 0.2, 0.9, 0.3, 5.0]


def test_every_class_begins_where_its_sample_does() -> None:
    found = table(tensor([0.9, 0.1, 0.2, 0.9, 0.3, 0.4]), classes=3)
    assert found.weight.shape == found.similarity.shape == found.loss.shape == (6, 3)
    assert found.weight.T.tolist() == [[1, 0.1, 0.2, 1, 0.3, 0.4]] * 3
    torch.testing.assert_close(found.overall, tensor([1, 0.1, 0.2, 1, 0.3, 0.4]))


def test_the_mean_is_in_its_band_from_the_beginning() -> None:
    found = table(tensor([0.9, 0.1, 0.2, 0.9, 0.3, 0.4]), limits=Limits(1.0, (0.5, 0.6)))
    torch.testing.assert_close(found.weight[WEAK], tensor([0.35, 0.45, 0.55, 0.65]))
    assert found.weight[STRONG].tolist() == [1, 1]


def test_nothing_is_known_before_the_first_update() -> None:
    found = table()
    assert found.similarity.isnan().all() and found.loss.isnan().all()
    assert found.updated.tolist() == [-1] * 6 and found.rounds == 0 and found.earlier is None
    assert torch.equal(found.earlier_overall, found.overall)


# ---------------------------------------------------------------------- an update


@pytest.mark.parametrize("classes", [None, 2])
@pytest.mark.parametrize("name", sorted(RULES))
def test_strong_samples_stay_at_1_and_leave_no_mark_on_others(name, classes) -> None:
    every, weak = table(classes=classes), table(classes=classes)
    for number in range(3):
        evidence = torch.randn(every.weight.shape, generator=torch.Generator().manual_seed(number))
        every.update(EVERY, evidence, RULES[name], 0.1)
        weak.update(WEAK, evidence[WEAK], RULES[name], 0.1)
    assert (every.weight[STRONG] == 1).all()
    same(every, weak)


def test_an_update_moves_what_was_judged_and_nothing_else() -> None:
    found = table()
    found.update(torch.tensor([4, 1]), tensor([1.0, -2.0]), plain, 0.1)
    torch.testing.assert_close(found.weight, tensor([1, 0.3, 0.5, 1, 0.6, 0.5]))
    assert found.rounds == 1 and found.earlier.tolist() == [1, 0.5, 0.5, 1, 0.5, 0.5]
    found.update(torch.tensor([2]), tensor([9.0]), plain, 0.1)
    torch.testing.assert_close(found.weight, tensor([1, 0.3, 1.0, 1, 0.6, 0.5]))
    assert torch.equal(found.earlier_overall, found.earlier) and found.earlier[2] == 0.5


def test_classes_of_a_sample_move_by_themselves() -> None:
    found = table(classes=2)
    found.update(torch.tensor([4, 1]), tensor([[1.0, -2.0], [0.0, 3.0]]), plain, 0.1)
    torch.testing.assert_close(found.weight[4], tensor([0.6, 0.3]))
    torch.testing.assert_close(found.weight[1], tensor([0.5, 0.8]))
    torch.testing.assert_close(found.overall[[1, 4]], tensor([0.65, 0.45]))
    torch.testing.assert_close(found.earlier_overall, table().weight)


def test_a_rule_finds_what_it_remembers_of_the_samples_at_hand() -> None:
    found = table()
    for number in range(4):
        found.update(
            WEAK[:2] if number % 2 else WEAK[1:], torch.ones(2 + (number + 1) % 2), adam, 0
        )
    assert found.memory["count"].tolist() == [0, 2, 4, 0, 2, 2]
    assert (found.memory["mean"][WEAK] > 0).all() and not found.memory["mean"][STRONG].any()


def test_a_band_moves_all_weak_weights_alike() -> None:
    found = table(limits=Limits(1.0, (0.5, 0.5)))
    found.update(WEAK[:1], tensor([-1.0]), plain, 0.2)
    torch.testing.assert_close(found.weight[WEAK], tensor([0.35, 0.55, 0.55, 0.55]))
    assert (found.weight[STRONG] == 1).all()


@pytest.mark.parametrize("options", [{}, {"classes": 2}, {"pool": EVERY // 2}])
@pytest.mark.parametrize("name", sorted(RULES))
def test_judging_nobody_moves_nobody(name, options) -> None:
    found, before = table(**options), table(**options)
    shape = (0, *found.weight.shape[1:])
    found.update(torch.zeros(0, dtype=torch.int64), torch.zeros(shape), RULES[name], 0.1)
    assert torch.equal(found.weight, before.weight) and found.rounds == 1


def refusals():
    two = torch.tensor([1, 2])
    nan, inf = float("nan"), float("inf")
    yield two, tensor([1.0, nan]), NonFiniteError, r"samples \[2\]"
    yield two, tensor([-inf, 1.0]), NonFiniteError, r"samples \[1\]"
    yield torch.tensor([0, 1]), tensor([nan, 1.0]), NonFiniteError, r"samples \[0\]"
    yield torch.tensor([1, 1]), tensor([1.0, 1.0]), ShapeError, "twice"
    yield two, tensor([1.0, 1.0, 1.0]), ShapeError, r"\(2,\) weights is wanted, got \(3,\)"
    yield two, tensor([[1.0], [1.0]]), ShapeError, r"got \(2, 1\)"


@pytest.mark.parametrize(("index", "evidence", "error", "words"), list(refusals()))
@pytest.mark.parametrize("pool", [None, EVERY // 2])
def test_what_cannot_be_used_is_refused_and_changes_nothing(
    index, evidence, error, words, pool
) -> None:
    found = worked(pool=pool)
    before = copy.deepcopy(found)
    with pytest.raises(error, match=words):
        found.update(index, evidence, adam, 1.0)
    same(found, before)


def test_evidence_by_class_names_the_samples_where_one_class_is_bad() -> None:
    found = worked(classes=2)
    before = copy.deepcopy(found)
    evidence = tensor([[1.0, 1.0], [1.0, float("nan")]])
    with pytest.raises(NonFiniteError, match=r"samples \[4\]"):
        found.update(torch.tensor([1, 4]), evidence, adam, 1.0)
    with pytest.raises(ShapeError, match=r"\(2, 2\) weights is wanted, got \(2,\)"):
        found.update(torch.tensor([1, 4]), evidence[:, 0], adam, 1.0)
    same(found, before)


def test_a_rule_that_fails_changes_nothing() -> None:
    def fails(evidence, memory):
        raise ZeroDivisionError

    found = worked()
    before = copy.deepcopy(found)
    with pytest.raises(ZeroDivisionError):
        found.update(WEAK, torch.ones(4), fails, 1.0)
    same(found, before)


def test_neither_index_nor_evidence_changes() -> None:
    for options in ({}, {"classes": 2}, {"pool": EVERY // 2}):
        found = table(**options)
        evidence = torch.randn(4, *found.weight.shape[1:])
        index, before = WEAK.clone(), evidence.clone()
        found.update(index, evidence, normalised, 0.1)
        assert torch.equal(index, WEAK) and torch.equal(evidence, before)


def test_what_an_update_rested_on_is_noted() -> None:
    found = table()
    found.note(torch.tensor([4, 1]), torch.tensor([0.5, -0.5]), torch.tensor([2.0, 3.0]), step=7)
    assert found.similarity[[4, 1]].tolist() == [0.5, -0.5] and found.loss[4] == 2.0
    assert found.updated.tolist() == [-1, 7, -1, -1, 7, -1]
    assert found.similarity[[0, 2, 3, 5]].isnan().all()


# ---------------------------------------------------------------------- pools


def test_those_who_share_a_weight_move_by_their_mean_evidence() -> None:
    pool = torch.tensor([9, -4, -4, 9, 7, -4])  # any numbers will do
    found = table(tensor([0.9, 0.1, 0.2, 0.9, 0.8, 0.3]), pool=pool)
    torch.testing.assert_close(found.weight, tensor([1, 0.2, 0.2, 1, 0.8, 0.2]))
    found.update(torch.tensor([1, 5, 4]), tensor([1.0, 2.0, -1.0]), plain, 0.1)
    torch.testing.assert_close(found.weight, tensor([1, 0.35, 0.35, 1, 0.7, 0.35]))
    found.update(torch.tensor([2]), tensor([-1.0]), plain, 0.1)
    torch.testing.assert_close(found.weight, tensor([1, 0.25, 0.25, 1, 0.7, 0.25]))


def test_a_strong_sample_shares_nothing_with_weak_ones_of_its_pool() -> None:
    found = table(tensor([0.0, 0.4, 0.4, 0.0, 0.8, 0.8]), pool=torch.tensor([0, 0, 0, 0, 1, 1]))
    torch.testing.assert_close(found.weight, tensor([1, 0.4, 0.4, 1, 0.8, 0.8]))
    found.update(torch.tensor([0, 1]), tensor([9.0, -1.0]), plain, 0.1)
    torch.testing.assert_close(found.weight, tensor([1, 0.3, 0.3, 1, 0.8, 0.8]))


def test_a_pool_of_classes_shares_class_by_class() -> None:
    found = table(classes=2, pool=torch.tensor([0, 1, 1, 3, 4, 4]))
    found.update(torch.tensor([1, 2]), tensor([[1.0, -1.0], [3.0, -3.0]]), plain, 0.1)
    torch.testing.assert_close(found.weight[1:3], tensor([[0.7, 0.3], [0.7, 0.3]]))


def test_a_member_that_was_not_judged_remembers_what_its_pool_does() -> None:
    found = table(pool=torch.tensor([0, 1, 1, 3, 1, 5]))
    for number in range(5):
        found.update(torch.tensor([[1, 2, 4][number % 3]]), tensor([1.0 - number]), adam, 0.1)
    for values in (found.weight, *found.memory.values()):
        assert len(values[[1, 2, 4]].unique()) == 1
    assert found.memory["count"][1] == 5


def test_samples_are_pooled_by_name() -> None:
    learns = torch.tensor([True, True, False, True, True, True, False])
    names = ["ann", "bob", "ann", "", "ann", "", "cyd"]
    pool = pool_by(names, learns).tolist()
    assert pool[0] == pool[4] and len(set(pool)) == 6
    for less in (names[:-1], [*names, "ann"]):
        with pytest.raises(ValueError, match="zip"):
            pool_by(less, learns)


# ---------------------------------------------------------------------- keeping and drawing

OPTIONS = [{}, {"classes": 3}, {"pool": EVERY // 2}, {"limits": Limits(2.0, (0.4, 0.6))}]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_it_goes_on_from_a_saved_state_to_the_bit(options, rounds) -> None:
    found = worked(rounds, **options)
    saved = found.state()
    other = table(0.9, **options)
    other.restore(saved)
    same(other, found)
    assert other.rounds == rounds and (other.earlier is None) == (rounds == 0)
    shape = (4, *found.weight.shape[1:])
    for one in (found, other):
        one.update(WEAK, torch.linspace(-1, 2, 4).reshape(4, *[1] * (len(shape) - 1)).expand(shape),
                   adam, 0.05)  # fmt: skip
    same(other, found)
    assert torch.equal(other.drawn_by(rounds), found.drawn_by(rounds))


def test_a_saved_state_does_not_run_on() -> None:
    found = worked()
    saved = found.state()
    before = {name: value.clone() for name, value in saved.items()}
    other = table()
    other.restore(saved)
    for one in (found, other):
        one.update(WEAK, torch.ones(4), adam, 0.05)
        one.note(WEAK, torch.ones(4), torch.ones(4), step=99)
    torch.testing.assert_close(saved, before, rtol=0, atol=0, equal_nan=True)


def test_what_was_there_before_restoring_is_forgotten() -> None:
    found = worked()
    found.restore(table().state())
    assert found.memory == {} and found.earlier is None and found.rounds == 0


def test_samples_are_drawn_by_the_latest_two_rounds_and_by_no_others() -> None:
    found, seen = table(), [table().overall]
    for number in range(3):
        found.update(WEAK, torch.linspace(-1, 1, 4), plain, 0.1)
        seen.append(found.overall)
        assert torch.equal(found.drawn_by(number), seen[number])
        assert torch.equal(found.drawn_by(number + 1), seen[number + 1])
        assert not torch.equal(seen[number], seen[number + 1])
    for rounds in (1, 4):
        with pytest.raises(SettingsError, match=f"after {rounds}"):
            found.drawn_by(rounds)


def test_samples_are_drawn_by_the_mean_over_their_classes() -> None:
    found = worked(classes=3)
    assert torch.equal(found.drawn_by(3), found.weight.mean(1))
    assert torch.equal(found.drawn_by(2), found.earlier.mean(1))


@pytest.mark.parametrize("options", OPTIONS)
def test_unshuffled_weights_are_used_as_they_are(options) -> None:
    found = worked(**options)
    index = torch.tensor([4, 0, 4, 2])
    assert torch.equal(found.used(index), found.weight[index])


def shuffled(seed, classes) -> WeightTable:
    """Forty samples, ten of them strong, after an update."""
    strong = torch.arange(40) % 4 == 0
    found = WeightTable.start(strong, torch.linspace(0, 1, 40), classes=classes, shuffled=seed)
    evidence = torch.linspace(-1, 1, 30).reshape(30, *[1] * (found.weight.ndim - 1))
    weak = torch.nonzero(~strong).flatten()
    found.update(weak, evidence.expand(30, *found.weight.shape[1:]), normalised, 0.1)
    return found


@pytest.mark.parametrize("classes", [None, 3])
def test_shuffled_weights_are_those_of_other_weak_samples(classes) -> None:
    found, every = shuffled(1, classes), torch.arange(40)
    used, weak = found.used(every), found.learns
    assert torch.equal(used[weak].sort(0).values, found.weight[weak].sort(0).values)
    assert (used[~weak] == 1).all()
    assert (used != found.weight).reshape(40, -1).any(1).sum() > 20
    drawn = used if classes is None else used.mean(1)
    torch.testing.assert_close(found.drawn_by(1), drawn, rtol=1e-15, atol=0)
    assert torch.equal(shuffled(1, classes).used(every), used), "the seed decides"
    assert not torch.equal(shuffled(2, classes).used(every), used)


def test_shuffling_changes_what_is_used_and_not_what_is_learned() -> None:
    same(shuffled(1, None), shuffled(None, None))


def test_the_shuffle_is_the_same_on_every_machine() -> None:
    found = WeightTable.start(torch.tensor([True] + [False] * 7), 0.5, shuffled=3)
    assert found.stands_for.tolist() == [0, 1, 5, 2, 6, 7, 4, 3]


def test_centred_moves_keep_the_mean_within_the_limits() -> None:
    found = table()
    for number in range(5):
        found.update(WEAK, tensor([1.0, 2.0, 4.0, number]), centred, 0.01)
    assert found.weight[WEAK].mean().item() == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize("classes", [None, 3])
def test_the_average_is_the_mean_of_a_weight_after_each_of_its_looks(classes) -> None:
    generator = torch.Generator().manual_seed(0)
    pool = torch.tensor([0, 1, 1, 2, 3, 4])
    found = WeightTable.start(torch.arange(6) < 1, 0.5, classes=classes, pool=pool)
    courses: dict[int, list[torch.Tensor]] = {place: [] for place in range(6)}
    assert torch.equal(found.average, found.weight)
    for _ in range(7):
        index = torch.randperm(6, generator=generator)[:3]
        evidence = torch.randn(3, *(() if classes is None else (classes,)), generator=generator)
        found.update(index, evidence, plain, 0.3)
        looked = {i for i in index.tolist() if i} | (
            {1, 2} if {1, 2} & set(index.tolist()) else set()
        )
        for place in looked:
            courses[place].append(found.weight[place].clone())
    for place, course in courses.items():
        wanted = torch.stack(course).mean(0) if course else found.weight[place]
        assert torch.allclose(found.average[place], wanted)
        assert found.looks[place] == len(course)
    again = WeightTable.start(torch.arange(6) < 1, 0.5, classes=classes, pool=pool)
    again.restore(found.state())
    assert torch.equal(again.average, found.average) and torch.equal(again.looks, found.looks)


# --- what other people's loops hand over -----------------------------------------------------


def test_evidence_with_a_derivative_leaves_no_graph_behind_the_table() -> None:
    table = WeightTable.start(torch.tensor([True, False]), 0.5)
    evidence = torch.ones(1, requires_grad=True)
    table.update(torch.tensor([1]), evidence, plain, rate=0.1)
    table.note(torch.tensor([1]), evidence, evidence, 3)
    kept = (table.weight, table.average, table.similarity, table.loss)
    assert not any(values.requires_grad for values in kept)
    copy.deepcopy(table)  # torch copies only what has no graph


def test_places_may_be_whole_numbers_of_any_size() -> None:
    table = WeightTable.start(torch.tensor([True, False]), 0.5)
    table.update(torch.tensor([1], dtype=torch.int32), torch.ones(1), plain, rate=0.1)
    assert table.weight.tolist() == [1.0, 0.6]


@pytest.mark.parametrize("index", [[1], torch.tensor([False, True]), torch.tensor([1.0])])
def test_what_is_no_place_is_refused(index) -> None:
    table = WeightTable.start(torch.tensor([True, False]), 0.5)
    with pytest.raises(ShapeError, match="index must be"):
        table.update(index, torch.ones(1), plain, rate=0.1)


def test_a_rule_is_a_function_and_not_its_name() -> None:
    table = WeightTable.start(torch.tensor([True, False]), 0.5)
    with pytest.raises(SettingsError, match="a rule is a function, such as .*, not 'adam'"):
        table.update(torch.tensor([1]), torch.ones(1), "adam", rate=0.1)


def test_many_places_that_are_not_there_are_counted_and_not_listed() -> None:
    table = WeightTable.start(torch.tensor([True, False]), 0.5)
    with pytest.raises(ShapeError, match=r"not \[2, 3, 4, 5, 6\] and 93 more; an index"):
        table.check_places(torch.arange(2, 100))


def test_a_rate_that_is_no_number_moves_nothing() -> None:
    table = WeightTable.start(torch.tensor([True, False]), 0.5)
    with pytest.raises(NonFiniteError, match="rate"):
        table.update(torch.tensor([1]), torch.ones(1), plain, rate=float("nan"))
    assert table.weight.tolist() == [1.0, 0.5]


@pytest.mark.parametrize(
    "other",
    [
        {"strong": torch.tensor([True, False])},
        {"strong": torch.tensor([True, False, False]), "classes": 2},
    ],
)
def test_the_state_of_another_table_is_refused_and_changes_nothing(other) -> None:
    table = WeightTable.start(torch.tensor([True, False, False]), 0.5)
    table.update(torch.tensor([1]), torch.ones(1), plain, rate=0.1)
    before = table.state()
    with pytest.raises(ShapeError, match=r"another table: 'weight' must be \(3,\), here it is"):
        table.restore(WeightTable.start(initial=0.2, **other).state())
    with pytest.raises(ShapeError, match="'similarity' must be .*, here it is missing"):
        table.restore({"weight": before["weight"]})
    assert all(
        torch.equal(v.nan_to_num(), table.state()[n].nan_to_num()) for n, v in before.items()
    )


def test_a_state_comes_back_in_the_number_types_of_the_table() -> None:
    """As a loop may have moved or converted all tensors of a checkpoint alike."""
    table = WeightTable.start(torch.tensor([True, False]), 0.5)
    table.restore({name: values.float() for name, values in table.state().items()})
    table.update(torch.tensor([1]), torch.ones(1), plain, rate=0.25)
    assert table.weight.tolist() == [1.0, 0.75]
    assert table.looks.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strong": [True, False]}, "strong must be a bool tensor .*, not list"),
        ({"strong": torch.tensor([1, 0])}, "strong must be a bool tensor .*, not int64"),
        ({"strong": torch.tensor([[True], [False]])}, "strong must be .*, not bool"),
        ({"initial": torch.tensor([0.5])[:0]}, "initial must be one weight or"),
        ({"initial": float("nan")}, "a weight to begin at is NaN"),
        ({"pool": ["ann", "bob"]}, "pool must be whole numbers .*pool_by makes them"),
        ({"pool": torch.tensor([0.0, 1.0])}, "pool must be whole numbers"),
        ({"pool": torch.tensor([0])}, "pool must be whole numbers"),
    ],
)
def test_what_a_table_cannot_begin_with_is_refused_in_one_line(options, words) -> None:
    given = {"strong": torch.tensor([True, False]), "initial": 0.5} | options
    with pytest.raises((ShapeError, NonFiniteError), match=words):
        WeightTable.start(**given)


def test_pools_may_have_the_largest_numbers_or_no_samples() -> None:
    largest = torch.iinfo(torch.int64).max
    pool, strong = torch.tensor([largest, largest, 0]), torch.tensor([True, False, False])
    assert len(WeightTable.start(strong, 0.5, pool=pool).pool.unique()) == 3
    assert WeightTable.start(strong[:0], 0.5, pool=pool[:0]).weight.shape == (0,)
