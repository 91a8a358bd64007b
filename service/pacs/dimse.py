"""An archive that speaks DICOM's own protocol: C-FIND, C-GET or C-MOVE, C-STORE, commitment.

Source: DICOM PS3.4 annexes B, C and J.
"""

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.presentation import build_context, build_role

from service.errors import (
    PacsObjectRefusedError,
    PacsRefusedError,
    PacsSeriesNotFoundError,
    PacsSeriesTooLargeError,
    PacsUnavailableError,
)
from service.jobs.job import PacsSeries
from service.pacs.archive import Landing, SeriesLimits, Tick
from service.pacs.association import (
    OUT_OF_RESOURCES,
    PENDING,
    PLAIN,
    SUCCESS,
    Weight,
    associated,
    each_alone,
    received_in,
    serving,
    status_of,
    storage_contexts,
)
from service.pacs.commitment import commit
from service.pacs.objects import Sending, Sent
from service.pacs.peers import DimsePeer

# Study root; PS3.4 C.6.2.1.3.
FIND, MOVE, GET = (UID(f"1.2.840.10008.5.1.4.1.2.2.{n}") for n in (1, 2, 3))
WARNINGS = frozenset({0xB000, 0xB006, 0xB007})  # PS3.4 table B.2-1: stored all the same
OVERHEAD = 4096  # of a command and its fragments


class Dimse:
    """`service.pacs.archive.Archive` over DIMSE."""

    def __init__(self, peer: DimsePeer) -> None:
        self._peer = peer

    # ---- looking -----------------------------------------------------------------------------

    def _instances(self, study: str, series: str, tick: Tick) -> dict[str, str]:
        """SOP class by SOP instance UID of what the archive has of a series."""
        wanted = _identifier("IMAGE", study, series)
        wanted.SOPInstanceUID = wanted.SOPClassUID = ""
        found = {}
        with associated(self._peer, [build_context(FIND)]) as association:
            for status, one in association.send_c_find(wanted, FIND):
                tick()
                if status_of(status) in PENDING and one is not None:
                    found[str(one.get("SOPInstanceUID", ""))] = str(one.get("SOPClassUID", ""))
                elif status_of(status) != SUCCESS:
                    raise PacsUnavailableError("The archive could not list the series.")
        found.pop("", None)
        return found

    # ---- fetching ----------------------------------------------------------------------------

    def fetch(self, series: PacsSeries, folder: Path, limits: SeriesLimits, tick: Tick) -> int:
        """As `Archive.fetch`."""
        expected = self._instances(series.study, series.series, tick)
        if not expected:
            raise PacsSeriesNotFoundError
        if len(expected) > limits.max_files:
            raise PacsSeriesTooLargeError(
                f"This service takes series of up to {limits.max_files} instances."
            )
        landing = Landing(folder, limits)
        arrivals = _Arrivals(landing, tick, limits.max_bytes + len(expected) * OVERHEAD)
        with received_in(folder):
            if self._peer.retrieve == "get":
                self._get(series, set(expected.values()) - {""}, arrivals)
            else:
                self._move(series, arrivals)
        arrivals.require_sound()
        # A series that still grows is not yet the one that was meant.
        again = self._instances(series.study, series.series, tick)
        return landing.finish(expected.keys() | again.keys())

    def _get(self, series: PacsSeries, classes: set[str], arrivals: "_Arrivals") -> None:
        contexts = [build_context(GET), *each_alone(classes)]
        if not classes:  # the archive does not say, as DCMTK's: all that a role may take
            classes = {*IMAGES, *OTHERS}
            contexts += [*each_alone(OTHERS, PLAIN), *each_alone(IMAGES)]
        roles = [build_role(kind, scp_role=True) for kind in classes]
        with associated(
            self._peer, contexts, roles=roles, handlers=arrivals.handlers()
        ) as association:
            told = association.send_c_get(_identifier("SERIES", series.study, series.series), GET)
            self._follow(told, arrivals)

    def _move(self, series: PacsSeries, arrivals: "_Arrivals") -> None:
        peer = self._peer
        takes = storage_contexts()
        with (
            serving(peer, peer.move_port or 0, arrivals.handlers(), takes),
            associated(peer, [build_context(MOVE)]) as association,
        ):
            wanted = _identifier("SERIES", series.study, series.series)
            self._follow(association.send_c_move(wanted, peer.calling_ae_title, MOVE), arrivals)

    @staticmethod
    def _follow(told: Any, arrivals: "_Arrivals") -> None:
        """Hear how far the archive is; what did not come is counted afterwards."""
        for answer, _ in told:
            arrivals.require_sound()
            arrivals.tick()
            status = status_of(answer)
            if status in (0xA801, 0x0124):  # PS3.4 C.4.2.1.5
                raise PacsRefusedError(
                    "The archive refused to send: it has to know this service's AE title."
                )

    # ---- storing -----------------------------------------------------------------------------

    def store(self, objects: Sequence[Sending], tick: Tick) -> Sent:
        """As `Archive.store`; nothing counts as kept that the archive does not commit itself to,
        where it is said to do so."""
        before = self._there(objects, tick)
        refused = self._send([one for one in objects if one.meta.uid not in before], tick)
        if refused:
            raise PacsObjectRefusedError(
                f"The archive refused {refused} of {len(objects)} objects; those that it takes "
                "were stored."
            )
        if self._peer.storage_commitment:
            commit(self._peer, objects, tick)
        there = sum(one.meta.uid in before for one in objects)
        return Sent(len(objects) - there, there)

    def _there(self, objects: Sequence[Sending], tick: Tick) -> set[str]:
        series = {(one.study, one.series) for one in objects}
        found: set[str] = set()
        for study, number in sorted(series):
            found |= self._instances(study, number, tick).keys()
        return found

    def _send(self, objects: Sequence[Sending], tick: Tick) -> int:
        """Send each; how many the archive will never take."""
        if not objects:
            return 0
        kinds = sorted({(one.meta.sop_class, one.meta.transfer_syntax) for one in objects})
        refused = 0
        with associated(self._peer, [build_context(*kind) for kind in kinds]) as association:
            for one in objects:
                tick()
                refused += not self._sent(association, one)
        return refused

    @staticmethod
    def _sent(association: Any, one: Sending) -> bool:
        """Whether the archive took an object.

        Raises:
            PacsUnavailableError: If it may take it another time.
        """
        try:
            status = status_of(association.send_c_store(one.path))
        except ValueError:  # it agreed to no context for this class
            return False
        except RuntimeError:
            raise PacsUnavailableError("The archive ended the association.") from None
        if status == SUCCESS or status in WARNINGS:
            return True
        if status in (0x0110, 0x0213) or status & 0xFF00 == OUT_OF_RESOURCES:
            raise PacsUnavailableError("The archive cannot take objects now.")
        return False


