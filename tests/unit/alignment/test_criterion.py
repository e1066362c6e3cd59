"""The loss that aligns, and aligning by itself: every form of label, in every kind of loop."""

import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from labelmend.alignment.affine import shift_matrix
from labelmend.alignment.aligner import ShiftAligner
from labelmend.alignment.criterion import AlignedLoss, align
from labelmend.alignment.margins import FILLS, centre
from labelmend.alignment.parts import PatchAligner
from labelmend.alignment.shifts import shift
from labelmend.alignment.warp import WarpAligner
from labelmend.errors import SettingsError, ShapeError
from labelmend.losses import LOSSES, REGRESSION_LOSSES, make_loss
from labelmend.types import EMPTY, HELD, IN_PLACE, MOVED, Alignment

NEAR = ShiftAligner(window=4)
STAY = ShiftAligner(window=0)  # cannot move anything
SPACES = [(96,), (24, 28), (12, 13, 14)]


def texture(space, batch=3, classes=3, seed=0):
    return torch.randint(0, classes, (batch, *space), generator=torch.Generator().manual_seed(seed))


def logits_of(label, classes=3, seed=0, noise=1.0):
    z = 6 * one_hot(label, classes).movedim(-1, 1).float()
    return z + noise * torch.randn(z.shape, generator=torch.Generator().manual_seed(seed))


def channels_of(label, classes=3):
    return one_hot(label, classes).movedim(-1, 1).float()


def off_by(space, seed=0, batch=3, most=3):
    """Predictions, and labels that lie elsewhere; how they must move back."""
    true = texture(space, batch, seed=seed)
    way = torch.randint(
        -most, most + 1, (batch, len(space)), generator=torch.Generator().manual_seed(seed)
    )
    said = torch.stack(
        [
            t.roll(tuple((-w).tolist()), tuple(range(len(space))))
            for t, w in zip(true, way, strict=True)
        ]
    )
    return logits_of(true), said, way.float()


# ---------------------------------------------------------------- align


@pytest.mark.parametrize("space", SPACES)
def test_align_finds_what_was_moved(space):
    z, label, way = off_by(space)
    found = align(z, label, window=4)
    assert torch.equal(found.displacement, way)
    expected = shift(label, torch.ones_like(label) > 0, way.long())
    assert torch.equal(found.label, expected[0]) and torch.equal(found.valid, expected[1])


def test_align_passes_options_on():
    z, label, _ = off_by((24, 28))
    assert (align(z, label, window=1).displacement.abs() <= 1).all()
    assert not align(z, label, window=4, margin=1e9).displacement.any()
    assert align(z, label, window=4, score="dice").reasons == ("moved",) * 3


def test_a_set_moves_as_one():
    z, label, way = off_by((24, 28), batch=1)
    noise = torch.randn(12, *z.shape[1:], generator=torch.Generator().manual_seed(1))
    weak, label = 0.1 * z + 3.0 * noise, label.repeat(12, 1, 1)
    alone = align(weak, label, window=4).displacement
    assert (alone == way).all(1).float().mean() < 0.5
    together = align(weak, label, window=4, per="set")
    assert torch.equal(together.displacement, way.repeat(12, 1))


def test_groups_move_by_themselves():
    z, label, way = off_by((24, 28), batch=2)
    order = torch.tensor([0, 1, 1, 0])
    found = align(z[order], label[order], window=4, per="group", group=order + 5)
    assert torch.equal(found.displacement, way[order])
    at_odds = align(z, label, window=4, per="group", group=torch.zeros(2).long())
    assert torch.equal(at_odds.displacement[0], at_odds.displacement[1])


def test_classes_and_patches_go_through():
    z, label, way = off_by((64, 64), most=2)
    by_class = align(z, label, per="class", window=3)
    assert by_class.displacement.shape == (3, 2)
    torch.testing.assert_close(by_class.displacement, way)
    by_patch = align(z, label, per="patch", patch=32, window=3)
    assert by_patch.displacement.shape == (3, 2, 64, 64)
    assert torch.equal(by_patch.displacement[:, :, 16, 16], way)


@pytest.mark.parametrize("transform", ["rigid", "similarity", "affine"])
def test_labels_may_do_more_than_shift(transform):
    label = torch.zeros(1, 48, 48, dtype=torch.int64)
    label[:, 10:20, 8:30] = 1
    seen = channels_of(label.roll(2, 1), 2) * 8
    for given in (seen, seen[:, :, 6:-6, 6:-6]):
        found = align(given, label, transform=transform, window=4)
        assert (
            found.matrix.shape == (1, 2, 3)
            and found.label.shape == given.shape[:1] + given.shape[2:]
        )
        torch.testing.assert_close(found.displacement, torch.tensor([[2.0, 0.0]]))


@pytest.mark.parametrize("ignore", [255, -100])
def test_what_is_ignored_is_not_valid(ignore):
    z, label, way = off_by((24, 28))
    label[:, 5:9] = ignore
    found = align(z, label, window=4, ignore_index=ignore)
    assert torch.equal(found.displacement, way)
    expected = shift(label, label != ignore, way.long())
    assert torch.equal(found.valid, expected[1]) and torch.equal(found.label, expected[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"transform": "turn"}, "transform"),
        ({"per": "sampel"}, "'sample'"),
        ({"per": "group"}, "needs group"),
        ({"group": torch.zeros(3).long()}, "per='group'"),
        ({"per": "patch"}, "needs patch"),
        ({"patch": 8}, "per='patch'"),
        ({"windows": 4}, "'window'"),
        ({"score": "dise"}, "'dice'"),
        ({"transform": "rigid", "per": "class"}, "transform='shift'"),
        ({"margin": -1.0}, "margin"),
        ({"confidence": 0.0}, "confidence"),
        ({"grain": 0.0}, "grain"),
        ({"prior": 0.0}, "prior"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, words):
    z, label, _ = off_by((24, 28))
    with pytest.raises(SettingsError, match=words):
        align(z, label, **options)


