"""From a body's features at one or several levels to a field."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

from trainer.config.networks import OutputConfig
from trainer.networks.blocks import FieldLayer, resized
from trainer.networks.bspline import expand


class Body(nn.Module):
    """What turns the joined images into features.

    Attributes:
        taps: The level and channels of each tensor that `forward` gives, in the same order.
        finest: The level to which fields are resized.
        depth: Halvings.
    """

    taps: tuple[tuple[int, int], ...]
    finest: int
    depth: int

    def forward(self, images: Tensor) -> list[Tensor]:
        """(b, c, *s) to the features of each tap, (b, channels, *s / 2**level)."""
        raise NotImplementedError


class Extraction(nn.Module):
    """A convolution to the field at each tap; their mean or sum at the finest level."""

    def __init__(self, body: Body, ndim: int, outputs: int, *, combine: str, zero: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            FieldLayer(ndim, channels, outputs, zero=zero) for _, channels in body.taps
        )
        self.factors = [2 ** (level - body.finest) for level, _ in body.taps]
        self.share = 1 / len(self.factors) if combine == "mean" else 1.0

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        total: Tensor | None = None
        for layer, tap, factor in zip(self.layers, features, self.factors, strict=True):
            part = resized(layer(tap), factor)
            total = part if total is None else total + part
        if total is None:
            raise ValueError("A body gives at least one tensor of features.")
        return total if self.share == 1.0 else total * self.share


class DenseNetwork(nn.Module):
    """Fixed and moving image to a displacement or velocity in voxels.

    Attributes:
        multiple: Image sizes must be multiples of this.
        stride: Voxels of an output cell along each axis.
    """

    def __init__(self, body: Body, output: OutputConfig, ndim: int, combine: str = "sum") -> None:
        super().__init__()
        self.body = body
        self.extraction = Extraction(body, ndim, ndim, combine=combine, zero=True)
        self.spacing = output.control_spacing
        self.stride: int = output.stride
        self.multiple = output.multiple(body.depth)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Images (b, c, *s) to (b, d, *s / stride)."""
        features = self.body(torch.cat([fixed, moving], dim=1))
        if self.spacing is None:
            field: Tensor = self.extraction(features)
            return field
        points = _mean_of_cells(self.extraction(features), self.spacing // 2**self.body.finest)
        return expand(points, self.spacing, self.stride)


def _mean_of_cells(values: Tensor, factor: int) -> Tensor:
    if factor == 1:
        return values
    pool = F.avg_pool3d if values.ndim == 5 else F.avg_pool2d
    return pool(values, factor)
