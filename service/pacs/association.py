"""DICOM associations: made, watched over, ended; a library's words stay inside.

What is received goes to files as it comes, what is sent goes from files as it lies.

Source: DICOM PS3.7, PS3.8.
"""

import logging
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom import Dataset, config
from pydicom.uid import UID
from pynetdicom import AE, _config, evt
from pynetdicom.pdu import A_ASSOCIATE_RJ
from pynetdicom.presentation import (
    AllStoragePresentationContexts,
    PresentationContext,
    build_context,
)

from service.errors import PacsRefusedError, PacsUnavailableError
from service.pacs.checkpoint import Checkpoint
from service.pacs.peers import DimsePeer
from service.pacs.tls import client_context, server_context
from service.registration.files.dicom.syntaxes import EXPLICIT, IMPLICIT, TRANSFER_SYNTAXES

SUCCESS, PENDING = 0x0000, (0xFF00, 0xFF01)
OUT_OF_RESOURCES, CANNOT_UNDERSTAND = 0xA700, 0xC000
MOST_CONTEXTS = 128  # the standard's, of one association
SYNTAXES = tuple(TRANSFER_SYNTAXES)
PLAIN = (IMPLICIT, EXPLICIT, "1.2.840.10008.1.2.5")  # and RLE, in which segmentations come

_tempdir = threading.Lock()


def _opened(event: Any) -> None:
    """Lose no answer to a race of threads, and let no packet wait for the answer to another.

    A message is a command and then its data: the data would wait until the peer acknowledges the
    command, which it puts off for 40 ms, for every object.
    """
    event.assoc._reactor_checkpoint = Checkpoint(event.assoc)
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


OPENED = (evt.EVT_CONN_OPEN, _opened)


def set_up() -> None:
    """Make the libraries silent, for their words hold what objects say, and keep them lean."""
    for name in ("pynetdicom", "pydicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    config.settings.reading_validation_mode = config.IGNORE
    _config.STORE_RECV_CHUNKED_DATASET = True
    _config.STORE_SEND_CHUNKED_DATASET = True


@contextmanager
def received_in(folder: Path) -> Iterator[None]:
    """Let what comes lie in a new folder, which goes again with what is left in it.

    The library puts it where temporary files are; of this process only one may say where.
    """
    with _tempdir, tempfile.TemporaryDirectory(dir=folder, prefix="coming-") as coming:
        before, tempfile.tempdir = tempfile.tempdir, coming
        try:
            yield
        finally:
            tempfile.tempdir = before


def entity(peer: DimsePeer) -> AE:
    """This service, as the peer knows it."""
    set_up()
    made = AE(peer.calling_ae_title)
    made.connection_timeout = peer.connect_timeout_s
    made.acse_timeout = peer.connect_timeout_s
    made.dimse_timeout = made.network_timeout = peer.timeout_s
    return made


@contextmanager
def associated(
    peer: DimsePeer,
    contexts: Sequence[PresentationContext],
    *,
    roles: Iterable[Any] = (),
    handlers: Sequence[Any] = (),
) -> Iterator[Any]:
    """An association, released at the end, or aborted where something went wrong.

    Raises:
        PacsUnavailableError: If the peer is not there.
        PacsRefusedError: If it rejects us, or all that we want to talk about.
    """
    refused = threading.Event()

    def hear(event: Any) -> None:
        """Note a rejection: to the library it is none where its threads are late.

        They look for the connection after they have waited for it, and a peer that rejects at once
        has closed it by then.
        """
        if isinstance(event.pdu, A_ASSOCIATE_RJ):
            refused.set()

    made = entity(peer).associate(
        peer.host,
        peer.port,
        contexts=list(contexts[:MOST_CONTEXTS]),
        ae_title=peer.ae_title,
        ext_neg=list(roles),
        tls_args=None if peer.tls is None else (client_context(peer.tls), peer.host),
        evt_handlers=[*handlers, OPENED, (evt.EVT_PDU_RECV, hear)],
    )
    if not made.is_established:
        if refused.is_set() or (made.is_aborted and made.rejected_contexts):
            raise PacsRefusedError(
                "The archive rejected the association: it has to know this service's AE title."
            )
        raise PacsUnavailableError
    try:
        yield made
    except BaseException:
        made.abort()
        raise
    made.release()


def each_alone(
    classes: Iterable[str], syntaxes: Sequence[str] = SYNTAXES
) -> list[PresentationContext]:
    """A context for each class and syntax, so that objects come in the syntax they lie in."""
    made = [build_context(UID(kind), syntax) for kind in sorted(classes) for syntax in syntaxes]
    return made[: MOST_CONTEXTS - 1]


def storage_contexts() -> list[PresentationContext]:
    """Every storage class, in the syntaxes that are read."""
    return [
        build_context(one.abstract_syntax, list(SYNTAXES))
        for one in AllStoragePresentationContexts
        if one.abstract_syntax is not None
    ]


def status_of(answer: Dataset) -> int:
    """The status of a response.

    Raises:
        PacsUnavailableError: If none came.
    """
    if "Status" not in answer:
        raise PacsUnavailableError("The archive ended the association, or was silent too long.")
    return int(answer.Status)


@contextmanager
def serving(peer: DimsePeer, port: int, handlers: Sequence[Any], contexts: Any) -> Iterator[None]:
    """Listen for what the peer sends on associations that it opens; only its AE title is let in,
    and where it is talked to by TLS, only by that.

    Raises:
        PacsUnavailableError: If the port is taken, as by another job of this machine.
    """
    made = entity(peer)
    made.supported_contexts = contexts
    made.require_calling_aet = [peer.ae_title]
    made.require_called_aet = True
    made.maximum_associations = 4
    try:
        server = made.start_server(
            (peer.move_host, port),
            block=False,
            ssl_context=None if peer.tls is None else server_context(peer.tls),
            evt_handlers=[*handlers, OPENED],
        )
    except OSError:
        raise PacsUnavailableError(
            "The port that the archive answers to is in use; the job waits for it."
        ) from None
    try:
        yield
    finally:
        if server is not None:
            server.shutdown()


class Weight:
    """Ends an association that brings more than is allowed, before it is written."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self.is_too_much = False

    def handler(self) -> tuple[Any, Callable[[Any], None]]:
        """For `evt_handlers`."""
        return (evt.EVT_DATA_RECV, self._count)

    def _count(self, event: Any) -> None:
        self._left -= len(event.data)
        if self._left < 0 and not self.is_too_much:
            self.is_too_much = True
            # Not in this thread, which is the one that would have to send it.
            threading.Thread(target=event.assoc.abort, daemon=True).start()
