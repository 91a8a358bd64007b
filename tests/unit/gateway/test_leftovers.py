"""Folders of requests: none is taken from a process that lives, none outlives a killed one."""

import os
import subprocess
import sys
import time
from pathlib import Path

from service.gateway import leftovers
from service.gateway.leftovers import HeldFolders

HOLDER = """
import sys, time
from pathlib import Path
from service.gateway.leftovers import HeldFolders
with HeldFolders(Path(sys.argv[1])).folder() as folder:
    (folder / "file").write_text("x")
    print(folder, flush=True)
    time.sleep(600)
"""


def age(folder: Path) -> None:
    then = time.time() - 2 * leftovers.YOUNGEST_S
    os.utime(folder, (then, then))


def test_a_folder_lasts_as_long_as_its_block(tmp_path: Path) -> None:
    with HeldFolders(tmp_path).folder() as folder:
        (folder / "file").write_text("x")
        assert list(tmp_path.iterdir()) == [folder]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_goes_with_its_killed_process_and_not_before(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    age(folder)
    assert HeldFolders(tmp_path).remove_leftovers() == 0
    process.kill()
    process.wait()
    process.stdout.close()
    with HeldFolders(tmp_path).folder() as own:  # whoever comes next tidies up
        assert list(tmp_path.iterdir()) == [own]


def test_a_young_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "just-made").mkdir()
    assert HeldFolders(tmp_path).remove_leftovers() == 0
    age(tmp_path / "just-made")
    assert HeldFolders(tmp_path).remove_leftovers() == 1
