"""Inputs by URL: only hosts on the operator's list, no detours, no flood, no telling why."""

import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from service.errors import (
    ChecksumMismatchError,
    InvalidRequestError,
    JobCancelledError,
    UploadNotFoundError,
    UrlFetchError,
    UrlNotAllowedError,
)
from service.jobs.job import InputFile
from service.stores.memory_files import MemoryBlobStore
from service.stores.signing import UrlSigner
from service.worker import fetch as fetch_module
from service.worker.fetch import UrlRules, fetch_input

DATA = b"nifti" * 100_000


class Host(BaseHTTPRequestHandler):
    """/ok gives DATA, /away redirects to it, /long never ends, /lie promises more than it gives."""

    def do_GET(self) -> None:
        status = {"/away": 302, "/ok": 200, "/long": 200, "/lie": 200}.get(self.path, 404)
        self.send_response(status)
        self.send_header("Location", "/ok")
        if self.path != "/long":
            length = len(DATA) + (self.path == "/lie") if status == 200 else 0
            self.send_header("Content-Length", str(length))
        self.end_headers()
        try:
            while status == 200:
                self.wfile.write(DATA)
                if self.path != "/long":
                    break
        except OSError:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a host on a busy machine."""
    monkeypatch.setattr(fetch_module, "CONNECT_TIMEOUT_S", 120)
    monkeypatch.setattr(fetch_module, "READ_TIMEOUT_S", 120)


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Host)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


BLOBS = MemoryBlobStore(UrlSigner(b"s", "http://x"))
BLOBS.put_bytes("uploads/a/data", DATA)


def fetch(file: InputFile, target: Path, hosts: str = "", tick: Any = lambda: None) -> str:
    return fetch_input(file, "fixed", target, BLOBS, UrlRules.of(hosts, 1), tick)


def test_a_stored_object_is_copied_and_its_digest_checked(tmp_path: Path) -> None:
    digest = hashlib.sha256(DATA).hexdigest()
    good = InputFile(key="uploads/a/data", sha256=digest.upper())
    assert fetch(good, tmp_path / "a") == digest
    assert (tmp_path / "a").read_bytes() == DATA
    with pytest.raises(ChecksumMismatchError) as caught:
        fetch(InputFile(key="uploads/a/data", sha256="0" * 64), tmp_path / "b")
    assert caught.value.field == "fixed"


def test_an_object_that_is_gone_and_no_object_at_all_are_said(tmp_path: Path) -> None:
    with pytest.raises(UploadNotFoundError):
        fetch(InputFile(key="uploads/b/data"), tmp_path / "a")
    with pytest.raises(InvalidRequestError):
        fetch(InputFile(), tmp_path / "a")


def test_a_listed_host_is_fetched_from(host: str, tmp_path: Path) -> None:
    digest = fetch(InputFile(url=f"http://{host}/ok"), tmp_path / "a", f"x.example, {host}")
    assert digest == hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize(
    "url",
    [
        "http://{host}/ok",
        "http://example.org/x",
        "http://good.example@{host}/ok",
        "http://good.example:22/x",
        "http://good.example.evil.example/x",
        "file:///etc/passwd",
        "ftp://good.example/x",
        "gopher://good.example/x",
        "http://[::1]/x",
        "http://good.example:notaport/x",
        "http://user:password@good.example/x",
        "//good.example/x",
        "",
        "http://",
    ],
)
def test_nothing_else_is_fetched_and_every_refusal_reads_the_same(
    host: str, url: str, tmp_path: Path
) -> None:
    with pytest.raises(UrlNotAllowedError) as caught:
        fetch(InputFile(url=url.format(host=host)), tmp_path / "a", "good.example")
    assert caught.value.problem() == UrlNotAllowedError().problem()


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.169.254", "::1", "fe80::1%1", "::", "::ffff:127.0.0.1"]
)
def test_a_listed_name_that_points_inwards_is_refused_the_same_way(
    address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    answer = [(family, socket.SOCK_STREAM, 6, "", (address, 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)
    with pytest.raises(UrlNotAllowedError) as caught:
        fetch(InputFile(url="http://good.example/x"), tmp_path / "a", "good.example")
    assert caught.value.problem() == UrlNotAllowedError().problem()


def test_a_name_that_turns_inwards_after_the_check_is_refused(
    host: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    port = host.partition(":")[2]
    real = socket.getaddrinfo
    answers = iter(["198.51.100.7"])  # the first look-up is ours, the second the connection's

    def turning(name: str, *arguments: Any, **options: Any) -> Any:
        return real(next(answers, "127.0.0.1"), *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", turning)
    with pytest.raises(UrlNotAllowedError):
        fetch(
            InputFile(url=f"http://good.example:{port}/ok"), tmp_path / "a", f"good.example:{port}"
        )
    assert not (tmp_path / "a").exists() or (tmp_path / "a").read_bytes() == b""


@pytest.mark.parametrize("path", ["away", "long", "lie", "missing"])
def test_detours_floods_and_broken_answers_are_given_up(
    host: str, path: str, tmp_path: Path
) -> None:
    with pytest.raises(UrlFetchError) as caught:
        fetch(InputFile(url=f"http://{host}/{path}"), tmp_path / "a", host)
    assert host not in caught.value.detail
    assert (tmp_path / "a").stat().st_size <= 1 << 20 if (tmp_path / "a").exists() else True


def test_a_fetch_stops_when_it_is_told_to(host: str, tmp_path: Path) -> None:
    def stop() -> None:
        raise JobCancelledError

    with pytest.raises(JobCancelledError):
        fetch(InputFile(url=f"http://{host}/ok"), tmp_path / "a", host, stop)
