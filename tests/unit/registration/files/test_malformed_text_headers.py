"""Bad NRRD and MetaImage files, one fault each."""

import gzip
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from service.errors import InvalidFileError

VOXELS = bytes(120)

NRRD: dict[str, tuple[dict[str, Any], str]] = {
    "no-dimension": ({"dimension": None}, "bad-dimensions"),
    "dimension-a-word": ({"dimension": "three"}, "bad-dimensions"),
    "no-sizes": ({"sizes": None}, "bad-dimensions"),
    "sizes-of-two": ({"sizes": "5 4"}, "bad-dimensions"),
    "size-0": ({"sizes": "5 0 3"}, "bad-dimensions"),
    "size-negative": ({"sizes": "5 4 -3"}, "bad-dimensions"),
    "size-a-fraction": ({"sizes": "5 4 3.5"}, "bad-dimensions"),
    "size-of-5000-digits": ({"sizes": "5 4 " + "9" * 5000}, "bad-dimensions"),
    "size-past-64-bits": ({"sizes": "5 4 " + "9" * 18}, "volume-too-large"),
    "too-large": ({"sizes": "1024 1024 1024"}, "volume-too-large"),
    "a-slice": ({"dimension": "2", "sizes": "5 12"}, "not-one-volume"),
    "four-axes": ({"dimension": "4", "sizes": "5 4 3 1"}, "not-one-volume"),
    "a-vector-axis": ({"kinds": "vector domain domain"}, "not-one-volume"),
    "an-axis-outside-space": (
        {"space_directions": "none (2,0,0) (0,3,0)"}, "not-one-volume"
    ),
    "no-type": ({"type": None}, "unsupported-datatype"),
    "a-block-type": ({"type": "block"}, "unsupported-datatype"),
    "no-endian": ({"endian": None}, "header-inconsistent"),
    "endian-middle": ({"endian": "middle"}, "header-inconsistent"),
    "no-encoding": ({"encoding": None}, "unsupported-format"),
    "text-encoding": ({"encoding": "ascii"}, "unsupported-format"),
    "bzip2": ({"encoding": "bzip2"}, "unsupported-format"),
    "detached": ({"data_file": "../../etc/Doe^Jane.raw"}, "unsupported-format"),
    "detached-list": ({"datafile": "LIST"}, "unsupported-format"),
    "byte-skip": ({"byte_skip": "-1"}, "bad-offset"),
    "line-skip": ({"line_skip": "3"}, "bad-offset"),
    "no-space": ({"space": None}, "no-orientation"),
    "space-without-anatomy": ({"space": "scanner-xyz"}, "no-orientation"),
    "no-directions": ({"space_directions": None}, "no-orientation"),
    "two-directions": ({"space_directions": "(2,0,0) (0,3,0)"}, "no-orientation"),
    "direction-of-two": ({"space_directions": "(2,0) (0,3) (0,0)"}, "header-inconsistent"),
    "direction-a-word": ({"space_directions": "(a,0,0) (0,3,0) (0,0,4)"}, "header-inconsistent"),
    "direction-nan": ({"space_directions": "(nan,0,0) (0,3,0) (0,0,4)"}, "bad-affine"),
    "direction-0": ({"space_directions": "(0,0,0) (0,3,0) (0,0,4)"}, "bad-spacing"),
    "direction-1e999": ({"space_directions": "(1e999,0,0) (0,3,0) (0,0,4)"}, "bad-affine"),
    "flat": ({"space_directions": "(2,0,0) (2,0,0) (0,0,4)"}, "bad-affine"),
    "sheared": ({"space_directions": "(2,0.1,0) (0,3,0) (0,0,4)"}, "sheared-affine"),
    "origin-infinite": ({"space_origin": "(inf,0,0)"}, "bad-affine"),
    "origin-of-two": ({"space_origin": "(1,2)"}, "header-inconsistent"),
    "in-microns": ({"space_units": '"um" "um" "um"'}, "bad-spacing"),
    "truncated": ({"data": VOXELS[:-1]}, "truncated-file"),
    "trailing": ({"data": VOXELS + bytes(1025)}, "trailing-data"),
    "gzip-truncated": ({"encoding": "gzip", "data": gzip.compress(VOXELS)[:-9]}, "truncated-file"),
    "gzip-short": ({"encoding": "gzip", "data": gzip.compress(VOXELS[1:])}, "truncated-file"),
    "gzip-trailing": (
        {"encoding": "gzip", "data": gzip.compress(VOXELS + bytes(9000))}, "trailing-data"
    ),
    "gzip-text-behind": (
        {"encoding": "gzip", "data": gzip.compress(VOXELS) + b"Doe^Jane"}, "trailing-data"
    ),
    "gzip-checksum": (
        {"encoding": "gzip", "data": gzip.compress(VOXELS)[:-8] + bytes(8)}, "gzip-checksum"
    ),
    "gzip-that-is-none": ({"encoding": "gzip", "data": b"Doe^Jane" * 20}, "corrupt-file"),
}  # fmt: skip

