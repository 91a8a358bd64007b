"""The training loop: build, resume, then step by step until an end is reached.

One step: batches, forward, losses, backward, optimiser. Everything random follows from the seed,
the epoch and the pair, so a resumed training goes on as if it had never stopped.
"""

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from service.errors import TrainingDivergedError, TrainingStoppedError
from trainer.checkpoint import (
    BEST,
    Position,
    Trained,
    checkpoints,
    restore,
    save_best,
    save_checkpoint,
)
from trainer.config import TrainConfig
from trainer.data.batch import Batch
from trainer.data.dataset import PairDataset
from trainer.data.feeding import batches
from trainer.forward import Forward
from trainer.monitor import Monitor, forget_after
from trainer.objective import Objective
from trainer.ranks import Ranks
from trainer.schedule import set_learning_rate
from trainer.sketch import draw_pair
from trainer.validation import Validation

CHECKPOINTS, PICTURES = "checkpoints", "pictures"


@dataclass(frozen=True)
class Run:
    """What one training works with; `trainer.build` makes it."""

    config: TrainConfig
    out: Path
    ranks: Ranks
    device: torch.device
    forward: Forward
    objective: Objective
    trained: Trained
    pairs: PairDataset
    validation: Validation | None
    monitor: Monitor

    @property
    def batches_per_pass(self) -> int:
        """Batches of one process in one pass over the pairs."""
        return math.ceil(len(self.pairs) / (self.config.train.batch_size * self.ranks.count))

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps after which the pairs are validated."""
        whole_pass = math.ceil(self.batches_per_pass / self.config.train.accumulate)
        return self.config.train.steps_per_epoch or whole_pass

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole training."""
        return self.config.train.epochs * self.steps_per_epoch


def train(run: Run) -> Position:
    """Train until the epochs, the minutes or the patience are spent.

    Raises:
        TrainingDivergedError: If a loss is not finite; the last good checkpoint is kept.
        TrainingStoppedError: If SIGTERM or SIGINT asked to stop; a checkpoint was written.
        OSError: If the disk is full; the last whole checkpoint is kept.
    """
    position = resume(run)
    if _is_last(run, position):
        return position
    saved_at = time.monotonic()
    with _stop_signals() as stopping:
        for group in _groups(run, position.step):
            started = time.perf_counter()
            losses = optimise(run, group, position)
            position.step += 1
            position.seconds += time.perf_counter() - started
            _tell_step(run, position, losses, group)
            if position.step % run.steps_per_epoch == 0:
                _end_epoch(run, position)
            is_last = _is_last(run, position)
            is_stopped = run.ranks.any(stopping.is_set())
            if is_last or is_stopped or _is_due(run, saved_at):
                _save(run, position)
                saved_at = time.monotonic()
            if is_stopped and not is_last:
                raise TrainingStoppedError()
            if is_last:
                break
    return position


def resume(run: Run) -> Position:
    """Go on from the newest checkpoint, or begin with the same weights in every process."""
    kept = checkpoints(run.out / CHECKPOINTS)
    configuration = run.config.digest()
    position = Position(configuration=configuration)
    if kept:
        position = restore(kept[-1], run.trained)
        position.require_configuration(configuration)
    else:
        run.ranks.copy_from_first(list(run.trained.network.state_dict().values()))
    if run.ranks.is_first:
        forget_after(run.out, position.step)
    return position


def optimise(run: Run, group: list[Batch], position: Position) -> dict[str, float]:
    """One step of the optimiser on the mean loss of some batches; gives the losses."""
    settings = run.config.train
    network, optimiser, scaler = run.trained.network, run.trained.optimiser, run.trained.scaler
    set_learning_rate(optimiser, settings, position.step, run.steps_per_epoch)
    optimiser.zero_grad(set_to_none=True)
    sums: dict[str, float] = {}
    for batch in group:
        total, terms = run.objective(batch)
        _require_finite(run, total, batch, position)
        scaler.scale(total / len(group)).backward()  # type: ignore[no-untyped-call]
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach()) / len(group)
    run.ranks.average_gradients(network)
    if settings.clip_norm is not None:
        scaler.unscale_(optimiser)
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
    scaler.step(optimiser)
    scaler.update()
    means = run.ranks.sums(list(sums.values()))
    return {name: value / run.ranks.count for name, value in zip(sums, means, strict=True)}


