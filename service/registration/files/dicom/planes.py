"""Frames of classic images, one file each, and of enhanced ones, all in a file.

Source: DICOM PS3.3 C.7.6.16 (functional groups), C.8.24.3 (enhanced ultrasound volume).
"""

from collections.abc import Iterator
from typing import Any

from service.errors import InvalidDicomError, NoDicomError, VolumeTooLargeError
from service.registration.files.dicom.frames import (
    Frame,
    Kind,
    PixelFormat,
    apart_of,
    number,
    numbers,
    rescale_of,
    size_of,
    unit_orientation,
    whole,
)

MOST_FRAMES = 65_536
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def frames_of(dataset: Any, file: int) -> list[Frame]:
    """Every frame of one image.

    Args:
        dataset: As pydicom reads it, without the pixels.
        file: Its place in the list of files.

    Raises:
        NoDicomError: If it is no image.
        InvalidDicomError: If it does not say where its frames lie.
    """
    if "Rows" not in dataset:
        raise NoDicomError("The DICOM object is not an image.")
    if "PerFrameFunctionalGroupsSequence" in dataset:
        return list(_enhanced(dataset, file))
    if whole(dataset.get("NumberOfFrames"), 1) > 1:
        raise InvalidDicomError(
            "The image has several frames and does not say where each of them lies."
        )
    return [_classic(dataset, file)]


def is_capture(dataset: Any) -> bool:
    """Whether it is a picture of a screen or of paper, as exports have them beside series."""
    is_secondary = str(dataset.get("SOPClassUID", "")).startswith(SECONDARY_CAPTURE)
    is_placed = "ImagePositionPatient" in dataset or "PerFrameFunctionalGroupsSequence" in dataset
    return is_secondary and not is_placed


def _classic(dataset: Any, file: int) -> Frame:
    rows, columns = size_of(dataset)
    position = numbers(dataset.get("ImagePositionPatient"), 3, "position")
    orientation = unit_orientation(dataset.get("ImageOrientationPatient"))
    spacing = numbers(dataset.get("PixelSpacing"), 2, "pixel spacing")
    slope, intercept = rescale_of(dataset)
    kind = Kind(
        series=str(dataset.get("SeriesInstanceUID", "")),
        frame_of_reference=str(dataset.get("FrameOfReferenceUID", "")),
        rows=rows,
        columns=columns,
        spacing_mm=(spacing[0], spacing[1]),
    )
    return Frame(
        file=file,
        number=0,
        kind=kind,
        position=position,  # type: ignore[arg-type]
        orientation=orientation,
        pixels=PixelFormat.of(dataset),
        slope=slope,
        intercept=intercept,
        thickness_mm=number(dataset.get("SliceThickness"), 0.0),
        order=number(dataset.get("InstanceNumber"), 0.0),
        apart=apart_of([dataset]),
    )


class Groups:
    """The functional groups of one frame: its own before the shared ones."""

    def __init__(self, own: Any, shared: Any) -> None:
        self._sources = [source for source in (own, shared) if source is not None]

    def item(self, keyword: str) -> Any:
        """The macro's item; an empty dict if the frame has none."""
        for source in self._sources:
            sequence = source.get(keyword)
            if sequence:
                return sequence[0]
        return {}

    def items(self) -> list[Any]:
        """Every macro's item, for attributes that may stand in any."""
        found: list[Any] = []
        for source in self._sources:
            found.extend(
                element.value[0] for element in source if element.VR == "SQ" and element.value
            )
        return found


def _enhanced(dataset: Any, file: int) -> Iterator[Frame]:
    own = dataset.PerFrameFunctionalGroupsSequence
    count = whole(dataset.get("NumberOfFrames"), 1)
    if count > MOST_FRAMES:
        raise VolumeTooLargeError(f"The image has {count} frames; up to {MOST_FRAMES} are read.")
    if count != len(own):
        raise InvalidDicomError(
            f"The image says that it has {count} frames and describes {len(own)}."
        )
    shared = dataset.get("SharedFunctionalGroupsSequence")
    pixels, size = PixelFormat.of(dataset), size_of(dataset)
    for index, item in enumerate(own):
        groups = Groups(item, shared[0] if shared else None)
        yield _enhanced_frame(dataset, groups, file, index, pixels, size)


def _enhanced_frame(
    dataset: Any,
    groups: Groups,
    file: int,
    index: int,
    pixels: PixelFormat,
    size: tuple[int, int],
) -> Frame:
    plane, turned = groups.item("PlanePositionSequence"), groups.item("PlaneOrientationSequence")
    position, orientation = plane.get("ImagePositionPatient"), turned.get("ImageOrientationPatient")
    if position is None and orientation is None:
        volume = groups.item("PlanePositionVolumeSequence")
        position = volume.get("ImagePositionVolume")
        orientation = groups.item("PlaneOrientationVolumeSequence").get("ImageOrientationVolume")
    measures, values = (
        groups.item("PixelMeasuresSequence"),
        groups.item("PixelValueTransformationSequence"),
    )
    spacing = numbers(measures.get("PixelSpacing"), 2, "pixel spacing")
    slope, intercept = rescale_of(values)
    content, everything = groups.item("FrameContentSequence"), groups.items()
    kind = Kind(
        series=str(dataset.get("SeriesInstanceUID", "")),
        frame_of_reference=str(dataset.get("FrameOfReferenceUID", "")),
        rows=size[0],
        columns=size[1],
        spacing_mm=(spacing[0], spacing[1]),
        stack=str(content.get("StackID", "")),
    )
    return Frame(
        file=file,
        number=index,
        kind=kind,
        position=numbers(position, 3, "position"),  # type: ignore[arg-type]
        orientation=unit_orientation(orientation),
        pixels=pixels,
        slope=slope,
        intercept=intercept,
        thickness_mm=number(measures.get("SliceThickness"), 0.0),
        order=float(index),
        apart=apart_of([content, *everything, dataset]),
    )
