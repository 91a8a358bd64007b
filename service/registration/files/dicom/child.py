"""Parses DICOM that strangers sent in a process of its own, with limits on memory and time.

    python -m service.registration.files.dicom.child < request.json > answer.json

Parsers and decoders of DICOM are large and partly native: what kills or blows up this process
costs one request, not the worker. Voxels go to a file that the caller names; without one, only
headers are read.
"""

import json
import logging
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

from service.errors import (
    DicomParsingLimitError,
    DicomTooComplexError,
    InternalError,
    WarplineError,
)
from service.registration.files.dicom import earning
from service.registration.files.dicom.gate import syntax_of
from service.registration.files.dicom.limited import end_with_parent, limit, own_output
from service.registration.files.dicom.parsing import parsing
from service.registration.files.dicom.syntaxes import LOSSLESS_JPEG

# Headers that objects are made of; real ones take some kilobytes and 100 bytes a slice.
LONGEST_ANSWER = 64 << 20
# What pydicom would import and this never uses: a client for downloads, decoders of other codings.
UNUSED = ("requests", "tqdm", "PIL", "libjpeg")


def main() -> int:
    """Answer one request."""
    request = json.load(sys.stdin)
    end_with_parent(int(request["parent"]))
    limit(int(request["memory_mib"]), int(request["time_s"]), int(request["file_mib"]))
    warnings.simplefilter("ignore")
    logging.disable()
    with own_output() as output:
        earning.tell_to(output)
        output.write(_told(_answer(request)))
    return 0


def _told(answer: dict[str, Any]) -> str:
    text = json.dumps(answer)
    if len(text) <= LONGEST_ANSWER:
        return text
    return json.dumps({"problem": DicomTooComplexError("The headers are too long.").problem()})


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        return _read(request)
    except WarplineError as error:
        return {"problem": error.problem()}
    except (MemoryError, RecursionError):
        return {"problem": DicomParsingLimitError().problem()}
    except Exception:  # a defect of ours; its text may name the patient
        return {"problem": InternalError().problem()}


def _read(request: dict[str, Any]) -> dict[str, Any]:
    """What was asked for: `headers`, `volume`, `report`, `labels` on a grid, or `points`."""
    files = [Path(path) for path in request["files"]]
    _import_parser(files)
    if request["what"] == "points":
        return _points(files)
    if request["what"] == "labels":
        return _labels(files, request)
    if request["what"] == "report":
        return _report(files, request)
    return _volume(files, request)


def _import_parser(files: list[Path]) -> None:
    """Import pydicom without what it does not need here: half of its start, and GDCM with it.

    GDCM decodes one coding for us and is not to be near other bytes.
    """
    needed = any(syntax_of(path) in LOSSLESS_JPEG for path in files)
    for name in UNUSED if needed else (*UNUSED, "gdcm"):
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    with parsing():
        from pydicom import config

    config.settings.reading_validation_mode = config.IGNORE


def _volume(files: list[Path], request: dict[str, Any]) -> dict[str, Any]:
    from service.registration.files.dicom.origin import origin_of
    from service.registration.files.dicom.patient import patient_of
    from service.registration.files.dicom.pixels import value_type
    from service.registration.files.dicom.reading import (
        chosen,
        find_volumes,
        grid_of,
        read_stack,
    )
    from service.registration.files.limits import Limits

    earning.begun()
    found = find_volumes(files)
    stack = chosen(found, request["series"])
    notes, limits = list(found.warnings), Limits(**request["limits"])
    if request["what"] == "headers":
        grid = grid_of(stack, limits, notes)
    else:
        volume = read_stack(found, stack, limits, notes)
        grid = volume.grid
        _keep(request["voxels"], volume.data)
    return {
        "shape": grid.shape,
        "affine": grid.affine.tolist(),
        "dtype": value_type(stack).str,
        "origin": origin_of(stack, found.headers).to_json(),
        "patient": asdict(patient_of(found.headers[stack.first.file])),
        "warnings": notes,
    }


def _report(files: list[Path], request: dict[str, Any]) -> dict[str, Any]:
    from service.registration.files.dicom.inspecting import report_on
    from service.registration.files.limits import Limits

    earning.begun()
    return report_on(files, Limits(**request["limits"]))


def _labels(files: list[Path], request: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    from service.registration.files.dicom.objects_read import label_map
    from service.registration.grid import Grid

    notes: list[str] = []
    grid = Grid(tuple(request["grid"]["shape"]), np.array(request["grid"]["affine"]))
    earning.begun()
    earning.makes(grid.voxel_count * np.dtype(np.uint16).itemsize)
    labels = label_map(files, grid, notes)
    _keep(request["voxels"], labels)
    return {"dtype": labels.dtype.str, "warnings": notes}


def _points(files: list[Path]) -> dict[str, Any]:
    from service.registration.files.dicom.objects_read import marks

    earning.begun()
    return {"points": marks(files).tolist(), "warnings": []}


def _keep(path: str, data: Any) -> None:
    """Write voxels, i fastest."""
    import numpy as np

    with parsing(), Path(path).open("wb") as file:
        file.write(np.ascontiguousarray(data.T).data)


if __name__ == "__main__":
    raise SystemExit(main())
