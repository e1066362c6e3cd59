"""What a caller has switched on, compiled or wrapped changes no gradient and no weight."""

from __future__ import annotations

import warnings

import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from labelmend import Batch, WeightTable, gradient_similarity, make_loss, mean_gradient, weight_step
from labelmend.errors import SettingsError, ShapeError
from labelmend.weighting.calls import gauss_newton_of, losses_of
from labelmend.weighting.curvature import conjugate_gradients, empirical_fisher
from labelmend.weighting.gradients import slow

LOSS = make_loss("dice_ce")


def samples() -> Batch:
    draws = torch.Generator().manual_seed(0)
    label = (torch.arange(16) >= torch.randint(4, 12, (12, 1), generator=draws)).long()
    image = label.unsqueeze(1) + 0.5 * torch.randn(12, 1, 16, generator=draws)
    return Batch(image, label, torch.ones_like(label, dtype=torch.bool), torch.arange(12))


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv1d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv1d(4, 2, 1)]
    return nn.Sequential(*layers).eval()


def similarity(net: nn.Module, batch: Batch, loss=LOSS) -> torch.Tensor:
    params = dict(net.named_parameters())
    along = {name: torch.ones_like(value) for name, value in params.items()}
    return gradient_similarity(losses_of(net, loss, batch), params, along)


def judged(net: nn.Module, batch: Batch, loss=LOSS) -> torch.Tensor:
    """The weights after one step."""
    table = WeightTable.start(torch.arange(12) < 4, initial=0.5)
    strong, weak = batch.take(torch.arange(4)), batch.take(torch.arange(4, 12))
    weight_step(table, net, loss, strong, weak)
    return table.weight


def compiled(what):
    """Not to machine code, which is slow to make; a graph loses what it carries no less."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about its own internals
        return torch.compile(what, backend="eager")


def test_a_compiled_network_or_loss_is_judged_as_it_was_written() -> None:
    net, batch = network(), samples()
    plain, weights = similarity(net, batch), judged(net, batch)
    assert plain.abs().min() > 1e-3  # else 0 for an answer would go unseen
    within = network()
    within.compile(backend="eager")
    for wrapped in (compiled(net), within):
        torch.testing.assert_close(similarity(wrapped, batch), plain)
        torch.testing.assert_close(judged(wrapped, batch), weights)
    torch.testing.assert_close(similarity(net, batch, compiled(LOSS)), plain)


def test_a_compiled_network_is_compiled_again_afterwards() -> None:
    calls = []

    def backend(graph, _):
        calls.append(graph)
        return graph

    net = torch.compile(network(), backend=backend)
    judged(net, samples())
    assert not calls
    net(samples().image)
    assert calls


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_nothing_depends_on_whether_gradients_are_switched_off_around_it(mode) -> None:
    net, batch = network(), samples()
    params = dict(net.named_parameters())

    def all_of_them() -> list[torch.Tensor]:
        of = losses_of(net, LOSS, batch)
        gradient = mean_gradient(of, params)
        curvatures = [
            conjugate_gradients(gauss_newton_of(net, params, batch)),
            empirical_fisher([of], params),
        ]
        found = [similarity(net, batch), slow(of, params, gradient)[1], judged(net, batch)]
        solved = [value for solve in curvatures for value in solve(gradient).values()]
        return [*found, *gradient.values(), *solved]

    outside = all_of_them()
    with mode():
        inside = all_of_them()
        assert torch.is_inference_mode_enabled() is (mode is torch.inference_mode)
        assert not torch.is_grad_enabled()
    for one, other in zip(inside, outside, strict=True):
        torch.testing.assert_close(one, other)


def test_a_batch_made_in_inference_mode_is_judged() -> None:
    net, batch = network(), samples()
    with torch.inference_mode():
        made = Batch(batch.image + 0, batch.label + 0, batch.valid & True, batch.index + 0)
        inside = judged(net, made)
    torch.testing.assert_close(inside, judged(net, batch))
    params = dict(net.named_parameters())
    torch.testing.assert_close(
        mean_gradient(losses_of(net, LOSS, made), params),
        mean_gradient(losses_of(net, LOSS, batch), params),
    )


def test_tensors_with_extras_are_judged() -> None:
    batch = samples()
    tagged = Batch(
        *(MetaTensor(values) for values in (batch.image, batch.label, batch.valid)), batch.index
    )
    torch.testing.assert_close(similarity(network(), tagged), similarity(network(), batch))
    torch.testing.assert_close(judged(network(), tagged), judged(network(), batch))


def test_of_a_network_wrapped_for_several_devices_the_network_inside_is_judged() -> None:
    net, batch = network(), samples()
    torch.testing.assert_close(judged(nn.DataParallel(net), batch), judged(net, batch))
    wrapped = nn.DataParallel(net)
    with pytest.raises(SettingsError, match=r"hand over the network in it, network\.module"):
        similarity(wrapped, batch)


class Waiting(nn.parallel.DistributedDataParallel):
    """One whose other processes never come."""

    def __init__(self, module: nn.Module) -> None:
        nn.Module.__init__(self)
        self.module = module

    def forward(self, *_):
        raise AssertionError("the wrapper was asked, and would wait for ever")


def test_one_process_of_many_can_judge_alone() -> None:
    net, batch = network(), samples()
    torch.testing.assert_close(judged(Waiting(net), batch), judged(net, batch))


class Several(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, image):
        return {"out": self.inner(image)}


def test_what_is_no_loss_or_no_batch_is_refused_in_one_line() -> None:
    net, batch = network(), samples()
    with pytest.raises(SettingsError, match=r"dice_ce does not: make one of these by name"):
        judged(net, batch, "dice_ce")
    with pytest.raises(SettingsError, match=r"CrossEntropyLoss does not"):
        judged(net, batch, nn.CrossEntropyLoss(reduction="none"))
    with pytest.raises(ShapeError, match=r"batch must be a Batch\(image, .*\), not a tuple"):
        losses_of(net, LOSS, (batch.image, batch.label, batch.valid))
    with pytest.raises(ShapeError, match=r"logits must be a tensor, not a dict; .* by a module"):
        judged(Several(), batch)
    with pytest.raises(ShapeError, match=r"logits must be a tensor, not a dict"):
        judged(Several(), batch, lambda z, label, valid: LOSS(z["out"], label, valid))


def test_what_is_no_network_is_refused_in_one_line() -> None:
    net, batch = network(), samples()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own: scripting has seen its days
        scripted = torch.jit.script(net)
    for wrong in (scripted, net.forward):
        with pytest.raises(SettingsError, match="a network is an nn.Module that is not scripted"):
            judged(wrong, batch)
    with pytest.raises(SettingsError, match="of a scripted or traced network no parameter"):
        similarity(scripted, batch)


def test_a_loss_by_class_is_not_said_to_be_averaged() -> None:
    with pytest.raises(ShapeError, match=r"not \(2, 2\); sum over the rest"):
        judged(network(), samples(), make_loss("dice_ce", by_class=True))


def test_a_loss_that_picks_from_what_a_network_returns_has_similarities() -> None:
    def loss(found, label, valid):
        return LOSS(found["out"], label, valid)

    torch.testing.assert_close(
        similarity(Several(), samples(), loss), similarity(network(), samples())
    )


def test_no_samples_have_no_similarities() -> None:
    assert similarity(network(), samples().take(slice(0, 0))).shape == (0,)
