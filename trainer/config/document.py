"""The whole configuration: a YAML file, the body of `POST /v1/train` and a JSON schema in one."""

import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from trainer.config.augment import AugmentConfig
from trainer.config.data import DataConfig
from trainer.config.losses import LossesConfig
from trainer.config.matching_networks import CorrelationConfig, PddConfig, PyramidConfig
from trainer.config.networks import (
    ConditionalConfig,
    DeepRegUNetConfig,
    GlobalNetConfig,
    LocalNetConfig,
    VoxelMorphConfig,
)
from trainer.config.optimisation import OptimisationConfig

NetworkConfig = Annotated[
    VoxelMorphConfig
    | DeepRegUNetConfig
    | LocalNetConfig
    | GlobalNetConfig
    | ConditionalConfig
    | CorrelationConfig
    | PddConfig
    | PyramidConfig,
    Field(discriminator="kind"),
]

# What a model-level check found: pointers and sentences, unpacked by `reading`.
CROSS_CHECK = "cross-check"
Fault = tuple[str, str]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EvaluationConfig(_Section):
    """How the trained model is measured: the serving pipeline over a split."""

    split: Literal["train", "valid", "test"] = Field("test", description="Which pairs.")
    refine: Literal["none", "fast", "best"] = Field(
        "none", description="The service's refinement after the network."
    )
    shown: int = Field(3, ge=0, le=50, description="Worst and best pairs pictured, each.")


class CardConfig(_Section):
    """What the model's card says that no program can know."""

    summary: str = Field("", max_length=500, description="One sentence; made up where empty.")
    modalities: tuple[str, ...] = Field(("any",), description="What it was trained for, as MR-T1.")
    anatomy: tuple[str, ...] = Field(("any",), description="Organs that it was trained on.")
    data_statement: str = Field(
        "Not stated.", max_length=2000, description="The training images and their terms."
    )
    licence: str = Field("not licensed", max_length=200, description="Under which the model goes.")


class TrainConfig(_Section):
    """A training: data, network, losses, steps, and what becomes of it.

    Raises:
        pydantic.ValidationError: If a section is wrong by itself or does not go with another.
    """

    name: str = Field(
        "model",
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}$",
        description="Of the model that is made: lower-case letters, digits, hyphens.",
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Everything random follows from it.")
    data: DataConfig = Field(description="Images, labels and points, and the model grid.")
    augment: AugmentConfig = Field(AugmentConfig(), description="Random changes of training pairs.")
    network: NetworkConfig = Field(description="What is trained; options depend on `kind`.")
    losses: LossesConfig = Field(description="What is made small: any weighted sum.")
    train: OptimisationConfig = Field(OptimisationConfig(), description="How it is made small.")
    evaluate: EvaluationConfig = Field(EvaluationConfig(), description="How it is measured.")
    card: CardConfig = Field(CardConfig(), description="What the model's card says.")

    def digest(self) -> str:
        """What is trained, as a checksum: a resumed training must have the same.

        How long it runs, how it is watched and what is made of it may change in between.
        """
        free = {"epochs", "max_minutes", "threads", "loaders", "device", "early_stop"}
        free |= {"validate_every", "checkpoint_every_s", "picture_every"}
        told = self.model_dump(mode="json", exclude={"train": free, "evaluate": True, "card": True})
        told["data"].pop("root", None)
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    @model_validator(mode="after")
    def _sections_go_together(self) -> Self:
        if faults := list(_cross_faults(self)):
            raise PydanticCustomError(CROSS_CHECK, faults[0][1], {"faults": faults})
        return self


def _cross_faults(config: TrainConfig) -> Iterator[Fault]:
    yield from _loss_faults(config)
    yield from _network_faults(config)


def _loss_faults(config: TrainConfig) -> Iterator[Fault]:
    losses = config.losses
    if not any(loss.weight > 0 for group in losses.groups().values() for loss in group):
        yield "/losses", "Name at least one loss with a weight above 0."
    if losses.label and not config.data.gives_labels:
        yield "/losses/label", "A label loss needs labels; set data.labels to `required`."
    if losses.points and not config.data.gives_points:
        yield "/losses/points", "A point loss needs points; set data.points to `required`."
    gives_velocity = _gives_velocity(config.network)
    for n, loss in enumerate(losses.field):
        if getattr(loss, "on", "displacement") == "velocity" and not gives_velocity:
            yield f"/losses/field/{n}/on", "This network gives no velocity; take `displacement`."
    if config.network.kind == "conditional":
        for group in ("image", "points", "field"):
            if losses.groups()[group]:
                yield (
                    f"/losses/{group}",
                    "A conditional network gives the fixed label and no field: only label losses "
                    "can train it.",
                )
        if not config.data.gives_labels:
            yield "/data/labels", "A conditional network needs labels of both images."


def network_multiple(network: NetworkConfig) -> int:
    """What each size of the model grid must be a multiple of."""
    if isinstance(network, CorrelationConfig | PyramidConfig):
        return 1 << len(network.channels)
    if isinstance(network, PddConfig):
        return network.control_stride
    return network.multiple


def _gives_velocity(network: NetworkConfig) -> bool:
    output = getattr(network, "output", None)
    return output is not None and output.kind == "velocity"


def _network_faults(config: TrainConfig) -> Iterator[Fault]:
    shape, multiple = config.data.grid.shape, network_multiple(config.network)
    for axis, size in enumerate(shape or ()):
        if size % multiple:
            yield (
                f"/data/grid/shape/{axis}",
                f"This network takes sizes that are multiples of {multiple}; {size} is not one. "
                f"Take {-(-size // multiple) * multiple}.",
            )
    scales = [s for loss in config.losses.label for s in loss.scales]
    if shape and scales and max(scales) > min(shape):
        yield "/losses/label", f"A scale of {max(scales):g} voxels is larger than the model grid."
    if config.train.precision == "float16" and config.train.device == "cpu":
        yield "/train/precision", "float16 needs a GPU; take bfloat16."
