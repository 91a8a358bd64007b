"""Answers are heard by whoever asked, however late the threads of an association are."""

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from service.errors import PacsRefusedError
from service.pacs import association
from service.pacs.association import SUCCESS, associated, status_of
from service.pacs.checkpoint import Checkpoint
from service.pacs.peers import DimsePeer

VERIFICATION = "1.2.840.10008.1.1"


def test_whoever_went_through_waits_no_longer() -> None:
    waiting = SimpleNamespace(_is_paused=True)
    Checkpoint(waiting).wait()
    assert not waiting._is_paused


def test_it_holds_a_thread_until_it_is_set() -> None:
    held = SimpleNamespace(_is_paused=True)
    checkpoint = Checkpoint(held)
    checkpoint.clear()
    assert not checkpoint.is_set()
    thread = threading.Thread(target=checkpoint.wait)
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    assert held._is_paused
    checkpoint.set()
    thread.join(120)
    assert not thread.is_alive()
    assert not held._is_paused


class _Late(Checkpoint):
    """Its association's thread loses the processor each time that it has come through."""

    def wait(self) -> None:
        super().wait()
        time.sleep(0.02)


@pytest.fixture
def peer() -> Iterator[DimsePeer]:
    """An archive that answers to its name, and to no other."""
    archive = AE("ARCHIVE")
    archive.add_supported_context(VERIFICATION)
    archive.require_called_aet = True
    archive.acse_timeout = archive.dimse_timeout = archive.network_timeout = 120
    server = archive.start_server(("127.0.0.1", 0), block=False)
    port = server.socket.getsockname()[1]
    yield DimsePeer(
        protocol="dimse",
        host="127.0.0.1",
        port=port,
        ae_title="ARCHIVE",
        connect_timeout_s=120,
        timeout_s=120,
    )
    server.shutdown()


def test_an_answer_reaches_its_sender_where_both_threads_are_late(
    peer: DimsePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(association, "Checkpoint", _Late)
    with associated(peer, [build_context(VERIFICATION)]) as ours:
        send = ours.dimse.send_msg

        def send_and_be_late(*message: Any) -> None:
            send(*message)
            time.sleep(0.05)

        monkeypatch.setattr(ours.dimse, "send_msg", send_and_be_late)
        for _ in range(5):
            time.sleep(0.01)  # the association's thread goes round
            assert status_of(ours.send_c_echo()) == SUCCESS


@pytest.mark.parametrize("late_s", [0, 0.5])
def test_a_rejection_is_one_even_if_it_comes_before_we_look(peer: DimsePeer, late_s: float) -> None:
    stranger = peer.model_copy(update={"ae_title": "SOMEBODY"})
    late = (evt.EVT_REQUESTED, lambda _event: time.sleep(late_s))
    with (
        pytest.raises(PacsRefusedError),
        associated(stranger, [build_context(VERIFICATION)], handlers=[late]),
    ):
        pass
