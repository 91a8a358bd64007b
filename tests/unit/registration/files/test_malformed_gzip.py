"""Damaged compression, and bombs: small files that announce or hold far too much."""

import gzip
import resource
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from service.errors import InvalidFileError, TruncatedFileError, VolumeTooLargeError
from service.registration.files.field_file import read_field
from service.registration.files.limits import Limits
from service.registration.files.volume_file import check_header, read_volume, verify_file

MIB = 1 << 20
Change = Callable[[bytes], bytes]


def flip(content: bytes, place: int) -> bytes:
    damaged = bytearray(content)
    damaged[place] ^= 0x10
    return bytes(damaged)


def with_trailer(sound: bytes, size: int) -> bytes:
    return gzip.compress(sound)[:-4] + size.to_bytes(4, "little")


# id: what becomes of a sound NIfTI file's bytes, and the code of the refusal
CASES: dict[str, tuple[Change, str]] = {
    "magic-alone": (lambda _: b"\x1f\x8b", "truncated-file"),
    "gzip-header-alone": (lambda sound: gzip.compress(sound)[:10], "truncated-file"),
    "cut-in-the-header": (lambda sound: gzip.compress(sound)[:60], "truncated-file"),
    "cut-in-the-voxels": (lambda sound: gzip.compress(sound)[:-30], "truncated-file"),
    "cut-in-the-trailer": (lambda sound: gzip.compress(sound)[:-3], "truncated-file"),
    "without-trailer": (lambda sound: gzip.compress(sound)[:-8], "truncated-file"),
    "checksum-first-byte": (lambda sound: flip(gzip.compress(sound), -8), "gzip-checksum"),
    "checksum-last-byte": (lambda sound: flip(gzip.compress(sound), -5), "gzip-checksum"),
    "length-first-byte": (lambda sound: flip(gzip.compress(sound), -4), "gzip-checksum"),
    "length-last-byte": (lambda sound: flip(gzip.compress(sound), -1), "gzip-checksum"),
    "length-of-nothing": (lambda sound: with_trailer(sound, 0), "gzip-checksum"),
    "a-stored-voxel-changed": (lambda sound: flip(gzip.compress(sound, 0), -20), "gzip-checksum"),
    "another-method": (lambda sound: flip(gzip.compress(sound), 2), "corrupt-file"),
    "comment-without-end": (lambda sound: flip(gzip.compress(sound), 3)[:60], "truncated-file"),
    "reserved-flags": (
        lambda sound: gzip.compress(sound)[:3] + b"\xe0" + gzip.compress(sound)[4:],
        "corrupt-file",
    ),
    "deflate-damaged": (
        lambda sound: gzip.compress(sound)[:10] + b"\x07" + gzip.compress(sound)[11:],
        "corrupt-file",
    ),
    "fewer-voxels": (lambda sound: gzip.compress(sound[:-1]), "truncated-file"),
    "header-alone": (lambda sound: gzip.compress(sound[:352]), "truncated-file"),
    "more-voxels": (lambda sound: gzip.compress(sound + bytes(1025)), "trailing-data"),
    "second-member": (lambda sound: gzip.compress(sound) * 12, "trailing-data"),
    "bomb-behind-the-voxels": (
        lambda sound: gzip.compress(sound + bytes(64 * MIB)),
        "trailing-data",
    ),
    "bomb-in-a-second-member": (
        lambda sound: gzip.compress(sound) + gzip.compress(bytes(64 * MIB)),
        "trailing-data",
    ),
    "damaged-second-member": (
        lambda sound: gzip.compress(sound) + flip(gzip.compress(b""), -8),
        "gzip-checksum",
    ),
    "text-behind": (lambda sound: gzip.compress(sound) + b"Doe^Jane", "trailing-data"),
    "zeros-behind": (lambda sound: gzip.compress(sound) + bytes(1025), "trailing-data"),
    "ten-thousand-members": (
        lambda sound: gzip.compress(sound) + gzip.compress(b"") * 10_000,
        "corrupt-file",
    ),
    "gzip-in-gzip": (lambda sound: gzip.compress(gzip.compress(sound)), "unsupported-format"),
    "gzip-of-a-text": (lambda _: gzip.compress(b"patient Doe^Jane " * 99), "unsupported-format"),
    "gzip-of-nothing": (lambda _: gzip.compress(b""), "unsupported-format"),
}


