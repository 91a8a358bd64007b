"""Pairs between contrasts, as files: `benchmarks.accuracy` makes the same in memory.

`mr_ct`: one head's MR and CT, the moving image deformed by a known field; a landmark lies where the
field's inverse puts it. `brain_t2` and `brain_sine`: the brains of `brain_malf35` with other grey
values in the moving image, measured by the same labels.
"""

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np

from benchmarks.accuracy_cases import LPS, Deformed, deformed_heads, read_image, remapped_image
from benchmarks.comparison.cases import Case, Landmarks, listed
from service.registration.fields import DisplacementField
from service.registration.volume import Volume

STEPS, SETTLED_MM = 100, 1e-3  # of the inverse: each leaves a fraction of the distance


def mr_ct(data: Path, made: Path) -> list[Case]:
    """Both ways, by two fields."""
    return [_head(head, made) for head in deformed_heads(data / "multimodal_rire_cmtk")]


def _head(head: Deformed, made: Path) -> Case:
    stem = head.name.replace("<-", "_").replace(", ", "_").replace(" ", "_")
    files = made / f"{stem}_fixed.nii.gz", made / f"{stem}_moving.nii.gz"
    for path, image in zip(files, (head.fixed, head.moving), strict=True):
        _write(image, path)
    there, is_found = undone(head.known, head.there)
    marks = Landmarks("", head.here[is_found] * LPS, there[is_found] * LPS)
    return Case("mr_ct", head.name, *files, landmarks=(marks,))


def undone(known: DisplacementField, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where `known.move` leads to these points, world mm, and whether that was found.

    Fixed-point steps; at the border, where the field ends at once, a few points have no such place.
    """
    found = points
    for _ in range(STEPS):
        found = found + (points - known.move(found))
    return found, np.abs(points - known.move(found)).max(axis=1) < SETTLED_MM


def brain_t2(data: Path, made: Path) -> list[Case]:
    """What is dark is bright, as fluid is, and the outside stays dark."""
    return _other_values(data, made, "t2")


def brain_sine(data: Path, made: Path) -> list[Case]:
    """Neither rising nor falling."""
    return _other_values(data, made, "sine")


def _other_values(data: Path, made: Path, how: str) -> list[Case]:
    found = []
    for case in listed(data, "brain_malf35", made):
        path = made / f"{how}_{case.moving.name}"
        _write(remapped_image(read_image(case.moving), how), path)
        found.append(replace(case, category=f"brain_{how}", moving=path))
    return found


def _write(image: Volume, path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(image.data, image.grid.affine), path)
