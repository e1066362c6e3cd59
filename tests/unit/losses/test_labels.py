import pickle
import warnings

import numpy as np
import pytest
import torch
from torch.nn import functional

from labelmend.errors import SettingsError, ShapeError
from labelmend.losses import LOSSES, REGRESSION_LOSSES, make_loss, present
from labelmend.losses import labels as losses

from . import oracle_losses

CASES = [(name, "segmentation") for name in LOSSES]
CASES += [(name, "regression") for name in REGRESSION_LOSSES]
SPACES = [(7,), (4, 5), (3, 2, 4)]


def draw(task, *, batch=3, classes=3, space=(4, 5), dtype=torch.float64, seed=0, known=0.7):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, classes, *space, generator=generator, dtype=dtype)
    if task == "segmentation":
        label = torch.randint(0, classes, (batch, *space), generator=generator)
    else:
        label = torch.randn(batch, classes, *space, generator=generator, dtype=dtype)
    valid = torch.rand(batch, *space, generator=generator) < known
    return logits, label, valid


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize(("name", "task"), CASES)
def test_equals_its_slow_twin(name, task, space, by_class):
    logits, label, valid = draw(task, space=space, seed=len(space))
    # one sample with only background, one with nothing known
    if task == "segmentation":
        label[1] = 0
    valid[2] = False
    got = make_loss(name, task, by_class=by_class)(logits, label, valid)
    twin, more = getattr(oracle_losses, name + "_by_class" * by_class), (3,) * by_class
    want = [
        twin(*oracle_losses.positions(z, y, v), *more)
        for z, y, v in zip(logits, label, valid, strict=True)
    ]
    assert got.shape == (3, *more)
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize(("name", "task"), CASES)
def test_derivatives_are_right_in_both_directions_and_twice(name, task, by_class):
    logits, label, valid = draw(task, batch=2, space=(2, 3), seed=5)
    if task == "segmentation":
        label[1] = 0
    loss = make_loss(name, task, by_class=by_class)
    logits.requires_grad_()
    inputs = (lambda z: loss(z, label, valid), (logits,))
    assert torch.autograd.gradcheck(*inputs, check_forward_ad=True, fast_mode=False)
    assert torch.autograd.gradgradcheck(*inputs, fast_mode=False)


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize(("name", "task"), CASES)
def test_what_is_ignored_reaches_neither_value_nor_derivative(name, task, by_class):
    logits, label, valid = draw(task)
    loss = make_loss(name, task, by_class=by_class)
    poisoned, lie = logits.clone(), label.clone()
    hidden = ~valid.unsqueeze(1).expand_as(logits)
    poisoned[hidden] = (
        torch.tensor([float("inf"), float("nan"), -float("inf"), 1e308])
        .repeat(logits.numel())[: int(hidden.sum())]
        .to(logits.dtype)
    )
    if task == "segmentation":
        lie[~valid] = 255
        lie[0][~valid[0]] = -100
    else:
        lie[hidden] = float("nan")

    def value_and_gradient(z, y):
        z = z.clone().requires_grad_()
        value = loss(z, y, valid)
        rate = torch.arange(1, value.numel() + 1).view_as(value)
        (gradient,) = torch.autograd.grad((rate * value).sum(), z)
        return value.detach(), gradient

    value, gradient = value_and_gradient(logits, label)
    value_lie, gradient_lie = value_and_gradient(poisoned, lie)
    assert torch.equal(value, value_lie) and torch.equal(gradient, gradient_lie)
    assert (gradient[hidden] == 0).all() and gradient.abs().sum() > 0
    _, slope = torch.func.jvp(
        lambda z: loss(z, lie, valid), (poisoned,), (torch.ones_like(poisoned),)
    )
    assert slope.isfinite().all()


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize(("name", "task"), CASES)
def test_nothing_known_is_exactly_nothing(name, task, by_class):
    logits, label, valid = draw(task)
    valid[:] = False
    logits = (logits * float("inf")).requires_grad_()
    value = make_loss(name, task, by_class=by_class)(logits, label, valid)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert torch.equal(value, torch.zeros((3, 3) if by_class else 3, dtype=value.dtype))
    assert torch.equal(gradient, torch.zeros_like(logits))


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize(("name", "task"), CASES)
def test_a_bad_number_where_the_label_is_known_stays_visible(name, task, by_class):
    logits, label, valid = draw(task)
    valid[0, 0, 0] = True
    logits[0, :, 0, 0] = float("nan")
    value = make_loss(name, task, by_class=by_class)(logits, label, valid)
    assert value[0].sum().isnan() and value[1:].isfinite().all()


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize(("name", "task"), CASES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_computes_in_float32_at_least(name, task, dtype, by_class):
    logits, label, valid = draw(task, dtype=torch.float64, space=(64, 64), known=0.95)
    logits = logits.to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        value = make_loss(name, task, by_class=by_class)(
            logits, label.to(dtype) if label.ndim == 4 else label, valid
        )
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    label = label.to(dtype).double() if label.ndim == 4 else label
    exact = make_loss(name, task, by_class=by_class)(logits.double(), label, valid)
    torch.testing.assert_close(value.double(), exact, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize(("name", "task"), CASES)
def test_maps_over_samples_with_torch_func(name, task, by_class):
    logits, label, valid = draw(task)
    loss = make_loss(name, task, by_class=by_class)

    def alone(z, y, v):
        return loss(z[None], y[None], v[None])[0]

    torch.testing.assert_close(
        torch.func.vmap(alone)(logits, label, valid), loss(logits, label, valid)
    )
    rate = torch.tensor([1.0, 2.0, 4.0]) if by_class else torch.tensor(1.0)
    weighed = torch.func.grad(lambda z, y, v: (rate * alone(z, y, v)).sum())
    per_sample = torch.func.vmap(weighed)(logits, label, valid)
    whole = torch.func.grad(lambda z: (rate * loss(z, label, valid)).sum())(logits)
    torch.testing.assert_close(per_sample, whole)


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize(("name", "task"), CASES)
def test_a_perfect_prediction_costs_nothing(name, task, by_class):
    _, label, valid = draw(task)
    if task == "segmentation":
        label[1] = 0
        perfect = 120 * torch.nn.functional.one_hot(label, 3).movedim(-1, 1).double()
        perfect[:, 1:] -= 60
    else:
        perfect = label.clone()
    assert (make_loss(name, task, by_class=by_class)(perfect, label, valid) < 1e-12).all()


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "dice", "dice_ce"])
def test_sure_and_wrong_stays_finite(name):
    label = torch.zeros(1, 4, dtype=torch.int64)
    logits = torch.tensor([[[-1e4] * 4, [1e4] * 4]]).requires_grad_()
    value = make_loss(name)(logits, label, torch.ones(1, 4, dtype=torch.bool))
    assert value.isfinite().all() and value > 0.9
    assert torch.autograd.grad(value.sum(), logits)[0].isfinite().all()


