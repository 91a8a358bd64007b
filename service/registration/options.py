"""What a caller can choose about one registration. Light: no numpy kernels, no runtime."""

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from service.registration.series_choice import without_uid

Initialise = Literal["none", "centre", "moments", "rigid", "affine"]
# `model` is what the model's card says that it was trained after, or else `affine`.
InitialiseChoice = Literal["model", "none", "centre", "moments", "rigid", "affine"]
Interpolation = Literal["nearest", "linear", "cubic"]
LabelInterpolation = Literal["nearest", "linear"]
EFFORTS, MOST_REFINE_S = ("none", "fast", "best"), 600
Refine = Literal["none", "fast", "best"] | Annotated[float, Field(gt=0, le=MOST_REFINE_S)]

MODEL_NAME = r"^[a-z0-9][a-z0-9-]{0,62}(/[a-z0-9][a-z0-9.-]{0,30}|@[a-z]{1,20})?$"
MOST_FILL = 1e38  # which float32 holds, in which images are warped
SERIES = r"^([0-9][0-9.]{0,63}|sha256:[0-9a-f]{64})$"


class WarpOptions(BaseModel):
    """How values are carried over to the fixed grid."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    interpolation: Interpolation = Field("linear", description="Of the warped image.")
    label_interpolation: LabelInterpolation = Field(
        "nearest", description="Of warped labels; `linear` blends each label and takes the largest."
    )
    fill: float = Field(
        0.0,
        ge=-MOST_FILL,
        le=MOST_FILL,
        allow_inf_nan=False,
        description="Value of the warped image outside the moving one.",
    )


class RegisterOptions(WarpOptions):
    """What a caller can choose about one registration; the defaults suit most pairs."""

    model: str = Field(
        "discrete",
        pattern=MODEL_NAME,
        description="NAME, NAME/VERSION or NAME@ALIAS; see `GET /v1/models`.",
    )
    initialise: InitialiseChoice = Field(
        "model",
        description="How far the pair is aligned before the network: `none` trusts the headers, "
        "`centre` matches fields of view, `moments` centres of mass, then `rigid` or `affine`. "
        "`model` is what the model's card says it was trained after, or else `affine`.",
    )
    refine: Refine = Field(
        "fast",
        description="Optimise this pair's field after the network: `none`, `fast`, `best`, or a "
        "budget in seconds, up to 600.",
    )
    fixed_series: str | None = Field(
        None,
        pattern=SERIES,
        description="Of DICOM with several volumes: which is fixed, by its number in the list that "
        "the error shows, or by its series UID, of which only a digest is kept.",
    )
    moving_series: str | None = Field(
        None, pattern=SERIES, description="Of DICOM with several volumes: which is moving."
    )
    allow_different_patients: bool = Field(
        False, description="Register DICOM images that say that they are of different patients."
    )
    deidentify: bool = Field(
        False,
        description="Take the patient out of the DICOM objects that are written, by the basic "
        "profile of PS3.15; other files never hold any.",
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="For stages that draw random numbers.")

    @field_validator("fixed_series", "moving_series")
    @classmethod
    def _without_uid(cls, value: str | None) -> str | None:
        return None if value is None else without_uid(value)

    @field_validator("refine", mode="before")
    @classmethod
    def _number_in_words(cls, value: object) -> object:
        """Forms and command lines send numbers as text."""
        if value in EFFORTS:
            return value
        try:
            seconds = float(str(value))
        except ValueError:
            seconds = math.nan
        if not 0 < seconds <= MOST_REFINE_S:  # NaN is not either
            choices = "`none`, `fast`, `best`, or seconds above 0 and up to 600"
            raise PydanticCustomError("refine", f"Input should be {choices}")
        return seconds
