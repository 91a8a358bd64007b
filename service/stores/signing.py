"""Signed URLs of the file store: who holds one may read one object until it expires."""

import hmac
import os
import secrets
import time
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote, urlencode

from service.errors import SignedUrlError

ROUTE = "/v1/objects/"


class UrlSigner:
    """Makes and checks `/v1/objects/{key}?expires=&name=&sig=`.

    The signature covers key, time, file name and media type, each with its length in front, so no
    part can be moved into another.
    """

    def __init__(
        self, secret: bytes, base_url: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._secret = secret
        self._base_url = base_url.rstrip("/")
        self._clock = clock

    def url(
        self, key: str, ttl: timedelta, *, name: str | None = None, media_type: str | None = None
    ) -> str:
        expires = int(self._clock() + ttl.total_seconds())
        query = {"expires": str(expires)}
        if name is not None:
            query["name"] = name
        if media_type is not None:
            query["type"] = media_type
        query["sig"] = self._signature(key, str(expires), name or "", media_type or "")
        return f"{self._base_url}{ROUTE}{quote(key)}?{urlencode(query)}"

    def verify(
        self,
        key: str,
        *,
        expires: str,
        sig: str,
        name: str | None = None,
        media_type: str | None = None,
    ) -> None:
        """Let a good URL pass; its parts are the query's, as text.

        Raises:
            SignedUrlError: If any part was changed or the time is over; it does not say which.
        """
        right = self._signature(key, expires, name or "", media_type or "")
        is_right = hmac.compare_digest(right.encode(), sig.encode())
        if not (is_right and expires.isdecimal() and int(expires) > self._clock()):
            raise SignedUrlError

    def _signature(self, *parts: str) -> str:
        message = "".join(f"{len(part)}:{part}" for part in parts)
        return hmac.new(self._secret, message.encode(), sha256).hexdigest()


def secret_in(folder: Path) -> bytes:
    """The installation's own secret, made once; only the user who runs the service can read it."""
    path = folder / "url-signing-key"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _secret_of_other(path)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_hex(32).encode())
    return path.read_bytes()


def _secret_of_other(path: Path) -> bytes:
    """Another process may be between making the file and filling it."""
    for _ in range(100):
        secret = path.read_bytes()
        if len(secret) == 64:
            return secret
        time.sleep(0.01)
    raise SignedUrlError("The signing key in the data folder is damaged; remove the file.")
