"""What a training makes small: any weighted sum of image, label, point and field losses."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class _Loss(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(
        1.0, ge=0, le=1e6, allow_inf_nan=False, description="Factor in the sum; 0 leaves it out."
    )


def _must_be_odd(count: int) -> int:
    if count % 2 == 0:
        raise ValueError("a window has a middle: take an odd number of voxels")
    return count


class SsdConfig(_Loss):
    """Mean squared difference, for images of one contrast."""

    kind: Literal["ssd"] = Field("ssd", description="Mean squared difference.")


class TukeyConfig(_Loss):
    """Tukey's biweight of the difference: large differences count no more than `threshold`."""

    kind: Literal["tukey"] = Field("tukey", description="Biweight of the difference.")
    threshold: float = Field(
        0.5, gt=0, description="Difference from which on a voxel is an outlier, normalised units."
    )


class NccConfig(_Loss):
    """Minus the correlation of the whole images."""

    kind: Literal["ncc"] = Field("ncc", description="Global correlation.")
    squared: bool = Field(
        True, description="Square it, so that an inverted contrast counts as well."
    )


class LnccConfig(_Loss):
    """Minus the mean correlation in a window around each voxel."""

    kind: Literal["lncc"] = Field("lncc", description="Local correlation.")
    window: Annotated[int, AfterValidator(_must_be_odd)] = Field(
        9, ge=3, le=63, description="Voxels along each axis of the window, odd."
    )
    shape: Literal["rectangular", "triangular", "gaussian"] = Field(
        "rectangular", description="Weights in the window; the Gaussian's sigma is window / 3."
    )
    squared: bool = Field(
        True, description="Square it, so that an inverted contrast counts as well."
    )
    border: Literal["inside", "zeros"] = Field(
        "inside",
        description="A window that reaches over the border counts only the voxels `inside`, or "
        "takes those outside as `zeros` (DeepReg, VoxelMorph, MONAI), which correlate.",
    )
    smooth: float = Field(
        1e-5, ge=0, description="Added to the denominator, in sums over the window."
    )
    smooth_numerator: float = Field(
        0.0, ge=0, description="Added to the numerator; DeepReg has 1e-5, flat windows then are 1."
    )
    variance_floor: float = Field(
        0.0, ge=0, description="Added to each variance; damps windows with nothing but noise."
    )


class MutualInformationConfig(_Loss):
    """Minus the mutual information of the whole images, by Parzen windows."""

    kind: Literal["mi"] = Field("mi", description="Global mutual information.")
    kernel: Literal["gaussian", "b-spline"] = Field(
        "gaussian",
        description="`gaussian` on intensities in [0, 1] (DeepReg); `b-spline`: cubic for the "
        "moving, a box for the fixed image, over the range of each (Mattes).",
    )
    bins: int = Field(23, ge=5, le=256, description="Bins of the histogram along each image.")
    sigma_ratio: float = Field(0.5, gt=0, le=10, description="Sigma of the Gaussian, in bins.")


class LocalMutualInformationConfig(_Loss):
    """Minus the mean mutual information of patches: the contrast may vary over the image."""

    kind: Literal["local-mi"] = Field("local-mi", description="Mutual information by patches.")
    patch: int = Field(16, ge=4, le=128, description="Voxels along each axis of a patch.")
    kernel: Literal["gaussian", "b-spline"] = Field("gaussian", description="As for `mi`.")
    bins: int = Field(23, ge=5, le=256, description="Bins of the histogram along each image.")
    sigma_ratio: float = Field(0.5, gt=0, le=10, description="Sigma of the Gaussian, in bins.")


class MindConfig(_Loss):
    """Mean squared difference of MIND-SSC descriptors, for different contrasts."""

    kind: Literal["mind"] = Field("mind", description="Self-similarity descriptors.")
    radius: int = Field(1, ge=0, le=8, description="Voxels from a patch's middle to its end.")
    dilation: int = Field(2, ge=1, le=8, description="Voxels from a voxel to its neighbours.")


class _LabelLoss(_Loss):
    background_weight: float = Field(
        0.0, ge=0, le=1, description="Share of the background; the label has the rest."
    )
    binary: bool = Field(
        False,
        description="Cut both at 0.5 first; the result has no gradient, so for watching only.",
    )
    scales: tuple[Annotated[float, Field(ge=0, le=256)], ...] = Field(
        (),
        max_length=16,
        description="Also blur both by each of these, and take the mean; 0 leaves them sharp, "
        "as does an empty list. DeepReg: 0, 1, 2, 4, 8, 16.",
    )
    scale_unit: Literal["voxel", "mm"] = Field("voxel", description="Unit of `scales`.")
    scale_kernel: Literal["gaussian", "cauchy"] = Field("gaussian", description="How to blur.")


