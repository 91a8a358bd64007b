"""Answers are heard by whoever asked, however late the threads of an association are."""

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from pynetdicom import AE
from pynetdicom.presentation import build_context

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
    thread.join(10)
    assert not thread.is_alive()
    assert not held._is_paused


class _Late(Checkpoint):
    """Its association's thread loses the processor each time that it has come through."""

    def wait(self) -> None:
        super().wait()
        time.sleep(0.02)


def test_an_answer_reaches_its_sender_where_both_threads_are_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(association, "Checkpoint", _Late)
    archive = AE("ARCHIVE")
    archive.add_supported_context(VERIFICATION)
    server = archive.start_server(("127.0.0.1", 0), block=False)
    peer = DimsePeer(
        protocol="dimse",
        host="127.0.0.1",
        port=server.socket.getsockname()[1],
        ae_title="ARCHIVE",
        timeout_s=5,
    )
    try:
        with associated(peer, [build_context(VERIFICATION)]) as ours:
            send = ours.dimse.send_msg

            def send_and_be_late(*message: Any) -> None:
                send(*message)
                time.sleep(0.05)

            monkeypatch.setattr(ours.dimse, "send_msg", send_and_be_late)
            for _ in range(5):
                time.sleep(0.01)  # the association's thread goes round
                assert status_of(ours.send_c_echo()) == SUCCESS
    finally:
        server.shutdown()
