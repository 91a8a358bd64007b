"""What can be said about the registration of a pair, for every command that does one."""

from pathlib import Path
from typing import Annotated, Any

import pydantic
import typer

from service.errors import ValidationError
from service.registration.options import (
    InitialiseChoice,
    RegisterOptions,
)
from service.registration.options import Interpolation as InterpolationChoice
from service.registration.options import LabelInterpolation as LabelInterpolationChoice

DEFAULTS = RegisterOptions()
FILES, MATCHING = "More files of the pair", "How the pair is aligned"
LOOKS, DICOM = "How values are carried over", "DICOM"


def about(name: str) -> str:
    """The description that an option has everywhere."""
    described = RegisterOptions.model_fields[name].description or ""
    return described.replace("`GET /v1/models`", "`warpline models`")


def _file(sentence: str) -> Any:
    return typer.Option(help=sentence, exists=True, dir_okay=False, rich_help_panel=FILES)


def _said(name: str, panel: str, *flags: str, **other: Any) -> Any:
    return typer.Option(*flags, help=about(name), rich_help_panel=panel, **other)


FixedLabels = Annotated[Path | None, _file("Label map on the fixed grid; measures overlap.")]
MovingLabels = Annotated[Path | None, _file("Label map that is warped too.")]
FixedMask = Annotated[Path | None, _file("Where the fixed image is to be matched.")]
MovingMask = Annotated[Path | None, _file("Where the moving image is to be matched.")]
FixedPoints = Annotated[Path | None, _file("CSV of points, RAS mm; they come back moved.")]
MovingPoints = Annotated[Path | None, _file("The same points in the moving image.")]
InitialTransform = Annotated[
    Path | None, _file("4x4 matrix (RAS mm, fixed to moving) or ITK affine.")
]

Model = Annotated[str, _said("model", MATCHING)]
Initialise = Annotated[InitialiseChoice, _said("initialise", MATCHING)]
Refine = Annotated[str, _said("refine", MATCHING, metavar="none|fast|best|SECONDS")]
Seed = Annotated[int, _said("seed", MATCHING)]

Interpolation = Annotated[InterpolationChoice, _said("interpolation", LOOKS)]
LabelInterpolation = Annotated[LabelInterpolationChoice, _said("label_interpolation", LOOKS)]
Fill = Annotated[float, _said("fill", LOOKS)]

FixedSeries = Annotated[str | None, _said("fixed_series", DICOM, metavar="NUMBER|UID")]
MovingSeries = Annotated[str | None, _said("moving_series", DICOM, metavar="NUMBER|UID")]
AllowDifferentPatients = Annotated[
    bool, _said("allow_different_patients", DICOM, "--allow-different-patients")
]
Deidentify = Annotated[bool, _said("deidentify", DICOM, "--deidentify")]


def make_options(values: dict[str, Any]) -> RegisterOptions:
    """Checked options; of a command's arguments those that are none are left out.

    Raises:
        ValidationError: Names the option that is wrong.
    """
    said = {name: value for name, value in values.items() if name in RegisterOptions.model_fields}
    try:
        return RegisterOptions(**said)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        raise ValidationError(
            f"--{name.replace('_', '-')}: {first['msg']}. {about(name)}", field=name
        ) from None
