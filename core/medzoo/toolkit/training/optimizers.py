"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from medzoo.toolkit.classifier_settings import RecipeSettings


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """An optimizer, the factor of the peak learning rate at each step, and the number of steps."""

    optimizer: torch.optim.Optimizer
    rate_factor: Callable[[int], float]
    total: int


def make_optimizer(network: nn.Module, settings: RecipeSettings, *, rate: float) -> torch.optim.Optimizer:
    """Return the optimizer of `network`'s trainable weights, at the peak learning rate `rate`."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    decay = settings.weight_decay
    betas = (settings.beta1, settings.beta2)
    if settings.optimizer == "sgd":  # not fused: on a CPU that copies gradients not laid out as their weights
        return torch.optim.SGD(trained, lr=rate, momentum=settings.beta1, weight_decay=decay)
    if settings.optimizer == "adam":
        return torch.optim.Adam(trained, lr=rate, betas=betas, weight_decay=decay, fused=True)
    return torch.optim.AdamW(trained, lr=rate, betas=betas, weight_decay=decay, fused=True)


def rate_curve(settings: RecipeSettings, *, total: int, steps_per_epoch: int) -> Callable[[int], float]:
    """Return the factor of the peak learning rate by optimizer step, counted from 1.

    "warm-restarts" is SGDR (Loshchilov & Hutter 2017, equation 5).
    """

    def after_warmup(step: int) -> float:
        epoch = (step - 1) / steps_per_epoch
        if settings.lr_scheduler == "constant":
            return 1.0
        if settings.lr_scheduler == "cosine":
            return _half_cosine((step - 1) / total)
        if settings.lr_scheduler == "step":
            return settings.lr_gamma ** int(epoch // settings.lr_step_epochs)
        length, since = settings.lr_restart_epochs, epoch
        while since >= length:
            since -= length
            length *= settings.lr_restart_mult
        return _half_cosine(since / length)

    return lambda step: min(1.0, step / settings.warmup_steps if settings.warmup_steps else 1.0) * after_warmup(step)


def _half_cosine(share: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * share))
