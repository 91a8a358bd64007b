"""What a model promises: `card.json`. Light: pydantic only, so the gateway may read it."""

import hashlib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import ModelInvalidError

OutputKind = Literal["displacement", "velocity", "affine", "warped_label"]
Provider = Literal["cuda", "openvino", "cpu"]
Axis = Literal["batch", "channel", "i", "j", "k"]

IMAGE_AXES: tuple[Axis, ...] = ("batch", "channel", "i", "j", "k")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputTensor(_Part):
    """One image that the graph takes."""

    name: str
    role: Literal["fixed", "moving"]
    axes: tuple[Axis, ...] = IMAGE_AXES


class OutputTensor(_Part):
    """What the graph gives."""

    name: str
    kind: OutputKind
    axes: tuple[Axis, ...] = IMAGE_AXES
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

    Its voxels are cubes. It covers the fixed field of view and is padded at its far end.
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

    rule: Literal["none", "percentiles", "window"]
    low: float = Field(0.0, description="Percentile, or value, that becomes 0.")
    high: float = Field(100.0, description="Percentile, or value, that becomes 1.")
    clip: bool = True


class Training(_Part):
    """Where the weights come from."""

    method: str
    configuration: dict[str, int | float | str | list[float]]
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
    inputs: tuple[InputTensor, InputTensor]
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

    def input_name(self, role: Literal["fixed", "moving"]) -> str:
        """What the graph calls the fixed or the moving image."""
        return next(part.name for part in self.inputs if part.role == role)


def sha256_of(path: Path) -> str:
    """The checksum that a card states of its `model.onnx`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