def _groups(run: Run, step: int) -> Iterator[list[Batch]]:
    """The batches of every step from `step` on, pass after pass, without an end."""
    settings, group = run.config.train, []
    number = step * settings.accumulate
    while True:
        done_passes, start = divmod(number, run.batches_per_pass)
        for batch in batches(
            run.pairs,
            done_passes,
            settings.batch_size,
            run.config.augment,
            run.config.seed,
            start=start,
            rank=run.ranks.rank,
            world=run.ranks.count,
            workers=settings.loaders,
        ):
            group.append(batch.to(run.device))
            number += 1
            if len(group) == settings.accumulate:
                yield group
                group = []


def _end_epoch(run: Run, position: Position) -> None:
    """Validate, keep the best weights, draw a picture."""
    epoch = position.step // run.steps_per_epoch
    settings = run.config.train
    if run.validation is None:
        if run.ranks.is_first:
            save_best(run.out / CHECKPOINTS, run.trained.network, position)
        return
    if epoch % settings.validate_every == 0 or position.step == run.steps:
        figures = run.validation(run.ranks)
        min_delta = settings.early_stop.min_delta if settings.early_stop else 0.0
        is_best = position.note(run.validation.score(figures), min_delta)
        run.monitor.tell(
            "validation", step=position.step, epoch=epoch, figures=figures, best=is_best
        )
        if is_best and run.ranks.is_first:
            save_best(run.out / CHECKPOINTS, run.trained.network, position)
    if settings.picture_every and epoch % settings.picture_every == 0 and run.ranks.is_first:
        path = run.out / PICTURES / f"epoch-{epoch:05d}.png"
        draw_pair(path, run.validation.first, run.forward)
        run.monitor.tell("picture", step=position.step, path=str(path.relative_to(run.out)))


def _is_last(run: Run, position: Position) -> bool:
    """Whether an end is reached, in the same step for every process."""
    settings = run.config.train
    patience = settings.early_stop.patience if settings.early_stop else None
    is_over = settings.max_minutes is not None and position.seconds >= 60 * settings.max_minutes
    return (
        position.step >= run.steps
        or (patience is not None and position.stale >= patience)
        or run.ranks.any(is_over)
    )


def _is_due(run: Run, saved_at: float) -> bool:
    return time.monotonic() - saved_at >= run.config.train.checkpoint_every_s


def _save(run: Run, position: Position) -> None:
    if run.ranks.is_first:
        folder = run.out / CHECKPOINTS
        if not (folder / BEST).is_file():  # nothing has been validated yet
            save_best(folder, run.trained.network, position)
        path = save_checkpoint(folder, run.trained, position)
        run.monitor.tell("checkpoint", step=position.step, path=str(path.relative_to(run.out)))


def _tell_step(run: Run, position: Position, losses: dict[str, float], group: list[Batch]) -> None:
    left = run.steps - position.step
    run.monitor.tell(
        "step",
        step=position.step,
        steps=run.steps,
        epoch=(position.step - 1) // run.steps_per_epoch + 1,
        losses=losses,
        learning_rate=run.trained.optimiser.param_groups[0]["lr"],
        seconds_left=round(_seconds_left(run, position, left), 1),
        pairs=[name for batch in group for name in batch.names],
    )


def _seconds_left(run: Run, position: Position, steps: int) -> float:
    by_steps = position.seconds / position.step * steps
    minutes = run.config.train.max_minutes
    return by_steps if minutes is None else min(by_steps, 60 * minutes - position.seconds)


def _require_finite(run: Run, total: Tensor, batch: Batch, position: Position) -> None:
    if run.ranks.any(not bool(torch.isfinite(total.detach()).all())):
        run.monitor.tell("diverged", step=position.step + 1, pairs=list(batch.names))
        raise TrainingDivergedError(
            f"The loss is not a finite number in step {position.step + 1}. Take a smaller learning "
            "rate, or look at the pair that `errors` names; the last checkpoint is kept.",
            errors=tuple({"field": name, "detail": "Its loss."} for name in batch.names),
        )


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """While inside, SIGTERM and SIGINT ask for a checkpoint and an end."""
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return
    wanted = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: stopping.set()) for number in wanted}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
