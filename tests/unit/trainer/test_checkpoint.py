"""Checkpoints: everything comes back, nothing is half written, nothing is unpickled."""

import pickle

import pytest
import torch
from torch import nn

from service.errors import CheckpointInvalidError
from trainer.checkpoint import (
    BEST,
    Position,
    Trained,
    checkpoints,
    load_weights,
    restore,
    save_best,
    save_checkpoint,
)


def _trained(seed=0, width=4, kind=torch.optim.Adam):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(3, width), nn.Linear(width, 1))
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return Trained(network, kind(network.parameters(), lr=0.1), scaler)


def _steps(trained, count):
    losses = []
    for _ in range(count):
        x = torch.randn(5, 3)
        loss = trained.network(x).square().mean()
        trained.optimiser.zero_grad()
        loss.backward()
        trained.optimiser.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize(
    "kind", [torch.optim.Adam, lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9)]
)
def test_a_restored_training_goes_on_to_the_bit(tmp_path, kind):
    trained = _trained(kind=kind)
    _steps(trained, 3)
    path = save_checkpoint(tmp_path, trained, Position(step=3, seconds=1.5, best=0.25))
    unbroken = _steps(trained, 4)
    other = _trained(seed=9, kind=kind)
    position = restore(path, other)
    assert _steps(other, 4) == unbroken
    assert position == Position(step=3, seconds=1.5, best=0.25)


def test_the_newest_two_are_kept_and_the_best(tmp_path):
    trained = _trained()
    for step in (1, 20, 300):
        save_checkpoint(tmp_path, trained, Position(step=step))
        save_best(tmp_path, trained.network, Position(step=step))
    assert [p.name for p in checkpoints(tmp_path)] == [
        "step-000000020.safetensors",
        "step-000000300.safetensors",
    ]
    assert (tmp_path / BEST).is_file()


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    trained = _trained()
    old = save_checkpoint(tmp_path, trained, Position(step=1)).read_bytes()

    def full(_number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trainer.checkpoint.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path, trained, Position(step=1))
    assert checkpoints(tmp_path)[0].read_bytes() == old
    assert restore(checkpoints(tmp_path)[0], _trained(seed=1)).step == 1


def test_weights_alone_can_be_loaded(tmp_path):
    trained, other = _trained(), _trained(seed=3)
    load_weights(save_best(tmp_path, trained.network, Position()), other.network)
    for ours, theirs in zip(trained.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_another_networks_checkpoint_is_refused(tmp_path):
    path = save_checkpoint(tmp_path, _trained(), Position())
    with pytest.raises(CheckpointInvalidError, match="another network"):
        restore(path, _trained(width=5))


def test_best_weights_are_no_state_to_go_on_from(tmp_path):
    path = save_best(tmp_path, _trained().network, Position())
    with pytest.raises(CheckpointInvalidError, match="no state"):
        restore(path, _trained())


@pytest.mark.parametrize("damage", ["cut", "noise", "pickle", "missing"])
def test_a_damaged_file_is_refused(tmp_path, damage):
    path = save_checkpoint(tmp_path, _trained(), Position())
    data = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "noise":
        path.write_bytes(b"\xff" * 64)
    elif damage == "pickle":
        path.write_bytes(pickle.dumps({"network": print}))
    with pytest.raises(CheckpointInvalidError):
        restore(path, _trained())


def test_a_score_is_better_only_when_it_is_smaller():
    position = Position(step=5)
    assert position.note(1.0)
    assert not position.note(1.0)
    assert not position.note(float("nan"))
    assert position.stale == 2
    position.step = 9
    assert position.note(0.5)
    assert (position.best, position.best_step, position.stale) == (0.5, 9, 0)


def test_another_configuration_is_refused():
    with pytest.raises(CheckpointInvalidError, match="other data"):
        Position(configuration="a").require_configuration("b")
