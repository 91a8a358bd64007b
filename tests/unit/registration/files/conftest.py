"""Files made byte by byte, sound unless told otherwise, with a canary where a name may stand."""

import gzip
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.errors import InvalidFileError
from service.registration.files.limits import Limits
from service.registration.files.volume_file import check_header, read_volume, verify_file

CANARY = "Doe^Jane"
SHAPE = (5, 4, 3)
LIMITS = Limits(max_voxels=1 << 20, max_axis=1024, max_bytes=4 << 20)

# name: (offset, struct format), from nifti1.h and nifti2.h
NIFTI_1 = {
    "sizeof_hdr": (0, "i"), "db_name": (14, "18s"), "dim": (40, "8h"), "intent_code": (68, "h"),
    "datatype": (70, "h"), "bitpix": (72, "h"), "pixdim": (76, "8f"), "vox_offset": (108, "f"),
    "scl_slope": (112, "f"), "scl_inter": (116, "f"), "xyzt_units": (123, "B"),
    "descrip": (148, "80s"), "aux_file": (228, "24s"), "qform_code": (252, "h"),
    "sform_code": (254, "h"), "quatern": (256, "3f"), "qoffset": (268, "3f"),
    "srow": (280, "12f"), "intent_name": (328, "16s"), "magic": (344, "4s"),
    "extender": (348, "4s"),
}  # fmt: skip
NIFTI_2 = {
    "sizeof_hdr": (0, "i"), "magic": (4, "8s"), "datatype": (12, "h"), "bitpix": (14, "h"),
    "dim": (16, "8q"), "pixdim": (104, "8d"), "vox_offset": (168, "q"), "scl_slope": (176, "d"),
    "scl_inter": (184, "d"), "descrip": (240, "80s"), "aux_file": (320, "24s"),
    "qform_code": (344, "i"), "sform_code": (348, "i"), "quatern": (352, "3d"),
    "qoffset": (376, "3d"), "srow": (400, "12d"), "xyzt_units": (500, "i"),
    "intent_code": (504, "i"), "intent_name": (508, "16s"), "extender": (540, "4s"),
}  # fmt: skip

Make = Callable[..., bytes]


def make_nifti(
    *,
    version: int = 1,
    order: str = "<",
    data: bytes | None = None,
    ext: bytes = b"",
    **fields: Any,
) -> bytes:
    """A NIfTI file of int16 voxels on an LAS grid of 2 x 3 x 4 mm; fields replace its header's."""
    layout, size = (NIFTI_1, 352) if version == 1 else (NIFTI_2, 544)
    if data is None:
        data = np.arange(np.prod(SHAPE), dtype=order + "i2").tobytes()
    sound: dict[str, Any] = {
        "sizeof_hdr": size - 4, "dim": (3, *SHAPE, 1, 1, 1, 1), "datatype": 4, "bitpix": 16,
        "pixdim": (-1, 2, 3, 4, 0, 0, 0, 0), "vox_offset": size + len(ext), "scl_slope": 1,
        "scl_inter": 0, "xyzt_units": 2, "qform_code": 1, "sform_code": 1, "quatern": (0, 1, 0),
        "qoffset": (10, 20, 30), "srow": (-2, 0, 0, 10, 0, 3, 0, 20, 0, 0, 4, 30),
        "magic": b"n+1" if version == 1 else b"n+2\0\r\n\x1a\n",
        "descrip": CANARY.encode(), "aux_file": CANARY.encode(), "intent_name": CANARY.encode(),
        "extender": b"\1" if ext else b"",
    }  # fmt: skip
    header = bytearray(size)
    for name, value in (sound | fields).items():
        offset, code = layout[name]
        values = value if isinstance(value, tuple) else (value,)
        struct.pack_into(order + code, header, offset, *values)
    return bytes(header) + ext + data


def make_text(magic: str, fields: Mapping[str, str | None], joint: str) -> bytes:
    lines = [f"{name}{joint}{value}" for name, value in fields.items() if value is not None]
    return "\n".join([magic, *lines] if magic else lines).encode() + b"\n"


def make_nrrd(data: bytes | None = None, **fields: str | None) -> bytes:
    """The same volume as NRRD in LPS; underscores in names are blanks, None leaves a field out."""
    if data is None:
        data = np.arange(np.prod(SHAPE), dtype="<i2").tobytes()
        data = gzip.compress(data) if fields.get("encoding") == "gzip" else data
    sound: dict[str, str | None] = {
        "# by": CANARY, "type": "short", "dimension": "3", "space": "left-posterior-superior",
        "sizes": "5 4 3", "space directions": "(2,0,0) (0,-3,0) (0,0,4)", "endian": "little",
        "encoding": "raw", "space origin": "(-10,-20,30)", "content": CANARY,
        "patient:=": CANARY,
    }  # fmt: skip
    changes = {name.replace("_", " "): value for name, value in fields.items()}
    return make_text("NRRD0004", sound | changes, ": ") + b"\n" + data


def make_mha(data: bytes | None = None, **fields: str | None) -> bytes:
    """The same volume as MetaImage; None leaves a field out."""
    if data is None:
        data = np.arange(np.prod(SHAPE), dtype="<i2").tobytes()
    sound: dict[str, str | None] = {
        "ObjectType": "Image", "Comment": CANARY, "NDims": "3", "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False", "CompressedData": "False",
        "TransformMatrix": "1 0 0 0 -1 0 0 0 1", "Offset": "-10 -20 30",
        "ElementSpacing": "2 3 4", "DimSize": "5 4 3", "ElementType": "MET_SHORT",
        "ElementDataFile": "LOCAL",
    }  # fmt: skip
    changed = sound | fields
    changed["ElementDataFile"] = changed.pop("ElementDataFile")  # last, as the data follow it
    return make_text("", changed, " = ") + data


@pytest.fixture
def made() -> dict[str, Make]:
    """Makers of file content by format."""
    return {"nifti": make_nifti, "nrrd": make_nrrd, "mha": make_mha}


@pytest.fixture
def refused(tmp_path: Path) -> Callable[[bytes], InvalidFileError]:
    """Write the content under a telling name, let all readers refuse it, and see what they say."""

    def refuse(content: bytes) -> InvalidFileError:
        path = tmp_path / f"{CANARY}.nii.gz"
        path.write_bytes(content)
        with pytest.raises(InvalidFileError) as reading:
            read_volume(path, LIMITS, "moving")
        error = reading.value
        if error.slug not in ("non-finite-voxels",):  # the one that streaming does not look for
            with pytest.raises(type(error)):
                verify_file(path, LIMITS, "moving")
        with suppress(type(error)):  # what the header alone cannot tell, or the same fault
            check_header(path, LIMITS, "moving")
        return error

    return refuse


@pytest.fixture
def says_nothing_private(tmp_path: Path) -> Callable[[InvalidFileError], None]:
    """A problem names its field and holds a sentence, but nothing of the file or its path."""

    def check(error: InvalidFileError) -> None:
        body = error.problem()
        assert body["field"] == "moving"
        assert body["detail"].endswith(".")
        for secret in (CANARY, "Doe", ".nii.gz.", str(tmp_path), tmp_path.name):
            assert secret not in str(body)
        assert error.__cause__ is None
        assert error.__suppress_context__ or error.__context__ is None

    return check