# ---------------------------------------------------------------- predictions smaller than labels


@pytest.mark.parametrize("fill", [None, *FILLS, 0.0])
@pytest.mark.parametrize(
    ("space", "inner"), [((160,), (97,)), ((40, 41), (26, 25)), ((18,) * 3, (12,) * 3)]
)
def test_a_smaller_prediction_is_laid_on_the_middle(space, inner, fill):
    z, label, way = off_by(space, most=2)
    region = centre(inner, space)
    small = z[(slice(None), slice(None), *region.slices)]
    found = align(small, label, window=3, fill=fill)
    assert torch.equal(found.displacement, way)
    assert found.valid.shape == (3, *inner)
    # the margin is wide enough for content to come out of it, so everything is known
    assert found.valid.all()
    whole, _ = shift(label, torch.ones_like(label) > 0, way.long())
    assert torch.equal(found.label, whole[(slice(None), *region.slices)])


def test_what_stands_around_a_prediction_counts_only_if_asked_for():
    z, label, _ = off_by((40, 40), most=2)
    small = z[:, :, 8:-8, 8:-8]
    gains = [align(small, label, window=3, fill=fill).gain for fill in (None, 0.0, "mean")]
    assert not torch.equal(gains[0], gains[1])


def test_the_loss_never_sees_padding():
    z, label, _ = off_by((40, 40), most=2)
    small, shapes = z[:, :, 8:-8, 8:-8].requires_grad_(), []

    def watched(prediction, label):
        shapes.append((tuple(prediction.shape), tuple(label.shape)))
        return nn.functional.cross_entropy(prediction, label, reduction="none")

    criterion = AlignedLoss(watched, NEAR, fill="mean")
    criterion(small, label).backward()
    assert shapes == [((3, 3, 24, 24), (3, 24, 24))]
    found = criterion.align(small, label)
    plain = nn.functional.cross_entropy(small, found.label)
    torch.testing.assert_close(criterion(small, label), plain)


def test_a_field_is_cropped_too():
    z, label, _ = off_by((64, 64), most=2)
    found = align(z[:, :, 16:-16, 16:-16], label, per="patch", patch=32, window=3)
    assert found.displacement.shape == (3, 2, 32, 32)


def test_a_prediction_larger_than_its_label_is_refused():
    z, label, _ = off_by((24, 28))
    with pytest.raises(ShapeError, match="fits into"):
        align(z, label[:, :20])


# ---------------------------------------------------------------- forms of labels


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.uint8, torch.float64])
def test_class_indices_may_have_a_channel(dtype):
    z, label, way = off_by((24, 28))
    found = align(z, label.unsqueeze(1).to(dtype), window=4)
    assert torch.equal(found.displacement, way)
    assert found.label.dtype == dtype and found.label.shape == (3, 1, 24, 28)
    assert torch.equal(found.label[:, 0].long(), align(z, label, window=4).label)


def test_indices_that_are_not_whole_are_refused():
    z, label, _ = off_by((24, 28))
    with pytest.raises(ShapeError, match="whole numbers"):
        align(z, label.unsqueeze(1) + 0.5)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.float16])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid", None])
def test_one_hot_labels_stay_one_hot(activation, dtype):
    z, label, way = off_by((24, 28))
    criterion = AlignedLoss(nn.MSELoss(reduction="none"), NEAR, activation=activation)
    found = criterion.align(z, channels_of(label).to(dtype))
    assert torch.equal(found.displacement, way) and found.label.dtype == dtype
    expected, valid = shift(label, torch.ones_like(label) > 0, way.long())
    assert torch.equal(found.valid, valid)
    assert torch.equal(found.label.argmax(1), expected)
    assert torch.equal(found.label.sum(1) == 1, valid)  # in no class where nothing is known


def test_softmax_takes_one_hot_labels_only_where_valid():
    z, label, _ = off_by((24, 28))
    criterion = AlignedLoss(nn.MSELoss(reduction="none"), NEAR, activation="softmax")
    said, valid = channels_of(label), torch.ones_like(label) > 0
    said[0, :, 3, 3] = torch.tensor([0.4, 0.6, 0.0])
    with pytest.raises(SettingsError, match="one-hot"):
        criterion(z, said, valid)
    valid[0, 3, 3] = False
    assert criterion(z, said, valid).isfinite()


def test_continuous_labels_move_as_they_are():
    _, _, way = off_by((24, 28))
    said = torch.randn(3, 3, 24, 28, generator=torch.Generator().manual_seed(3))
    seen = torch.stack(
        [s.roll(tuple(w.long().tolist()), (1, 2)) for s, w in zip(said, way, strict=True)]
    )
    found = align(2 * seen + 5, said, window=4)
    assert torch.equal(found.displacement, way)
    ignored = said.clone()
    ignored[:, 1, 4:7] = -1000.0
    found = align(2 * seen + 5, ignored, window=4, ignore_index=-1000.0)
    assert torch.equal(found.displacement, way)
    assert torch.equal(found.valid, shift(said, ignored[:, 1] != -1000, way.long())[1])


