"""Classes and patches that move by themselves: where to, and what of the label is then known."""

import pytest
import torch
from torch.nn.functional import one_hot

from labelmend.alignment.aligner import ShiftAligner
from labelmend.alignment.fields import warp_field
from labelmend.alignment.parts import ClassAligner, PatchAligner, _assembled, summary
from labelmend.alignment.placement import Placement
from labelmend.alignment.shifts import shift
from labelmend.errors import SettingsError, ShapeError
from labelmend.types import EMPTY, FLAT, IN_PLACE, MOVED, PARTLY, UNSURE

NEAR = ShiftAligner(window=3)
SPACES = [(96,), (30, 34), (14, 15, 16)]


def texture(space, batch=3, classes=2, seed=0):
    return torch.randint(0, classes, (batch, *space), generator=torch.Generator().manual_seed(seed))


def logits_of(label, classes=2, seed=0, noise=1.0):
    z = 6 * one_hot(label, classes).movedim(-1, 1).float()
    return z + noise * torch.randn(z.shape, generator=torch.Generator().manual_seed(seed))


def rolled(label, ways):
    axes = tuple(range(label.ndim - 1))
    return torch.stack([one.roll(tuple(way), axes) for one, way in zip(label, ways, strict=True)])


def everywhere(label):
    return torch.ones_like(label, dtype=torch.bool)


def two_squares(one, other, size=48):
    label = torch.zeros(1, size, size, dtype=torch.int64)
    label[0, 8 + one[0] : 18 + one[0], 8 + one[1] : 20 + one[1]] = 1
    label[0, 28 + other[0] : 38 + other[0], 26 + other[1] : 38 + other[1]] = 2
    return label


# ---------------------------------------------------------------- classes


def test_every_class_moves_by_itself():
    label, true = two_squares((0, 0), (0, 0)), two_squares((2, -1), (-3, 0))
    classes = ClassAligner(NEAR)
    found = classes.find(logits_of(true, 3), label, everywhere(label))
    assert found.displacement.tolist() == [[[2, -1], [-3, 0]]]
    assert found.reason.tolist() == [[MOVED, MOVED]]
    moved = classes(logits_of(true, 3), label, everywhere(label))
    assert torch.equal(moved.label, torch.where(moved.valid, true, 0))
    # both classes are of one area, 120, so the mean is that of both displacements
    torch.testing.assert_close(moved.displacement, torch.tensor([[-0.5, -0.5]]))
    assert moved.reasons == ("moved",)
    assert moved.gain == found.gain.sum() and moved.confidence == found.confidence.min()


@pytest.mark.parametrize("space", SPACES)
def test_one_class_moves_as_with_the_aligner(space):
    true = texture(space)
    label = rolled(true, [[1] * len(space), [-2] * len(space), [0] * len(space)])
    valid = torch.rand(label.shape, generator=torch.Generator().manual_seed(1)) < 0.9
    z = logits_of(true)
    one, other = ClassAligner(NEAR)(z, label, valid), NEAR(z, label, valid)
    assert torch.equal(one.displacement, other.displacement)
    assert torch.equal(one.label, other.label) and torch.equal(one.valid, other.valid)
    assert torch.equal(one.reason, other.reason)
    torch.testing.assert_close(one.confidence, other.confidence)


@pytest.mark.parametrize("space", SPACES)
def test_classes_that_move_alike_move_as_one(space):
    true = texture(space, classes=4)
    label = rolled(true, [[1] * len(space), [-1] * len(space), [0] * len(space)])
    found = ClassAligner(NEAR)(logits_of(true, 4), label, everywhere(label))
    ways = torch.tensor([[-1] * len(space), [1] * len(space), [0] * len(space)])
    torch.testing.assert_close(found.displacement, ways.float())
    expected = shift(label, everywhere(label), ways)
    assert torch.equal(found.label, expected[0]) and torch.equal(found.valid, expected[1])


