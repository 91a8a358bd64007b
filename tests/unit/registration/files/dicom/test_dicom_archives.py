"""Zip archives that strangers packed, read as images: 25 attacks, and what good ones may hold."""

import io
import random
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from service.archives import ArchiveLimits, unpack_numbered
from service.errors import InvalidFileError, InvalidRequestError
from service.registration.files.limits import Limits
from service.registration.files.volume_file import read_image
from tests.dicom_malformed_series import AFFINE, DATA, SLICES, series

LIMITS = Limits(max_voxels=1 << 20, max_axis=1024, max_bytes=8 << 20)
SMALL = ArchiveLimits(max_files=200, max_bytes=4 << 20)
Members = list[tuple[str | zipfile.ZipInfo, bytes]]
END = b"PK\x05\x06"


def packed(members: Members, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, data in members:
            entry = zipfile.ZipInfo(name) if isinstance(name, str) else name
            archive.writestr(entry, data, method)
    return made.getvalue()


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("slices") / "series"
    series(folder)
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def linked(target: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo("link")
    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return entry


def device() -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo("device")
    entry.create_system, entry.external_attr = 3, (stat.S_IFCHR | 0o666) << 16
    return entry


def replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new)


def encrypted() -> bytes:
    data = bytearray(packed([("a", b"secret" * 9)]))
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + offset] |= 1
    return bytes(data)


def forged(size: int) -> bytes:
    """A member that announces another size than it has, in both of its headers."""
    data = bytearray(packed([("a", bytes(100_000))]))
    struct.pack_into("<L", data, data.index(b"PK\x03\x04") + 22, size)
    struct.pack_into("<L", data, data.index(b"PK\x01\x02") + 24, size)
    return bytes(data)


def overlapping(count: int) -> bytes:
    """Many entries of one file's bytes, as in zip bombs that need no recursion."""
    data = packed([("a", bytes(60_000))])
    start, end = data.index(b"PK\x01\x02"), data.index(END)
    entries = data[start:end] * count
    tail = END + struct.pack("<4H2LH", 0, 0, count, count, len(entries), start, 0)
    return data[:start] + entries + tail


def vast(count: int, told: int) -> bytes:
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0,
                        0, 0, 0, 0) + b"a"  # fmt: skip
    directory = entry * count
    return (
        b"PK\x03\x04"
        + bytes(30)
        + directory
        + END
        + struct.pack("<4H2LH", 0, 0, told, told, len(directory), 34, 0)
    )


def quine_like() -> bytes:
    """An archive that holds an archive that holds it, a few times over."""
    data = packed([("a.txt", b"x" * 1000)])
    for _ in range(5):
        data = packed([("self.zip", data)], zipfile.ZIP_STORED)
    return data


def in_64_bits() -> bytes:
    data = bytearray(packed([("a", bytes(100))]))
    struct.pack_into("<LL", data, data.index(b"PK\x01\x02") + 20, 0xFFFFFFFF, 0xFFFFFFFF)
    return bytes(data)


