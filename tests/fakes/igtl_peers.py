"""A live session that registers nothing, and a peer of plain sockets."""

import queue
import socket
import time
from contextlib import contextmanager

import numpy as np

from service.errors import LiveFullError, WarplineError
from service.igtl.connection import Limits
from service.igtl.session import Answer, Placed, Unanswered
from service.igtl.wire import Message, open_body, pack, parse_header

# What hangs does so for ever; on a busy machine a peer is silent for a quarter of a minute.
PATIENCE_S = 120.0
PATIENT = Limits(most_bytes=1 << 22, stall_s=PATIENCE_S)
QUICK = Limits(most_bytes=1 << 22, stall_s=0.5)
PATIENCE_S = 120.0  # of a busy machine
AFFINE = np.array([[0.0, -1, 0, 5], [1, 0, 0, -7], [0, 0, 1, 2], [0, 0, 0, 1]])
RIGID = np.array([[1.0, 0, 0, 5], [0, 1, 0, -7], [0, 0, 1, 2], [0, 0, 0, 1]])


def answer_to(number, frame, **other):
    """An answer that shows the frame itself as everything it can show."""
    said = {
        "verdict": "pass",
        "reasons": (),
        "latency_ms": 12.5,
        "motion_median_mm": 1.5,
        "motion_max_mm": 4.0,
        "affine": AFFINE,
        "rigid": RIGID,
        "points_mm": np.array([(1.0, 2.0, 3.0)]),
        "field": Placed(np.full((*frame.voxels.shape, 3), 0.5, np.float16), frame.affine),
        "warped_image": Placed(frame.voxels, frame.affine),
        "warped_labels": Placed((frame.voxels > 3).astype(np.uint8), frame.affine),
    }
    return Answer(number, **(said | other))


class FakeSession:
    """Answers every frame at once, as it is told to."""

    def __init__(self, service, first):
        self.service, self.first, self.frames = service, first, {}
        self._events = queue.Queue()
        self.is_closed = False

    def send(self, number, frame):
        if frame.affine[0, 3] == self.service.deadly_x:
            raise LiveFullError("The service has gone away.")
        self.frames[number] = frame
        self._events.put(self.service.answer(number, frame))

    def events(self):
        while (event := self._events.get()) is not None:
            if isinstance(event, WarplineError):
                raise event
            yield event

    def close(self):
        self.is_closed = True
        self._events.put(None)


class FakeService:
    """Opens sessions; keeps them for a look."""

    deadly_x = None

    def __init__(self, answer=answer_to, refusals=()):
        self.answer, self.refusals, self.sessions = answer, list(refusals), []

    def __call__(self, first):
        if self.refusals:
            raise self.refusals.pop(0)
        self.sessions.append(FakeSession(self, first))
        return self.sessions[-1]


def dropped(number, frame):
    return Unanswered(1)


class Peer:
    """A peer that sends any bytes and reads whole messages."""

    def __init__(self, sock):
        self.sock = sock
        sock.settimeout(PATIENCE_S)

    def send(self, *messages, version=1):
        for message in messages:
            data = pack(message, version) if isinstance(message, Message) else message
            self.sock.sendall(data)

    def _read(self, size):
        data = b""
        while len(data) < size:
            part = self.sock.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def receive(self):
        header = parse_header(self._read(58))
        return open_body(header, self._read(header.body_bytes))

    def receive_kind(self, kind):
        while (message := self.receive()).kind != kind:
            pass
        return message

    def is_ended(self):
        try:
            while True:
                self.receive()
        except (EOFError, ConnectionError):
            return True


@contextmanager
def peer_of(port):
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as sock:
        yield Peer(sock)


def wait_for(condition, within_s=PATIENCE_S):
    """Wait until something is so."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it did not come to that in time"
        time.sleep(0.005)
