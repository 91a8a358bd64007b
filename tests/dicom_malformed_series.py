"""Series of good files that do not make a volume, or not as they are, and what becomes of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom import Dataset, Sequence, dcmread

from tests.dicoms import affine_of, write_series

Make = Callable[[Path], object]
SLICES = 12
ENHANCED = {"CT": "1.2.840.10008.5.1.4.1.1.2.1", "MR": "1.2.840.10008.5.1.4.1.1.4.1"}
DATA = np.arange(6 * 5 * SLICES, dtype=np.int16).reshape(6, 5, SLICES)
AFFINE = affine_of(np.diag([-1.0, -1.0, 1.0]), (1.0, 1.0, 2.0), (0, 0, 0))


def series(folder: Path, change: Callable[[Dataset, int], object] | None = None, **more) -> None:
    write_series(folder, DATA, AFFINE, change=change, **more)


def placed(move: Callable[[int], tuple[float, float, float]]) -> Make:
    """Slices where `move` puts the k-th one, LPS mm."""

    def change(one: Dataset, k: int) -> None:
        one.ImagePositionPatient = [*map(float, move(k))]

    return lambda folder: series(folder, change)


def without(*slices: int) -> Make:
    def make(folder: Path) -> None:
        series(folder)
        for k in slices:
            (folder / f"{k:04d}.dcm").unlink()

    return make


def told(**attributes) -> Make:
    """One slice says something else than the others."""

    def change(one: Dataset, k: int) -> None:
        if k == 5:
            for keyword, value in attributes.items():
                setattr(one, keyword, value)

    return lambda folder: series(folder, change)


def beside(name: str, content: bytes) -> Make:
    """A good series and one more file."""

    def make(folder: Path) -> None:
        series(folder)
        (folder / name).write_bytes(content)

    return make


def broken(change: Callable[[bytes], bytes]) -> Make:
    """One bad file among good ones."""

    def make(folder: Path) -> None:
        series(folder)
        path = folder / "0005.dcm"
        path.write_bytes(change(path.read_bytes()))

    return make


def twice(*, is_changed: bool, is_renamed: bool = False) -> Make:
    """A slice twice: the same bytes, other pixels, or another object in its place."""

    def make(folder: Path) -> None:
        series(folder)
        one = dcmread(folder / "0005.dcm")
        if is_changed:
            one.PixelData = bytes(len(one.PixelData))
        if is_renamed:
            one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = "1.2.3.99"
        if is_changed or is_renamed:
            one.save_as(folder / "again.dcm", enforce_file_format=True)
        else:
            (folder / "again.dcm").write_bytes((folder / "0005.dcm").read_bytes())

    return make


def two(**second) -> Make:
    """Two series in one folder."""

    def make(folder: Path) -> None:
        series(folder / "a", series="1.2.1")
        series(folder / "b", **({"series": "1.2.2"} | second))

    return make


def resized(folder: Path) -> None:
    series(folder)
    write_series(
        folder / "more",
        DATA[:4],
        AFFINE,
        change=lambda one, k: setattr(one, "SOPInstanceUID", f"1.2.3.{k + 1}"),
    )


def turned(one: Dataset, k: int) -> None:
    if k >= 6:
        one.ImageOrientationPatient = [0.0, 1.0, 0.0, 0.0, 0.0, -1.0]


def spun(one: Dataset, k: int) -> None:
    angle = 0.15 * k
    one.ImageOrientationPatient = [np.cos(angle), np.sin(angle), 0.0, -np.sin(angle),
                                   np.cos(angle), 0.0]  # fmt: skip


def enhanced(change: Callable[[Dataset], object]) -> Make:
    """An image of many frames with one fault."""

    def make(folder: Path) -> None:
        series(folder)
        gathered(folder, change)

    return make


def gathered(folder: Path, change: Callable[[Dataset], object]) -> None:
    """Make one enhanced image of a folder's slices."""
    files = sorted(folder.iterdir())
    one = dcmread(files[0])
    frames = [dcmread(file) for file in files]
    for file in files:
        file.unlink()
    kind = ENHANCED[str(one.Modality)]
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = kind
    one.NumberOfFrames = len(frames)
    one.PixelData = b"".join(frame.PixelData for frame in frames)
    one.PerFrameFunctionalGroupsSequence = Sequence([_groups(frame) for frame in frames])
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
                    "SliceThickness", "RescaleSlope", "RescaleIntercept"):  # fmt: skip
        delattr(one, keyword)
    change(one)
    one.save_as(folder / "one.dcm", enforce_file_format=True)


