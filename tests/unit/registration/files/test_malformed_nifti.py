"""Bad NIfTI files, one fault each: what they are called, and that nothing private is said."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from service.errors import InvalidFileError

NAN, INF = float("nan"), float("inf")
TILT = 2 * 0.01  # a cosine of 0.01 between i and j
SLANTED = (-2, TILT * 1.5, 0, 10, 0, 3, 0, 20, 0, 0, 4, 30)
MIRRORED = (2, 0, 0, 10, 0, 3, 0, 20, 0, 0, 4, 30)


def dim(*lengths: int) -> tuple[int, ...]:
    return (*lengths, *[1] * (8 - len(lengths)))


def spaced(*spacing: float) -> dict[str, Any]:
    """pixdim alone; the matrices stay."""
    return {"pixdim": (-1, *spacing, 0, 0, 0, 0)}


def extension(announced: int) -> bytes:
    """16 bytes of header extension that announce another length."""
    return announced.to_bytes(4, "little", signed=True) + bytes(12)


# id: fields that replace the sound ones, and the code of the refusal
HEADERS: dict[str, tuple[dict[str, Any], str]] = {
    # what it is
    "wrong-length-field": ({"sizeof_hdr": 349}, "header-inconsistent"),
    "length-field-0": ({"sizeof_hdr": 0}, "header-inconsistent"),
    "analyze": ({"magic": b""}, "unsupported-format"),
    "magic-damaged": ({"magic": b"n+9"}, "unsupported-format"),
    "half-of-a-pair": ({"magic": b"ni1"}, "unsupported-format"),
    "half-of-a-pair-2": ({"version": 2, "magic": b"ni2\0\r\n\x1a\n"}, "unsupported-format"),
    "magic-of-text-mode": ({"version": 2, "magic": b"n+2\0\n\x1a\n"}, "unsupported-format"),
    # dimensions
    "no-dimensions": ({"dim": dim(0, 5, 4, 3)}, "bad-dimensions"),
    "minus-one-dimension": ({"dim": dim(-1, 5, 4, 3)}, "bad-dimensions"),
    "eight-dimensions": ({"dim": dim(8, 5, 4, 3)}, "bad-dimensions"),
    "axis-of-0": ({"dim": dim(3, 0, 4, 3)}, "bad-dimensions"),
    "axis-of-minus-5": ({"dim": dim(3, 5, -5, 3)}, "bad-dimensions"),
    "last-axis-of-0": ({"dim": dim(3, 5, 4, 0)}, "bad-dimensions"),
    "fourth-axis-of-0": ({"dim": dim(4, 5, 4, 3, 0)}, "bad-dimensions"),
    "huge-negative-axis": ({"version": 2, "dim": dim(3, 5, 4, -(2**63))}, "bad-dimensions"),
    "one-dimension": ({"dim": dim(1, 60)}, "not-one-volume"),
    "a-slice": ({"dim": dim(2, 5, 12)}, "not-one-volume"),
    "two-volumes": ({"dim": dim(4, 5, 4, 3, 2)}, "not-one-volume"),
    "vectors": ({"dim": dim(5, 5, 4, 3, 1, 3), "intent_code": 1007}, "not-one-volume"),
    "seven-axes": ({"dim": dim(7, 5, 4, 3, 1, 1, 1, 2)}, "not-one-volume"),
    # size
    "32767-cubed": ({"dim": dim(3, 32767, 32767, 32767)}, "volume-too-large"),
    "one-long-axis": ({"dim": dim(3, 1025, 1, 1)}, "volume-too-large"),
    "too-many-voxels": ({"dim": dim(3, 1024, 1024, 2)}, "volume-too-large"),
    "too-many-bytes": (
        {"dim": dim(3, 1024, 1024, 1), "datatype": 64, "bitpix": 64}, "volume-too-large"
    ),
    "past-64-bits": ({"version": 2, "dim": dim(3, 2**40, 2**40, 2**40)}, "volume-too-large"),
    "wraps-to-nothing": ({"version": 2, "dim": dim(3, 2**32, 2**32, 5)}, "volume-too-large"),
    # voxel types
    "no-type": ({"datatype": 0, "bitpix": 0}, "unsupported-datatype"),
    "binary": ({"datatype": 1, "bitpix": 1}, "unsupported-datatype"),
    "complex64": ({"datatype": 32, "bitpix": 64}, "unsupported-datatype"),
    "rgb": ({"datatype": 128, "bitpix": 24}, "unsupported-datatype"),
    "rgba": ({"datatype": 2304, "bitpix": 32}, "unsupported-datatype"),
    "float128": ({"datatype": 1536, "bitpix": 128}, "unsupported-datatype"),
    "complex128": ({"datatype": 1792, "bitpix": 128}, "unsupported-datatype"),
    "complex256": ({"datatype": 2048, "bitpix": 256}, "unsupported-datatype"),
    "type-999": ({"datatype": 999}, "unsupported-datatype"),
    "type-minus-4": ({"datatype": -4}, "unsupported-datatype"),
    "bits-of-another-type": ({"bitpix": 32}, "header-inconsistent"),
    "no-bits": ({"bitpix": 0}, "header-inconsistent"),
    # where the voxels begin
    "offset-0": ({"vox_offset": 0}, "bad-offset"),
    "offset-in-the-header": ({"vox_offset": 348}, "bad-offset"),
    "offset-in-a-byte": ({"vox_offset": 352.5}, "bad-offset"),
    "offset-negative": ({"vox_offset": -352}, "bad-offset"),
    "offset-nan": ({"vox_offset": NAN}, "bad-offset"),
    "offset-infinite": ({"vox_offset": INF}, "bad-offset"),
    "offset-1e9": ({"vox_offset": 1e9}, "bad-offset"),
    "offset-of-nifti-1-in-2": ({"version": 2, "vox_offset": 352}, "bad-offset"),
    "offset-past-the-end": ({"vox_offset": 4096}, "truncated-file"),
    "offset-cuts-the-voxels": ({"vox_offset": 368}, "truncated-file"),
    # scaling
    "slope-nan": ({"scl_slope": NAN}, "bad-scaling"),
    "slope-infinite": ({"scl_slope": INF}, "bad-scaling"),
    "intercept-nan": ({"scl_inter": NAN}, "bad-scaling"),
    "intercept-minus-infinity": ({"scl_inter": -INF}, "bad-scaling"),
    "slope-that-overflows": ({"scl_slope": 3e38}, "non-finite-voxels"),
    # spacing
    "spacing-0": (spaced(2, 0, 4), "bad-spacing"),
    "spacing-minus-0": (spaced(2, -0.0, 4), "bad-spacing"),
    "spacing-nan": (spaced(NAN, 3, 4), "bad-spacing"),
    "spacing-infinite": (spaced(2, 3, INF), "bad-spacing"),
    "spacing-denormal": (spaced(1e-40, 3, 4), "bad-spacing"),
    "spacing-under-a-micron": (spaced(2, 3, 1e-4), "bad-spacing"),
    "spacing-over-a-metre": (spaced(2, 3, 4000), "bad-spacing"),
    "spacing-not-the-sform": (spaced(2, 3, 5) | {"qform_code": 0}, "bad-spacing"),
    "spacing-in-metres": ({"xyzt_units": 1}, "bad-spacing"),
    "unit-unknown": ({"xyzt_units": 5}, "header-inconsistent"),
    # orientation
    "no-orientation": ({"qform_code": 0, "sform_code": 0}, "no-orientation"),
    "codes-negative": ({"qform_code": 0, "sform_code": -1}, "header-inconsistent"),
    "sform-empty": ({"srow": (0,) * 12}, "bad-spacing"),
    "sform-flat": ({"srow": (-2, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0)}, "bad-affine"),
    "sform-nan": ({"srow": (NAN, 0, 0, 0, 0, 3, 0, 0, 0, 0, 4, 0)}, "bad-affine"),
    "sform-origin-infinite": ({"srow": (-2, 0, 0, INF, 0, 3, 0, 0, 0, 0, 4, 0)}, "bad-affine"),
    "sform-a-world-away": ({"srow": (-2, 0, 0, 1e7, 0, 3, 0, 0, 0, 0, 4, 0)}, "bad-affine"),
    "sform-sheared": ({"srow": SLANTED, "qform_code": 0}, "sheared-affine"),
    "quaternion-too-long": ({"sform_code": 0, "quatern": (0, 1, 0.5)}, "bad-affine"),
    "quaternion-nan": ({"sform_code": 0, "quatern": (0, NAN, 0)}, "bad-affine"),
    "quaternion-bad-beside-sform": ({"quatern": (9, 9, 9)}, "bad-affine"),
    "qoffset-nan": ({"sform_code": 0, "qoffset": (NAN, 0, 0)}, "bad-affine"),
    "qform-elsewhere": ({"qoffset": (10.3, 20, 30)}, "ambiguous-orientation"),
    "qform-mirrored": ({"srow": MIRRORED}, "ambiguous-orientation"),
    "qform-nan-beside-sform": ({"qoffset": (NAN, 20, 30)}, "bad-affine"),
    # extensions
    "extension-negative": ({"ext": extension(-16)}, "header-inconsistent"),
    "extension-huge": ({"ext": extension(1 << 30)}, "header-inconsistent"),
    "extension-of-4": ({"ext": extension(4)}, "header-inconsistent"),
    "extension-without-room": ({"extender": b"\1"}, "header-inconsistent"),
}  # fmt: skip


@pytest.mark.parametrize("case", HEADERS)
def test_a_bad_header_is_refused_by_name(
    case: str,
    made: dict[str, Callable[..., bytes]],
    refused: Callable[[bytes], InvalidFileError],
    says_nothing_private: Callable[[InvalidFileError], None],
) -> None:
    fields, slug = HEADERS[case]
    error = refused(made["nifti"](**fields))
    assert error.slug == slug
    says_nothing_private(error)


# id: what becomes of a sound file's bytes
LENGTHS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "unsupported-format"),
    "a-text": (lambda _: b"patient,age\nDoe^Jane,42\n" * 40, "unsupported-format"),
    "zeros": (lambda _: bytes(4096), "unsupported-format"),
    "dicom": (lambda _: bytes(128) + b"DICM" + bytes(500), "corrupt-file"),
    "zip": (lambda _: b"PK\x03\x04" + bytes(500), "invalid-archive"),
    "four-bytes": (lambda sound: sound[:4], "truncated-file"),
    "half-a-header": (lambda sound: sound[:200], "truncated-file"),
    "header-without-extender": (lambda sound: sound[:348], "truncated-file"),
    "header-alone": (lambda sound: sound[:352], "truncated-file"),
    "half-the-voxels": (lambda sound: sound[:412], "truncated-file"),
    "one-byte-missing": (lambda sound: sound[:-1], "truncated-file"),
    "1-kib-and-a-byte-more": (lambda sound: sound + bytes(1025), "trailing-data"),
    "twice": (lambda sound: sound * 4, "trailing-data"),
}


@pytest.mark.parametrize("case", LENGTHS)
def test_a_file_of_another_length_is_refused_by_name(
    case: str,
    made: dict[str, Callable[..., bytes]],
    refused: Callable[[bytes], InvalidFileError],
    says_nothing_private: Callable[[InvalidFileError], None],
) -> None:
    change, slug = LENGTHS[case]
    error = refused(change(made["nifti"]()))
    assert error.slug == slug
    says_nothing_private(error)


@pytest.mark.parametrize("bad", [1, 60])
def test_many_voxels_that_are_not_finite_are_refused(
    bad: int, made: dict[str, Callable[..., bytes]], refused: Callable[[bytes], InvalidFileError]
) -> None:
    values = np.arange(60, dtype="<f4")
    values[:bad] = NAN
    error = refused(made["nifti"](datatype=16, bitpix=32, data=values.tobytes()))
    assert error.slug == "non-finite-voxels"
    assert f"{bad} of 60" in error.detail
