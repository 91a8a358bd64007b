"""The tutorial of archives: its files and its commands work as they are written."""

import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tests.archives import PASSWORD, Orthanc
from tests.dicoms import affine_of, write_series
from tests.e2e.conftest import PATIENCE_S, WARPLINE, Up, start
from tests.integration.serving import ended
from tests.servers import free_port

pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("dcmtk")]

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "from-pacs-to-pacs.md"
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
ARCHIVE = "https://pacs.example.org/dicom-web"


def blocks(language: str) -> list[str]:
    return [text for spoken, text in BLOCKS if spoken == language]


def command(start_of_it: str) -> list[str]:
    """The words of a command of the page, without its variables."""
    (line,) = [text for text in blocks("") if start_of_it in text]
    words = shlex.split(line)
    return words[words.index(start_of_it.split(maxsplit=1)[0]) :]


def body() -> np.ndarray:
    noise = np.random.default_rng(5).normal(size=(28, 28, 20))
    return np.asarray(gaussian_filter(noise, 3) * 9000).astype(np.int16)


class Room:
    """A folder, a running service and an archive."""

    def __init__(self, folder: Path, orthanc: Orthanc) -> None:
        self.folder, self.orthanc = folder, orthanc
        self.port = str(free_port())
        self.told = folder / "pacs.toml"
        text = "\n".join(blocks("toml")).replace(ARCHIVE, orthanc.dicomweb)
        self.told.write_text(text.replace("11112", self.port))
        self.env = os.environ | {"PACS_PASSWORD": PASSWORD, "WARPLINE_PACS_FILE": str(self.told)}
        with pytest.MonkeyPatch.context() as patch:
            for name in ("PACS_PASSWORD", "WARPLINE_PACS_FILE"):
                patch.setenv(name, self.env[name])
            self.up: Up = start(folder / "data", "--workers", "1")

    def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        program = WARPLINE if words[0] == "warpline" else words[:1]
        env = self.env | {"WARPLINE_DATA_DIR": str(self.up.data_dir), "WARPLINE_URL": self.up.url}
        return subprocess.run(
            [*program, *words[1:]],
            capture_output=True, text=True, check=False, env=env, cwd=self.folder, timeout=300,
        )  # fmt: skip

    def count(self) -> int:
        """How many objects the archive has."""
        with self.orthanc.http as http:
            return int(http.get("/statistics").json()["CountInstances"])


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, orthanc: Orthanc) -> Iterator[Room]:
    made = Room(tmp_path_factory.mktemp("tutorial"), orthanc)
    yield made
    made.up.stop()


def test_the_order_that_the_page_makes_is_carried_out(room: Room, tmp_path: Path) -> None:
    placed = affine_of(np.eye(3), (2, 2, 3), (-28, -28, 10))
    for uid, shift in (("1.2.3.100", 0), ("1.2.3.200", 2)):
        data = np.roll(body(), shift, axis=0)
        room.orthanc.take(write_series(tmp_path / uid, data, placed, series=uid))
    before = room.count()
    checked = room.run(["warpline", "pacs", "check", str(room.told)])
    assert checked.returncode == 0, checked.stderr
    assert "MAIN" in checked.stdout
    words = [*command("warpline pacs register"), "--url", room.up.url]
    for _ in range(2):
        done = room.run(words)
        assert done.returncode == 0, done.stderr
        assert room.count() == before + 20 + 3
    order = json.loads(*blocks("json"))
    with httpx.Client(base_url=room.up.url, timeout=PATIENCE_S) as http:
        answer = http.post("/v1/register", json=order, headers={"Prefer": "wait=60"})
        assert ended(http, answer.json())["state"] == "succeeded", answer.text
    verified = room.run(["warpline", "audit", "verify"])
    assert verified.returncode == 0, verified.stderr
    log = (room.up.data_dir / "audit.jsonl").read_text()
    kinds = [json.loads(line)["did"] for line in log.splitlines()]
    assert {"submit", "pacs.fetch", "end", "pacs.store"} <= set(kinds)
    assert "1.2.3.100" not in log


def test_what_a_scanner_pushes_is_registered_and_stored(room: Room, tmp_path: Path) -> None:
    before = room.count()
    placed = affine_of(np.eye(3), (2, 2, 3), (-28, -28, 10))
    for n, (folder, text) in enumerate((("planning", "CT planning"), ("day8", "CT day 8"))):
        write_series(
            room.folder / folder, np.roll(body(), n, axis=1), placed, series=f"1.2.4.{n}",
            StudyInstanceUID="1.2.4", SeriesDescription=text,
        )  # fmt: skip
    listener = subprocess.Popen(
        [*WARPLINE, *command("warpline pacs listen")[1:]],
        env=room.env | {"WARPLINE_DATA_DIR": str(room.up.data_dir), "WARPLINE_MIN_FREE_MIB": "0"},
    )
    try:
        words = [word.replace("11112", room.port) for word in command("storescu")]
        until = time.monotonic() + PATIENCE_S
        while (pushed := room.run(words)).returncode and time.monotonic() < until:
            assert listener.poll() is None
            time.sleep(0.5)
        assert pushed.returncode == 0, pushed.stderr
        while room.count() < before + 23 and time.monotonic() < until:
            time.sleep(0.2)
        assert room.count() == before + 23
        log = (room.up.data_dir / "audit.jsonl").read_text()
        assert '"rule":"follow-up"' in log
        assert "1.2.4.0" not in log
    finally:
        listener.send_signal(signal.SIGTERM)
        listener.wait(PATIENCE_S)
