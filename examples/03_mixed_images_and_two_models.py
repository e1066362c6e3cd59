"""Two models that teach each other by mixed images: lines with a plus are what a plain loop lacks.

You have a loop that trains one network on labels of which some are wrong. Here a second one is
trained beside it. Of every pair of images, an object of the first is cut into the second, and each
network learns to see in the mixed image what the other one saw in the two it was made of.

The made-up task: find the bright piece of a noisy line. A third of the labels are wrong.
"""

import torch

from labelmend import class_mask, make_loss, mix
from labelmend.training.dual import pseudo_label

torch.manual_seed(0)
start = torch.randint(8, 40, (60, 1))
truth = ((torch.arange(64) >= start) & (torch.arange(64) < start + 16)).long()
image = truth[:, None] + 0.7 * torch.randn(60, 1, 64)
label = torch.where((torch.arange(60) % 3 == 0)[:, None], truth.roll(20, 1), truth)
valid = torch.ones_like(label, dtype=torch.bool)  # False where nobody said what the label is


def network() -> torch.nn.Module:
    """A small one, another one at every call."""
    return torch.nn.Sequential(
        torch.nn.Conv1d(1, 8, 9, padding=4), torch.nn.ReLU(), torch.nn.Conv1d(8, 2, 9, padding=4)
    )


networks = [network(), network()]  # +
optimiser = torch.optim.Adam([p for net in networks for p in net.parameters()], lr=1e-2)
loss = make_loss("cross_entropy")  # one value per sample, never a mean

for _ in range(200):
    i, j = torch.randperm(60)[:16].chunk(2)
    mask = class_mask(label[i], valid[i], 1)  # +
    images = torch.cat([image[i], image[j], mix(image[i], image[j], mask)])  # +
    seen = [net(images).chunk(3) for net in networks]  # +
    total = torch.zeros(())
    for (one, two, mixed), (its_one, its_two, _) in (seen, seen[::-1]):  # +
        total = total + (loss(one, label[i], valid[i]) + loss(two, label[j], valid[j])).mean()
        taught = pseudo_label(its_one.softmax(1), its_two.softmax(1), mask).argmax(1)  # +
        total = total + loss(mixed, taught, torch.ones_like(mask)).mean()  # +
    total.backward()
    optimiser.step()
    optimiser.zero_grad()

with torch.no_grad():
    found = networks[0](image).argmax(1)
print(f"positions that the first network finds right: {(found == truth).float().mean():.1%}")
print(f"positions that the labels have right: {(label == truth).float().mean():.1%}")
assert (found == truth).float().mean() > 0.9
