"""A training's data from afar: files by address, a bucket's listing; limits and deceit."""

import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

from service.archives import ArchiveLimits
from service.errors import (
    ArchivePathError,
    ArchiveTooLargeError,
    ArchiveTooManyFilesError,
    JobCancelledError,
    UrlFetchError,
    UrlNotAllowedError,
)
from service.jobs.job import InputFile
from service.stores.memory_files import MemoryBlobStore
from service.stores.signing import UrlSigner
from service.worker import fetch as fetch_module
from service.worker.fetch import UrlRules
from service.worker.training_data import DataFetcher, read_listing

PAGE = 2


def zipped() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("images/z.nii.gz", b"z")
    return packed.getvalue()


OBJECTS = {
    "hippo/images/a b&c.nii.gz": b"a" * 100,
    "hippo/images/": b"",
    "hippo/images/b.nii.gz": b"b" * 200,
    "hippo/labels/a.nii.gz": b"c",
    "other/x": b"x",
    "up/../../evil": b"x",
    "packed/data.zip": zipped(),
}


class Bucket(BaseHTTPRequestHandler):
    """ListObjectsV2 and GET, as S3 answers them, two keys a page."""

    def do_GET(self) -> None:
        parts, query = urlsplit(self.path), parse_qs(urlsplit(self.path).query)
        if "list-type" in query:
            self._answer(self._page(query).encode())
        else:
            key = unquote(parts.path).removeprefix("/bucket/")
            self._answer(OBJECTS.get(key), 200 if key in OBJECTS else 404)

    def _page(self, query: dict[str, list[str]]) -> str:
        keys = [key for key in OBJECTS if key.startswith(query["prefix"][0])]
        start = int(query.get("continuation-token", ["0"])[0])
        items = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>1</Size></Contents>"
            for key in keys[start : start + PAGE]
        )
        more = start + PAGE < len(keys)
        token = f"<NextContinuationToken>{start + PAGE}</NextContinuationToken>" if more else ""
        head = '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        return f"{head}<Name>bucket</Name>{token}{items}</ListBucketResult>"

    def _answer(self, body: bytes | None, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a host on a busy machine."""
    monkeypatch.setattr(fetch_module, "CONNECT_TIMEOUT_S", 120)
    monkeypatch.setattr(fetch_module, "READ_TIMEOUT_S", 120)


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(
    inputs: dict[str, str], folder: Path, host: str, tick: Any = lambda: None, **limits: int
) -> dict[str, bytes]:
    """Fetch addresses by role; gives what came by path."""
    blobs = MemoryBlobStore(UrlSigner(b"s", "http://x"))
    bounds = ArchiveLimits(**({"max_files": 10, "max_bytes": 10_000} | limits))
    fetcher = DataFetcher(blobs, UrlRules.of(host, 1), bounds)
    files = {role: InputFile(url=url) for role, url in inputs.items()}
    root = fetcher.fetch(files, folder / "in", tick)
    found = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def listing(host: str, prefix: str) -> dict[str, str]:
    return {"listing": f"http://{host}/bucket?list-type=2&prefix={prefix}"}


def test_files_by_address_come_to_lie_at_their_paths(host: str, tmp_path: Path) -> None:
    inputs = {
        "data/images/a.nii.gz": f"http://{host}/bucket/hippo/images/b.nii.gz",
        "data/x": f"http://{host}/bucket/other/x",
    }
    found = fetch(inputs, tmp_path, host)
    assert found == {"images/a.nii.gz": b"b" * 200, "x": b"x"}


def test_everything_that_a_bucket_lists_is_fetched(host: str, tmp_path: Path) -> None:
    assert fetch(listing(host, "hippo%2F"), tmp_path, host) == {
        "images/a b&c.nii.gz": b"a" * 100,
        "images/b.nii.gz": b"b" * 200,
        "labels/a.nii.gz": b"c",
    }


@pytest.mark.parametrize("prefix", ["packed%2F", ""])
def test_one_archive_by_address_is_unpacked(host: str, tmp_path: Path, prefix: str) -> None:
    inputs = {"data/data.zip": f"http://{host}/bucket/packed/data.zip"}
    source = listing(host, prefix) if prefix else inputs
    assert fetch(source, tmp_path, host) == {"images/z.nii.gz": b"z"}


def test_a_key_that_leaves_the_folder_is_refused(host: str, tmp_path: Path) -> None:
    with pytest.raises(ArchivePathError):
        fetch(listing(host, "up%2F"), tmp_path, host)
    assert not (tmp_path / "evil").exists()


def test_too_much_is_refused(host: str, tmp_path: Path) -> None:
    with pytest.raises(ArchiveTooManyFilesError):
        fetch(listing(host, "hippo%2F"), tmp_path, host, max_files=2)
    (tmp_path / "2").mkdir()
    with pytest.raises(ArchiveTooLargeError):
        fetch(listing(host, "hippo%2F"), tmp_path / "2", host, max_bytes=250)


def test_a_host_that_is_not_listed_is_not_asked(host: str, tmp_path: Path) -> None:
    with pytest.raises(UrlNotAllowedError):
        fetch(listing(host, "hippo%2F"), tmp_path, "elsewhere.example.org")


def test_what_is_missing_fails_without_telling_where(host: str, tmp_path: Path) -> None:
    with pytest.raises(UrlFetchError) as caught:
        fetch({"data/secret.nii": f"http://{host}/bucket/none"}, tmp_path, host)
    assert caught.value.field == "/data"
    assert "secret" not in caught.value.detail


def test_fetching_stops_when_told_to(host: str, tmp_path: Path) -> None:
    def stop() -> None:
        raise JobCancelledError

    with pytest.raises(JobCancelledError):
        fetch(listing(host, "hippo%2F"), tmp_path, host, stop)


LAUGHS = (
    b'<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><ListBucketResult><Contents>'
    b"<Key>&b;</Key></Contents></ListBucketResult>"
)


@pytest.mark.parametrize("document", [b"", b"<a>", b"{}", LAUGHS, b"\xff\xfe<"])
def test_what_is_no_listing_is_refused(document: bytes) -> None:
    with pytest.raises(UrlFetchError):
        read_listing(document)
