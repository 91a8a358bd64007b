"""A growing file: acknowledged piece by piece on any store, past the page cache or through it."""

import hashlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from service.errors import UploadIncompleteError
from service.gateway import growing, spool_files
from service.gateway.growing import Growing
from service.gateway.spool_files import BLOCK_BYTES, BUFFER_BYTES, PlainFile, spool_file
from service.jobs.job import Upload
from service.stores.build import Stores
from service.stores.memory_files import MemoryBlobStore
from service.stores.signing import UrlSigner
from tests.unit.gateway.conftest import Api

DATA = hashlib.shake_128(b"growing").digest(5 * BUFFER_BYTES + 1234)


@pytest.fixture(params=["shared", "pieces"])
def stores(request: pytest.FixtureRequest, api: Api) -> Stores:
    """A store that can share a growing file, and one that cannot."""
    if request.param == "shared":
        return api.stores
    return replace(api.stores, blobs=MemoryBlobStore(UrlSigner(b"s", "http://x")))


def opened(stores: Stores) -> Upload:
    return stores.uploads.open("ada", len(DATA), timedelta(hours=1))


def again(stores: Stores, upload: Upload) -> Upload:
    return stores.uploads.upload(upload.id, "ada")


def sender(stores: Stores, upload: Upload, tmp_path: Path) -> Growing:
    """Another process that goes on with the upload."""
    return Growing(stores, again(stores, upload), tmp_path)


def test_many_senders_one_after_the_other(stores: Stores, tmp_path: Path) -> None:
    upload = opened(stores)
    for end in (1, 5000, 2 * BUFFER_BYTES - 1, 3 * BUFFER_BYTES):
        one = sender(stores, upload, tmp_path)
        one.write([DATA[one.end : (one.end + end) // 2], DATA[(one.end + end) // 2 : end]])
        one.acknowledge()
        one.write([b"never acknowledged"])
        assert again(stores, upload).received == end
    last = sender(stores, upload, tmp_path)
    last.write([DATA[last.end :]])
    done = last.finish()
    assert (done.is_complete, done.sha256) == (True, hashlib.sha256(DATA).hexdigest())
    assert stores.blobs.get_bytes(done.key) == DATA
    assert last.path is None
    assert stores.blobs.list("uploads/") == [done.key]


def test_one_sender_needs_no_second_copy(api: Api, tmp_path: Path) -> None:
    upload = opened(api.stores)
    one = sender(api.stores, upload, tmp_path)
    for start in range(0, len(DATA), 2**20):
        one.write([DATA[start : start + 2**20]])
        one.sum_up([DATA[start : start + 2**20]])
        one.acknowledge()
    assert again(api.stores, upload).received == len(DATA) - 1  # the last byte is `finish`'s
    assert len(api.stores.blobs.list("uploads/")) == 1
    done = one.finish()
    path = one.path
    assert path is not None
    assert path.stat().st_ino == (api_objects(api) / done.key).stat().st_ino
    assert path.read_bytes() == DATA


def api_objects(api: Api) -> Path:
    folder: Path = api.app.state.desk.settings.data_dir
    return folder / "objects"


def test_a_piece_that_nobody_knew_of_is_passed_over(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = opened(stores)
    dying = sender(stores, upload, tmp_path)
    dying.write([DATA[:1000]])
    dying.acknowledge()
    dying.write([b"\0" * 9000])
    with monkeypatch.context() as patch:
        patch.setattr(type(stores.uploads), "advance", _killed)
        with pytest.raises(RuntimeError):
            dying.acknowledge()
    last = sender(stores, upload, tmp_path)
    assert last.end == 1000
    last.write([DATA[1000:5000]])
    last.acknowledge()
    after = sender(stores, upload, tmp_path)
    after.write([DATA[5000:]])
    assert stores.blobs.get_bytes(after.finish().key) == DATA


def _killed(*_args: Any) -> Any:
    raise RuntimeError("killed")


def test_what_a_power_cut_took_is_told(api: Api, tmp_path: Path) -> None:
    upload = opened(api.stores)
    one = sender(api.stores, upload, tmp_path)
    one.write([DATA[:9000]])
    one.acknowledge()
    [key] = api.stores.blobs.list("uploads/")
    with (api_objects(api) / key).open("rb+") as file:
        file.truncate(5000)
    last = sender(api.stores, upload, tmp_path)
    last.write([DATA[9000:]])
    with pytest.raises(UploadIncompleteError):
        last.finish()


def test_large_unacknowledged_bytes_become_several_pieces(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing, "LARGEST_PIECE_BYTES", 2**20)
    one = sender(stores, opened(stores), tmp_path)
    one.write([DATA[: 3 * 2**20]])
    ends = [one.acknowledge().received for _ in range(3)]
    assert ends in ([2**20, 2 * 2**20, 3 * 2**20], [3 * 2**20] * 3)


@pytest.mark.parametrize(
    "sizes",
    [
        [1],
        [BLOCK_BYTES],
        [BLOCK_BYTES - 1, 2, BLOCK_BYTES],
        [BUFFER_BYTES, BUFFER_BYTES + 1, 3],
        [3 * BUFFER_BYTES + 17, 5, 2 * BUFFER_BYTES],
        [1] * 9,
    ],
)
@pytest.mark.parametrize("flush", [False, True])
def test_what_is_written_directly_is_what_was_given(
    tmp_path: Path, sizes: list[int], flush: bool
) -> None:
    file = spool_file(tmp_path / "file", is_large=True)
    written = b""
    for size in sizes:
        data = DATA[len(written) : len(written) + size]
        half = size // 3
        file.write([data[:half], b"", data[half:]])
        written += data
        if flush:
            file.flush()
            assert (tmp_path / "file").read_bytes()[: len(written)] == written
    file.close()
    assert (tmp_path / "file").read_bytes() == written == DATA[: len(written)]


def test_a_file_system_without_direct_writes_gets_plain_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = spool_files.os.open

    def refusing(path: Any, flags: int, *mode: int) -> int:
        if flags & spool_files.os.O_DIRECT:
            raise OSError(spool_files.errno.EINVAL, "Invalid argument")
        return real(path, flags, *mode)

    monkeypatch.setattr(spool_files.os, "open", refusing)
    file = spool_file(tmp_path / "file", is_large=True)
    assert isinstance(file, PlainFile)
    file.write([b"abc"])
    file.close()
    assert (tmp_path / "file").read_bytes() == b"abc"
