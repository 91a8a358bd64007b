"""The optimiser, and its learning rate as a function of the step alone."""

import math

import torch
from torch import nn

from trainer.config.optimisation import AdamConfig, OptimisationConfig, ScheduleConfig

POLYNOMIAL_POWER = 0.9


def make_optimiser(network: nn.Module, config: OptimisationConfig) -> torch.optim.Optimizer:
    """Adam (AdamW with decay) or SGD with Nesterov's momentum."""
    chosen = config.optimiser
    weights = [p for p in network.parameters() if p.requires_grad]
    if isinstance(chosen, AdamConfig):
        kind = torch.optim.AdamW if chosen.weight_decay else torch.optim.Adam
        return kind(
            weights,
            lr=chosen.learning_rate,
            betas=(chosen.beta1, chosen.beta2),
            weight_decay=chosen.weight_decay,
        )
    return torch.optim.SGD(
        weights,
        lr=chosen.learning_rate,
        momentum=chosen.momentum,
        nesterov=chosen.momentum > 0,
        weight_decay=chosen.weight_decay,
    )


def set_learning_rate(
    optimiser: torch.optim.Optimizer, config: OptimisationConfig, step: int, steps_per_epoch: int
) -> float:
    """Give the optimiser its learning rate for a step, counted from 0; returns it."""
    share = schedule_share(config.schedule, step, steps_per_epoch, config.epochs)
    rate = config.optimiser.learning_rate * share
    for group in optimiser.param_groups:
        group["lr"] = rate
    return rate


def schedule_share(config: ScheduleConfig, step: int, steps_per_epoch: int, epochs: int) -> float:
    """The share of the highest learning rate that a step gets, in [0, 1]."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    total = max(epochs * steps_per_epoch - config.warmup_steps, 1)
    done = min((step - config.warmup_steps) / total, 1.0)
    if config.kind == "cosine":
        return config.final + (1 - config.final) * (1 + math.cos(math.pi * done)) / 2
    if config.kind == "polynomial":
        return float(config.final + (1 - config.final) * (1 - done) ** POLYNOMIAL_POWER)
    if config.kind == "step":
        return float(config.factor ** (step // steps_per_epoch // config.every_epochs))
    return 1.0
