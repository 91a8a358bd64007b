"""Parses DICOM that strangers sent in a process of its own, with limits on memory and time.

    python -m service.registration.files.dicom.child < request.json > answer.json

Parsers and decoders of DICOM are large and partly native: what kills or blows up this process
costs one request, not the worker. Voxels go to a file that the caller names; without one, only
headers are read.
"""

import json
import logging
import resource
import sys
import warnings
from pathlib import Path
from typing import Any

from service.errors import DicomParsingLimitError, InternalError, WarplineError

MIB = 1 << 20
# What Python, numpy and the decoders take before the first file; address space, not memory.
ROOM_MIB = 1280


def main() -> int:
    """Answer one request."""
    request = json.load(sys.stdin)
    _limit(int(request["memory_mib"]), int(request["time_s"]))
    warnings.simplefilter("ignore")
    logging.disable()
    json.dump(_answer(request), sys.stdout)
    return 0


def _limit(memory_mib: int, time_s: int) -> None:
    room = (ROOM_MIB + memory_mib) * MIB
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    resource.setrlimit(resource.RLIMIT_CPU, (time_s, time_s + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        return _read(request)
    except WarplineError as error:
        return {"problem": error.problem()}
    except (MemoryError, RecursionError):
        return {"problem": DicomParsingLimitError().problem()}
    except Exception:  # a defect of ours or of a library; its text may name the patient
        return {"problem": InternalError().problem()}


def _read(request: dict[str, Any]) -> dict[str, Any]:
    """What was asked for: `headers`, `volume`, `labels` on a grid, or `points`."""
    from pydicom import config

    config.settings.reading_validation_mode = config.IGNORE
    files = [Path(path) for path in request["files"]]
    if request["what"] == "points":
        return _points(files)
    if request["what"] == "labels":
        return _labels(files, request)
    return _volume(files, request)


def _volume(files: list[Path], request: dict[str, Any]) -> dict[str, Any]:
    from service.registration.files.dicom.origin import origin_of
    from service.registration.files.dicom.pixels import value_type
    from service.registration.files.dicom.reading import (
        chosen,
        find_volumes,
        grid_of,
        read_stack,
    )
    from service.registration.files.limits import Limits

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
        "warnings": notes,
    }


def _labels(files: list[Path], request: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    from service.registration.files.dicom.objects_read import label_map
    from service.registration.grid import Grid

    notes: list[str] = []
    grid = Grid(tuple(request["grid"]["shape"]), np.array(request["grid"]["affine"]))
    labels = label_map(files, grid, notes)
    _keep(request["voxels"], labels)
    return {"dtype": labels.dtype.str, "warnings": notes}


def _points(files: list[Path]) -> dict[str, Any]:
    from service.registration.files.dicom.objects_read import marks

    return {"points": marks(files).tolist(), "warnings": []}


def _keep(path: str, data: Any) -> None:
    """Write voxels, i fastest."""
    import numpy as np

    with Path(path).open("wb") as file:
        file.write(np.ascontiguousarray(data.T).data)


if __name__ == "__main__":
    raise SystemExit(main())
