"""Learned weights in a Lightning module: the lines marked with a plus are what you add.

The same task as in the first example, with Lightning's trainer, loader and checkpoints around it.
Weights are judged with the network of the moment, so they belong into the checkpoint.
"""

import logging
import tempfile
import warnings

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

from labelmend import Batch, WeightTable, make_loss, weight_step

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="lightning")
lightning.seed_everything(0, verbose=False)
truth = (torch.arange(64) >= torch.randint(16, 48, (60, 1))).long()
image = truth[:, None] + 0.7 * torch.randn(60, 1, 64)
strong = torch.arange(60) < 12
wrong = ~strong & (torch.arange(60) % 3 == 0)
label = torch.where(wrong[:, None], 1 - truth, truth)
valid = torch.ones_like(label, dtype=torch.bool)  # False where nobody said what the label is
samples = Batch(image, label, valid, torch.arange(60))
trusted, doubtful = samples.take(strong), samples.take(~strong)  # +


class Segmenter(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = torch.nn.Sequential(
            torch.nn.Conv1d(1, 8, 9, padding=4),
            torch.nn.ReLU(),
            torch.nn.Conv1d(8, 2, 9, padding=4),
        )
        self.loss = make_loss("cross_entropy")  # one value per sample, never a mean
        self.table = WeightTable.start(strong, initial=0.5)  # +

    def training_step(self, batch, _):
        image, label, valid, place = batch
        losses = self.loss(self.network(image), label, valid)
        losses = self.table.weight[place.cpu()].to(losses) * losses  # +
        return losses.mean()

    def on_train_batch_end(self, *_):  # +
        if self.global_step % 20 == 0:  # +
            weight_step(self.table, self.network, self.loss, trusted, doubtful)  # +

    def on_save_checkpoint(self, checkpoint):  # +
        checkpoint["weights"] = self.table.state()  # +

    def on_load_checkpoint(self, checkpoint):  # +
        self.table.restore(checkpoint["weights"])  # +

    def configure_optimizers(self):
        return torch.optim.Adam(self.network.parameters(), lr=1e-2)


def trained(epochs, resumed=None):
    module = Segmenter()
    loader = DataLoader(TensorDataset(image, label, valid, samples.index), 12, shuffle=True)
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, loader, ckpt_path=resumed)
    return trainer, module


with tempfile.TemporaryDirectory() as folder:
    trainer, module = trained(epochs=20)
    trainer.save_checkpoint(f"{folder}/half.ckpt")
    _, module = trained(epochs=40, resumed=f"{folder}/half.ckpt")

weight, right = module.table.weight, ~strong & ~wrong
print(f"mean weight of right labels {weight[right].mean():.2f}")
print(f"mean weight of wrong labels {weight[wrong].mean():.2f}")
assert weight[wrong].max() < weight[right].min()
assert module.table.rounds == 10  # five before the checkpoint, five after it