def _groups(frame: Dataset) -> Dataset:
    made = Dataset()
    for name, keywords in {
        "PlanePositionSequence": ["ImagePositionPatient"],
        "PlaneOrientationSequence": ["ImageOrientationPatient"],
        "PixelMeasuresSequence": ["PixelSpacing", "SliceThickness"],
    }.items():
        item = Dataset()
        for keyword in keywords:
            setattr(item, keyword, getattr(frame, keyword))
        setattr(made, name, Sequence([item]))
    return made


def frame(one: Dataset, n: int = 3) -> Dataset:
    return one.PerFrameFunctionalGroupsSequence[n]


def without_frames(one: Dataset, *frames: int) -> None:
    size = len(one.PixelData) // SLICES
    kept = [n for n in range(SLICES) if n not in frames]
    one.PixelData = b"".join(one.PixelData[n * size : (n + 1) * size] for n in kept)
    one.PerFrameFunctionalGroupsSequence = Sequence([frame(one, n) for n in kept])
    one.NumberOfFrames = len(kept)


def linked(folder: Path) -> None:
    series(folder.parent / "elsewhere")
    folder.mkdir()
    for file in (folder.parent / "elsewhere").iterdir():
        (folder / file.name).symlink_to(file)


def linked_folder(folder: Path) -> None:
    series(folder.parent / "elsewhere")
    folder.mkdir()
    (folder / "inside").symlink_to(folder.parent / "elsewhere")


