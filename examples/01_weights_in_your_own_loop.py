"""Learned weights in a training loop of your own, without a run folder or a command line.

You have a network, a loop, a few labels you trust and many you do not. Every twenty steps this
asks of every doubtful label: does learning from it help with the labels I trust? The answer is one
number per label, found in one pass, and it moves the label's weight.

The made-up task: find the bright half of a noisy line. A third of the doubtful labels are wrong.
"""

import torch
from torch.func import functional_call

from labelmend import WeightTable, gradient_similarity, make_loss, mean_gradient
from labelmend.weighting.weights import normalised

torch.manual_seed(0)
truth = (torch.arange(64) >= torch.randint(16, 48, (60, 1))).long()
image = truth[:, None] + 0.7 * torch.randn(60, 1, 64)
strong = torch.arange(60) < 12
wrong = ~strong & (torch.arange(60) % 3 == 0)
label = torch.where(wrong[:, None], 1 - truth, truth)
valid = torch.ones_like(label, dtype=torch.bool)

network = torch.nn.Sequential(
    torch.nn.Conv1d(1, 8, 9, padding=4), torch.nn.ReLU(), torch.nn.Conv1d(8, 2, 9, padding=4)
)
optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
loss = make_loss("cross_entropy")  # one value per sample, never a mean

# What you add to your loop: a table, and every so often the three lines of a weight step.
table = WeightTable.start(strong, initial=0.5)
params = dict(network.named_parameters())


def losses_of(which):
    """The losses of some samples as a function of the parameters."""
    return lambda p: loss(functional_call(network, p, (image[which],)), label[which], valid[which])


for step in range(100):
    losses = loss(network(image), label, valid)
    (table.weight.float() * losses).mean().backward()  # a plain loop has losses.mean() here
    optimiser.step()
    optimiser.zero_grad()
    if step % 20 == 19:
        trusted = mean_gradient(losses_of(strong), params)
        similarity = gradient_similarity(losses_of(~strong), params, trusted)
        table.update(torch.where(~strong)[0], similarity, normalised, rate=0.2)

print(f"mean weight of right labels {table.weight[~strong & ~wrong].mean():.2f}")
print(f"mean weight of wrong labels {table.weight[wrong].mean():.2f}")
assert table.weight[wrong].mean() < table.weight[~strong & ~wrong].mean()