def by_loop(label, valid, ways):
    """The rule of :class:`ClassAligner`, position by position."""
    batch, size = label.shape
    out, known = torch.zeros_like(label), torch.zeros_like(valid)
    for k in range(batch):
        there = sorted({int(c) for c in label[k][valid[k]]} - {0})
        for p in range(size):
            claims, sure = [], bool(valid[k, p]) or bool(there)
            for c in there:
                q = p - int(ways[k, c - 1, 0])
                if not (0 <= q < size and valid[k, q]):
                    sure = False
                elif label[k, q] == c:
                    claims.append(c)
            if len(claims) == 1 or (not claims and sure):
                known[k, p], out[k, p] = True, claims[0] if claims else 0
    return out, known


@pytest.mark.parametrize("seed", range(20))
def test_classes_are_put_together_by_the_rule(seed):
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 4, (5, 13), generator=generator)
    label = torch.where(torch.rand(5, 13, generator=generator) < 0.5, 0, label)
    label[0], label[1][label[1] == 2] = 0, 0
    valid = torch.rand(5, 13, generator=generator) < 0.9
    label = torch.where(valid, label, 255)
    ways = torch.randint(-3, 4, (5, 3, 1), generator=generator)
    found, expected = _assembled(label, valid, ways), by_loop(label, valid, ways)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
    areas = [
        [int(((row == c) & ok).sum()) for c in (1, 2, 3)]
        for row, ok in zip(label, valid, strict=True)
    ]
    assert found[2].tolist() == areas


def test_classes_that_meet_are_not_valid():
    label = torch.tensor([[0, 1, 1, 0, 2, 2, 0]])
    moved, valid, _ = _assembled(label, everywhere(label), torch.tensor([[[2], [-1]]]))
    assert moved.tolist() == [[0, 0, 0, 0, 0, 0, 0]]
    assert valid.tolist() == [[False, False, True, False, False, True, False]]


def test_a_group_finds_its_classes_together():
    label, true = two_squares((0, 0), (0, 0)), two_squares((2, -1), (-3, 0))
    z = torch.cat([logits_of(true, 3), logits_of(torch.zeros_like(true), 3)])
    both, group = label.repeat(2, 1, 1), torch.zeros(2).long()
    found = ClassAligner(NEAR).find(z, both, everywhere(both), group=group)
    assert found.displacement.tolist() == [[[2, -1], [-3, 0]]] * 2


def test_continuous_labels_have_no_classes():
    with pytest.raises(SettingsError, match="per sample or per patch"):
        ClassAligner()(torch.zeros(1, 2, 8), torch.zeros(1, 2, 8), torch.ones(1, 8) > 0)


def test_classes_without_logits_are_refused_by_class():
    label = two_squares((0, 0), (0, 0))
    z, valid, label[0, 0, 0] = logits_of(label, 3), everywhere(label), 255
    with pytest.raises(ShapeError, match="classes 0 to 2"):
        ClassAligner(NEAR)(z, label, valid)
    valid[0, 0, 0] = False
    assert ClassAligner(NEAR)(z, label, valid).label.max() < 3


def test_class_probabilities_are_those_of_all_logits():
    # the class against the rest, whose logits are many: sought by its softmax
    true = texture((30, 34), classes=3, seed=4)
    label = rolled(true, [[2, 1]] * 3)
    z = logits_of(true, 3)
    found = ClassAligner(NEAR).find(z, label, everywhere(label))
    p = z.softmax(1)
    for c in (1, 2):
        pair = torch.stack([1 - p[:, c], p[:, c]], 1).log()
        one = NEAR.find(pair, (label == c).long(), everywhere(label))
        assert torch.equal(found.displacement[:, c - 1], one.displacement)
        torch.testing.assert_close(found.gain[:, c - 1], one.gain, rtol=1e-3, atol=1e-2)


# ---------------------------------------------------------------- patches


