"""The learning rate, against torch's own schedulers."""

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from trainer.config.optimisation import AdamConfig, OptimisationConfig, ScheduleConfig, SgdConfig
from trainer.schedule import make_optimiser, schedule_share, set_learning_rate

EPOCHS, STEPS = 10, 6


def _shares(**options):
    config = ScheduleConfig(**options)
    return [schedule_share(config, step, STEPS, EPOCHS) for step in range(EPOCHS * STEPS)]


def _torchs(make):
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, rates = make(optimiser), []
    for _ in range(EPOCHS * STEPS):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return rates


def test_cosine_is_torchs():
    theirs = _torchs(lambda o: lr_scheduler.CosineAnnealingLR(o, EPOCHS * STEPS, eta_min=0.1))
    assert _shares(kind="cosine", final=0.1) == pytest.approx(theirs)


def test_polynomial_is_torchs():
    theirs = _torchs(lambda o: lr_scheduler.PolynomialLR(o, EPOCHS * STEPS, power=0.9))
    assert _shares(kind="polynomial") == pytest.approx(theirs)


def test_step_is_torchs():
    theirs = _torchs(lambda o: lr_scheduler.StepLR(o, 3 * STEPS, gamma=0.5))
    assert _shares(kind="step", every_epochs=3, factor=0.5) == pytest.approx(theirs)


def test_warmup_rises_from_the_first_step_to_the_whole():
    shares = _shares(kind="constant", warmup_steps=4)
    assert shares[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_the_rate_depends_on_the_step_alone():
    config = OptimisationConfig(optimiser=AdamConfig(learning_rate=0.5), epochs=EPOCHS)
    optimiser = make_optimiser(nn.Linear(2, 2), config)
    late = set_learning_rate(optimiser, config, 40, STEPS)
    set_learning_rate(optimiser, config, 3, STEPS)
    assert set_learning_rate(optimiser, config, 40, STEPS) == late
    assert optimiser.param_groups[0]["lr"] == late


@pytest.mark.parametrize(
    ("chosen", "kind"),
    [
        (AdamConfig(), torch.optim.Adam),
        (AdamConfig(weight_decay=0.1), torch.optim.AdamW),
        (SgdConfig(), torch.optim.SGD),
    ],
)
def test_the_chosen_optimiser_is_made(chosen, kind):
    network = nn.Linear(2, 2)
    network.bias.requires_grad_(False)
    made = make_optimiser(network, OptimisationConfig(optimiser=chosen))
    assert type(made) is kind
    assert [p.shape for p in made.param_groups[0]["params"]] == [network.weight.shape]
