"""Options of the networks that match: they compare features of both images over displacements."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class MatchingOutputConfig(BaseModel):
    """What a matching network gives."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["displacement", "velocity"] = Field(
        "displacement",
        description="displacement: voxels to move; velocity: integrated by scaling and squaring, "
        "so that the field does not fold and has an inverse.",
    )
    stride: Literal[1, 2, 4] = Field(
        2, description="Voxels along each axis that share one vector of the output."
    )
    steps: int = Field(7, ge=1, le=10, description="Squarings when a velocity is integrated.")


class _Smoothing(BaseModel):
    """How costs of neighbours are made to agree; the same for both discrete networks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    iterations: int = Field(
        2, ge=0, le=6, description="Rounds of min-convolution and mean-field averaging."
    )
    trainable_weights: bool = Field(
        True, description="Learn the weights of data, neighbours and the soft minimum."
    )
    output: MatchingOutputConfig = Field(
        default_factory=MatchingOutputConfig, description="What the network gives."
    )


class CorrelationConfig(_Smoothing):
    """Features on a coarse grid, their cost for every displacement in a window, and its minimum.

    The discrete tutorial of Learn2Reg 2019, learned end to end.
    """

    kind: Literal["correlation"] = "correlation"
    channels: tuple[int, ...] = Field(
        (16, 32),
        min_length=1,
        max_length=4,
        description="Channels of the strided convolutions; each halves the grid.",
    )
    features: int = Field(24, ge=1, le=128, description="Channels that are compared.")
    radius: int = Field(
        3,
        ge=1,
        le=7,
        description="Largest displacement along each axis, in cells of the coarse grid.",
    )
    similarity: Literal["ssd", "dot"] = Field(
        "ssd", description="Cost of two features: squared difference, or negative dot product."
    )


class PddConfig(_Smoothing):
    """Probabilistic dense displacements on a control grid (PDD-Net, Heinrich 2019).

    Strides are in voxels: features lie at every `feature_stride`, control points at every
    `control_stride`, displacements at every `displacement_step` up to `radius` of them.
    """

    kind: Literal["pdd"] = "pdd"
    channels: tuple[int, ...] = Field(
        (8, 16), min_length=1, max_length=3, description="Channels of the convolutions at a stride."
    )
    dilations: tuple[int, ...] = Field(
        (1, 2, 4),
        max_length=6,
        description="Dilations of the convolutions at the features' stride, for wide context.",
    )
    features: int = Field(16, ge=1, le=128, description="Channels that are compared.")
    control_stride: int = Field(8, ge=2, le=32, description="Voxels from control point to next.")
    displacement_step: int = Field(4, ge=2, le=16, description="Voxels between displacements.")
    radius: int = Field(
        3, ge=1, le=7, description="Largest displacement along each axis, in displacement steps."
    )
    warps: Literal[1, 2] = Field(
        1, description="2: search again, in half the range, on features warped by the first field."
    )

    @property
    def feature_stride(self) -> int:
        """Voxels along each axis that share one feature vector."""
        return int(2 ** len(self.channels))

    @model_validator(mode="after")
    def _strides_fit(self) -> Self:
        for name in ("control_stride", "displacement_step"):
            if getattr(self, name) % self.feature_stride:
                raise ValueError(
                    f"{name} must be a multiple of {self.feature_stride}: "
                    f"{len(self.channels)} strided convolutions give features at that stride"
                )
        return self


class PyramidConfig(BaseModel):
    """One encoder for both images; from coarse to fine, features are warped, compared, corrected.

    No convolution runs at full resolution. Levels have strides 2, 4, 8, ... voxels.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["pyramid"] = "pyramid"
    channels: tuple[int, ...] = Field(
        (16, 24, 32, 32),
        min_length=2,
        max_length=6,
        description="Channels of the encoder at strides 2, 4, 8, ...; from stride 4 on they are "
        "matched.",
    )
    finest_channels: int = Field(
        4, ge=1, le=64, description="Channels that are matched at stride 2, the dearest level."
    )
    radius: int = Field(
        1, ge=1, le=3, description="Radius of the local correlation, in cells of the level."
    )
    estimator: tuple[int, ...] = Field(
        (32, 32),
        min_length=1,
        max_length=4,
        description="Channels of the convolutions that turn features into a residual field; half "
        "of them at stride 2.",
    )
    residual: Literal["displacement", "velocity"] = Field(
        "displacement",
        description="Whether each level's residual is a displacement or a velocity that is "
        "integrated before it is composed; with a velocity output residuals are simply added.",
    )
    output: MatchingOutputConfig = Field(
        default_factory=MatchingOutputConfig,
        description="What the network gives; the stride 4 leaves out the finest level.",
    )


