"""What a registration tells about itself: `report.json`. Light: pydantic only."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

CONVENTION = (
    "warped(x) = moving(x + ddf(x)), x in fixed-grid world millimetres (RAS+). "
    "ddf.nii.gz stores the same vectors in LPS+, as ITK, ANTs and 3D Slicer read them; it holds "
    "the whole transform, affine included. affine.txt takes fixed to moving, RAS+ mm. Points in "
    "fixed space move by ddf, points in moving space by inverse_ddf."
)


class _Part(BaseModel):
    # JSON has no NaN: a figure that cannot be measured is null.
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelUsed(_Part):
    """The model that gave the field."""

    name: str
    version: str
    sha256: str


class Stage(_Part):
    """One step of the pipeline and what it took."""

    name: str
    seconds: float
    detail: str = ""


class Metrics(_Part):
    """Before: the pair as its headers place it. After: as delivered. None: not measurable."""

    ncc_before: float | None = None
    ncc_after: float | None = None
    lncc_before: float | None = Field(None, description="Mean squared local correlation, 0 to 1.")
    lncc_after: float | None = None
    nmi_before: float | None = None
    nmi_after: float | None = None
    overlap_fraction: float | None = Field(
        None, description="Share of fixed voxels that map into the moving field of view."
    )
    affine_fit: float | None = Field(
        None, description="Local correlation by the affine alone, on coarse copies, 0 to 1."
    )
    turned_fit: float | None = Field(
        None, description="The same with the moving image turned by right angles, at best."
    )
    mirrored_fit: float | None = Field(None, description="The same, mirrored, at best.")
    affine_ncc: float | None = Field(None, description="Correlation by the affine alone.")
    mirrored_ncc: float | None = Field(None, description="The same, mirrored, at best.")
    structure_in_view: float | None = Field(
        None, description="Share of what the fixed image shows that lies in the moving one's view."
    )
    structure_met: float | None = Field(
        None, description="Share of it that lies where the moving image is not blank."
    )
    fixed_labels_fit: float | None = Field(
        None, description="Share of the image's variance that its labels account for, 0 to 1."
    )
    fixed_labels_fit_moved: float | None = Field(
        None, description="The same with the labels moved, at the best of the places around."
    )
    moving_labels_fit: float | None = None
    moving_labels_fit_moved: float | None = None
    dice_before: dict[str, float] | None = None
    dice_after: dict[str, float] | None = None
    mean_dice_before: float | None = None
    mean_dice_after: float | None = None
    hd95_mm_after: dict[str, float] | None = None
    label_volume_change: dict[str, float] | None = Field(
        None, description="Volume of each warped label over its volume in the moving image."
    )
    tre_mm_before: float | None = None
    tre_mm_after: float | None = None
    folding_fraction: float | None = Field(None, description="Share of voxels with |J| <= 0.")
    non_diffeomorphic_volume: float | None = Field(
        None, description="Share of the volume where the map folds, by ten finite differences."
    )
    sdlogj: float | None = Field(None, description="Standard deviation of log |J|.")
    inverse_consistency_mm: float | None = Field(
        None, description="Mean distance of a fixed point from itself, there and back."
    )
    max_displacement_mm: float | None = Field(
        None, description="Of the whole transform, affine included."
    )
    max_deformation_mm: float | None = Field(None, description="Beyond the affine.")


class VerdictReport(_Part):
    """Whether it worked, and why."""

    status: Literal["pass", "warn", "fail"]
    reasons: list[str]
    codes: list[str] = Field(
        [], description="A stable code for each reason, in the same order; see docs/verdict.md."
    )


class FileReport(_Part):
    """One delivered file."""

    bytes: int
    sha256: str
    media_type: str


class Provenance(_Part):
    """What is needed to do it again."""

    inputs: dict[str, str] = Field(description="SHA-256 of each input file, by role.")
    software: str
    provider: str
    seed: int
    settings: dict[str, bool | int | float | str]


class WarpReport(_Part):
    """What applying a stored transform tells: no metrics, since there is nothing to compare."""

    job_id: str | None = None
    stages: list[Stage]
    warnings: list[str]
    files: dict[str, FileReport]
    convention: str = CONVENTION
    provenance: Provenance

    def summary(self) -> dict[str, object]:
        """What a list of jobs shows."""
        return {"warnings": self.warnings}


class Report(_Part):
    """The whole report; its JSON schema is published as docs/report.schema.json."""

    job_id: str | None = None
    model: ModelUsed | None
    answered_by: Literal["initialise", "network", "refine"]
    stages: list[Stage]
    metrics: Metrics
    verdict: VerdictReport
    warnings: list[str]
    files: dict[str, FileReport]
    convention: str = CONVENTION
    provenance: Provenance

    def summary(self) -> dict[str, object]:
        """What a list of jobs shows without opening each report."""
        return {
            "verdict": self.verdict.model_dump(mode="json"),
            "metrics": self.metrics.model_dump(mode="json", exclude_none=True),
            "warnings": self.warnings,
        }
