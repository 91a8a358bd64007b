"""Who is calling: API keys, kept as SHA-256 sums only."""

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import Headers

from service.errors import ConfigurationError, UnauthenticatedError
from service.settings import Settings

LOCAL_OWNER = "local"
ENTRY = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,62}):(?P<digest>[0-9a-fA-F]{64})")


@dataclass(frozen=True)
class Keys:
    """The API keys of this service: owner's name to SHA-256 of the key. None: nobody is asked."""

    digests: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, settings: Settings) -> "Keys":
        """The keys that the settings name.

        Raises:
            ConfigurationError: If an entry is not NAME:SHA256HEX.
        """
        if settings.api_keys is None:
            return cls(())
        entries = [part.strip() for part in settings.api_keys.get_secret_value().split(",")]
        matches = [ENTRY.fullmatch(entry) for entry in entries if entry]
        found = [(m["name"], m["digest"].lower()) for m in matches if m is not None]
        if not found or len(found) != len(matches):
            raise ConfigurationError(
                "WARPLINE_API_KEYS must be NAME:SHA256HEX entries, comma separated; "
                "`warpline keys new NAME` prints one."
            )
        return cls(tuple(found))

    def owner(self, headers: Headers) -> str:
        """Whose request this is.

        Every entry is compared in constant time, so that time tells nothing about a key.

        Raises:
            UnauthenticatedError: If there are keys and none of them came along.
        """
        if not self.digests:
            return LOCAL_OWNER
        digest = hashlib.sha256(_presented(headers).encode("utf-8", "replace")).hexdigest()
        owner: str | None = None
        for name, known in self.digests:
            if hmac.compare_digest(digest, known):
                owner = name
        if owner is None:
            raise UnauthenticatedError(
                "Send your API key as `Authorization: Bearer wl_...` or `X-API-Key: wl_...`."
            )
        return owner


def _presented(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def caller(request: Request) -> str:
    """The owner that the front door found for this request."""
    owner = getattr(request.state, "owner", None)
    if owner is None:
        raise UnauthenticatedError
    return str(owner)


Caller = Annotated[str, Depends(caller)]
