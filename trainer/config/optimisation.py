"""How a network is optimised: steps, schedule, precision, checkpoints, when to stop."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AdamConfig(_Section):
    """Adam, or AdamW where `weight_decay` is above 0."""

    kind: Literal["adam"] = Field("adam", description="Adaptive moments.")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="Step size at its highest.")
    beta1: float = Field(0.9, ge=0, lt=1, description="Memory of the gradient.")
    beta2: float = Field(0.999, ge=0, lt=1, description="Memory of its square.")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled decay (AdamW).")


class SgdConfig(_Section):
    """Stochastic gradient descent with Nesterov's momentum."""

    kind: Literal["sgd"] = Field("sgd", description="Plain descent.")
    learning_rate: float = Field(1e-2, gt=0, le=10, description="Step size at its highest.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum; 0 for none.")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty of the weights.")


OptimiserConfig = Annotated[AdamConfig | SgdConfig, Field(discriminator="kind")]


class ScheduleConfig(_Section):
    """How the learning rate goes on from its highest value."""

    kind: Literal["constant", "cosine", "polynomial", "step"] = Field(
        "cosine",
        description="`constant`; `cosine` to `final` at the end; `polynomial` of power 0.9 to "
        "`final`; `step`: times `factor` every `every_epochs`.",
    )
    warmup_steps: int = Field(0, ge=0, description="Steps of a linear rise from 0.")
    final: float = Field(0.0, ge=0, le=1, description="Share of the learning rate at the end.")
    every_epochs: int = Field(30, ge=1, description="Epochs between two falls, for `step`.")
    factor: float = Field(0.5, gt=0, le=1, description="What a fall leaves, for `step`.")


class EarlyStopConfig(_Section):
    """Stop when the monitored figure no longer improves."""

    patience: int = Field(20, ge=1, description="Validations without improvement before the end.")
    min_delta: float = Field(0.0, ge=0, description="Smaller improvements do not count.")


class OptimisationConfig(_Section):
    """The section `train`."""

    epochs: int = Field(100, ge=1, le=1_000_000, description="Passes over the training pairs.")
    steps_per_epoch: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Optimiser steps that count as an epoch; by default one pass over the pairs.",
    )
    max_minutes: float | None = Field(
        None,
        gt=0,
        description="Stop after so many minutes of training, counted over resumed runs. The "
        "learning rate follows the steps, not the clock.",
    )
    batch_size: int = Field(1, ge=1, le=256, description="Pairs of one forward pass.")
    accumulate: int = Field(1, ge=1, le=1024, description="Batches whose gradients make one step.")
    optimiser: OptimiserConfig = Field(AdamConfig(), description="What moves the weights.")
    schedule: ScheduleConfig = Field(ScheduleConfig(), description="The learning rate over time.")
    clip_norm: float | None = Field(
        None, gt=0, description="Gradients are scaled down to this Euclidean norm."
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32",
        description="Of the network's layers; losses, warps and weights stay float32. float16 "
        "scales the loss and needs a GPU.",
    )
    symmetric: bool = Field(
        False,
        description="Also registers each pair the other way round and averages the losses; "
        "an inverse-consistency loss does so by itself.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where to train; `auto` takes a GPU if there is one."
    )
    threads: int | None = Field(None, ge=1, description="CPU threads; by default all cores.")
    deterministic: bool = Field(
        True, description="Only algorithms that give the same result each time."
    )
    loaders: int = Field(1, ge=0, le=64, description="Threads that prepare batches ahead.")
    validate_every: int = Field(1, ge=1, description="Epochs between two validations.")
    monitor: Literal["auto", "loss", "dice", "tre_mm"] = Field(
        "auto",
        description="The validation figure by which the best weights are kept; `auto` takes "
        "`tre_mm` where there are points, else `dice` where there are labels, else `loss`.",
    )
    early_stop: EarlyStopConfig | None = Field(
        None, description="When to end before the last epoch."
    )
    checkpoint_every_s: float = Field(
        60.0,
        ge=0,
        description="Seconds between two checkpoints, besides one after each validation.",
    )
    picture_every: int = Field(
        10, ge=0, description="Epochs between two pictures of a validation pair; 0 for none."
    )
