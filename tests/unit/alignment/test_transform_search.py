from itertools import product

import pytest
import torch
from torch.nn.functional import avg_pool1d, avg_pool2d, avg_pool3d

from labelmend.alignment.affine import inverse, rotation_matrix, warp_affine
from labelmend.alignment.aligner import ShiftAligner
from labelmend.alignment.placement import edge_length
from labelmend.alignment.resolution import at_resolution, coarse_factors
from labelmend.alignment.shifts import shift
from labelmend.alignment.transform_candidates import KINDS, Family
from labelmend.alignment.transform_rounds import edge_spread
from labelmend.alignment.transform_search import TransformAligner
from labelmend.errors import LabelmendError, SettingsError, ShapeError
from labelmend.types import EMPTY, FLAT, IN_PLACE, MOVED

from .oracle_turns import apart, best_transform

TRUTH = {
    1: ((400,), {"affine": [[0.06]], "similarity": [[-0.07]]}),
    2: (
        (64, 72),
        {
            "rigid": [[0.12]],
            "similarity": [[-0.1, 0.06]],
            "affine": [[0.1, -0.03, 0.05, 0.06]],
        },
    ),
    3: (
        (28, 30, 26),
        {
            "rigid": [[0.15, -0.12, 0.1]],
            "similarity": [[0.0, 0.15, -0.12, 0.07]],
            "affine": [[0.1, 0.0, -0.12, 0.04, 0.03, -0.02, 0.05, 0.0, -0.05]],
        },
    ),
}
CASES = [(dims, kind) for dims, (_, kinds) in TRUTH.items() for kind in kinds]


