"""DICOM series of known voxels, written with pydicom as a scanner would."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4"}
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

Change = Callable[[FileDataset, int], None]


def affine_of(rotation: np.ndarray, spacing, origin) -> np.ndarray:
    """RAS affine whose first two axes are the image's rows and columns; the third, their normal."""
    affine = np.eye(4)
    affine[:3, :3] = rotation * np.asarray(spacing)
    affine[:3, 3] = origin
    return affine


def write_series(
    folder: Path,
    data: np.ndarray,
    affine: np.ndarray,
    *,
    modality: str = "CT",
    series: str = "1.2.3.4",
    patient: str = "P1",
    slope: float = 1.0,
    intercept: float = 0.0,
    change: Change | None = None,
    **attributes: Any,
) -> list[Path]:
    """One file a slice of stored integers (i, j, k), index i along rows of the image.

    Args:
        folder: Is made.
        data: int16 or uint16, stored values.
        affine: RAS, voxel to world.
        modality: CT or MR.
        series: Series UID.
        patient: Patient ID.
        slope: Rescale slope.
        intercept: Rescale intercept.
        change: Called with each data set and its slice before it is written.
        attributes: More attributes, by keyword.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lps = LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    paths = []
    for k in range(data.shape[2]):
        made = _begun(modality, series, patient, k)
        made.Rows, made.Columns = data.shape[1], data.shape[0]
        made.PixelSpacing = [float(spacing[1]), float(spacing[0])]
        made.SliceThickness = float(spacing[2])
        directions = lps[:3, :3] / spacing
        made.ImageOrientationPatient = [
            *map(float, directions[:, 0]),
            *map(float, directions[:, 1]),
        ]
        made.ImagePositionPatient = [*map(float, (lps @ (0, 0, k, 1))[:3])]
        made.RescaleSlope, made.RescaleIntercept = slope, intercept
        made.PixelRepresentation = int(data.dtype.kind == "i")
        made.PixelData = np.ascontiguousarray(data[:, :, k].T).tobytes()
        for keyword, value in attributes.items():
            setattr(made, keyword, value)
        if change is not None:
            change(made, k)
        paths.append(folder / f"{k:04d}.dcm")
        made.save_as(paths[-1], enforce_file_format=True)
    return paths


def _begun(modality: str, series: str, patient: str, k: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CLASSES[modality]
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[series, str(k)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    made.SOPClassUID, made.SOPInstanceUID = CLASSES[modality], meta.MediaStorageSOPInstanceUID
    made.PatientName, made.PatientID = "Doe^Jane", patient
    made.PatientBirthDate, made.PatientSex = "19500102", "F"
    made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.3", series
    made.FrameOfReferenceUID, made.PositionReferenceIndicator = f"{series}.9", None
    made.StudyDate, made.StudyTime, made.StudyID = "20260102", "101112", "7"
    made.AccessionNumber, made.ReferringPhysicianName = "A1", "Who^Doctor"
    made.Modality, made.InstanceNumber, made.SeriesNumber = modality, k + 1, 3
    made.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit = 15
    return made


def read_back(path: Path) -> Dataset:
    """A file as pydicom reads it."""
    from pydicom import dcmread

    return dcmread(path)
