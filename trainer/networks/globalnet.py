"""One matrix for the whole image: affine or rigid."""

import torch
from torch import Tensor, nn

from trainer.config.networks import GlobalNetConfig
from trainer.networks.axes import ramp
from trainer.networks.blocks import (
    ConvBlock,
    HalvingConv,
    Level,
    Norm,
    ResidualBlock,
    in_full_precision,
    max_pooling,
)


class GlobalNet(nn.Module):
    """Encoder, moments of its features, a matrix about the centre of the grid.

    label-reg and DeepReg flatten the features, which fixes the size of the image. Here each
    feature map gives its mean and its first moments, mean(x * f(x)) along each axis: a motion
    seen alike everywhere is a translation, one that grows with the position a rotation or a
    stretch, and a mean alone could not tell them apart.

    Translations are learned in half the grid's longest edge, so that all outputs are of one size.

    Source: Hu et al., Label-driven weakly-supervised learning for multimodal deformable image
    registration, ISBI 2018 (GlobalNet).

    Attributes:
        multiple: Image sizes must be multiples of this.
        stride: 1; the matrix has no grid.
    """

    def __init__(
        self, config: GlobalNetConfig, ndim: int = 3, channels: tuple[int, int] = (1, 1)
    ) -> None:
        super().__init__()
        self.ndim, self.rigid = ndim, config.freedom == "rigid"
        self.encoder = _encoder(config, sum(channels), ndim)
        features = config.channels_initial * 2**config.depth * (ndim + 1)
        turns = ndim * (ndim - 1) // 2
        self.matrix = nn.Linear(features, ndim + (turns if self.rigid else ndim * ndim))
        nn.init.zeros_(self.matrix.weight)
        nn.init.zeros_(self.matrix.bias)
        self.stride = 1
        self.multiple = config.multiple

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Images (b, c, *s) to (b, d, d + 1): M and, last, t: y = M (x - c) + t + c, in voxels."""
        images = torch.cat([fixed, moving], dim=1)
        found = in_full_precision(self.matrix, moments(self.encoder(images).float()))
        shift, rest = found[:, : self.ndim], found[:, self.ndim :]
        scale = max((n - 1) / 2 for n in images.shape[2:])
        turned = rotation(rest) if self.rigid else self._near_identity(rest)
        return torch.cat([turned, (scale * shift)[:, :, None]], dim=2)

    def _near_identity(self, change: Tensor) -> Tensor:
        eye = torch.eye(self.ndim, dtype=change.dtype, device=change.device)
        return eye + change.reshape(-1, self.ndim, self.ndim)


def moments(features: Tensor) -> Tensor:
    """Mean and first moments about the centre, positions in [-1, 1]: (b, c, *s) to (b, c * (d+1)).

    mean(f), then mean(x_a * f) for each axis a.
    """
    ndim = features.ndim - 2
    axes = tuple(range(2, ndim + 2))
    parts = [features.mean(dim=axes)]
    for axis in axes:
        count = features.shape[axis]
        position = (2 * ramp(count, features) + 1) / count - 1
        line = features.mean(dim=tuple(other for other in axes if other != axis))
        parts.append((line * position).mean(dim=2))
    return torch.cat(parts, dim=1)


def rotation(turns: Tensor) -> Tensor:
    """Rotation matrices from (b, 3) or, in 2-D, (b, 1): turns / 2 is the tangent of half the angle.

    They belong to the unit quaternions along (1, turns / 2), which are smooth everywhere: 0 is no
    rotation, and small values are angles in radians about the axes i, j and k.
    """
    half = turns / 2
    norm = torch.sqrt(1 + (half**2).sum(dim=1, keepdim=True))
    w = 1 / norm[:, 0]
    if turns.shape[1] == 1:
        z = half[:, 0] * w
        cos, sin = w * w - z * z, 2 * w * z
        return torch.stack([cos, -sin, sin, cos], dim=1).reshape(-1, 2, 2)
    x, y, z = (half / norm).unbind(dim=1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=1).reshape(-1, 3, 3)


def _encoder(config: GlobalNetConfig, inputs: int, ndim: int) -> nn.Sequential:
    widths = [config.channels_initial * 2**level for level in range(config.depth + 1)]
    make = {"plain": _plain, "resnet": _resnet, "vgg": _vgg}[config.encoder]
    steps = nn.Sequential()
    for level, width in enumerate(widths):
        before = widths[level - 1] if level else inputs
        steps.append(make(ndim, before, width, config.norm))
        if level < config.depth and config.encoder != "resnet":
            steps.append(max_pooling(ndim))
        elif level < config.depth:
            steps.append(HalvingConv(ndim, width, config.norm))
    return steps


def _plain(ndim: int, before: int, width: int, norm: Norm) -> nn.Module:
    return Level(ndim, before, width, norm)


def _resnet(ndim: int, before: int, width: int, norm: Norm) -> nn.Module:
    """Source: He et al., Deep residual learning for image recognition, CVPR 2016."""
    return nn.Sequential(Level(ndim, before, width, norm), ResidualBlock(ndim, width, norm))


def _vgg(ndim: int, before: int, width: int, norm: Norm) -> nn.Module:
    """Source: Simonyan, Zisserman, Very deep convolutional networks, ICLR 2015."""
    return nn.Sequential(ConvBlock(ndim, before, width, norm), ConvBlock(ndim, width, width, norm))
