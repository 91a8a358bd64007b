"""The process that parses DICOM: its limits hold, and it ends when it should."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from service.errors import (
    DicomParsingLimitError,
    InvalidFileError,
    NoDicomError,
    VolumeTooLargeError,
)
from service.registration.files.dicom import allowance, asking
from service.registration.files.dicom.asking import asked
from service.registration.files.dicom.source import inspect_dicom, read_dicom
from service.registration.files.limits import Limits
from tests.dicom_bytes import RLE, fragments, image, meta
from tests.dicom_malformed import all_files
from tests.dicom_malformed_series import AFFINE, DATA, series
from tests.dicoms import write_series

ROOT = Path(__file__).parents[5]
LIMITS = Limits(max_voxels=1 << 20, max_axis=1024, max_bytes=8 << 20)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """Put a child that goes wrong in its place; gives the file of its process id."""

    def put(how: str) -> Path:
        monkeypatch.setattr(asking, "CHILD", "tests.fakes.dicom_child")
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.setenv("WARPLINE_TEST_CHILD", how)
        monkeypatch.setenv("WARPLINE_TEST_PID", str(tmp_path / "pid"))
        return tmp_path / "pid"

    return put


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(is_so: Callable[[], bool], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


def pid_in(path: Path) -> int:
    wait_until(lambda: path.is_file() and path.read_text() != "")
    return int(path.read_text())


@pytest.mark.parametrize("how", ["eat", "spin", "die"])
def test_one_that_takes_too_much_is_a_refusal(child, how):
    child(how)
    with pytest.raises(DicomParsingLimitError):
        asked("headers", [], LIMITS)


def test_one_that_sleeps_is_stopped(child, monkeypatch):
    pid = child("sleep")

    def once_it_sleeps() -> float:
        """Its time is over as soon as it is there, however long that takes."""
        return time.monotonic() + (2 * asking.TIME_S if pid.exists() else 0)

    monkeypatch.setattr(allowance, "time", SimpleNamespace(monotonic=once_it_sleeps))
    with pytest.raises(DicomParsingLimitError):
        asked("headers", [], LIMITS)
    assert not is_alive(pid_in(pid))


def test_one_that_hangs_in_a_file_is_stopped_soon(child, monkeypatch):
    """By what it has earned, which is nothing, and not by the time of a whole life."""
    pid = child("hang")
    monkeypatch.setattr(asking, "TIME_S", 500.0)  # it sleeps for longer, and the test would
    with pytest.raises(DicomParsingLimitError) as refusal:
        asked("headers", [], LIMITS)
    assert refusal.value.http_status == 413
    assert not is_alive(pid_in(pid))


MALFORMED = all_files()
# Those that take longest, one of each code, through the process that a request takes.
ANSWERED = [
    "elements-450k", "items-of-elements", "deep-100000-open-explicit", "explicit-said-implicit",
    "program-linux", "deflated-bomb", "group-2-of-4-gib", "empty",
]  # fmt: skip


@pytest.mark.parametrize("name", ANSWERED)
def test_a_malformed_file_is_answered_before_its_time_is_over(name, monkeypatch, tmp_path):
    content, code = MALFORMED[name]
    # Ten times what it has: half a million elements take a slow machine two seconds; what a bomb
    # or a loop takes has no end.
    monkeypatch.setattr(allowance, "FIRST_S", 15.0)
    (tmp_path / "one.dcm").write_bytes(content)
    with pytest.raises(InvalidFileError) as refusal:
        read_dicom(tmp_path, LIMITS)
    assert refusal.value.slug == code


def test_it_is_stopped_when_the_job_is(child):
    class StoppedError(Exception):
        pass

    pid = child("sleep")

    def tick():
        if pid.is_file():
            raise StoppedError

    with pytest.raises(StoppedError):
        asked("headers", [], LIMITS, tick)
    assert not is_alive(pid_in(pid))


def test_it_ends_with_its_parent(child, tmp_path):
    pid = child("sleep")
    program = (
        "from service.registration.files.dicom import asking\n"
        "from service.registration.files.limits import Limits\n"
        "asking.CHILD = 'tests.fakes.dicom_child'\n"
        "asking.asked('headers', [], Limits())\n"
    )
    parent = subprocess.Popen([sys.executable, "-P", "-c", program])
    number = pid_in(pid)
    assert is_alive(number)
    parent.kill()
    parent.wait()
    wait_until(lambda: not is_alive(number))


def test_what_decoders_print_is_not_the_answer(child):
    child("print")
    assert asked("headers", [], LIMITS) == {"heard": "me"}


def test_pixels_that_are_too_many_reach_no_decoder(tmp_path):
    big = {
        (0x0028, 0x0010): b"\x28\0\x10\0US\2\0\xd0\x07",
        (0x0028, 0x0011): b"\x28\0\x11\0US\2\0\xd0\x07",
    }
    pixels = fragments(bytes(100))
    (tmp_path / "one.dcm").write_bytes(meta(RLE) + image(big | {(0x7FE0, 0x0010): pixels}))
    with pytest.raises(VolumeTooLargeError):
        read_dicom(tmp_path / "one.dcm", LIMITS)


def test_nothing_stays_behind(tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    series(tmp_path / "series")
    read_dicom(tmp_path / "series", LIMITS)
    with pytest.raises(NoDicomError):
        read_dicom(scratch, LIMITS)
    assert not list(scratch.iterdir())


def test_volume_and_headers_agree(tmp_path):
    write_series(tmp_path / "series", DATA, AFFINE, intercept=-5.0)
    volume, origin = read_dicom(tmp_path / "series", LIMITS)
    header = inspect_dicom(tmp_path / "series", LIMITS)
    np.testing.assert_array_equal(volume.data, DATA - 5)
    np.testing.assert_allclose(volume.grid.affine, AFFINE)
    np.testing.assert_allclose(header.grid.affine, AFFINE)
    assert header.shape == DATA.shape
    assert header.dtype == volume.data.dtype
    assert header.patient is not None
    assert "P1" not in str(header.patient)
    assert origin["instances"]


def test_several_children_at_once(tmp_path):
    series(tmp_path / "series")
    failures = []

    def read():
        try:
            inspect_dicom(tmp_path / "series", LIMITS)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_without_limits_of_the_system_it_still_answers(tmp_path):
    """As on Windows: no module `resource`."""
    series(tmp_path / "series")
    request = {
        "what": "headers", "parent": os.getpid(), "series": None, "memory_mib": 10, "time_s": 60,
        "file_mib": 1, "limits": {},
        "files": [str(file) for file in (tmp_path / "series").iterdir()]
    }  # fmt: skip
    program = (
        "import sys; sys.modules['resource'] = None\n"
        "from service.registration.files.dicom import child\n"
        "sys.exit(child.main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        input=json.dumps(request), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout.splitlines()[-1])["shape"] == list(DATA.shape)


def test_the_parser_brings_in_no_client_and_no_other_decoder(tmp_path):
    series(tmp_path / "series")
    program = (
        "import sys; from pathlib import Path\n"
        "from service.registration.files.dicom import child\n"
        f"child._import_parser(sorted(Path({str(tmp_path / 'series')!r}).iterdir()))\n"
        "import service.registration.files.dicom.reading\n"
        "print([n for n in ('requests', 'tqdm', 'PIL', 'gdcm', 'urllib3') if sys.modules.get(n)])"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
