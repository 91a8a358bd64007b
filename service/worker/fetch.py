"""Brings a job's inputs to a folder: from the object store, or from a URL on an allowed host."""

import hashlib
import ipaddress
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from service.errors import (
    ChecksumMismatchError,
    InvalidRequestError,
    ResultNotFoundError,
    UploadNotFoundError,
    UrlFetchError,
    UrlNotAllowedError,
)
from service.jobs.job import InputFile
from service.jobs.ports import BlobStore

CHUNK = 1 << 20
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 15.0
LONGEST_FETCH_S = 600.0

Tick = Callable[[], None]


@dataclass(frozen=True)
class UrlRules:
    """What may be fetched for a caller: nothing, until the operator names hosts."""

    hosts: frozenset[str]
    max_bytes: int

    @classmethod
    def of(cls, allowed_url_hosts: str, max_upload_mib: int) -> "UrlRules":
        """From the settings: `HOST[:PORT]`, comma separated."""
        hosts = (host.strip().lower() for host in allowed_url_hosts.split(","))
        return cls(frozenset(host for host in hosts if host), max_upload_mib << 20)

    def check(self, url: str) -> None:
        """Refuse a URL that is not plain http(s) to a host on the list.

        Raises:
            UrlNotAllowedError: For every cause alike, so that it cannot be used to look around.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise UrlNotAllowedError from error
        host = (parts.hostname or "").lower()
        named = {host, f"{host}:{port}"} if port else {host}
        is_plain = parts.scheme in ("http", "https") and not parts.username and not parts.password
        # A host on the list stands for its usual ports; another port must be named with it.
        is_usual = port in (None, 80, 443) or f"{host}:{port}" in self.hosts
        if not (is_plain and is_usual and named & self.hosts):
            raise UrlNotAllowedError


def fetch_input(
    file: InputFile, role: str, target: Path, blobs: BlobStore, rules: UrlRules, tick: Tick
) -> str:
    """Copy an input to `target`; gives its SHA-256.

    Args:
        file: Where it is, and the digest it should have if that is known.
        role: The part of the request that errors name.
        target: A new file.
        blobs: Where keys are looked up.
        rules: Which URLs may be fetched.
        tick: Called between chunks; may raise to stop.

    Raises:
        UploadNotFoundError: If the object is gone.
        UrlNotAllowedError: If the URL's host is not on the operator's list.
        UrlFetchError: If the URL does not give the object.
        ChecksumMismatchError: If other bytes came than were announced.
    """
    if file.key is not None:
        digest = _fetch_key(file.key, role, target, blobs)
    elif file.url is not None:
        digest = _fetch_url(file.url, role, target, rules, tick)
    else:
        raise InvalidRequestError(f"{role} names no file.", field=role)
    if file.sha256 is not None and digest != file.sha256.lower():
        raise ChecksumMismatchError(
            f"The bytes of {role} are not those that were announced; send the file again.",
            field=role,
        )
    return digest


def _fetch_key(key: str, role: str, target: Path, blobs: BlobStore) -> str:
    try:
        blobs.get_file(key, target)
    except ResultNotFoundError as error:
        raise UploadNotFoundError(
            f"The file for {role} is not stored any more; send it again.", field=role
        ) from error
    digest = hashlib.sha256()
    with target.open("rb") as copy:
        while chunk := copy.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _fetch_url(url: str, role: str, target: Path, rules: UrlRules, tick: Tick) -> str:
    rules.check(url)
    timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    until = time.monotonic() + LONGEST_FETCH_S
    digest, size = hashlib.sha256(), 0
    _require_outward(url)
    try:
        # No redirects: the next host is not on the list. No proxies or .netrc from the environment.
        with (
            httpx.Client(timeout=timeout, follow_redirects=False, trust_env=False) as client,
            client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as answer,
            target.open("wb") as copy,
        ):
            _require_outward_peer(url, answer)
            if answer.status_code != 200:
                raise _fetch_error(role)
            for chunk in answer.iter_raw(CHUNK):
                size += len(chunk)
                if size > rules.max_bytes or time.monotonic() > until:
                    raise _fetch_error(role)
                digest.update(chunk)
                copy.write(chunk)
                tick()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _fetch_error(role) from error
    return digest.hexdigest()


def _require_outward(url: str) -> None:
    """Refuse a listed name that resolves to this machine's own or link-local addresses.

    An operator who does mean such an address lists it as a number.

    Raises:
        UrlNotAllowedError: With the text of any other URL that is not allowed.
    """
    host = urlsplit(url).hostname or ""
    if _is_number(host):
        return
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UrlNotAllowedError from error
    if any(_is_inward(str(entry[4][0])) for entry in found):
        raise UrlNotAllowedError


def _require_outward_peer(url: str, answer: httpx.Response) -> None:
    """The same for the address that did answer: the name may have changed since it was checked."""
    peer = answer.extensions["network_stream"].get_extra_info("server_addr")
    if not _is_number(urlsplit(url).hostname or "") and (peer is None or _is_inward(peer[0])):
        raise UrlNotAllowedError


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_inward(address: str) -> bool:
    """Loopback, link-local (where clouds keep their metadata) or unspecified; IPv4 in IPv6 too."""
    found = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(found, "ipv4_mapped", None) or found
    return bool(inner.is_loopback or inner.is_link_local or inner.is_unspecified)


def _fetch_error(role: str) -> UrlFetchError:
    return UrlFetchError(
        f"The object behind the URL for {role} could not be fetched: the server did not give it "
        "whole, in time and within the size limit.",
        field=role,
    )
