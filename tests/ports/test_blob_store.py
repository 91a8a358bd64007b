"""What every object store promises: memory, a folder, and S3 (a real Ceph gateway)."""

import errno
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from service.errors import (
    ConflictError,
    ResultNotFoundError,
    StorageFullError,
)
from service.jobs.ports import BlobStore
from service.stores import s3_blobs
from service.stores.local_blobs import LocalBlobStore
from service.stores.memory_files import MemoryBlobStore
from service.stores.s3_blobs import Bucket, S3BlobStore
from service.stores.signing import UrlSigner
from tests.ceph import CephS3

KEY = "jobs/5d0b/1/warped.nii.gz"
BIG = bytes(range(256)) * 20_000  # 5.1 MB: several chunks of every adapter
PATIENCE_S = 120  # of a busy machine
SIGNER = UrlSigner(b"secret", "http://127.0.0.1:1")


def s3_store(server: CephS3, *, public_endpoint: str | None = None, prefix: str = "") -> BlobStore:
    return S3BlobStore(
        Bucket(
            server.new_bucket(),
            prefix,
            "us-east-1",
            server.endpoint,
            public_endpoint,
            server.access_key,
            server.secret_key,
        )
    )


@pytest.fixture(params=["memory", "local", pytest.param("s3", marks=pytest.mark.servers)])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BlobStore]:
    if request.param == "memory":
        yield MemoryBlobStore(SIGNER)
    elif request.param == "local":
        yield LocalBlobStore(tmp_path / "objects", SIGNER)
    else:
        yield s3_store(request.getfixturevalue("s3_server"), prefix="here/there")


