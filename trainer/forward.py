"""One registration as training sees it: a network's output turned into what the losses compare.

The same rules as the service's engine: outputs at a stride are grown by position, velocities are
integrated at the output's resolution, labels are warped linearly as one-hot maps.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from trainer.config import NetworkConfig
from trainer.config.networks import ConditionalConfig, GlobalNetConfig
from trainer.data.batch import Batch
from trainer.spatial import affine_displacement, integrate, upsample, warp


@dataclass(frozen=True)
class Prediction:
    """What one pass gives; a conditional network gives only the labels.

    Shapes: displacement and velocity (b, d, *s) and (b, d, *s / stride), voxels of the model grid;
    warped (b, c, *s); warped_labels (b, l, *s) in [0, 1].
    """

    displacement: Tensor | None = None
    velocity: Tensor | None = None
    warped: Tensor | None = None
    warped_labels: Tensor | None = None


@dataclass(frozen=True)
class Forward:
    """A network with the rules by which its output is read."""

    network: nn.Module
    config: NetworkConfig
    precision: torch.dtype = torch.float32

    def __call__(self, batch: Batch) -> Prediction:
        """Register the batch's moving images to its fixed ones."""
        if isinstance(self.config, ConditionalConfig):
            return Prediction(warped_labels=self._fixed_labels(batch))
        displacement, velocity = self._displacement(batch)
        labels = batch.moving_labels
        return Prediction(
            displacement,
            velocity,
            warp(batch.moving, displacement),
            None if labels is None else warp(labels, displacement),
        )

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While inside nothing is learned, and running averages stand still."""
        self.network.eval()
        with torch.no_grad():
            yield
        self.network.train()

    def _displacement(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        size = batch.fixed.shape[2:]
        with self._autocast(batch.fixed):
            output = self.network(batch.fixed, batch.moving)
        output = output.float()
        if isinstance(self.config, GlobalNetConfig | ConditionalConfig):
            return affine_displacement(output, size), None
        rule = self.config.output
        if rule.kind == "displacement":
            return upsample(output, rule.stride, size), None
        moved = integrate(output, rule.steps, rule.stride)
        return upsample(moved, rule.stride, size), output

    def _fixed_labels(self, batch: Batch) -> Tensor:
        """One pass for each moving label; all labels of all pairs go through as one batch."""
        moving = batch.moving_labels
        if moving is None:
            raise ValueError("a conditional network was given a batch without labels")
        count = moving.shape[1]
        repeated = partial(torch.repeat_interleave, repeats=count, dim=0)
        with self._autocast(batch.fixed):
            output = self.network(
                repeated(batch.fixed), repeated(batch.moving), moving.flatten(0, 1).unsqueeze(1)
            )
        probability: Tensor = output.float()
        return probability.reshape(moving.shape[0], count, *output.shape[2:])

    def _autocast(self, image: Tensor) -> torch.autocast:
        is_mixed = self.precision != torch.float32
        return torch.autocast(image.device.type, self.precision, enabled=is_mixed)
