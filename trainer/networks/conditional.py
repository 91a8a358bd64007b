"""The fixed image's label from both images and the moving label, without a field."""

import torch
from torch import Tensor, nn

from trainer.config.networks import ConditionalConfig, VoxelMorphBackbone
from trainer.networks.deepreg import UNetBody
from trainer.networks.dense import Body, Extraction
from trainer.networks.voxelmorph import VoxelMorphBody


class Conditional(nn.Module):
    """Two images and a label in, a probability out.

    Source: Hu et al., Conditional Segmentation in Lieu of Image Registration, MICCAI 2019.

    Attributes:
        multiple: Image sizes must be multiples of this.
        stride: 1; the label is told at every voxel.
    """

    def __init__(
        self, config: ConditionalConfig, ndim: int = 3, channels: tuple[int, int] = (1, 1)
    ) -> None:
        super().__init__()
        backbone = config.backbone
        inputs, combine = sum(channels) + 1, "sum"
        self.body: Body
        if isinstance(backbone, VoxelMorphBackbone):
            self.body = VoxelMorphBody(backbone, inputs, ndim, finest=0)
        else:
            self.body, combine = UNetBody(backbone, inputs, ndim, finest=0), backbone.combine
        self.extraction = Extraction(self.body, ndim, 1, combine=combine, zero=False)
        self.stride = 1
        self.multiple = config.multiple

    def forward(self, fixed: Tensor, moving: Tensor, moving_label: Tensor) -> Tensor:
        """Images (b, c, *s) and the moving label (b, 1, *s) in [0, 1] to (b, 1, *s) in [0, 1]."""
        features = self.body(torch.cat([fixed, moving, moving_label], dim=1))
        return torch.sigmoid(self.extraction(features))
