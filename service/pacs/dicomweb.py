"""An archive that speaks DICOMweb: QIDO-RS to look, WADO-RS to fetch, STOW-RS to store.

Objects pass through as bytes: nothing is decoded or encoded again on the way.

Source: DICOM PS3.18 sections 8.6, 10.4 to 10.6.
"""

import json
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx

from service.errors import (
    PacsObjectRefusedError,
    PacsRefusedError,
    PacsSeriesNotFoundError,
    PacsUnavailableError,
)
from service.jobs.job import PacsSeries
from service.pacs.archive import Landing, SeriesLimits, Tick, wait
from service.pacs.multipart import boundary_of, pieces
from service.pacs.objects import Sending, Sent
from service.pacs.peers import DicomwebPeer
from service.pacs.stow import Batch, Kept, batches, kept_of
from service.pacs.tls import client_context

CHUNK = 1 << 20
TRIES, FIRST_PAUSE_S = 3, 0.5
LARGEST_ANSWER = 64 << 20  # of what is no object
PAGE = 1000
SOP_INSTANCE = "00080018"
JSON = "application/dicom+json"
ANY_SYNTAX = 'multipart/related; type="application/dicom"; transfer-syntax=*'
BUSY = frozenset({408, 425, 429})

T = TypeVar("T")


class Dicomweb:
    """`service.pacs.archive.Archive` over DICOMweb."""

    def __init__(self, peer: DicomwebPeer) -> None:
        self._peer = peer
        self._base = peer.url.rstrip("/")

    # ---- fetching ----------------------------------------------------------------------------

    def fetch(self, series: PacsSeries, folder: Path, limits: SeriesLimits, tick: Tick) -> int:
        """As `Archive.fetch`; what is missing from the answer is asked for one by one."""
        with self._client() as http:
            look = partial(self._instances, http, series.study, series.series, tick)
            expected = _tried(look, tick)
            if not expected:
                raise PacsSeriesNotFoundError
            landing = Landing(folder, limits)
            self._retrieve_all(http, series, landing, expected, tick)
            # A series that still grows is not yet the one that was meant.
            return landing.finish(expected | _tried(look, tick))

    def _retrieve_all(
        self,
        http: httpx.Client,
        series: PacsSeries,
        landing: Landing,
        expected: set[str],
        tick: Tick,
    ) -> None:
        """The series in one answer; what that lacks, or what broke off, one by one."""
        address = self._address(series.study, series.series)
        try:
            self._retrieve(http, address, landing, tick)
        except PacsRefusedError:
            raise
        except PacsUnavailableError:
            wait(FIRST_PAUSE_S, tick)
        for uid in sorted(expected - landing.by_uid.keys()):
            with suppress(PacsSeriesNotFoundError):
                one = partial(self._retrieve, http, f"{address}/instances/{uid}", landing, tick)
                _tried(one, tick)

    def _instances(self, http: httpx.Client, study: str, series: str, tick: Tick) -> set[str]:
        """The UIDs of a series, page by page; an archive that pages not is asked once more."""
        found: set[str] = set()
        while True:
            tick()
            page = self._page(http, f"{self._address(study, series)}/instances", len(found))
            if not page - found:
                return found
            found |= page
            if len(page) < PAGE:
                return found

    def _page(self, http: httpx.Client, url: str, offset: int) -> set[str]:
        wanted = {"includefield": SOP_INSTANCE, "limit": PAGE, "offset": offset}
        with _answered(http, "GET", url, params=wanted, headers={"Accept": JSON}) as answer:
            if answer.status_code in (204, 404):
                return set()
            _require_ok(answer)
            listed = _json(_bounded(answer))
        try:
            return {str(one[SOP_INSTANCE]["Value"][0]) for one in listed or []}
        except (KeyError, IndexError, TypeError):
            raise PacsUnavailableError("The archive's list of instances has no UIDs.") from None

    def _retrieve(self, http: httpx.Client, url: str, landing: Landing, tick: Tick) -> None:
        with _answered(http, "GET", url, headers={"Accept": ANY_SYNTAX}) as answer:
            if answer.status_code == 404:
                raise PacsSeriesNotFoundError
            _require_ok(answer)
            kind = answer.headers.get("content-type", "")
            boundary = boundary_of(kind)
            if boundary is None:
                raise PacsUnavailableError("The archive answered in a form that was not asked for.")
            _land(pieces(_ticking(answer, tick), boundary), landing)

    # ---- storing -----------------------------------------------------------------------------

    def store(self, objects: Sequence[Sending], tick: Tick) -> Sent:
        """As `Archive.store`; an answer that was lost is made up for by looking."""
        refused = 0
        with self._client() as http:
            before = self._there(http, objects, tick)
            for batch in batches([one for one in objects if one.meta.uid not in before]):
                tick()
                refused += len(self._send(http, batch, tick))
        if refused:
            raise PacsObjectRefusedError(
                f"The archive refused {refused} of {len(objects)} objects; those that it takes "
                "were stored."
            )
        there = sum(one.meta.uid in before for one in objects)
        return Sent(len(objects) - there, there)

    def _there(self, http: httpx.Client, objects: Sequence[Sending], tick: Tick) -> set[str]:
        """Which of the objects the archive has."""
        series: dict[tuple[str, str], set[str]] = defaultdict(set)
        for one in objects:
            series[one.study, one.series].add(one.meta.uid)
        there: set[str] = set()
        for (study, number), uids in series.items():
            there |= uids & _tried(partial(self._instances, http, study, number, tick), tick)
        return there

    def _send(self, http: httpx.Client, batch: Batch, tick: Tick) -> set[str]:
        """Send a batch until each object is kept or refused; gives the refused ones."""
        refused: set[str] = set()
        for n in range(TRIES):
            error: PacsUnavailableError | None = None
            try:
                kept = self._post(http, batch, tick)
            except PacsRefusedError:
                raise
            except PacsUnavailableError as caught:
                error, kept = caught, Kept()
            refused |= kept.refused
            batch = batch.without(kept.kept | kept.refused)
            if batch.objects:  # not a word about these: perhaps they arrived all the same
                wait(FIRST_PAUSE_S * 4**n, tick)
                batch = batch.without(self._there(http, batch.objects, tick))
            if not batch.objects:
                return refused
        raise error or PacsUnavailableError(
            "The archive did not confirm every object that was sent to it."
        )

    def _post(self, http: httpx.Client, batch: Batch, tick: Tick) -> Kept:
        boundary = secrets.token_hex(16)
        headers = {
            "Accept": JSON,
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Content-Length": str(batch.length(boundary)),
        }
        body = batch.body(boundary, tick)
        url = f"{self._base}/studies"
        with _answered(http, "POST", url, content=body, headers=headers) as answer:
            if answer.status_code not in (200, 202, 409):
                _require_ok(answer)
            with suppress(PacsUnavailableError):  # then each object is looked for
                return kept_of(_json(_bounded(answer)))
        return Kept()

    # ---- connecting --------------------------------------------------------------------------

    def _address(self, study: str, series: str) -> str:
        return f"{self._base}/studies/{study}/series/{series}"

    def _client(self) -> httpx.Client:
        """No redirects: the next host is no peer. No proxies or .netrc from the environment."""
        peer = self._peer
        headers = {"Accept-Encoding": "identity"}
        if peer.token is not None:
            headers["Authorization"] = f"Bearer {peer.token.reveal()}"
        auth = None
        if peer.username is not None and peer.password is not None:
            auth = httpx.BasicAuth(peer.username, peer.password.reveal())
        return httpx.Client(
            auth=auth,
            headers=headers,
            verify=client_context(peer.tls),
            timeout=httpx.Timeout(peer.timeout_s, connect=peer.connect_timeout_s),
            follow_redirects=False,
            trust_env=False,
        )