# Name: what makes the folder, and the code of the refusal; "" where it is read all the same.
SERIES: dict[str, tuple[Make, str]] = {
    "empty-folder": (lambda folder: folder.mkdir(), "no-dicom"),
    "folders-only": (lambda folder: (folder / "a" / "b").mkdir(parents=True), "no-dicom"),
    "links-to-files": (linked, "no-dicom"),
    "link-to-a-folder": (linked_folder, "no-dicom"),
    "text-beside": (beside("readme.txt", b"hello"), ""),
    "program-beside": (beside("a.exe", b"MZ" + bytes(200)), ""),
    "empty-file-beside": (beside("b", b""), ""),
    "localisers-only": (lambda f: series(f, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
                        "localiser-only"),
    "a-localiser-among": (told(ImageType=["DERIVED", "PRIMARY", "localizer"],
                               ImagePositionPatient=[0.0, 0.0, 99.0]), ""),
    # mixed
    "two-series": (two(), "series-ambiguous"),
    "two-patients": (two(patient="P2"), "series-ambiguous"),
    "patients-in-one-series": (told(PatientID="P2"), "mixed-series"),
    "two-sizes": (resized, "mixed-series"),
    "one-slice-of-other-rows": (told(Rows=4, PixelData=bytes(48)), "mixed-series"),
    "one-slice-of-other-spacing": (told(PixelSpacing=[2.0, 1.0]), "mixed-series"),
    "one-slice-turned": (told(ImageOrientationPatient=[0.0, 1.0, 0.0, 1.0, 0.0, 0.0]),
                         "mixed-series"),
    "one-slice-of-another-frame": (told(FrameOfReferenceUID="1.2.9"), "mixed-series"),
    "two-directions": (lambda f: series(f, turned), "series-ambiguous"),
    "each-slice-turned": (lambda f: series(f, spun), "mixed-series"),
    # places
    "all-in-one-place": (placed(lambda _: (0, 0, 0)), "series-ambiguous"),
    "two-in-one-place": (placed(lambda k: (0, 0, 2 * (k if k != 5 else 4))), "duplicate-slices"),
    "same-file-twice": (twice(is_changed=False), ""),
    "same-uid-other-pixels": (twice(is_changed=True), "duplicate-slices"),
    "other-uid-same-place": (twice(is_changed=True, is_renamed=True), "duplicate-slices"),
    "one-slice-missing": (without(5), ""),
    "two-slices-missing-in-a-row": (without(5, 6), "missing-slices"),
    "every-other-missing-of-some": (without(2, 4, 6), "missing-slices"),
    "half-missing": (without(4, 5, 6, 7, 8, 9), "missing-slices"),
    "rounded": (placed(lambda k: (0, 0, round(2 * k + 0.004 * (-1) ** k, 2))), ""),
    "jitter": (placed(lambda k: (0, 0, 2 * k + (0.5 if k == 5 else 0))), ""),
    "nearly-on-one-another": (placed(lambda k: (0, 0, 2 * k + (1.9 if k == 5 else 0))),
                              "missing-slices"),
    "growing-steps": (placed(lambda k: (0, 0, 2 * k * k)), "missing-slices"),
    "doubling-steps": (placed(lambda k: (0, 0, 2.0**k)), "missing-slices"),
    "far-slice": (placed(lambda k: (0, 0, 2 * k if k < 11 else 400)), "missing-slices"),
    "steps-of-2-m": (placed(lambda k: (0, 0, 2000 * k)), "bad-spacing"),
    "tilt-20": (placed(lambda k: (0, 2 * k * np.tan(np.radians(20)), 2 * k)), ""),
    "tilt-40": (placed(lambda k: (0, 2 * k * np.tan(np.radians(40)), 2 * k)), "slice-tilt"),
    "tilt-80": (placed(lambda k: (0, 2 * k * np.tan(np.radians(80)), 2 * k)), "slice-tilt"),
    "bent": (placed(lambda k: (0, 0.1 * k * k, 2 * k)), "slice-tilt"),
    "zigzag": (placed(lambda k: (3 * (k % 2), 0, 2 * k)), "slice-tilt"),
    "one-slice-aside": (placed(lambda k: (4 if k == 5 else 0, 0, 2 * k)), "slice-tilt"),
    "one-slice-100-m-away": (placed(lambda k: (2e5 if k == 11 else 0, 0, 2 * k)), "slice-tilt"),
    # one bad file among good ones
    "one-cut": (broken(lambda b: b[:-9]), "truncated-file"),
    "one-cut-before-pixels": (broken(lambda b: b[:600]), "truncated-file"),
    "one-without-magic": (broken(lambda b: bytes(132) + b[132:]), ""),
    "one-program": (broken(lambda b: b"MZ" + b[2:]), "executable-preamble"),
    "one-of-other-syntax": (broken(lambda b: b.replace(b"1.2.840.10008.1.2.1\0",
                                                       b"1.2.840.10008.1.2.2\0")),
                            "transfer-syntax-unsupported"),
    "one-without-place": (told(ImagePositionPatient=None), "invalid-dicom"),
    "one-in-colour": (told(SamplesPerPixel=3), "unsupported-datatype"),
    "one-of-few-pixels": (told(PixelData=bytes(20)), "corrupt-file"),
    "one-steep": (told(RescaleSlope="1e200"), "invalid-dicom"),
    # many frames in one file
    "enhanced": (enhanced(lambda _: None), ""),
    "enhanced-more-frames-told": (enhanced(lambda one: setattr(one, "NumberOfFrames", 99)),
                                  "invalid-dicom"),
    "enhanced-a-million-frames": (enhanced(lambda one: setattr(one, "NumberOfFrames", 10**6)),
                                  "volume-too-large"),
    "enhanced-no-frames": (enhanced(lambda one: setattr(one, "NumberOfFrames", 0)),
                           "invalid-dicom"),
    "enhanced-minus-frames": (enhanced(lambda one: setattr(one, "NumberOfFrames", -3)),
                              "invalid-dicom"),
    "enhanced-no-groups": (enhanced(lambda one: setattr(one, "PerFrameFunctionalGroupsSequence",
                                                        Sequence([]))), "invalid-dicom"),
    "enhanced-a-frame-without-place": (
        enhanced(lambda one: delattr(frame(one), "PlanePositionSequence")), "invalid-dicom"),
    "enhanced-a-frame-of-empty-place": (
        enhanced(lambda one: setattr(frame(one), "PlanePositionSequence", Sequence([]))),
        "invalid-dicom"),
    "enhanced-a-frame-without-spacing": (
        enhanced(lambda one: delattr(frame(one), "PixelMeasuresSequence")), "invalid-dicom"),
    "enhanced-a-frame-without-direction": (
        enhanced(lambda one: delattr(frame(one), "PlaneOrientationSequence")), "invalid-dicom"),
    "enhanced-one-frame-missing": (enhanced(lambda one: without_frames(one, 5)), ""),
    "enhanced-frames-missing": (enhanced(lambda one: without_frames(one, 4, 5, 6)),
                                "missing-slices"),
    "enhanced-few-pixels": (enhanced(lambda one: setattr(one, "PixelData", one.PixelData[:100])),
                            "corrupt-file"),
    "enhanced-65535-squared": (
        enhanced(lambda one: (setattr(one, "Rows", 65_535), setattr(one, "Columns", 65_535))),
        "volume-too-large"),
    "frames-without-groups": (lambda f: series(f, NumberOfFrames=3), "invalid-dicom"),
    "mosaic-without-header": (
        lambda f: series(f, ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), "invalid-dicom"),
}  # fmt: skip
