"""The transform as DICOM objects: Spatial Registration and Deformable Spatial Registration.

Both speak of the fixed image's frame of reference as the registered one and of the moving image's
as the source. The deformable one samples the source where ours does: a grid of offsets, added to
registered positions. The rigid or affine one maps the other way, from source to registered.

Source: DICOM PS3.3 A.39 and C.20.2 (spatial), A.39.2 and C.20.3 (deformable), C.20.2.1.1 and
C.20.3.1.1 (direction of the matrix and of the offsets).
"""

import numpy as np
from pydicom import Dataset, FileDataset
from pydicom.sequence import Sequence

from service.registration.fields import Affine, DisplacementField
from service.registration.files.dicom.objects.starting import (
    SERIES_NUMBER,
    Context,
    Kind,
    code,
    content,
    instance_items,
    laterality,
    lps,
    refer,
    started,
)
from service.registration.files.orientation import LPS_TO_RAS

SPATIAL = Kind(
    "1.2.840.10008.5.1.4.1.1.66.1",
    "REG",
    "spatial-registration",
    "Registration, linear part",
    SERIES_NUMBER + 2,
)
DEFORMABLE = Kind(
    "1.2.840.10008.5.1.4.1.1.66.3",
    "REG",
    "deformable-registration",
    "Registration, deformable",
    SERIES_NUMBER + 3,
)
RIGID_TOLERANCE = 1e-5


def spatial_registration(context: Context, affine: Affine) -> FileDataset:
    """The affine part.

    Args:
        context: The registration.
        affine: Fixed to moving world, RAS; its inverse is what the object holds.
    """
    made = started(context, SPATIAL)
    content(made, "REGISTRATION", "Affine part of a registration")
    laterality(made, context)
    to_fixed = LPS_TO_RAS @ affine.inverse().matrix @ LPS_TO_RAS
    made.RegistrationSequence = Sequence(
        [
            _registration(context.fixed.frame_of_reference_uid, np.eye(4), context, is_fixed=True),
            _registration(context.moving.frame_of_reference_uid, to_fixed, context, is_fixed=False),
        ]
    )
    refer(made, context)
    return made


def _registration(frame: str, matrix: np.ndarray, context: Context, *, is_fixed: bool) -> Dataset:
    item = Dataset()
    item.FrameOfReferenceUID = frame
    item.ReferencedImageSequence = instance_items(context.fixed if is_fixed else context.moving)
    registration = Dataset()
    registration.RegistrationTypeCodeSequence = Sequence([_by_content()])
    registration.MatrixSequence = Sequence([_matrix(matrix)])
    item.MatrixRegistrationSequence = Sequence([registration])
    return item


def _by_content() -> Dataset:
    return code("125024", "DCM", "Image Content-based Alignment")


def _matrix(matrix: np.ndarray) -> Dataset:
    item = Dataset()
    item.FrameOfReferenceTransformationMatrix = [float(f"{value:.9g}") for value in matrix.ravel()]
    item.FrameOfReferenceTransformationMatrixType = matrix_type(matrix)
    return item


def matrix_type(matrix: np.ndarray) -> str:
    """RIGID, RIGID_SCALE (a scale along each axis) or AFFINE."""
    linear = matrix[:3, :3]
    gram = linear.T @ linear
    if np.allclose(gram, np.eye(3), atol=RIGID_TOLERANCE) and np.linalg.det(linear) > 0:
        return "RIGID"
    is_diagonal = np.allclose(gram, np.diag(np.diag(gram)), atol=RIGID_TOLERANCE)
    return "RIGID_SCALE" if is_diagonal and np.linalg.det(linear) > 0 else "AFFINE"


def deformable_registration(context: Context, ddf: DisplacementField) -> FileDataset:
    """The whole transform, affine included, as offsets on the fixed grid.

    The grid of the object must be right-handed: a left-handed one is turned along k.

    Args:
        context: The registration.
        ddf: On the fixed grid.
    """
    made = started(context, DEFORMABLE)
    content(made, "REGISTRATION", "Deformable registration, affine part included")
    laterality(made, context)
    item = Dataset()
    item.SourceFrameOfReferenceUID = context.moving.frame_of_reference_uid
    item.ReferencedImageSequence = instance_items(context.moving)
    item.RegistrationTypeCodeSequence = Sequence([_by_content()])
    item.DeformableRegistrationGridSequence = Sequence([_grid(ddf)])
    made.DeformableRegistrationSequence = Sequence([item])
    refer(made, context)
    return made


def _grid(ddf: DisplacementField) -> Dataset:
    vectors, affine = ddf.vectors_mm, ddf.grid.affine
    if np.linalg.det((LPS_TO_RAS @ affine)[:3, :3]) < 0:
        vectors = vectors[:, :, ::-1]
        last = affine @ (0, 0, ddf.grid.shape[2] - 1, 1)
        affine = np.column_stack([affine[:, 0], affine[:, 1], -affine[:, 2], last])
    spacing = ddf.grid.spacing_mm
    item = Dataset()
    item.ImagePositionPatient = lps(affine[:3, 3])
    item.ImageOrientationPatient = [
        *lps(affine[:3, 0] / spacing[0]),
        *lps(affine[:3, 1] / spacing[1]),
    ]
    item.GridDimensions = list(ddf.grid.shape)
    item.GridResolution = [float(value) for value in spacing]
    offsets = vectors.transpose(2, 1, 0, 3) * np.array([-1, -1, 1], np.float32)
    item.VectorGridData = np.ascontiguousarray(offsets, "<f4").tobytes()
    return item
