"""What is written of each answer: a folder a frame, and a line a frame."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from service.client.live_answers import LiveAnswer, Placed
from service.client.live_frames import Counters
from service.errors import WarplineError
from service.registration.fields import Affine, DisplacementField
from service.registration.files.affine_text import write_affine
from service.registration.files.field_file import write_field
from service.registration.files.points_file import write_points
from service.registration.files.volume_file import write_volume
from service.registration.grid import Grid
from service.registration.points import WorldPoints
from service.registration.volume import Volume


@dataclass(frozen=True)
class FrameFolder:
    """Writes answers below a folder: `NAME/affine.txt`, labels and images as NIfTI, points."""

    folder: Path
    point_names: tuple[str, ...] | None

    def write(self, name: str, answer: LiveAnswer) -> list[str]:
        """Write an answer; gives the names of the files."""
        target = self.folder / f"{answer.number:04d}-{Path(name).name.split('.')[0]}"
        target.mkdir(parents=True, exist_ok=True)
        write_affine(target / "affine.txt", Affine(answer.affine))
        write_affine(target / "rigid.txt", Affine(answer.rigid))
        for file, placed in (
            ("warped.nii.gz", answer.warped_image),
            ("warped_labels.nii.gz", answer.warped_labels),
        ):
            if placed is not None:
                write_volume(target / file, Volume(placed.data, grid_of(placed)))
        if answer.field is not None:
            vectors = answer.field.data.astype(np.float32)
            write_field(target / "ddf.nii.gz", DisplacementField(vectors, grid_of(answer.field)))
        if len(answer.points):
            write_points(target / "points.csv", WorldPoints(answer.points, self.point_names))
        return sorted(f"{target.name}/{file.name}" for file in target.iterdir())


def grid_of(placed: Placed) -> Grid:
    """Where an array lies."""
    i, j, k = placed.data.shape[:3]
    return Grid((i, j, k), placed.affine)


def line_of(name: str, answer: LiveAnswer, files: list[str]) -> dict[str, Any]:
    """An answer as an object of JSON; lengths in mm, RAS+."""
    return {
        "frame": answer.number,
        "name": name,
        "acquired_at": answer.acquired_at.isoformat() if answer.acquired_at else None,
        "verdict": answer.verdict,
        "reasons": list(answer.reasons),
        "latency_ms": _rounded(answer.latency_ms),
        "round_trip_ms": _rounded(answer.round_trip_ms),
        "stages_ms": {stage: _rounded(ms) for stage, ms in answer.stages_ms.items()},
        "shift_mm": [_rounded(x) for x in answer.shift_mm],
        "rotation_deg": _rounded(answer.rotation_deg),
        "median_mm": _rounded(answer.median_mm),
        "max_mm": _rounded(answer.max_mm),
        "similarity_before": _rounded(answer.similarity_before),
        "similarity_after": _rounded(answer.similarity_after),
        "is_cut_short": answer.is_cut_short,
        "affine": answer.affine[:3].tolist(),
        "points": answer.points.tolist(),
        "files": files,
    }


def summary_of(counters: Counters, verdicts: dict[str, int]) -> dict[str, Any]:
    """What became of all frames."""
    p50, p95, p99 = (_rounded(ms) for ms in counters.percentiles_ms(50, 95, 99))
    return {
        "sent": counters.sent,
        "answered": counters.answered,
        "overtaken": counters.overtaken,
        "dropped": counters.dropped,
        "refused": counters.refused,
        "lost": counters.lost,
        "reconnects": counters.reconnects,
        "reopened": counters.reopened,
        "verdicts": verdicts,
        "round_trip_ms": {"p50": p50, "p95": p95, "p99": p99},
    }


def refusal_of(name: str, number: int, error: WarplineError) -> dict[str, Any]:
    """A frame that was not taken, as an object of JSON."""
    return {"frame": number, "name": name, "error": error.problem()}


def write_line(stream: TextIO, line: dict[str, Any]) -> None:
    """One object, on one line, for who reads along."""
    stream.write(json.dumps(line, ensure_ascii=False) + "\n")
    stream.flush()


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 3)