@contextmanager
def _answered(http: httpx.Client, method: str, url: str, **more: Any) -> Iterator[httpx.Response]:
    """The answer, to be read as it comes. A library's error may name the address, so it ends here.

    Raises:
        PacsUnavailableError: If there is none.
    """
    try:
        with http.stream(method, url, **more) as answer:
            yield answer
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError):
        raise PacsUnavailableError from None


def _require_ok(answer: httpx.Response) -> None:
    status = answer.status_code
    if status == 200:
        return
    if status in BUSY or status >= 500:
        raise PacsUnavailableError(f"The archive answered with status {status}.")
    raise PacsRefusedError(
        f"The archive refused the request with status {status}; its operator has to let this "
        "service in, and the peer's address and secrets must be right."
    )


def _tried(call: Callable[[], T], tick: Tick) -> T:
    """Try again what does no harm twice."""
    for n in range(TRIES):
        try:
            return call()
        except PacsRefusedError:
            raise
        except PacsUnavailableError:
            if n == TRIES - 1:
                raise
            wait(FIRST_PAUSE_S * 4**n, tick)
    raise PacsUnavailableError


def _ticking(answer: httpx.Response, tick: Tick) -> Iterator[bytes]:
    for chunk in answer.iter_raw(CHUNK):
        tick()
        yield chunk


def _bounded(answer: httpx.Response) -> bytes:
    body = bytearray()
    for chunk in answer.iter_raw(CHUNK):
        body += chunk
        if len(body) > LARGEST_ANSWER:
            raise PacsUnavailableError("The archive's answer is larger than a list can be.")
    return bytes(body)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body) if body.strip() else None
    except (ValueError, RecursionError):
        raise PacsUnavailableError("The archive's answer is not JSON.") from None


def _land(parts: Iterator[Any], landing: Landing) -> None:
    """Write each part to a file of its own."""
    try:
        for piece in parts:
            if piece.begins:
                landing.end_file()
                landing.begin_file()
            else:
                landing.write(piece.data)
        landing.end_file()
    except BaseException:
        landing.drop_file()
        raise
