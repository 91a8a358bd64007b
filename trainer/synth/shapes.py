"""Label maps of random shapes."""

import torch
from torch import Tensor

from trainer.augment.draws import smooth_field, uniform
from trainer.config.synth import ShapesConfig
from trainer.kernels.synthesis import largest


def random_shapes(
    config: ShapesConfig,
    size: tuple[int, ...],
    spacing_mm: tuple[float, ...],
    draw: torch.Generator,
) -> Tensor:
    """Labels 1 ... n, int32 (*s): at each voxel the smooth random field that is the largest.

    Source: Hoffmann et al., SynthMorph, IEEE TMI 2022, section III-C.
    """
    node_mm = uniform(draw, *config.node_mm)
    fields = smooth_field(draw, config.labels, size, [node_mm / mm for mm in spacing_mm])
    labels = torch.empty(size, dtype=torch.int32)
    rows = fields.reshape(config.labels, size[0], -1).contiguous()
    largest(rows.numpy(), labels.reshape(size[0], -1).numpy())
    return labels
