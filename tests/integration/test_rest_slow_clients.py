"""A real gateway process against clients that are slow, endless or wrong on the wire."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from tests.servers import free_port
from tests.unit.gateway.conftest import volume

ROOT = Path(__file__).parents[2]
HEADER_TIMEOUT_S = 1.0
BODY_IDLE_TIMEOUT_S = 1.0
PATIENCE_S = 120.0  # of a busy machine
# Of a gateway whose clients are well-behaved: on a busy machine they may be slow, too.
PATIENT = {"HEADER_TIMEOUT_S": 300, "BODY_IDLE_TIMEOUT_S": 300}


@contextmanager
def gateway(folder: Path, **settings: object) -> Iterator[tuple[int, Path]]:
    """A gateway process: its port and its log."""
    port, log = free_port(), folder / "gateway.log"
    own = {"DATA_DIR": folder / "data", "PORT": port, "MIN_FREE_MIB": 0}
    chosen = own | PATIENT | settings
    environment = {f"WARPLINE_{name}": str(value) for name, value in chosen.items()}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.gateway.main"],
            cwd=ROOT,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)} | environment,
            stderr=output,
            stdout=output,
        )
        try:
            wait_until_healthy(port, process, log)
            yield port, log
        finally:
            process.terminate()
            assert process.wait(timeout=PATIENCE_S) in (0, -15)


def wait_until_healthy(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + 2 * PATIENCE_S
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        with suppress(httpx.TransportError):
            if httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    folder = tmp_path_factory.mktemp("impatient")
    times = {"HEADER_TIMEOUT_S": HEADER_TIMEOUT_S, "BODY_IDLE_TIMEOUT_S": BODY_IDLE_TIMEOUT_S}
    with gateway(folder, MAX_BODY_MIB=1, **times) as made:
        yield made


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    with gateway(tmp_path_factory.mktemp("patient"), MAX_BODY_MIB=1) as made:
        yield made


def prompt(port: int, data: bytes) -> socket.socket:
    """A connection whose first bytes came before an impatient gateway had enough of waiting."""
    while True:
        began = time.monotonic()
        connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        connection.sendall(data)
        if time.monotonic() - began < HEADER_TIMEOUT_S:
            return connection
        connection.close()  # this process was held up


def answer_to(port: int, *pieces: bytes, pause_s: float = 0.0) -> tuple[int, dict[str, object]]:
    """Send pieces with pauses between them; gives status and problem of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        for piece in pieces:
            try:
                connection.sendall(piece)
            except OSError:
                break  # it has hung up; the answer may still be there to read
            time.sleep(pause_s)
        data = b""
        try:
            while chunk := connection.recv(65536):
                data += chunk
        except ConnectionResetError:
            pass
    head, _, body = data.partition(b"\r\n\r\n")
    assert head, "no answer"
    assert b"application/problem+json" in head
    return int(head.split()[1]), json.loads(body)


START = b"POST /v1/register HTTP/1.1\r\nHost: x\r\n"
FORM = b"Content-Type: multipart/form-data; boundary=x\r\n"


def test_a_head_that_never_ends_is_cut_off(impatient: tuple[int, Path]) -> None:
    began = time.monotonic()
    status, problem = answer_to(impatient[0], START)
    assert (status, problem["code"]) == (408, "request-timeout")
    assert HEADER_TIMEOUT_S * 0.8 < time.monotonic() - began < HEADER_TIMEOUT_S + PATIENCE_S


def test_a_head_that_drips_is_cut_off(impatient: tuple[int, Path]) -> None:
    drops = [b"X-Drop: 1\r\n"] * 8
    status, problem = answer_to(impatient[0], START, *drops, pause_s=0.25)
    assert (status, problem["code"]) == (408, "request-timeout")


def test_a_client_that_says_nothing_is_cut_off(impatient: tuple[int, Path]) -> None:
    status, problem = answer_to(impatient[0])
    assert (status, problem["code"]) == (408, "request-timeout")


