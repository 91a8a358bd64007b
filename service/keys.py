"""Who is calling, and how often: API keys, kept as SHA-256 sums only, and their rates."""

import hashlib
import hmac
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from service.errors import ConfigurationError, RateLimitedError, UnauthenticatedError
from service.settings import Settings

LOCAL_OWNER = "local"
ENTRY = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,62}):(?P<digest>[0-9a-fA-F]{64})")
# Per-key state is forgotten when the bucket is full again, at the latest when this many exist.
MOST_BUCKETS = 10_000


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

    def owner(self, presented: str) -> str:
        """Whose key this is.

        Every entry is compared in constant time, so that time tells nothing about a key.

        Raises:
            UnauthenticatedError: If there are keys and this is none of them.
        """
        if not self.digests:
            return LOCAL_OWNER
        digest = hashlib.sha256(presented.encode("utf-8", "replace")).hexdigest()
        owner: str | None = None
        for name, known in self.digests:
            if hmac.compare_digest(digest, known):
                owner = name
        if owner is None:
            raise UnauthenticatedError(
                "Send your API key as `Authorization: Bearer wl_...` or `X-API-Key: wl_...`."
            )
        return owner


def presented_key(authorization: str, x_api_key: str = "") -> str:
    """The key that came along: as a bearer token, or else in a field of its own."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else x_api_key


@dataclass
class Rates:
    """A token bucket per key: `per_minute` requests on average, a sixth of that in one burst."""

    per_minute: int
    clock: Callable[[], float] = time.monotonic
    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def burst(self) -> float:
        return max(10.0, self.per_minute / 6)

    def take(self, key: str) -> None:
        """Count one request.

        Raises:
            RateLimitedError: If the key has none left; says after how long it has.
        """
        per_second = self.per_minute / 60
        with self._lock:
            now = self.clock()
            tokens, since = self._buckets.pop(key, (self.burst, now))
            tokens = min(self.burst, tokens + (now - since) * per_second)
            if len(self._buckets) >= MOST_BUCKETS:
                self._buckets.pop(next(iter(self._buckets)))
            self._buckets[key] = (tokens - 1 if tokens >= 1 else tokens, now)
        if tokens < 1:
            raise RateLimitedError(
                f"This key may send {self.per_minute} requests a minute; wait a little.",
                retry_after_s=(1 - tokens) / per_second,
            )