@pytest.mark.parametrize(
    "label",
    [
        torch.zeros(3, 2, 24, 28),
        torch.zeros(3, 24, 28),
        torch.zeros(3).long(),
        torch.zeros(2, 24, 28).long(),
    ],
)
def test_labels_of_no_known_form_are_refused(label):
    z, _, _ = off_by((24, 28))
    with pytest.raises(ShapeError):
        align(z, label)


# ---------------------------------------------------------------- the loss


def plain_losses():
    from monai.losses import FocalLoss

    return {
        "cross entropy": (nn.CrossEntropyLoss(reduction="none"), False, None),
        "mse": (nn.MSELoss(reduction="none"), True, None),
        "l1": (nn.L1Loss(reduction="none"), True, None),
        "bce": (nn.BCEWithLogitsLoss(reduction="none"), True, "sigmoid"),
        "monai": (FocalLoss(reduction="none", use_softmax=True), True, "softmax"),
        "a function": (lambda p, y: (p - y).square().sum(1), True, None),
    }


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", list(plain_losses()))
def test_a_label_in_place_costs_what_it_does_without(name, reduction):
    loss, channels, activation = plain_losses()[name]
    label = texture((16, 20))
    z = logits_of(label)
    said = channels_of(label) if channels else label
    criterion = AlignedLoss(loss, NEAR, reduction=reduction, activation=activation)
    plain = loss(z, said)
    expected = {"mean": plain.mean(), "sum": plain.sum(), "none": plain}[reduction]
    torch.testing.assert_close(criterion(z, said), expected)


@pytest.mark.parametrize("name", list(plain_losses()))
def test_what_moved_is_averaged_over_what_is_known(name):
    loss, channels, activation = plain_losses()[name]
    z, label, way = off_by((24, 28))
    said = channels_of(label) if channels else label
    valid = torch.ones_like(label) > 0
    valid[1, :10] = False
    criterion = AlignedLoss(loss, NEAR, activation=activation)
    moved, known = shift(said, valid, way.long())
    values = loss(z, moved)
    values = values.movedim(1, -1)[known] if values.ndim == 4 else values[known]
    torch.testing.assert_close(criterion(z, said, valid), values.mean())


@pytest.mark.parametrize("aligner", [NEAR, STAY])
@pytest.mark.parametrize(("own", "given"), [(255, None), (-100, 255), (255, 255)])
def test_ignore_index_is_that_of_the_loss_unless_given(own, given, aligner):
    z, label, _ = off_by((24, 28))
    label[:, 3:6] = given or own
    loss = nn.CrossEntropyLoss(reduction="none", ignore_index=own)
    criterion = AlignedLoss(loss, aligner, ignore_index=given)
    found = criterion.align(z, label)
    if aligner is STAY:
        expected = nn.CrossEntropyLoss(ignore_index=given or own)(z, label)
        torch.testing.assert_close(criterion(z, label), expected)
    assert (found.label < 3).all() and not found.valid.all()


@pytest.mark.parametrize("name", LOSSES)
def test_losses_by_name_keep_samples_apart(name):
    z, label, way = off_by((24, 28))
    valid = torch.rand(label.shape, generator=torch.Generator().manual_seed(0)) < 0.9
    expected = make_loss(name)(z, *shift(label, valid, way.long()))
    for loss in (name, make_loss(name)):
        found = AlignedLoss(loss, NEAR, reduction="none")(z, label, valid)
        assert torch.equal(found, expected)
    torch.testing.assert_close(AlignedLoss(name, NEAR)(z, label, valid), expected.mean())
    torch.testing.assert_close(
        AlignedLoss(name, NEAR, reduction="sum")(z, label.unsqueeze(1), valid), expected.sum()
    )


@pytest.mark.parametrize("name", REGRESSION_LOSSES)
def test_losses_by_name_know_continuous_labels(name):
    label = torch.randn(2, 2, 20, 20, generator=torch.Generator().manual_seed(1))
    loss = make_loss(name, "regression")(label + 1, label, torch.ones(2, 20, 20) > 0)
    torch.testing.assert_close(AlignedLoss(name, NEAR)(label + 1, label), loss.mean())


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.MSELoss(reduction="sum")])
def test_a_loss_that_reduces_is_refused_at_once(loss):
    with pytest.raises(SettingsError, match="reduction='none'"):
        AlignedLoss(loss)


def test_a_loss_that_comes_back_reduced_is_refused():
    from monai.losses import DiceLoss

    z, label, _ = off_by((24, 28))
    said = channels_of(label)
    for loss in (
        lambda p, y: (p - y).abs().mean(),
        lambda p, y: (p - y).abs().mean((1, 2, 3)),
        DiceLoss(reduction="none", softmax=True),
        lambda p, y, valid: (p - y).abs(),
    ):
        with pytest.raises(ShapeError, match=r"one value per position.*dice_ce"):
            AlignedLoss(loss, NEAR)(z, said)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reduction": "meen"}, "'mean'"),
        ({"activation": "softmaks"}, "'softmax'"),
    ],
)
def test_options_of_the_loss_that_do_not_exist_are_refused(options, words):
    with pytest.raises(SettingsError, match=words):
        AlignedLoss(nn.MSELoss(reduction="none"), **options)


