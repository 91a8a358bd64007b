"""Training pairs drawn from label maps or from random shapes, with no acquired image."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _rising(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] > span[1]:
        raise ValueError("the first number must not be above the second")
    return span


Span = Annotated[tuple[float, float], AfterValidator(_rising)]
Apart = Annotated[float, Field(gt=0, le=1000)]
NodesApart = Annotated[tuple[Apart, Apart], AfterValidator(_rising)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ShapesConfig(_Section):
    """Random shapes: the largest of smooth random fields, one for each label."""

    labels: int = Field(16, ge=2, le=64, description="Shapes in a map.")
    node_mm: NodesApart = Field(
        (24.0, 64.0), description="Distance of the fields' nodes; shapes are about as large."
    )


class SynthAffineConfig(_Section):
    """A random affine of each image, about the centre. Zeros switch off."""

    rotation_degrees: float = Field(5.0, ge=0, le=180, description="Largest angle of each axis.")
    scale: float = Field(0.05, ge=0, lt=1, description="Largest log of each axis' scale.")
    shear: float = Field(0.03, ge=0, lt=1, description="Largest shear of two axes.")
    translation_mm: float = Field(3.0, ge=0, le=500, description="Largest shift of each axis.")


class SynthFieldConfig(_Section):
    """A random diffeomorphism of each image: a smooth random velocity, integrated."""

    strength_mm: float = Field(
        6.0, ge=0, le=100, description="Largest standard deviation of the velocity at its nodes."
    )
    node_mm: NodesApart = Field((24.0, 64.0), description="Distance between nodes.")


class SynthImageConfig(_Section):
    """Grey values of each image, independent of the other's. Zeros switch off."""

    mean: Span = Field((0.1, 0.9), description="Mean of each label.")
    spread: Span = Field((0.02, 0.1), description="Standard deviation within each label.")
    same_contrast: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Probability that the moving image has the fixed one's means and spreads.",
    )
    black_background: float = Field(
        0.5, ge=0, le=1, description="Probability that label 0 is black, as after skull-stripping."
    )
    blur_voxels: float = Field(1.0, ge=0, le=10, description="Largest sigma of a Gaussian blur.")
    bias: float = Field(0.3, ge=0, le=2, description="Largest spread of the bias field's log.")
    bias_node_mm: float = Field(60.0, gt=0, le=1000, description="Distance of its nodes.")
    gamma: float = Field(0.25, ge=0, le=2, description="Spread of log gamma (normal).")
    noise: float = Field(0.05, ge=0, le=1, description="Largest spread of noise added at the end.")
    crop_probability: float = Field(
        0.25, ge=0, le=1, description="Of a smaller field of view, black outside; labels stay."
    )
    crop: float = Field(0.3, ge=0, lt=1, description="Largest share of each axis that is lost.")
    slices_probability: float = Field(0.25, ge=0, le=1, description="Of thick slices.")
    slice_voxels: int = Field(4, ge=2, le=32, description="Thickness of the thickest slices.")


class SynthConfig(_Section):
    """SynthMorph's recipe: label maps, deformed twice, each rendered with contrasts of its own.

    Source: Hoffmann et al., SynthMorph: learning contrast-invariant registration without acquired
    images, IEEE TMI 2022.
    """

    shapes: ShapesConfig = Field(ShapesConfig(), description="Where no label maps are given.")
    same_map: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Probability that fixed and moving come from one label map, so that the true "
        "displacement is known; otherwise, from two of those given.",
    )
    background_shapes: int = Field(
        0,
        ge=0,
        le=64,
        description="Random shapes (as `shapes` draws them) that what has no label is divided "
        "into, since real labels lie among structures that have none.",
    )
    body: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Probability that random shapes end at the surface of a body, outside of which "
        "lies label 0.",
    )
    foreign: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Probability that parts of the moving map have other labels than in the fixed "
        "one, as anatomy and illness have.",
    )
    affine: SynthAffineConfig = Field(SynthAffineConfig(), description="Random affine.")
    field: SynthFieldConfig = Field(SynthFieldConfig(), description="Random smooth field.")
    image: SynthImageConfig = Field(SynthImageConfig(), description="Grey values.")
