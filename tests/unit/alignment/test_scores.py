import pytest
import torch

from labelmend.alignment import scores
from labelmend.alignment.correlation import make_frame
from labelmend.alignment.score_maps import best_shift
from labelmend.alignment.scores import REGRESSION_SCORES, SCORES, score_shifts
from labelmend.errors import SettingsError, ShapeError
from labelmend.losses import LOSSES, REGRESSION_LOSSES, make_loss

from . import oracle_scores as oracle

INF = float("inf")
CASES = [(name, False) for name in SCORES] + [(name, True) for name in REGRESSION_SCORES]
TWINS = [case for case in CASES if case[0] != "phase"]  # phase has a twin of its own
SPACES = [((11,), (4,)), ((7, 6), (2, 3)), ((5, 3, 4), (1, 2, 5))]


def draw(continuous, space, batch=3, classes=3, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    z = 3 * torch.randn(batch, classes, *space, generator=generator, dtype=dtype)
    label = torch.randint(0, classes, (batch, *space), generator=generator)
    if continuous:
        label = 5 + torch.randn(batch, classes, *space, generator=generator, dtype=dtype)
    valid = torch.rand(batch, *space, generator=generator) < 0.8
    known = torch.rand(batch, *space, generator=generator) < 0.9
    return z, label, valid, known


def check(found, expected, tolerance):
    score, overlap = expected
    assert torch.equal(found.overlap, overlap)
    assert torch.equal(found.score.isfinite(), score.isfinite())
    assert not found.score.isnan().any()
    some = score.isfinite()
    size = score[some].abs().max().clamp(min=1) if some.any() else 1
    torch.testing.assert_close(found.score[some], score[some], rtol=0, atol=tolerance * float(size))


@pytest.mark.parametrize("way", ["fft", "direct"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("space", "window"), SPACES)
@pytest.mark.parametrize(("name", "continuous"), TWINS)
def test_it_is_a_loop_over_displacements(name, continuous, space, window, masked, way):
    z, label, valid, known = draw(continuous, space)
    valid, known = (valid, known) if masked else (torch.ones_like(valid), None)
    found = score_shifts(z, label, valid, name, window, known=known, least_overlap=0.3, way=way)
    assert found.window == window and found.score.dtype == torch.float64
    check(found, oracle.score_maps(name, z, label, valid, window, known, 0.3), 1e-10)


@pytest.mark.parametrize("way", ["fft", "direct"])
@pytest.mark.parametrize(("name", "continuous"), TWINS)
def test_single_precision_is_enough(name, continuous, way):
    z, label, valid, known = draw(continuous, (24, 20), dtype=torch.float32)
    found = score_shifts(z, label, valid, name, 3, known=known, way=way)
    assert found.score.dtype == torch.float32
    score, overlap = oracle.score_maps(name, z.double(), label, valid, (3, 3), known)
    check(found, (score.float(), overlap), 1e-5)


@pytest.mark.parametrize(
    ("name", "continuous"),
    [(n, False) for n in LOSSES] + [(n, True) for n in REGRESSION_LOSSES],
)
def test_a_loss_of_a_whole_image_is_itself_in_single_precision(name, continuous):
    z, label, valid, known = draw(continuous, (128, 128), batch=2, classes=2, dtype=torch.float32)
    z = 3 * z  # up to 40: sure of itself, as networks become
    found = score_shifts(z, label, valid, name, 1, known=known, way="fft")
    loss = make_loss(name, "regression" if continuous else "segmentation")
    for i, d in enumerate(oracle.displacements((1, 1))):
        both = oracle.moved(valid, d) & known
        true = -loss(z, oracle.moved(label, d), both)
        torch.testing.assert_close(found.score.flatten(1)[:, i], true, rtol=1e-5, atol=1e-5)


def test_a_large_constant_costs_no_digits():
    z, label, valid, known = draw(True, (24, 20), dtype=torch.float32)
    expected = score_shifts(z, label, valid, "l2", 3, known=known, way="fft")
    found = score_shifts(z + 4096, label + 4096, valid, "l2", 3, known=known, way="fft")
    torch.testing.assert_close(found.score, expected.score, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("way", ["fft", "direct"])
def test_a_perfect_match_is_one_and_no_more(way):
    label = draw(True, (24, 20), batch=40, dtype=torch.float32)[1]
    valid = torch.ones(40, 24, 20, dtype=torch.bool)
    found = score_shifts(3 * label, label, valid, "normalised", 1, way=way).score[:, 1, 1]
    assert (found <= 1).all()
    torch.testing.assert_close(found, torch.ones(40))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize(
    ("space", "window"), [((11,), (4,)), ((7, 6), (2, 3)), ((5, 3, 4), (1,) * 3)]
)
def test_phase_is_that_of_the_padded_transform(space, window, continuous, masked):
    z, label, valid, known = draw(continuous, space)
    valid, known = (valid, known) if masked else (torch.ones_like(valid), torch.ones_like(valid))
    found = score_shifts(z, label, valid, "phase", window, known=known, least_overlap=0)
    sizes = make_frame(space, window).padded
    for k in range(len(z)):
        one = z[k], label[k], valid[k].numpy(), known[k].numpy()
        true = oracle.phase(*one, window, sizes)
        some = found.score[k].isfinite()
        assert some.sum() > 5
        torch.testing.assert_close(found.score[k][some], true[some], rtol=0, atol=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 6])
@pytest.mark.parametrize("name", SCORES)
def test_classes_that_no_label_has_are_told_apart_from_none(name, classes):
    z, label, valid, known = draw(False, (7, 6), classes=classes)
    label = label.clamp(max=2) * (label != 1)  # no class 1, none above 2
    label[1] = 0
    found = score_shifts(z, label, valid, name, 2, known=known)
    if name != "phase":
        check(found, oracle.score_maps(name, z, label, valid, (2, 2), known), 1e-10)
    alone = score_shifts(z[1:2], label[1:2], valid[1:2], name, 2, known=known[1:2])
    torch.testing.assert_close(alone.score, found.score[1:2], rtol=0, atol=1e-10)


def test_masked_normalised_correlation_is_that_of_scikit_image():
    registration = pytest.importorskip(
        "skimage.registration._masked_phase_cross_correlation",
        reason="compares with scikit-image, which is not installed",
    )
    for seed, space in enumerate([(12, 9), (8, 8), (5, 6, 4)]):
        p, y, valid, known = draw(True, space, batch=1, classes=1, seed=seed)
        window = tuple(n // 2 for n in space)
        arrays = (v[0, 0].numpy() for v in (p, y))
        axes = tuple(range(len(space)))
        full = registration.cross_correlate_masked(
            *arrays, known[0].numpy(), valid[0].numpy(), mode="full", axes=axes, overlap_ratio=0
        )
        middle = tuple(slice(n - 1 - w, n + w) for n, w in zip(space, window, strict=True))
        found = score_shifts(p, y, valid, "normalised", window, known=known)
        some = found.score.isfinite()
        assert some.sum() > 20
        true = torch.tensor(full[middle].copy())[None]
        torch.testing.assert_close(found.score[some], true[some], rtol=0, atol=1e-9)


def test_bins_are_of_one_width_over_the_range_of_each_sample():
    z, label, valid, known = draw(True, (40,), classes=2)
    z[1], label[1] = 100 * z[1], label[1] / 100 + 3
    found = score_shifts(z, label, valid, "mutual_information", 3, known=known, bins=5)
    expected = oracle.score_maps("mutual_information", z, label, valid, (3,), known, bins=5)
    check(found, expected, 1e-10)
    assert torch.isclose(expected[0], torch.tensor(0.0, dtype=torch.float64)).sum() == 0


# ------------------------------------------------------------------ what must not matter


@pytest.mark.parametrize("way", ["fft", "direct"])
@pytest.mark.parametrize(("name", "continuous"), CASES)
def test_what_stands_at_unknown_positions_does_not_matter(name, continuous, way):
    z, label, valid, known = draw(continuous, (7, 6))
    expected = score_shifts(z, label, valid, name, 2, known=known, way=way)
    for fill in (float("nan"), INF, -INF, 1e300):
        z = torch.where(known[:, None], z, fill)
        label = (
            torch.where(valid[:, None], label, fill)
            if continuous
            else torch.where(valid, label, 255 if fill > 0 else -100)
        )
        found = score_shifts(z, label, valid, name, 2, known=known, way=way)
        assert torch.equal(found.score, expected.score)
        assert torch.equal(found.overlap, expected.overlap)


@pytest.mark.parametrize("bad", [float("nan"), INF, -INF])
@pytest.mark.parametrize("way", ["fft", "direct"])
@pytest.mark.parametrize(("name", "continuous"), CASES)
def test_a_sample_that_is_not_finite_has_no_score_and_harms_no_other(name, continuous, way, bad):
    z, label, valid, _ = draw(continuous, (7, 6))
    valid[:] = True
    expected = score_shifts(z, label, valid, name, 2, way=way)
    (label if continuous and way == "fft" else z)[1, 0, 3, 3] = bad
    found = score_shifts(z, label, valid, name, 2, way=way)
    assert not found.score.isnan().any() and not (found.score == INF).any()
    torch.testing.assert_close(found.score[::2], expected.score[::2], rtol=0, atol=1e-12)
    assert (found.score[1] == -INF).all()
    assert best_shift(found)[0][1].tolist() == [0, 0]


@pytest.mark.parametrize(("name", "continuous"), CASES)
def test_half_precision_and_autocast_give_single(name, continuous):
    z, label, valid, known = draw(continuous, (12, 10), dtype=torch.float32)
    for dtype in (torch.float16, torch.bfloat16):
        short = z.to(dtype)
        y = label.to(dtype) if continuous else label
        plain = score_shifts(
            short.float(), y.float() if continuous else y, valid, name, 2, known=known
        )
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = score_shifts(short, y, valid, name, 2, known=known)
        assert found.score.dtype == torch.float32
        assert torch.equal(found.score, plain.score)


@pytest.mark.parametrize(("name", "continuous"), CASES)
def test_parts_of_the_batch_are_scored_alike(name, continuous, monkeypatch):
    z, label, valid, known = draw(continuous, (7, 6))
    valid[1], known[2] = True, True
    expected = score_shifts(z, label, valid, name, 2, known=known)
    monkeypatch.setattr(scores, "MOST_AT_ONCE", 1)
    found = score_shifts(z, label, valid, name, 2, known=known)
    torch.testing.assert_close(found.score, expected.score, rtol=0, atol=1e-10)
    assert torch.equal(found.overlap, expected.overlap)


@pytest.mark.parametrize(("name", "continuous"), CASES)
def test_no_gradient_is_kept_and_no_input_changed(name, continuous):
    inputs = draw(continuous, (7, 6))
    copies = [t.clone() for t in inputs]
    z, label, valid, known = inputs
    found = score_shifts(z.requires_grad_(), label, valid, name, 2, known=known)
    assert not found.score.requires_grad
    for now, before in zip(inputs, copies, strict=True):
        assert torch.equal(now, before)


# ------------------------------------------------------------------ nothing to say


def flat(continuous, space=(6, 5)):
    """Per sample: empty label, full label, flat prediction, nothing valid, nothing known, all."""
    z, label, valid, known = draw(continuous, space, batch=6)
    valid[:], known[:] = True, True
    label[0], label[1] = 0, 1
    z[2] = 0.3
    valid[3], known[4] = False, False
    z[5], label[5] = 0, 0
    return z, label, valid, known


@pytest.mark.parametrize("way", ["fft", "direct"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "continuous"), CASES)
def test_it_is_never_nan(name, continuous, dtype, way):
    z, label, valid, known = flat(continuous)
    z, label = z.to(dtype), label.to(dtype) if continuous else label
    for window in (0, 2, (9, 1)):
        for least in (0.0, 0.5, 1.0):
            found = score_shifts(
                z, label, valid, name, window, known=known, least_overlap=least, way=way
            )
            assert not found.score.isnan().any() and not (found.score == INF).any()
            assert (found.score[3:5] == -INF).all()
            assert best_shift(found)[0][3:5].abs().sum() == 0


@pytest.mark.parametrize("way", ["fft", "direct"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["normalised", "phase", "mutual_information"])
@pytest.mark.parametrize("continuous", [False, True])
def test_where_one_of_both_is_flat_no_displacement_is_better(name, continuous, dtype, way):
    z, label, valid, known = flat(continuous, (16, 15))
    z, label = z.to(dtype), label.to(dtype) if continuous else label
    for least in (0.1, 0.5):
        found = score_shifts(z, label, valid, name, 4, known=known, least_overlap=least, way=way)
        for k in (0, 1, 2, 5):
            some = found.score[k].isfinite()
            assert (found.score[k][some] == 0).all(), k
            assert best_shift(found)[0][k].tolist() == [0, 0]


@pytest.mark.parametrize("way", ["fft", "direct"])
@pytest.mark.parametrize("name", ["cross_entropy", "binary_cross_entropy", "focal", "l1", "l2"])
def test_a_prediction_that_knows_nothing_moves_nothing(name, way):
    label = (torch.rand(4, 32, 32, generator=torch.Generator().manual_seed(0)) < 0.3).long()
    found = score_shifts(torch.zeros(4, 2, 32, 32), label, label >= 0, name, 9, way=way)
    assert best_shift(found)[0].abs().sum() == 0


@pytest.mark.parametrize(("least", "scored"), [(0.0, 15), (0.5, 11), (0.51, 9), (1.0, 5)])
def test_too_little_overlap_has_no_score(least, scored):
    z, label, valid, known = draw(False, (10,), batch=1)
    valid[:], known[:] = True, True
    known[:, 6:] = False  # 6 are known and 10 valid, so 6 is what could be shared
    found = score_shifts(z, label, valid, "dice", 9, known=known, least_overlap=least)
    shared = [1, 2, 3, 4, 5, 6, 6, 6, 6, 6, 5, 4, 3, 2, 1, 0, 0, 0, 0]
    assert found.overlap.tolist() == [shared]
    assert found.score.isfinite().tolist() == [[n >= max(1, 6 * least) for n in shared]]
    assert found.score.isfinite().sum() == scored


def test_displacements_beyond_the_image_share_nothing():
    z, label, valid, _ = draw(False, (4, 3))
    found = score_shifts(z, label, valid | True, "cross_entropy", (6, 3), least_overlap=0)
    assert found.score.shape == (3, 13, 7)
    assert (found.overlap[:, 3:10, 1:6] > 0).all()
    assert found.overlap.sum() == found.overlap[:, 3:10, 1:6].sum()
    assert torch.equal(found.score.isfinite(), found.overlap > 0)


@pytest.mark.parametrize(("name", "continuous"), CASES)
def test_no_samples_have_no_scores(name, continuous):
    z, label, valid, known = (t[:0] for t in draw(continuous, (5, 4)))
    found = score_shifts(z, label, valid, name, (1, 2), known=known)
    assert found.score.shape == found.overlap.shape == (0, 3, 5)
    assert found.score.dtype == torch.float64


# ------------------------------------------------------------------ what is refused


def test_scores_and_options_that_do_not_exist_are_refused():
    z, label, valid, _ = draw(False, (5,))
    with pytest.raises(
        SettingsError, match="unknown score 'normalized'; did you mean 'normalised'"
    ):
        score_shifts(z, label, valid, "normalized", 1)
    for least in (-0.1, 1.1, float("nan")):
        with pytest.raises(SettingsError, match="least_overlap must be 0 to 1"):
            score_shifts(z, label, valid, "dice", 1, least_overlap=least)
    with pytest.raises(SettingsError, match="bins must be 2 or more, not 1"):
        score_shifts(z, label, valid, "mutual_information", 1, bins=1)
    with pytest.raises(SettingsError, match="unknown way"):
        score_shifts(z, label, valid, "dice", 1, way="quick")


@pytest.mark.parametrize("name", sorted(set(SCORES) - set(REGRESSION_SCORES)))
def test_scores_of_classes_refuse_values(name):
    z, label, valid, _ = draw(True, (5,))
    with pytest.raises(SettingsError, match="needs class labels, but these are continuous"):
        score_shifts(z, label, valid, name, 1)


def test_shapes_that_do_not_fit_are_refused():
    z, label, valid, known = draw(False, (5, 4))
    for message, arguments in (
        ("valid must be bool", (z, label, valid.long())),
        ("valid must be bool", (z[:2], label, valid)),
        (r"label must be int64 \(3, 5, 4\) or floating \(3, 3, 5, 4\)", (z, label.int(), valid)),
        ("label must be int64", (z, label[:, 1:], valid)),
        ("label must be int64", (z, z[:, :2], valid)),
        ("at least 2 classes", (z[:, :1], label, valid)),
        (
            "label must hold classes 0 to 1, for so many have logits, not 2",
            (z[:, :2], label, valid),
        ),
        ("label must hold classes 0 to 2, for so many have logits, not -1", (z, label - 1, valid)),
    ):
        with pytest.raises(ShapeError, match=message):
            score_shifts(*arguments, "correlation", 1)
    for wrong in (known[:2], known.float()):
        with pytest.raises(ShapeError, match=r"known must be bool \(3, 5, 4\)"):
            score_shifts(z, label, valid, "correlation", 1, known=wrong)
    with pytest.raises(ShapeError, match="window must be"):
        score_shifts(z, label, valid, "correlation", (1, 2, 3))