def test_an_object_comes_back_whole_in_pieces_and_as_a_file(
    blobs: BlobStore, tmp_path: Path
) -> None:
    (tmp_path / "source").write_bytes(BIG)
    blobs.put_file(KEY, tmp_path / "source")
    assert blobs.size(KEY) == len(BIG)
    assert blobs.get_bytes(KEY) == BIG
    assert blobs.get_bytes(KEY, 300, 1_200_000) == BIG[300:1_200_000]
    assert blobs.get_bytes(KEY, len(BIG) - 5, len(BIG) + 5) == BIG[-5:]
    assert blobs.get_bytes(KEY, len(BIG)) == b""
    assert b"".join(blobs.stream(KEY)) == BIG
    blobs.get_file(KEY, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == BIG


def test_an_empty_object_is_an_object(blobs: BlobStore, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    blobs.put_file(KEY, tmp_path / "empty")
    blobs.put_bytes(KEY, b"")
    assert blobs.size(KEY) == 0
    assert blobs.get_bytes(KEY) == b""


def test_an_object_is_written_once_but_the_same_write_may_repeat(blobs: BlobStore) -> None:
    blobs.put_bytes(KEY, b"first")
    blobs.put_bytes(KEY, b"first")
    with pytest.raises(ConflictError):
        blobs.put_bytes(KEY, b"other")
    assert blobs.get_bytes(KEY) == b"first"


def test_what_is_not_there_is_not_found(blobs: BlobStore, tmp_path: Path) -> None:
    assert blobs.size(KEY) is None
    with pytest.raises(ResultNotFoundError):
        blobs.get_bytes(KEY)
    with pytest.raises(ResultNotFoundError):
        list(blobs.stream(KEY))
    with pytest.raises(ResultNotFoundError):
        blobs.get_file(KEY, tmp_path / "copy")


@pytest.mark.parametrize(
    "key",
    [
        *("../x", "jobs/../../x", "/etc/passwd", "jobs//x", "jobs/.hidden", "", ".", ".incoming/x"),
        *("jobs/a\0b", "a\\b", "uploads/ü", "x" * 300, "jobs/a b"),
    ],
)
def test_no_key_leads_out_of_the_store(blobs: BlobStore, key: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("secret")
    with pytest.raises(ResultNotFoundError):
        blobs.get_bytes(key)
    with pytest.raises(ResultNotFoundError):
        blobs.put_bytes(key, b"x")
    with pytest.raises(ResultNotFoundError):
        blobs.signed_url(key, timedelta(minutes=1))
    with pytest.raises(ResultNotFoundError):
        blobs.delete([key])


def test_lists_are_by_prefix_and_deleting_twice_is_fine(blobs: BlobStore) -> None:
    keys = ["jobs/a/1/x", "jobs/a/1/y", "jobs/a/12/x", "jobs/ab/1/x", "uploads/a/data"]
    for key in keys:
        blobs.put_bytes(key, key.encode())
    assert blobs.list("jobs/a/1/") == keys[:2]
    assert blobs.list("jobs/a/1") == keys[:3]
    assert blobs.list("jobs/a/") == keys[:3]
    assert blobs.list("") == keys
    assert blobs.list("nothing/") == []
    blobs.delete(keys[:2])
    blobs.delete(keys[:2])
    assert blobs.list("jobs/") == keys[2:4]
    blobs.put_bytes(keys[0], b"again")
    assert blobs.get_bytes(keys[0]) == b"again"


# --- the folder ---


@pytest.fixture
def local(tmp_path: Path) -> LocalBlobStore:
    return LocalBlobStore(tmp_path / "objects", SIGNER)


def test_symbolic_links_are_not_followed(local: LocalBlobStore, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    local.put_bytes("jobs/a/1/x", b"x")
    (tmp_path / "objects" / "jobs" / "a" / "1" / "file").symlink_to(tmp_path / "secret")
    (tmp_path / "objects" / "jobs" / "folder").symlink_to(tmp_path)
    for key in ("jobs/a/1/file", "jobs/folder/secret"):
        assert local.size(key) is None
        with pytest.raises(ResultNotFoundError):
            local.get_bytes(key)


def test_an_object_is_on_the_disk_before_it_has_its_name(
    local: LocalBlobStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    steps = []
    fsync, link = os.fsync, os.link
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append("flush"), fsync(fd))[1])
    monkeypatch.setattr(os, "link", lambda a, b: (steps.append("name"), link(a, b))[1])
    local.put_bytes("jobs/a/x", b"x")
    # The data; the new folders objects/jobs and jobs/a; then the name itself.
    assert steps == ["flush", "flush", "flush", "name", "flush"]
    assert list((tmp_path / "objects" / ".incoming").iterdir()) == []


def test_a_folder_that_is_removed_while_its_next_object_is_written_comes_back(
    local: LocalBlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleting the last object of a folder takes the folder away, perhaps at a bad moment."""
    make_folder = local._make_folder
    made = []

    def vanishing(folder: Path) -> None:
        make_folder(folder)
        made.append(folder)
        if len(made) == 1:
            folder.rmdir()

    monkeypatch.setattr(local, "_make_folder", vanishing)
    local.put_bytes(KEY, b"x")
    assert (local.get_bytes(KEY), len(made)) == (b"x", 2)


def test_a_full_disk_is_said_and_leaves_nothing(
    local: LocalBlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFullError):
        local.put_bytes(KEY, b"x")
    monkeypatch.undo()
    assert local.list("") == []
    local.put_bytes(KEY, b"x")


def test_what_killed_writers_left_is_removed_later(local: LocalBlobStore, tmp_path: Path) -> None:
    part = tmp_path / "objects" / ".incoming" / "abandoned"
    part.write_bytes(b"half")
    assert local.list("") == []
    assert local.delete_stale_parts(timedelta(hours=1)) == 0
    os.utime(part, (0, 0))
    assert local.delete_stale_parts(timedelta(hours=1)) == 1
    assert not part.exists()


# --- S3's own signatures, against a server that does check them ---


def got(url: str) -> httpx.Response:
    return httpx.get(url, timeout=PATIENCE_S)


@pytest.mark.servers
def test_a_presigned_url_reads_one_object_and_nothing_else(s3_server: CephS3) -> None:
    blobs = s3_store(s3_server)
    blobs.put_bytes("jobs/a/1/report.json", b"{}")
    blobs.put_bytes("jobs/a/1/other.json", b"no")
    url = blobs.signed_url("jobs/a/1/report.json", timedelta(minutes=5))
    answer = got(url)
    assert (answer.status_code, answer.content) == (200, b"{}")
    assert answer.headers["content-type"] == "application/json"
    assert got(url.replace("report", "other")).status_code == 403
    assert got(url[:-1] + ("0" if url[-1] != "0" else "1")).status_code == 403
    assert got(url.partition("?")[0]).status_code == 403
    assert httpx.put(url, content=b"overwritten", timeout=PATIENCE_S).status_code == 403
    assert got(blobs.signed_url("jobs/a/1/none", timedelta(minutes=5))).status_code == 404


@pytest.mark.servers
def test_a_presigned_url_expires(s3_server: CephS3) -> None:
    blobs = s3_store(s3_server)
    blobs.put_bytes(KEY, b"x")
    lasting = blobs.signed_url(KEY, timedelta(minutes=5))
    expiring = blobs.signed_url(KEY, timedelta(seconds=1))
    deadline = time.monotonic() + PATIENCE_S
    while got(expiring).status_code != 403:
        assert time.monotonic() < deadline, "a URL for one second still works after minutes"
        time.sleep(0.1)
    assert got(lasting).status_code == 200


@pytest.mark.servers
def test_urls_are_signed_for_the_host_that_clients_use(s3_server: CephS3) -> None:
    public = s3_server.endpoint.replace("127.0.0.1", "localhost")
    blobs = s3_store(s3_server, public_endpoint=public)
    blobs.put_bytes(KEY, b"x")
    url = blobs.signed_url(KEY, timedelta(minutes=5))
    assert url.startswith(public)
    assert got(url).content == b"x"
    assert got(url.replace("localhost", "127.0.0.1")).status_code == 403


def test_a_file_is_taken_as_it_is(blobs: BlobStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(BIG)
    blobs.take_file(KEY, source)
    blobs.take_file(KEY, source)
    source.unlink()
    assert blobs.get_bytes(KEY) == BIG
    source.write_bytes(b"other")
    with pytest.raises(ConflictError):
        blobs.take_file(KEY, source)


@pytest.mark.servers
def test_a_large_object_goes_in_parts_and_is_written_once(
    s3_server: CephS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_blobs, "LARGEST_SINGLE_PUT", 1 << 20)
    blobs = s3_store(s3_server)
    large = os.urandom(2 * s3_blobs.PART_BYTES + 12_345)
    (tmp_path / "source").write_bytes(large)
    blobs.put_file(KEY, tmp_path / "source")
    blobs.put_file(KEY, tmp_path / "source")
    assert blobs.get_bytes(KEY) == large
    (tmp_path / "source").write_bytes(large[::-1])
    with pytest.raises(ConflictError):
        blobs.put_file(KEY, tmp_path / "source")


def test_a_file_is_shared_while_it_grows_or_not_at_all(blobs: BlobStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"begun")
    if not blobs.share_file(KEY, source):
        assert blobs.size(KEY) is None
        return
    with source.open("ab") as file:
        file.write(b", goes on")
    assert blobs.get_bytes(KEY, 0, 5) == b"begun"
    source.unlink()
    assert blobs.get_bytes(KEY, 0, 5) == b"begun"


def test_a_file_on_another_disk_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def far_away(source: Path, _target: Path) -> None:
        if "incoming" not in str(source):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real(source, _target)

    real = os.link
    monkeypatch.setattr(os, "link", far_away)
    blobs = LocalBlobStore(tmp_path / "objects", SIGNER)
    (tmp_path / "source").write_bytes(BIG)
    assert not blobs.share_file(KEY, tmp_path / "source")
    blobs.take_file(KEY, tmp_path / "source")
    assert blobs.get_bytes(KEY) == BIG
