"""A job's inputs: files of the request put into the store, uploads and addresses looked up."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import urlsplit
from uuid import UUID

from service.errors import PacsUnknownError, UploadIncompleteError, UrlNotAllowedError
from service.gateway.desk import Desk
from service.gateway.orders import Reference
from service.gateway.spool import Arrival
from service.jobs.job import InputFile, PacsSeries
from service.pacs.peers import Peers
from service.settings import Settings
from service.stores.build import Stores

# A file of a form belongs to its one job; should the gateway die before the job is stored, this is
# how long it stays.
ORPHAN_TTL = timedelta(hours=1)


@dataclass
class Keeper:
    """Puts the files of one request into the store; `release` once the job names them."""

    stores: Stores
    owner: str
    _kept: list[tuple[UUID, str]] = field(default_factory=list)

    def keep(self, arrivals: Mapping[str, Arrival]) -> dict[str, InputFile]:
        """Store files under new keys, two at a time, for each waits for the disk.

        Raises:
            StorageFullError, StoreUnavailableError: From the stores.
        """
        with ThreadPoolExecutor(2) as pool:
            return dict(zip(arrivals, pool.map(self._keep, arrivals.values()), strict=True))

    def _keep(self, arrival: Arrival) -> InputFile:
        # The upload's row keeps the reaper away until the job's row does; it is never completed,
        # since nobody asks for it.
        upload = self.stores.uploads.open(self.owner, arrival.bytes, ORPHAN_TTL)
        self._kept.append((upload.id, upload.key))
        self.stores.blobs.put_file(upload.key, arrival.path)
        return InputFile(key=upload.key, sha256=arrival.sha256, bytes=arrival.bytes)

    def release(self) -> None:
        """The job holds the files now; forget that they were uploads."""
        for upload_id, _ in self._kept:
            self.stores.uploads.delete(upload_id)
        self._kept.clear()

    def discard(self) -> None:
        """No job wants the files; remove them."""
        self.stores.blobs.delete([key for _, key in self._kept])
        self.release()


def from_upload(
    stores: Stores, owner: str, upload_id: UUID, role: str, *, field: str | None = None
) -> InputFile:
    """An upload as an input; errors name its role, or the field given.

    Raises:
        UploadNotFoundError: If there is none, or it is not the caller's.
        UploadIncompleteError: If bytes are missing.
    """
    upload = stores.uploads.upload(upload_id, owner)
    if not upload.is_complete:
        raise UploadIncompleteError(
            f"{upload.received} of the upload's {upload.bytes} bytes have arrived; send the rest.",
            field=field or f"/inputs/{role}",
        )
    return InputFile(key=upload.key, sha256=upload.sha256, bytes=upload.bytes)


def allowed_hosts(settings: Settings) -> frozenset[str]:
    """The operator's list, in lower case; an entry is HOST or HOST:PORT."""
    entries = settings.allowed_url_hosts.split(",")
    return frozenset(entry.strip().lower() for entry in entries if entry.strip())


def from_url(settings: Settings, url: str, role: str) -> InputFile:
    """An address as an input; the worker fetches it and checks again where it leads.

    Raises:
        UrlNotAllowedError: With one text for all causes, so that it tells nothing about networks.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    default_port = {"http": 80, "https": 443}.get(parts.scheme)
    names = {f"{host}:{port or default_port}"} | ({host} if port in (None, default_port) else set())
    is_plain = not (parts.username or parts.password or "\\" in url or parts.fragment)
    if default_port is None or not is_plain or not names & allowed_hosts(settings):
        raise UrlNotAllowedError(
            "This service fetches only from hosts that its operator has listed "
            "(WARPLINE_ALLOWED_URL_HOSTS). Send the file itself, or use /v1/uploads.",
            field=f"/inputs/{role}/url",
        )
    return InputFile(url=url)


def from_pacs(peers: Peers, owner: str, reference: Reference, role: str) -> InputFile:
    """A series in an archive as an input; the worker fetches it.

    Raises:
        PacsUnknownError: If there is no such archive for this caller.
    """
    try:
        peers.peer(reference.pacs or "", owner)
    except PacsUnknownError as error:
        error.field = f"/inputs/{role}/pacs"
        raise
    series = PacsSeries(
        pacs=reference.pacs or "", study=reference.study or "", series=reference.series or ""
    )
    return InputFile(pacs=series)


def referred(desk: Desk, owner: str, references: Mapping[str, Reference]) -> dict[str, InputFile]:
    """What the order refers to instead of sending it, as inputs by role."""
    return {role: _referred(desk, owner, reference, role) for role, reference in references.items()}


def _referred(desk: Desk, owner: str, reference: Reference, role: str) -> InputFile:
    if reference.upload_id is not None:
        return from_upload(desk.stores, owner, reference.upload_id, role)
    if reference.pacs is not None:
        return from_pacs(desk.peers, owner, reference, role)
    return from_url(desk.settings, reference.url or "", role)
