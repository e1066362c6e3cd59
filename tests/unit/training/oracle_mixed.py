"""Slow and obvious twin of eq. 10–13: pair by pair, one image at a time through each network.

Eq. 11 adds up pairs without saying how large a sum may be. What was decided, for a sample k of
weight γ_k that stands for 1/scale_k samples of its kind:

* its own loss has the coefficient ``times · scale_k · γ_k``, and the third term of a pair (i, j)
  ``λ · times · (scale_i + scale_j)/2 · (γ_i + γ_j)/2`` with each network's part of r;
* ``times`` is 2 where each of two networks sees half of the samples, and else 1;
* by position, ``(γ_i + γ_j)/2 · r`` becomes the sum over both parts of a mixed image of
  ``γ of the part · its share of the valid positions · r of that part alone``;
* of a soft pseudo-label, probabilities under 0.01 count as 0 and the others add up to 1 again.
"""

import itertools
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass
class Sample:
    """One sample; weight is a number, or one per class."""

    image: torch.Tensor
    label: torch.Tensor
    valid: torch.Tensor
    weight: torch.Tensor
    scale: float
    strong: bool


@dataclass
class Rules:
    """What may differ from eq. 10–13 as they stand."""

    loss: Any
    soft: Any = None
    rate: float = 1.0
    both: bool = False
    predicted: bool = True
    gate: float = 0.0
    by_position: bool = False
    trust: bool = False


@dataclass
class Taught:
    """A network's part of r for one pair: its value times its weight, and what is metered."""

    counted: torch.Tensor
    value: float
    figures: dict = field(default_factory=dict)


def samples_of(parcel):
    """The pairs of a parcel: its first half beside its second."""
    each = [
        Sample(
            parcel.batch.image[k],
            parcel.batch.label[k],
            parcel.batch.valid[k],
            parcel.weight[k],
            parcel.scale[k].item(),
            bool(parcel.strong[k]),
        )
        for k in range(len(parcel.batch))
    ]
    half = len(each) // 2
    return list(zip(each[:half], each[half:], strict=True))


def passed(network, image):
    return network(image.unsqueeze(0)).squeeze(0)


def cost(loss, logits, target, valid):
    """The loss of one image: one number, or one per class."""
    return loss(logits.unsqueeze(0), target.unsqueeze(0), valid.unsqueeze(0)).squeeze(0)


def blend(mask, one, other):
    """Eq. 10: B ⊙ x_i + (1 − B) ⊙ x_j."""
    share = mask.to(one.dtype)
    return share * one + (1 - share) * other


def choose(mask, one, other):
    """Eq. 10 for what is no quantity: position by position."""
    picked = [
        a if b >= 0.5 else c
        for b, a, c in zip(
            mask.flatten().tolist(), one.flatten().tolist(), other.flatten().tolist(), strict=True
        )
    ]
    return torch.tensor(picked, dtype=one.dtype).reshape(one.shape)


def softmax(logits):
    raised = torch.exp(logits - logits.amax(0))
    return raised / raised.sum(0)


def teach(rules, pair, mask, pupil, teacher, mixed):
    """ℓ(x_m, ỹ_m, θ) of one pupil, with what it counts."""
    i, j = pair
    logits = passed(pupil, mixed)
    known = choose(mask, i.valid, j.valid)
    label = choose(mask, i.label, j.label)
    if rules.predicted:
        with torch.no_grad():
            seen = [softmax(passed(teacher, k.image)) for k in pair]
        probability = blend(mask, *seen)  # eq. 12
        largest, hard = probability.max(0)
        where, said = largest >= rules.gate, hard
        if rules.trust:
            probability, where = believed(pair, mask, (label, known), probability, where)
            hard = probability.argmax(0)
        kept = torch.where(probability < 0.01, torch.zeros_like(probability), probability)
        soft = kept / kept.sum(0)
        target, loss = (hard, rules.loss) if rules.soft is None else (soft, rules.soft)
    else:
        target, where, loss = label, known, rules.loss
    counted, value = weighed(rules, pair, mask, (loss, logits, target, where))
    figures = {"mixed_loss": [value, 1]}
    if rules.predicted:
        figures["gated"] = [int((~where).sum()), where.numel()]
        figures["gain"] = gain(pair, mask, said, logits.argmax(0), label, known)
    return Taught(counted, value, figures)


def believed(pair, mask, said, probability, where):
    """A strong label in the place of what is predicted, position by position."""
    label, known = said
    probability, where = probability.clone(), where.clone()
    for place in itertools.product(*map(range, mask.shape)):
        strong = pair[0].strong if mask[place] >= 0.5 else pair[1].strong
        if strong and known[place]:
            probability[(slice(None), *place)] = 0.0
            probability[(label[place].item(), *place)] = 1.0
            where[place] = True
    return probability, where


def weighed(rules, pair, mask, of):
    i, j = pair
    loss, logits, target, where = of
    if not rules.by_position:
        r = cost(loss, logits, target, where)
        return ((i.weight + j.weight) / 2 * r).sum(), r.sum().item()
    counted, value = 0.0, 0.0
    for k, part in ((i, mask >= 0.5), (j, ~(mask >= 0.5))):
        here = int((where & part).sum())
        if here:
            r = cost(loss, logits, target, where & part) * (here / int(where.sum()))
            counted, value = counted + (k.weight * r).sum(), value + r.sum().item()
    return counted, value


def gain(pair, mask, hard, found, label, known):
    """Where teacher and pupil differ under a strong label: right only one, or only the other."""
    gained = differing = 0
    columns = (mask, hard, found, label, known)
    for b, t, p, y, said in zip(*(c.flatten().tolist() for c in columns), strict=True):
        strong = pair[0].strong if b >= 0.5 else pair[1].strong
        if said and strong and t != p:
            differing += 1
            gained += (t == y) - (p == y)
    return [gained, differing]


def disagreement(pairs, teachers):
    differing = seen = 0
    for pair in pairs:
        for k in pair:
            with torch.no_grad():
                one, other = (passed(t, k.image).argmax(0).flatten().tolist() for t in teachers)
            differing += sum(a != b for a, b in zip(one, other, strict=True))
            seen += sum(a > 0 or b > 0 for a, b in zip(one, other, strict=True))
    return [differing, seen]


def objective(rules, networks, pairs, masks, teachers=None):
    """Eq. 11: the total, and the meters as sums and counts."""
    teachers = networks if teachers is None else teachers
    apart = len(networks) == 2 and not rules.both
    times = 2 if apart else 1
    total, meters = torch.zeros((), dtype=torch.float64), {}
    for pair, mask in zip(pairs, masks, strict=True):
        i, j = pair
        mixed = blend(mask, i.image, j.image)
        for a, network in enumerate(networks):
            for k in [pair[a]] if apart else pair:
                loss = cost(rules.loss, passed(network, k.image), k.label, k.valid)
                total = total + times * k.scale * (k.weight * loss).sum()
            if rules.rate == 0:
                continue
            other = 1 - a if len(networks) == 2 else a
            taught = teach(rules, pair, mask, network, teachers[other], mixed)
            total = total + rules.rate * times * (i.scale + j.scale) / 2 * taught.counted
            for name, (part, of) in taught.figures.items():
                had = meters.setdefault(name, [0, 0])
                had[0], had[1] = had[0] + part, had[1] + of
    if len(networks) == 2 and rules.predicted and rules.rate:
        meters["disagreement"] = disagreement(pairs, teachers)
    return total, meters