def test_a_name_that_does_not_exist_is_refused_at_once():
    with pytest.raises(SettingsError, match="'dice'"):
        AlignedLoss("dise")


# ---------------------------------------------------------------- gradients


@pytest.mark.parametrize("name", [*plain_losses(), "dice_ce", "log"])
def test_what_is_not_known_has_no_gradient_whatever_stands_there(name):
    z, label, way = off_by((24, 28))
    valid = torch.ones_like(label) > 0
    valid[:, 10:14] = False
    if name == "log":  # infinite at 0, where a position is not known
        loss, channels, activation = lambda p, y: -p.softmax(1).sub(1e-6).log() * y, True, None
    else:
        loss, channels, activation = plain_losses().get(name, (name, False, None))
    said = channels_of(label) if channels else label
    moved_valid = shift(label, valid, way.long())[1]
    # NaN where the moved label is not known; the search must not see it
    bad = torch.where(moved_valid.unsqueeze(1), z, torch.nan).requires_grad_()
    criterion = AlignedLoss(loss, NEAR, activation=activation)
    found = criterion.align(z.nan_to_num(0.0), said, valid)
    assert torch.equal(found.valid, moved_valid)
    value = criterion.measure(bad, found)
    value.backward()
    assert value.isfinite() and bad.grad.isfinite().all()
    assert (bad.grad.movedim(1, -1)[~moved_valid] == 0).all()
    assert (bad.grad.movedim(1, -1)[moved_valid] != 0).any()


def test_no_gradient_flows_through_the_search():
    z, label, _ = off_by((24, 28))
    for score in ("normalised", "correlation", "cross_entropy"):
        criterion = AlignedLoss("l2", ShiftAligner(window=4, score=score))
        found = criterion.align(z.requires_grad_(), label)
        tensors = (found.label, found.displacement, found.confidence, found.gain)
        assert not any(t.requires_grad for t in tensors)


def test_nothing_valid_costs_nothing():
    z, label, _ = off_by((24, 28))
    none = torch.zeros_like(label) > 0
    for loss in ("dice_ce", nn.CrossEntropyLoss(reduction="none")):
        prediction = z.clone().requires_grad_()
        value = AlignedLoss(loss, NEAR)(prediction, label, none)
        value.backward()
        assert value == 0 and (prediction.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_sought_in_single(dtype):
    z, label, way = off_by((24, 28))
    criterion = AlignedLoss(nn.CrossEntropyLoss(reduction="none"), NEAR)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = criterion.align(z.to(dtype), label)
        value = criterion(z.to(dtype), label)
    assert torch.equal(found.displacement, way)
    assert found.confidence.dtype == torch.float32 and value.dtype == torch.float32
    torch.testing.assert_close(
        found.confidence, criterion.align(z.to(dtype).float(), label).confidence
    )


# ---------------------------------------------------------------- who moves


def test_strong_samples_do_not_move():
    z, label, way = off_by((24, 28), seed=1)
    strong = torch.tensor([False, True, False])
    label[1, 2:4] = 255
    criterion = AlignedLoss("cross_entropy", NEAR, ignore_index=255, reduction="none")
    found = criterion.align(z, label, strong=strong)
    assert found.reason.tolist() == [MOVED, HELD, MOVED]
    assert torch.equal(found.displacement, torch.where(strong[:, None], 0, way))
    assert torch.equal(found.valid[1], label[1] != 255)
    assert torch.equal(found.label[1][found.valid[1]], label[1][found.valid[1]])
    free = criterion(z, label)
    held = criterion(z, label, strong=strong)
    assert torch.equal(held[[0, 2]], free[[0, 2]]) and held[1] > free[1]


def test_strong_samples_do_not_hold_others_of_their_group():
    z, label, way = off_by((24, 28), batch=1)
    z, label = z.repeat(4, 1, 1, 1), label.repeat(4, 1, 1)
    z[1:] = logits_of(label[1:])  # in place
    strong = torch.tensor([False, True, True, True])
    found = AlignedLoss("l2", NEAR).align(z, label, strong=strong, group=torch.zeros(4).long())
    assert torch.equal(found.displacement[:1], way) and not found.displacement[1:].any()


def test_strong_must_be_one_per_sample():
    z, label, _ = off_by((24, 28))
    with pytest.raises(ShapeError, match="strong"):
        AlignedLoss("l2", NEAR)(z, label, strong=torch.tensor([True]))


def test_matrices_and_fields_are_held_too():
    z, label, _ = off_by((32, 32), seed=1)
    strong = torch.tensor([True, False, True])
    found = AlignedLoss("l2", PatchAligner(16, NEAR)).align(z, label, strong=strong)
    assert not found.displacement[[0, 2]].any() and found.valid[[0, 2]].all()

    def search(prediction, label, valid):
        matrix = shift_matrix(torch.ones(3, 2))
        return Alignment(label, valid, torch.ones(3, 2), torch.ones(3), matrix=matrix)

    found = AlignedLoss("l2", search).align(z, label, strong=strong)
    assert torch.equal(found.matrix[0], shift_matrix(torch.zeros(1, 2))[0])
    assert torch.equal(found.matrix[1], shift_matrix(torch.ones(1, 2))[0])
    assert found.reason is None and found.gain is None


def test_it_remembers_nothing_and_changes_nothing():
    z, label, _ = off_by((24, 28))
    before = z.clone(), label.clone()
    criterion = AlignedLoss(nn.CrossEntropyLoss(reduction="none"), NEAR)
    state = dict(vars(criterion))
    assert torch.equal(criterion(z, label), criterion(z, label))
    assert vars(criterion) == state
    assert torch.equal(z, before[0]) and torch.equal(label, before[1])


def test_empty_and_no_samples():
    z = torch.zeros(2, 2, 8, 8)
    found = AlignedLoss("l2", NEAR).align(z, torch.zeros(2, 8, 8).long())
    assert found.reason.tolist() == [EMPTY] * 2
    value = AlignedLoss("l2", NEAR)(z[:0], torch.zeros(0, 8, 8).long())
    assert value == 0
    small = align(z[:0, :, 2:-2], torch.zeros(0, 8, 8).long())
    assert small.label.shape == (0, 4, 8)


# ---------------------------------------------------------------- in the loops of others


def wave_data():
    generator = torch.Generator().manual_seed(0)
    start = torch.randint(8, 40, (32, 1), generator=generator)
    truth = ((torch.arange(64) >= start) & (torch.arange(64) < start + 12)).long()
    image = truth[:, None] + 0.2 * torch.randn(32, 1, 64, generator=generator)
    return image, truth.roll(3, 1), truth


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(1, 8, 5, padding=2), nn.ReLU(), nn.Conv1d(8, 2, 5, padding=2))


