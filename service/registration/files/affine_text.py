"""Affine transforms in files: our `affine.txt`, ITK's text files, and the .mat files of ANTs.

All of them say where a point of the fixed image lies in the moving one. Ours is a 4x4 matrix of
RAS+ millimetres below a comment that says so; ITK's and ANTs' are LPS with a centre.
"""

import io
from pathlib import Path

import numpy as np

from service.errors import BadTransformError
from service.registration.fields import Affine
from service.registration.files.header import faults_of
from service.registration.files.itk_transform import (
    ITK_START,
    check_values,
    is_matlab,
    read_itk,
    read_matlab,
)
from service.registration.files.text import decoded, numbers, read_start

COMMENT = (
    "# Affine transform, 4x4, world millimetres, RAS+, fixed to moving:\n"
    "# a point x of the fixed image lies at matrix @ (x, y, z, 1) in the moving image.\n"
)


def write_affine(path: Path, affine: Affine) -> None:
    """Write the matrix below a comment that says what it means, in full precision."""
    text = io.StringIO()
    text.write(COMMENT)
    for row in affine.matrix:
        text.write(" ".join(f"{float(x)!r}" for x in row) + "\n")
    path.write_text(text.getvalue(), encoding="utf-8")


def read_affine(path: Path, field: str = "initial_transform") -> Affine:
    """Read an affine transform from fixed to moving, world millimetres, RAS+.

    Args:
        path: `affine.txt`, an ITK text transform or an ANTs .mat file; told from the content.
        field: The part of the request that errors name.

    Raises:
        BadTransformError: If the file is none of these, its frame is unknown, or it is singular.
    """
    with faults_of(field):
        data = read_start(path, BadTransformError)
        if is_matlab(data):
            return Affine(read_matlab(data))
        text = decoded(data, BadTransformError)
        if text.startswith(ITK_START):
            return Affine(read_itk(text))
        return Affine(_read_matrix(text))


def _read_matrix(text: str) -> np.ndarray:
    comments = " ".join(line for line in text.splitlines() if line.startswith("#")).lower()
    words = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    rows = [numbers(row) for row in words if row]
    if len(rows) != 4 or any(row is None or len(row) != 4 for row in rows):
        raise BadTransformError(
            "The file is neither four lines of four numbers, nor an ITK transform file "
            "(.tfm, .txt), nor an ANTs .mat file."
        )
    if "ras" not in comments or "fixed to moving" not in comments:
        raise BadTransformError(
            "The matrix does not say what it maps; FSL's and others look the same. If it takes "
            "RAS+ millimetres of the fixed image to the moving one, add the line "
            "'# RAS, fixed to moving' on top."
        )
    matrix = np.array(rows)
    check_values(matrix)
    return matrix
