"""What a model promises: `card.json`. Light: pydantic only, so the gateway may read it."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from service.errors import ModelInvalidError
from service.registration.options import Initialise

OutputKind = Literal["displacement", "velocity", "affine", "warped_label"]
Provider = Literal["cuda", "openvino", "cpu"]
Role = Literal["fixed", "moving", "moving_label"]
Axis = Literal["batch", "channel", "i", "j", "k", "row", "column"]

IMAGE_AXES: tuple[Axis, ...] = ("batch", "channel", "i", "j", "k")
SLICE_AXES: tuple[Axis, ...] = ("batch", "channel", "i", "j")
MATRIX_AXES: tuple[Axis, ...] = ("batch", "row", "column")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputTensor(_Part):
    """One image that the graph takes; `moving_label` is one label's share of each voxel, 0 to 1."""

    name: str
    role: Role
    axes: tuple[Axis, ...] = Field(
        IMAGE_AXES, description="Without k for a model of single slices, cut along i and j."
    )


class OutputTensor(_Part):
    """What the graph gives: u, v, a matrix, or a probability, on the grid that it saw.

    `displacement` u: moving(x + u(x)) is like fixed(x). `velocity` v: u integrated from it.
    `affine`, d rows of d + 1: moving(M (x - c) + t + c) is like fixed(x), with M the first d
    columns, t the last, x and t in voxels, and c = (n - 1) / 2 the centre of the padded images.
    `warped_label`: the probability of the moving label at each voxel of the fixed image.
    """

    name: str
    kind: OutputKind
    axes: tuple[Axis, ...] = Field(
        IMAGE_AXES, description="Of an image as the inputs'; of an affine batch, row, column."
    )
    units: Literal["voxels", "mm"] = Field(
        "voxels", description="Voxels of the model grid along i, j, k; or mm along its axes."
    )
    stride: int = Field(
        1,
        ge=1,
        description="Model voxels of one output cell along each axis; cell c covers the voxels "
        "from stride * c on.",
    )
    integration_steps: int = Field(7, ge=1, le=12, description="Squarings, for a velocity.")


class ModelGrid(_Part):
    """The grid on which the graph sees a pair, derived from the fixed image's.

    Its voxels are cubes; for a model of slices, squares as thick as the slice. It covers the fixed
    field of view and is padded at its far end.
    """

    spacing_mm: float | None = Field(
        None, gt=0, description="Fixed spacing; without it the spacing follows from `voxels`."
    )
    voxels: int | None = Field(
        None,
        gt=0,
        description="About how many voxels the field of view is cut into; never finer than the "
        "finest axis of the fixed image.",
    )
    max_voxels: int = Field(
        4_000_000, gt=0, description="Above this the spacing grows until the grid is small enough."
    )
    orientation: Literal["fixed", "RAS"] = Field(
        "fixed", description="The fixed image's own axes, or those of the world."
    )
    multiple: int = Field(1, ge=1, description="Each axis is padded to a multiple of this.")
    padding: Literal["edge", "zero"] = "edge"


class Intensity(_Part):
    """How each image's values are brought to [0, 1]."""

    rule: Literal["none", "percentiles", "window"] = Field(
        description="`percentiles` of each image, a `window` of values such as Hounsfield units, "
        "or `none`."
    )
    low: float = Field(0.0, description="Percentile, or value, that becomes 0.")
    high: float = Field(100.0, description="Percentile, or value, that becomes 1.")
    clip: bool = Field(True, description="Cut off what lies outside 0 to 1.")


class Training(_Part):
    """Where the weights come from."""

    method: str
    configuration: dict[str, JsonValue]
    data: str = Field(description="What the weights were trained on, and under which terms.")


class Figure(_Part):
    """One measured result."""

    data: str
    pairs: int = Field(ge=1)
    metric: str
    before: float
    after: float
    how: str = Field(description="What was run.")


class Card(_Part):
    """Everything an engine must know about a model, and a reader wants to."""

    format: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    version: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,30}$")]
    summary: str
    inputs: Annotated[tuple[InputTensor, ...], Field(min_length=2, max_length=3)]
    output: OutputTensor
    grid: ModelGrid
    intensity: Intensity
    providers: tuple[Provider, ...] = Field(
        min_length=1, description="Where the graph was verified, best first; no other is used."
    )
    opset: int = Field(ge=20)
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="Of model.onnx.")]
    modalities: tuple[str, ...]
    anatomy: tuple[str, ...]
    training: Training
    evaluation: tuple[Figure, ...] = ()
    licence: str
    initialise: Initialise | None = Field(
        None,
        description="How far pairs were aligned before the network saw them in training; what "
        "the option `initialise: model` means. Without it, `affine`.",
    )
    moving_intensity: Intensity | None = Field(
        None, description="Of moving images, where it is not that of fixed ones."
    )

    accept: Literal["if more alike", "always"] | None = Field(
        None,
        description="Whether a prediction that lowers the local correlation is dropped (`if more "
        "alike`, also without this) or kept: `always`, of a network that learned from labels or "
        "points alone, between contrasts that correlation cannot judge.",
    )

    spared_from: float | None = Field(
        None,
        ge=0,
        le=1,
        description="The local correlation after the initial alignment from which the model is not "
        "run where refinement follows, which then reaches as much. Without it, always run.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Roles and axes are those of the kind of output."""
        roles = [part.role for part in self.inputs]
        wanted = ["fixed", "moving"] + ["moving_label"] * (self.output.kind == "warped_label")
        if sorted(roles) != sorted(wanted):
            raise ValueError(f"a model of this kind of output takes {', '.join(wanted)}")
        if len({part.name for part in self.inputs}) != len(roles):
            raise ValueError("two inputs have one name")
        axes = self.inputs[0].axes
        if axes not in (IMAGE_AXES, SLICE_AXES) or any(x.axes != axes for x in self.inputs):
            raise ValueError("images have the axes batch, channel, i, j and k, or all but k")
        is_matrix = self.output.kind == "affine"
        if self.output.axes != (MATRIX_AXES if is_matrix else axes):
            raise ValueError("the output's axes are not those of its kind")
        if is_matrix and self.output.units != "voxels":
            raise ValueError("an affine is a matrix in voxels")
        if len(axes) < len(IMAGE_AXES) and self.grid.orientation != "fixed":
            raise ValueError("a model of slices works on the fixed image's own axes")
        return self

    @classmethod
    def read(cls, path: Path) -> "Card":
        """The card in a file.

        Raises:
            ModelInvalidError: If it is missing or does not say what a card must.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ModelInvalidError("The model has no readable card.json.") from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the whole"
            raise ModelInvalidError(
                f"The model's card.json is not valid at {where}: {first['msg']}."
            ) from error

    def intensity_of(self, role: Role) -> Intensity:
        """How an image's values are brought to [0, 1]."""
        if role == "moving" and self.moving_intensity is not None:
            return self.moving_intensity
        return self.intensity

    def input_name(self, role: Role) -> str:
        """What the graph calls an image."""
        return next(part.name for part in self.inputs if part.role == role)

    @property
    def ndim(self) -> Literal[2, 3]:
        """Spatial axes of the images: 2 for a model of single slices."""
        return 3 if "k" in self.inputs[0].axes else 2

    def written(self) -> str:
        """What `card.json` holds; an optional part that is not said is left out."""
        optional = {"initialise", "moving_intensity", "accept", "spared_from"}
        unsaid = {name for name in optional if getattr(self, name) is None}
        return self.model_dump_json(indent=2, exclude=unsaid) + "\n"
