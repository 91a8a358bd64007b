"""What the listener takes in, and what it makes of it; from the peers' file."""

from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.pacs.tls import Tls
from service.registration.options import RegisterOptions

AeTitle = Annotated[str, Field(pattern=r"^[\x21-\x5b\x5d-\x7e]([\x20-\x5b\x5d-\x7e]{0,15})$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SeriesLike(_Part):
    """Which series: patterns with `*` and `?`, whatever the case. All that are given must fit."""

    description: str | None = None
    modality: str | None = None
    protocol: str | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not any((self.description, self.modality, self.protocol)):
            raise ValueError("name a description, modality or protocol")
        return self

    def fits(self, description: str, modality: str, protocol: str) -> bool:
        """Whether a series with these attributes is meant."""
        pairs = (
            (self.description, description),
            (self.modality, modality),
            (self.protocol, protocol),
        )
        return all(
            pattern is None or fnmatchcase(text.strip().casefold(), pattern.casefold())
            for pattern, text in pairs
        )


class Rule(_Part):
    """Two series of a study that make a pair, and what happens to it."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")
    calling: AeTitle | None = Field(None, description="Who sends; any known caller if left out.")
    fixed: SeriesLike
    moving: SeriesLike
    within: Literal["study", "patient"] = Field(
        "study", description="What the two series share; `patient` takes the patient's ID."
    )
    owner: str = Field("pacs", description="The API key, by name, that the job belongs to.")
    store_to: str | None = Field(None, description="The peer that gets the result.")
    queue: Literal["interactive", "batch"] = "batch"
    options: RegisterOptions = RegisterOptions()


class Listener(_Part):
    """The receiving side of C-STORE."""

    ae_title: AeTitle = "WARPLINE"
    host: str = "127.0.0.1"
    port: int = Field(11112, ge=0, le=65535)
    callers: dict[AeTitle, str] = Field(
        min_length=1, description="Who may send: AE title and its address, or `*` for any."
    )
    quiet_s: float = Field(10, gt=0, description="A series is whole after this long a silence.")
    keep_h: float = Field(24, gt=0, description="How long a series waits for its other half.")
    max_object_mib: int = Field(2048, ge=1)
    max_instances: int = Field(20_000, ge=1, description="Of one series.")
    max_spool_mib: int = Field(65_536, ge=1, description="Of all that waits.")
    max_associations: int = Field(10, ge=1, le=100)
    tls: Tls | None = Field(None, description="With `ca_file`, callers need certificates, too.")
    rules: tuple[Rule, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.tls is not None and self.tls.certificate is None:
            raise ValueError("`tls` of a listener needs `certificate` and `key`")
        if len({rule.name for rule in self.rules}) < len(self.rules):
            raise ValueError("two rules have the same name")
        for rule in self.rules:
            if rule.calling is not None and rule.calling not in self.callers:
                raise ValueError(f"rule {rule.name}: its caller is not among `callers`")
        return self
