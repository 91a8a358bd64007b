"""A real archive for tests: Debian's Orthanc with DICOMweb and DIMSE, on loopback, in a folder."""

import gc
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers import PATIENCE_S, free_port, missing, wait_for_port

# Else DCMTK, which Orthanc has inside, waits for 40 ms between a command and its data.
os.environ["TCP_NODELAY"] = "1"
PLUGIN = "libOrthancDicomWeb.so"
# pynetdicom leaves sockets of refused connections, and files of aborted objects, to the collector.
LEFT_OPEN = "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"
DCMQRSCP = """\
NetworkTCPPort = {port}
MaxPDUSize = 16384
MaxAssociations = 16
HostTable BEGIN
us = (WARPLINE, 127.0.0.1, {ours})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
ARCHIVE {folder} RW (10, 64mb) ANY
AETable END
"""
USER, PASSWORD = "warpline", "an archive's secret"


@dataclass
class Orthanc:
    """Stopped and started again it keeps what it has."""

    folder: Path
    http_port: int = field(default_factory=free_port)
    dicom_port: int = field(default_factory=free_port)
    modalities: dict[str, list[Any]] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)  # of its configuration
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def dicomweb(self) -> str:
        return f"http://127.0.0.1:{self.http_port}/dicom-web"

    @property
    def http(self) -> httpx.Client:
        """Its own API, as its operator sees it."""
        address = f"http://127.0.0.1:{self.http_port}"
        return httpx.Client(base_url=address, auth=(USER, PASSWORD), timeout=PATIENCE_S)

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        config = {
            "Name": "TEST",
            "StorageDirectory": str(self.folder / "db"),
            "IndexDirectory": str(self.folder / "db"),
            "HttpPort": self.http_port,
            "DicomPort": self.dicom_port,
            "DicomAet": "ARCHIVE",
            "DicomAlwaysAllowStore": False,
            "DicomCheckCalledAet": True,
            "DicomModalities": self.modalities,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: PASSWORD},
            "Plugins": [str(_plugin())],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            "OverwriteInstances": False,
            "DicomScuTimeout": PATIENCE_S,
            "DicomScpTimeout": PATIENCE_S,
            "HttpRequestTimeout": PATIENCE_S,
            **self.more,
        }
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(config))
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(["Orthanc", str(path)], stdout=log, stderr=log)
        log.close()
        wait_for_port(self.http_port, self.process)
        wait_for_port(self.dicom_port, self.process)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(PATIENCE_S)
            self.process = None

    def take(self, files: list[Path]) -> None:
        """Objects come in."""
        with self.http as http:
            for path in files:
                assert http.post("/instances", content=path.read_bytes()).status_code == 200

    def objects(self, series: str | None = None) -> dict[str, bytes]:
        """Every object by its SOP instance UID, byte for byte."""
        with self.http as http:
            query = {"Level": "Instance", "Expand": True, "Query": {}}
            if series is not None:
                query["Query"] = {"SeriesInstanceUID": series}
            found = http.post("/tools/find", json=query).json()
            return {
                one["MainDicomTags"]["SOPInstanceUID"]: http.get(
                    f"/instances/{one['ID']}/file"
                ).content
                for one in found
            }

    def knows(self, ae_title: str, port: int, **more: Any) -> None:
        """Let another entity in; where it listens."""
        with self.http as http:
            entity = {"AET": ae_title, "Host": "127.0.0.1", "Port": port, **more}
            assert http.put(f"/modalities/{ae_title}", json=entity).status_code == 200

    def clear(self) -> None:
        with self.http as http:
            for patient in http.get("/patients").json():
                http.delete(f"/patients/{patient}")


def _plugin() -> Path | None:
    return next((p for p in Path("/usr/share/orthanc/plugins").glob(f"{PLUGIN}*")), None)


@pytest.fixture(scope="session")
def orthanc_binary() -> str:
    if shutil.which("Orthanc") is None or _plugin() is None:
        missing("Orthanc with its DICOMweb plugin")
    return "Orthanc"


@pytest.fixture
def collected() -> Iterator[None]:
    """What a test leaves to the garbage collector goes with it."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def dcmtk() -> None:
    """DCMTK's programs are here."""
    if any(shutil.which(name) is None for name in ("storescu", "storescp", "findscu", "getscu")):
        missing("DCMTK")


@pytest.fixture(scope="module")
def orthanc(orthanc_binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """An archive that this module's tests share; each empties it or makes its own UIDs."""
    made = Orthanc(tmp_path_factory.mktemp("orthanc") / "archive")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def dcmqrscp(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What a peers' file says of DCMTK's archive, which is running.."""
    binary = shutil.which("dcmqrscp")
    if binary is None:
        missing("DCMTK's dcmqrscp")
    folder, port, ours = tmp_path / "archive", free_port(), free_port()
    folder.mkdir()
    configured = tmp_path / "dcmqrscp.cfg"
    configured.write_text(DCMQRSCP.format(port=port, ours=ours, folder=folder))
    command = [str(binary), "-ta", str(PATIENCE_S), "-c", str(configured), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port, process)
        yield {
            "protocol": "dimse",
            "host": "127.0.0.1",
            "port": port,
            "ae_title": "ARCHIVE",
            "connect_timeout_s": PATIENCE_S,
            "timeout_s": PATIENCE_S,
            "move_port": ours,
        }
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
