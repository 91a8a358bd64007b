"""Without keys the service trusts this machine, and so must not trust every web page open on it.

A page elsewhere can send forms to 127.0.0.1 (its browser names it in `Origin`), and with a name
that it lets resolve to 127.0.0.1 it can read the answers as well (which shows in `Host`).
"""

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from service.errors import AccessError
from service.settings import Settings


@dataclass(frozen=True)
class OwnPages:
    """Whose requests a service without keys answers."""

    hosts: frozenset[str]
    origins: frozenset[str]

    @classmethod
    def of(cls, settings: Settings) -> "OwnPages":
        """Those that the settings name, beside this machine itself."""
        public = urlsplit(settings.public_url or "").hostname
        origins = (origin.strip().rstrip("/") for origin in settings.cors_origins.split(","))
        return cls(frozenset({public} if public else ()), frozenset(o for o in origins if o))

    def require(self, headers: Headers) -> None:
        """Refuse what a page of somebody else's sends.

        Raises:
            AccessError: If the request is addressed to, or comes from, a foreign name.
        """
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_ours(host):
            raise AccessError(
                "Without API keys the service answers only to names of this machine, such as "
                "127.0.0.1; set WARPLINE_PUBLIC_URL or API keys to use another."
            )
        if origin is not None and origin not in self.origins and not _is_same(origin, host):
            raise AccessError(
                "Web pages of other origins may not call; "
                "WARPLINE_CORS_ORIGINS lists those that may."
            )

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        # A name without a dot is not one that a stranger can own.
        return name in self.hosts or ("." not in name and ":" not in name) or _is_loopback(name)


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _is_same(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc == host