GOOD = packed([("a", b"x" * 500), ("b", random.Random(1).randbytes(500))])
MIB_8 = bytes(8 << 20)
# What is sent, and the code of the refusal when it is read as an image.
ATTACKS: dict[str, tuple[Callable[[], bytes], str]] = {
    "up": (lambda: packed([("../../evil", b"x")]), "no-dicom"),
    "absolute": (lambda: packed([("/etc/passwd", b"x")]), "no-dicom"),
    "drive": (lambda: packed([("C:\\evil", b"x")]), "no-dicom"),
    "null-in-name": (lambda: replaced(packed([("aXb", b"x")]), b"aXb", b"a\0b"), "no-dicom"),
    "right-to-left": (lambda: packed([("a\u202egnp.exe", b"x")]), "no-dicom"),
    "long-name": (lambda: packed([("n" * 60_000, b"x")]), "no-dicom"),
    "same-name-often": (lambda: overlapping(50), "no-dicom"),
    "link": (lambda: packed([(linked("/etc"), b"/etc/passwd")]), "archive-member"),
    "device": (lambda: packed([(device(), b"")]), "archive-member"),
    "ratio": (lambda: packed([(str(n), MIB_8) for n in range(4)]), "archive-too-large"),
    "ratio-one-file": (lambda: packed([("a", MIB_8 * 5)]), "archive-too-large"),
    "overlap": (lambda: overlapping(900), "archive-too-large"),
    "forged-smaller": (lambda: forged(10), "invalid-archive"),
    "forged-larger": (lambda: forged(200_000), "no-dicom"),
    "forged-4-gib": (lambda: forged(0xFFFFFFF0), "archive-too-large"),
    "forged-64-bits": (in_64_bits, "archive-too-large"),
    "million-entries": (lambda: vast(1_000_000, 65_535), "archive-too-many-files"),
    "entries-not-told": (lambda: vast(1_000_000, 1), "archive-too-many-files"),
    "nested": (lambda: packed([("b.zip", GOOD)]), "archive-nested"),
    "nested-renamed": (lambda: packed([("b.dcm", GOOD)]), "archive-nested"),
    "quine": (quine_like, "archive-nested"),
    "encrypted": (encrypted, "invalid-archive"),
    "bzip2": (lambda: packed([("a", b"x" * 99)], zipfile.ZIP_BZIP2), "invalid-archive"),
    "lzma": (lambda: packed([("a", b"x" * 99)], zipfile.ZIP_LZMA), "invalid-archive"),
    "empty": (lambda: packed([]), "invalid-archive"),
    "folders-only": (lambda: packed([("a/", b""), ("a/b/", b"")]), "invalid-archive"),
    "cut": (lambda: GOOD[: len(GOOD) // 2], "invalid-archive"),
    "without-directory": (lambda: GOOD[: GOOD.index(b"PK\x01\x02")], "invalid-archive"),
    "directory-elsewhere": (lambda: replaced(GOOD, b"PK\x01\x02", b"PK\x01\x09"),
                            "invalid-archive"),
    "flipped": (lambda: replaced(GOOD, b"PK\x03\x04", b"PK\x03\x09")[:0] + b"PK\x03\x04"
                + bytes(200), "invalid-archive"),
}  # fmt: skip


def test_there_are_enough_attacks() -> None:
    assert len(ATTACKS) >= 25


@pytest.mark.parametrize("name", ATTACKS)
def test_read_as_an_image(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    monkeypatch.setattr("service.registration.files.dicom.source.MOST_FILES", 300)
    make, code = ATTACKS[name]
    (tmp_path / "sent").write_bytes(make())
    with pytest.raises(InvalidRequestError) as caught:
        read_image(tmp_path / "sent", LIMITS, "moving")
    assert caught.value.slug == code
    assert not isinstance(caught.value, InvalidFileError) or caught.value.field == "moving"
    assert {path.name for path in tmp_path.iterdir()} == {"scratch", "sent"}
    assert not list(scratch.iterdir())


@pytest.mark.parametrize("name", ["../../evil", "/abs", "a\\b", "CON", "SAME", "x" * 300])
def test_names_mean_nothing(name: str, slices: list[bytes], tmp_path: Path) -> None:
    members: Members = [(name, slices[0]), ("same", slices[1])]
    (tmp_path / "sent").write_bytes(packed(members))
    contents = unpack_numbered(tmp_path / "sent", tmp_path / "out", SMALL)
    assert contents.files == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["00000001", "00000002"]


def test_an_archive_with_more_than_the_series_is_read(slices: list[bytes], tmp_path: Path) -> None:
    others: Members = [
        ("DICOMDIR", b"\0" * 128 + b"DICM"[:3]),
        ("viewer/viewer.exe", b"MZ" + bytes(500)),
        ("viewer/data.zip", GOOD),
        ("__MACOSX/._a", b"x"),
        ("notes.txt", b"hello"),
    ]
    members: Members = [(f"deep/{n}/IM", data) for n, data in enumerate(slices)]
    (tmp_path / "sent").write_bytes(packed(others + members))
    volume, origin = read_image(tmp_path / "sent", LIMITS)
    np.testing.assert_array_equal(volume.data, DATA)
    np.testing.assert_allclose(volume.grid.affine, AFFINE)
    assert origin is not None
    assert len(origin["instances"]) == SLICES
