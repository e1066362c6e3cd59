import pickle

import pytest
import torch

from labelmend.errors import SettingsError, ShapeError
from labelmend.losses import LOSSES, SOFT_LOSSES, make_loss, make_soft_loss, probabilities

from . import oracle_losses, oracle_soft_losses

SPACES = [(7,), (4, 5), (3, 2, 4)]
every_loss = pytest.mark.parametrize("name", SOFT_LOSSES)
both_ways = pytest.mark.parametrize("by_class", [False, True])


def draw(*, batch=3, classes=3, space=(4, 5), dtype=torch.float64, seed=0, known=0.7):
    generator = torch.Generator().manual_seed(seed)
    logits, other = torch.randn(2, batch, classes, *space, generator=generator, dtype=torch.float64)
    valid = torch.rand(batch, *space, generator=generator) < known
    return logits.to(dtype), (2 * other).softmax(1).to(dtype), valid


def only_background(target):
    return torch.zeros_like(target).index_fill_(1, torch.tensor([0]), 1)


def one_hot(label, classes=3, dtype=torch.float64):
    return torch.nn.functional.one_hot(label, classes).movedim(-1, 1).to(dtype)


@pytest.mark.parametrize("space", SPACES)
@both_ways
@every_loss
def test_equals_its_slow_twin(name, space, by_class):
    logits, target, valid = draw(batch=5, space=space, seed=len(space))
    target[1] = only_background(target[1:2])[0]
    valid[2] = False
    # one class is nowhere, and some positions are sure
    target[3, :2] += target[3, 2:] / 2
    target[3, 2] = 0
    target[4] = target[4].round(decimals=0)
    got = make_soft_loss(name, by_class=by_class)(logits, target, valid)
    twin, more = getattr(oracle_soft_losses, name + "_by_class" * by_class), (3,) * by_class
    want = [
        twin(*oracle_losses.positions(z, q, v), *more)
        for z, q, v in zip(logits, target, valid, strict=True)
    ]
    assert got.shape == (5, *more)
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64), rtol=1e-12, atol=1e-12)


@both_ways
@every_loss
def test_derivatives_are_right_in_both_directions_and_twice(name, by_class):
    logits, target, valid = draw(batch=3, space=(2, 3), seed=5)
    target[1] = only_background(target[1:2])[0]
    target[2, :, 0] = one_hot(torch.tensor([[0, 1, 2]]))[0]
    loss = make_soft_loss(name, by_class=by_class)
    logits.requires_grad_()
    inputs = (lambda z: loss(z, target, valid), (logits,))
    assert torch.autograd.gradcheck(*inputs, check_forward_ad=True, fast_mode=False)
    assert torch.autograd.gradgradcheck(*inputs, fast_mode=False)


@both_ways
@every_loss
def test_no_derivative_reaches_the_target(name, by_class):
    logits, target, valid = draw()
    loss = make_soft_loss(name, by_class=by_class)
    target.requires_grad_()
    value = loss(logits.requires_grad_(), target, valid)
    slopes = torch.autograd.grad(value.sum(), (logits, target), allow_unused=True)
    assert slopes[0].abs().sum() > 0 and slopes[1] is None
    assert not loss(logits.detach(), target, valid).requires_grad
    target = target.detach()
    _, slope = torch.func.jvp(
        lambda q: loss(logits.detach(), q, valid), (target,), (torch.ones_like(target),)
    )
    assert torch.equal(slope, torch.zeros_like(slope))


@both_ways
@every_loss
def test_what_is_ignored_reaches_neither_value_nor_derivative(name, by_class):
    logits, target, valid = draw()
    loss = make_soft_loss(name, by_class=by_class)
    hidden = ~valid.unsqueeze(1).expand_as(logits)
    bad = torch.tensor([float("inf"), float("nan"), -float("inf"), 1e308], dtype=logits.dtype)
    poisoned, lie = logits.clone(), target.clone()
    poisoned[hidden] = bad.repeat(logits.numel())[: int(hidden.sum())]
    lie[hidden] = bad.flip(0).repeat(logits.numel())[: int(hidden.sum())]

    def value_and_gradient(z, q):
        z = z.clone().requires_grad_()
        value = loss(z, q, valid)
        rate = torch.arange(1, value.numel() + 1).view_as(value)
        (gradient,) = torch.autograd.grad((rate * value).sum(), z)
        return value.detach(), gradient

    value, gradient = value_and_gradient(logits, target)
    value_lie, gradient_lie = value_and_gradient(poisoned, lie)
    assert torch.equal(value, value_lie) and torch.equal(gradient, gradient_lie)
    assert (gradient[hidden] == 0).all() and gradient.abs().sum() > 0
    _, slope = torch.func.jvp(
        lambda z: loss(z, lie, valid), (poisoned,), (torch.ones_like(poisoned),)
    )
    assert slope.isfinite().all()


