"""How good the network is on the validation pairs, on the model grid and in a moment.

The figures that a model's card states come from `trainer.evaluate`, which runs the serving
pipeline; these only tell one epoch from another.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.config import TrainConfig
from trainer.data.batch import Batch
from trainer.data.dataset import PairDataset
from trainer.data.feeding import batches
from trainer.forward import Prediction
from trainer.losses.points import length, sample
from trainer.objective import Objective
from trainer.ranks import Ranks

# Small is good for these; the others are turned round.
_SMALL_IS_GOOD = ("loss", "tre_mm")


@dataclass(frozen=True)
class Validation:
    """The validation pairs and the objective that they are measured with."""

    config: TrainConfig
    pairs: PairDataset
    objective: Objective
    device: torch.device

    @property
    def first(self) -> Batch:
        """The pair that pictures show."""
        return next(self._batches(Ranks()))

    def __call__(self, ranks: Ranks) -> dict[str, float]:
        """Mean losses, Dice of labels cut at one half, TRE in mm; each process takes its share."""
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        with self.objective.forward.watched():
            for batch in self._batches(ranks):
                for name, values in self._figures(batch):
                    sums[name][0] += float(values.sum())
                    sums[name][1] += values.numel()
        names = self._names()
        flat = ranks.sums([value for name in names for value in sums[name]])
        totals = dict(zip(names, zip(flat[::2], flat[1::2], strict=True), strict=True))
        return {name: total / count for name, (total, count) in totals.items() if count}

    def score(self, figures: Mapping[str, float]) -> float:
        """The monitored figure, turned so that small is good."""
        wanted = self.config.train.monitor
        order = ("tre_mm", "dice", "loss") if wanted == "auto" else (wanted,)
        name = next((n for n in order if n in figures), "loss")
        value = figures[name]
        return value if name in _SMALL_IS_GOOD else -value

    def _names(self) -> list[str]:
        return ["loss", *(f"{name}_loss" for name in self.objective.names), "dice", "tre_mm"]

    def _figures(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        total, terms, prediction = self.objective.measured(batch)
        yield "loss", total.reshape(1)
        for name, value in terms.items():
            yield f"{name}_loss", value.reshape(1)
        yield "dice", label_dice(batch, prediction)
        yield "tre_mm", point_errors_mm(batch, prediction)

    def _batches(self, ranks: Ranks) -> Iterator[Batch]:
        for batch in batches(
            self.pairs,
            0,
            1,
            None,
            self.config.seed,
            rank=ranks.rank,
            world=ranks.count,
            workers=self.config.train.loaders,
            is_even=False,
        ):
            yield batch.to(self.device)


def label_dice(batch: Batch, prediction: Prediction) -> Tensor:
    """2 |A and B| / (|A| + |B|) of each label that both images have, cut at one half."""
    if batch.fixed_labels is None or prediction.warped_labels is None:
        return torch.empty(0)
    fixed, warped = (batch.fixed_labels > 0.5), (prediction.warped_labels > 0.5)
    axes = tuple(range(2, fixed.ndim))
    both, sizes = (fixed & warped).sum(axes), fixed.sum(axes) + warped.sum(axes)
    dice = 2 * both / sizes.clamp(min=1)
    return dice[batch.label_present] if batch.label_present is not None else dice.flatten()


def point_errors_mm(batch: Batch, prediction: Prediction) -> Tensor:
    """The distance of each fixed point, moved, from its counterpart."""
    if batch.fixed_points is None or batch.moving_points is None or prediction.displacement is None:
        return torch.empty(0)
    places = torch.nan_to_num(batch.fixed_points)  # NaN pads
    moved = places + sample(prediction.displacement, places)
    spacing = torch.tensor(batch.spacing_mm, device=moved.device)
    found = length((moved - batch.moving_points) * spacing, "l2")
    return found[torch.isfinite(batch.fixed_points + batch.moving_points).all(-1)]