def shapes(space, seed=0, number=9):
    """Boxes of several sizes: a scene that looks like no turned copy of itself."""
    g = torch.Generator().manual_seed(seed)
    scene = torch.zeros(space, dtype=torch.int64)
    for _ in range(number):
        low = [int(torch.randint(n // 10, n - n // 4, (), generator=g)) for n in space]
        most = [max(n // 5, 4) for n in space]
        size = [int(torch.randint(3, m + 1, (), generator=g)) for m in most]
        scene[tuple(slice(a, a + s) for a, s in zip(low, size, strict=True))] = 1
    return scene


def predicted(truth, noise=0.5, seed=0, classes=2):
    g = torch.Generator().manual_seed(seed)
    z = 5.0 * torch.nn.functional.one_hot(truth, classes).movedim(-1, 1).float()
    return z + noise * torch.randn(z.shape, generator=g)


def planted(dims, kind, displacement=1.5, seed=0):
    """A prediction, a label that lies elsewhere, its valid, and the matrix that puts it back."""
    space, rows = TRUTH[dims][0], TRUTH[dims][1][kind]
    family = Family(kind, space, 10.0, 0.1, 0.1)
    move = torch.full((1, dims), displacement)
    matrix = family.matrices(torch.tensor(rows), move)
    truth = shapes(space, seed, 9 if dims < 3 else 12)[None]
    label, _ = warp_affine(truth, truth > -1, inverse(matrix))
    return predicted(truth, seed=seed), label, label > -1, matrix


@pytest.mark.parametrize(("dims", "kind"), CASES)
def test_planted_transforms_are_found(dims, kind):
    z, label, valid, matrix = planted(dims, kind)
    moved = TransformAligner(kind, window=4, confidence=0.9, grain=7.0)(z, label, valid)
    assert moved.reason.tolist() == [MOVED]
    assert apart(label[0], moved.matrix[0], matrix[0]) < 0.8
    before = (label == z.argmax(1)).float().mean()
    after = (moved.label == z.argmax(1))[moved.valid].float().mean()
    assert 1 - after < 0.5 * (1 - before)
    again, known = warp_affine(label, valid, moved.matrix)
    assert torch.equal(moved.label, again) and torch.equal(moved.valid, known)
    assert moved.confidence.item() > 0.9 and moved.gain.item() > 3
    centre = torch.tensor([(n - 1) / 2 for n in label.shape[1:]] + [1.0])
    assert torch.allclose(moved.matrix[0] @ centre - centre[:-1], moved.displacement[0], atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_the_slow_twin_finds_the_same_within_a_step(seed):
    space = (30, 32)
    family = Family("similarity", space, 20.0, 0.2, 0.0)
    truth = shapes(space, seed, 6)[None]
    matrix = family.matrices(torch.tensor([[0.22, -0.1]]), torch.tensor([[1.0, -1.0]]))
    label, _ = warp_affine(truth, truth > -1, inverse(matrix))
    z = predicted(truth, 2.0, seed)
    sides = [[size * i / 3 for i in range(-3, 4)] for size in family.ranges]
    row, move = best_transform(family, z, label, label > -1, product(*sides), (1, 1))
    slow = family.matrices(torch.tensor([row]), torch.tensor([move], dtype=torch.float32))
    aligner = TransformAligner("similarity", window=1, angle=20.0, stretch=0.2)
    fast = aligner.find(z, label, label > -1)
    assert fast.turned.item()
    step = (
        0.12 * 15
    )  # what the ends of the axes move by, from one candidate of the twin to the next
    assert apart(label[0], fast.matrix[0], slow[0]) < step / 2
    assert apart(label[0], fast.matrix[0], matrix[0]) < 0.8


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_right_labels_come_back_as_they_were(dims, kind):
    truth = torch.stack([shapes(TRUTH[dims][0], seed) for seed in range(3)])
    valid = torch.ones_like(truth, dtype=torch.bool)
    moved = TransformAligner(kind, window=3)(predicted(truth), truth, valid)
    assert moved.reason.tolist() == [IN_PLACE] * 3
    assert torch.equal(moved.label, truth) and torch.equal(moved.valid, valid)
    assert torch.equal(moved.matrix, torch.eye(dims, dims + 1).expand(3, -1, -1))


@pytest.mark.parametrize("kind", KINDS)
def test_what_only_shifted_is_shifted_and_not_interpolated(kind):
    truth = torch.stack([shapes((64, 72), seed) for seed in range(3)])
    valid = torch.ones_like(truth, dtype=torch.bool)
    away = torch.tensor([[2, -3], [0, 4], [-3, 0]])
    label, valid = shift(truth, valid, -away)
    z = predicted(truth)
    moved = TransformAligner(kind, window=5)(z, label, valid)
    alone = ShiftAligner(window=5)(z, label, valid)
    assert torch.equal(moved.displacement, away.float())
    assert torch.equal(moved.matrix[:, :, :2], torch.eye(2).expand(3, -1, -1))
    for name in ("label", "valid", "displacement", "confidence", "gain", "reason"):
        assert torch.equal(getattr(moved, name), getattr(alone, name)), name


def guessed(aligner, z, label, valid):
    """What the search found before it was decided upon."""
    search, (turn, shift), gain = aligner._search(
        (z, label, valid, None, None), aligner._family(valid), edge_length(label, valid)
    )
    return search, turn, (turn.likely - shift.likely).item(), gain.item()


def test_turning_must_gain_the_margin_over_the_best_shift():
    z, label, valid, _ = planted(2, "rigid", displacement=3.0)
    _, _, over, gain = guessed(TransformAligner("rigid", window=4), z, label, valid)
    assert gain > over + 1  # much of it is the shift's
    for margin, turns in ((0.95 * over, True), (over + 0.5, False)):
        found = TransformAligner("rigid", window=4, margin=margin).find(z, label, valid)
        assert found.turned.item() == turns
    assert torch.equal(found.matrix[0, :, :2], torch.eye(2))


def test_turning_must_be_as_sure_as_is_asked():
    z, label, valid, _ = planted(2, "rigid")
    z = z + 4 * torch.randn(z.shape, generator=torch.Generator().manual_seed(1))
    aligner = TransformAligner("rigid", window=4, margin=0.0)
    sure = guessed(aligner, z, label, valid)[1].sure.item()
    assert 0.05 < sure < 0.999
    for confidence, turns in ((0.99 * sure, True), (1.001 * sure, False)):
        options = {"window": 4, "margin": 0.0, "confidence": confidence}
        assert TransformAligner("rigid", **options).find(z, label, valid).turned.item() == turns


def test_the_centre_never_leaves_the_window():
    z, label, valid, matrix = planted(2, "rigid", displacement=5.5)
    far = guessed(TransformAligner("rigid", window=7), z, label, valid)[1].displacement
    assert (far - 5.5).abs().max() < 1
    near = guessed(TransformAligner("rigid", window=3), z, label, valid)[1].displacement
    assert near.abs().max() <= 3.5 and matrix[0, 0, 0] < 1


@pytest.mark.parametrize("kind", KINDS)
def test_where_nothing_is_known_the_identity_is_likeliest(kind):
    z, label, valid, _ = planted(2, "affine")
    _, turn, over, gain = guessed(TransformAligner(kind, window=3), z, label * 0, valid)
    assert not turn.parameters.any() and not turn.displacement.any() and over == gain == 0


def test_a_prior_costs_half_of_its_square():
    family = Family("affine", (9, 9), 10.0, 0.1, 0.1)
    ends = torch.tensor(family.ranges).diag()
    assert torch.allclose(family.cost(ends), torch.full((4,), 2.0))
    assert family.cost(torch.zeros(4)) == 0


def test_shear_and_stretch_do_not_turn():
    family = Family("affine", (9, 9, 9), 10.0, 0.1, 0.1)
    for k in range(3, 9):
        row = torch.zeros(1, 9)
        row[0, k] = 0.1
        linear = family.matrices(row, torch.zeros(1, 3))[0, :, :3]
        assert torch.equal(linear, linear.T) and not torch.equal(linear, torch.eye(3))


def test_a_turn_beyond_the_range_is_not_made():
    z, label, valid, _ = planted(2, "rigid")
    found = TransformAligner("rigid", window=4, angle=3.0).find(z, label, valid)
    assert found.matrix[0, 1, 0].abs() <= torch.deg2rad(torch.tensor(3.0)).sin() + 1e-6
    none = TransformAligner("rigid", window=4, angle=0.0).find(z, label, valid)
    assert not none.turned.item()


@pytest.mark.parametrize("kind", KINDS)
def test_no_axis_is_stretched_beyond_the_range(kind):
    family = Family(kind, (9, 9, 9), 10.0, 0.1, 0.0)
    parameters = 3 * torch.randn(50, len(family.ranges), generator=torch.Generator().manual_seed(0))
    linear = family.matrices(family.bound(parameters), torch.zeros(50, 3))[..., :-1]
    assert torch.linalg.svdvals(linear).log().abs().max() < torch.tensor(1.1).log() + 1e-5


def batch():
    cases = [planted(2, "similarity", seed=seed) for seed in range(3)]
    z, label, _, _ = (torch.cat(parts) for parts in zip(*cases, strict=True))
    stays = shapes((64, 72), 9)[None]
    nothing = torch.zeros_like(stays)
    z = torch.cat([z, predicted(stays), predicted(stays), torch.zeros(1, 2, 64, 72)])
    return z, torch.cat([label, stays, nothing, stays]), torch.ones(6, 64, 72, dtype=torch.bool)


def test_no_sample_depends_on_the_others():
    z, label, valid = batch()
    aligner = TransformAligner("similarity", window=4)
    whole = aligner(z, label, valid)
    assert whole.reason.tolist() == [MOVED] * 3 + [IN_PLACE, EMPTY, FLAT]
    order = torch.tensor([4, 2, 5, 0, 3, 1])
    mixed = aligner(z[order], label[order], valid[order])
    alone = [aligner(z[k : k + 1], label[k : k + 1], valid[k : k + 1]) for k in range(6)]
    for name in ("label", "valid", "reason", "matrix", "confidence", "gain"):
        one = getattr(whole, name)
        torch.testing.assert_close(getattr(mixed, name), one[order], rtol=1e-3, atol=1e-3)
        each = torch.cat([getattr(a, name) for a in alone])
        torch.testing.assert_close(each, one, rtol=1e-3, atol=1e-3)


def test_nothing_is_known_of_empty_flat_and_invalid_labels():
    z, label, valid = batch()
    valid[0] = False
    z[1] = torch.nan
    moved = TransformAligner("affine", window=4)(z, label, valid)
    for k in (0, 1, 4, 5):
        assert torch.equal(moved.matrix[k], torch.eye(2, 3)) and moved.reason[k] not in (MOVED,)
        assert torch.equal(moved.label[k], torch.where(valid[k], label[k], 0))
        assert torch.equal(moved.valid[k], valid[k])
    assert moved.reason[2] == MOVED
    for values in (moved.confidence, moved.gain, moved.matrix, moved.displacement):
        assert not values.isnan().any()


def test_an_empty_batch_stays_empty():
    given = torch.zeros(0, 2, 16, 16), torch.zeros(0, 16, 16, dtype=torch.int64)
    found = TransformAligner("affine", window=2)(*given, torch.ones(0, 16, 16, dtype=torch.bool))
    assert found.label.shape == (0, 16, 16) and found.matrix.shape == (0, 2, 3)


def test_what_is_not_valid_or_not_known_counts_for_nothing():
    z, label, valid, matrix = planted(2, "rigid")
    valid, known = valid.clone(), valid.clone()
    valid[:, 10:20, 30:40] = False
    known[:, :, 60:] = False
    aligner = TransformAligner("rigid", window=4)
    found = aligner(z, label, valid, known=known)
    assert found.reason.tolist() == [MOVED] and apart(label[0], found.matrix[0], matrix[0]) < 1
    other = aligner(
        torch.where(known.unsqueeze(1), z, torch.nan), torch.where(valid, label, 77), valid,
        known=known,
    )  # fmt: skip
    assert torch.equal(found.matrix, other.matrix) and torch.equal(found.label, other.label)
    assert torch.equal(found.valid, other.valid) and not bool(found.valid.all())


def test_continuous_labels_turn_too():
    z, label, valid, matrix = planted(2, "rigid")
    values = torch.nn.functional.one_hot(label, 2).movedim(-1, 1).float()
    moved = TransformAligner("rigid", window=4)(z, values, valid)
    assert moved.reason.tolist() == [MOVED] and moved.label.dtype == values.dtype
    assert apart(label[0], moved.matrix[0], matrix[0]) < 0.8


@pytest.mark.parametrize("score", ["cross_entropy", "dice_ce", "mutual_information", "correlation"])
def test_other_scores_find_it_too(score):
    z, label, valid, matrix = planted(2, "rigid")
    found = TransformAligner("rigid", window=4, score=score).find(z, label, valid)
    assert found.turned.item() and apart(label[0], found.matrix[0], matrix[0]) < 1.0


def test_members_of_a_group_turn_alike_and_are_found_together():
    cases = [planted(2, "rigid", seed=seed) for seed in range(4)]
    z, label, valid, matrix = (torch.cat(parts) for parts in zip(*cases, strict=True))
    weak = z + 5 * torch.randn(z.shape, generator=torch.Generator().manual_seed(5))
    aligner = TransformAligner("rigid", window=4)
    alone = aligner.find(weak, label, valid)
    group = torch.tensor([3, 3, 3, 3])
    found = aligner.find(weak, label, valid, group=group)
    assert not bool(alone.turned.any()) and bool(found.turned.all())
    assert all(torch.equal(found.matrix[0], found.matrix[k]) for k in range(4))
    assert apart(label[0], found.matrix[0], matrix[0]) < 1.0
    of_two = aligner.find(z, label, valid, group=torch.tensor([0, 1, 0, 1]))
    assert torch.equal(of_two.matrix[0], of_two.matrix[2])
    assert not torch.equal(of_two.matrix[0], of_two.matrix[1])


def test_the_evidence_of_a_group_is_the_sum_of_its_members():
    z, label, valid, _ = planted(2, "rigid")
    aligner = TransformAligner("rigid", window=4, prior=1e6)
    z, label, valid = (torch.cat([t, t]) for t in (z, label, valid))
    gains = []
    for group in (None, torch.tensor([0, 0])):
        search, (turn, shift), _ = aligner._search(
            (z, label, valid, None, group), aligner._family(valid), edge_length(label, valid)
        )
        # Less the prior, which counts once for all.
        cost = search.family.cost(turn.parameters)
        gains.append((turn.likely - shift.likely)[0] + cost[0])
    assert gains[1] / gains[0] == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("score", ["cross_entropy", "correlation", "normalised"])
def test_a_prediction_that_says_nothing_turns_no_label(score):
    _, label, valid, _ = planted(2, "rigid")
    z = torch.tensor([3.0, 1.0]).view(1, 2, 1, 1).expand(1, 2, *label.shape[1:])
    found = TransformAligner("rigid", window=4, score=score).find(z, label, valid)
    assert found.reason.tolist() == [FLAT] and torch.equal(found.matrix[0], torch.eye(2, 3))


def test_large_images_are_looked_at_roughly_first():
    space = (256, 192)
    truth = torch.nn.functional.interpolate(shapes((64, 48))[None, None].float(), scale_factor=4)
    truth = truth[0].long()
    family = Family("rigid", space, 10.0, 0.0, 0.0)
    matrix = family.matrices(torch.tensor([[0.13]]), torch.tensor([[7.0, -9.5]]))
    label, _ = warp_affine(truth, truth > -1, inverse(matrix))
    aligner = TransformAligner("rigid", window=16, grain=4.0)
    found = aligner.find(predicted(truth, 3.0), label, label > -1)
    assert found.turned.item() and apart(label[0], found.matrix[0], matrix[0]) < 1.0


def test_half_precision_and_autocast_change_nothing_of_note():
    z, label, valid, _ = planted(2, "similarity")
    aligner = TransformAligner("similarity", window=4)
    one = aligner.find(z, label, valid)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(aligner.find(z, label, valid).matrix, one.matrix)
    half = aligner.find(z.half(), label, valid)
    double = aligner.find(z.double(), label, valid)
    torch.testing.assert_close(half.matrix, one.matrix, rtol=0.02, atol=0.2)
    torch.testing.assert_close(double.matrix.float(), one.matrix, rtol=0.01, atol=0.02)
    assert double.matrix.dtype == torch.float64 and not z.requires_grad


def test_nothing_given_is_changed_and_no_gradient_flows():
    z, label, valid, _ = planted(2, "rigid")
    kept = z.clone(), label.clone(), valid.clone()
    moved = TransformAligner("rigid", window=4)(z.requires_grad_(), label, valid)
    assert not moved.matrix.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(kept, (z, label, valid), strict=True))


def test_coarse_labels_are_the_label_read_at_the_middle_of_cells():
    label = torch.arange(64).view(1, 8, 8) % 3
    few = at_resolution(torch.zeros(1, 3, 8, 8), label, label > -1, None, (2, 2))
    matrix = rotation_matrix(torch.tensor([0.0]), (8, 8))[None]
    read, valid = few.read(matrix)
    assert torch.equal(read, label[:, 1::2, 1::2]) and bool(valid.all())


@pytest.mark.parametrize(
    ("space", "factors"),
    [((9,), (2,)), ((8, 7), (2, 2)), ((6, 5), (1, 2)), ((5, 4, 7), (2, 2, 2)), ((6, 4), (4, 2))],
)
def test_coarse_values_are_those_of_pooling_to_the_bit(space, factors):
    values = torch.randn(3, 2, *space, generator=torch.Generator().manual_seed(0))
    pool = {1: avg_pool1d, 2: avg_pool2d, 3: avg_pool3d}[len(space)]
    known = torch.ones(3, *space, dtype=torch.bool)
    assert torch.equal(
        at_resolution(values, values, known, None, factors).prediction, pool(values, factors)
    )


def test_a_coarse_prediction_is_the_mean_of_what_is_known():
    z = torch.tensor([[[0.0, 4.0, 2.0, torch.nan]]])
    label, known = z.nan_to_num(), torch.tensor([[True, True, True, False]])
    few = at_resolution(z, label, known, known, (2,))
    assert few.prediction.tolist() == [[[2.0, 2.0]]] and few.known.tolist() == [[True, True]]
    none = at_resolution(z, label, known, known & False, (2,))
    assert none.known.tolist() == [[False, False]]


def test_edges_put_apart_are_what_a_loop_says():
    label = shapes((64, 72), 3)[None]
    whole = at_resolution(predicted(label), label, label > -1, None, (1, 1))
    spread = edge_spread(whole, (64, 72), None)
    change, away = torch.tensor([[0.02, -0.1], [0.1, 0.03]]), torch.tensor([1.5, -2.0])
    total, number = 0.0, 0
    for y, x in product(range(64), range(72)):
        q = torch.tensor([y - 31.5, x - 35.5])
        weight = sum(
            int(label[0, y, x] != label[0, a, b])
            for a, b in ((y + 1, x), (y, x + 1))
            if a < 64 and b < 72
        )
        total += weight * float((change @ q + away).square().sum())
        number += weight
    found = spread.apart(change.view(1, 1, 2, 2), away.view(1, 1, 2)).item()
    assert found == pytest.approx((total / number) ** 0.5, rel=1e-4)


def test_short_axes_keep_their_length():
    assert coarse_factors((256, 256, 12)) == (4, 4, 1) and coarse_factors((64, 64)) == (1, 1)


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "elastic"},
        {"kind": "rigid", "score": "best"},
        {"kind": "rigid", "angle": -1.0},
        {"kind": "affine", "stretch": float("nan")},
        {"kind": "affine", "shear": 2.0},
        {"kind": "affine", "prior": 0.0},
        {"kind": "affine", "confidence": 0.0},
        {"kind": "affine", "margin": -1.0},
        {"kind": "affine", "near": -1.0},
    ],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(SettingsError):
        TransformAligner(**options)


def test_shapes_that_do_not_fit_are_refused():
    z, label, valid, _ = planted(2, "rigid")
    with pytest.raises(ShapeError):
        TransformAligner("rigid")(z, label[:, :-1], valid)
    with pytest.raises(LabelmendError):
        TransformAligner("rigid", window=(1, 2, 3))(z, label, valid)