def test_in_a_plain_loop():
    image, label, _ = wave_data()
    network, criterion = small_network(), AlignedLoss(nn.CrossEntropyLoss(reduction="none"), NEAR)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    values = []
    for _ in range(30):
        optimiser.zero_grad()
        value = criterion(network(image), label)
        value.backward()
        optimiser.step()
        values.append(float(value.detach()))
    assert values[-1] < values[0] / 2


def test_in_lightning():
    import lightning

    image, label, _ = wave_data()

    class Segmenter(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = small_network()
            self.criterion = AlignedLoss(nn.CrossEntropyLoss(torch.ones(2), reduction="none"), NEAR)
            self.values = []

        def training_step(self, batch, _):
            image, label = batch
            value = self.criterion(self.network(image), label)
            self.values.append(float(value.detach()))
            return value

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    module = Segmenter()
    assert "criterion.loss.weight" in module.state_dict()  # moves to a device with the rest
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(image, label), 16)
    trainer = lightning.Trainer(
        max_epochs=12, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, loader)
    assert len(module.values) == 24 and module.values[-1] < module.values[0] / 2


def test_in_monai():
    from monai.data import DataLoader, Dataset, MetaTensor
    from monai.losses import FocalLoss
    from monai.transforms import Compose, EnsureTyped

    image, label, _ = wave_data()
    # as MONAI has it: dictionaries, tensors with metadata, one-hot labels with channels
    data = [{"image": i, "label": y} for i, y in zip(image, channels_of(label, 2), strict=True)]
    samples = Dataset(data, Compose([EnsureTyped(["image", "label"], track_meta=True)]))
    network = small_network()
    loss_function = AlignedLoss(
        FocalLoss(reduction="none", use_softmax=True), NEAR, activation="softmax"
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    values = []
    for _ in range(12):
        for batch in DataLoader(samples, batch_size=16):
            assert isinstance(batch["label"], MetaTensor)
            optimizer.zero_grad()
            value = loss_function(network(batch["image"]), batch["label"]).mean()
            value.backward()
            optimizer.step()
            values.append(float(value.detach()))
    assert len(values) == 24 and values[-1] < values[0] / 2


# ---------------------------------------------------------------- parts of positions


def blobs(space, at):
    """Smooth channels ``(batch, 1, *space)`` whose middle lies off by ``at``."""
    total = torch.zeros(len(at), *space, dtype=torch.float64)
    for axis, n in enumerate(space):
        shape = [1] * (len(space) + 1)
        shape[axis + 1] = n
        own = torch.arange(n, dtype=torch.float64).view(shape)
        middle = (n // 2 + at[:, axis]).view(-1, *[1] * len(space))
        total = total - (own - middle).square() / 18
    return total.exp().unsqueeze(1)


@pytest.mark.parametrize("space", [(48,), (40, 44), (32, 33, 34)])
def test_continuous_labels_move_by_parts_of_positions(space):
    generator = torch.Generator().manual_seed(0)
    off = 4 * torch.rand(4, len(space), generator=generator, dtype=torch.float64) - 2
    seen, said = blobs(space, off), blobs(space, torch.zeros_like(off))
    noise = 0.01 * torch.randn(seen.shape, generator=generator, dtype=torch.float64)
    criterion = AlignedLoss("l2", ShiftAligner(window=4, grain=1.0), subpixel=True)
    found = criterion.align(seen + noise, said)
    assert set(found.reason.tolist()) <= {MOVED, IN_PLACE}
    assert (found.displacement - off).abs().max() < 0.05
    whole = AlignedLoss("l2", ShiftAligner(window=4, grain=1.0))
    assert criterion(seen, said) < whole(seen, said) / 4


def test_a_gradient_flows_through_parts_of_positions():
    off = torch.tensor([[0.7], [-1.3]], dtype=torch.float64)
    seen, said = blobs((24,), off), blobs((24,), torch.zeros_like(off))
    aligner = ShiftAligner(window=3, grain=1.0)
    criterion = AlignedLoss("l2", aligner, subpixel=True)
    assert criterion.align(seen.requires_grad_(), said).displacement.requires_grad
    assert torch.autograd.gradcheck(criterion, (seen, said), fast_mode=False)
    assert torch.autograd.gradcheck(AlignedLoss("l2", aligner), (seen, said), fast_mode=False)


def test_parts_of_positions_where_nothing_is_clear_are_none():
    seen = torch.randn(2, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    said = torch.randn(2, 1, 24, 24, generator=torch.Generator().manual_seed(1))
    criterion = AlignedLoss("l2", NEAR, subpixel=True)
    found = criterion.align(seen.requires_grad_(), said, strong=torch.tensor([False, True]))
    assert not found.displacement.any() and torch.equal(found.label, said)
    criterion(torch.zeros_like(seen), torch.zeros_like(said)).isfinite()


def test_parts_of_positions_of_one_hot_labels():
    z, label, way = off_by((24, 28), seed=1)
    criterion = AlignedLoss(nn.MSELoss(reduction="none"), NEAR, activation="softmax", subpixel=True)
    found = criterion.align(z, channels_of(label))
    assert (found.displacement - way).abs().max() < 0.1
    assert found.label.is_floating_point() and found.valid.any()


def test_parts_of_positions_need_channels_and_shifts():
    z, label, _ = off_by((24, 28))
    with pytest.raises(SettingsError, match="one-hot"):
        AlignedLoss("l2", NEAR, subpixel=True)(z, label)
    with pytest.raises(SettingsError, match="whole shifts"):
        AlignedLoss("l2", PatchAligner(8, NEAR), subpixel=True)(z, channels_of(label))


def test_samples_of_one_group_get_the_same_parts_of_positions():
    off = torch.tensor([[2.3], [2.0], [-1.4]], dtype=torch.float64)
    seen, said = blobs((60,), off), blobs((60,), torch.zeros_like(off))
    aligner = ShiftAligner(window=5, grain=1.0, confidence=0.5, margin=0.0)
    criterion = AlignedLoss("l2", aligner, subpixel=True)
    found = criterion.align(seen, said, group=torch.tensor([4, 4, 1])).displacement
    assert found[0] == found[1] and 2.0 < found[0] < 2.3
    assert (found[2] - off[2]).abs() < 0.05


def test_a_mask_of_numbers_is_refused():
    z, label, _ = off_by((24, 28))
    for ignore_index in (None, 255):
        criterion = AlignedLoss("cross_entropy", NEAR, ignore_index=ignore_index)
        with pytest.raises(ShapeError, match="valid must be bool"):
            criterion(z, label, torch.ones(label.shape))


def test_nan_may_be_what_marks_gaps():
    off = torch.tensor([[2.0, -1.0]], dtype=torch.float64)
    seen, said = blobs((40, 44), off), blobs((40, 44), torch.zeros_like(off))
    marked, valid = said.clone(), torch.ones(1, 40, 44, dtype=torch.bool)
    marked[:, :, :, 30:], valid[:, :, 30:] = torch.nan, False
    aligner = ShiftAligner(window=4, grain=1.0)
    by_nan = AlignedLoss("l2", aligner, ignore_index=float("nan"))
    by_hand = AlignedLoss("l2", aligner)
    assert by_nan(seen, marked) == by_hand(seen, said, valid)
    assert torch.equal(by_nan.align(seen, marked).displacement, off.float())


def test_a_smaller_prediction_is_refined_too():
    off = torch.tensor([[0.7, 0.4]], dtype=torch.float64)
    seen, said = blobs((40, 40), off), blobs((40, 40), torch.zeros_like(off))
    criterion = AlignedLoss("l2", ShiftAligner(window=3, grain=1.0), subpixel=True)
    found = criterion.align(seen[:, :, 6:-6, 6:-6], said)
    assert (found.displacement - off).abs().max() < 0.05
    assert found.label.shape == (1, 1, 28, 28) and found.valid.all()


# ---------------------------------------------------------------- bent labels, bent predictions


class Flow(nn.Module):
    """A network that answers with one velocity, whatever it is shown."""

    def __init__(self, *values):
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))

    def forward(self, images):
        values = self.values.view(1, -1, *[1] * (images.ndim - 2))
        return (values / 1e6).expand(  # a share of the reach
            len(images), -1, *images.shape[2:]
        )


def bender(*values, **more):
    given = {"first": None, "margin": 0.0, "reach": 1e6} | more
    return WarpAligner(Flow(*values), **given)


def lumpy(space, batch=3, size=4):
    small = texture([-(-n // size) for n in space], batch, 2)
    for axis, n in enumerate(space):
        small = small.repeat_interleave(size, axis + 1).narrow(axis + 1, 0, n)
    return small


def off_and_bent(space=(24, 28), most=2):
    """Predictions, and labels that lie off by (1, -2)."""
    true = lumpy(space)
    return logits_of(true, 2), true.roll((1, -2), (1, 2))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", list(plain_losses()))
def test_the_loss_of_labels_that_bend_is_that_of_labels_moved_as_far(name, reduction):
    loss, channels, activation = plain_losses()[name]
    z, label = off_and_bent()
    said = channels_of(label, 2) if channels else label
    way = torch.tensor([[-1, 2]]).expand(3, -1)
    criterion = AlignedLoss(loss, bender(-1.0, 2.0), activation=activation, reduction=reduction)
    found = criterion.align(z, said)
    assert found.displacement.shape == (3, 2, 24, 28) and found.carry is None
    by = way[:, :, None, None].float().expand_as(found.displacement)
    torch.testing.assert_close(found.displacement, by)
    moved, valid = shift(said, torch.ones_like(label) > 0, way)
    assert torch.equal(found.label, moved) and torch.equal(found.valid, valid)
    direct = AlignedLoss(loss, STAY, reduction=reduction)
    expected = direct.measure(z, Alignment(moved, valid, way.float(), torch.ones(3)))
    torch.testing.assert_close(criterion(z, said), expected)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", [*plain_losses(), "dice_ce"])
def test_where_the_prediction_bends_the_loss_gets_it_bent(name, reduction):
    loss, channels, activation = plain_losses().get(name, (name, False, None))
    z, label = off_and_bent()
    valid = torch.rand(label.shape, generator=torch.Generator().manual_seed(2)) < 0.9
    said = channels_of(label, 2) if channels else label
    options = {"activation": activation, "reduction": reduction}
    criterion = AlignedLoss(loss, bender(-1.0, 2.0, moves="prediction"), **options)
    found = criterion.align(z, said, valid)
    over = valid.unsqueeze(1) if channels else valid
    assert torch.equal(found.label, torch.where(over, said, 0))
    assert torch.equal(found.valid, valid) and not found.displacement.any()
    bent, there = shift(z, torch.ones_like(valid), torch.tensor([[1, -2]] * 3))
    torch.testing.assert_close(found.carry[:, :, 12, 14], torch.tensor([[1.0, -2.0]] * 3))
    expected = AlignedLoss(loss, STAY, reduction=reduction).measure(
        bent, Alignment(said, valid & there, torch.zeros(3, 2), torch.ones(3))
    )
    torch.testing.assert_close(criterion(z, said, valid), expected)
    assert not torch.allclose(criterion(z, said, valid), AlignedLoss(loss, STAY)(z, said, valid))


def test_the_gradient_flows_through_the_bending_of_a_prediction_and_no_further():
    z, label = off_and_bent()
    aligner = bender(-1.0, 2.0, moves="prediction")
    criterion = AlignedLoss("dice_ce", aligner)
    prediction = z.clone().requires_grad_()
    criterion(prediction, label).backward()
    assert aligner.network.values.grad is None
    # Moved back by whole positions it is the gradient of a prediction that lay there.
    bent, there = shift(z, torch.ones_like(label) > 0, torch.tensor([[1, -2]] * 3))
    plain = bent.clone().requires_grad_()
    make_loss("dice_ce")(plain, torch.where(there, label, 0), there).mean().backward()
    expected, _ = shift(plain.grad, torch.ones_like(there), torch.tensor([[-1, 2]] * 3))
    torch.testing.assert_close(prediction.grad, expected)
    assert not prediction.grad[:, :, -1].any() and prediction.grad[:, :, 3].any()


def test_only_part_of_a_batch_may_be_bent():
    z, label = off_and_bent()
    label[1] = 0  # nothing to bend
    criterion = AlignedLoss(
        "cross_entropy", bender(-1.0, 2.0, moves="prediction"), reduction="none"
    )
    valid = torch.ones_like(label) > 0
    valid[1, 5, 5] = False
    found = criterion.align(z, label, valid)
    assert found.carry.flatten(1).any(1).tolist() == [True, False, True]
    wild = z.clone()
    wild[1, :, 5, 5] = torch.inf  # would reach its neighbours, were anything interpolated
    plain = AlignedLoss("cross_entropy", STAY, reduction="none")(wild, label, valid)
    assert torch.equal(criterion.measure(wild, found)[1], plain[1]) and plain[1].isfinite()
    strong = torch.tensor([True, False, False])
    held = criterion(z, label, strong=strong)
    stay = AlignedLoss("cross_entropy", STAY, reduction="none")(z, label)
    assert torch.equal(held[:2], stay[:2])
    assert held[2] == criterion(z, label)[2] and held[2] < stay[2]


@pytest.mark.parametrize("moves", ["label", "prediction"])
def test_what_is_ignored_is_so_whether_bent_or_not(moves):
    z, label = off_and_bent()
    label[:, 5:9] = 255
    for margin in (0.0, 1e9):
        aligner = bender(-1.0, 2.0, moves=moves, margin=margin)
        loss = nn.CrossEntropyLoss(reduction="none")
        criterion = AlignedLoss(loss, aligner, ignore_index=255)
        found = criterion.align(z, label)
        assert criterion(z, label).isfinite() and (found.label < 2).all()
        assert ((~found.valid).all(2).sum(1) >= 4).all()


@pytest.mark.parametrize("moves", ["label", "prediction"])
def test_strong_samples_are_not_bent(moves):
    z, label = off_and_bent()
    strong = torch.tensor([False, True, False])
    found = AlignedLoss("l2", bender(-1.0, 2.0, moves=moves)).align(z, label, strong=strong)
    assert found.reason.tolist() == [MOVED, HELD, MOVED]
    assert torch.equal(found.label[1], label[1]) and found.valid[1].all()
    by = found.displacement if moves == "label" else found.carry
    assert by.flatten(1).any(1).tolist() == [True, False, True]


@pytest.mark.parametrize("moves", ["label", "prediction"])
def test_a_smaller_prediction_is_bent_in_its_place(moves):
    z, label = off_and_bent((40, 40))
    small = z[:, :, 8:-8, 8:-8]
    criterion = AlignedLoss("cross_entropy", bender(-1.0, 2.0, moves=moves), reduction="none")
    found = criterion.align(small, label)
    assert found.label.shape == found.valid.shape == (3, 24, 24)
    assert found.displacement.shape == ((3, 2, 24, 24) if moves == "label" else (3, 2))
    if moves == "label":
        assert torch.equal(found.label, label.roll((-1, 2), (1, 2))[:, 8:-8, 8:-8])
        assert found.valid.all()  # the margin is wide enough for content to come out of it
        return
    assert found.carry.shape == (3, 2, 24, 24)
    there, known = shift(small, torch.ones(3, 24, 24) > 0, torch.tensor([[1, -2]] * 3))
    expected = make_loss("cross_entropy")(there, label[:, 8:-8, 8:-8], known)
    torch.testing.assert_close(criterion(small, label), expected)


@pytest.mark.parametrize("moves", ["label", "prediction"])
def test_what_is_bent_is_not_refined_like_a_shift(moves):
    label = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    criterion = AlignedLoss("l2", bender(0.5, 0.0, moves=moves), subpixel=True)
    with pytest.raises(SettingsError, match="whole shifts of samples, not parts, matrices or f"):
        criterion(label, label)


def test_bent_predictions_keep_their_number_type():
    z, label = off_and_bent()
    criterion = AlignedLoss("cross_entropy", bender(-0.5, 0.25, moves="prediction"))
    exact = criterion(z.half().float(), label)
    for dtype in (torch.float16, torch.bfloat16):
        seen = []
        watching = AlignedLoss(
            lambda p, y, seen=seen: seen.append(p.dtype) or (p * 0).sum(1),
            bender(-0.5, 0.25, moves="prediction"),
        )
        with torch.autocast("cpu", dtype=torch.bfloat16):
            watching(z.to(dtype), label)
        assert seen == [dtype]
    torch.testing.assert_close(criterion(z.half(), label), exact, rtol=1e-2, atol=1e-3)


# --- what other people's loops hand over -----------------------------------------------------


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32])
@pytest.mark.parametrize("loss", ["dice_ce", nn.CrossEntropyLoss(reduction="none")])
def test_a_loss_gets_class_indices_of_the_type_that_losses_take(kind, loss):
    true = texture((24, 28))
    z, label = logits_of(true), true.roll(2, 1)
    criterion = AlignedLoss(loss, NEAR)
    torch.testing.assert_close(criterion(z, label.to(kind)), criterion(z, label))
    assert criterion.align(z, label.to(kind)).label.dtype == kind  # in the type it was given in
    torch.testing.assert_close(criterion(z, label.to(kind).unsqueeze(1)), criterion(z, label))
    torch.testing.assert_close(criterion(z, label.float().unsqueeze(1)), criterion(z, label))


def test_labels_of_two_classes_may_be_bools():
    true = texture((24, 28), classes=2)
    z = logits_of(true, 2)
    for loss in ("dice_ce", nn.CrossEntropyLoss(reduction="none")):
        criterion = AlignedLoss(loss, NEAR)
        torch.testing.assert_close(criterion(z, true > 0), criterion(z, true))


@pytest.mark.parametrize("wrong", [nn.CrossEntropyLoss, None, 3])
def test_what_is_no_loss_is_refused_before_it_is_called(wrong):
    with pytest.raises(SettingsError, match="a loss is one that is made, as CrossEntropyLoss"):
        AlignedLoss(wrong)


@pytest.mark.parametrize("wrong", [ShiftAligner, None, 8])
def test_what_is_no_search_is_refused_before_it_is_called(wrong):
    with pytest.raises(SettingsError, match=r"an aligner is a search as ShiftAligner\(window=8\)"):
        AlignedLoss("dice", wrong)


def test_what_is_no_tensor_is_refused_in_one_line():
    true = texture((24, 28))
    z, criterion = logits_of(true), AlignedLoss("dice", NEAR)
    with pytest.raises(ShapeError, match="prediction must be a tensor, not a dict"):
        criterion({"out": z}, true)
    with pytest.raises(ShapeError, match="label must be a tensor, not a ndarray; torch.as_tensor"):
        align(z, true.numpy())
    with pytest.raises(ShapeError, match="strong must be a tensor, not a list"):
        criterion(z, true, strong=[True, False, False])
    with pytest.raises(ShapeError, match="group must be a tensor, not a list"):
        criterion(z, true, group=["ann", "ann", "bob"])


@pytest.mark.parametrize("kind", [torch.float32, torch.int64])
def test_a_label_beside_one_channel_that_lacks_its_own_is_refused_with_the_way_out(kind):
    criterion = AlignedLoss(nn.BCEWithLogitsLoss(reduction="none"), NEAR)
    words = r"label must be \(batch, 1, \*space\) to fit .*; label\.unsqueeze\(1\) is"
    with pytest.raises(ShapeError, match=words):
        criterion(torch.zeros(2, 1, 9, 9), torch.zeros(2, 9, 9).to(kind))


def test_a_criterion_shows_what_it_does():
    shown = repr(AlignedLoss("dice", NEAR))
    assert "'dice', ShiftAligner(window=4" in shown and "reduction='mean'" in shown


def test_near_is_an_option_of_one_call():
    true = texture((24, 28))
    by_call = align(logits_of(true), true.roll(2, 1), window=4, near=2.0)
    by_search = ShiftAligner(window=4, near=2.0)(
        logits_of(true), true.roll(2, 1), torch.ones_like(true, dtype=torch.bool)
    )
    assert torch.equal(by_call.displacement, by_search.displacement)
