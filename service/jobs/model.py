"""A model that a job makes: the version it reserves, what it publishes, and how it compares."""

from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

PRODUCTION, CANDIDATE = "production", "candidate"

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Version = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,30}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelId(_Frozen):
    """One version of a model."""

    name: Name
    version: Version

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


class NewModel(_Frozen):
    """The wish for a version, made with a job: the store gives the next number above `above`."""

    name: Name
    above: int = Field(0, ge=0, description="The highest number among the shipped versions.")


class ModelFile(_Frozen):
    """One file of a model, under a write-once key."""

    key: str
    bytes: int
    sha256: str


class Verdict(StrEnum):
    """How a candidate did beside the version in production."""

    BETTER = "better"
    EQUAL = "equal"
    WORSE = "worse"


class ComparedMetric(_Frozen):
    """One figure, as mean over the pairs of both versions, and who did better how often."""

    candidate: float = Field(allow_inf_nan=False)
    production: float = Field(allow_inf_nan=False)
    higher_is_better: bool = True
    wins: int = Field(0, ge=0, description="Pairs on which the candidate did better.")
    losses: int = Field(0, ge=0, description="Pairs on which production did better.")
    p_value: float | None = Field(None, ge=0, le=1, description="Of a paired test, if made.")


class Comparison(_Frozen):
    """The candidate and another version, measured on the same held-out pairs."""

    against: str | None = Field(
        description="NAME/VERSION that a bare NAME stood for; null if there was none."
    )
    pairs: int = Field(ge=0, description="Held-out pairs that both were measured on.")
    digest: str | None = Field(None, description="SHA-256 of the list of pairs.")
    metrics: dict[str, ComparedMetric] = Field(default_factory=dict)
    verdict: Verdict


class PublishedModel(_Frozen):
    """What a job hands over with its manifest, to become visible when the job succeeds."""

    name: Name
    version: Version
    files: dict[str, ModelFile]
    card: dict[str, Any]
    comparison: Comparison | None = None

    @property
    def id(self) -> ModelId:
        return ModelId(name=self.name, version=self.version)


class RegisteredModel(PublishedModel):
    """A version in the registry. It never changes."""

    job_id: UUID
    owner: str
    created_at: AwareDatetime


class Shelf(_Frozen):
    """What the registry has of one name: its versions, oldest first, and where aliases point."""

    versions: tuple[str, ...] = ()
    aliases: dict[str, str] = Field(default_factory=dict)


def model_prefix(model: ModelId, job_id: UUID, fence: int) -> str:
    """Where an attempt keeps the files of the model that it makes, apart from its results."""
    return f"models/{model.name}/{model.version}/{job_id}.{fence}/"
