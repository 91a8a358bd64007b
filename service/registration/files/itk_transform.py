"""ITK's linear transforms, which ANTs and 3D Slicer write: y = M (x - c) + c + t, in LPS.

Source: itk::MatrixOffsetTransformBase, itk::TxtTransformIO, itk::MatlabTransformIO; Mathworks,
MAT-File Level 4 format.
"""

from functools import reduce

import numpy as np

from service.errors import BadTransformError
from service.registration.files.orientation import LPS_TO_RAS, MOST_VALUE
from service.registration.files.text import numbers

ITK_START = "#Insight Transform File"
COMPOSITE = "CompositeTransform"
MATRIX_NAMES = ("AffineTransform", "MatrixOffsetTransformBase")
READABLE = "affine, rigid (Euler3D, VersorRigid3D), similarity or translation transforms"

Matrix = np.ndarray


def read_itk(text: str) -> Matrix:
    """The 4x4 RAS matrix of an ITK text file; of a composite the last is applied first.

    Raises:
        BadTransformError: If a transform is not linear, or several are not one composite.
    """
    kinds: list[str] = []
    values: list[dict[str, np.ndarray]] = []
    for line in text.splitlines():
        key, _, rest = line.partition(":")
        if key == "Transform":
            kinds.append(rest.strip())
            values.append({})
        elif key in ("Parameters", "FixedParameters") and values:
            read = numbers(rest.split(), allow_non_finite=True)
            if read is None:
                raise BadTransformError("A parameter of the transform is not a number.")
            values[-1][key] = read
    is_composite = bool(kinds) and kinds[0].startswith(COMPOSITE)
    if is_composite:
        kinds, values = kinds[1:], values[1:]
    if not kinds or (len(kinds) > 1 and not is_composite):
        raise BadTransformError(
            "The file must hold one transform, or one composite. Save them as a composite."
        )
    none = np.empty(0)
    matrices = [
        _matrix(kind, value.get("Parameters", none), value.get("FixedParameters", none))
        for kind, value in zip(kinds, values, strict=True)
    ]
    return reduce(np.matmul, matrices)


def check_values(values: np.ndarray) -> None:
    """Refuse numbers that cannot be reckoned with.

    Raises:
        BadTransformError: If one is NaN, infinite, or so large that it must be a mistake.
    """
    if not (np.abs(values) <= MOST_VALUE).all():  # NaN is not either
        raise BadTransformError(
            "The transform holds numbers that are not finite or are far too large."
        )


def is_matlab(data: bytes) -> bool:
    """Whether the file starts as ANTs' .mat does: a column of doubles, named after a transform."""
    return data[:4] == bytes(4) and data[20:120].split(b"\0")[0].endswith(b"_3_3")


def read_matlab(data: bytes) -> Matrix:
    """The 4x4 RAS matrix of a MATLAB level 4 file: the parameters, then the centre.

    Raises:
        BadTransformError: If the file is anything else.
    """
    first = _matlab_column(data, 0)
    second = _matlab_column(data, first[2])
    return _matrix(first[0], first[1], second[1])


def _matlab_column(data: bytes, at: int) -> tuple[str, np.ndarray, int]:
    """Name, values and end of one column of doubles, little endian."""
    head = np.frombuffer(data[at : at + 20].ljust(20, b"\xff"), "<i4")
    kind, rows, columns, is_complex, name_length = (int(n) for n in head)
    start = at + 20 + name_length
    is_column = kind == 0 and columns == 1 and is_complex == 0 and 0 <= rows <= 100
    if not is_column or not 0 < name_length <= 100 or start + 8 * rows > len(data):
        raise BadTransformError("The .mat file is not an affine transform as ANTs writes it.")
    name = data[at + 20 : start].rstrip(b"\0").decode("ascii", "replace")
    return name, np.frombuffer(data, "<f8", rows, start), start + 8 * rows


def _matrix(kind: str, parameters: np.ndarray, fixed: np.ndarray) -> Matrix:
    """The 4x4 RAS matrix of one linear transform."""
    check_values(np.concatenate([parameters, fixed]))
    name, _, rest = kind.partition("_")
    if not rest.endswith("3_3"):
        raise BadTransformError("The transform is not one of three dimensions.")
    if name == "TranslationTransform" and len(parameters) == 3:
        linear, shift, centre = np.eye(3), parameters, np.zeros(3)
    else:
        centre = fixed[:3] if len(fixed) >= 3 else np.zeros(3)
        linear, shift = _linear(name, parameters, fixed)
    lps = np.eye(4)
    lps[:3, :3] = linear
    lps[:3, 3] = centre + shift - linear @ centre
    return LPS_TO_RAS @ lps @ LPS_TO_RAS


def _linear(name: str, parameters: np.ndarray, fixed: np.ndarray) -> tuple[Matrix, np.ndarray]:
    count = len(parameters)
    if name in MATRIX_NAMES and count == 12:
        return parameters[:9].reshape(3, 3), parameters[9:]
    if name == "Euler3DTransform" and count == 6:
        return _euler(parameters[:3], is_zyx=len(fixed) > 3 and fixed[3] != 0), parameters[3:]
    if name == "VersorRigid3DTransform" and count == 6:
        return _versor(parameters[:3]), parameters[3:]
    if name == "Similarity3DTransform" and count == 7:
        return _versor(parameters[:3]) * parameters[6], parameters[3:6]
    raise BadTransformError(f"The file holds another kind of transform; {READABLE} can be read.")


def _euler(angles: np.ndarray, *, is_zyx: bool) -> Matrix:
    """Source: itk::Euler3DTransform::ComputeMatrix; Rz Rx Ry, or Rz Ry Rx."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    result: Matrix = about_z @ about_y @ about_x if is_zyx else about_z @ about_x @ about_y
    return result


def _versor(axis: np.ndarray) -> Matrix:
    """The rotation of a unit quaternion given by its vector part; Rodrigues' formula.

    Source: itk::Versor::Set; a vector part of length sin(angle / 2).
    """
    sine = float(np.linalg.norm(axis))
    if sine > 1:
        raise BadTransformError("The transform's versor is no rotation.")
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    result: Matrix = np.eye(3) + 2 * np.sqrt(1 - sine * sine) * cross + 2 * cross @ cross
    return result
