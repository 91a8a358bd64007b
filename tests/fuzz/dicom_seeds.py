"""The good files that fuzzing starts from, cut into their elements."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from pydicom import Dataset, Sequence, dcmread
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from tests.dicom_bytes import IMPLICIT, SOUND, explicit, image, meta, nested
from tests.dicom_malformed_series import enhanced, series


@dataclass(frozen=True)
class Seed:
    """A file in parts that can be moved about, and good files beside it."""

    name: str
    parts: tuple[bytes, ...]
    beside: tuple[Path, ...] = ()
    is_object: bool = False


def seeds(folder: Path) -> list[Seed]:
    """Explicit and implicit, plain and compressed, one frame and many, and objects."""
    made = folder / "seeds"
    series(made / "plain")
    plain = sorted((made / "plain").iterdir())
    enhanced(lambda _: None)(made / "enhanced")
    sound = tuple(explicit(tag, vr, value) for tag, (vr, value) in SOUND.items())
    found = [
        Seed("small", (meta(), *sound[:4], nested(3, is_defined=True), *sound[4:])),
        Seed("implicit", (meta(IMPLICIT), *image(is_explicit=False).partition(b"\x10\0\x10\0"))),
        Seed("series", _parts(plain[5]), tuple(plain[:5] + plain[6:])),
        Seed("enhanced", _parts(made / "enhanced" / "one.dcm")),
        Seed("structures", _parts(_structures(plain[0], made / "rt.dcm")), is_object=True),
        Seed("report", _parts(_report(plain[0], made / "sr.dcm")), is_object=True),
        Seed("segments", _parts(_segments(made)), is_object=True),
    ]
    for syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless):
        one = dcmread(plain[5])
        one.Rows = one.Columns = 32  # the encoder of JPEG 2000 takes no smaller ones
        one.compress(syntax, np.arange(1024, dtype=np.int16).reshape(32, 32) % 37)
        one.save_as(made / "packed.dcm", enforce_file_format=True)
        found.append(Seed(syntax.name, _parts(made / "packed.dcm")))
    return found


def _parts(path: Path) -> tuple[bytes, ...]:
    """The file's start, then each element; every other byte stays with the one before."""
    content = path.read_bytes()
    ends = [144 + int.from_bytes(content[140:144], "little")]
    for element in dcmread(path):
        told = element.tag.group.to_bytes(2, "little") + element.tag.elem.to_bytes(2, "little")
        at = content.find(told, ends[-1])
        if at > ends[-1]:
            ends.append(at)
    edges = [0, *ends, len(content)]
    return tuple(content[a:b] for a, b in pairwise(edges) if b > a)


def _structures(plain: Path, path: Path) -> Path:
    one = dcmread(plain)
    del one.PixelData
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    contour, item = Dataset(), Dataset()
    contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", 4
    contour.ContourData = [1, 1, 2, 4, 1, 2, 4, 3, 2, 1, 3, 2]
    item.ReferencedROINumber, item.ContourSequence = 1, Sequence([contour])
    one.ROIContourSequence = Sequence([item])
    one.save_as(path, enforce_file_format=True)
    return path


def _report(plain: Path, path: Path) -> Path:
    one = dcmread(plain)
    del one.PixelData
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.34"
    mark, box = Dataset(), Dataset()
    mark.ValueType, mark.GraphicType = "SCOORD3D", "POINT"
    mark.GraphicData = np.array([1.0, 2.0, 3.0], np.float32).tolist()
    box.ValueType, box.ContentSequence = "CONTAINER", Sequence([mark])
    one.ContentSequence = Sequence([box])
    one.save_as(path, enforce_file_format=True)
    return path


def _segments(made: Path) -> Path:
    one = dcmread(made / "enhanced" / "one.dcm")
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
    one.SegmentationType = "BINARY"
    for frame in one.PerFrameFunctionalGroupsSequence:
        item = Dataset()
        item.ReferencedSegmentNumber = 1
        frame.SegmentIdentificationSequence = Sequence([item])
    one.save_as(made / "seg.dcm", enforce_file_format=True)
    return made / "seg.dcm"
