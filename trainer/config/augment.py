"""Random changes of training pairs, drawn anew for every pair and epoch."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AffineAugment(_Section):
    """Corners of the field of view are moved inwards at random, as DeepReg and label-reg do."""

    probability: float = Field(1.0, ge=0, le=1, description="Of each image.")
    scale: float = Field(
        0.1, gt=0, lt=1, description="Largest move of a corner, as a share of half the extent."
    )
    outwards: bool = Field(False, description="Corners move outwards too.")
    shared: bool = Field(False, description="Fixed and moving get the same one.")


class FieldAugment(_Section):
    """A random smooth diffeomorphism: a random velocity on coarse nodes, integrated."""

    probability: float = Field(1.0, ge=0, le=1, description="Of each image.")
    strength_mm: float = Field(
        3.0, gt=0, le=100, description="Largest standard deviation of the velocity's nodes."
    )
    node_mm: float = Field(30.0, gt=0, le=500, description="Distance between nodes.")
    shared: bool = Field(False, description="Fixed and moving get the same one.")


class FlipAugment(_Section):
    """Both images are mirrored together."""

    probability: float = Field(0.5, ge=0, le=1, description="Of each axis.")
    axes: tuple[Literal[0, 1, 2], ...] = Field((0,), description="Axes i, j, k as 0, 1, 2.")


class IntensityAugment(_Section):
    """Changes of grey values in [0, 1], independent for fixed and moving. Zeros switch off."""

    probability: float = Field(0.5, ge=0, le=1, description="Of each change of each image.")
    gamma: float = Field(0.3, ge=0, le=2, description="Spread of log gamma (normal).")
    contrast: float = Field(
        0.2, ge=0, le=1, description="Largest relative change of contrast about the mean."
    )
    bias: float = Field(0.3, ge=0, le=2, description="Spread of the log of the bias field.")
    bias_node_mm: float = Field(60.0, gt=0, description="Distance between the field's nodes.")
    noise: float = Field(0.05, ge=0, le=1, description="Largest spread of Gaussian noise.")
    blur_voxels: float = Field(1.0, ge=0, le=10, description="Largest sigma of a Gaussian blur.")


class LowResolutionAugment(_Section):
    """Thick slices: means of slabs along one axis, interpolated back."""

    probability: float = Field(0.25, ge=0, le=1, description="Of each image.")
    factor: int = Field(4, ge=2, le=16, description="Thickest slab, in voxels.")


class AugmentConfig(_Section):
    """Which random changes training pairs get; none by default."""

    affine: AffineAugment | None = Field(None, description="Random affine.")
    field: FieldAugment | None = Field(None, description="Random smooth field.")
    flips: FlipAugment | None = Field(None, description="Mirroring.")
    intensity: IntensityAugment | None = Field(None, description="Grey values.")
    low_resolution: LowResolutionAugment | None = Field(None, description="Thick slices.")
