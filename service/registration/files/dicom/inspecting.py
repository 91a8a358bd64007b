"""What DICOM files hold and what will be done about it, without a word about the patient."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from service.errors import InvalidFileError
from service.registration.files.dicom.frames import CODE_STRING
from service.registration.files.dicom.listing import described
from service.registration.files.dicom.parsing import parsing
from service.registration.files.dicom.pixels import value_type
from service.registration.files.dicom.reading import Found, chosen, find_volumes, grid_of
from service.registration.files.dicom.stacks import Stack
from service.registration.files.dicom.syntaxes import TRANSFER_SYNTAXES
from service.registration.files.limits import Limits

MOST_REPORTED = 50


def report_on(files: Sequence[Path], limits: Limits) -> dict[str, Any]:
    """Every volume in the files, numbered as `fixed_series` and `moving_series` count them.

    Raises:
        InvalidFileError: If there is no volume, or a file may not be parsed.
    """
    found = find_volumes(files)
    return {
        "files": len(files),
        "dicom_files": len(found.files),
        "volume_count": len(found.stacks),
        "volumes": [
            _volume(found, n, stack, limits)
            for n, stack in enumerate(found.stacks[:MOST_REPORTED], start=1)
        ],
        "warnings": list(found.warnings),
    }


def _volume(found: Found, number: int, stack: Stack, limits: Limits) -> dict[str, Any]:
    notes: list[str] = []
    header = found.headers[stack.first.file]
    with parsing():
        facts: dict[str, Any] = {
            "number": number,
            "modality": _code(header.get("Modality")),
            "what": described(stack, header),
            "slices": len(stack.frames),
            "datatype": str(value_type(stack)),
            "frame_of_reference": _hashed(stack.first.kind.frame_of_reference),
            "encoding": TRANSFER_SYNTAXES.get(str(header.file_meta.TransferSyntaxUID), ""),
        }
    try:
        grid = grid_of(chosen(found, str(number)), limits, notes)
    except InvalidFileError as error:
        problem = {key: error.problem()[key] for key in ("code", "detail")}
        return facts | {"problem": problem, "warnings": notes}
    return facts | {"shape": grid.shape, "affine": grid.affine.tolist(), "warnings": notes}


def _code(value: Any) -> str:
    text = str(value or "")
    return text if CODE_STRING.fullmatch(text) else ""


def _hashed(uid: str) -> str:
    """Enough to see whether two are the same."""
    return hashlib.sha256(uid.encode()).hexdigest()[:12] if uid else ""