@pytest.mark.parametrize("space", SPACES)
def test_one_patch_is_the_whole(space):
    true = texture(space)
    label = rolled(true, [[1] * len(space), [-2] * len(space), [0] * len(space)])
    valid = torch.rand(label.shape, generator=torch.Generator().manual_seed(1)) < 0.9
    z = logits_of(true)
    one, other = PatchAligner(max(space), NEAR)(z, label, valid), NEAR(z, label, valid)
    assert torch.equal(one.label, other.label) and torch.equal(one.valid, other.valid)
    field = other.displacement.view(*other.displacement.shape, *[1] * len(space))
    assert torch.equal(one.displacement, field.expand_as(one.displacement))
    assert torch.equal(one.reason, other.reason)
    torch.testing.assert_close(one.confidence, other.confidence)
    torch.testing.assert_close(one.gain, other.gain, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(
    ("space", "size"), [((96,), 48), ((48, 50), (24, 25)), ((24, 16, 16), (12, 16, 16))]
)
def test_patches_that_move_alike_leave_no_seam(space, size):
    true = texture(space)
    ways = torch.tensor([[2] * len(space), [-1] * len(space), [0] * len(space)])
    label = rolled(true, (-ways).tolist())
    found = PatchAligner(size, NEAR)(logits_of(true), label, everywhere(label))
    expected = shift(label, everywhere(label), ways)
    assert torch.equal(found.label, expected[0]) and torch.equal(found.valid, expected[1])


def test_patches_move_by_themselves():
    true = texture((64, 64), batch=2)
    label = true.clone()
    ways = [[(2, 0), (0, -3)], [(-1, -1), (0, 0)]]
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        rows, columns = slice(32 * i, 32 * i + 32), slice(32 * j, 32 * j + 32)
        back = true.roll((-ways[i][j][0], -ways[i][j][1]), (1, 2))
        label[:, rows, columns] = back[:, rows, columns]
    patches = PatchAligner(32, NEAR)
    found = patches.find(logits_of(true), label, everywhere(label))
    assert found.displacement.tolist() == [[[2, 0], [0, -3], [-1, -1], [0, 0]]] * 2
    moved = patches(logits_of(true), label, everywhere(label))
    inner = moved.valid[:, 4:-4, 4:-4]  # what came over the border was rolled
    assert torch.equal(moved.label[:, 4:-4, 4:-4], torch.where(inner, true[:, 4:-4, 4:-4], 0))
    assert 0.85 < inner.float().mean() < 1


def by_loop_of_patches(label, valid, ways, size):
    batch, length = label.shape
    out, known = torch.zeros_like(label), torch.zeros_like(valid)
    field = torch.zeros(batch, 1, length)
    for k in range(batch):
        for p in range(length):
            claims = [
                q for q in range(length) if q + int(ways[k, q // size, 0]) == p and valid[k, q]
            ]
            field[k, 0, p] = float(ways[k, (claims[0] if len(claims) == 1 else p) // size, 0])
            if len(claims) == 1:
                out[k, p], known[k, p] = label[k, claims[0]], True
    return out, known, field


@pytest.mark.parametrize("seed", range(20))
def test_patches_are_joined_by_the_rule(seed):
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 9, (4, 14), generator=generator)
    valid = torch.rand(4, 14, generator=generator) < 0.9
    label = torch.where(valid, label, 255)
    ways = torch.randint(-3, 4, (4, 3, 1), generator=generator)  # patches of 5, 5 and 4
    found = PatchAligner(5, NEAR)._joined(label, valid, ways)
    for one, other in zip(found, by_loop_of_patches(label, valid, ways, 5), strict=True):
        assert torch.equal(one, other)
    again, _ = warp_field(label, valid, found[2])
    assert torch.equal(torch.where(found[1], again, 0), found[0])


def test_channels_move_in_patches_too():
    said = torch.randn(2, 3, 32, 30, generator=torch.Generator().manual_seed(0))
    said[0, :, 3, 3] = torch.nan
    valid = ~said[:, 0].isnan()
    seen = said.nan_to_num(0.0).roll((1, -2), (2, 3))
    found = PatchAligner(16, NEAR)(seen, said, valid)
    expected = shift(said, valid, torch.tensor([[1, -2]] * 2))
    assert torch.equal(found.label, expected[0]) and torch.equal(found.valid, expected[1])


def test_a_patch_is_sought_around_its_own_place():
    # all that shows where the patch belongs lies beyond its own part of the prediction
    label = torch.zeros(1, 60, dtype=torch.int64)
    label[0, 36:38], label[0, 34] = 1, 1
    true = label.roll(-6, 1)
    found = PatchAligner(30, ShiftAligner(window=8)).find(
        logits_of(true, noise=0.1), label, everywhere(label)
    )
    assert found.displacement.tolist() == [[[0], [-6]]]


def test_a_group_moves_patch_by_patch():
    true = texture((64,), batch=1)
    label = torch.cat([true[:, :32].roll(-2, 1), true[:, 32:].roll(1, 1)], 1)
    z = torch.cat([logits_of(true), logits_of(torch.zeros_like(true))])
    both = label.repeat(2, 1)
    found = PatchAligner(32, NEAR).find(z, both, everywhere(both), group=torch.tensor([3, 3]))
    assert found.displacement.tolist() == [[[2], [-1]]] * 2


def test_what_is_known_of_a_prediction_counts_alone():
    true = texture((64,), batch=1)
    label, known = true.roll(-2, 1), torch.zeros(1, 64, dtype=torch.bool)
    known[:, :40] = True
    z = torch.where(known[:, None], logits_of(true), torch.nan)
    found = PatchAligner(32, NEAR).find(z, label, everywhere(label), known=known)
    assert found.displacement[0, 0].tolist() == [2]


@pytest.mark.parametrize("size", [0, -1, (4, 0), ()])
def test_patches_of_no_size_are_refused(size):
    with pytest.raises(SettingsError, match="1 position"):
        PatchAligner(size)


def test_patches_with_other_axes_are_refused():
    label = torch.zeros(1, 8, 8, dtype=torch.int64)
    with pytest.raises(ShapeError, match="one size per axis"):
        PatchAligner((4,))(torch.zeros(1, 2, 8, 8), label, everywhere(label))


@pytest.mark.parametrize("aligner", [ClassAligner(NEAR), PatchAligner(4, NEAR)])
def test_nothing_to_go_by_leaves_a_label_as_it_is(aligner):
    label = torch.zeros(4, 12, 12, dtype=torch.int64)
    label[1:, 3:7, 2:9] = 1
    valid = everywhere(label)
    valid[3] = False
    z = torch.zeros(4, 2, 12, 12)
    z[2] = torch.nan
    found = aligner(z, label, valid)
    assert found.reason.tolist() == [EMPTY, FLAT, FLAT, EMPTY]
    assert torch.equal(found.label[:3], label[:3]) and torch.equal(found.valid, valid)
    assert not found.displacement.any() and not found.gain.any()
    assert all(t.isfinite().all() for t in (found.displacement, found.confidence, found.gain))
    none = aligner(z[:0], label[:0], valid[:0])
    assert none.label.shape == (0, 12, 12) and none.confidence.shape == (0,)


def test_a_part_speaks_for_the_whole():
    rows = [
        ([MOVED, PARTLY, EMPTY], MOVED),
        ([UNSURE, PARTLY, IN_PLACE], PARTLY),
        ([UNSURE, IN_PLACE, EMPTY], IN_PLACE),
        ([UNSURE, FLAT, EMPTY], UNSURE),
        ([FLAT, EMPTY, EMPTY], FLAT),
        ([EMPTY, EMPTY, EMPTY], EMPTY),
        ([MOVED, MOVED, UNSURE], MOVED),
    ]
    reason = torch.tensor([row for row, _ in rows], dtype=torch.uint8)
    sure = torch.linspace(0.1, 0.9, reason.numel()).view(reason.shape)
    found = summary(Placement(torch.zeros(7, 3, 2).long(), sure, sure, reason))
    assert found[2].tolist() == [code for _, code in rows]
    torch.testing.assert_close(found[1], sure.sum(1))
    assert found[0].tolist() == [
        sure[0, 0],
        sure[1, 1],
        sure[2, 1],
        sure[3, 0],
        sure[4, 0],
        sure[5, 0],
        sure[6, 0],
    ]
