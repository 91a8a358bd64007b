"""Which of several volumes: by number or series UID, from a list that tells them apart."""

from collections.abc import Sequence
from typing import Any

from service.errors import (
    InvalidDicomError,
    MixedSeriesError,
    SeriesAmbiguousError,
    SeriesNotFoundError,
)
from service.registration.files.dicom.frames import CODE_STRING, number
from service.registration.files.dicom.stacks import Stack
from service.registration.series_choice import is_chosen

MOST_LISTED = 50


def chosen(stacks: Sequence[Stack], headers: Sequence[Any], series: str | None) -> Stack:
    """The one volume, or the one that was asked for by series UID or by its number from 1.

    Args:
        stacks: All volumes.
        headers: The data set of each file, by its place.
        series: What was asked for.

    Raises:
        SeriesAmbiguousError: If there are several; `errors` lists them.
        MixedSeriesError: If there are several because slices of one series differ in size, spacing
            or direction.
        SeriesNotFoundError: If there is no such one.
    """
    if series is None:
        if len(stacks) == 1:
            return stacks[0]
        raise _ambiguous(stacks, headers)
    if series.isdecimal() and 1 <= int(series) <= len(stacks):
        return stacks[int(series) - 1]
    of_series = [stack for stack in stacks if is_chosen(stack.first.kind.series, series)]
    if len(of_series) == 1:
        return of_series[0]
    if of_series:
        raise SeriesAmbiguousError(
            f"The series holds {len(of_series)} volumes; choose one by its number.",
            errors=listed(stacks, headers),
        )
    raise SeriesNotFoundError(
        f"The files hold {len(stacks)} volumes, and none is the one that was asked for.",
        errors=listed(stacks, headers),
    )


def _ambiguous(stacks: Sequence[Stack], headers: Sequence[Any]) -> InvalidDicomError:
    series = {stack.first.kind.series for stack in stacks}
    if len(series) == 1 and not any(stack.apart for stack in stacks):
        return MixedSeriesError(
            f"Slices of one series differ in size, spacing or direction and make {len(stacks)} "
            "volumes; choose one by its number, or send its slices alone.",
            errors=listed(stacks, headers),
        )
    return SeriesAmbiguousError(
        f"The files hold {len(stacks)} volumes; choose one by its number.",
        errors=listed(stacks, headers),
    )


def listed(stacks: Sequence[Stack], headers: Sequence[Any]) -> tuple[dict[str, Any], ...]:
    """Each volume by its number, with what tells it apart."""
    return tuple(
        {"field": str(n + 1), "detail": described(stack, headers[stack.first.file])}
        for n, stack in enumerate(stacks[:MOST_LISTED])
    )


def described(stack: Stack, header: Any) -> str:
    """What tells a volume apart from others, without a word about the patient."""
    kind = stack.first.kind
    modality = str(header.get("Modality") or "")
    parts = [modality] if CODE_STRING.fullmatch(modality) else []
    if (told := number(header.get("SeriesNumber"), -1)) >= 0:
        parts.append(f"series {told:.0f}")
    parts.append(f"{kind.columns} x {kind.rows} x {len(stack.frames)} voxels")
    parts += [f"{name} {value}" for name, value in stack.apart]
    return ", ".join(parts)