@both_ways
@every_loss
def test_nothing_known_is_exactly_nothing(name, by_class):
    logits, target, valid = draw()
    valid[:] = False
    logits = (logits * float("inf")).requires_grad_()
    value = make_soft_loss(name, by_class=by_class)(logits, target * float("nan"), valid)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert torch.equal(value, torch.zeros((3, 3) if by_class else 3, dtype=value.dtype))
    assert torch.equal(gradient, torch.zeros_like(logits))


@pytest.mark.parametrize("which", [0, 1])
@both_ways
@every_loss
def test_a_bad_number_where_the_target_is_known_stays_visible(name, which, by_class):
    inputs = draw()
    inputs[2][0, 0, 0] = True
    inputs[1][0, :, 0, 0] = torch.tensor([1.0, 0.0, 0.0])
    inputs[which][0, :, 0, 0] = float("nan")
    value = make_soft_loss(name, by_class=by_class)(*inputs)
    assert value[0].sum().isnan() and value[1:].isfinite().all()


@both_ways
@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_computes_in_float32_at_least(name, dtype, by_class):
    logits, target, valid = draw(dtype=dtype, space=(64, 64), known=0.95)
    loss = make_soft_loss(name, by_class=by_class)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        value = loss(logits, target, valid)
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    exact = loss(logits.double(), target.double(), valid)
    torch.testing.assert_close(value.double(), exact, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@every_loss
def test_the_logits_decide_the_number_type(name, dtype):
    logits, target, valid = draw(dtype=torch.float32)
    assert make_soft_loss(name)(logits, target.to(dtype), valid).dtype == torch.float32


@both_ways
@every_loss
def test_maps_over_samples_with_torch_func(name, by_class):
    logits, target, valid = draw()
    loss = make_soft_loss(name, by_class=by_class)

    def alone(z, q, v):
        return loss(z[None], q[None], v[None])[0]

    torch.testing.assert_close(
        torch.func.vmap(alone)(logits, target, valid), loss(logits, target, valid)
    )
    rate = torch.tensor([1.0, 2.0, 4.0]) if by_class else torch.tensor(1.0)
    weighed = torch.func.grad(lambda z, q, v: (rate * alone(z, q, v)).sum())
    per_sample = torch.func.vmap(weighed)(logits, target, valid)
    whole = torch.func.grad(lambda z: (rate * loss(z, target, valid)).sum())(logits)
    torch.testing.assert_close(per_sample, whole)


@every_loss
def test_sure_logits_stay_finite_right_or_wrong(name):
    target = torch.tensor([[[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]]])
    logits = torch.tensor([[[1e4, 1e4, 1e4], [-1e4, -1e4, -1e4]]]).requires_grad_()
    value = make_soft_loss(name)(logits, target, torch.ones(1, 3, dtype=torch.bool))
    assert value.isfinite().all() and value > 0.1
    assert torch.autograd.grad(value.sum(), logits)[0].isfinite().all()


@both_ways
@every_loss
def test_a_class_ruled_out_by_logits_and_target_costs_nothing(name, by_class):
    logits, target, valid = draw(batch=2)
    target[:, 2] = 0
    target /= target.sum(1, keepdim=True)
    logits[:, 2] = -float("inf")
    logits.requires_grad_()
    value = make_soft_loss(name, by_class=by_class)(logits, target, valid)
    assert value.isfinite().all()
    assert not by_class or (value[:, 2] == 0).all()
    assert torch.autograd.grad(value.sum(), logits)[0].isfinite().all()


@pytest.fixture
def two_threads():
    """Threads divide the batch at any position, which is where rounding could change."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@both_ways
@every_loss
def test_the_place_in_the_batch_changes_no_bit(name, dtype, by_class):
    loss = make_soft_loss(name, by_class=by_class)
    for classes, space in ((3, (5,)), (3, (1,)), (2, (101,)), (6, (1001,))):
        inputs = draw(batch=30, classes=classes, space=space, dtype=dtype)
        inputs[0].mul_(3)
        alone = torch.cat([loss(*(t[i : i + 1] for t in inputs)) for i in range(30)])
        assert torch.equal(loss(*inputs), alone)


@every_loss
def test_the_classes_add_up_to_the_loss(name):
    for classes, space in ((2, (30_001,)), (7, (64, 64)), (3, (16, 16, 16))):
        logits, target, valid = draw(classes=classes, space=space, known=0.9)
        valid[2] = False
        for dtype, close in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
            inputs = logits.to(dtype), target.to(dtype), valid
            columns = make_soft_loss(name, by_class=True)(*inputs)
            assert columns.shape == (3, classes) and columns.dtype == dtype
            whole = make_soft_loss(name)(*inputs)
            torch.testing.assert_close(columns.sum(1), whole, rtol=close, atol=0)


def test_a_large_image_loses_no_digits():
    logits, target, valid = draw(batch=1, classes=2, space=(4_000_000,), known=2.0)
    for name in SOFT_LOSSES:
        loss = make_soft_loss(name, by_class=True)
        exact = loss(logits, target, valid)
        value = loss(logits.float(), target.float(), valid)
        torch.testing.assert_close(value.double(), exact, rtol=1e-6, atol=0)


@both_ways
@every_loss
def test_by_class_goes_to_another_process(name, by_class):
    loss, inputs = make_soft_loss(name, by_class=by_class), draw()
    assert torch.equal(pickle.loads(pickle.dumps(loss))(*inputs), loss(*inputs))


# ---------------------------------------------------------------- where they are least


def slope_at(name, logits, target):
    """The derivative of the summed loss where everything is valid."""
    logits = logits.clone().requires_grad_()
    valid = torch.ones_like(target[:, 0], dtype=torch.bool)
    return torch.autograd.grad(make_soft_loss(name)(logits, target, valid).sum(), logits)[0]


@pytest.mark.parametrize("name", ["cross_entropy", "dice", "dice_ce", "l1", "l2"])
def test_least_where_the_softmax_is_the_target(name):
    _, target, _ = draw()
    generator = torch.Generator().manual_seed(1)
    valid = torch.ones(3, 4, 5, dtype=torch.bool)
    loss, best = make_soft_loss(name), target.log()
    least = loss(best, target, valid)
    # rounding alone decides the side of a kink, and with it the slope
    if name in ("cross_entropy", "l2"):
        assert slope_at(name, best, target).abs().max() < 1e-12
    for size in (1e-4, 1e-2, 1.0, 10.0):
        step = torch.randn(best.shape, generator=generator, dtype=best.dtype)
        assert (loss(best + size * step, target, valid) > least).all()
    if name in ("dice", "l1", "l2"):
        assert (least < 1e-12).all()
    if name == "cross_entropy":
        entropy = -(target * target.log()).sum(1).flatten(1).mean(1)
        torch.testing.assert_close(least, entropy, rtol=1e-12, atol=0)


def plain_dice(probability, target):
    """As for labels, which is what :func:`labelmend.losses.probabilities.dice` must not be."""
    return 1 - 2 * (probability * target).sum() / (probability + target).sum()


def test_plain_dice_would_reward_being_surer_than_the_target():
    target = torch.tensor([0.6, 0.6, 0.2, 0.2], dtype=torch.float64)
    surer = target.round()
    assert plain_dice(target, target) > 0.4
    assert plain_dice(surer, target) < plain_dice(target, target)
    valid = torch.ones(1, 4, dtype=torch.bool)

    def semimetric(p):
        whole = torch.stack([1 - p, p])[None]
        return probabilities.dice(whole.log(), torch.stack([1 - target, target])[None], valid)

    assert semimetric(target) < 1e-12 and semimetric(surer) > 0.2


def test_soft_focal_is_refused_for_it_would_be_least_elsewhere():
    target = torch.tensor([0.8, 0.2], dtype=torch.float64)

    def soft_focal(p):
        return -(target * (1 - p) ** 2 * p.log()).sum()

    duller = torch.tensor([0.7, 0.3], dtype=torch.float64)
    assert soft_focal(duller) < soft_focal(target)


def test_the_best_logits_for_binary_cross_entropy_have_the_target_for_sigmoids():
    _, target, _ = draw(classes=4)
    best = torch.logit(target)
    best[:, 0] = 0
    assert slope_at("binary_cross_entropy", best, target).abs().max() < 1e-12
    assert slope_at("binary_cross_entropy", target.log(), target).abs().max() > 1e-3


def test_two_classes_make_binary_cross_entropy_the_same_as_cross_entropy():
    inputs = draw(classes=2)
    torch.testing.assert_close(
        probabilities.binary_cross_entropy(*inputs),
        probabilities.cross_entropy(*inputs),
        rtol=1e-12,
        atol=0,
    )


def test_a_target_without_a_class_teaches_dice_to_say_less_of_it():
    logits, valid = torch.zeros(1, 2, 10), torch.ones(1, 10, dtype=torch.bool)
    target = only_background(torch.zeros(1, 2, 10))
    assert probabilities.dice(logits, target, valid).item() == pytest.approx(0.5)
    assert (slope_at("dice", logits, target)[0, 1] > 0).all()


def test_a_trace_of_a_class_costs_dice_nearly_everything_and_teaches_nearly_nothing():
    logits, valid = torch.tensor([0.0, -7.0]).view(1, 2, 1).expand(1, 2, 10), torch.ones(1, 10) > 0
    absent = only_background(torch.zeros(1, 2, 10))
    trace = torch.tensor([1 - 1e-6, 1e-6]).view(1, 2, 1).expand(1, 2, 10)
    assert probabilities.dice(logits, absent, valid) < 0.001
    assert probabilities.dice(logits, trace, valid) > 0.99
    steep, flat = (slope_at("dice", torch.zeros(1, 2, 10), q)[0, 1].sum() for q in (absent, trace))
    assert flat < 1e-4 * steep


# ---------------------------------------------------------------- what is refused


@every_loss
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda z, q, v: (z[0, 0], q, v), "logits must be floating"),
        (lambda z, q, v: (z.long(), q, v), "not int64"),
        (lambda z, q, v: (z, q, v.long()), "valid must be bool"),
        (lambda z, q, v: (z, q, v[:2]), "valid must be bool (3, 4, 5)"),
        (lambda z, q, v: (z, q[:, 0], v), "floating (3, 3, 4, 5) as the logits, not float64"),
        (lambda z, q, v: (z, q[:, :2], v), "not float64 (3, 2, 4, 5)"),
        (lambda z, q, v: (z, q.argmax(1), v), "int64 (3, 4, 5); class indices take make_loss"),
        (lambda z, q, v: (z, q > 0.5, v), "not bool (3, 3, 4, 5)"),
        (lambda z, q, v: (z[:, :1], q[:, :1], v), "at least 2 classes"),
        (lambda z, q, v: (z, q.to("meta"), v), "one device"),
    ],
)
def test_what_does_not_fit_is_refused(name, change, words):
    with pytest.raises(ShapeError) as caught:
        make_soft_loss(name)(*change(*draw()))
    assert words in str(caught.value) and "\n" not in str(caught.value)


@every_loss
def test_inputs_are_left_alone(name):
    inputs = draw()
    before = [t.clone() for t in inputs]
    make_soft_loss(name)(*inputs)
    assert all(torch.equal(a, b) for a, b in zip(inputs, before, strict=True))


def test_names():
    assert set(SOFT_LOSSES) < set(LOSSES)
    assert all(f"``{name}``" in probabilities.__doc__ for name in SOFT_LOSSES)
    for name in set(LOSSES) - set(SOFT_LOSSES):
        make_loss(name)
        with pytest.raises(SettingsError) as caught:
            make_soft_loss(name, by_class=True)
        assert str(caught.value) == (
            f"loss {name!r} has no form for probabilities; use one of cross_entropy, "
            "binary_cross_entropy, dice, dice_ce, l1, l2"
        )
    with pytest.raises(SettingsError, match="unknown loss 'crossentropy'; did you mean 'cross_"):
        make_soft_loss("crossentropy")
