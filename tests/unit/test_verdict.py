from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from labelmend.errors import DamagedError, DataError
from labelmend.inference.evaluate import Evaluation
from labelmend.runs import Run
from labelmend.types import Sample
from labelmend.verdict import FILE, LEAST_GROUPS, Verdict, read_verdict, weigh


def judged(
    figures: list[float], groups: list[str] | None = None, metric: str = "dice"
) -> Evaluation:
    """An evaluation whose labels have these figures."""
    groups = groups or [f"g{n}" for n in range(len(figures))]
    samples = tuple(
        Sample(f"images/{n}.png", f"labels/{n}.png", "strong", "test", group)
        for n, group in enumerate(groups)
    )
    rows = tuple({"cell": {metric: figure}} for figure in figures)
    return Evaluation("test", 9, samples, rows, {metric: float(np.nanmean(figures))}, {})


def test_the_interval_is_that_of_a_paired_test() -> None:
    rng = np.random.default_rng(0)
    full, alone = rng.uniform(0.5, 0.9, (2, 12))
    found = weigh([(judged(full.tolist()), judged(alone.tolist()))])
    expected = stats.ttest_rel(full, alone).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    assert found.difference == pytest.approx((full - alone).mean())
    assert (found.full, found.alone) == pytest.approx((full.mean(), alone.mean()))
    assert (found.samples, found.groups, found.seeds) == (12, 12, 1)


@pytest.mark.parametrize(("by", "outcome"), [(0.1, "helped"), (-0.1, "hurt"), (0.0, "unclear")])
def test_a_clear_difference_is_called_by_its_name(by: float, outcome: str) -> None:
    alone = np.linspace(0.5, 0.8, 8)
    full = alone + by + 0.02 * np.resize([1, -1], 8)
    found = weigh([(judged(full.tolist()), judged(alone.tolist()))])
    assert found.outcome == outcome
    assert weigh([(judged(alone.tolist()), judged(full.tolist()))]).difference == -found.difference


def test_a_label_without_a_figure_in_one_training_is_compared_in_none() -> None:
    """Else the mean of one seed would be set against that of two."""
    first = judged([0.9, 0.8, 0.7]), judged([0.6, 0.6, 0.6])
    second = judged([float("nan"), 0.8, 0.7]), judged([0.2, 0.6, 0.6])
    found = weigh([first, second])
    assert (found.samples, found.seeds) == (2, 2)
    assert (found.full, found.alone) == pytest.approx((0.75, 0.6))
    assert found.difference == pytest.approx(0.15)


def test_labels_of_one_group_are_one_observation() -> None:
    """Forty slices of three patients are three patients."""
    rng = np.random.default_rng(1)
    of_group = np.array([0.2, -0.02, 0.05])
    groups = np.resize(["a", "b", "c"], 42)
    alone = rng.uniform(0.4, 0.6, 42)
    full = alone + np.resize(of_group, 42) + rng.normal(0, 0.001, 42)
    found = weigh(
        [(judged(full.tolist(), groups.tolist()), judged(alone.tolist(), groups.tolist()))]
    )
    assert (found.groups, found.outcome) == (3, "unclear")
    alike = weigh([(judged(full.tolist()), judged(alone.tolist()))])
    assert alike.outcome == "helped"  # as it would be told if slices counted as patients


def test_seeds_are_averaged_label_by_label() -> None:
    pairs = [(judged([0.9, 0.5, 0.7]), judged([0.5, 0.5, 0.5]))]
    pairs.append((judged([0.5, 0.5, 0.7]), judged([0.5, 0.5, 0.5])))
    found = weigh(pairs)
    assert found.seeds == 2
    assert found.difference == pytest.approx((0.2 + 0.0 + 0.2) / 3)


def test_a_label_without_a_figure_is_not_counted() -> None:
    found = weigh([(judged([0.9, math.nan, 0.9, 0.8]), judged([0.8, 0.1, 0.8, math.nan]))])
    assert (found.samples, found.groups) == (2, 2)
    with pytest.raises(DataError, match="no held-out label has a dice"):
        weigh([(judged([math.nan, 0.5]), judged([0.5, math.nan]))])


def test_few_groups_give_no_verdict() -> None:
    few = LEAST_GROUPS - 1
    found = weigh([(judged([0.9] * few), judged([0.1] * few))])
    assert (found.outcome, found.low, found.high) == ("unclear", None, None)
    assert "too few groups for an interval: 3 at least" in found.said()


def test_equal_figures_are_no_help() -> None:
    found = weigh([(judged([0.5] * 5), judged([0.5] * 5))])
    assert (found.outcome, found.low, found.high) == ("unclear", 0.0, 0.0)


def test_what_is_said() -> None:
    helped = weigh([(judged([0.9, 0.8, 0.7, 0.8]), judged([0.7, 0.62, 0.5, 0.58]))])
    assert helped.said() == (
        "The weak labels helped, in one training of each kind: Dice 0.800 with them and 0.600 with "
        "strong labels alone, on 4 labels of 4 groups in test (difference +0.200, 95 % interval "
        "+0.174 to +0.226)."
    )
    assert ["seeds 3" in remark for remark in helped.remarks()] == [True]
    sharp = weigh(
        [(judged([20.0] * 4, metric="psnr"), judged([22.0, 22.1, 22, 22], metric="psnr"))]
    )
    assert "PSNR 20.0 with them and 22.0" in sharp.said() and sharp.outcome == "hurt"
    assert "trained on strong labels alone are in RUN/verdict" in sharp.remarks()[0]


def test_a_difference_that_is_not_that_of_the_figures_says_what_it_is() -> None:
    """One group of three labels and two of one: their mean is not that of the labels."""
    full, alone = [0.9, 0.9, 0.9, 0.5, 0.5], [0.6] * 5
    said = weigh(
        [(judged(full, ["a"] * 3 + ["b", "c"]), judged(alone, ["a"] * 3 + ["b", "c"]))]
    ).said()
    assert (
        "Dice 0.740 with them and 0.600 with strong labels alone, on 5 labels of 3 groups" in said
    )
    assert "(difference in the mean over groups +0.033, 95 % interval " in said


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"said": "x", "outcome": "helped"}', "\x00"])
def test_a_damaged_file_is_named(trained: object, tmp_path: Path, text: str) -> None:
    run = Run.open(trained("gray").run)  # type: ignore[operator]
    other = type("Run", (), {"path": tmp_path})
    assert read_verdict(run) is None
    (tmp_path / FILE).write_text(text)
    with pytest.raises(DamagedError, match=r"verdict\.json is damaged; remove it"):
        read_verdict(other)  # type: ignore[arg-type]


def test_a_verdict_is_plain_values() -> None:
    verdict = Verdict("unclear", "dice", "val", 4, 2, 1, 0.5, 0.4, 0.1, None, None)
    assert verdict.to_json()["said"] == verdict.said()
    assert any(remark.startswith("val also chose") for remark in verdict.remarks())
