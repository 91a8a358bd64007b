"""Whatever a header says, the answer is a volume or an error of ours, never another exception."""

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import InvalidFileError
from service.registration.files.limits import Limits
from service.registration.files.volume_file import check_header, read_volume, verify_file
from service.registration.volume import Volume

Make = Callable[..., bytes]
Fields = st.SearchStrategy[dict[str, Any]]
LIMITS = Limits(max_voxels=1 << 16, max_axis=1024, max_bytes=1 << 18)
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES == 150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

SPECIAL = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-40, 3e38, -3e38, np.inf, -np.inf, np.nan])
FLOATS_32 = st.one_of(SPECIAL, st.floats(width=32))
FLOATS_64 = st.one_of(SPECIAL, st.floats(), st.sampled_from([1e300, -1e300, 1.7e308, 5e-324]))
INT_16 = st.one_of(st.integers(-2, 8), st.integers(-(2**15), 2**15 - 1))
INT_64 = st.one_of(st.integers(-2, 8), st.integers(-(2**63), 2**63 - 1))


def some_fields(floats: st.SearchStrategy[float], ints: st.SearchStrategy[int]) -> Fields:
    """A few fields of a header replaced by anything that fits their width."""
    return st.fixed_dictionaries(
        {},
        optional={
            "dim": st.tuples(st.integers(-1, 8), *[ints] * 7),
            "pixdim": st.tuples(*[floats] * 8),
            "datatype": st.one_of(st.sampled_from([2, 4, 16, 64, 512]), INT_16),
            "bitpix": INT_16,
            "scl_slope": floats,
            "scl_inter": floats,
            "xyzt_units": st.integers(0, 255),
            "qform_code": INT_16,
            "sform_code": INT_16,
            "quatern": st.tuples(*[floats] * 3),
            "qoffset": st.tuples(*[floats] * 3),
            "srow": st.tuples(*[floats] * 12),
            "intent_code": INT_16,
            "extender": st.binary(max_size=4),
        },
    )


def answer(path: Path, content: bytes) -> None:
    """All three readers agree whether the file is sound."""
    path.write_bytes(content)
    volume, refusal = read(path)
    if refusal is not None:
        assert refusal.field == "moving"
        assert str(path) not in refusal.detail
    for check in (check_header, verify_file):
        try:
            check(path, LIMITS, "moving")
        except InvalidFileError:
            assert volume is None
    if volume is not None:
        assert volume.data.shape == volume.grid.shape
        assert np.isfinite(volume.data).all()
        assert np.isfinite(volume.grid.affine).all()


def read(path: Path) -> tuple[Volume | None, InvalidFileError | None]:
    try:
        return read_volume(path, LIMITS, "moving", []), None
    except InvalidFileError as refusal:
        return None, refusal


@FUZZ
@given(fields=some_fields(FLOATS_32, INT_16), offset=FLOATS_32, order=st.sampled_from("<>"))
def test_any_nifti_1_header(
    fields: dict[str, Any], offset: float, order: str, made: dict[str, Make], tmp_path: Path
) -> None:
    answer(tmp_path / "fuzz", made["nifti"](order=order, **fields))
    answer(tmp_path / "fuzz", made["nifti"](order=order, vox_offset=offset, **fields))


@FUZZ
@given(fields=some_fields(FLOATS_64, INT_64), offset=INT_64, order=st.sampled_from("<>"))
def test_any_nifti_2_header(
    fields: dict[str, Any], offset: int, order: str, made: dict[str, Make], tmp_path: Path
) -> None:
    answer(tmp_path / "fuzz", made["nifti"](version=2, order=order, **fields))
    answer(tmp_path / "fuzz", made["nifti"](version=2, order=order, vox_offset=offset, **fields))


@FUZZ
@given(
    kind=st.sampled_from(["nifti", "nrrd", "mha"]),
    at=st.integers(0, 700),
    what=st.binary(min_size=1, max_size=6),
)
def test_any_bytes_anywhere(
    kind: str, at: int, what: bytes, made: dict[str, Make], tmp_path: Path
) -> None:
    sound = made[kind]()
    at = min(at, len(sound) - 1)
    answer(tmp_path / "fuzz", sound[:at] + what + sound[at + len(what) :])


NUMBER = st.one_of(
    st.integers(-3, 2000).map(str),
    FLOATS_64.map(str),
    st.sampled_from(["1e999", "9" * 400, "0x10", "1_0", "(", ")", "none", "²", "\0", ""]),
)


@FUZZ
@given(
    sizes=st.lists(NUMBER, max_size=5),
    vectors=st.lists(st.lists(NUMBER, max_size=4), max_size=4),
    origin=st.lists(NUMBER, max_size=4),
)
def test_any_numbers_in_a_text_header(
    sizes: list[str],
    vectors: list[list[str]],
    origin: list[str],
    made: dict[str, Make],
    tmp_path: Path,
) -> None:
    directions = " ".join(f"({','.join(vector)})" for vector in vectors)
    flat = " ".join(word for vector in vectors for word in vector)
    at = ",".join(origin)
    for sized in ("5 4 3", " ".join(sizes)):
        nrrd = made["nrrd"](sizes=sized, space_directions=directions, space_origin=f"({at})")
        answer(tmp_path / "fuzz", nrrd)
        mha = made["mha"](DimSize=sized, TransformMatrix=flat, Offset=" ".join(origin))
        answer(tmp_path / "fuzz", mha)
        spaced = made["mha"](DimSize=sized, ElementSpacing=" ".join(origin))
        answer(tmp_path / "fuzz", spaced)


@FUZZ
@given(content=st.binary(max_size=800))
def test_any_bytes_at_all(content: bytes, tmp_path: Path) -> None:
    answer(tmp_path / "fuzz", content)
    answer(tmp_path / "fuzz", struct.pack("<i", 348) + content)
    answer(tmp_path / "fuzz", b"\x1f\x8b\x08" + content)
    answer(tmp_path / "fuzz", b"NRRD0005\n" + content)
    answer(tmp_path / "fuzz", b"NDims = 3\n" + content)
