"""Label losses at several scales: blurred labels overlap long before sharp ones do."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trainer.losses.label import LabelLoss
from trainer.losses.precision import full_precision
from trainer.losses.windows import BlurKernel, blurred

THRESHOLD = 0.5


def at_scales(
    loss: LabelLoss, scales: Sequence[Sequence[float]], kernel: BlurKernel = "gaussian"
) -> LabelLoss:
    """The mean of a loss over labels blurred by each scale; both labels are.

    Args:
        loss: Of sharp labels.
        scales: For each, sigma in voxels along each axis; 0 leaves the labels sharp.
        kernel: `gaussian` cut at 3 sigma, or `cauchy` cut at 5; zeros beyond the border.

    Source: Hu et al., Weakly-supervised convolutional neural networks for multimodal image
    registration, Medical Image Analysis 49, 2018, section 2.2.
    """

    @full_precision
    def mean_over_scales(fixed: Tensor, warped: Tensor, present: Tensor | None = None) -> Tensor:
        found = [
            loss(blurred(fixed, sigmas, kernel), blurred(warped, sigmas, kernel), present)
            for sigmas in scales
        ]
        return torch.stack(found).mean()

    return mean_over_scales


def thresholded(loss: LabelLoss) -> LabelLoss:
    """A loss of labels cut at THRESHOLD; it has no derivative."""

    def of_binary(fixed: Tensor, warped: Tensor, present: Tensor | None = None) -> Tensor:
        cut = [(x >= THRESHOLD).to(torch.float32) for x in (fixed, warped)]
        return loss(cut[0], cut[1], present)

    return of_binary
