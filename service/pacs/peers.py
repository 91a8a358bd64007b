"""The archives and scanners that an operator has named, from one TOML file.

Nothing else is talked to. Secrets are not in the file: it names environment variables or files.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import pydantic
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from service.errors import ConfigurationError, PacsUnknownError
from service.pacs.rules import Listener
from service.pacs.tls import Tls
from service.settings import LOOPBACK_HOSTS, Settings

NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"
AeTitle = Annotated[str, Field(pattern=r"^[\x21-\x5b\x5d-\x7e]([\x20-\x5b\x5d-\x7e]{0,15})$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Secret(_Part):
    """Where a secret is: `{env = "NAME"}` or `{file = "PATH"}`."""

    env: str | None = None
    file: Path | None = None
    value: SecretStr = Field(SecretStr(""), exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any) -> Any:
        if not isinstance(data, dict) or len(data) != 1 or not data.keys() <= {"env", "file"}:
            raise ValueError('name it as {env = "VARIABLE"} or {file = "PATH"}')
        if "env" in data:
            if not (found := os.environ.get(str(data["env"]))):
                raise ValueError(f"the environment variable {data['env']} is not set")
        else:
            try:
                found = Path(data["file"]).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeError):
                raise ValueError("the file of the secret cannot be read") from None
        return {**data, "value": SecretStr(found)}

    def reveal(self) -> str:
        """The secret itself; goes nowhere but to its peer."""
        return self.value.get_secret_value()


class _Peer(_Part):
    connect_timeout_s: float = Field(10, gt=0, le=300)
    timeout_s: float = Field(60, gt=0, le=3600, description="Longest silence of the archive.")
    callers: tuple[str, ...] | None = Field(
        None, description="API keys, by name, that may use it; all if left out."
    )


class DicomwebPeer(_Peer):
    """An archive that speaks QIDO-RS, WADO-RS and STOW-RS."""

    protocol: Literal["dicomweb"]
    url: str
    auth: Literal["none", "basic", "bearer"] = "none"
    username: str | None = None
    password: Secret | None = None
    token: Secret | None = None
    tls: Tls = Tls()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ValueError("`url` must be an http or https address without a query")
        if parts.username or parts.password:
            raise ValueError("secrets do not belong into `url`; use `auth`")
        needed = {"none": (), "basic": ("username", "password"), "bearer": ("token",)}[self.auth]
        for name in ("username", "password", "token"):
            if (getattr(self, name) is not None) != (name in needed):
                raise ValueError(f'auth = "{self.auth}" needs {" and ".join(needed) or "nothing"}')
        if needed and parts.scheme == "http" and parts.hostname not in LOOPBACK_HOSTS:
            raise ValueError("secrets are sent by https only")
        return self


class DimsePeer(_Peer):
    """An archive that speaks DICOM's own protocol."""

    protocol: Literal["dimse"]
    host: str = Field(min_length=1)
    port: int = Field(ge=1, le=65535)
    ae_title: AeTitle = Field(description="The archive's.")
    calling_ae_title: AeTitle = Field("WARPLINE", description="Ours.")
    retrieve: Literal["get", "move"] = "get"
    move_port: int | None = Field(
        None, ge=0, le=65535, description="Where C-MOVE sends to; the archive has to know it."
    )
    move_host: str = Field("127.0.0.1", description="Address that waits for C-MOVE.")
    storage_commitment: bool = False
    commitment_timeout_s: float = Field(30, gt=0, le=3600)
    commitment_port: int | None = Field(
        None, ge=0, le=65535, description="Where an archive reports that opens an association."
    )
    tls: Tls | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.retrieve == "move" and self.move_port is None:
            raise ValueError('retrieve = "move" needs `move_port`')
        is_called = self.retrieve == "move" or self.commitment_port is not None
        if self.tls is not None and self.tls.certificate is None and is_called:
            raise ValueError(
                "with TLS the archive calls our ports by TLS, too: `tls` needs `certificate` and "
                "`key`"
            )
        return self


Peer = Annotated[DicomwebPeer | DimsePeer, Field(discriminator="protocol")]


class _File(_Part):
    peers: dict[Annotated[str, Field(pattern=NAME)], Peer] = Field(default_factory=dict)
    listener: Listener | None = None


@dataclass(frozen=True)
class Peers:
    """Every archive by name, and what the listener does."""

    by_name: Mapping[str, DicomwebPeer | DimsePeer] = field(default_factory=dict)
    listener: Listener | None = None

    @classmethod
    def of(cls, settings: Settings) -> "Peers":
        """As the settings name them; none without a file.

        Raises:
            ConfigurationError: If the file cannot be read or says what cannot be.
        """
        return cls() if settings.pacs_file is None else cls.read(settings.pacs_file)

    @classmethod
    def read(cls, path: Path) -> "Peers":
        """From a file.

        Raises:
            ConfigurationError: If the file cannot be read or says what cannot be.
        """
        try:
            said = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError(
                f"WARPLINE_PACS_FILE: {path} cannot be read ({error.strerror})."
            ) from None
        except (tomllib.TOMLDecodeError, UnicodeError) as error:
            raise ConfigurationError(f"WARPLINE_PACS_FILE: {path} is not TOML: {error}.") from None
        try:
            found = _File.model_validate(said)
        except pydantic.ValidationError as error:
            raise ConfigurationError(_told(error)) from None
        made = cls(found.peers, found.listener)
        made._check_rules()
        return made

    def _check_rules(self) -> None:
        for rule in self.listener.rules if self.listener else ():
            if rule.store_to is not None and rule.store_to not in self.by_name:
                raise ConfigurationError(
                    f"WARPLINE_PACS_FILE: the listener's rule {rule.name} stores to "
                    f"{rule.store_to}, but there is no such peer."
                )

    def peer(self, name: str, owner: str | None = None) -> DicomwebPeer | DimsePeer:
        """The archive of this name, for this caller.

        Raises:
            PacsUnknownError: If there is none; the same where the caller may not use it.
        """
        found = self.by_name.get(name)
        if found is None or not (owner is None or found.callers is None or owner in found.callers):
            raise PacsUnknownError
        return found


def _told(error: pydantic.ValidationError) -> str:
    """The first fault as a sentence; never the value, which may be a secret."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"] if part not in ("dicomweb", "dimse"))
    message = first["msg"].removeprefix("Value error, ")
    return f"WARPLINE_PACS_FILE: {place or 'the file'}: {message}."
