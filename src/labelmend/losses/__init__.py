"""Losses that return one value per sample: against labels, or against probabilities."""

from labelmend.losses.labels import (
    LOSSES,
    REGRESSION_LOSSES,
    LossByClass,
    binary_cross_entropy,
    cross_entropy,
    dice,
    dice_ce,
    focal,
    l1,
    l2,
    make_loss,
    present,
)
from labelmend.losses.probabilities import SOFT_LOSSES, SoftLoss, make_soft_loss

__all__ = [
    "LOSSES",
    "REGRESSION_LOSSES",
    "SOFT_LOSSES",
    "LossByClass",
    "SoftLoss",
    "binary_cross_entropy",
    "cross_entropy",
    "dice",
    "dice_ce",
    "focal",
    "l1",
    "l2",
    "make_loss",
    "make_soft_loss",
    "present",
]
