from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from labelmend.errors import SettingsError
from labelmend.weighting.alike import Likeness
from labelmend.weighting.evidence import (
    SIGNALS,
    WITHOUT_SIMILARITY,
    Findings,
    agreement,
    evidence,
    from_alike,
    from_both,
    from_fit,
    from_loss,
    from_similarity,
)

from . import oracle_evidence as oracle

BOUNDED = ("alike", "both", "fit", "loss")
names = st.sampled_from(sorted(SIGNALS))
bounded = st.sampled_from(BOUNDED)
seeds = st.integers(0, 2**31)
shares = st.floats(0, 1)
losses = st.lists(st.floats(0, 100).map(lambda x: round(x, 3)), min_size=1, max_size=30)


def findings(loss, seed=0, alike=0.5, classes=None) -> Findings:
    """Findings with that loss, or with as many columns as classes, the loss in the first."""
    generator = torch.Generator().manual_seed(seed)
    loss = torch.as_tensor(loss, dtype=torch.float64)
    shape = (len(loss),) if classes is None else (len(loss), classes)
    similarity = torch.randn(shape, generator=generator, dtype=torch.float64)
    apart = torch.rand(shape, generator=generator, dtype=torch.float64)
    if classes is not None:
        others = torch.rand(len(loss), classes - 1, generator=generator, dtype=torch.float64)
        loss = torch.cat([loss.unsqueeze(1), others], 1)
    images = Likeness(
        torch.randn(len(loss), 3, generator=generator, dtype=torch.float64),
        torch.rand(len(loss), generator=generator, dtype=torch.float64),
    )
    return Findings(similarity, loss, apart, alike, likeness=images)


def of_class(found: Findings, c: int) -> Findings:
    rows = (found.similarity, found.loss, found.disagreement)
    alone = [row[:, c] for row in rows]
    return Findings(*alone, found.agreement, likeness=found.likeness)


# ---------------------------------------------------------------------- by the definitions


@given(loss=losses, seed=seeds, alike=shares)
def test_it_is_what_the_definition_says_of_every_sample(loss, seed, alike) -> None:
    found = findings(loss, seed, alike)
    similar, apart = found.similarity.tolist(), found.disagreement.tolist()
    images = found.likeness.features.tolist(), found.likeness.strange.tolist()
    right = {
        "alike": oracle.from_alike(similar, apart, alike, *images),
        "both": oracle.from_both(similar, apart, alike),
        "fit": oracle.from_fit(apart),
        "loss": oracle.from_loss(loss),
        "similarity": similar,
    }
    assert right.keys() == SIGNALS.keys()
    for name, values in right.items():
        got = SIGNALS[name](found)
        torch.testing.assert_close(got, torch.tensor(values).double(), rtol=1e-9, atol=1e-6)


@given(loss=losses, seed=seeds, alike=shares, name=names)
def test_every_class_is_judged_by_itself(loss, seed, alike, name) -> None:
    found = findings(loss, seed, alike, classes=3)
    whole = SIGNALS[name](found)
    assert whole.shape == (len(loss), 3)
    for c in range(3):
        alone = SIGNALS[name](of_class(found, c))
        torch.testing.assert_close(whole[:, c], alone, rtol=1e-12, atol=1e-12)


@given(
    loss=losses,
    seed=seeds,
    alike=st.floats(-2, 2),
    name=bounded,
    classes=st.sampled_from([None, 2]),
)
def test_bounded_signals_stay_between_minus_1_and_1(loss, seed, alike, name, classes) -> None:
    assert SIGNALS[name](findings(loss, seed, alike, classes)).abs().max() <= 1 + 1e-12


