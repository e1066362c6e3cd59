"""The run folder: all that a training leaves on disk, safe against crashes and bad disks."""

from labelmend.runs.atomic import write_atomically
from labelmend.runs.checkpoints import Checkpoint
from labelmend.runs.description import LeftOut
from labelmend.runs.folder import Run

__all__ = ["Checkpoint", "LeftOut", "Run", "write_atomically"]
