"""Brings a training's data to a folder: an archive, files by address, or what a bucket lists."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit
from xml.parsers import expat

from service.archives import ArchiveLimits, Contents, unpack
from service.errors import UrlFetchError
from service.jobs.datasets import ARCHIVE, LISTING, data_paths
from service.jobs.job import InputFile
from service.jobs.ports import BlobStore
from service.paths import checked_path
from service.worker.fetch import Tick, UrlRules, fetch_input

ARCHIVE_NAMES = (".zip", ".tar.gz", ".tgz")
LARGEST_PAGE_BYTES = 8 << 20
FIELD = "/data"

Source = tuple[PurePosixPath, InputFile]


@dataclass(frozen=True)
class DataFetcher:
    """Fetches within the limits that the operator set."""

    blobs: BlobStore
    rules: UrlRules
    limits: ArchiveLimits

    def fetch(self, inputs: dict[str, InputFile], folder: Path, tick: Tick) -> Path:
        """Bring everything below `folder`; gives the data root.

        Raises:
            InvalidArchiveError: If an archive or a path cannot be taken, or there is too much.
            UrlFetchError, UrlNotAllowedError, UploadNotFoundError, ChecksumMismatchError: If a
                file does not come.
        """
        folder.mkdir()
        root = folder / "data"
        if ARCHIVE in inputs:
            return self._unpacked(inputs[ARCHIVE], folder, tick)
        sources = [(path, inputs[role]) for role, path in data_paths(inputs).items()]
        if LISTING in inputs:
            sources = list(self._listed(str(inputs[LISTING].url), folder, tick))
        if len(sources) == 1 and sources[0][0].name.lower().endswith(ARCHIVE_NAMES):
            return self._unpacked(sources[0][1], folder, tick)
        root.mkdir()
        contents = Contents(self.limits)
        for path, file in sources:
            target = root / contents.admit(str(path))
            target.parent.mkdir(parents=True, exist_ok=True)
            self._fetch(file, target, self.rules.max_bytes, tick)
            contents.grow(target.stat().st_size)
        return root

    def _unpacked(self, file: InputFile, folder: Path, tick: Tick) -> Path:
        archive, root = folder / "archive", folder / "data"
        self._fetch(file, archive, self.rules.max_bytes, tick)
        unpack(archive, root, self.limits, tick)
        archive.unlink()
        return root

    def _fetch(self, file: InputFile, target: Path, most_bytes: int, tick: Tick) -> None:
        rules = UrlRules(self.rules.hosts, min(self.rules.max_bytes, most_bytes))
        fetch_input(file, FIELD, target, self.blobs, rules, tick)

    def _listed(self, address: str, folder: Path, tick: Tick) -> Iterator[Source]:
        """Everything that a bucket lists, page by page."""
        parts = urlsplit(address)
        bucket = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
        prefix = parse_qs(parts.query).get("prefix", [""])[0]
        count, page = 0, address
        while True:
            target = folder / "listing"
            self._fetch(InputFile(url=page), target, LARGEST_PAGE_BYTES, tick)
            listing = read_listing(target.read_bytes())
            target.unlink()
            for key in listing.keys:
                if not key.endswith("/") and key.startswith(prefix):
                    path = checked_path(key.removeprefix(prefix).lstrip("/"))
                    yield path, InputFile(url=f"{bucket}/{quote(key)}")
            count += len(listing.keys)
            if listing.token is None or count > self.limits.max_files:
                return
            page = f"{address}&continuation-token={quote(listing.token, safe='')}"


@dataclass
class Listing:
    """One page of a bucket's listing (ListObjectsV2)."""

    keys: list[str]
    token: str | None = None


def read_listing(document: bytes) -> Listing:
    """Read the XML of a page; a document type, and so an entity, is refused.

    Raises:
        UrlFetchError: If it is no listing.
    """
    parser, found, text = expat.ParserCreate(), Listing([]), [""]

    def begin(_name: str, _attributes: dict[str, str]) -> None:
        text[0] = ""

    def more(data: str) -> None:
        text[0] += data

    def end(name: str) -> None:
        if name.rpartition(":")[2] == "Key":
            found.keys.append(text[0])
        elif name.rpartition(":")[2] == "NextContinuationToken":
            found.token = text[0]

    def refuse(*_: object) -> None:
        raise _no_listing()

    parser.StartElementHandler, parser.EndElementHandler = begin, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = more, refuse
    try:
        parser.Parse(document, True)
    except expat.ExpatError as error:
        raise _no_listing() from error
    return found


def _no_listing() -> UrlFetchError:
    return UrlFetchError(
        "The bucket's address does not give a listing (ListObjectsV2).", field=FIELD
    )
