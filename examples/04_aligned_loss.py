"""Labels that lie beside what they mean, in a loop of your own: lines with a plus are what you add.

Every label of this data set was drawn a little off, each another way: of a slide that shifted, a
microphone that started late, a hand that was in a hurry. A network that learns from them as they
are learns to blur. Here the loss looks first where each label fits what the network sees, moves it
there if that is clear, and is computed there. A few labels that you trust stay, so that network
and labels do not drift off together.

The made-up task: find the bright pieces of a noisy line. Labels are up to six positions off.
"""

import torch

from labelmend import AlignedLoss, ShiftAligner  # +

torch.manual_seed(0)
places = torch.arange(96)
starts, sizes = torch.randint(8, 80, (80, 2, 1)), torch.randint(3, 12, (80, 2, 1))
truth = ((places >= starts) & (places < starts + sizes)).any(1).long()
image = truth[:, None] + 0.4 * torch.randn(80, 1, 96)
off = torch.randint(-6, 7, (80,))
strong = torch.arange(80) < 8
off[strong] = 0
label = torch.stack([one.roll(int(by)) for one, by in zip(truth, off, strict=True)])


plain = torch.nn.CrossEntropyLoss()
loss = torch.nn.CrossEntropyLoss(reduction="none")  # +
criterion = AlignedLoss(loss, ShiftAligner(window=8))  # +


def trained(aligned: bool) -> torch.nn.Module:
    """A network that has learned from labels as they are, or put in place."""
    torch.manual_seed(1)
    network = torch.nn.Sequential(
        torch.nn.Conv1d(1, 16, 7, padding=3), torch.nn.ReLU(), torch.nn.Conv1d(16, 2, 7, padding=3)
    )
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for step in range(200):
        which = torch.randperm(80)[:32]
        prediction = network(image[which])
        value = plain(prediction, label[which])
        if aligned:
            # At first it sees too little to move any.
            stay = strong[which] | (step < 40)  # +
            value = criterion(prediction, label[which], strong=stay)  # +
        value.backward()
        optimiser.step()
        optimiser.zero_grad()
    return network


def overlap(network: torch.nn.Module) -> float:
    """Dice of what a network finds and the truth."""
    found = network(image).argmax(1)
    return float(2 * (found * truth).sum() / (found.sum() + truth.sum()))


blurred, network = trained(aligned=False), trained(aligned=True)
moved = criterion.align(network(image), label, strong=strong)
right = ((moved.displacement[:, 0] + off).abs() <= 1) & ~strong

print(f"overlap with the truth, labels as they are {overlap(blurred):.3f}")
print(f"overlap with the truth, labels put in place {overlap(network):.3f}")
print(f"weak labels within one position of their place {right.sum() / (~strong).sum():.0%}")
assert overlap(network) > overlap(blurred)