@pytest.mark.parametrize("case", CASES)
def test_damaged_compression_is_refused_by_name_and_in_little_memory(
    case: str,
    made: dict[str, Callable[..., bytes]],
    refused: Callable[[bytes], InvalidFileError],
    says_nothing_private: Callable[[InvalidFileError], None],
) -> None:
    change, slug = CASES[case]
    content = change(made["nifti"]())
    tracemalloc.start()
    try:
        error = refused(content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error.slug == slug
    assert peak < 4 * MIB
    says_nothing_private(error)


GOOD: dict[str, Change] = {
    "several-members": lambda sound: b"".join(
        gzip.compress(sound[at : at + 100]) for at in range(0, len(sound), 100)
    ),
    "a-name-and-a-comment": lambda sound: (
        b"\x1f\x8b\x08\x1e" + bytes(6) + b"\3\0abc" + b"Doe^Jane\0" + b"a comment\0" + b"\0\0"
    ) + gzip.compress(sound)[10:],
    "a-kibibyte-more": lambda sound: gzip.compress(sound + bytes(1024)),
    "padded-to-a-block": lambda sound: gzip.compress(sound) + bytes(512),
    "an-empty-last-member": lambda sound: gzip.compress(sound) + gzip.compress(b""),
}  # fmt: skip


@pytest.mark.parametrize("case", GOOD)
def test_unusual_but_sound_compression_is_read(
    case: str, made: dict[str, Callable[..., bytes]], tmp_path: Path
) -> None:
    path = tmp_path / "any-name"
    path.write_bytes(GOOD[case](made["nifti"]()))
    verify_file(path, Limits())
    volume = read_volume(path, Limits())
    assert_array_equal(volume.data.ravel(order="F"), np.arange(60))


def zeros(content: bytes, mib: int) -> bytes:
    """A gzip file of the content and then so many MiB of zeros, without compressing them all."""
    deflate = zlib.compressobj(9, wbits=-15)
    head = deflate.compress(content) + deflate.flush(zlib.Z_FULL_FLUSH)
    deflate = zlib.compressobj(9, wbits=-15)
    block = deflate.compress(bytes(MIB)) + deflate.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + head + block * mib + b"\x03\0" + bytes(8)


def test_four_gib_of_zeros_are_refused_from_the_header(
    made: dict[str, Callable[..., bytes]], tmp_path: Path
) -> None:
    path = tmp_path / "bomb.nii.gz"
    dims = (3, 2048, 1024, 1024, 1, 1, 1, 1)
    path.write_bytes(zeros(made["nifti"](dim=dims, data=b""), 4096))
    assert path.stat().st_size < 5 * MIB
    for read in (check_header, verify_file, read_volume):
        before_kib, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        with pytest.raises(VolumeTooLargeError):
            read(path, Limits(max_voxels=512**3), "fixed")
        assert time.process_time() - start < 2  # it takes ten
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 64 * 1024


SMALL_FILE_ALLOWED_SIZE = """
import resource, sys, time
from pathlib import Path
from service.errors import TruncatedFileError
from service.registration.files.field_file import read_field
from service.registration.files.limits import Limits
from service.registration.files.volume_file import read_volume, verify_file
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.process_time()
for read in (verify_file, read_volume):
    try:
        read(Path(sys.argv[1]), Limits(), "fixed")
    except TruncatedFileError:
        continue
    raise SystemExit("was read")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, time.process_time() - start)
"""


def test_what_a_small_file_cannot_hold_is_never_allocated(
    made: dict[str, Callable[..., bytes]], tmp_path: Path
) -> None:
    """512³ float64 are within the limits, 1 GiB; a few kilobytes cannot decompress to them."""
    header = made["nifti"](
        dim=(3, 512, 512, 512, 1, 1, 1, 1), datatype=64, bitpix=64, data=bytes(MIB)
    )
    path = tmp_path / "small.nii.gz"
    path.write_bytes(gzip.compress(header))
    run = subprocess.run(
        [sys.executable, "-c", SMALL_FILE_ALLOWED_SIZE, str(path)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    more_kib, seconds = run.stdout.split()
    assert int(more_kib) < 16 * 1024
    assert float(seconds) < 0.5


def test_a_field_that_a_small_file_cannot_hold_is_never_allocated(
    made: dict[str, Callable[..., bytes]], tmp_path: Path
) -> None:
    path = tmp_path / "small.nii.gz"
    dims = (5, 512, 512, 256, 1, 3, 1, 1)
    content = made["nifti"](dim=dims, datatype=16, bitpix=32, intent_code=1007, data=bytes(MIB))
    path.write_bytes(gzip.compress(content))
    tracemalloc.start()
    try:
        with pytest.raises(TruncatedFileError):
            read_field(path, Limits())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * MIB


def test_the_header_of_a_truncated_plain_file_is_refused(
    made: dict[str, Callable[..., bytes]], tmp_path: Path
) -> None:
    for kind in ("nifti", "nrrd", "mha"):
        (tmp_path / "short").write_bytes(made[kind]()[:-1])
        with pytest.raises(TruncatedFileError):
            check_header(tmp_path / "short", Limits())


def test_verifying_a_large_file_takes_little_memory(
    made: dict[str, Callable[..., bytes]], tmp_path: Path
) -> None:
    content = made["nifti"](dim=(3, 512, 512, 256, 1, 1, 1, 1), data=b"")
    whole = zlib.crc32(content + bytes(128 * MIB)).to_bytes(4, "little")
    size = (len(content) + 128 * MIB).to_bytes(4, "little")
    path = tmp_path / "large.nii.gz"
    path.write_bytes(zeros(content, 128)[:-8] + whole + size)
    tracemalloc.start()
    try:
        header = verify_file(path, Limits(), "fixed")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert header.voxel_bytes == 128 * MIB
    assert peak < 2 * MIB


def test_a_plain_file_is_measured_before_it_is_read(
    made: dict[str, Callable[..., bytes]], tmp_path: Path
) -> None:
    """A sparse file of 2 GiB behind one volume is refused from its length alone."""
    path = tmp_path / "sparse.nii"
    with path.open("wb") as stream:
        stream.write(made["nifti"]())
        stream.truncate(2 << 30)
    start = time.process_time()
    for read in (check_header, verify_file, read_volume):
        with pytest.raises(InvalidFileError) as refusal:
            read(path, Limits(), "fixed")
        assert refusal.value.slug == "trailing-data"
    assert time.process_time() - start < 0.5
