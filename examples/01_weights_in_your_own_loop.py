"""Learned weights in a training loop of your own: the lines marked with a plus are what you add.

You have a network, a loop, a few labels you trust and many you do not. Every twenty steps a weight
step asks of every doubtful label: would learning from it help with the labels I trust, and does it
fit what the network sees? The answer moves that label's weight.

The made-up task: find the bright half of a noisy line. A third of the doubtful labels are wrong.
"""

import torch

from labelmend import Batch, WeightTable, make_loss, weight_step

torch.manual_seed(0)
truth = (torch.arange(64) >= torch.randint(16, 48, (60, 1))).long()
image = truth[:, None] + 0.7 * torch.randn(60, 1, 64)
strong = torch.arange(60) < 12
wrong = ~strong & (torch.arange(60) % 3 == 0)
label = torch.where(wrong[:, None], 1 - truth, truth)
valid = torch.ones_like(label, dtype=torch.bool)  # False where nobody said what the label is

network = torch.nn.Sequential(
    torch.nn.Conv1d(1, 8, 9, padding=4), torch.nn.ReLU(), torch.nn.Conv1d(8, 2, 9, padding=4)
)
optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
loss = make_loss("cross_entropy")  # one value per sample, never a mean
samples = Batch(image, label, valid, torch.arange(60))  # +
table = WeightTable.start(strong, initial=0.5)  # +

for step in range(200):
    which = torch.randperm(60)[:16]
    losses = loss(network(image[which]), label[which], valid[which])
    losses = table.weight[which].float() * losses  # +
    losses.mean().backward()
    optimiser.step()
    optimiser.zero_grad()
    if step % 20 == 19:  # +
        weight_step(table, network, loss, samples.take(strong), samples.take(~strong))  # +

right = ~strong & ~wrong
print(f"mean weight of right labels {table.weight[right].mean():.2f}")
print(f"mean weight of wrong labels {table.weight[wrong].mean():.2f}")
assert table.weight[wrong].max() < table.weight[right].min()