def test_sure_and_right_stays_finite():
    label = torch.zeros(1, 4, dtype=torch.int64)
    logits = torch.tensor([[[1e4] * 4, [-1e4] * 4]]).requires_grad_()
    for name in LOSSES:
        value = make_loss(name)(logits, label, torch.ones(1, 4, dtype=torch.bool))
        assert value.item() == 0
        assert (torch.autograd.grad(value.sum(), logits)[0] == 0).all()


@pytest.fixture
def two_threads():
    """Threads divide the batch at any position, which is where rounding could change."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize(("name", "task"), CASES)
def test_the_place_in_the_batch_changes_no_bit(name, task, dtype, by_class):
    loss = make_loss(name, task, by_class=by_class)
    for classes, space in ((3, (5,)), (3, (1,)), (2, (101,)), (6, (1001,))):
        inputs = draw(task, batch=30, classes=classes, space=space, dtype=dtype)
        inputs[0].mul_(3)
        alone = torch.cat([loss(*(t[i : i + 1] for t in inputs)) for i in range(30)])
        assert torch.equal(loss(*inputs), alone)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_the_classes_add_up_to_the_loss(name, task):
    for classes, space in ((2, (30_001,)), (7, (64, 64)), (3, (16, 16, 16))):
        logits, label, valid = draw(task, classes=classes, space=space, known=0.9)
        if task == "segmentation":
            label = label.clamp(max=classes - 2)
        valid[2] = False
        for dtype, close in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
            inputs = logits.to(dtype), label.to(dtype) if task == "regression" else label, valid
            columns = make_loss(name, task, by_class=True)(*inputs)
            whole = make_loss(name, task)(*inputs)
            assert columns.shape == (3, classes) and columns.dtype == dtype
            torch.testing.assert_close(columns.sum(1), whole, rtol=close, atol=0)


def test_a_large_image_loses_no_digits_by_class():
    logits, label, valid = draw("segmentation", batch=1, classes=2, space=(4_000_000,), known=2.0)
    logits = 0.1 * logits.float()
    exact = losses.cross_entropy(logits.double(), label, valid, by_class=True)
    value = losses.cross_entropy(logits, label, valid, by_class=True)
    torch.testing.assert_close(value.double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ["cross_entropy", "focal"])
def test_a_column_moves_only_what_its_class_labels(name):
    logits, label, valid = draw("segmentation")
    logits.requires_grad_()
    columns = make_loss(name, by_class=True)(logits, label, valid)
    for c in range(3):
        (gradient,) = torch.autograd.grad(columns[:, c].sum(), logits, retain_graph=True)
        moved = (gradient != 0).any(1)
        assert torch.equal(moved, valid & (label == c))


def test_too_large_shows_in_its_own_column_and_too_small_in_the_background():
    truth = torch.zeros(2, 20, dtype=torch.int64)
    truth[:, 5:10] = 1
    logits = 6 * torch.nn.functional.one_hot(truth, 2).movedim(-1, 1).float()
    claimed = truth.clone()
    claimed[0, 2:13], claimed[1, 5:8] = 1, 0
    large, small = losses.cross_entropy(logits, claimed, truth >= 0, by_class=True)
    assert large[1] > 100 * large[0] and small[0] > 100 * small[1]


@pytest.mark.parametrize("name", ["dice", "binary_cross_entropy"])
def test_the_background_has_no_term_of_its_own(name):
    value = make_loss(name, by_class=True)(*draw("segmentation"))
    assert torch.equal(value[:, 0], torch.zeros(3, dtype=value.dtype)) and (value[:, 1:] > 0).all()


def test_the_focus_holds_by_class():
    inputs = draw("segmentation")
    torch.testing.assert_close(
        losses.focal(*inputs, 0.0, by_class=True), losses.cross_entropy(*inputs, by_class=True)
    )


@pytest.mark.parametrize(("name", "task"), CASES)
def test_by_class_goes_to_another_process(name, task):
    inputs = draw(task)
    loss = make_loss(name, task, by_class=True)
    assert torch.equal(pickle.loads(pickle.dumps(loss))(*inputs), loss(*inputs))


@pytest.mark.parametrize("space", SPACES)
def test_which_classes_are_there(space):
    _, label, valid = draw("segmentation", classes=5, space=space, known=0.4)
    label[~valid] = 255
    label[~valid & (torch.rand(valid.shape) < 0.5)] = -100
    valid[2] = False
    want = [oracle_losses.present(y, v, 6) for y, v in zip(label, valid, strict=True)]
    got = present(label, valid, 6)
    assert got.dtype == torch.bool and got.tolist() == want
    apart = torch.func.vmap(lambda y, v: present(y[None], v[None], 6)[0])
    assert torch.equal(apart(label, valid), got)


def test_a_continuous_label_has_every_channel_or_nothing():
    _, label, valid = draw("regression")
    label[:] = float("nan")
    valid[1] = False
    assert present(label, valid, 3).tolist() == [[True] * 3, [False] * 3, [True] * 3]


@pytest.mark.parametrize(
    ("label", "valid", "classes", "words"),
    [
        (torch.zeros(2, 4).long(), torch.ones(2, 4).long(), 2, "valid must be bool"),
        (torch.zeros(2).long(), torch.ones(2).bool(), 2, "valid must be bool (batch, *space)"),
        (torch.zeros(2, 4).int(), torch.ones(2, 4).bool(), 2, "int64 (2, 4), not int32 (2, 4)"),
        (torch.zeros(1, 4).long(), torch.ones(2, 4).bool(), 2, "int64 (2, 4), not int64 (1, 4)"),
        (torch.zeros(2, 3, 4), torch.ones(2, 4).bool(), 2, "(2, 2, 4), not (2, 3, 4)"),
        (torch.zeros(2, 4).long(), torch.ones(2, 4, device="meta").bool(), 2, "cpu, meta"),
    ],
)
def test_what_does_not_fit_is_refused_by_present(label, valid, classes, words):
    with pytest.raises(ShapeError) as caught:
        present(label, valid, classes)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [3, 255, -1, -100])
def test_a_class_that_does_not_exist_is_not_said_to_be_absent(wrong):
    _, label, valid = draw("segmentation")
    valid[1, 2, 3] = True
    label[1, 2, 3] = wrong
    with pytest.raises(ShapeError, match=f"holds class {wrong} .*, but there are classes 0 to 2"):
        present(label, valid, 3)


def test_two_classes_make_binary_cross_entropy_the_same_as_cross_entropy():
    inputs = draw("segmentation", classes=2)
    torch.testing.assert_close(
        losses.binary_cross_entropy(*inputs), losses.cross_entropy(*inputs), rtol=1e-12, atol=0
    )


def test_the_best_logits_for_binary_cross_entropy_have_the_right_class_on_top():
    _, label, valid = draw("segmentation", classes=4, known=2.0)
    logits = torch.zeros(3, 4, 4, 5, requires_grad=True)
    for _ in range(50):
        value = losses.binary_cross_entropy(logits, label, valid).sum()
        (gradient,) = torch.autograd.grad(value, logits)
        logits = (logits - 20 * gradient).detach().requires_grad_()
    assert torch.equal(logits.argmax(1), label)


def test_an_empty_label_teaches_dice_to_say_less():
    logits = torch.zeros(1, 2, 10, requires_grad=True)
    value = losses.dice(logits, torch.zeros(1, 10, dtype=torch.int64), torch.ones(1, 10).bool())
    assert value.item() == pytest.approx(0.5)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert (gradient[0, 1] > 0).all()


def test_inputs_are_left_alone():
    for name, task in CASES:
        inputs = draw(task)
        before = [t.clone() for t in inputs]
        make_loss(name, task)(*inputs)
        assert all(torch.equal(a, b) for a, b in zip(inputs, before, strict=True))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda z, y, v: (z[0, 0], y, v), "logits must be floating"),
        (lambda z, y, v: (z.long(), y, v), "not int64"),
        (lambda z, y, v: (z, y, v.long()), "valid must be bool"),
        (lambda z, y, v: (z, y, v[:2]), "valid must be bool (3, 4, 5)"),
        (lambda z, y, v: (z, y[:, None], v), "int64 (3, 4, 5), not int64 (3, 1, 4, 5)"),
        (lambda z, y, v: (z, y.int(), v), "not int32"),
        (lambda z, y, v: (z[:, :1], y, v), "at least 2 classes"),
        (lambda z, y, v: (z, y.to("meta"), v), "one device"),
    ],
)
def test_what_does_not_fit_is_refused(name, change, words):
    with pytest.raises(ShapeError) as caught:
        make_loss(name)(*change(*draw("segmentation")))
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", LOSSES)
def test_a_continuous_label_of_another_shape_is_refused(name):
    logits, _, valid = draw("segmentation")
    with pytest.raises(ShapeError):
        make_loss(name)(logits, torch.zeros(3, 1, 4, 5), valid)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("wrong", [3, 255, -1, -100])
def test_a_class_that_does_not_exist_is_never_taken_for_another(name, wrong):
    logits, label, valid = draw("segmentation")
    valid[1, 2, 3] = True
    label[1, 2, 3] = wrong
    words = f"holds class {wrong} .*, but there are classes 0 to 2; .*label != {wrong}"
    with pytest.raises(ShapeError, match=words):
        make_loss(name)(logits, label, valid)
    with pytest.raises(ShapeError, match=words):
        torch.func.vmap(lambda *one: make_loss(name)(*(v[None] for v in one)))(logits, label, valid)
    make_loss(name)(logits, label, valid & (label != wrong))  # as it says


@pytest.mark.parametrize(
    ("change", "way"),
    [
        (lambda label: label.to(torch.uint8), "label.long() makes them"),
        (lambda label: label > 0, "label.long() makes them"),
        (lambda label: label.unsqueeze(1), "label[:, 0].long() makes them"),
        (lambda label: functional.one_hot(label, 3).movedim(-1, 1), "label.argmax(1) makes them"),
        (lambda label: label.float(), "continuous labels take l1 or l2"),
    ],
)
def test_labels_in_other_forms_are_refused_with_the_way_to_indices(change, way):
    logits, label, valid = draw("segmentation")
    with pytest.raises(ShapeError) as caught:
        losses.dice_ce(logits, change(label), valid)
    assert "class indices must be int64" in str(caught.value) and way in str(caught.value)


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (0, {}, "logits must be a tensor, not a dict"),
        (0, (), "logits must be a tensor, not a tuple"),
        (1, np.zeros((2, 4)), "label must be a tensor, not a ndarray; torch.as_tensor"),
        (2, None, "valid must be a tensor, not a NoneType; where all is known it is torch.ones"),
    ],
)
def test_what_is_no_tensor_is_refused_in_one_line(place, value, words):
    given = list(draw("segmentation"))
    given[place] = value
    with pytest.raises(ShapeError, match=words):
        losses.dice_ce(*given)


def test_one_logit_is_refused_with_a_way_that_is_right():
    logits, label, valid = draw("segmentation", classes=2)
    one = logits[:, 1:] - logits[:, :1]
    with pytest.raises(ShapeError, match="at least 2 classes, .*torch.cat"):
        losses.cross_entropy(one, label, valid)
    two = torch.cat([torch.zeros_like(one), one], 1)
    torch.testing.assert_close(
        losses.cross_entropy(two, label, valid), losses.cross_entropy(logits, label, valid)
    )


def test_a_continuous_label_without_its_channel_is_refused_with_the_way_out():
    logits, _, valid = draw("segmentation")
    with pytest.raises(ShapeError, match=r"not \(.*\); label\.unsqueeze\(1\) has"):
        losses.l1(logits[:, :1], logits[:, 0], valid)


def test_a_loss_is_made_by_name_for_a_task_that_there_is():
    with pytest.raises(SettingsError, match="not of a CrossEntropyLoss"):
        make_loss(torch.nn.CrossEntropyLoss())
    with pytest.raises(SettingsError, match="unknown task 'regress'; did you mean 'regression'"):
        make_loss("l1", "regress")


def test_names():
    assert set(REGRESSION_LOSSES) < set(LOSSES)
    assert all(f"``{name}``" in losses.__doc__ for name in LOSSES)
    with pytest.raises(SettingsError, match="did you mean 'cross_entropy'"):
        make_loss("crossentropy")
    with pytest.raises(SettingsError, match="use one of l1, l2"):
        make_loss("dice_ce", "regression", by_class=True)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_compiles_to_one_graph(name):
    inputs = draw("segmentation")
    loss = make_loss(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about its own internals
        compiled = torch.compile(loss, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(*inputs), loss(*inputs))
