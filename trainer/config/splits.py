"""Which data are for training, validation and test; a group is never in two of them."""

from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _stays_inside(value: str) -> str:
    path = PurePosixPath(value)
    if not value or "\\" in value or "\0" in value or path.is_absolute() or ".." in path.parts:
        raise ValueError("a path is relative to the data root and stays inside it")
    return value


RelativePath = Annotated[str, AfterValidator(_stays_inside)]
_SOURCE = "Folders, or list files, relative to the root."


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ExplicitSplits(_Section):
    """Each split has its own folders or list files."""

    kind: Literal["explicit"] = Field("explicit", description="Named one by one.")
    train: tuple[RelativePath, ...] = Field(("train",), description=_SOURCE)
    valid: tuple[RelativePath, ...] = Field((), description=_SOURCE)
    test: tuple[RelativePath, ...] = Field((), description=_SOURCE)


class FractionSplits(_Section):
    """Shares of the groups, drawn once by a seed."""

    kind: Literal["fractions"] = Field("fractions", description="By share.")
    source: tuple[RelativePath, ...] = Field((".",), description=_SOURCE)
    valid: float = Field(0.1, ge=0, lt=1, description="Share of the groups for validation.")
    test: float = Field(0.1, ge=0, lt=1, description="Share of the groups for the test.")
    seed: int = Field(0, ge=0, description="Of the draw.")

    @model_validator(mode="after")
    def _some_are_left_for_training(self) -> Self:
        if self.valid + self.test >= 1:
            raise ValueError("valid and test together leave nothing for training")
        return self


class ColumnSplits(_Section):
    """The column `split` of a list says train, valid or test."""

    kind: Literal["column"] = Field("column", description="By a list's column.")
    source: tuple[RelativePath, ...] = Field((), description="List files; none: `rows`.")


class FoldSplits(_Section):
    """Cross-validation: one of k folds of the groups is the test."""

    kind: Literal["folds"] = Field("folds", description="By fold.")
    source: tuple[RelativePath, ...] = Field((".",), description=_SOURCE)
    folds: int = Field(5, ge=2, le=100, description="How many.")
    fold: int = Field(0, ge=0, description="Which one is the test, from 0.")
    valid: float = Field(0.1, ge=0, lt=1, description="Share of the rest for validation.")
    seed: int = Field(0, ge=0, description="Of the draw.")

    @model_validator(mode="after")
    def _fold_is_one_of_them(self) -> Self:
        if self.fold >= self.folds:
            raise ValueError(f"folds are counted from 0: fold goes up to {self.folds - 1}")
        return self


SplitsConfig = Annotated[
    ExplicitSplits | FractionSplits | ColumnSplits | FoldSplits, Field(discriminator="kind")
]
