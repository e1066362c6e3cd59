"""Data sets that misbehave in a loading process; a module of its own so that one can import it."""

import os
import signal
import time

import torch

from labelmend.data.dataset import Item
from labelmend.errors import DataError


class Numbers:
    """Items that only tell what was drawn, and one index at which something happens."""

    def __init__(self, happening=None, at=-1):
        self.happening, self.at = happening, at

    def __len__(self):
        return 20

    def name(self, index):
        return f"labels/{index}.npy"

    def __getitem__(self, draw):
        if draw.index == self.at:
            getattr(self, self.happening)()
        place = torch.full((1, 2), float(draw.key))
        return Item(place, place[0].long(), place[0] >= 0, draw.index)

    def raise_ours(self):
        raise DataError("labels/5.npy: is damaged")

    def raise_theirs(self):
        raise KeyError("two\nlines")

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def leave(self):
        os._exit(3)

    def sleep(self):
        time.sleep(600)


class Large(Numbers):
    """Items too large for a pipe, so that a process is often in the middle of sending."""

    def __getitem__(self, draw):
        return Item(torch.zeros(1, 10**6), torch.zeros(1), torch.zeros(1) > 0, draw.index)


class Stillborn(Numbers):
    """Cannot be made in a loading process."""

    def __setstate__(self, state):
        raise RuntimeError("cannot be made here")
