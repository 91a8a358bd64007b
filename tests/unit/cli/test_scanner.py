"""The scanner that is played, and the folder that one exports to."""

import gzip
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from service.cli.scanner import Timing, play
from service.cli.stream_setup import watched
from service.cli.watched_folder import WatchedFolder
from service.registration.files.limits import Limits


@dataclass
class Clock:
    """A clock that only waiting moves."""

    now: float = 100.0
    waits: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def times(timing: Timing, count: int) -> list[tuple[str, float]]:
    clock = Clock()
    frames: list[Any] = [object() for _ in range(count)]
    played = play(frames, count, timing, wait=clock.wait, clock=clock)
    return [(frame.name, round(clock.now - 100, 6)) for frame in played]


def test_frames_come_at_the_rate():
    assert times(Timing(rate_hz=4), 3) == [("0001", 0), ("0002", 0.25), ("0003", 0.5)]


def test_without_a_rate_nobody_waits():
    assert times(Timing(), 3) == [("0001", 0), ("0002", 0), ("0003", 0)]


def test_a_pause_moves_all_that_follows():
    come = times(Timing(rate_hz=2, pause_every=2, pause_s=3), 5)
    assert [at for _, at in come] == [0, 0.5, 4, 4.5, 8]


def test_jitter_makes_frames_late_never_early():
    late = [
        at - number * 0.5 for number, (_, at) in enumerate(times(Timing(rate_hz=2, jitter=0.5), 40))
    ]
    assert min(late) >= 0
    assert 0.1 < max(late) <= 0.25
    assert len(set(late)) > 30


def test_lost_frames_leave_gaps_and_the_same_ones_each_time():
    come = times(Timing(rate_hz=1, drops=0.3, seed=5), 100)
    assert 55 < len(come) < 85
    assert come == times(Timing(rate_hz=1, drops=0.3, seed=5), 100)
    assert all(at == int(name) - 1 for name, at in come)


def test_a_slow_taker_gets_the_next_frame_at_once():
    clock = Clock()
    for _ in play([object()] * 3, 3, Timing(rate_hz=10), wait=clock.wait, clock=clock):  # type: ignore[list-item]
        clock.now += 1
    assert clock.waits == []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def export(tmp_path: Path, clock: Clock) -> WatchedFolder:
    """A folder that had a volume before it was watched."""
    save(tmp_path / "before.nii", 0)
    made = watched(tmp_path, Limits())
    made.clock, made.wait = clock, clock.wait
    return made


def save(path: Path, first: int) -> bytes:
    data = np.random.default_rng(first).integers(1, 99, (6, 5, 4)).astype(np.int16)
    data[0, 0, 0] = first
    nib.save(nib.Nifti1Image(data, np.diag([2.0, 2.0, 2.0, 1.0])), path)
    return path.read_bytes()


def seen(export: WatchedFolder, clock: Clock) -> list[tuple[str, int]]:
    """What is found in the next half second."""
    until, found = clock.now + 0.5, []
    for frame in export.frames(lambda: clock.now > until):
        found.append((frame.name, int(frame.volume.data[0, 0, 0])))
    return found


def test_new_files_are_frames_and_old_ones_are_not(export, clock, tmp_path):
    assert seen(export, clock) == []
    save(tmp_path / "a.nii.gz", 1)
    save(tmp_path / "b.nii", 2)
    assert sorted(seen(export, clock)) == [("a.nii.gz", 1), ("b.nii", 2)]
    assert seen(export, clock) == []


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_file_that_is_still_written_is_left_alone(export, clock, tmp_path, ending):
    whole = save(tmp_path / f"x{ending}", 3)
    (tmp_path / f"x{ending}").write_bytes(whole[: len(whole) // 2])
    assert seen(export, clock) == []
    (tmp_path / f"x{ending}").write_bytes(whole)
    assert seen(export, clock) == [(f"x{ending}", 3)]


def test_a_file_that_grows_all_the_time_is_not_settled(export, clock, tmp_path):
    growing = (tmp_path / "x.nii").open("wb")
    found = []
    for _ in range(40):
        growing.write(b"0" * 100)
        growing.flush()
        found += list(export.look())
        clock.wait(0.05)
    growing.close()
    assert found == []


def test_partial_names_count_when_they_are_renamed(export, clock, tmp_path):
    save(tmp_path / "tmp.nii", 4)
    (tmp_path / "tmp.nii").rename(tmp_path / "c.nii.part")
    (tmp_path / ".hidden.nii").write_bytes((tmp_path / "c.nii.part").read_bytes())
    assert seen(export, clock) == []
    (tmp_path / "c.nii.part").rename(tmp_path / "c.nii")
    assert seen(export, clock) == [("c.nii", 4)]


def test_a_file_written_anew_is_a_new_frame(export, clock, tmp_path):
    save(tmp_path / "latest.nii", 5)
    assert seen(export, clock) == [("latest.nii", 5)]
    save(tmp_path / "next.nii", 6)
    (tmp_path / "next.nii").rename(tmp_path / "latest.nii")
    assert seen(export, clock) == [("latest.nii", 6)]


def test_what_is_no_volume_is_told_once(export, clock, tmp_path, capsys):
    (tmp_path / "notes.nii").write_bytes(b"no volume" * 100)
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / "damaged.nii.gz").write_bytes(gzip.compress(b"x" * 1000)[:-4])
    assert seen(export, clock) + seen(export, clock) == []
    assert capsys.readouterr().err.count("notes.nii is passed over") == 1
