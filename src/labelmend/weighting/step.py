"""A whole weight step as one call, for a training loop of your own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from labelmend.errors import NonFiniteError, SettingsError, ShapeError
from labelmend.types import Batch, Loss
from labelmend.weighting.alike import appearances, likeness
from labelmend.weighting.ambient import bare, derivable, own_precision
from labelmend.weighting.calls import (
    call_with,
    check_batch,
    check_loss,
    gauss_newton_of,
    losses_of,
)
from labelmend.weighting.choice import check_uncoupled, choose, evaluating
from labelmend.weighting.curvature import conjugate_gradients
from labelmend.weighting.direction import trusted_gradient
from labelmend.weighting.evidence import AMONG_ALIKE, Findings, evidence
from labelmend.weighting.fit import disagreement, says_something
from labelmend.weighting.gradients import Parameters, exact_or_slow
from labelmend.weighting.rules import UpdateRule, plain
from labelmend.weighting.weights import WeightTable

CHUNK = 8
"""Samples that go through the network together: no more memory than a small training step."""


def weight_step(
    table: WeightTable,
    network: nn.Module,
    loss: Loss,
    strong: Batch,
    weak: Batch,
    *,
    signal: str = "alike",
    parameters: str | Sequence[str] = "last",
    rule: UpdateRule = plain,
    rate: float = 0.2,
) -> Findings:
    """Judge doubtful labels by trusted ones, and move their weights (seed A, ¶46–67).

    What ``labelmend train`` does by itself, with its defaults: the mean gradient of the strong
    samples over the Gauss–Newton curvature of eight samples (five iterations of conjugate
    gradients) is compared with the gradient of every weak sample, and the fit of label and
    prediction stands beside it. The network is judged in evaluation mode; its mode, parameters,
    gradients and buffers stay as they were.

    Args:
        table: whose weights of ``weak.index`` move.
        network: ``image -> (batch, classes, *space)``; of one wrapped for several devices or
            processes, the network inside is judged. Another thread must not use it meanwhile:
            it would get other parameters; give it a copy.
        loss: one value per sample, such as :func:`labelmend.make_loss` gives.
        strong: a dozen samples with trusted labels, not augmented, on whatever device.
        weak: the ones to judge, not augmented either. They are judged beside each other: thirty
            tell more than three.
        signal: one of :data:`labelmend.weighting.evidence.SIGNALS`.
        parameters: what :func:`labelmend.weighting.choice.choose` takes.
        rule: how evidence moves weights; :mod:`labelmend.weighting.rules`.
        rate: how far the strongest evidence moves a weight.

    Returns:
        What was found of every weak sample, each tensor ``(weak,)`` on the CPU. A label of which
        nothing is valid, and a constant one of continuous values, say nothing; their weights stay.

    Raises:
        NonFiniteError: when a loss or similarity is NaN or infinite; no weight has moved then.
        SettingsError: for a network whose samples have no gradients of their own, or a loss that
            is not called with logits, label and valid.
        ShapeError: for a network that returns more than logits, or when one of the batches is
            empty, they differ in size, a sample is twice in ``weak`` or not in the table, or none
            of ``weak`` has a weight that learns.

    The trap: a network that predicts nothing sensible yet can judge nothing. Train it for some
    hundred steps first, and then judge every label several times.

    >>> from labelmend import make_loss
    >>> label = (torch.arange(8) >= torch.tensor([[2], [3], [4], [5], [6]])).long()
    >>> image = (2.0 * label - 1).unsqueeze(1)
    >>> label[4] = 1 - label[4]  # wrong
    >>> samples = Batch(image, label, torch.ones_like(label, dtype=torch.bool), torch.arange(5))
    >>> strong, weak = samples.take(slice(0, 2)), samples.take(slice(2, 5))
    >>> network = nn.Conv1d(1, 2, 1, bias=False)
    >>> network.load_state_dict({"weight": torch.tensor([[[-1.0]], [[1.0]]])})
    <All keys matched successfully>
    >>> table = WeightTable.start(samples.index < 2, initial=0.5)
    >>> found = weight_step(table, network, make_loss("cross_entropy"), strong, weak)
    >>> table.weight.round(decimals=1).tolist()
    [1.0, 1.0, 0.7, 0.7, 0.3]
    """
    if not isinstance(network, nn.Module) or isinstance(network, torch.jit.ScriptModule):
        kind = type(network).__name__
        raise SettingsError(f"a network is an nn.Module that is not scripted, not a {kind}")
    network = unwrapped(network)
    _check(table, strong, weak)
    check_loss(loss)
    judge = evidence(signal)
    with derivable(), evaluating(network):
        strong, weak = _bare(strong), _bare(weak)
        check_uncoupled(network)
        device = next((p.device for p in network.parameters()), strong.image.device)
        params = choose(network, parameters, strong.image[:1].to(device))
        with own_precision(params):
            direction, alike = _direction(network, loss, strong, weak, params)
            parts = [
                _judged(network, loss, part.to(device), params, direction)
                for part in weak.split(CHUNK)
            ]
    similarity, losses, apart = torch.cat(parts, 1).cpu().double()
    found, index = Findings(similarity, losses, apart, alike), weak.index.cpu()
    told = says_something(weak.label, weak.valid).cpu()
    some = found.take(told)
    if signal in AMONG_ALIKE:
        images = likeness(appearances(weak.image)[told], appearances(strong.image))
        some = replace(some, likeness=images)
    whole = (some.loss + some.disagreement + some.similarity).isfinite()
    if not whole.all():
        raise NonFiniteError(
            f"loss or similarity is NaN or infinite for samples {index[told][~whole].tolist()}; "
            "no weight has moved"
        )
    if told.any():
        table.update(index[told], judge(some), rule, rate)
    return found


def unwrapped(network: nn.Module) -> nn.Module:
    """The network itself, where it is wrapped to be trained in several places.

    Not the wrapper is judged: that waits for other processes, which may not judge anything now.

    >>> network = nn.Conv1d(1, 2, 1)
    >>> unwrapped(nn.DataParallel(network)) is network
    True
    """
    while isinstance(network, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        network = network.module
    return network


def _bare(batch: Batch) -> Batch:
    return replace(batch, image=bare(batch.image), label=bare(batch.label), valid=bare(batch.valid))


def _check(table: WeightTable, strong: Batch, weak: Batch) -> None:
    for batch, side in ((strong, "strong"), (weak, "weak")):
        check_batch(side, batch)
        if not len(batch):
            raise ShapeError(
                f"a weight step compares weak with strong; there are no {side} samples"
            )
    for name in ("image", "label", "valid"):
        one, other = (tuple(getattr(batch, name).shape[1:]) for batch in (strong, weak))
        if one != other:
            raise ShapeError(f"strong and weak {name}s must be of one size, not {one} and {other}")
    table.check_places(weak.index.cpu())
    if not table.learns[weak.index.cpu()].any():
        raise ShapeError(
            "no weight of the weak samples learns; were strong and weak handed over the wrong way "
            "round?"
        )


def _direction(
    network: nn.Module, loss: Loss, strong: Batch, weak: Batch, params: Parameters
) -> tuple[dict[str, Tensor], float]:
    """H⁻¹ g_S, and how far the strong samples agree on g_S."""
    device = next(iter(params.values())).device
    halves = [strong.take(slice(first, None, 2)) for first in (0, 1)]
    passes = [
        (len(half), (losses_of(network, loss, part.to(device)) for part in half.split(CHUNK)))
        for half in halves
    ]
    gradient, alike = trusted_gradient(passes, params, len(strong))
    few = slice(0, CHUNK // 2)
    curved = strong.take(few).join(weak.take(few)).to(device)
    return conjugate_gradients(gauss_newton_of(network, params, curved))(gradient), alike


def _judged(
    network: nn.Module,
    loss: Loss,
    part: Batch,
    params: Parameters,
    direction: Parameters,
) -> Tensor:
    """Similarity, loss and disagreement of some samples, ``(3, samples)``, by one pass."""

    def both(values: Parameters) -> Tensor:
        logits = call_with(network, values, part.image)
        return torch.cat([f(logits, part.label, part.valid) for f in (loss, disagreement)])

    found = exact_or_slow(both, params, direction)
    losses, apart = found.losses.chunk(2)
    return torch.stack([found.similarity[: len(part)], losses, apart])
