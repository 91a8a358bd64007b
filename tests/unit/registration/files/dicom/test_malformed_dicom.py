"""Bad DICOM, one fault each: what it is called, and that nothing private is said."""

import logging
from pathlib import Path

import pytest

from service.errors import InvalidFileError
from service.registration.files.dicom.origin import origin_of
from service.registration.files.dicom.reading import chosen, find_volumes, read_stack
from service.registration.files.limits import Limits
from tests.dicom_malformed import all_files
from tests.dicom_malformed_series import SERIES

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
LIMITS = Limits(max_voxels=1 << 20, max_axis=1024, max_bytes=8 << 20)
FILES = all_files()


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)


def outcome(files: list[Path], warnings: list[str]) -> InvalidFileError | None:
    """What the child would do, in this process; None if there is a volume."""
    try:
        found = find_volumes(files)
        stack = chosen(found, None)
        read_stack(found, stack, LIMITS, warnings)
        origin_of(stack, found.headers)
    except InvalidFileError as error:
        return error
    return None


def check(error: InvalidFileError | None, code: str, folder: Path) -> None:
    if not code:
        assert error is None, error
        return
    assert error is not None
    said = str(error.problem())
    assert error.slug == code, said
    assert error.detail.endswith(".")
    assert error.__cause__ is None
    for secret in ("Doe", "Jane", "P1", str(folder), folder.name, ".dcm"):
        assert secret not in said


def test_there_are_enough_of_them() -> None:
    refused = [code for _, code in [*FILES.values(), *SERIES.values()] if code]
    assert len(refused) >= 150
    assert not {"internal", "error"} & set(refused)


@pytest.mark.parametrize("name", FILES)
def test_a_file(name: str, tmp_path: Path) -> None:
    content, code = FILES[name]
    path = tmp_path / "Doe^Jane.dcm"
    path.write_bytes(content)
    check(outcome([path], []), code, tmp_path)


@pytest.mark.parametrize("name", SERIES)
def test_a_series(name: str, tmp_path: Path) -> None:
    make, code = SERIES[name]
    folder = tmp_path / "Doe^Jane"
    make(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    check(outcome(files, []), code, tmp_path)
