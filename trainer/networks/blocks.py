"""The parts that networks are made of, in 2-D and 3-D."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

Norm = Literal["batch", "instance", "layer", "none"]

# Small enough not to flatten a weak texture, large enough for bfloat16.
EPSILON = 1e-5


def is_too_thin(values: Tensor, kernel: int) -> bool:
    """Whether a convolution of these values in bfloat16 would be wrong.

    On the CPU torch 2.13 (oneDNN) gives a wrong weight gradient of a bfloat16 convolution in 3-D,
    often not a number, and writes beyond its memory, where the first spatial axis is shorter than
    the kernel.
    """
    if not torch.is_autocast_enabled("cpu"):
        return False
    return values.device.type == "cpu" and values.ndim == 5 and values.shape[2] < kernel


class Convolution3d(nn.Conv3d):
    """torch's, but thin images are never convolved in bfloat16; see `is_too_thin`."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as torch calls it
        """(b, c, i, j, k) to (b, o, i, j, k)."""
        if not is_too_thin(input, self.kernel_size[0]):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float())


CONVOLUTIONS: dict[int, type[nn.Conv2d | nn.Conv3d]] = {2: nn.Conv2d, 3: Convolution3d}


def convolution(
    ndim: int, inputs: int, outputs: int, kernel: int = 3, *, bias: bool = True
) -> nn.Module:
    """A convolution that keeps the size; beyond the border lie zeros."""
    return CONVOLUTIONS[ndim](inputs, outputs, kernel, padding=kernel // 2, bias=bias)


class InstanceNorm(nn.Module):
    """Each channel of each image less its mean, over its deviation; then a learned line.

    torch's own module refuses images of one voxel while it trains; here they become 0.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, values: Tensor) -> Tensor:
        return torch.instance_norm(
            values, self.weight, self.bias, None, None, True, 0.0, EPSILON, False
        )


def normalisation(norm: Norm, ndim: int, channels: int) -> nn.Module:
    """The module of a configured norm."""
    if norm == "batch":
        return nn.BatchNorm3d(channels) if ndim == 3 else nn.BatchNorm2d(channels)
    if norm == "instance":
        return InstanceNorm(channels)
    return nn.GroupNorm(1, channels) if norm == "layer" else nn.Identity()


class ConvBlock(nn.Module):
    """Convolution, norm, ReLU; the convolution has a bias where no norm would undo it."""

    def __init__(self, ndim: int, inputs: int, outputs: int, norm: Norm, kernel: int = 3) -> None:
        super().__init__()
        self.conv = convolution(ndim, inputs, outputs, kernel, bias=norm == "none")
        self.norm = normalisation(norm, ndim, outputs)

    def forward(self, values: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(values)), inplace=True)


class ResidualBlock(nn.Module):
    """Convolution, norm, ReLU, convolution, norm, plus the input and what is late; ReLU."""

    def __init__(self, ndim: int, channels: int, norm: Norm, kernel: int = 3) -> None:
        super().__init__()
        self.first = ConvBlock(ndim, channels, channels, norm, kernel)
        self.conv = convolution(ndim, channels, channels, kernel, bias=norm == "none")
        self.norm = normalisation(norm, ndim, channels)

    def forward(self, values: Tensor, late: Tensor | None = None) -> Tensor:
        added = values if late is None else values + late
        return F.relu(self.norm(self.conv(self.first(values))) + added, inplace=True)


class Level(nn.Sequential):
    """What one level of a U-Net does: a convolution block and a residual block."""

    def __init__(
        self, ndim: int, inputs: int, outputs: int, norm: Norm, kernels: tuple[int, int] = (3, 3)
    ) -> None:
        super().__init__(
            ConvBlock(ndim, inputs, outputs, norm, kernels[0]),
            ResidualBlock(ndim, outputs, norm, kernels[1]),
        )

    def first_and_whole(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """What the first block gives, and what the level gives."""
        first = self[0](values)
        return first, self[1](first)


class HalvingConv(nn.Module):
    """A convolution over cells of two voxels along each axis, norm, ReLU."""

    def __init__(self, ndim: int, channels: int, norm: Norm) -> None:
        super().__init__()
        kind = CONVOLUTIONS[ndim]
        self.conv = kind(channels, channels, 2, stride=2, bias=norm == "none")
        self.norm = normalisation(norm, ndim, channels)

    def forward(self, values: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(values)), inplace=True)


def max_pooling(ndim: int) -> nn.Module:
    """Halve by the maximum of each cell."""
    return nn.MaxPool3d(2) if ndim == 3 else nn.MaxPool2d(2)


class Doubling(nn.Module):
    """Transposed convolution to twice the size, norm, ReLU; then perhaps the resized input.

    The resized input is linear by position, its channels summed in halves.

    The convolution spreads cell c about voxel 2 c of the finer grid, not about 2 c + 1/2, its
    middle: half a voxel too low, which the convolutions behind it have to learn away. MONAI's is
    the same, so that its weights may be taken; that of DeepReg and label-reg, by TensorFlow's way
    of padding, is half a voxel too high.

    Source: Hu et al., Weakly-supervised convolutional neural networks for multimodal image
    registration, Medical Image Analysis 2018 (additive upsampling).
    """

    def __init__(
        self, ndim: int, inputs: int, outputs: int, norm: Norm, *, additive: bool = False
    ) -> None:
        super().__init__()
        kind = nn.ConvTranspose3d if ndim == 3 else nn.ConvTranspose2d
        self.conv = kind(
            inputs, outputs, 3, stride=2, padding=1, output_padding=1, bias=norm == "none"
        )
        self.norm = normalisation(norm, ndim, outputs)
        self.additive = additive

    def forward(self, values: Tensor) -> Tensor:
        grown = F.relu(self.norm(self.conv(values)), inplace=True)
        if not self.additive:
            return grown
        # Halves first: half the resizing, and the same, for both are linear.
        first, second = values.chunk(2, dim=1)
        return grown + resized(first + second, 2)


def resized(values: Tensor, factor: int) -> Tensor:
    """Linear by position to `factor` times the size; the edge goes on."""
    if factor == 1:
        return values
    mode = "trilinear" if values.ndim == 5 else "bilinear"
    return F.interpolate(values, scale_factor=factor, mode=mode, align_corners=False)


class FieldLayer(nn.Module):
    """The last convolution: never in half precision, and zero before training.

    A displacement of 12.3 voxels is off by up to 0.03 in bfloat16.
    """

    def __init__(self, ndim: int, inputs: int, outputs: int, *, zero: bool = True) -> None:
        super().__init__()
        self.conv = convolution(ndim, inputs, outputs)
        if zero:
            nn.init.zeros_(self.conv.weight)  # type: ignore[arg-type]
        else:
            nn.init.xavier_uniform_(self.conv.weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        return in_full_precision(self.conv, features)


def in_full_precision(layer: nn.Module, values: Tensor) -> Tensor:
    """The layer outside autocast, whose context an exported graph cannot hold."""
    device = values.device.type
    if not torch.is_autocast_enabled(device):
        found: Tensor = layer(values)
    else:
        with torch.autocast(device, enabled=False):
            found = layer(values.float())
    return found
