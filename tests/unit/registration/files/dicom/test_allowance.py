"""The time of the process that parses DICOM: what it begins with, earns, and gets back."""

import os
import sys
from pathlib import Path

import pytest

from service.registration.files.dicom import allowance, earning
from service.registration.files.dicom.allowance import FILE_S, FIRST_S, Allowance
from service.registration.files.dicom.source import read_dicom
from service.registration.files.limits import Limits
from tests.dicom_malformed_series import DATA, series

MOST_S = 120.0


class Clock:
    """Time that passes when it is told to; takes the place of the module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def passes(self, allowance: Allowance, seconds: float) -> None:
        """While the parent looks ten times a second."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + 0.1)
            allowance.is_used_up()

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(allowance, "time", made)
    return made


@pytest.fixture
def of_a_child(clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Allowance:
    """Of one that sleeps; the files `schedstat` and `stat` tell of its waits and its state."""
    made = Allowance(os.getpid(), MOST_S)
    monkeypatch.setattr(made, "_scheduled", tmp_path / "schedstat")
    monkeypatch.setattr(made, "_stat", tmp_path / "stat")
    (tmp_path / "schedstat").write_text("5000 0 12\n")
    (tmp_path / "stat").write_text("7 (a (child)) S 1 7\n")
    return made


def test_until_it_has_begun_only_its_whole_life_is_bounded(
    of_a_child: Allowance, clock: Clock
) -> None:
    clock.now += MOST_S - 1
    assert not of_a_child.is_used_up()
    clock.now += 2
    assert of_a_child.is_used_up()


def test_what_earns_nothing_is_stopped(of_a_child: Allowance, clock: Clock) -> None:
    clock.now += 30  # a slow start is not its fault
    of_a_child.hear(b"begun 0\n")
    clock.passes(of_a_child, FIRST_S - 0.01)
    assert not of_a_child.is_used_up()
    of_a_child.hear(b"begun 0\n")  # saying it again helps nobody
    clock.now += 0.02
    assert of_a_child.is_used_up()


def test_files_and_voxels_earn(of_a_child: Allowance, clock: Clock) -> None:
    of_a_child.hear(b"begun 0\n")
    of_a_child.hear(b"read 2097152\n")
    of_a_child.hear(b"makes 67108864\n")
    clock.passes(of_a_child, FIRST_S + FILE_S + 2 + 2 - 0.01)
    assert not of_a_child.is_used_up()
    clock.now += 0.02
    assert of_a_child.is_used_up()


def test_no_more_than_a_whole_life(of_a_child: Allowance, clock: Clock) -> None:
    of_a_child.hear(b"begun 0\n")
    of_a_child.hear(b"read 99999999999\n")
    clock.now += MOST_S + 1
    assert of_a_child.is_used_up()


def test_waiting_for_a_core_is_not_counted(
    of_a_child: Allowance, clock: Clock, tmp_path: Path
) -> None:
    scheduled = tmp_path / "schedstat"
    scheduled.write_text("5000 7000000000 12\n")
    of_a_child.hear(b"begun 0\n")
    clock.passes(of_a_child, FIRST_S + 4)
    assert of_a_child.is_used_up()
    scheduled.write_text("9000 12000000000 40\n")  # five seconds of waiting since
    assert not of_a_child.is_used_up()


def test_a_wait_for_a_core_that_lasts_is_not_counted(
    of_a_child: Allowance, clock: Clock, tmp_path: Path
) -> None:
    (tmp_path / "stat").write_text("7 (a (child)) R 1 7\n")
    of_a_child.hear(b"begun 0\n")
    clock.passes(of_a_child, 60)  # the system tells of it only when it is over
    assert not of_a_child.is_used_up()
    for n in range(16):  # it runs, and the wait is given back once
        assert not of_a_child.is_used_up()
        (tmp_path / "schedstat").write_text(f"{5000 + n} 60000000000 13\n")
        clock.passes(of_a_child, 0.1)
    assert of_a_child.is_used_up()


@pytest.mark.parametrize("told", [None, "0 0 0\n"])
def test_where_the_system_counts_nothing_a_child_that_runs_does_not_wait(
    told: str | None, of_a_child: Allowance, clock: Clock, tmp_path: Path
) -> None:
    (tmp_path / "stat").write_text("7 (a (child)) R 1 7\n")
    (tmp_path / "schedstat").unlink()
    if told is not None:
        (tmp_path / "schedstat").write_text(told)
    of_a_child.hear(b"begun 0\n")
    clock.passes(of_a_child, FIRST_S + 0.01)
    assert of_a_child.is_used_up()


def test_time_in_which_nobody_looked_is_not_counted(of_a_child: Allowance, clock: Clock) -> None:
    of_a_child.hear(b"begun 0\n")
    clock.now += 60
    assert not of_a_child.is_used_up()
    clock.passes(of_a_child, FIRST_S)
    assert of_a_child.is_used_up()


def test_a_child_that_has_ended_is_heard_to_its_end(
    of_a_child: Allowance, clock: Clock, tmp_path: Path
) -> None:
    of_a_child.hear(b"begun 0\n")
    (tmp_path / "stat").write_text("7 (a (child)) Z 1 7\n")
    clock.passes(of_a_child, 60)  # whoever hears it is held up
    assert not of_a_child.is_used_up()
    clock.passes(of_a_child, MOST_S)
    assert of_a_child.is_used_up()


@pytest.mark.parametrize(
    "line", [b"\n", b"read\n", b"read x\n", b"\xff 1\n", b"other 5\n", b"1 2 3"]
)
def test_other_lines_say_nothing(line: bytes, of_a_child: Allowance, clock: Clock) -> None:
    of_a_child.hear(b"begun 0\n")
    of_a_child.hear(line)
    clock.passes(of_a_child, FIRST_S + 0.01)
    assert of_a_child.is_used_up()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells it")
def test_the_system_tells_how_long_it_waited() -> None:
    fields = Path(f"/proc/{os.getpid()}/schedstat")
    if not fields.exists():
        pytest.skip("this kernel does not")
    waits = Allowance(os.getpid(), MOST_S)
    assert waits._waited(waits._schedule()) > 0


def test_a_series_earns_by_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bytes] = []
    hear = Allowance.hear

    def listen(self: Allowance, line: bytes) -> None:
        heard.append(line)
        hear(self, line)

    monkeypatch.setattr(Allowance, "hear", listen)
    series(tmp_path / "series")
    read_dicom(tmp_path / "series", Limits())
    sizes = [path.stat().st_size for path in sorted((tmp_path / "series").iterdir())]
    expected = ["begun 0\n", *(f"read {size}\n" for size in sizes), f"makes {2 * DATA.size}\n"]
    assert heard == [line.encode() for line in expected]


def test_outside_of_the_child_nothing_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    earning.begun()
    earning.has_read(5)
    earning.makes(5)
    assert capfd.readouterr() == ("", "")
