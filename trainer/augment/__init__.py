"""Random changes of pairs: where things lie, and how they look. Labels and points follow."""

from dataclasses import replace

import torch

from trainer.augment.flips import flipped
from trainer.augment.geometry import moved
from trainer.augment.intensity import recoloured, thickened
from trainer.config.augment import AugmentConfig
from trainer.data.batch import Batch

__all__ = ["augmented"]


def augmented(batch: Batch, config: AugmentConfig, draw: torch.Generator) -> Batch:
    """The batch after random flips, affines and smooth fields, low resolution and grey values.

    What is drawn follows from the generator alone; an empty configuration changes nothing.

    Args:
        batch: Any device, 2-D or 3-D.
        config: What may change.
        draw: On the CPU.
    """
    if config.flips is not None:
        batch = flipped(batch, config.flips, draw)
    if config.affine is not None or config.field is not None:
        batch = moved(batch, config, draw)
    if config.low_resolution is not None:
        batch = replace(
            batch,
            fixed=thickened(batch.fixed, config.low_resolution, draw),
            moving=thickened(batch.moving, config.low_resolution, draw),
        )
    if config.intensity is not None:
        spacing = batch.spacing_mm
        batch = replace(
            batch,
            fixed=recoloured(batch.fixed, config.intensity, spacing, draw),
            moving=recoloured(batch.moving, config.intensity, spacing, draw),
        )
    return batch