class _Arrivals:
    """Takes what comes on an association; the first thing that goes wrong ends it."""

    def __init__(self, landing: Landing, tick: Tick, most_bytes: int) -> None:
        self.tick = tick
        self._landing = landing
        self._weight = Weight(most_bytes)
        self._lock = threading.Lock()
        self._error: BaseException | None = None

    def handlers(self) -> list[Any]:
        return [(evt.EVT_C_STORE, self._stored), self._weight.handler()]

    def _stored(self, event: Any) -> int:
        with self._lock, ExitStack() as cleaning:
            path = Path(event.dataset_path)
            event.request._dataset_file.close()
            cleaning.callback(path.unlink, missing_ok=True)
            if self._error is not None:  # the archive goes on in spite of it
                event.assoc.abort()
                return OUT_OF_RESOURCES
            try:
                self.tick()
                self._landing.take(path)
            except BaseException as error:  # raised again by whoever asked for the objects
                self._error = error
                return OUT_OF_RESOURCES
        return SUCCESS

    def require_sound(self) -> None:
        """Raises what went wrong."""
        if self._error is not None:
            raise self._error
        if self._weight.is_too_much:
            raise PacsSeriesTooLargeError


def _identifier(level: str, study: str, series: str) -> Dataset:
    wanted = Dataset()
    wanted.QueryRetrieveLevel = level
    wanted.StudyInstanceUID, wanted.SeriesInstanceUID = study, series
    return wanted


# Segmentations, structure sets and structured reports: labels and points.
OTHERS = tuple(
    f"1.2.840.10008.5.1.4.1.1.{kind}"
    for kind in ("66.4", "66.7", "481.3", "88.11", "88.22", "88.33", "88.34")
)
# CT, enhanced CT, MR, enhanced MR, PET, enhanced PET, ultrasound volume; PS3.6 annex A.
IMAGES = tuple(
    f"1.2.840.10008.5.1.4.1.1.{kind}" for kind in ("2", "2.1", "4", "4.1", "128", "130", "6.2")
)
