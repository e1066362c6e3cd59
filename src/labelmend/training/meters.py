"""What a training step says of itself, added up over parts and processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from labelmend.training.objective import Parcel, Terms
from labelmend.training.processes import Processes


def step_figures(
    seen: Sequence[tuple[Parcel, Terms]], counts: Mapping[str, int], processes: Processes
) -> dict[str, float]:
    """The objective, mean losses of strong and of weak samples, and what else was metered.

    Args:
        seen: the parts of a step in this process, and what the objective made of them.
        counts: samples of the whole step, over all parts and processes, by ``strong`` and ``weak``.
        processes: all of which must call this.

    Returns:
        ``loss``, ``loss_strong``, ``loss_weak`` and a quotient per meter, each only if it is of
        anything.
    """
    sums: dict[str, Tensor] = {}
    for parcel, terms in seen:
        losses, strong = terms.losses.cpu().double(), parcel.strong.cpu()
        each = {
            "loss": terms.total.detach().cpu().reshape(1),
            "loss_strong": losses[strong].sum().reshape(1),
            "loss_weak": losses[~strong].sum().reshape(1),
            **{name: meter.cpu() for name, meter in terms.meters.items()},
        }
        for name, value in each.items():
            sums[name] = sums.get(name, 0) + value.double()
    device = seen[0][1].total.device
    whole = processes.add(torch.cat(list(sums.values())).to(device)).cpu()
    lengths = [len(value) for value in sums.values()]
    added = dict(zip(sums, torch.split(whole, lengths), strict=True))
    figures = {"loss": added.pop("loss").item()}
    for kind in ("strong", "weak"):
        total = added.pop(f"loss_{kind}").item()
        if counts.get(kind):
            figures[f"loss_{kind}"] = total / counts[kind]
    return figures | {name: (s / n).item() for name, (s, n) in added.items() if n > 0}