@pytest.mark.parametrize(
    "head",
    [
        START + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
        START + b"X-A: b\r\n" * 10_000 + b"\r\n",
        b"GET /" + b"a" * 50_000 + b" HTTP/1.1\r\n\r\n",
        START + b"X: " + b"a" * 17_000,
    ],
)
def test_a_head_that_is_too_large_is_refused_at_once(
    patient: tuple[int, Path], head: bytes
) -> None:
    """Who waited for the rest would do so for minutes."""
    status, problem = answer_to(patient[0], head)
    assert (status, problem["code"]) == (431, "headers-too-large")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        START + b"Content-Length: -5\r\n\r\n",
        START + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused(patient: tuple[int, Path], request_bytes: bytes) -> None:
    status, problem = answer_to(patient[0], request_bytes)
    assert (status, problem["code"]) == (400, "validation-failed")


def test_a_body_that_stops_is_cut_off(impatient: tuple[int, Path]) -> None:
    began = time.monotonic()
    status, problem = answer_to(impatient[0], START + FORM + b"Content-Length: 5000\r\n\r\n--x\r\n")
    assert (status, problem["code"]) == (408, "request-timeout")
    assert time.monotonic() - began < BODY_IDLE_TIMEOUT_S + PATIENCE_S


def test_a_body_that_drips_is_cut_off(impatient: tuple[int, Path]) -> None:
    head = START + FORM + b"Content-Length: 500000\r\n\r\n"
    drops = [b"a"] * 40
    status, problem = answer_to(impatient[0], head, *drops, pause_s=0.1)
    assert (status, problem["code"]) == (408, "request-timeout")


def test_a_client_that_sends_on_still_gets_its_refusal(patient: tuple[int, Path]) -> None:
    """Closed at once, its system would throw the answer away with a reset."""
    port = patient[0]
    for _ in range(5):
        answer = httpx.post(
            f"http://127.0.0.1:{port}/v1/register",
            files={"fixed": bytes(8 * 2**20), "moving": b"1"},
            timeout=PATIENCE_S,
        )
        assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")
        assert answer.headers["connection"] == "close"


def test_an_upload_that_breaks_keeps_what_arrived(patient: tuple[int, Path]) -> None:
    port = patient[0]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client:
        data = bytes(range(256)) * 400
        url = client.post("/v1/uploads", json={"bytes": len(data)}).headers["location"]
        head = f"PATCH {url} HTTP/1.1\r\nHost: x\r\nUpload-Offset: 0\r\nContent-Length: {len(data)}"
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(head.encode() + b"\r\n\r\n" + data[:77_777])
            time.sleep(0.2)
        until = time.monotonic() + PATIENCE_S
        while not (received := int(client.head(url).headers["upload-offset"])):
            assert time.monotonic() < until, "nothing arrived"
            time.sleep(0.05)
        assert received == 77_777
        rest = client.patch(url, content=data[received:], headers={"Upload-Offset": str(received)})
        assert rest.json()["complete"]


def test_others_are_served_while_many_are_slow(impatient: tuple[int, Path]) -> None:
    port = impatient[0]
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    try:
        for connection in slow:
            connection.sendall(START)
        began = time.monotonic()
        with prompt(port, b"GET /v1/limits HTTP/1.1\r\nHost: x\r\n\r\n") as served:
            assert served.recv(100).startswith(b"HTTP/1.1 200")
        assert time.monotonic() - began < PATIENCE_S  # one after the other: longer
        assert slow[0].recv(100).startswith(b"HTTP/1.1 408")
    finally:
        for connection in slow:
            connection.close()


def test_the_log_names_the_address_and_no_query(patient: tuple[int, Path]) -> None:
    port, log = patient
    for path in ("jobs?patient=Mustermann", "Mustermann.nii", "limits"):
        httpx.get(f"http://127.0.0.1:{port}/v1/{path}", timeout=PATIENCE_S)
    text = log.read_text()
    assert f"http://127.0.0.1:{port}" in text
    assert "GET /jobs 200" in text
    assert "Mustermann" not in text


