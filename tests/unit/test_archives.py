"""Archives that strangers packed: good ones come out whole, each attack has its own code."""

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.archives import ArchiveLimits, look_through, unpack
from service.errors import (
    ArchiveMemberError,
    ArchiveNestedError,
    ArchivePathError,
    ArchiveTooLargeError,
    ArchiveTooManyFilesError,
    InvalidArchiveError,
    WarplineError,
)

LIMITS = ArchiveLimits(max_files=20, max_bytes=1 << 20)
FILES = {"images/a.nii.gz": b"a" * 3000, "labels/a.nii.gz": b"b" * 70_000, "list.csv": b""}

Pack = Callable[[dict[str, bytes]], bytes]


def zipped(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    return tarred_entries([(name, tarfile.REGTYPE, data, "") for name, data in files.items()])


def tarred_entries(entries: list[tuple[str, bytes, bytes, str]]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, kind, data, link in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size, entry.linkname = kind, len(data), link
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


BOTH = pytest.mark.parametrize("pack", [zipped, tarred])


def refuse(data: bytes, folder: Path, limits: ArchiveLimits = LIMITS) -> WarplineError:
    """The error of unpacking; nothing may come to lie outside the folder."""
    archive = folder / "archive"
    archive.write_bytes(data)
    with pytest.raises(InvalidArchiveError) as caught:
        unpack(archive, folder / "out", limits)
    outside = {path.name for path in folder.iterdir()} - {"archive", "out"}
    assert not outside
    assert not [path for path in (folder / "out").rglob("*") if path.is_symlink()]
    return caught.value


def refuse_at_the_door(data: bytes, folder: Path) -> WarplineError:
    archive = folder / "archive"
    archive.write_bytes(data)
    with pytest.raises(InvalidArchiveError) as caught:
        look_through(archive, LIMITS)
    return caught.value


@BOTH
def test_what_was_packed_comes_out(pack: Pack, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    junk = {"__MACOSX/images/._a": b"x", "images/.DS_Store": b"y"}
    archive.write_bytes(pack(FILES | junk))
    seen = look_through(archive, LIMITS)
    done = unpack(archive, tmp_path / "out", LIMITS)
    assert (seen.files, seen.bytes) == (done.files, done.bytes) == (3, 73_000)
    found = {
        str(path.relative_to(tmp_path / "out")): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert found == FILES


def test_archives_with_folder_entries_and_long_names_come_out(tmp_path: Path) -> None:
    long = "folder/" + "n" * 180
    (tmp_path / "archive").write_bytes(
        tarred_entries([("folder", tarfile.DIRTYPE, b"", ""), (long, tarfile.REGTYPE, b"x", "")])
    )
    unpack(tmp_path / "archive", tmp_path / "out", LIMITS)
    assert (tmp_path / "out" / long).read_bytes() == b"x"


@BOTH
@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../evil",
        "a/../../evil",
        "a/..",
        "C:/evil",
        "a\\..\\evil",
        "a\nb",
        "na\u202eme",
        "n" * 300,
        "/".join("abcdefghijklmnopqrst"),
        " a",
    ],
)
def test_a_path_that_leaves_or_deceives_is_refused(pack: Pack, name: str, tmp_path: Path) -> None:
    data = pack({"good": b"1", name: b"2"})
    assert isinstance(refuse(data, tmp_path), ArchivePathError)
    assert isinstance(refuse_at_the_door(data, tmp_path), ArchivePathError)


def test_a_name_with_a_null_is_refused(tmp_path: Path) -> None:
    data = zipped({"aXb": b"1"}).replace(b"aXb", b"a\0b")
    assert isinstance(refuse(data, tmp_path), ArchivePathError)


@BOTH
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("a", "A"), ("a", "a/b"), ("a/b", "a")])
def test_two_members_of_one_path_are_refused(
    pack: Pack, names: tuple[str, str], tmp_path: Path
) -> None:
    data = pack(dict.fromkeys(names, b"x"))
    assert isinstance(refuse(data, tmp_path), ArchivePathError)


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.CONTTYPE,
        tarfile.GNUTYPE_SPARSE,
    ],
)
def test_links_devices_and_sparse_files_are_refused(kind: bytes, tmp_path: Path) -> None:
    data = tarred_entries([("good", tarfile.REGTYPE, b"1", ""), ("bad", kind, b"", "/etc/passwd")])
    if kind == tarfile.CONTTYPE:  # contiguous: an ordinary file of an old system
        (tmp_path / "archive").write_bytes(data)
        assert unpack(tmp_path / "archive", tmp_path / "out", LIMITS).files == 2
        return
    assert isinstance(refuse(data, tmp_path), ArchiveMemberError)
    assert isinstance(refuse_at_the_door(data, tmp_path), ArchiveMemberError)


