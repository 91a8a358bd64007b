"""The tutorial of live sessions: its commands and its programs run as they are written."""

import re
import shlex
import subprocess
import threading
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from service.client import LiveSession
from service.client.live_answers import LiveAnswer
from tests.e2e.conftest import WARPLINE, Up

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "live.md"
WRITTEN_ADDRESS = "127.0.0.1:8081"
TEXT = PAGE.read_text("utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.M | re.S)
    return [text for spoken, text in found if spoken == language]


COMMANDS = [block.strip() for block in blocks("") if block.strip() != "warpline up"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, pair: dict[str, Path]) -> Path:
    """A folder with the files that the page names."""
    folder = tmp_path_factory.mktemp("tutorial")
    planning, now = nib.load(pair["moving"]), nib.load(pair["fixed"])
    nib.save(planning, folder / "planning.nii.gz")
    nib.save(now, folder / "now.nii.gz")
    nib.save(nib.load(pair["moving_labels"]), folder / "structures.nii.gz")
    frame = np.asarray(now.dataobj)
    series = np.stack([np.roll(frame, shift, axis=0) for shift in (0, 1)], axis=-1)
    nib.save(nib.Nifti1Image(series, now.affine), folder / "series.nii.gz")
    (folder / "export").mkdir()
    return folder


def export(files: Path, has_ended: threading.Event) -> None:
    """What a scanner does while somebody watches."""
    number = 0
    while not has_ended.wait(0.5):
        number += 1
        part = files / "export" / f"{number}.part"
        part.write_bytes((files / "now.nii.gz").read_bytes())
        part.rename(files / "export" / f"{number}.nii.gz")


@pytest.mark.parametrize("command", COMMANDS, ids=range(len(COMMANDS)))
def test_commands_run_as_they_are_written(up: Up, files: Path, command: str) -> None:
    words = shlex.split(command.replace(WRITTEN_ADDRESS, up.grpc))
    assert words.pop(0) == "warpline"
    has_ended = threading.Event()
    scanner = threading.Thread(target=export, args=(files, has_ended))
    scanner.start()
    done = subprocess.run(
        [*WARPLINE, *words], cwd=files, capture_output=True, text=True, check=False
    )
    has_ended.set()
    scanner.join()
    assert done.returncode == 0, done.stdout + done.stderr
    for folder in re.findall(r"--out (\S+)", command):
        made = files / folder
        assert (made / "warped_labels.nii.gz").exists() or len(list(made.iterdir())) == 3


@pytest.mark.parametrize("program", blocks("python"), ids=["live", "pair"])
def test_programs_run_as_they_are_written(
    up: Up, files: Path, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    space: dict[str, object] = {}
    exec(program.replace(WRITTEN_ADDRESS, up.grpc), space)  # noqa: S102 - our own page
    assert ("answer" in space) or (files / "result" / "warped.nii.gz").exists()


def test_what_an_answer_is_said_to_have_it_has() -> None:
    listed = TEXT.partition("An answer has ")[2].partition("**Look")[0]
    named = set(re.findall(r"`(\w+)`", listed))
    assert len(named) > 10
    assert named <= set(LiveAnswer.__dataclass_fields__)
    assert all(hasattr(LiveSession, name) for name in ("refusals", "finish", "send", "answers"))
