"""The C-STORE side of the listener: who may send, how much, and when a series is whole.

Source: DICOM PS3.4 annex B, PS3.7 annex C for the status codes.
"""

import logging
import socket
import tempfile
import threading
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from service.errors import LimitError, StorageFullError, WarplineError
from service.pacs.association import (
    CANNOT_UNDERSTAND,
    OPENED,
    OUT_OF_RESOURCES,
    SUCCESS,
    set_up,
    storage_contexts,
)
from service.pacs.incoming import Facts, Incoming, hashed
from service.pacs.rules import Listener
from service.pacs.tls import server_context
from service.registration.files.dicom.gate import check_file

log = logging.getLogger(__name__)

NOT_AUTHORISED = 0x0124
ECHO = UID("1.2.840.10008.1.1")
ESTABLISHED = b"\x01"  # the first byte of Linux' struct tcp_info
SILENCE_S = 60
LONGEST_BYTES = 4096
# Texts and UIDs of the data set itself, after the walk of gate.py; no pixels are decoded.
LOOKED_AT = [
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "PatientID",
    "IssuerOfPatientID",
    "SeriesDescription",
    "Modality",
    "ProtocolName",
    "SpecificCharacterSet",
]


class Receiver:
    """Takes what known callers push."""

    def __init__(self, config: Listener, incoming: Incoming) -> None:
        self._config = config
        self._incoming = incoming
        self._lock = threading.Lock()
        self._sending: dict[Any, set[str]] = defaultdict(set)  # series by association
        self._weight: dict[Any, int] = defaultdict(int)  # bytes since the last object
        self._server: Any = None

    def start(self) -> int:
        """Listen; gives the port.

        Raises:
            OSError: If the port is taken.
        """
        set_up()
        tempfile.tempdir = str(self._incoming.coming)
        entity = AE(self._config.ae_title)
        entity.supported_contexts = [*storage_contexts(), build_context(ECHO)]
        entity.require_calling_aet = list(self._config.callers)
        entity.require_called_aet = True
        entity.maximum_associations = self._config.max_associations
        entity.network_timeout = entity.dimse_timeout = entity.acse_timeout = SILENCE_S
        tls = self._config.tls
        self._server = entity.start_server(
            (self._config.host, self._config.port),
            block=False,
            ssl_context=None if tls is None else server_context(tls),
            evt_handlers=[
                (evt.EVT_C_STORE, self._stored),
                (evt.EVT_DATA_RECV, self._weighed),
                (evt.EVT_RELEASED, self._released),
                (evt.EVT_CONN_CLOSE, self._gone),
                OPENED,
            ],
        )
        return int(self._server.socket.getsockname()[1])

    def stop(self) -> None:
        """End every association; what was answered with success is on the disk."""
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    # ---- an association's events; each comes in a thread of its own ----------------------------

    def _stored(self, event: Any) -> int:
        path = Path(event.dataset_path)
        event.request._dataset_file.close()
        try:
            with self._lock:
                self._weight[event.assoc] = 0
                if not self._is_known(event.assoc.requestor):
                    return NOT_AUTHORISED
                if not _is_there(event.assoc):  # it will not hear of it, and send again
                    return OUT_OF_RESOURCES
                uid, series, facts = _facts(path, event.assoc.requestor.ae_title)
                key = self._incoming.keep(path, uid, series, facts)
                self._sending[event.assoc].add(key)
        except (LimitError, StorageFullError, OSError) as error:
            log.warning("listener refused %s", getattr(error, "slug", type(error).__name__))
            return OUT_OF_RESOURCES
        except Exception as error:  # what a parser says may name the patient
            log.warning("listener refused %s", getattr(error, "slug", type(error).__name__))
            return CANNOT_UNDERSTAND
        finally:
            path.unlink(missing_ok=True)
        return SUCCESS

    def _is_known(self, requestor: Any) -> bool:
        address = self._config.callers.get(requestor.ae_title.strip())
        return address in ("*", requestor.address)

    def _weighed(self, event: Any) -> None:
        before = self._weight[event.assoc]
        self._weight[event.assoc] += len(event.data)
        if before <= self._config.max_object_mib << 20 < self._weight[event.assoc]:
            log.warning("listener refused an object that is too large")
            # Not in this thread, which is the one that would have to send it.
            threading.Thread(target=event.assoc.abort, daemon=True).start()

    def _released(self, event: Any) -> None:
        """All has been sent; a series that another association still sends stays open."""
        with self._lock:
            ended = self._sending.pop(event.assoc, set())
            self._bury()
            others = [series for one, series in self._sending.items() if _is_there(one)]
            for key in ended.difference(*others):
                self._incoming.close(key)

    def _bury(self) -> None:
        """Forget associations that ended without a release: nobody knows whether all has come, and
        their sender will send again."""
        for one in [one for one in self._sending if not one.is_alive()]:
            log.warning("listener was left with %d unfinished series", len(self._sending.pop(one)))

    def _gone(self, event: Any) -> None:
        """The connection ended, as it does after a release, too."""
        with self._lock:
            self._weight.pop(event.assoc, None)


def _is_there(association: Any) -> bool:
    """Whether the sender is, as the system knows: an association's own threads may find out when
    the sender has come again, sent everything and gone."""
    if not hasattr(socket, "TCP_INFO"):  # not every system tells
        return bool(association.is_alive())
    transport = association.dul.socket
    if transport is None:
        return False
    with suppress(OSError, AttributeError):  # closed meanwhile
        told = transport.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        return bool(told == ESTABLISHED)
    return False


def _facts(path: Path, calling: str) -> tuple[str, str, Facts]:
    """UIDs of the object and its series, and what rules look at.

    Raises:
        InvalidFileError: If the file may not be parsed.
    """
    check_file(path)
    said = dcmread(path, stop_before_pixels=True, specific_tags=LOOKED_AT, defer_size=LONGEST_BYTES)
    if any(getattr(one, "length", 0) > LONGEST_BYTES for one in said.values()):  # left where it is
        raise WarplineError("The object's names are too long.")
    uid, study, series = (_text(said, f"{of}InstanceUID") for of in ("SOP", "Study", "Series"))
    if not (uid and study and series):
        raise WarplineError("The object has no UIDs.")
    patient = _text(said, "PatientID")
    return (
        uid,
        series,
        Facts(
            calling=calling.strip(),
            study=hashed(study),
            patient=hashed(patient, _text(said, "IssuerOfPatientID")) if patient else "",
            description=_text(said, "SeriesDescription"),
            modality=_text(said, "Modality"),
            protocol=_text(said, "ProtocolName"),
        ),
    )


def _text(said: Dataset, keyword: str) -> str:
    return str(said.get(keyword) or "").strip()
