"""Series of senders that go away and come again, before the threads of their first time know."""

import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from service.pacs.association import OUT_OF_RESOURCES, SUCCESS
from service.pacs.incoming import Incoming
from service.pacs.receiver import Receiver
from service.pacs.rules import Listener
from tests.dicoms import affine_of, write_series


class Association:
    """The receiver's side of a connection; its threads never get a turn."""

    requestor = SimpleNamespace(ae_title="SCANNER", address="127.0.0.1")

    def __init__(self, connection: socket.socket) -> None:
        self.dul = SimpleNamespace(socket=SimpleNamespace(socket=connection))

    def is_alive(self) -> bool:
        return True


class Sender:
    """Both ends of a connection."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.own = socket.create_connection(server.getsockname())
            self.theirs, _ = server.accept()
        self.association = Association(self.theirs)

    def close(self) -> None:
        self.own.close()
        self.theirs.close()


@pytest.fixture
def senders() -> Iterator[tuple[Sender, Sender]]:
    pair = (Sender(), Sender())
    yield pair
    for sender in pair:
        sender.close()


class Bench:
    """A listener's receiver, and objects that are handed to it."""

    def __init__(self, folder: Path) -> None:
        rule = {"name": "any", "fixed": {"modality": "CT"}, "moving": {"modality": "MR"}}
        told = {"callers": {"SCANNER": "*"}, "rules": [rule]}
        limits = {"most_bytes": 1 << 30, "most_objects": 100, "min_free": 0}
        self.incoming = Incoming(folder / "incoming", **limits)
        self.receiver = Receiver(Listener.model_validate(told), self.incoming)
        placed = affine_of(np.eye(3), (1, 2, 3), (0, 0, 0))
        zeros = np.zeros((4, 4, 2), np.int16)
        self.objects = [path.read_bytes() for path in write_series(folder / "in", zeros, placed)]

    def take(self, sender: Sender, number: int) -> int:
        """An object comes; the status that is answered."""
        path = self.incoming.coming / "object"
        path.write_bytes(self.objects[number])
        request = SimpleNamespace(_dataset_file=path.open("rb"))
        return self.receiver._stored(self._event(sender, dataset_path=path, request=request))

    def release(self, sender: Sender) -> None:
        self.receiver._released(self._event(sender))

    @staticmethod
    def _event(sender: Sender, **more: Any) -> Any:
        return SimpleNamespace(assoc=sender.association, **more)

    @property
    def is_open(self) -> bool:
        (series,) = self.incoming.series()
        return series.is_open


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_series_stays_open_while_another_sends_it(
    bench: Bench, senders: tuple[Sender, Sender]
) -> None:
    first, second = senders
    assert [bench.take(first, 0), bench.take(second, 1)] == [SUCCESS, SUCCESS]
    bench.release(second)
    assert bench.is_open
    bench.release(first)
    assert not bench.is_open


def test_a_sender_that_broke_off_holds_nothing_open_once_all_was_sent_again(
    bench: Bench, senders: tuple[Sender, Sender]
) -> None:
    first, second = senders
    assert bench.take(first, 0) == SUCCESS
    first.own.close()
    assert [bench.take(second, n) for n in (0, 1)] == [SUCCESS, SUCCESS]
    bench.release(second)
    assert not bench.is_open
    assert bench.take(first, 1) == OUT_OF_RESOURCES  # of which a thread hears now
    assert not bench.is_open
