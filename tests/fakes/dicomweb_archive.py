"""An archive that speaks DICOMweb as badly as it is told to."""

import json
import re
import ssl
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from service.pacs.objects import meta_of

BOUNDARY = "fake"
LIST = re.compile(r"/studies/[^/]+/series/[^/]+/instances\?")
ONE = re.compile(r"/studies/[^/]+/series/[^/]+/instances/([0-9.]+)$")


class FakeArchive:
    """Objects by UID; `faults` are met by the next requests, first come, first served."""

    def __init__(self, scratch: Path, tls: ssl.SSLContext | None = None) -> None:
        self.objects: dict[str, bytes] = {}
        self.received: list[str] = []  # every object of every STOW, in order
        self.faults: deque[str] = deque()
        self.sends_only: int | None = None  # of a series
        self.scratch = scratch
        archive = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                archive.get(self)

            def do_POST(self) -> None:
                archive.post(self)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://localhost:{self._server.server_port}"
        self.awake = threading.Event()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.awake.set()
        self._server.shutdown()
        self._server.server_close()

    def get(self, call: BaseHTTPRequestHandler) -> None:
        """QIDO-RS and WADO-RS."""
        fault = self.faults.popleft() if self.faults else ""
        if fault == "sleeps":
            self.awake.wait(600)
            call.close_connection = True
            return None
        if fault.isdigit():
            return self._answer(call, int(fault), b"")
        if LIST.search(call.path):
            return self._list(call)
        one = ONE.search(call.path)
        wanted = [one[1]] if one else list(self.objects)[: self.sends_only]
        if one and (self.sends_only is not None or one[1] not in self.objects):
            return self._answer(call, 404, b"")
        body = self._message([self.objects[uid] for uid in wanted])
        if fault == "breaks off":
            call.send_response(200)
            self._headers(call, len(body))
            call.wfile.write(body[: len(body) // 2])
            call.close_connection = True
            return None
        return self._answer(call, 200, body, "multipart/related; boundary=" + BOUNDARY)

    def _list(self, call: BaseHTTPRequestHandler) -> None:
        listed = [{"00080018": {"vr": "UI", "Value": [uid]}} for uid in self.objects]
        self._answer(call, 200, json.dumps(listed).encode())

    def post(self, call: BaseHTTPRequestHandler) -> None:
        """STOW-RS: takes all, or what the fault lets it."""
        body = call.rfile.read(int(call.headers["Content-Length"]))
        fault = self.faults.popleft() if self.faults else ""
        if fault.isdigit():
            return self._answer(call, int(fault), b"")
        kept, failed = [], []
        for n, data in enumerate(self._parts(call, body)):
            path = self.scratch / "part"
            path.write_bytes(data)
            uid = meta_of(path).uid
            self.received.append(uid)
            item = {"00081155": {"vr": "UI", "Value": [uid]}}
            if fault.startswith("reason ") and n == 0:
                reason = int(fault.removeprefix("reason "), 16)
                failed.append(item | {"00081197": {"vr": "US", "Value": [reason]}})
            else:
                self.objects[uid] = data
                kept.append(item)
        if fault == "answer is lost":
            call.close_connection = True
            return None
        answer = {"00081199": {"vr": "SQ", "Value": kept}, "00081198": {"vr": "SQ"}}
        answer["00081198"]["Value"] = failed  # type: ignore[assignment]
        return self._answer(call, 202 if failed else 200, json.dumps(answer).encode())

    @staticmethod
    def _parts(call: BaseHTTPRequestHandler, body: bytes) -> list[bytes]:
        boundary = call.headers["Content-Type"].rpartition("boundary=")[2].encode()
        parts = body.split(b"--" + boundary)[1:-1]
        return [part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n") for part in parts]

    @staticmethod
    def _message(files: list[bytes]) -> bytes:
        head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        return b"".join(head + file + b"\r\n" for file in files) + f"--{BOUNDARY}--".encode()

    @staticmethod
    def _headers(call: BaseHTTPRequestHandler, size: int) -> None:
        call.send_header("Content-Type", "multipart/related; boundary=" + BOUNDARY)
        call.send_header("Content-Length", str(size))
        call.end_headers()

    @staticmethod
    def _answer(
        call: BaseHTTPRequestHandler, status: int, body: bytes, kind: str = "application/dicom+json"
    ) -> None:
        call.send_response(status)
        call.send_header("Content-Type", kind)
        call.send_header("Content-Length", str(len(body)))
        call.end_headers()
        call.wfile.write(body)