class DiceConfig(_LabelLoss):
    """One minus the Dice coefficient."""

    kind: Literal["dice"] = Field("dice", description="Twice the overlap, over both sizes.")
    smooth: float = Field(1e-5, ge=0, description="Added to numerator and denominator, voxels.")


class JaccardConfig(_LabelLoss):
    """One minus the Jaccard index."""

    kind: Literal["jaccard"] = Field("jaccard", description="The overlap, over the union.")
    smooth: float = Field(1e-5, ge=0, description="Added to numerator and denominator, voxels.")


class CrossEntropyConfig(_LabelLoss):
    """Cross-entropy of the warped label as a probability of the fixed one."""

    kind: Literal["cross-entropy"] = Field("cross-entropy", description="Cross-entropy.")
    smooth: float = Field(1e-5, gt=0, le=0.1, description="Added to a probability before its log.")


class MeanSquareConfig(_LabelLoss):
    """Mean squared difference of labels."""

    kind: Literal["mean-square"] = Field("mean-square", description="Mean squared difference.")


class DistanceConfig(_Loss):
    """Mean distance of moved fixed points from the moving points, mm."""

    kind: Literal["distance"] = Field("distance", description="Distance of points in mm.")
    norm: Literal["l1", "l2", "squared"] = Field(
        "l2", description="Of a point's error: `l1`, Euclidean `l2`, or its square in mm^2."
    )


class _FieldLoss(_Loss):
    on: Literal["displacement", "velocity"] = Field(
        "displacement",
        description="What is regularised; `velocity` needs a network that gives one.",
    )


class GradientConfig(_FieldLoss):
    """Size of the field's first derivatives; without a unit."""

    kind: Literal["gradient"] = Field("gradient", description="First derivatives.")
    norm: Literal["l1", "l2"] = Field("l2", description="`l1` absolute values, `l2` squares.")
    difference: Literal["forward", "central"] = Field(
        "forward",
        description="`forward` (VoxelMorph); `central` (DeepReg, MONAI) does not see a change of "
        "sign from voxel to voxel.",
    )


class BendingConfig(_FieldLoss):
    """Bending energy: squares of the field's second derivatives, per mm^2."""

    kind: Literal["bending"] = Field("bending", description="Second derivatives.")


class FoldingConfig(_Loss):
    """How far the Jacobian determinant falls below a margin."""

    kind: Literal["folding"] = Field("folding", description="Negative Jacobian determinants.")
    squared: bool = Field(False, description="Square what is below.")
    margin: float = Field(0.0, ge=0, lt=1, description="Determinants below this count.")


class InverseConsistencyConfig(_Loss):
    """How far a point ends from where it began, there and back, mm; takes a second pass."""

    kind: Literal["inverse-consistency"] = Field(
        "inverse-consistency", description="There and back."
    )
    norm: Literal["l2", "squared"] = Field("l2", description="Distance in mm, or its square.")


class KnownDisplacementConfig(_Loss):
    """Distance of the field from the true displacement, mm; pairs without one count nowhere.

    Synthetic pairs of one label map have one.
    """

    kind: Literal["known-displacement"] = Field(
        "known-displacement", description="Distance from the truth of synthetic pairs, mm."
    )
    norm: Literal["l1", "l2", "squared"] = Field(
        "l2", description="Of a voxel's error: `l1`, Euclidean `l2`, or its square in mm^2."
    )
    where: Literal["labels", "everywhere"] = Field(
        "labels", description="At voxels that have a label in the fixed image, or at all."
    )


ImageLossConfig = Annotated[
    SsdConfig
    | LnccConfig
    | NccConfig
    | MutualInformationConfig
    | LocalMutualInformationConfig
    | MindConfig
    | TukeyConfig,
    Field(discriminator="kind"),
]
LabelLossConfig = Annotated[
    DiceConfig | JaccardConfig | CrossEntropyConfig | MeanSquareConfig,
    Field(discriminator="kind"),
]
PointLossConfig = DistanceConfig
FieldLossConfig = Annotated[
    GradientConfig
    | BendingConfig
    | FoldingConfig
    | InverseConsistencyConfig
    | KnownDisplacementConfig,
    Field(discriminator="kind"),
]
AnyLossConfig = _Loss


class LossesConfig(BaseModel):
    """The section `losses`: lists of terms, summed with their weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: tuple[ImageLossConfig, ...] = Field(
        (), description="Fixed image against the warped moving image."
    )
    label: tuple[LabelLossConfig, ...] = Field(
        (), description="Fixed labels against the warped moving labels."
    )
    points: tuple[PointLossConfig, ...] = Field(
        (), description="Fixed points, moved by the field, against the moving points."
    )
    field: tuple[FieldLossConfig, ...] = Field(
        (), description="What a field should not be: steep, bent, folded; or what it should be."
    )

    def groups(self) -> Mapping[str, Sequence[AnyLossConfig]]:
        """The lists by the name of their category."""
        return {
            "image": self.image,
            "label": self.label,
            "points": self.points,
            "field": self.field,
        }
