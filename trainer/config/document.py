"""The whole configuration: a YAML file, the body of `POST /v1/train` and a JSON schema in one."""

import hashlib
import json
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from trainer.config.augment import AugmentConfig
from trainer.config.data import DataConfig
from trainer.config.losses import LossesConfig
from trainer.config.matching_networks import (
    CorrelationConfig,
    MatchingPyramidConfig,
    MetricConfig,
    PddConfig,
    PyramidConfig,
)
from trainer.config.networks import (
    ConditionalConfig,
    DeepRegUNetConfig,
    GlobalNetConfig,
    LocalNetConfig,
    VoxelMorphConfig,
)
from trainer.config.optimisation import OptimisationConfig
from trainer.config.synth import SynthConfig

NetworkConfig = Annotated[
    VoxelMorphConfig
    | DeepRegUNetConfig
    | LocalNetConfig
    | GlobalNetConfig
    | ConditionalConfig
    | CorrelationConfig
    | PddConfig
    | PyramidConfig
    | MetricConfig
    | MatchingPyramidConfig,
    Field(discriminator="kind"),
]

# What a model-level check found: pointers and sentences, unpacked by `reading`.
CROSS_CHECK = "cross-check"


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
    accept: Literal["if more alike", "always"] | None = Field(
        None,
        description="Whether the service drops a field that lowers the local correlation; by "
        "default only of a network that learned from images.",
    )
    spared_from: float | None = Field(
        None,
        ge=0,
        le=1,
        description="The local correlation from which the service leaves the model out where "
        "refinement follows.",
    )


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
    synth: SynthConfig = Field(SynthConfig(), description="How pairs are rendered, if they are.")
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
        from trainer.config.checks import cross_faults  # which speaks of this class

        if faults := list(cross_faults(self)):
            raise PydanticCustomError(CROSS_CHECK, faults[0][1], {"faults": faults})
        return self