@given(loss=losses, seed=seeds, name=names, classes=st.sampled_from([None, 2]))
def test_permuting_the_samples_permutes_the_evidence(loss, seed, name, classes) -> None:
    found = findings(loss, seed, classes=classes)
    order = torch.randperm(len(loss), generator=torch.Generator().manual_seed(seed))
    whole = SIGNALS[name](found)[order]
    torch.testing.assert_close(SIGNALS[name](found.take(order)), whole, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", sorted(SIGNALS))
@pytest.mark.parametrize("shape", [(1,), (2,), (5,), (1, 3), (4, 2)])
@pytest.mark.parametrize("apart", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("alike", [0.0, 1.0])
def test_ties_zeros_and_one_sample_are_no_division_by_zero(name, shape, apart, alike) -> None:
    images = Likeness(torch.zeros(shape[0], 2), torch.ones(shape[0]))
    zeros = torch.zeros(shape)
    still = Findings(zeros, zeros, torch.full(shape, apart), alike, likeness=images)
    found = SIGNALS[name](still)
    assert found.shape == shape and torch.isfinite(found).all()
    assert torch.equal(found, found[:1].expand(shape)), "what is alike is judged alike"


@given(loss=losses, seed=seeds, name=names)
def test_nothing_that_is_passed_in_changes(loss, seed, name) -> None:
    found, same = findings(loss, seed), findings(loss, seed)
    SIGNALS[name](found)
    torch.testing.assert_close(dataclasses.astuple(found), dataclasses.astuple(same))


# ---------------------------------------------------------------------- the loss


@given(loss=losses, factor=st.floats(0.01, 100), shift=st.floats(-10, 10))
def test_the_evidence_of_a_loss_knows_neither_unit_nor_zero(loss, factor, shift) -> None:
    other = findings([x * factor + shift for x in loss])
    # Exactly equal losses stay exactly equal, so that no spread of rounding errors arises.
    torch.testing.assert_close(from_loss(other), from_loss(findings(loss)), atol=1e-6, rtol=0)


@given(loss=losses)
def test_a_larger_loss_never_speaks_more_for_a_label(loss) -> None:
    assert (from_loss(findings(sorted(loss))).diff() <= 1e-12).all()


def test_most_labels_are_usual_and_gross_errors_are_not() -> None:
    loss = torch.cat([torch.linspace(0.4, 0.6, 30), torch.full((10,), 5.0)])
    found = from_loss(findings(loss))
    assert (found[:30] > 0).all() and (found[30:] == -1).all()


def test_among_losses_that_are_all_alike_only_a_larger_one_is_unusual() -> None:
    assert from_loss(findings([0.5, 0.5, 0.5, 0.5001, 0.1])).tolist() == [1, 1, 1, -1, 1]


# ---------------------------------------------------------------------- the fit


@given(seed=seeds, size=st.integers(1, 30))
def test_a_worse_fit_never_speaks_more_for_a_label(seed, size) -> None:
    found = findings(torch.zeros(size), seed)
    order = found.disagreement.argsort()
    assert (from_fit(found.take(order)).diff() <= 1e-12).all()


def test_a_bad_label_is_found_beside_a_single_good_one() -> None:
    for apart in ([0.1, 0.9], [0.9, 0.1]):
        found = dataclasses.replace(findings(torch.zeros(2)), disagreement=torch.tensor(apart))
        assert from_fit(found).tolist() == pytest.approx([1 if x < 0.5 else -1 for x in apart])


@pytest.mark.parametrize(("middle", "voice"), [(0.0, 1.0), (0.5, 1.0), (0.8, 0.4), (1.0, 0.0)])
def test_the_opinion_of_a_network_that_fits_nothing_counts_for_little(middle, voice) -> None:
    found = findings(torch.zeros(5))
    found = dataclasses.replace(found, disagreement=torch.full((5,), middle, dtype=torch.float64))
    torch.testing.assert_close(from_fit(found), torch.full((5,), voice, dtype=torch.float64))


# ---------------------------------------------------------------------- both


@pytest.mark.parametrize(("alike", "share"), [(-0.9, 1 / 3), (0.0, 1 / 3), (0.6, 0.6), (1.5, 1.0)])
def test_the_similarity_counts_as_far_as_the_strong_samples_agree(alike, share) -> None:
    found = findings(torch.ones(9), seed=4, alike=alike)
    similar = (found.similarity / found.similarity.abs().mean()).clamp(-1, 1)
    expected = share * similar + (1 - share) * from_fit(found)
    torch.testing.assert_close(from_both(found), expected, rtol=1e-12, atol=1e-12)


@given(loss=losses, seed=seeds, factor=st.floats(1e-3, 1e3))
def test_only_the_similarity_alone_has_a_scale(loss, seed, factor) -> None:
    found = findings(loss, seed)
    larger = dataclasses.replace(found, similarity=factor * found.similarity)
    torch.testing.assert_close(from_both(larger), from_both(found), rtol=1e-9, atol=1e-9)
    assert torch.equal(from_similarity(larger), factor * from_similarity(found))


@given(loss=losses, seed=seeds, name=st.sampled_from(WITHOUT_SIMILARITY))
def test_signals_that_need_no_gradient_look_at_none(loss, seed, name) -> None:
    found = findings(loss, seed)
    blind = dataclasses.replace(
        found, similarity=torch.full_like(found.similarity, torch.nan), agreement=float("nan")
    )
    assert torch.equal(SIGNALS[name](blind), SIGNALS[name](found))


def test_a_nan_is_not_hidden() -> None:
    found = findings(torch.ones(3))
    found.similarity[1] = torch.nan
    assert from_similarity(found).isnan().any() and from_both(found).isnan().any()


def test_a_signal_that_does_not_exist_is_offered_the_nearest() -> None:
    assert {name: evidence(name) for name in SIGNALS} == SIGNALS
    with pytest.raises(SettingsError, match="did you mean 'similarity'"):
        evidence("similarities")


# ---------------------------------------------------------------------- images alike


@given(loss=losses, seed=seeds, classes=st.sampled_from([None, 3]))
def test_where_no_image_is_strange_both_is_all_there_is(loss, seed, classes) -> None:
    found = findings(loss, seed, classes=classes)
    known = dataclasses.replace(found.likeness, strange=torch.zeros(len(loss)))
    known = dataclasses.replace(found, likeness=known)
    assert torch.equal(from_alike(known), from_both(found))


@given(loss=losses.filter(lambda x: len(x) <= 3), seed=seeds)
def test_among_two_images_none_is_of_another_kind(loss, seed) -> None:
    """The others are all that there is to be held against, and that is nearly all."""
    found = findings(loss[:1], seed)
    assert torch.equal(from_alike(found), from_both(found))


def kinds(common: float, usual: int = 30) -> tuple[Findings, torch.Tensor, torch.Tensor]:
    """50 images, the last ones of a kind that is strange, with something in common in gradients.

    Every fifth label is bad; which are strange, and which are bad.
    """
    generator = torch.Generator().manual_seed(1)
    strange = torch.arange(50) >= usual
    bad = torch.arange(50) % 5 == 0
    similarity = torch.where(bad, -1.0, 1.0) + 0.3 * torch.randn(50, generator=generator)
    similarity = similarity + common * strange
    looks = torch.randn(50, 2, generator=generator) + 9 * strange.unsqueeze(1)
    images = Likeness(looks, 0.95 * strange)
    zeros = torch.zeros(50)
    return Findings(similarity, zeros, zeros, 1.0, likeness=images), strange, bad


@pytest.mark.parametrize("common", [-1.0, 1.0])
def test_what_a_strange_kind_has_in_common_is_not_held_against_its_labels(common) -> None:
    found, strange, bad = kinds(common)
    good, wrong = strange & ~bad, strange & bad
    usual = ~strange & ~bad
    judged, before = from_alike(found), from_both(found)
    apart, were = (abs(float(x[good].mean() - x[usual].mean())) for x in (judged, before))
    assert apart < 0.25 < were and apart < 0.4 * were
    assert judged[good].mean() > judged[wrong].mean() + 0.9, "bad labels stay bad among their like"
    assert torch.equal(judged[~strange], before[~strange])


def test_labels_of_a_kind_that_is_hard_to_predict_are_held_against_its_own_fits() -> None:
    found, strange, bad = kinds(0.0, usual=38)
    apart = torch.where(strange, 0.4, 0.1) + 0.4 * bad
    still = torch.zeros(50)
    found = dataclasses.replace(found, similarity=still, agreement=0.0, disagreement=apart)
    judged, before = from_alike(found), from_both(found)
    assert before[strange & ~bad].max() < judged[strange & ~bad].min()
    assert judged[strange & ~bad].min() > 0 > judged[bad].max()
    assert torch.allclose(judged[~strange], before[~strange])
    # Where they fit better than others, nothing more is asked of them.
    easy = dataclasses.replace(found, disagreement=torch.where(strange, 0.0, 0.1) + 0.4 * bad)
    assert torch.equal(from_alike(easy), from_both(easy))


def test_of_a_class_only_labels_that_have_it_say_what_is_usual_nearby() -> None:
    found, strange, _ = kinds(-2.0)
    similarity = found.similarity.unsqueeze(1).expand(50, 2).clone()
    # Of the strange kind every other label lacks the second class, which is easy.
    lacks = strange & (torch.arange(50) % 2 == 0)
    similarity[lacks, 1] = 50.0
    present = torch.ones(50, 2, dtype=torch.bool)
    present[lacks, 1] = False
    zeros = torch.zeros(50, 2)
    two = Findings(similarity, zeros, zeros, 1.0, present, found.likeness)
    near = two.nearby(similarity, found.likeness)
    assert (near[strange] < 0).all() and (near[~strange] > 0).all()


def test_without_knowing_which_images_are_alike_it_says_so() -> None:
    with pytest.raises(SettingsError, match="which images are alike"):
        from_alike(dataclasses.replace(findings([1.0, 2.0]), likeness=None))


# ---------------------------------------------------------------------- agreement

vectors = st.lists(st.floats(-1e3, 1e3), min_size=4, max_size=4)


def gradient(values) -> dict[str, torch.Tensor]:
    return {"w": torch.tensor(values[:3]).reshape(3, 1), "b": torch.tensor(values[3:])}


@given(one=vectors, other=vectors, samples=st.integers(0, 99), scale=st.floats(1e-2, 1e2))
@example(one=[0.0] * 4, other=[1.0] * 4, samples=4, scale=1.0)
def test_agreement_is_a_share_symmetric_and_without_a_scale(one, other, samples, scale) -> None:
    left, right = gradient(one), gradient(other)
    found = agreement(left, right, samples)
    assert 0 <= found <= 1
    assert agreement(right, left, samples) == pytest.approx(found, rel=1e-12)
    longer = {name: scale * value.double() for name, value in left.items()}
    assert agreement(longer, right, samples) == pytest.approx(found, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("samples", "most"), [(1, 0.2), (4, 0.5), (12, 0.75), (36, 0.9)])
def test_few_samples_prove_little(samples, most) -> None:
    one = gradient([1.0, -2.0, 0.5, 3.0])
    assert agreement(one, one, samples) == pytest.approx(most)


@pytest.mark.parametrize(
    ("other", "cosine"),
    [([-1.0, 0, 0, -1], 0.0), ([0.0, 1, 0, 0], 0.0), ([1.0, 0, 0, 0], 0.5**0.5), ([0.0] * 4, 0.0)],
)
def test_agreement_is_the_cosine_where_that_is_above_0(other, cosine) -> None:
    found = agreement(gradient([1.0, 0, 0, 1]), gradient(other), 12)
    assert found == pytest.approx(0.75 * cosine)


def test_a_label_with_a_rare_class_is_beside_others_that_have_it() -> None:
    """Most labels lack the class, which is easy to get right; half a fit is then no outlier."""
    apart = torch.tensor([[0.0]] * 8 + [[0.4], [0.4], [0.9]])
    there = torch.tensor([[False]] * 8 + [[True]] * 3)
    zeros = torch.zeros_like(apart)
    found = from_fit(Findings(zeros, zeros, apart, 0.0, there))[:, 0]
    assert torch.allclose(found[8:10], torch.ones(2))
    assert found[10] == -1
    alike = from_fit(Findings(zeros, zeros, apart, 0.0))[:, 0]
    assert (alike[8:10] < 0).all(), "without knowing who has it, to have it is suspicious"
    loss = torch.tensor([[0.0]] * 8 + [[0.9], [1.0], [1.1]])
    usual = from_loss(Findings(zeros, loss, zeros, 0.0, there))[:, 0]
    assert (usual > 0.5).all()


def test_a_class_that_nobody_has_is_judged_beside_all() -> None:
    apart = torch.tensor([[0.0, 0.1], [0.0, 0.2], [1.0, 0.3]])
    nobody = torch.zeros_like(apart, dtype=torch.bool)
    zeros = torch.zeros_like(apart)
    for judge in (from_fit, from_loss, from_both):
        with_none = judge(Findings(zeros, apart, apart, 0.0, nobody))
        assert torch.equal(with_none, judge(Findings(zeros, apart, apart, 0.0)))