class MetricOutputConfig(BaseModel):
    """What a search with a learned metric gives: there is no choice."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["displacement"] = Field("displacement", description="Voxels to move.")
    stride: Literal[2] = Field(2, description="Voxels along each axis that share one vector.")
    steps: int = Field(7, ge=1, le=10, description="Of no use: nothing is integrated.")


Features = Annotated[int, Field(gt=12, le=96)]


class MetricConfig(BaseModel):
    """The discrete model's search, on self-similarities weighed by learned matrices; 3-D.

    Before training it gives what the discrete model gives.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["metric"] = "metric"
    features: tuple[Features, Features] = Field(
        (24, 32), description="Features of the fine and of the coarse search; more than 12."
    )
    plain: float = Field(
        1.0,
        ge=0,
        le=100,
        description="Factor of the plain squared distance of MIND-SSC that a fit adds to its own.",
    )
    firmness: float = Field(
        2.0,
        gt=0,
        le=1000,
        description="Factor of the fitted metric: the search, which smooths, wants a firmer choice "
        "than the likelihood of each cell.",
    )
    coarse_radius: int = Field(
        3, ge=1, le=6, description="Largest displacement of the coarse search, cells of 4 voxels."
    )
    fine_radius: int = Field(
        1, ge=1, le=3, description="Largest displacement of the fine search, cells of 2 voxels."
    )
    output: MetricOutputConfig = Field(
        default_factory=MetricOutputConfig, description="What the network gives."
    )

    @property
    def multiple(self) -> int:
        """Image sizes must be multiples of this."""
        return 8


Radius = Annotated[int, Field(ge=1, le=4)]
Width = Annotated[int, Field(ge=1, le=128)]


class MatchingPyramidConfig(BaseModel):
    """A search on self-similarities, and a pyramid that learns what of it to trust; 3-D.

    At cells of 4, then of 2 voxels: costs of all displacements in a window, a soft choice among
    them, and convolutions that say how far to follow it and how much each cell is to be trusted.
    Before training it is a search; `trainer.metric_fit` finds the matrices that it begins with.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["matching-pyramid"] = "matching-pyramid"
    features: tuple[Features, Features] = Field(
        (24, 32), description="Features of the fine and of the coarse cells; more than 12."
    )
    plain: float = Field(
        1.0, ge=0, le=100, description="As of `metric`: the share of plain MIND-SSC in a fit."
    )
    firmness: float = Field(
        2.0, gt=0, le=1000, description="As of `metric`: the factor of the fitted metric."
    )
    search_radius: int = Field(
        3, ge=1, le=6, description="Largest displacement of the search, cells of 4 voxels."
    )
    radii: tuple[Radius, Radius] = Field(
        (1, 1), description="Largest displacement of the levels at cells of 2 and 4 voxels, cells."
    )
    widths: tuple[Width, Width] = Field(
        (16, 32), description="Channels of the two convolutions at cells of 2 and of 4 voxels."
    )
    output: MetricOutputConfig = Field(
        default_factory=MetricOutputConfig, description="What the network gives."
    )

    @property
    def multiple(self) -> int:
        """Image sizes must be multiples of this."""
        return 8


MatchingNetworkConfig = Annotated[
    CorrelationConfig | PddConfig | PyramidConfig | MetricConfig | MatchingPyramidConfig,
    Field(discriminator="kind"),
]