def test_a_link_within_a_zip_is_refused(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert isinstance(refuse(packed.getvalue(), tmp_path), ArchiveMemberError)


@BOTH
@pytest.mark.parametrize("name", ["a.zip", "b/c.tar.gz", "D.TGZ", "e.7z"])
def test_an_archive_within_an_archive_is_refused(pack: Pack, name: str, tmp_path: Path) -> None:
    assert isinstance(refuse(pack({name: b"PK"}), tmp_path), ArchiveNestedError)


@BOTH
def test_too_many_files_are_refused(pack: Pack, tmp_path: Path) -> None:
    data = pack({str(n): b"" for n in range(21)})
    error = refuse(data, tmp_path)
    assert isinstance(error, ArchiveTooManyFilesError)
    assert error.http_status == 413


def test_too_many_folders_are_refused(tmp_path: Path) -> None:
    data = tarred_entries([(f"d{n}", tarfile.DIRTYPE, b"", "") for n in range(30)])
    assert isinstance(refuse(data, tmp_path), ArchiveTooManyFilesError)


def test_a_zip_with_a_vast_directory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    data = zipped({"a": b"1"})
    at = data.rfind(b"PK\x05\x06")
    forged = data[: at + 12] + struct.pack("<L", 1 << 30) + data[at + 16 :]
    assert isinstance(refuse_at_the_door(forged, tmp_path), ArchiveTooManyFilesError)


@BOTH
def test_a_bomb_stops_at_the_limit(pack: Pack, tmp_path: Path) -> None:
    data = pack({"zeros": b"\0" * (8 << 20)})
    assert len(data) < 20_000
    error = refuse(data, tmp_path)
    assert isinstance(error, ArchiveTooLargeError)
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*")) <= 2 << 20
    assert isinstance(refuse_at_the_door(data, tmp_path), ArchiveTooLargeError)


def test_a_zip_that_announces_less_than_it_holds_is_refused(tmp_path: Path) -> None:
    data = bytearray(zipped({"zeros": b"\0" * (8 << 20)}))
    for magic, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<L", data, data.find(magic) + offset, 10)
    refuse(bytes(data), tmp_path)
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*")) < 2 << 20


def test_a_bomb_within_a_gzip_within_a_tar_stays_packed(tmp_path: Path) -> None:
    """A `.nii.gz` is a file like any other here; whoever reads it has limits of its own."""
    data = tarred({"a.nii.gz": gzip.compress(b"\0" * (8 << 20))})
    (tmp_path / "archive").write_bytes(data)
    assert unpack(tmp_path / "archive", tmp_path / "out", LIMITS).bytes < 20_000


def test_a_header_of_absurd_size_is_refused_without_the_memory(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("././@LongLink")
    entry.type, entry.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    data = gzip.compress(entry.tobuf(tarfile.GNU_FORMAT) + b"n" * 4096)
    assert isinstance(refuse(data, tmp_path), InvalidArchiveError)


def test_a_negative_size_is_refused(tmp_path: Path) -> None:
    header = bytearray(tarfile.TarInfo("a").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 11 + b"\x00"  # base 256: -256
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header[:512])
    assert isinstance(refuse(gzip.compress(bytes(header) * 2), tmp_path), InvalidArchiveError)


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    data = bytearray(zipped({"a": b"secret"}))
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.find(magic) + offset] |= 1
    assert "password" in refuse(bytes(data), tmp_path).detail


def test_a_zip_with_an_unusual_method_is_refused(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a", b"1")
    assert "deflate" in refuse(packed.getvalue(), tmp_path).detail


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello, world",
        b"PK\x03\x04",
        b"\x1f\x8b\x08",
        gzip.compress(b"not a tar" * 500),
        zipped(FILES)[:-30],
        tarred(FILES)[:-1000],
        zipped({}),
        tarred({}),
    ],
    ids=(  # gzip tells the time, and every process that collects tests must find the same names
        "nothing",
        "text",
        "start-of-zip",
        "start-of-gzip",
        "gzip-of-text",
        "cut-zip",
        "cut-tar",
        "empty-zip",
        "empty-tar",
    ),
)
def test_what_is_no_archive_or_only_a_part_is_refused(data: bytes, tmp_path: Path) -> None:
    assert refuse(data, tmp_path).slug == "invalid-archive"


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    data = bytearray(zipped(FILES))
    data[data.find(b"labels") + 20] ^= 0xFF
    assert refuse(bytes(data), tmp_path).slug == "invalid-archive"


@settings(max_examples=150, deadline=None)
@given(
    which=st.sampled_from([zipped(FILES), tarred(FILES)]),
    flips=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_only_our_errors_come_out_of_damaged_archives(
    which: bytes, flips: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    data = bytearray(which)
    for place, value in flips:
        data[place % len(data)] = value
    (folder / "archive").write_bytes(data)
    for attempt in (look_through, lambda path, limits: unpack(path, folder / "out", limits)):
        try:
            attempt(folder / "archive", LIMITS)
        except WarplineError:
            continue
