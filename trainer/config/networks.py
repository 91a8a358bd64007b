"""Networks that give a field, a matrix or a label from two images; sizes count in voxels.

Each halving of the resolution is a level: level 0 is the image's own, level 1 has half of its
voxels along each axis. Every network works in 2-D and 3-D and on any image size.
"""

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Width = Annotated[int, Field(ge=1, le=1024)]
Level = Annotated[int, Field(ge=0, le=7)]
Norm = Literal["batch", "instance", "layer", "none"]

NORM = (
    "What follows each convolution: `instance` (each channel of each image by its own mean and "
    "deviation), `layer` (all channels of an image together), `batch`, or `none`. `batch` learns "
    "from one image's statistics at batch size 1 and is served with running averages that no "
    "image has; take it for batches of 4 or more."
)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OutputConfig(_Part):
    """What a dense network gives."""

    kind: Literal["displacement", "velocity"] = Field(
        "velocity",
        description="The displacement itself, or a velocity that is integrated to one, which "
        "cannot fold where it is smooth.",
    )
    stride: Literal[1, 2, 4] = Field(
        2,
        description="Voxels of one output cell along each axis: full, half or quarter resolution. "
        "The decoder stops there, so 2 takes a third of the time of 1.",
    )
    steps: int = Field(
        7, ge=1, le=12, description="Squarings of a velocity; 7 suffice for 64 voxels of motion."
    )
    control_spacing: int | None = Field(
        None,
        ge=2,
        le=64,
        description="Voxels from one cubic B-spline control point to the next; without it every "
        "cell has its own vector.",
    )

    def finest_level(self, depth: int) -> int:
        """The level at which a decoder of `depth` levels stops."""
        if self.control_spacing is None:
            return self.stride.bit_length() - 1
        halvings = (self.control_spacing & -self.control_spacing).bit_length() - 1
        return min(depth, halvings)

    def multiple(self, depth: int) -> int:
        """Image sizes must be multiples of this."""
        return math.lcm(2**depth, self.control_spacing or 1)


class VoxelMorphBackbone(_Part):
    """VoxelMorph's U-Net: one convolution a level, skips joined, nearest upsampling."""

    kind: Literal["voxelmorph"] = "voxelmorph"
    encoder: tuple[Width, ...] = Field(
        (16, 32, 32, 32),
        min_length=1,
        max_length=6,
        description="Channels of each level on the way down; each is halved afterwards.",
    )
    decoder: tuple[Width, ...] = Field(
        (32, 32, 32, 32, 32, 16, 16),
        min_length=2,
        max_length=16,
        description="Channels on the way up: one for each of the encoder's, from the deepest "
        "level on, and then at least one at the output's resolution.",
    )
    slope: float = Field(0.2, ge=0, le=1, description="Of the leaky ReLU, for negative values.")

    @property
    def depth(self) -> int:
        """Halvings."""
        return len(self.encoder)

    @model_validator(mode="after")
    def _decoder_reaches_the_top(self) -> "VoxelMorphBackbone":
        if len(self.decoder) <= len(self.encoder):
            raise ValueError("the decoder needs more channel counts than the encoder")
        return self