MHA: dict[str, tuple[dict[str, Any], str]] = {
    "another-object": ({"ObjectType": "Tube"}, "unsupported-format"),
    "detached": ({"ElementDataFile": "Doe^Jane.raw"}, "unsupported-format"),
    "detached-list": ({"ElementDataFile": "LIST"}, "unsupported-format"),
    "text-voxels": ({"BinaryData": "False"}, "unsupported-format"),
    "header-size": ({"HeaderSize": "-1"}, "bad-offset"),
    "scaled": ({"ElementToIntensityFunctionSlope": "2"}, "bad-scaling"),
    "in-microns": ({"DistanceUnits": "um"}, "bad-spacing"),
    "no-ndims": ({"NDims": None}, "bad-dimensions"),
    "no-sizes": ({"DimSize": None}, "bad-dimensions"),
    "sizes-of-two": ({"DimSize": "5 4"}, "bad-dimensions"),
    "size-0": ({"DimSize": "5 4 0"}, "bad-dimensions"),
    "size-negative": ({"DimSize": "-5 4 3"}, "bad-dimensions"),
    "too-large": ({"DimSize": "1024 1024 1024"}, "volume-too-large"),
    "a-slice": ({"NDims": "2", "DimSize": "5 12"}, "not-one-volume"),
    "a-series": ({"NDims": "4", "DimSize": "5 4 3 1"}, "not-one-volume"),
    "two-channels": ({"ElementNumberOfChannels": "2"}, "not-one-volume"),
    "no-type": ({"ElementType": None}, "unsupported-datatype"),
    "a-long-of-unknown-size": ({"ElementType": "MET_LONG"}, "unsupported-datatype"),
    "an-array-type": ({"ElementType": "MET_FLOAT_ARRAY"}, "unsupported-datatype"),
    "no-matrix": ({"TransformMatrix": None}, "no-orientation"),
    "no-offset": ({"Offset": None}, "no-orientation"),
    "matrix-of-4": ({"TransformMatrix": "1 0 0 1"}, "header-inconsistent"),
    "matrix-a-word": ({"TransformMatrix": "1 0 0 0 x 0 0 0 1"}, "header-inconsistent"),
    "matrix-nan": ({"TransformMatrix": "nan 0 0 0 1 0 0 0 1"}, "bad-affine"),
    "matrix-flat": ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "bad-affine"),
    "matrix-sheared": ({"TransformMatrix": "1 0.1 0 0 1 0 0 0 1"}, "sheared-affine"),
    "no-spacing": ({"ElementSpacing": None}, "bad-spacing"),
    "spacing-0": ({"ElementSpacing": "2 0 4"}, "bad-spacing"),
    "spacing-negative": ({"ElementSpacing": "2 -3 4"}, "bad-spacing"),
    "spacing-nan": ({"ElementSpacing": "2 nan 4"}, "bad-spacing"),
    "offset-infinite": ({"Offset": "inf 0 0"}, "bad-affine"),
    "truncated": ({"data": VOXELS[:-1]}, "truncated-file"),
    "trailing": ({"data": VOXELS + bytes(1025)}, "trailing-data"),
    "zlib-truncated": (
        {"CompressedData": "True", "data": zlib.compress(VOXELS)[:-5]}, "truncated-file"
    ),
    "zlib-short": ({"CompressedData": "True", "data": zlib.compress(VOXELS[1:])}, "truncated-file"),
    "zlib-trailing": (
        {"CompressedData": "True", "data": zlib.compress(VOXELS + bytes(9000))}, "trailing-data"
    ),
    "zlib-checksum": (
        {"CompressedData": "True", "data": zlib.compress(VOXELS)[:-4] + b"abcd"}, "corrupt-file"
    ),
    "zlib-that-is-none": ({"CompressedData": "True", "data": b"Doe^Jane" * 20}, "corrupt-file"),
    "zlib-with-a-dictionary": (
        {"CompressedData": "True", "data": b"\x78\x20" * 60}, "corrupt-file"
    ),
    "zlib-size-too-large": (
        {"CompressedData": "True", "CompressedDataSize": "99", "data": zlib.compress(VOXELS)},
        "truncated-file",
    ),
    "zlib-size-too-small": (
        {
            "CompressedData": "True", "CompressedDataSize": "9",
            "data": zlib.compress(VOXELS) + bytes(2000),
        },
        "trailing-data",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "case", [f"nrrd-{name}" for name in NRRD] + [f"mha-{name}" for name in MHA]
)
def test_a_bad_text_header_is_refused_by_name(
    case: str,
    made: dict[str, Callable[..., bytes]],
    refused: Callable[[bytes], InvalidFileError],
    says_nothing_private: Callable[[InvalidFileError], None],
) -> None:
    kind, _, name = case.partition("-")
    fields, slug = (NRRD if kind == "nrrd" else MHA)[name]
    error = refused(made[kind](**fields))
    assert error.slug == slug
    says_nothing_private(error)


@pytest.mark.parametrize(
    ("kind", "line"), [("nrrd", b"sizes: 5 4 3\n"), ("mha", b"DimSize = 5 4 3\n")]
)
def test_a_field_stated_twice_is_refused(
    kind: str,
    line: bytes,
    made: dict[str, Callable[..., bytes]],
    refused: Callable[[bytes], InvalidFileError],
) -> None:
    assert refused(made[kind]().replace(line, line * 2)).slug == "header-inconsistent"


@pytest.mark.parametrize("kind", ["nrrd", "mha"])
def test_a_header_without_an_end_is_refused(
    kind: str,
    made: dict[str, Callable[..., bytes]],
    refused: Callable[[bytes], InvalidFileError],
) -> None:
    start = made[kind]()[:60]
    assert refused(start).slug == "corrupt-file"
    assert refused(start + b"x" * 100_000).slug == "corrupt-file"
