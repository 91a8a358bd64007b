"""DICOM files as archives see them: what they are called, without a look at what they hold."""

import struct
from dataclasses import dataclass, field
from pathlib import Path

from service.errors import PacsUnavailableError

LONGEST_META = 64 << 10
LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR",
                  b"UT", b"UV"})  # fmt: skip
CLASS, UID, SYNTAX = 0x0002, 0x0003, 0x0010


@dataclass(frozen=True)
class Meta:
    """What the file meta information says."""

    sop_class: str = field(repr=False)
    uid: str = field(repr=False)
    transfer_syntax: str
    end: int  # where the data set begins


@dataclass(frozen=True)
class Sending:
    """An object that is to be sent."""

    path: Path
    meta: Meta
    study: str = field(repr=False)
    series: str = field(repr=False)


@dataclass(frozen=True)
class Sent:
    """What became of a job's objects."""

    sent: int
    there_before: int


def meta_of(path: Path) -> Meta:
    """The file meta information of a DICOM file; reads no further.

    Raises:
        PacsUnavailableError: If it is no DICOM file: the archive's answer was damaged on its way.

    Source: DICOM PS3.10 section 7.1.
    """
    with path.open("rb") as file:
        start = file.read(LONGEST_META)
    if start[128:132] != b"DICM":
        raise PacsUnavailableError("The archive sent something that is not DICOM.")
    found, position = {}, 132
    while start[position : position + 2] == b"\x02\x00" and position + 12 <= len(start):
        element = struct.unpack_from("<H", start, position + 2)[0]
        if start[position + 4 : position + 6] in LONG:
            header, length = 12, struct.unpack_from("<L", start, position + 8)[0]
        else:
            header, length = 8, struct.unpack_from("<H", start, position + 6)[0]
        value = start[position + header : position + header + length]
        found[element] = value.rstrip(b"\0 ").decode("ascii", "replace")
        position += header + length
    if not all(found.get(element) for element in (CLASS, UID, SYNTAX)):
        raise PacsUnavailableError("The archive sent DICOM without its file meta information.")
    return Meta(found[CLASS], found[UID], found[SYNTAX], position)


def to_send(path: Path) -> Sending:
    """One of our own objects."""
    from pydicom import dcmread

    header = dcmread(
        path, stop_before_pixels=True, specific_tags=["StudyInstanceUID", "SeriesInstanceUID"]
    )
    return Sending(path, meta_of(path), str(header.StudyInstanceUID), str(header.SeriesInstanceUID))
