"""Storage commitment: an archive's word that it keeps objects, before ours are let go.

Source: DICOM PS3.4 annex J.
"""

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from pydicom import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, generate_uid
from pynetdicom import evt
from pynetdicom.presentation import build_context

from service.errors import StorageNotCommittedError
from service.pacs.archive import Tick
from service.pacs.association import SUCCESS, associated, serving, status_of
from service.pacs.objects import Sending
from service.pacs.peers import DimsePeer

MODEL = UID("1.2.840.10008.1.20.1")
INSTANCE = UID("1.2.840.10008.1.20.1.1")  # well known
ASK = 1  # PS3.4 table J.3-2: to commit itself
LOOK_EVERY_S = 0.2


def commit(peer: DimsePeer, objects: Sequence[Sending], tick: Tick) -> None:
    """Ask the archive to commit itself to keep objects, and wait for its word.

    It comes on this association, or on one that the archive opens to `commitment_port`.

    Raises:
        StorageNotCommittedError: If it does not commit itself to all of them in time.
    """
    report = _Report(generate_uid(prefix=None))
    handlers = [(evt.EVT_N_EVENT_REPORT, report.take)]
    context = build_context(MODEL)
    with ExitStack() as stack:
        if peer.commitment_port is not None:
            # There the archive is the one that asks for the association, still as the provider.
            theirs = build_context(MODEL)
            theirs.scu_role, theirs.scp_role = False, True
            stack.enter_context(serving(peer, peer.commitment_port, handlers, [theirs]))
        association = stack.enter_context(associated(peer, [context], handlers=handlers))
        answer, _ = association.send_n_action(
            _asked(report.transaction, objects), ASK, MODEL, INSTANCE
        )
        if status_of(answer) != SUCCESS:
            raise StorageNotCommittedError("The archive does not take requests for commitment.")
        report.wait(peer.commitment_timeout_s, tick)
    missing = {one.meta.uid for one in objects} - report.kept
    if missing:
        raise StorageNotCommittedError(
            f"The archive committed itself to {len(objects) - len(missing)} of {len(objects)} "
            "objects."
        )


class _Report:
    """What the archive says, whichever way it comes."""

    def __init__(self, transaction: UID) -> None:
        self.transaction = transaction
        self.kept: set[str] = set()
        self._came = threading.Event()

    def take(self, event: Any) -> tuple[int, None]:
        """Handle an N-EVENT-REPORT; one of another transaction is not ours to judge."""
        said = event.event_information
        if said.get("TransactionUID") == self.transaction:
            self.kept = {
                str(item.get("ReferencedSOPInstanceUID"))
                for item in said.get("ReferencedSOPSequence") or []
            }
            self._came.set()
        return SUCCESS, None

    def wait(self, seconds: float, tick: Tick) -> None:
        until = time.monotonic() + seconds
        while not self._came.wait(LOOK_EVERY_S):
            tick()
            if time.monotonic() > until:
                raise StorageNotCommittedError("The archive has not committed itself in time.")


def _asked(transaction: UID, objects: Sequence[Sending]) -> Dataset:
    asked = Dataset()
    asked.TransactionUID = transaction
    asked.ReferencedSOPSequence = Items([_reference(one) for one in objects])
    return asked


def _reference(one: Sending) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.meta.sop_class, one.meta.uid
    return item
