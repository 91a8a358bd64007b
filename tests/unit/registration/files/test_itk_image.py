"""What SimpleITK is given of a stranger's NRRD or MetaImage file, and what it is asked."""

import gzip
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from numpy.testing import assert_array_equal

from service.errors import HeaderInconsistentError, TruncatedFileError
from service.registration.files import itk_image
from service.registration.files.content import opened
from service.registration.files.limits import Limits
from service.registration.files.volume_file import check_header, read_volume
from service.registration.grid import Grid

Make = Callable[..., bytes]

# A line that ITK's readers take for the name of the file with the voxels, and where to put it.
HIDDEN = {
    "mha": (b"ElementDataFile : {}\n", b"ElementDataFile ="),
    "nrrd": (b"content: scan\rdata file: {}\n", b"encoding:"),
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_a_file_that_a_hidden_field_names_is_not_read(
    kind: str, made: dict[str, Make], tmp_path: Path
) -> None:
    secret, path = tmp_path / "secret.raw", tmp_path / f"v.{kind}"
    secret.write_bytes(b"\x7f" * 120)
    line, before = HIDDEN[kind]
    content = made[kind]().replace(b"content: Doe^Jane\n", b"")
    path.write_bytes(content.replace(before, line.replace(b"{}", bytes(secret)) + before))
    assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), 0x7F7F)
    assert_array_equal(read_volume(path, Limits()).data.ravel(order="F"), np.arange(60))


@pytest.mark.parametrize("kind", ["nrrd", "mha"])
def test_a_text_format_may_be_gzipped_as_a_whole(
    kind: str, made: dict[str, Make], tmp_path: Path
) -> None:
    path = tmp_path / "v"
    path.write_bytes(gzip.compress(made[kind]()))
    assert_array_equal(read_volume(path, Limits()).data.ravel(order="F"), np.arange(60))


def test_big_endian_nrrd_is_what_simpleitk_reads(made: dict[str, Make], tmp_path: Path) -> None:
    path = tmp_path / "v.nrrd"
    path.write_bytes(made["nrrd"](endian="big", data=np.arange(60, dtype=">i2").tobytes()))
    ours = read_volume(path, Limits()).data
    assert_array_equal(ours, sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T)
    assert ours.dtype == np.int16
    assert ours.flags.writeable


@pytest.mark.parametrize("kind", ["nrrd", "mha"])
def test_a_gate_that_finds_another_grid_than_the_library_is_noticed(
    kind: str, made: dict[str, Make], tmp_path: Path
) -> None:
    path = tmp_path / "v"
    path.write_bytes(made[kind]())
    header = check_header(path, Limits())
    moved = header.grid.affine.copy()
    moved[0, 3] += 0.1
    for wrong in (
        replace(header, grid=Grid(header.shape, moved)),
        replace(header, dtype=np.dtype("u2")),
        replace(header, itk_header=header.itk_header.replace(b"5 4 3", b"4 5 3")),
        replace(header, itk_header=b"NRRD0005\ntype: nonsense\n\n"),
    ):
        with opened(path) as (content, _):
            content.pass_over(header.data_offset)
            with pytest.raises(HeaderInconsistentError) as refusal:
                itk_image.stored_numbers(content, wrong)
        assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


def test_the_library_sees_no_byte_of_a_truncated_file(
    made: dict[str, Make], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "v"
    path.write_bytes(made["nrrd"](encoding="gzip", data=gzip.compress(bytes(119))))
    monkeypatch.delattr(itk_image, "_image")
    with pytest.raises(TruncatedFileError):
        read_volume(path, Limits())


def test_a_system_without_files_in_memory_uses_the_disk(
    made: dict[str, Make], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "v"
    path.write_bytes(made["mha"]())
    monkeypatch.delattr("os.memfd_create")
    assert_array_equal(read_volume(path, Limits()).data.ravel(order="F"), np.arange(60))


def test_headers_and_nifti_are_read_without_the_library(
    made: dict[str, Make], tmp_path: Path
) -> None:
    for kind in ("nifti", "nrrd", "mha"):
        (tmp_path / kind).write_bytes(made[kind]())
    program = """
import sys
from pathlib import Path
from service.registration.files.limits import Limits
from service.registration.files.volume_file import read_volume, verify_file
folder = Path(sys.argv[1])
for path in folder.iterdir():
    verify_file(path, Limits())
read_volume(folder / "nifti", Limits())
print("SimpleITK" in sys.modules)
read_volume(folder / "nrrd", Limits())
print("SimpleITK" in sys.modules)
"""
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], check=True, capture_output=True, text=True
    )
    assert run.stdout.split() == ["False", "True"]