class UNetBackbone(_Part):
    """What DeepReg's U-Net and LocalNet share: convolution and residual block at each level."""

    channels_initial: int = Field(
        16, ge=1, le=256, description="Channels of level 0; each level has twice those above it."
    )
    depth: int = Field(3, ge=1, le=6, description="Halvings.")
    encode_channels: tuple[Width, ...] | None = Field(
        None, description="Channels of levels 0, 1, ... depth, in place of the doubling."
    )
    decode_channels: tuple[Width, ...] | None = Field(
        None,
        description="Channels of levels 0, 1, ... depth - 1 on the way up; by default the "
        "encoder's, which they must be unless skips are joined.",
    )
    first_kernel: Literal[3, 5, 7] = Field(
        3, description="Voxels along each axis of the first convolution's kernel."
    )
    first_kernel_residual: bool = Field(
        False,
        description="Give that kernel to the residual block of level 0 too, as DeepReg does; "
        "label-reg does not, and a kernel of 7 there takes most of the time.",
    )
    pooling: bool = Field(True, description="Halve by the maximum; else by a convolution.")
    concat_skip: bool = Field(False, description="Join skips as channels; else add them.")
    additive_upsampling: bool = Field(
        False,
        description="Add to each transposed convolution the linearly resized input, its channels "
        "summed in halves.",
    )
    residual_bottom: bool = Field(True, description="A residual block at the deepest level too.")
    skips: Literal["deepreg", "label-reg"] = Field(
        "deepreg",
        description="`deepreg`: a level's result is added to (or joined with) the upsampled "
        "features, and what follows sees both. `label-reg`: a level's first convolution is added, "
        "after two convolutions that see the upsampled features alone.",
    )
    norm: Norm = Field("instance", description=NORM)
    extract_levels: tuple[Level, ...] | None = Field(
        None,
        min_length=1,
        description="Levels that give a field, each resized to the output; by default the finest "
        "one the output needs.",
    )
    combine: Literal["mean", "sum"] = Field(
        "mean", description="How the levels' fields become one: DeepReg's mean, label-reg's sum."
    )

    def widths(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Channels of each level, down and up."""
        doubling = tuple(self.channels_initial * 2**level for level in range(self.depth + 1))
        down = self.encode_channels or doubling
        return down, self.decode_channels or down[:-1]

    def extracted(self, finest: int) -> tuple[int, ...]:
        """The levels that give a field, where the output stops at `finest`."""
        return self.extract_levels or (finest,)

    @model_validator(mode="after")
    def _channels_fit(self) -> "UNetBackbone":
        down, up = self.widths()
        if len(down) != self.depth + 1 or len(up) != self.depth:
            raise ValueError(
                f"a depth of {self.depth} needs {self.depth + 1} channel counts on the way down "
                f"and {self.depth} on the way up"
            )
        if self.concat_skip and self.skips == "label-reg":
            raise ValueError("label-reg adds its skips: leave concat_skip out")
        if not self.concat_skip and down[:-1] != up:
            raise ValueError("skips can only be added where both ways have the same channels")
        if self.additive_upsampling and any(
            below != 2 * here for here, below in zip(up, (*up[1:], down[-1]), strict=True)
        ):
            raise ValueError("additive upsampling needs twice the channels at each level below")
        return self

    @model_validator(mode="after")
    def _levels_exist(self) -> "UNetBackbone":
        levels = self.extract_levels or ()
        if len(set(levels)) < len(levels):
            raise ValueError("a level is extracted twice")
        if any(level > self.depth for level in levels):
            raise ValueError(f"the deepest level that can be extracted is {self.depth}")
        return self


class DeepRegUNetBackbone(UNetBackbone):
    """DeepReg's U-Net."""

    kind: Literal["deepreg-unet"] = "deepreg-unet"


class LocalNetBackbone(UNetBackbone):
    """LocalNet, as DeepReg has it: a first kernel of 7, additive upsampling, fields of all levels.

    label-reg's has 32 channels, a depth of 4, skips of its own and the sum of the levels' fields.
    """

    kind: Literal["localnet"] = "localnet"
    depth: int = Field(4, ge=1, le=6, description="Halvings.")
    first_kernel: Literal[3, 5, 7] = Field(
        7, description="Voxels along each axis of the first convolution's kernel."
    )
    additive_upsampling: bool = Field(
        True,
        description="Add to each transposed convolution the linearly resized input, its channels "
        "summed in halves.",
    )
    residual_bottom: bool = Field(False, description="A residual block at the deepest level too.")
    extract_levels: tuple[Level, ...] | None = Field(
        None,
        min_length=1,
        description="Levels that give a field, each resized to the output; by default all from "
        "the output's on.",
    )

    def extracted(self, finest: int) -> tuple[int, ...]:
        """The levels that give a field, where the output stops at `finest`."""
        return self.extract_levels or tuple(range(finest, self.depth + 1))


def _require_reach(output: OutputConfig, depth: int, levels: tuple[int, ...] = ()) -> None:
    finest = output.finest_level(depth)
    if finest > depth:
        raise ValueError(f"an output of stride {output.stride} needs at least {finest} levels")
    if any(level < finest for level in levels):
        raise ValueError(
            f"the decoder stops at level {finest}, so no finer level can be extracted; "
            "choose a smaller output stride or control spacing, or other levels"
        )


class VoxelMorphConfig(VoxelMorphBackbone):
    """VoxelMorph's network; its defaults with half-resolution velocities."""

    output: OutputConfig = Field(OutputConfig(), description="What the network gives.")

    @model_validator(mode="after")
    def _output_is_reached(self) -> "VoxelMorphConfig":
        _require_reach(self.output, self.depth)
        return self

    @property
    def multiple(self) -> int:
        """Image sizes must be multiples of this."""
        return self.output.multiple(self.depth)


class DeepRegUNetConfig(DeepRegUNetBackbone):
    """DeepReg's `unet`."""

    output: OutputConfig = Field(OutputConfig(), description="What the network gives.")

    @model_validator(mode="after")
    def _output_is_reached(self) -> "DeepRegUNetConfig":
        _require_reach(self.output, self.depth, self.extract_levels or ())
        return self

    @property
    def multiple(self) -> int:
        """Image sizes must be multiples of this."""
        return self.output.multiple(self.depth)


class LocalNetConfig(LocalNetBackbone):
    """DeepReg's and label-reg's `local`."""

    output: OutputConfig = Field(OutputConfig(), description="What the network gives.")

    @model_validator(mode="after")
    def _output_is_reached(self) -> "LocalNetConfig":
        _require_reach(self.output, self.depth, self.extract_levels or ())
        return self

    @property
    def multiple(self) -> int:
        """Image sizes must be multiples of this."""
        return self.output.multiple(self.depth)


class GlobalNetConfig(_Part):
    """DeepReg's and label-reg's `global`: one affine or rigid matrix for the whole image."""

    kind: Literal["globalnet"] = "globalnet"
    encoder: Literal["plain", "resnet", "vgg"] = Field(
        "plain",
        description="`plain`: DeepReg's, a convolution and a residual block a level; `resnet`: two "
        "residual blocks, halved by stride; `vgg`: two convolutions, halved by the maximum.",
    )
    channels_initial: int = Field(
        8, ge=1, le=256, description="Channels of level 0; each level has twice those above it."
    )
    depth: int = Field(4, ge=1, le=6, description="Halvings.")
    norm: Norm = Field("instance", description=NORM)
    freedom: Literal["affine", "rigid"] = Field(
        "affine", description="12 or 6 degrees of freedom in 3-D, 6 or 3 in 2-D."
    )

    @property
    def multiple(self) -> int:
        """Image sizes must be multiples of this."""
        return 1 << self.depth


class ConditionalConfig(_Part):
    """The label of the fixed image from both images and the moving label, without a field.

    Source: Hu et al., Conditional Segmentation in Lieu of Image Registration, MICCAI 2019.
    """

    kind: Literal["conditional"] = "conditional"
    backbone: Annotated[
        VoxelMorphBackbone | DeepRegUNetBackbone | LocalNetBackbone, Field(discriminator="kind")
    ] = Field(LocalNetBackbone(), description="The network between images and label.")

    @property
    def multiple(self) -> int:
        """Image sizes must be multiples of this."""
        return 1 << self.backbone.depth


DenseNetworkConfig = Annotated[
    VoxelMorphConfig | DeepRegUNetConfig | LocalNetConfig | GlobalNetConfig | ConditionalConfig,
    Field(discriminator="kind"),
]