def test_line_ends_between_requests_do_not_hold_a_connection(impatient: tuple[int, Path]) -> None:
    with prompt(impatient[0], b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") as connection:
        answer = b""
        while not answer.endswith(b"}"):  # head and body may come apart
            answer += connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200")
        connection.sendall(b"\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 408")


def test_a_late_head_never_gets_an_answer_into_the_one_before(impatient: tuple[int, Path]) -> None:
    """The first request waits two seconds, the head behind it times out after one."""
    port = impatient[0]
    files = {"fixed": volume(), "moving": volume(seed=1)}
    request = httpx.Request("POST", "http://x/v1/register", files=files)
    body = request.read()
    head = f"POST /v1/register HTTP/1.1\r\nHost: x\r\nPrefer: wait=2\r\nContent-Length: {len(body)}"
    kind = f"\r\nContent-Type: {request.headers['content-type']}\r\n\r\n"
    both = head.encode() + kind.encode() + body + b"GET /healthz HTTP/1.1\r\n"
    with prompt(port, both) as connection:
        data = b""
        while chunk := connection.recv(65536):
            data += chunk
    assert data.startswith(b"HTTP/1.1 202")
    assert data.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 408" in data


def test_a_client_that_does_not_read_is_cut_off(impatient: tuple[int, Path]) -> None:
    """Answers pile up until no buffer takes more; then the connection is closed."""
    port, log = impatient
    one = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    with prompt(port, one) as reader:
        whole = int(re.findall(rb"content-length: (\d+)", reader.recv(4096))[0])
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port))
        connection.settimeout(PATIENCE_S)
        connection.sendall(one * 100)
        got = len(connection.recv(1))  # it has begun
        until = time.monotonic() + PATIENCE_S
        while connection.getsockname() in peers_of(pid_in(log)):
            assert time.monotonic() < until, "it waits for ever"
            time.sleep(0.1)
        with suppress(ConnectionResetError):
            while chunk := connection.recv(65536):
                got += len(chunk)
    assert got < 100 * whole / 2


def peers_of(pid: int) -> set[tuple[str, int]]:
    """Addresses of those who are connected to a process."""
    return {(*one.raddr,) for one in psutil.Process(pid).net_connections("tcp") if one.raddr}


def test_a_stop_ends_event_streams_and_waits(tmp_path: Path) -> None:
    files = {"fixed": volume(), "moving": volume(seed=1)}
    with gateway(tmp_path) as (port, log), httpx.Client(timeout=300) as client:
        url = f"http://127.0.0.1:{port}/v1/"
        job = client.post(f"{url}register", files=files).json()["id"]
        with client.stream("GET", f"{url}jobs/{job}/events") as stream:
            lines = stream.iter_lines()
            assert any(line == "event: queued" for line in lines)
            began = time.monotonic()
            os.kill(pid_in(log), signal.SIGTERM)
            assert not [line for line in lines if line.startswith("event:")]
            assert time.monotonic() - began < PATIENCE_S


def pid_in(log: Path) -> int:
    found = re.search(r"Started server process \[(\d+)\]", log.read_text())
    assert found is not None
    return int(found[1])


def resident_mib(pid: int) -> float:
    """The most memory that a process has ever held."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_bombs_and_large_files_take_little_memory(tmp_path: Path) -> None:
    header = bytearray(volume((2, 2, 2), dtype="uint8")[:352])
    header[40:48] = b"".join(n.to_bytes(2, "little") for n in (3, 1600, 1600, 1600))
    squeeze = zlib.compressobj(9, wbits=31)
    start = squeeze.compress(bytes(header)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    block = squeeze.compress(bytes(2**24)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    bomb = start + 256 * block + squeeze.flush()  # after a full flush, blocks can be repeated
    assert len(bomb) < 5 * 2**20
    large = volume((256, 256, 200))
    with gateway(tmp_path) as (port, log), httpx.Client(timeout=300) as client:
        pid = pid_in(log)
        url = f"http://127.0.0.1:{port}/v1/register"
        small = {"fixed": volume(), "moving": volume(seed=1)}
        assert client.post(url, files=small).status_code == 202
        before_mib = resident_mib(pid)
        began = time.monotonic()
        refused = client.post(url, files=small | {"moving": bomb})
        assert (refused.status_code, refused.json()["code"]) == (413, "volume-too-large")
        assert time.monotonic() - began < PATIENCE_S
        assert client.post(url, files=small | {"moving": large}).status_code == 202
        assert resident_mib(pid) - before_mib < 64


def test_it_does_not_start_open_to_others_without_keys(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "service.gateway.main"],
        cwd=ROOT,
        env={
            "PATH": "/usr/bin:/bin",
            "WARPLINE_HOST": "0.0.0.0",  # noqa: S104 - that is the point
            "WARPLINE_DATA_DIR": str(tmp_path),
            "WARPLINE_PORT": "0",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 2
    assert "WARPLINE_API_KEYS" in done.stderr
    assert "Traceback" not in done.stderr
